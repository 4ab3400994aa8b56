"""The walls of the house: who may import whom, what is never done, and that every room says what it is."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

from musicnet_tf.registry import DATASETS, MODELS, TASKS

CONFIGS = ROOT / "configs"
LIBRARY = ROOT / "musicnet_tf"
SOURCES = sorted(p for folder in ("musicnet_tf", "pipelines", "serving") for p in (ROOT / folder).rglob("*.py"))
VERBS = sorted(p for p in (LIBRARY / "bin").glob("*.py") if p.stem != "main" and not p.stem.startswith("_"))
FRONT_DOOR = {LIBRARY / "__main__.py", *(LIBRARY / "bin").glob("*.py")}

# Rooms that a client walks through, and so must not bring TensorFlow; folders stand for all their files.
LIGHT = [
    *("alignment", "datasets", "decode", "metrics"),
    *(
        "audio.py",
        "beat_writers.py",
        "effects",
        "errors.py",
        "events.py",
        "files.py",
        "filters.py",
        "instruments.py",
        "live_audio.py",
        "manifest.py",
    ),
    *(
        "messages.py",
        "model_selection.py",
        "plots.py",
        "record_info.py",
        "registry.py",
        "rhythm.py",
        "scores",
        "streaming.py",
        "tag_writers.py",
        "timebase.py",
        "transcription.py",
    ),
    *("windowing.py", "works.py", "writers.py"),
]
KERAS_ONLY = ["models", "constant_q.py", "frontends.py", "layers.py"]
HEAVY = {"tensorflow", "tensorflow_io", "keras", "apache_beam"}
MAX_LINES = 400
MAY_CALL_PYTHON = {LIBRARY / "augment.py"}  # libraries of sound, where a config asks for them, in this process's input
MAY_UNPICKLE = {LIBRARY / "datasets/_musicnet_forms.py"}  # old archives, behind an explicit flag


def files_of(rooms: list[str]) -> list[Path]:
    paths = [LIBRARY / room for room in rooms]
    return sorted(f for p in paths for f in (p.rglob("*.py") if p.is_dir() else [p]) if f.exists())


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(node: ast.AST, *, deferred: bool) -> Iterator[str]:
    """Full names of what is imported beneath `node`, relative imports left out: the house has none.

    Without `deferred`, only what importing the module itself imports: nothing in functions, nothing for
    the type checker alone.
    """
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"relative import at line {child.lineno}"
            yield from (f"{child.module}.{alias.name}" for alias in child.names)
        elif deferred or not _runs_later(child):
            yield from imports(child, deferred=deferred)


def _runs_later(node: ast.AST) -> bool:
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        return True
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_the_reader_of_imports_sees_what_it_should():
    source = (
        "import a.b\nfrom c import d\nif TYPE_CHECKING:\n    import e\n"
        "try:\n    import f\nexcept ImportError:\n    pass\ndef g():\n    import h\nclass I:\n    import j\n"
    )
    assert list(imports(ast.parse(source), deferred=False)) == ["a.b", "c.d", "f", "j"]
    assert list(imports(ast.parse(source), deferred=True)) == ["a.b", "c.d", "e", "f", "h", "j"]


@pytest.mark.parametrize("path", [p for p in SOURCES if LIBRARY in p.parents and p not in FRONT_DOOR], ids=named)
def test_the_library_never_imports_what_stands_on_it(path):
    above = [n for n in imports(tree(path), deferred=True) if f"{n}.".startswith(("pipelines.", "serving."))]
    above += [n for n in imports(tree(path), deferred=True) if f"{n}.".startswith("musicnet_tf.bin.")]
    assert not above


@pytest.mark.parametrize("path", files_of(LIGHT), ids=named)
def test_light_rooms_name_no_heavy_module(path):
    assert not {name.partition(".")[0] for name in imports(tree(path), deferred=False)} & HEAVY


def test_light_rooms_bring_no_tensorflow_by_any_way():
    modules = [named(p.with_suffix("")).replace("/", ".").removesuffix(".__init__") for p in files_of(LIGHT)]
    code = f"""
import importlib, sys
for name in {modules!r}:
    importlib.import_module(name)
    assert "tensorflow" not in sys.modules, f"{{name}} imports tensorflow"
"""
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert outcome.returncode == 0, outcome.stderr


@pytest.mark.parametrize("path", files_of(KERAS_ONLY), ids=named)
def test_networks_are_keras_alone(path):
    found = {name.partition(".")[0] for name in imports(tree(path), deferred=True)}
    assert not found & {"tensorflow", "tensorflow_io", "torch", "jax"}


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_what_is_never_done(path):
    module = tree(path)
    words = {n.attr for n in ast.walk(module) if isinstance(n, ast.Attribute)}
    words |= {n.id for n in ast.walk(module) if isinstance(n, ast.Name)}
    called_back = words & {"py_function", "numpy_function"}
    assert path in MAY_CALL_PYTHON or not called_back, "a served or distributed graph cannot hold Python"
    calls = [n for n in ast.walk(module) if isinstance(n, ast.Call)]
    salted = [c.lineno for c in calls if isinstance(c.func, ast.Name) and c.func.id == "hash"]
    assert not salted, "Python's hash differs from run to run"
    assert not [c.lineno for c in calls if ast.unparse(c.func) in {"yaml.load", "yaml.unsafe_load", "eval", "exec"}]
    assert path in MAY_UNPICKLE or not list(_unpickling(module))


def _unpickling(module: ast.Module) -> Iterator[int]:
    for node in ast.walk(module):
        if isinstance(node, ast.keyword) and (node.arg, ast.unparse(node.value)) == ("allow_pickle", "True"):
            yield node.value.lineno
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = {a.name for a in node.names} | {getattr(node, "module", None)}
            if modules & {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}:
                yield node.lineno


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_a_file_is_not_long(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_a_file_says_what_it_is(path):
    assert ast.get_docstring(tree(path))


@pytest.mark.parametrize("path", VERBS, ids=named)
def test_a_verb_explains_itself_with_an_example(path):
    module = tree(path)
    docstring = ast.get_docstring(module) or ""
    assert docstring.partition("\n")[0].endswith("."), "the first line is shown in the list of verbs"
    assert f"musicnet {path.stem}" in docstring
    mains = [n for n in module.body if isinstance(n, ast.FunctionDef) and n.name == "main"]
    assert [[a.arg for a in m.args.args] for m in mains] == [["argv"]]


@pytest.mark.parametrize(
    ("registry", "fields"),
    [(MODELS, ["source"]), (TASKS, ["source"]), (DATASETS, ["description", "licence", "source"])],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_what_is_registered_says_where_it_is_from(registry, fields):
    assert registry.names()
    for name in registry.names():
        entry = registry.get(name)
        assert entry.name == name
        assert "__doc__" in vars(entry), f"{name}: no docstring of its own"
        assert entry.__doc__, name
        assert all(getattr(entry, field, "").strip() for field in fields), name


@pytest.mark.parametrize("path", sorted([*CONFIGS.glob("*.yaml"), *CONFIGS.glob("paper/*.yaml")]), ids=named)
def test_a_config_is_named_after_what_it_trains(path):
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert config["model"]["name"] in MODELS.names()
    assert config["task"]["name"] in TASKS.names()
    assert config["name"] == path.stem
    of_a_table = path.parent.name == "paper"
    assert of_a_table or path.stem == "tiny" or path.stem.startswith(f"{config['task']['name']}_")


def test_the_layout_in_build_md_is_the_tree():
    text = (ROOT / "BUILD.md").read_text(encoding="utf-8")
    rooms = re.findall(r"^\| `([\w./]+)` \|", text, re.MULTILINE)
    assert [room for room in rooms if not (ROOT / room).exists()] == []
    here = [p for p in [*LIBRARY.iterdir(), *ROOT.iterdir()] if p.suffix == ".py" or any(p.glob("*.py"))]
    here = [p for p in here if p.name not in {"__init__.py", "setup.py"} and p != LIBRARY and p.name[0] != "."]
    named_rooms = {named(p) + ("/" if p.is_dir() else "") for p in here}
    assert named_rooms - set(rooms) == set(), "give each a line in BUILD.md"

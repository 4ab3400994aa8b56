"""Ranges, lock and wheel agree with each other and with what the source imports."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LOCK = (ROOT / "requirements.lock").read_text()
LOCKED = {canonicalize_name(name): version for name, version in re.findall(r"^([\w.-]+)==(\S+)", LOCK, re.MULTILINE)}
# Packages that an extra brings: they may be imported where they are used, never when a module is loaded.
OPTIONAL = {"ai-edge-litert", "tensorflow-io", "apache-beam", "google-crc32c", "tensorflow-serving-api", "grpcio"}


@pytest.fixture(scope="module")
def distribution(tmp_path_factory) -> importlib.metadata.Distribution:
    """What setup.py says of the package."""
    folder = tmp_path_factory.mktemp("egg")
    command = [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return importlib.metadata.Distribution.at(next(folder.iterdir()))


@pytest.fixture(scope="module")
def requirements(distribution) -> list[Requirement]:
    return [Requirement(line) for line in distribution.requires]


def test_the_lock_satisfies_every_range_and_extra(requirements):
    assert {r.name for r in requirements} >= {"tensorflow", "keras", "tensorflow-io", "apache-beam", "pytest"}
    for requirement in requirements:
        locked = LOCKED.get(canonicalize_name(requirement.name))
        assert locked, f"{requirement.name} is not in requirements.lock; run: make lock"
        assert requirement.specifier.contains(locked), f"{requirement} against {locked}"


def test_extras_are_those_promised(distribution):
    assert set(distribution.metadata.get_all("Provides-Extra")) == {"lite", "tfio", "beam", "serving", "dev"}


def test_the_lock_is_of_requirements_in():
    lines = (ROOT / "requirements.in").read_text().splitlines()
    wanted = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert len(wanted) > 25
    for requirement in wanted:
        locked = LOCKED.get(canonicalize_name(requirement.name), "")
        assert locked, f"{requirement.name} is not in requirements.lock; run: make lock"
        assert requirement.specifier.contains(locked), f"{requirement} against {locked}; run: make lock"


def test_everything_locked_has_hashes_and_no_host():
    entries = re.split(r"^(?=[\w.-]+==)", LOCK, flags=re.MULTILINE)[1:]
    assert len(entries) == len(LOCKED) > 80
    assert not [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry]
    assert not re.findall(r"https?://|file:|--index|--find-links", LOCK)
    assert {"setuptools", "wheel"} <= LOCKED.keys()  # pip asks for their hashes too


def third_party(path: Path) -> Iterator[tuple[str, bool]]:
    """Top-level names that a file imports, and whether loading the file does so."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            continue
        yield from ((name.partition(".")[0], node.col_offset == 0) for name in names)


def test_what_the_library_imports_is_declared(requirements):
    owners = importlib.metadata.packages_distributions()
    base = {canonicalize_name(r.name) for r in requirements if not r.marker}
    for path in sorted((ROOT / "musicnet_tf").rglob("*.py")):
        for name, at_load in third_party(path):
            if name in sys.stdlib_module_names or name in {"musicnet_tf", "pipelines", "serving"}:
                continue
            distributions = {canonicalize_name(d) for d in owners.get(name, [name])}
            allowed = base if at_load else base | OPTIONAL
            assert distributions & allowed, f"{path.relative_to(ROOT)} imports {name}: add it to setup.py"


def test_the_wheel_holds_every_module_and_every_shipped_model(tmp_path):
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--wheel-dir", str(tmp_path), str(_copy(tmp_path))], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
        scripts = archive.read(next(n for n in held if n.endswith("entry_points.txt"))).decode()
    tracked = set(_tracked("musicnet_tf", "pipelines", "serving"))
    modules = {name for name in tracked if name.endswith(".py")}
    shipped = {name for name in tracked if name.startswith("musicnet_tf/pretrained/") and name.count("/") == 3}
    assert len(modules) > 20
    assert not (modules | shipped) - held
    assert not [name for name in held if name.startswith(("tests/", "benchmarks/", "examples/"))]
    assert "musicnet = musicnet_tf.bin.main:main" in scripts


def _tracked(*folders: str) -> list[str]:
    command = ["git", "ls-files", "-z", *folders]
    return [n for n in subprocess.check_output(command, cwd=ROOT, text=True).split("\0") if (ROOT / n).is_file() and n]


def _copy(folder: Path) -> Path:
    """The tracked sources alone, so that building leaves nothing in the tree and takes nothing untracked."""
    target = folder / "source"
    for name in _tracked():
        if not name.startswith(("tests/", "examples/")):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_bytes((ROOT / name).read_bytes())
    return target

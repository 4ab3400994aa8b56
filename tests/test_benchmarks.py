"""The command lines of the benchmarks, which tests and verbs share a process with."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator

import pytest
from absl import flags
from conftest import ROOT

from benchmarks.__main__ import commands

MODULES = sorted(
    f"benchmarks.{p.stem}"
    for name in (
        *("alignment_*", "fault_*", "label_*", "paper_*", "serving"),
        *("cold_start", "decoders", "exemplars", "inference", "transcription_peers", "beat_trackers"),
        "augmentations",
        "tagging_families",
    )
    for p in ROOT.glob(f"benchmarks/{name}.py")
)
RUN = [name for name in MODULES if "app.run(" in (ROOT / f"{name.replace('.', '/')}.py").read_text(encoding="utf-8")]


@pytest.fixture
def undone() -> Iterator[set[str]]:
    """Names of the flags that there are; those that a test defines are forgotten afterwards."""
    before = set(flags.FLAGS)
    yield before
    for name in set(flags.FLAGS) - before:
        delattr(flags.FLAGS, name)


def test_the_benchmarks_of_alignment_are_found() -> None:
    assert {f"benchmarks.alignment_{name}" for name in ("accuracy", "repeats", "truth")} < set(MODULES)
    assert {"benchmarks.alignment_accuracy", "benchmarks.alignment_repeats", "benchmarks.label_check"} <= set(RUN)
    assert {"benchmarks.paper_models", "benchmarks.serving", "benchmarks.fault_drill"} <= set(RUN)
    assert {"benchmarks.transcription_peers", "benchmarks.exemplars", "benchmarks.cold_start"} <= set(RUN)


def test_importing_a_benchmark_defines_no_flag() -> None:
    for name in MODULES:
        importlib.import_module(name)
    defined = flags.FLAGS.flags_by_module_dict()
    assert {name: [flag.name for flag in defined.get(name, [])] for name in MODULES} == {name: [] for name in MODULES}


@pytest.mark.parametrize("name", RUN)
def test_a_benchmark_defines_the_flags_that_it_reads(name: str, undone: set[str]) -> None:
    module = importlib.import_module(name)
    module.define_flags()
    defined = set(flags.FLAGS) - undone
    assert {flag.name for flag in flags.FLAGS.flags_by_module_dict()[name]} == defined
    source = inspect.getsource(module)
    assert set(re.findall(r"flags\.FLAGS\.([a-z]\w*)", source)) <= defined
    assert {flag for flag in defined if re.search(rf"(FLAGS|values)\.{flag}\b", source)} == defined


def test_every_benchmark_that_its_folders_are_named_for_is_run() -> None:
    names = ("transcription", "inference", "cold_start", "serving", "fault_drill", "paper_models", "beat_decoding")
    always = [f"benchmarks.{name}" for name in (*names, "augmentations")]
    assert [module for module, *_ in commands()] == always
    assert [module for module, *_ in commands(asap="a")] == always, "nowhere to render to"
    everything = commands(corpus="c", records="r", asap="a b", cache="k", data="d")
    programs = {p.stem for p in ROOT.glob("benchmarks/[a-z]*.py") if '__name__ == "__main__"' in p.read_text("utf-8")}
    assert {module.removeprefix("benchmarks.") for module, *_ in everything} == programs
    accuracy = next(options for module, *options in everything if module.endswith("accuracy"))
    assert accuracy == ["--asap=a b", "--cache=k", "--data=d"]
    assert ["benchmarks.tagging_families", "--records=r"] in commands(records="r")
    trackers = next(options for module, *options in everything if module.endswith("beat_trackers"))
    assert trackers == ["--bach10=d/bach10", "--musicnet=c", "--asap=a b"]
    assert ["benchmarks.beat_trackers", "--bach10=d/bach10"] in commands(data="d")


def test_every_benchmark_is_told_of() -> None:
    text = (ROOT / "benchmarks/README.md").read_text(encoding="utf-8")
    assert {p.name for p in ROOT.glob("benchmarks/[a-z]*.py")} == set(re.findall(r"^\| `([a-z_]+\.py)", text, re.M))

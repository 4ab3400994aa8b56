"""What every test may use."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import resource
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

# Numba's cache beside librosa is broken by processes that write it at once, as those of a first run do.
if "PYTEST_XDIST_WORKER" in os.environ:
    _cache = Path(__file__).parents[1] / ".pytest_cache" / f"numba_{os.environ['PYTEST_XDIST_WORKER']}"
    os.environ["NUMBA_CACHE_DIR"] = str(_cache)

import pytest
import synthetic
from absl import flags
from hypothesis import settings

from musicnet_tf.bin.main import main
from musicnet_tf.registry import DATASETS

# A busy machine is no fault of the code: what is too slow, the timeout of pytest tells.
settings.register_profile("musicnet", deadline=None)
settings.load_profile("musicnet")

ROOT = Path(__file__).parents[1]
LONGEST = ("test_trainer.py", "test_alignment_aligner.py", "test_reproduction.py", "test_input_pipeline.py")


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bytes go by their argument's name: a WAV of floats holds the second when it was made, and names must not."""
    return argname if isinstance(val, bytes) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest come first, so that no process is left with one of them when the others are done."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


@contextlib.contextmanager
def full_disk(num_bytes):
    """No file may grow beyond so many bytes, which writers meet as they meet a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


class Outcome(NamedTuple):
    """What one call of the command line gave."""

    status: int
    stdout: str
    stderr: str


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The collection of real recordings beside the checkout; tests that need it are skipped without."""
    folder = ROOT.parent / "shared/data"
    if not folder.is_dir():
        pytest.skip(f"no shared data: {folder} is not there")
    return folder


@pytest.fixture
def musicnet() -> Iterator[Callable[..., Outcome]]:
    """Calls `musicnet VERB ARGS…` in this process, as the command line would: `musicnet("list", "--json")`.

    Two verbs may define a flag of the same name, which one process refuses; so what a call defines is
    forgotten afterwards.
    """
    with _forgetting_verbs():

        def call(*args: object) -> Outcome:
            out, err = io.StringIO(), io.StringIO()
            with _forgetting_verbs(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                status = main([str(arg) for arg in args])
            return Outcome(status, out.getvalue(), err.getvalue())

        yield call


@contextlib.contextmanager
def _forgetting_verbs() -> Iterator[None]:
    before, modules = set(flags.FLAGS), set(sys.modules)
    try:
        yield
    finally:
        for name in set(flags.FLAGS) - before:
            delattr(flags.FLAGS, name)
        flags.FLAGS.unparse_flags()
        for name in set(sys.modules) - modules:
            if name.startswith("musicnet_tf.bin."):
                del sys.modules[name]


@pytest.fixture
def build_records() -> ModuleType:
    """The module `pipelines.build_records`, imported only where a test needs Beam."""
    return importlib.import_module("pipelines.build_records")


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six synthesised recordings of a few seconds in MusicNet's layout, two of them for validation."""
    root = tmp_path_factory.mktemp("musicnet")
    return synthetic.write_musicnet(root, {**synthetic.TRAIN, **synthetic.VALIDATION})


@pytest.fixture(scope="session")
def tiny_records(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A record set of `tiny_corpus` at 16 kHz for `configs/tiny.yaml` with `data.folder` set to its parent."""
    folder = tmp_path_factory.mktemp("records") / "tiny"
    from pipelines import build_records

    corpus = DATASETS.get("musicnet")(root=tiny_corpus, validation=tuple(synthetic.VALIDATION))
    settings = build_records.Settings(corpus, 16000, 2.0, "pcm_s16le", 2)
    build_records.build(settings, folder, build_records.beam_options("FnApiRunner"))
    return folder

from __future__ import annotations

import pytest

from musicnet_tf.errors import ScoreError

pytest.importorskip("apache_beam")

from apache_beam import Create, Map, Pipeline

from pipelines import _beam


def _interrupt(_: int) -> None:
    raise KeyboardInterrupt


def _complain(_: int) -> None:
    raise ScoreError("song.mid: the file is empty")


def _run(work):
    with _beam.own_errors(), Pipeline(options=_beam.beam_options("FnApiRunner")) as pipeline:
        _ = pipeline | Create([1]) | Map(work)


def test_an_interrupted_job_is_told_as_interrupted():
    with pytest.raises(KeyboardInterrupt):
        _run(_interrupt)


def test_an_error_of_our_own_is_raised_as_it_was():
    with pytest.raises(ScoreError, match=r"^song\.mid: the file is empty$"):
        _run(_complain)

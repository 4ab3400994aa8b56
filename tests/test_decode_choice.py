"""How decoders and their parameters are chosen: the search for thresholds, and the benchmark that compares decoders."""

import numpy as np
import pytest

from benchmarks import decoders
from musicnet_tf import thresholds
from musicnet_tf.decode.notes import NoteDecoding
from musicnet_tf.events import Notes
from musicnet_tf.models import HeadSpec, ModelSpec
from musicnet_tf.thresholds import Heard
from musicnet_tf.timebase import FrameClock

FRAMES = 300
SPEC = ModelSpec(
    FrameClock(16000, 320), 100 * 320, 100, 10, {name: HeadSpec(2, 60) for name in ("frame", "onset", "velocity")}
)


def uncertain() -> Heard:
    """Five notes a pitch whose onsets are low and broad, and as many false peaks that are higher and narrow."""
    heads = {name: np.zeros((FRAMES, 2), np.float32) for name in SPEC.heads}
    heads["frame"][:] = 0.9
    begins = np.arange(10, FRAMES, 60)
    for begin in begins:
        heads["onset"][begin - 2 : begin + 3] = [[0.3], [0.4], [0.38], [0.4], [0.3]]
        heads["onset"][begin + 30] = 0.6
    ends = np.append(begins[1:], FRAMES - 0.5)
    notes = Notes(np.repeat(begins, 2) / 50, np.repeat(ends, 2) / 50, np.tile([60, 61], len(begins)))
    return Heard("uncertain", notes, heads, FRAMES / 50)


@pytest.mark.parametrize("method", ["greedy", "viterbi"])
def test_onsets_are_smoothed_where_that_is_better(method: str) -> None:
    heard, start = uncertain(), NoteDecoding(method=method)
    found = thresholds.search_thresholds([[heard]], SPEC, start)
    assert found.decoder.method == method
    assert found.decoder.onset_smoothing == max(thresholds.SMOOTHINGS)
    assert found.scores["onset/f1"] == found.scores["onset_offset/f1"] == 1
    raw = [
        decoders.score(heard, SPEC, start.model_copy(update={"onset_threshold": value}))[0] for value in (0.2, 0.3, 0.5)
    ]
    assert max(raw) < 0.7


def test_nothing_is_smoothed_where_that_is_no_better() -> None:
    heard = uncertain()
    heard.heads["onset"][:] = 0
    for note in heard.notes:
        heard.heads["onset"][round(note.onset * 50), note.pitch - 60] = 0.9
    found = thresholds.search_thresholds([[heard]], SPEC, NoteDecoding())
    assert found.decoder.onset_smoothing == 0
    assert found.scores["onset/f1"] == 1


def test_a_corpus_is_scored_with_the_setting_that_is_best_on_the_others() -> None:
    settings = [NoteDecoding(onset_threshold=value) for value in (0.1, 0.2, 0.3)]
    onset = np.array([[0.9, 0.1, 0.1], [0.5, 0.6, 0.4], [0.1, 0.9, 0.8]])  # by setting and corpus
    tried = decoders.Tried(settings, np.stack([onset, onset / 2, 1 - onset], axis=2))
    assert [tried.chosen([i]) for i in range(3)] == [0, 2, 2]
    assert tried.chosen(range(3)) == 2
    # The best on the other two: third (0.85 of 0.1, 0.5), first (0.5 of 0.45, 0.45), second (0.55 of 0.5, 0.5).
    np.testing.assert_allclose(tried.held_out(), [[0.1, 0.05, 0.9], [0.1, 0.05, 0.9], [0.4, 0.2, 0.6]])


def test_the_table_has_a_row_a_decoder_and_the_grids_are_alike_in_size() -> None:
    sizes = {name: len(list(decoders.settings_of(grid))) for name, grid in decoders.DECODERS.items()}
    assert len(set(sizes.values())) == 1
    heard = [[uncertain()], [uncertain()]]
    small = {name: {key: values[-1:] for key, values in grid.items()} for name, grid in decoders.DECODERS.items()}
    tried = {name: decoders.try_out(grid, heard, SPEC) for name, grid in small.items()}
    took = {name: decoders.seconds(results.settings[0], heard, SPEC) for name, results in tried.items()}
    head, rule, *rows = decoders.report(tried, ["one", "other"], took)
    assert head.count("|") == rule.count("|") == 7
    table = dict(zip(small, rows, strict=False))
    assert table["greedy, smoothed onsets"].startswith(
        "| greedy, smoothed onsets | 1.000 / 1.000 / 1.000 |"
    )  # blips are 0.2 then
    assert table["greedy"].startswith("| greedy | 0.000 / ")  # and are all there is above 0.44 without
    assert table["greedy"].endswith("| 1.00 |")
    assert "onset_smoothing=0.06" in rows[-1]

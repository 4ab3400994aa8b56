from __future__ import annotations

import numpy as np
import pytest

from benchmarks import alignment_repeats
from musicnet_tf.alignment import low_rate, structure
from musicnet_tf.errors import AlignmentError

RATE = low_rate.FRAME_RATE


def music(seconds: float, seed: int) -> np.ndarray:
    """Frames that change every second, as chords do."""
    rng = np.random.default_rng(seed)
    chords = rng.random((round(seconds), 72)) ** 6
    return low_rate.normalise(np.repeat(chords, round(RATE), axis=0))


A, B, C = (music(24, seed) for seed in (1, 2, 3))
BARS = np.arange(0, 96, 2.0)


def found(recording: list[np.ndarray], score: list[np.ndarray]) -> structure.Structure:
    return structure.find_segments(np.concatenate(recording), np.concatenate(score), RATE, barlines=BARS)


def test_a_plain_performance_is_one_segment():
    result = found([A, B, C], [A, B, C])
    assert result.jumps == ()
    assert [(s.start, round(s.stop)) for s in result.segments] == [(0.0, 72)]
    assert result.cost < 0.1 * result.random_cost


def test_a_written_out_repeat_that_is_played_is_no_jump():
    assert found([A, A, B], [A, A, B]).jumps == ()


def test_a_repeat_that_the_score_leaves_out_is_found():
    (jump,) = found([A, B, B, C], [A, B, C]).jumps
    assert jump.kind == "repeat_added"
    assert (jump.start, jump.stop) == pytest.approx((48, 24), abs=2)
    assert jump.time == pytest.approx(48, abs=2)


def test_a_repeat_that_the_performer_leaves_out_is_found():
    (jump,) = found([A, B, C], [A, B, B, C]).jumps
    assert jump.kind == "repeat_left_out"
    assert jump.stop - jump.start == pytest.approx(24, abs=2)


def test_a_passage_left_out_is_no_repeat():
    (jump,) = found([A, C], [A, B, C]).jumps
    assert jump.kind == "passage_left_out"
    assert (jump.start, jump.stop) == pytest.approx((24, 48), abs=2)


@pytest.mark.parametrize(("shortest", "jumps"), [(structure._Search.SHORTEST_BARS, 0), (1, 1)])
def test_a_run_in_small_notes_is_one_bar_and_not_left_out(shortest, jumps, monkeypatch):
    monkeypatch.setattr(structure._Search, "SHORTEST_BARS", shortest)
    run = music(14, 4)
    bars = np.concatenate([np.arange(0, 25, 2.0), np.arange(38, 62, 2.0)])
    recording, score = (np.concatenate([A, part, C]) for part in (run[::6], run))
    assert len(structure.find_segments(recording, score, RATE, barlines=bars).jumps) == jumps


def test_a_repeat_left_out_ends_where_the_music_is_no_more_the_same():
    """What follows begins with other notes in the same harmony, so the path alone could go on into it."""
    other = music(24, 5)
    after = low_rate.normalise(np.concatenate([0.8 * B[:16] + 0.2 * other[:16], C]))
    (jump,) = found([A, B, after], [A, B, B, after]).jumps
    assert (jump.kind, jump.start, jump.stop) == ("repeat_left_out", 48, 72)


def test_silence_around_the_music_is_left_outside():
    silence = low_rate.normalise(np.vstack([np.zeros((32, 72)), np.concatenate([A, B, C]), np.zeros((20, 72))]))
    result = structure.find_segments(silence, np.concatenate([A, B, C]), RATE, barlines=BARS)
    assert result.music == pytest.approx((8.0, 80.0), abs=1.0)


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(AlignmentError, match="cannot be compared"):
        structure.find_segments(np.ones((9, 72)), np.ones((9, 12)), RATE)


BEATS = np.arange(0, 101, 1.0)
ONSETS = np.arange(0, 100, 0.25)


@pytest.mark.parametrize(
    ("seconds", "unplayed", "skips"),
    [
        (0.0, 0, False),
        (15.0, 0, False),  # at nearly twice the tempo
        (31.0, 0, True),
        (0.0, 19, False),
        (0.0, 21, True),
    ],
)
def test_a_piece_of_which_the_performer_skips_some_is_known_by_beats_and_by_notes(seconds, unplayed, skips):
    """Beats 20 to 60 of the score take `seconds` less than at 0.8 s a beat; of the notes some are never played."""
    length = np.full(100, 0.8)
    length[20:60] -= seconds / 40
    played = ONSETS.copy()
    played[100 : 100 + unplayed] = np.nan
    beats = np.concatenate([[0.0], np.cumsum(length)])
    assert alignment_repeats.skips(BEATS, beats, ONSETS, played) is skips

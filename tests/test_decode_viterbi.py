"""The decoder that weighs a whole recording, against all sequences of states and against hand-made activations."""

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from posteriorgrams import posteriorgram

from musicnet_tf import streaming
from musicnet_tf.decode.notes import NoteDecoding, decode, decoder_of
from musicnet_tf.decode.viterbi import ViterbiNoteDecoder
from musicnet_tf.errors import ModelError
from musicnet_tf.events import UNKNOWN, Note, Notes
from musicnet_tf.models import HeadSpec, ModelSpec
from musicnet_tf.timebase import FrameClock

CLOCK = FrameClock(16000, 320)  # 50 frames a second
SHORT = NoteDecoding(method="viterbi", min_duration=0.02)  # a note has two frames or more


def column(*values: float) -> np.ndarray:
    return np.array(values, np.float32)[:, None]


def times(notes: Notes) -> list[tuple[float, float]]:
    """Onset and offset in frames."""
    return [(round(n.onset * 50, 4), round(n.offset * 50, 4)) for n in notes]


def at(length: int, **peaks: float) -> np.ndarray:
    """Onset activations that are 0 but at some frames: `at(9, f2=0.8)`."""
    values = np.zeros(length, np.float32)
    for name, height in peaks.items():
        values[int(name[1:])] = height
    return values[:, None]


def spans(frame: np.ndarray, onset: np.ndarray, params: NoteDecoding = SHORT, **heads: np.ndarray) -> list:
    return times(decode({"frame": frame, "onset": onset, **heads}, CLOCK, params, 60))


# --- against every sequence there is


def log_odds(probability: float, threshold: float) -> float:
    held = [min(max(p, 1e-3), 1 - 1e-3) for p in (probability, threshold)]
    return math.log(held[0] / (1 - held[0])) - math.log(held[1] / (1 - held[1]))


def sequences(first: int, frames: int, least: int) -> Iterator[list[tuple[int, int]]]:
    """All ways to put notes of `least` frames or more, as first and last frames, into frames from `first` on."""
    yield []
    for begin in range(first, frames):
        for last in range(begin + least - 1, frames):
            for rest in sequences(last + 1, frames, least):
                yield [(begin, last), *rest]


def is_peak(values: list[float], frame: int) -> bool:
    around = [values[k] for k in (frame - 1, frame + 1) if 0 <= k < len(values)]
    return values[frame] >= 0.1 and all(values[frame] > value for value in around)


def score(notes: list[tuple[int, int]], heads: dict[str, list[float]], params: NoteDecoding) -> float:
    """By its definition, in Python's own arithmetic."""
    total = 0.0
    for i, (first, last) in enumerate(notes):
        if "onset" not in heads:
            total -= 1
        elif not is_peak(heads["onset"], first):
            return -math.inf
        else:
            total += log_odds(heads["onset"][first], params.onset_threshold)
        total += params.frame_weight * sum(
            log_odds(value, params.frame_threshold) for value in heads["frame"][first : last + 1]
        )
        follows = notes[i + 1][0] if i + 1 < len(notes) else len(heads["frame"])
        if "offset" in heads and follows > last + 1:
            total += params.frame_weight * log_odds(max(heads["offset"][last : last + 2]), params.offset_threshold)
    return total


@st.composite
def tiny(draw) -> dict[str, list[float]]:
    """Activations of one pitch, none like another, so that hardly ever two sequences are equally good."""
    names = ["frame", *draw(st.lists(st.sampled_from(["onset", "offset"]), unique=True))]
    frames, seed = draw(st.integers(1, 8)), draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    return {name: [float(np.float32(v)) for v in rng.beta(0.6, 0.6, frames)] for name in names}


@settings(max_examples=200, deadline=None)
@given(
    heads=tiny(),
    onset_threshold=st.floats(0.2, 0.8),
    frame_threshold=st.floats(0.2, 0.8),
    frame_weight=st.sampled_from([0.1, 0.5, 1.0]),
    least=st.integers(1, 4),
    cut=st.integers(0, 8),
)
def test_no_sequence_is_better(
    heads: dict, onset_threshold: float, frame_threshold: float, frame_weight: float, least: int, cut: int
) -> None:
    params = NoteDecoding(
        method="viterbi",
        onset_threshold=onset_threshold,
        frame_threshold=frame_threshold,
        offset_threshold=1,  # no end is moved
        frame_weight=frame_weight,
        min_duration=(least - 1) / 50,
    )
    ranked = sorted(
        ((score(notes, heads, params), notes) for notes in sequences(0, len(heads["frame"]), least)), reverse=True
    )
    assume(len(ranked) == 1 or ranked[0][0] - ranked[1][0] > 1e-6)
    best = ranked[0][1]

    decoder = ViterbiNoteDecoder(CLOCK, params, 60)
    for piece in (slice(None, cut), slice(cut, None)):
        decoder.push({name: column(*values[piece]) for name, values in heads.items()})
    found = decoder.finish()
    starts = np.array([first for first, _ in best], float)
    if "onset" in heads:  # an apex lies up to half a frame off its frame
        np.testing.assert_allclose(found.onset * 50, starts, atol=0.5 + 1e-6)
    else:
        np.testing.assert_allclose(found.onset * 50, np.maximum(starts - 0.5, 0), atol=1e-6)
    ends = [
        found.onset[i + 1] * 50 if i + 1 < len(best) and best[i + 1][0] == last + 1 else last + 0.5
        for i, (_, last) in enumerate(best)
    ]
    np.testing.assert_allclose(found.offset * 50, ends, atol=1e-6)


# --- by hand


def test_a_repeated_note_is_two() -> None:
    frame = column(0, 0, *[0.9] * 10, 0, 0)
    assert spans(frame, at(14, f2=0.9, f7=0.6)) == [(2, 7), (7, 11.5)]
    assert spans(frame, at(14, f2=0.9, f7=0.4)) == [(2, 11.5)]


def test_a_dip_in_a_note_is_bridged_as_far_as_what_follows_it_is_worth() -> None:
    # With threshold 0.5 and weight 0.2 a frame of 0.9 brings 0.44, one of 0.1 costs as much.
    onset = at(20, f1=0.9)
    assert spans(column(0, *[0.9] * 4, *[0.1] * 3, *[0.9] * 4, *[0] * 8), onset) == [(1, 11.5)]
    assert spans(column(0, *[0.9] * 4, *[0.1] * 5, *[0.9] * 4, *[0] * 6), onset) == [(1, 4.5)]
    # A shorter run after the gap is reached where an onset, though weak, begins it anew.
    again = column(0, *[0.9] * 4, *[0.1] * 5, *[0.9] * 4, *[0] * 6)
    assert spans(again, at(20, f1=0.9, f10=0.3)) == [(1, 4.5), (10, 13.5)]


def test_a_blip_is_no_note() -> None:
    assert spans(column(0, 0, 0.9, 0.9, 0, 0, 0, 0), at(8)) == []  # without any onset
    assert spans(column(0, 0, 0.9, 0.9, 0, 0, 0, 0), at(8, f2=0.25)) == []  # -1.10 + 2 · 0.44 < 0
    assert spans(column(0, 0, 0.9, 0.9, 0.9, 0, 0, 0), at(8, f2=0.25)) == [(2, 4.5)]  # -1.10 + 3 · 0.44 > 0


def test_a_strong_onset_needs_little_sound() -> None:
    quiet = column(0, 0, 0.3, 0.2, 0, 0, 0, 0)  # -0.17 and -0.28
    assert spans(quiet, at(8, f2=0.7)) == [(2, 3.5)]  # 0.85
    assert spans(quiet, at(8, f2=0.6)) == []  # 0.41


def test_the_better_of_two_onsets_close_to_one_another_starts_the_note() -> None:
    frame = column(0, 0, *[0.9] * 8, 0, 0)
    params = SHORT.model_copy(update={"min_duration": 0.06})
    assert spans(frame, at(12, f2=0.6, f4=0.95), params) == [(4, 9.5)]
    assert spans(frame, at(12, f2=0.95, f4=0.6), params) == [(2, 9.5)]


def test_onsets_are_placed_within_frames() -> None:
    onset = column(0, 0.3, 0.9, 0.6, 0, 0, 0, 0)
    shift = (0.6 - 0.3) / (2 * (0.9 - 0.3))
    assert spans(column(0, 0, 0.9, 0.9, 0.9, 0, 0, 0), onset) == [(2 + shift, 4.5)]


def test_the_offset_head_decides_between_ends_and_refines_them() -> None:
    frame = column(0, *[0.9] * 4, *[0.52] * 6, 0, 0, 0)  # 0.016 a frame in the tail
    onset = at(14, f1=0.9)
    assert spans(frame, onset) == [(1, 10.5)]
    early = at(14, f4=0.2, f5=0.8, f6=0.2)
    assert spans(frame, onset, offset=early) == [(1, 5)]
    late = at(14, f10=0.2, f11=0.8)
    assert spans(frame, onset, offset=late) == [(1, pytest.approx(11 - 0.2 / 1.6))]


def test_an_end_is_not_refined_beyond_the_next_onset_nor_so_that_the_note_is_too_short() -> None:
    frame, onset = column(0, *[0.9] * 3, 0, *[0.9] * 3, 0, 0, 0), at(11, f1=0.9, f5=0.9)
    beyond = at(11, f4=0.05, f5=0.9, f6=0.3)  # its apex is at 5.15
    assert spans(frame, onset, offset=beyond)[:1] == [(1, 3.5)]
    frame, onset = column(0, 0.9, 0.9, 0, 0, 0), at(6, f1=0.9)
    assert spans(frame, onset, offset=at(6, f1=0.9)) == [(1, 2.5)]


def test_without_an_onset_head_a_note_has_to_bring_its_price() -> None:
    frame = column(0, 0.9, 0.9, 0, 0, 0, 0.9, 0.9, 0.9, 0)
    assert times(decode({"frame": frame}, CLOCK, SHORT, 60)) == [(5.5, 8.5)]


def test_velocity_is_read_at_the_peak() -> None:
    heads = {"frame": column(*[0.9] * 6), "onset": at(6, f2=0.9), "velocity": column(1, 0.9, 64 / 127, 0, 0, 0)}
    assert list(decode(heads, CLOCK, SHORT, 60)) == [Note(2 / 50, 5.5 / 50, 60, 64)]
    louder = SHORT.model_copy(update={"min_velocity": 65})
    assert len(decode(heads, CLOCK, louder, 60)) == 0
    del heads["velocity"]
    assert decode(heads, CLOCK, louder, 60).velocity.tolist() == [UNKNOWN]


def test_pitches_are_decided_each_by_itself() -> None:
    rng = np.random.default_rng(5)
    heads = {name: rng.beta(0.5, 0.5, (200, 12)).astype(np.float32) for name in ("frame", "onset", "offset")}
    together = decode(heads, CLOCK, SHORT, 60)
    alone = [
        decode({name: values[:, i : i + 1] for name, values in heads.items()}, CLOCK, SHORT, 60 + i) for i in range(12)
    ]
    assert len(together) > 100
    assert together == Notes.concatenate(alone)


# --- laws


@settings(max_examples=100, deadline=None)
@given(
    heads=posteriorgram(),
    cuts=st.lists(st.integers(0, 60), max_size=10),
    min_duration=st.sampled_from([0, 0.05]),
    smoothing=st.sampled_from([0, 0.05]),
)
def test_any_chunking_gives_the_same_notes_and_tells_them_at_the_end(
    heads: dict, cuts: list[int], min_duration: float, smoothing: float
) -> None:
    params = NoteDecoding(method="viterbi", min_duration=min_duration, onset_smoothing=smoothing, frame_weight=0.5)
    decoder = decoder_of(CLOCK, params, 21)
    for start, stop in itertools.pairwise([0, *sorted(cuts), 60]):
        decoder.push({name: values[start:stop] for name, values in heads.items()})
        assert decoder.live() == []
    found = decoder.finish()
    assert found == decode(heads, CLOCK, params, 21)
    assert (found.offset - found.onset >= min_duration).all()
    told = [(row["onset"], row["pitch"], row["offset"]) for row in decoder.live()]
    assert told == list(zip(found.onset, found.pitch, found.offset, strict=True))
    assert decoder.live() == []
    for pitch in range(21, 24):
        one = found[found.pitch == pitch]
        assert (one.onset[1:] >= one.offset[:-1] - 1e-9).all()


def test_a_listener_is_told_that_rows_wait_for_the_end() -> None:
    heads = {name: HeadSpec(88, 21) for name in ("frame", "onset")}
    spec = ModelSpec(CLOCK, 100 * 320, 100, 10, heads)
    assert SHORT.start(spec).look_ahead is None
    _, latency = streaming.plan(spec, SHORT, 16000)
    assert str(latency).endswith("and what the decoder waits for")


# --- errors


def test_what_cannot_be_decoded_is_refused() -> None:
    with pytest.raises(ModelError, match=r"'onset' has shape \(2, 1\), expected \(3, 1\)"):
        decode({"frame": np.zeros((3, 1)), "onset": np.zeros((2, 1))}, CLOCK, SHORT, 60)
    decoder = decoder_of(CLOCK, SHORT, 60)
    decoder.push({"frame": np.zeros((3, 1))})
    with pytest.raises(ModelError, match="heads changed"):
        decoder.push({"frame": np.zeros((3, 1)), "onset": np.zeros((3, 1))})


def test_nothing_gives_nothing() -> None:
    assert decoder_of(CLOCK, SHORT, 21).finish() == Notes.empty()
    assert decode({"frame": np.zeros((0, 88))}, CLOCK, SHORT, 21) == Notes.empty()
    assert decode({"frame": np.zeros((2, 88))}, CLOCK, SHORT, 21) == Notes.empty()

"""The note decoder against hand-made posteriorgrams and against rasterised notes."""

import itertools
import time
from pathlib import Path

import mir_eval
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from posteriorgrams import posteriorgram

from musicnet_tf import scores
from musicnet_tf.decode.note_columns import velocity_of
from musicnet_tf.decode.notes import NoteDecoder, NoteDecoding, decode
from musicnet_tf.decode.peaks import find_peaks
from musicnet_tf.decode.pieces import Pieces, matched_filter
from musicnet_tf.errors import ModelError
from musicnet_tf.events import UNKNOWN, Note, Notes
from musicnet_tf.timebase import FrameClock

CLOCK = FrameClock(16000, 320)  # 50 frames a second
STRICT = NoteDecoding(min_duration=0, max_gap=0, min_repeat=0)


def column(*values: float) -> np.ndarray:
    return np.array(values, np.float32)[:, None]


def times(notes: Notes) -> list[tuple[float, float]]:
    """Onset and offset in frames."""
    return [(round(n.onset * 50, 6), round(n.offset * 50, 6)) for n in notes]


# --- without an onset head


def test_runs_become_notes() -> None:
    frame = np.zeros((10, 3), np.float32)
    frame[2:5, 0] = 0.9
    frame[0:1, 1] = 0.5  # the threshold itself counts
    frame[7:, 2] = 1
    notes = decode({"frame": frame}, CLOCK, STRICT, first_pitch=21)
    assert list(notes) == [
        Note(0.0, 0.5 / 50, 22),
        Note(1.5 / 50, 4.5 / 50, 21),
        Note(6.5 / 50, 9.5 / 50, 23),
    ]


@pytest.mark.parametrize(
    ("max_gap", "expected"), [(0.0, [(0.5, 2.5), (4.5, 5.5)]), (0.02, [(0.5, 2.5), (4.5, 5.5)]), (0.04, [(0.5, 5.5)])]
)
def test_gaps_up_to_max_gap_are_closed(max_gap: float, expected: list) -> None:
    params = NoteDecoding(min_duration=0, max_gap=max_gap)
    assert times(decode({"frame": column(0, 1, 1, 0, 0, 1, 0, 0, 0)}, CLOCK, params, 60)) == expected


def test_short_notes_are_dropped() -> None:
    frame = column(0, 1, 0, 1, 1, 0, 1, 1, 1, 0)
    assert times(decode({"frame": frame}, CLOCK, NoteDecoding(min_duration=0.05, max_gap=0), 60)) == [(5.5, 8.5)]


def test_origin_of_the_clock_is_added_and_onsets_are_clipped_at_zero() -> None:
    early = decode({"frame": column(1, 1, 0)}, FrameClock(1000, 100, -200), STRICT, 0)
    assert early == Notes.empty()  # ends at -0.05 s
    late = decode({"frame": column(1, 1, 0)}, FrameClock(1000, 100, 500), STRICT, 0)
    assert list(late) == [Note(pytest.approx(0.45), pytest.approx(0.65), 0)]
    cut = decode({"frame": column(1, 1, 1, 0)}, FrameClock(1000, 100, -50), STRICT, 0)
    assert list(cut) == [Note(0.0, pytest.approx(0.2), 0)]


# --- with one


def test_a_note_starts_at_its_onset_peak_and_only_there() -> None:
    frame = column(0, 1, 1, 1, 1, 0, 1, 1, 0, 0)
    onset = column(0, 0.2, 0.6, 0.2, 0, 0, 0.4, 0, 0, 0)
    assert times(decode({"frame": frame, "onset": onset}, CLOCK, STRICT, 60)) == [(2, 4.5)]


def test_an_onset_ends_the_note_before() -> None:
    frame = column(*[1] * 9, 0)
    onset = column(0, 0.5, 1, 0.5, 0, 0.3, 0.9, 0.6, 0, 0)
    shift = (0.6 - 0.3) / (2 * (0.9 - 0.3))
    notes = decode({"frame": frame, "onset": onset}, CLOCK, STRICT, 60)
    assert times(notes) == [(2, 6 + shift), (6 + shift, 8.5)]


def test_a_silence_before_the_next_onset_is_kept() -> None:
    frame = column(0, 1, 1, 0, 1, 1, 0)
    onset = column(0, 1, 0, 0, 1, 0, 0)
    params = NoteDecoding(min_duration=0, max_gap=0.1)
    assert times(decode({"frame": frame, "onset": onset}, CLOCK, params, 60)) == [(1, 2.5), (4, 5.5)]


def test_a_second_peak_within_min_repeat_is_the_same_note() -> None:
    frame, onset = column(*[1] * 12), column(0, 0.9, 0.8, 0.85, 0, 0, 0, 0, 0.9, 0, 0, 0)
    params = NoteDecoding(min_duration=0, max_gap=0, min_repeat=0.05)
    assert len(decode({"frame": frame, "onset": onset}, CLOCK, params, 60)) == 2
    assert len(decode({"frame": frame, "onset": onset}, CLOCK, STRICT, 60)) == 3


def test_an_onset_without_sound_is_dropped_by_min_duration() -> None:
    heads = {"frame": np.zeros((8, 1)), "onset": column(0, 0, 0, 1, 0, 0, 0, 0)}
    assert times(decode(heads, CLOCK, STRICT, 60)) == [(3, 3.5)]
    assert len(decode(heads, CLOCK, NoteDecoding(), 60)) == 0


def test_the_offset_head_refines_the_end() -> None:
    heads = {"frame": column(0, 1, 1, 1, 0, 0, 0, 0, 0), "onset": column(0, 1, 0, 0, 0, 0, 0, 0, 0)}
    offset = column(0, 0, 0, 0.2, 0.8, 0.4, 0, 0, 0)
    expected = 4 + 0.2 / (2 * 0.6)
    assert times(decode({**heads, "offset": offset}, CLOCK, NoteDecoding(), 60)) == [(1, pytest.approx(expected))]
    far = column(0, 0, 0, 0, 0, 0, 0.2, 0.8, 0.4)
    assert times(decode({**heads, "offset": far}, CLOCK, NoteDecoding(), 60)) == [(1, 3.5)]


def test_velocity_is_read_at_the_peak() -> None:
    heads = {"frame": column(1, 1, 1, 1), "onset": column(0, 0.4, 1, 0), "velocity": column(1, 0.9, 64 / 127, 0)}
    assert decode(heads, CLOCK, STRICT, 60).velocity.tolist() == [64]
    assert len(decode(heads, CLOCK, NoteDecoding(min_velocity=65), 60)) == 0
    del heads["velocity"]
    assert decode(heads, CLOCK, NoteDecoding(min_velocity=65), 60).velocity.tolist() == [UNKNOWN]


def test_every_velocity_survives_its_target() -> None:
    velocities = np.arange(1, 128)
    assert (velocity_of((velocities / 127).astype(np.float16)) == velocities).all()
    assert velocity_of(np.array([-0.2, 0.0, 1.3])).tolist() == [1, 1, 127]


# --- peaks


def peaks(*values: float, threshold: float = 0.5) -> list[float]:
    padded = np.array([-1, *values, -1, -1, -1, -1], np.float32)[:, None]
    frame, _, shift = find_peaks(padded, threshold)
    return (frame + shift).tolist()


@given(apex=st.floats(3, 12), width=st.floats(1.5, 4), height=st.floats(0.3, 1))
def test_a_triangle_is_read_off_exactly(apex: float, width: float, height: float) -> None:
    triangle = height * np.maximum(0, 1 - np.abs(np.arange(16) - apex) / width)
    assert peaks(*triangle, threshold=0.01) == [pytest.approx(apex, abs=1e-3)]


def test_peaks_at_plateaus_and_edges() -> None:
    assert peaks(0, 1, 1, 1, 0) == [2]
    assert peaks(0, 1, 1, 0) == [1.5]
    assert peaks(0, 0.6, 0.6, 0.8, 0) == [pytest.approx(3 - 0.6 / (2 * 0.8))]  # a step upwards is no peak
    assert peaks(1, 0.6, 0) == [0]
    assert peaks(0, 0.6, 1) == [2]
    assert peaks(0.7) == [0]
    assert peaks(0, 0.49, 0) == []
    assert peaks(0, 0.5, 0) == [1]
    assert peaks(*[0.0] * 9) == []
    assert len(peaks(*[0.9] * 30)) == 1  # one note, not one a frame


# --- smoothing of onsets


def test_the_filter_is_the_triangle_of_the_targets() -> None:
    assert matched_filter(0).tolist() == matched_filter(1).tolist() == [1]
    assert matched_filter(2).tolist() == [0.25, 0.5, 0.25]
    np.testing.assert_allclose(matched_filter(2.5), np.array([0.2, 0.6, 1, 0.6, 0.2]) / 2.6)
    assert matched_filter(3).tolist() == pytest.approx([1 / 9, 2 / 9, 3 / 9, 2 / 9, 1 / 9])


@given(values=st.lists(st.integers(0, 4), min_size=1, max_size=30), cut=st.integers(0, 30), width=st.floats(0, 6))
def test_onsets_alone_are_convolved_and_stay_in_place(values: list[int], cut: int, width: float) -> None:
    raw, kernel = np.array(values) / 4, matched_filter(width)
    heads = {"onset": column(*raw), "frame": column(*raw), "velocity": column(*raw)}
    pieces = Pieces(kernel)
    done = [pieces.push({name: head[part] for name, head in heads.items()}) for part in (slice(cut), slice(cut, None))]
    done.append(pieces.finish())
    given_on = {name: np.concatenate([piece.heads[name] for piece in done])[:, 0] for name in heads}
    reach = len(kernel) // 2
    expected = np.convolve(raw, kernel)[reach : reach + len(raw)]
    np.testing.assert_allclose(given_on["onset"], expected, atol=1e-6)
    np.testing.assert_array_equal(given_on["frame"], heads["frame"][:, 0])
    np.testing.assert_array_equal(given_on["velocity"], heads["velocity"][:, 0])
    assert [piece.first_frame for piece in done] == [0, len(done[0]), len(done[0]) + len(done[1])]


def test_two_weak_peaks_of_one_uncertain_onset_become_one_note() -> None:
    heads = {"frame": column(0, 0, *[1] * 8, 0, 0), "onset": column(0, 0.1, 0.45, 0.3, 0.45, 0.1, 0, 0, 0, 0, 0, 0)}
    raw = NoteDecoding(onset_threshold=0.35, min_repeat=0, min_duration=0)
    shift = (0.3 - 0.1) / (2 * (0.45 - 0.1))
    assert [onset for onset, _ in times(decode(heads, CLOCK, raw, 60))] == pytest.approx([2 + shift, 4 - shift])
    smooth = raw.model_copy(update={"onset_threshold": 0.32, "onset_smoothing": 0.06})
    assert times(decode(heads, CLOCK, smooth, 60)) == [(3, 9.5)]  # (1 · 0.1 + 2 · 0.45 + 3 · 0.3 + …) / 9 = 0.322
    assert len(decode(heads, CLOCK, smooth.model_copy(update={"onset_threshold": 0.33}), 60)) == 0


@given(apex=st.floats(5, 12), width=st.floats(2, 4), smoothing=st.floats(0.021, 0.1))
def test_smoothing_moves_the_apex_of_a_triangle_by_a_tenth_of_a_frame_at_most(
    apex: float, width: float, smoothing: float
) -> None:
    onset = np.maximum(0, 1 - np.abs(np.arange(24) - apex) / width)
    params = NoteDecoding(onset_threshold=0.1, min_duration=0, onset_smoothing=smoothing)
    found = decode({"frame": column(*[1] * 24), "onset": column(*onset)}, CLOCK, params, 60)
    assert (found.onset * 50).tolist() == [pytest.approx(apex, abs=0.1)]


# --- laws


@settings(max_examples=150, deadline=None)
@given(
    heads=posteriorgram(),
    cuts=st.lists(st.integers(0, 60), max_size=20),
    gap=st.sampled_from([0, 0.02, 0.05]),
    smoothing=st.sampled_from([0, 0.05, 0.1]),
)
def test_any_chunking_gives_the_same_notes(heads: dict, cuts: list[int], gap: float, smoothing: float) -> None:
    params = NoteDecoding(max_gap=gap, min_repeat=gap, min_duration=0, onset_threshold=0.3, onset_smoothing=smoothing)
    decoder = NoteDecoder(CLOCK, params, 21)
    for start, stop in zip([0, *sorted(cuts)], [*sorted(cuts), 10**6], strict=True):
        decoder.push({name: values[start:stop] for name, values in heads.items()})
    assert decoder.finish() == decode(heads, CLOCK, params, 21)


@settings(max_examples=150, deadline=None)
@given(
    heads=posteriorgram(),
    cuts=st.lists(st.integers(0, 60), max_size=20),
    min_duration=st.sampled_from([0, 0.04, 0.1]),
    min_velocity=st.sampled_from([1, 70]),
)
def test_what_is_told_live_is_what_is_found_at_the_end(
    heads: dict, cuts: list[int], min_duration: float, min_velocity: int
) -> None:
    decoder = NoteDecoder(CLOCK, NoteDecoding(min_duration=min_duration, min_velocity=min_velocity), 21)
    told = []
    frames = len(heads["frame"])
    for start, end in itertools.pairwise(sorted({0, frames, *(min(cut, frames) for cut in cuts)})):
        decoder.push({name: values[start:end] for name, values in heads.items()})
        told += decoder.live()
        assert decoder.live() == []
    found = decoder.finish()
    told += decoder.live()
    ended = sorted((row["onset"], row["pitch"], row["offset"]) for row in told if row["event"] == "note")
    assert ended == sorted(zip(found.onset, found.pitch, found.offset, strict=True))
    begun = [(row["time"], row["pitch"]) for row in told if row["event"] == "onset"]
    assert len(set(begun)) == len(begun)
    assert set(begun) <= {(onset, pitch) for onset, pitch, _ in ended}, "an onset was told and never kept"


def test_a_long_note_is_told_while_it_sounds() -> None:
    heads = {"frame": np.zeros((40, 1), np.float32), "onset": np.zeros((40, 1), np.float32)}
    heads["frame"][5:30], heads["onset"][5] = 1, 1
    decoder = NoteDecoder(CLOCK, NoteDecoding(min_duration=0.04), 60)
    rows = []
    for frame in range(40):
        decoder.push({name: values[frame : frame + 1] for name, values in heads.items()})
        rows += [(frame, row) for row in decoder.live()]
    (early, onset), (late, note) = rows
    assert onset == {"event": "onset", "time": pytest.approx(CLOCK.frame_to_time(5)), "pitch": 60}
    assert early < 20 < 30 <= late
    assert (note["onset"], note["offset"]) == pytest.approx((CLOCK.frame_to_time(5), CLOCK.frame_to_time(29.5)))


@given(heads=posteriorgram())
def test_notes_of_a_pitch_never_overlap(heads: dict) -> None:
    notes = decode(heads, CLOCK, NoteDecoding(min_duration=0, offset_threshold=1), 21)
    for pitch in range(21, 24):
        one = notes[notes.pitch == pitch]
        assert (one.onset[1:] >= one.offset[:-1] - 1e-9).all()


@st.composite
def random_notes(draw) -> Notes:
    """Notes of three pitches, each at least six frames long."""
    notes = []
    for pitch in range(60, 63):
        now = draw(st.floats(2, 8))
        for _ in range(draw(st.integers(0, 4))):
            length = draw(st.floats(6, 14))
            notes.append(Note(now / 50, (now + length) / 50, pitch, draw(st.integers(1, 127))))
            now += length + draw(st.sampled_from([0.0, 0.1, 1.5, 5.0]))
    return Notes.from_list(notes)


def rasterise(notes: Notes, frames: int, width: float) -> dict[str, np.ndarray]:
    """Targets by their definition: a triangle at each onset, 1 where a note sounds at a frame's instant."""
    heads = {name: np.zeros((frames, 3), np.float32) for name in ("frame", "onset", "velocity")}
    for note in notes:
        for k in range(frames):
            instant, c = k / 50, note.pitch - 60
            heads["frame"][k, c] = max(heads["frame"][k, c], note.onset <= instant < note.offset)
            height = max(0.0, 1 - abs(k - note.onset * 50) / width)
            if height > heads["onset"][k, c]:
                heads["onset"][k, c] = height
                heads["velocity"][k, c] = note.velocity / 127
    return heads


@settings(max_examples=80, deadline=None)
@given(notes=random_notes())
def test_rasterised_notes_are_read_off(notes: Notes) -> None:
    heads = rasterise(notes, frames=110, width=2.5)
    found = decode(heads, CLOCK, NoteDecoding(max_gap=0, min_duration=0), 60)
    assert found.pitch.tolist() == notes.pitch.tolist()
    assert found.velocity.tolist() == notes.velocity.tolist()
    np.testing.assert_allclose(found.onset * 50, notes.onset * 50, atol=1e-3)
    # Frames alone tell an end to half a frame, or, where the next note leaves no silent frame, at its onset.
    np.testing.assert_allclose(found.offset * 50, notes.offset * 50, atol=0.501 + 0.1)


@settings(max_examples=80, deadline=None)
@given(spans=st.lists(st.tuples(st.floats(1.5, 9), st.floats(1.5, 9)), max_size=6))
def test_rasterised_runs_are_read_off_without_onsets(spans: list[tuple[float, float]]) -> None:
    edges = np.cumsum(np.array(spans).reshape(-1)).reshape(-1, 2)  # silence and sound in turn, each above a frame
    notes = Notes(edges[:, 0] / 50, edges[:, 1] / 50, np.full(len(edges), 61))
    found = decode({"frame": rasterise(notes, 120, 2.5)["frame"]}, CLOCK, STRICT, 60)
    assert len(found) == len(notes)
    np.testing.assert_allclose(found.intervals() * 50, notes.intervals() * 50, atol=0.501)


@pytest.mark.parametrize("piece", ["scn15_12", "bor_ps6"])
def test_targets_of_a_real_performance_are_read_off(shared_data: Path, piece: str) -> None:
    """What is trained for loses nothing: perfect activations give every note, its onset within 10 ms."""
    (path,) = (shared_data / "maps").glob(f"*-{piece}_*.tsv")
    played = scores.read(path)
    heads = {name: np.zeros((int(played.end * 50) + 10, 88), np.float32) for name in ("frame", "onset", "velocity")}
    for note in played:
        onset, pitch = note.onset * 50, note.pitch - 21
        heads["frame"][int(np.ceil(onset)) : int(np.ceil(note.offset * 50)), pitch] = 1
        for k in range(max(0, int(onset) - 2), int(onset) + 4):
            height = max(0.0, 1 - abs(k - onset) / 2.5)
            if height > heads["onset"][k, pitch]:
                heads["onset"][k, pitch], heads["velocity"][k, pitch] = height, note.velocity / 127
    found = decode(heads, CLOCK, NoteDecoding(), 21)
    pairs = [(n.intervals(), 440 * 2 ** ((n.pitch - 69) / 12)) for n in (played, found)]
    score = mir_eval.transcription.precision_recall_f1_overlap(*pairs[0], *pairs[1], onset_tolerance=0.01)
    assert score[2] == 1.0
    assert found.velocity.tolist() == played.velocity.tolist()


# --- errors and cost


def test_what_cannot_be_decoded_is_refused() -> None:
    with pytest.raises(ModelError, match="need a head 'frame', the model gives beat"):
        decode({"beat": np.zeros((3, 1))}, CLOCK, STRICT, 60)
    with pytest.raises(ModelError, match=r"'onset' has shape \(2, 1\), expected \(3, 1\)"):
        decode({"frame": np.zeros((3, 1)), "onset": np.zeros((2, 1))}, CLOCK, STRICT, 60)
    with pytest.raises(ModelError, match="'frame' holds activations that are not numbers"):
        decode({"frame": column(0, np.nan)}, CLOCK, STRICT, 60)
    decoder = NoteDecoder(CLOCK, STRICT, 60)
    decoder.push({"frame": np.zeros((3, 1))})
    with pytest.raises(ModelError, match="heads changed"):
        decoder.push({"frame": np.zeros((3, 1)), "onset": np.zeros((3, 1))})


def test_nothing_gives_nothing() -> None:
    assert NoteDecoder(CLOCK, STRICT, 21).finish() == Notes.empty()
    assert decode({"frame": np.zeros((0, 88))}, CLOCK, STRICT, 21) == Notes.empty()


def test_six_minutes_take_less_than_three_seconds() -> None:
    rng = np.random.default_rng(0)
    decoder = NoteDecoder(CLOCK, NoteDecoding(), 21)
    start = time.process_time()
    for _ in range(36):
        frame = rng.random((500, 88), np.float32) ** 4
        decoder.push({"frame": frame, "onset": frame[::-1], "velocity": frame})
    assert len(decoder.finish()) > 1000
    assert time.process_time() - start < 3

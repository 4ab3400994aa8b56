"""Listening against the whole recording: the same events, none later than was said."""

import dataclasses
import math
import types

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musicnet_tf import audio, live_audio, streaming, windowing
from musicnet_tf.decode.notes import NoteDecoding, decode
from musicnet_tf.errors import AudioError, ConfigError, ModelError
from musicnet_tf.live_audio import PIECE_SECONDS, Pcm
from musicnet_tf.manifest import Manifest
from musicnet_tf.models import HeadSpec, ModelSpec
from musicnet_tf.streaming import Lag, Latency, Listener, Sound
from musicnet_tf.timebase import FrameClock

RATE, HOP, CLASSES, MARGIN, FIRST_PITCH = 1000, 20, 3, 4, 60
DECODING = NoteDecoding(min_duration=0.08, max_gap=0.04)
ABSENT = 0.7  # what a model makes of frames that lack context: never to be believed


def geometry(num_frames: int = 30, origin: int = 0) -> ModelSpec:
    clock = FrameClock(RATE, HOP, origin)
    heads = {name: HeadSpec(CLASSES, FIRST_PITCH) for name in ("frame", "onset")}
    return ModelSpec(clock, num_frames * HOP, num_frames, MARGIN, heads)


class Open:
    """A model that sees through: the samples at a frame's instant and after it are its activations.

    So that sound can be made of activations, `sound_of`, and what should be heard is known exactly. The frames in
    the margins, which a real model hears without context, are wrong.
    """

    def __init__(self, spec: ModelSpec) -> None:
        self.manifest = Manifest(name="open", task="notes", spec=spec.to_dict())
        self.batches: list[int] = []

    def __call__(self, windows: np.ndarray) -> dict[str, np.ndarray]:
        spec = self.manifest.geometry
        assert windows.shape[1] == spec.window_length
        self.batches.append(len(windows))
        at = spec.clock.origin + HOP * np.arange(spec.num_frames)[:, None] + np.arange(2 * CLASSES)
        values = np.pad(windows, ((0, 0), (0, HOP)))[:, at].copy()
        values[:, :MARGIN] = values[:, spec.num_frames - MARGIN :] = ABSENT
        return {"frame": values[..., :CLASSES], "onset": values[..., CLASSES:]}

    def map(self, batches):
        raise AssertionError("whoever works on several windows at once tells of the first too late")


def sound_of(heads: dict[str, np.ndarray], extra: int = 0) -> np.ndarray:
    """Sound that `Open` hears as these activations, `(frames, CLASSES)`."""
    frames = np.concatenate([heads["frame"], heads["onset"], np.zeros((len(heads["frame"]), HOP - 2 * CLASSES))], 1)
    return np.concatenate([frames.ravel(), np.zeros(extra)]).astype(np.float32)


def melody(seed: int, num_frames: int) -> dict[str, np.ndarray]:
    """Notes at random, some of a frame or two, some with gaps, some that come again while they sound."""
    rng = np.random.default_rng(seed)
    frame, onset = np.zeros((2, num_frames, CLASSES), np.float32)
    for _ in range(num_frames // 6):
        start, length, pitch = rng.integers(num_frames), rng.integers(1, 40), rng.integers(CLASSES)
        frame[start : start + length, pitch] = rng.uniform(0.5, 1)
        onset[start, pitch] = rng.uniform(0.5, 1)
        if start and rng.random() < 0.5:
            onset[start - 1, pitch] = rng.uniform(0, 1)
    frame[rng.random(frame.shape) < 0.05] = 0
    return {"frame": frame, "onset": onset}


def pieces_of(samples: np.ndarray, sizes: list[int]) -> list[np.ndarray]:
    return np.split(samples, np.minimum(np.cumsum(sizes or [0]), len(samples)))


def through_a_pipe(samples: np.ndarray, sizes: list[int]) -> Sound:
    """The samples as raw floats in blocks of so many bytes."""
    data = samples.astype("<f4").tobytes()
    blocks = [bytes(block) for block in pieces_of(np.frombuffer(data, np.uint8), sizes)]
    pcm, pieces = live_audio.decode(blocks, "pipe", Pcm(RATE, 1, "FLOAT"))
    return Sound(pieces, pcm.sample_rate, RATE, "pipe")


def listened(sound: Sound, kept: int, spec: ModelSpec, decoding: NoteDecoding = DECODING):
    listener = Listener(sound, Open(spec), decoding, kept)
    rows = list(listener)
    return rows, listener.events


def told(notes, rows: list[dict]) -> bool:
    """Whether each note is told once when it ended, and each onset that was told is of one of them."""
    ended = [(row["onset"], row["offset"], row["pitch"]) for row in rows if row["event"] == "note"]
    begun = [(row["time"], row["pitch"]) for row in rows if row["event"] == "onset"]
    starts = [(note.onset, note.pitch) for note in notes]
    return (
        sorted(ended) == sorted((note.onset, note.offset, note.pitch) for note in notes)
        and len(set(begun)) == len(begun)
        and set(begun) <= set(starts)
    )


@settings(max_examples=25)
@given(
    seed=st.integers(0, 999),
    length=st.integers(1, 150),
    extra=st.integers(0, HOP),
    sizes=st.lists(st.integers(0, 3000), max_size=12),
    kept=st.integers(1, 22),
    origin=st.sampled_from([0, 10]),
)
def test_streamed_equals_whole_and_no_row_is_late(seed, length, extra, sizes, kept, origin) -> None:
    heads, spec = melody(seed, length), geometry(origin=origin)
    samples = sound_of(heads, extra)
    rows, events = listened(through_a_pipe(samples, sizes), kept, spec)
    padded = {name: np.pad(values, ((0, -(-extra // HOP)), (0, 0))) for name, values in heads.items()}
    clock = windowing.recording_clock(spec)
    assert events == decode(padded, clock, DECODING, FIRST_PITCH)
    assert told(events, rows)
    once, _ = listened(through_a_pipe(samples, []), kept, spec)
    assert rows == once  # and heard at the same moments, however the blocks were cut

    # A frame's activations come with those heard together, and with the piece that ends then; a peak is sure when
    # four frames more are seen, a note's beginning when it lasted min_duration and two frames more, its end when
    # max_gap is over.
    frame = HOP / RATE
    activations = (MARGIN + kept) * frame + PIECE_SECONDS
    for row in rows:
        ends = "offset" if row["event"] == "note" else "time"
        decided = DECODING.max_gap + 7 * frame + (DECODING.min_duration if ends == "time" else 0)
        assert row["heard"] - row[ends] <= activations + decided + 1e-9


def test_a_melody_is_told_when_it_was_counted() -> None:
    """By hand: one note of frames 10 to 29, pieces of 10 ms, frames of 20 ms, windows that keep one frame."""
    frame, onset = np.zeros((2, 60, CLASSES), np.float32)
    frame[10:30, 1] = onset[10, 1] = 1
    rows, _ = listened(through_a_pipe(sound_of({"frame": frame, "onset": onset}), []), 1, geometry())
    # The note is sure at frame 16: min_duration is 4 frames, an offset may be refined by 2. Frame 16 is decided
    # with frame 20, which is known once the 4 after it were heard: 25 frames of sound.
    first, last = rows
    assert (first["event"], first["time"], first["pitch"], first["heard"]) == ("onset", 0.2, 61, 25 * 0.02)
    # It ends at 29.5; frame 32 is more than 2 frames silent, and decided with frame 36: 41 frames of sound.
    assert (last["event"], last["onset"], last["pitch"]) == ("note", 0.2, 61)
    assert (last["offset"], last["heard"]) == pytest.approx((29.5 * 0.02, 41 * 0.02))


def test_who_goes_early_has_the_events_until_then() -> None:
    frame, onset = np.zeros((2, 200, CLASSES), np.float32)
    for start in range(0, 200, 50):
        frame[start : start + 20, 0] = onset[start, 0] = 1
    samples = sound_of({"frame": frame, "onset": onset})
    sound = Sound(np.split(samples, 400), RATE, RATE)
    listener = Listener(sound, Open(geometry()), DECODING, 1)
    rows = iter(listener)
    first = [next(rows) for _ in range(3)]
    assert [row["event"] for row in first] == ["onset", "note", "onset"] and sound.heard < 1.4
    (last,) = listener.finish()  # the second note, which ends where no more was heard
    assert (last["event"], last["onset"]) == ("note", 1.0) and last["offset"] < sound.heard
    assert listener.finish() == [] and len(listener.events) == 2


def test_windows_go_one_at_a_time() -> None:
    model = Open(geometry())
    list(Listener(Sound([np.zeros(5000, np.float32)], RATE, RATE), model, DECODING, 5))
    assert model.batches == [1] * 50


@pytest.mark.parametrize(("origin", "window"), [(0, 600), (10, 600), (300, 900), (0, 700), (512, 1024)])
@pytest.mark.parametrize("kept", [1, 2, 7, 22])
def test_look_ahead_is_what_windowing_hears(kept: int, origin: int, window: int) -> None:
    spec = dataclasses.replace(geometry(origin=origin), window_length=window)
    heard = 0

    def blocks():
        nonlocal heard
        for _ in range(3000):
            heard += 1
            yield np.zeros(1, np.float32)

    def nothing(windows: np.ndarray) -> dict[str, np.ndarray]:
        return {name: np.zeros((len(windows), spec.num_frames, CLASSES)) for name in spec.heads}

    chunks = windowing.posteriorgrams(blocks(), spec, nothing, batch_size=1, kept=kept)
    at = [heard for _ in chunks if heard < 3000]
    expected = [streaming.look_ahead(spec, kept) + n * kept * HOP for n in range(len(at))]
    assert at == expected and len(at) > 3


@pytest.mark.parametrize(
    ("source", "rate"), [(1000, 1000), (44100, 16000), (8000, 16000), (22050, 44100), (16001, 16000)]
)
def test_no_sample_is_held_longer_than_the_resampler_was_found_to(source: int, rate: int) -> None:
    """Two minutes hold none longer than the trial found, though the trial is of seconds."""
    delay = streaming.resampler_delay(source, rate)
    size = round(PIECE_SECONDS * source)
    noise = np.random.default_rng(0).normal(size=size).astype(np.float32)
    sound = Sound((noise for _ in range(12_000)), source, rate)
    held = max(sound.heard - sound.duration for _ in sound)
    assert held <= delay + 1 / rate
    assert (delay == 0) == (source == rate)
    assert delay < 0.15


@settings(max_examples=30)
@given(sizes=st.lists(st.integers(1, 4000), max_size=8), rate=st.sampled_from([8000, 11025, 16000]))
def test_sound_is_the_loaded_file_whatever_the_pieces(sizes: list[int], rate: int) -> None:
    samples = np.random.default_rng(len(sizes)).integers(-32768, 32767, 5000).astype(np.int16)
    sound = Sound(pieces_of((samples / 32768).astype(np.float32), sizes), 8000, rate)
    got = np.concatenate(list(sound))
    file = Pcm(8000).decode(samples.tobytes())[:, 0]
    np.testing.assert_array_equal(got, audio.resample(file, 8000, rate))
    assert (sound.heard, sound.duration) == (5000 / 8000, len(got) / rate)


def test_no_sound_is_told() -> None:
    with pytest.raises(AudioError, match="line in: no sample came"):
        list(Sound([np.zeros(0, np.float32)], 8000, 16000, "line in"))


class Telling(NoteDecoding):
    """Has a decoder that says by how much it looks ahead."""

    def start(self, spec: ModelSpec):
        return types.SimpleNamespace(look_ahead=0.25)


def test_frames_are_heard_together_as_the_latency_allows() -> None:
    spec = geometry()  # 22 frames of 20 ms between margins of 4; a frame is known 5 frames after its instant
    least = 0.25 + 0.10 + 0.01

    def kept(seconds: float | None) -> int:
        count, latency = streaming.plan(spec, Telling(), RATE, seconds)
        assert latency == Latency(0.01, 0.0, 0.1, pytest.approx((count - 1) * 0.02), 0.25)
        assert latency.total == pytest.approx(least + (count - 1) * 0.02)
        return count

    assert [kept(least + more) for more in (1e-6, 0.0199, 0.0201, 0.1, 9.0)] == [1, 1, 2, 6, 22]
    assert kept(None) == 16  # 0.3 s more than the least
    with pytest.raises(ConfigError, match=r"latency=0.35: .* 0.36 s \(.*\); allow 0.38 s"):
        streaming.plan(spec, Telling(), RATE, 0.35)


def test_a_latency_is_told_with_its_causes() -> None:
    latency = Latency(source=0.01, resampler=0.04, model=0.64, together=0.28, decoder=0.27)
    assert str(latency) == ("1.24 s (model 0.64, frames heard together 0.28, decoder 0.27, resampler and source 0.05)")
    unknown = dataclasses.replace(latency, decoder=None)
    assert unknown.total == pytest.approx(0.97)
    assert str(unknown).endswith("0.05) and what the decoder waits for")


def test_what_is_resampled_is_planned_for() -> None:
    _, latency = streaming.plan(geometry(), Telling(), 44100, None)
    assert latency.resampler == streaming.resampler_delay(44100, RATE) > 0


class Ahead:
    """What a reader ahead tells of itself: bytes that wait, seconds that the source took."""

    def __init__(self, waiting_seconds: float, took: float) -> None:
        self.waiting, self.took = round(waiting_seconds * 2 * RATE), took


def test_a_lag_is_told_when_it_begins_and_when_it_doubles() -> None:
    ahead = Ahead(0, 0)
    lag = Lag(ahead, Pcm(RATE))  # type: ignore[arg-type]
    told = []
    for waits in (0, 0.9, 1.0, 1.5, 1.9, 2.0, 3.9, 4.5, 0.4, 0.9, 1.2):
        ahead.waiting, ahead.took = round(waits * 2 * RATE), 10.0
        told.append(lag.grew(10.0 - waits))
    assert told == [0, 0, 1.0, 0, 0, 2.0, 0, 4.5, 0, 0, 1.2]


def test_what_comes_quicker_than_life_has_no_lag() -> None:
    pcm = Pcm(RATE)
    assert Lag(Ahead(20.0, took=0.1), pcm).seconds(heard=0.0) == 0  # type: ignore[arg-type]
    assert Lag(Ahead(20.0, took=19.5), pcm).seconds(heard=0.0) == 20.0  # type: ignore[arg-type]
    assert Lag(Ahead(20.0, took=119.5), pcm).seconds(heard=100.0) == 20.0  # type: ignore[arg-type]


def test_the_share_of_real_time_is_of_one_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows that take 1 (warming up), 0.3, 0.1 and 0.2 s, and keep 10 frames of 20 ms each: 0.2 of 0.2 s."""
    now, takes, spec = 0.0, iter([1.0, 0.3, 0.1, 0.2]), geometry()

    def predict(windows: np.ndarray) -> dict[str, np.ndarray]:
        nonlocal now
        now += next(takes)
        return model(windows)

    model = Open(spec)
    predict.manifest = model.manifest  # type: ignore[attr-defined]
    monkeypatch.setattr(streaming.time, "perf_counter", lambda: now)
    assert math.isclose(streaming.cost(predict, 10), 1.0)  # type: ignore[arg-type]


def test_a_broken_model_is_told() -> None:
    model = Open(geometry())
    narrow = dataclasses.replace(geometry(), heads={"frame": HeadSpec(CLASSES + 1, FIRST_PITCH)})
    model.manifest = model.manifest.model_copy(update={"spec": narrow.to_dict()})
    with pytest.raises(ModelError, match="head 'frame' has shape"):
        list(Listener(Sound([np.zeros(5000, np.float32)], RATE, RATE), model, DECODING, 5))

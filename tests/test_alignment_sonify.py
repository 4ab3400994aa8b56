"""What is played to a person who checks labels by ear."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from musicnet_tf import synthesis
from musicnet_tf.alignment import sonify
from musicnet_tf.errors import AudioError, OutputError
from musicnet_tf.events import Note, Notes

RATE = 22050
TRUTH = Notes.from_list([Note(0.5, 1.0, 69), Note(1.25, 2.0, 60), Note(1.25, 1.5, 76), Note(2.0, 2.5, 33)])
needs_soundfont = pytest.mark.skipif(not synthesis.find_soundfonts(), reason="no soundfont is installed")


def noise(seconds: float, amplitude: float = 0.1, rate: int = RATE) -> np.ndarray:
    return np.random.default_rng(0).normal(0, amplitude, round(seconds * rate)).astype(np.float32)


def peak_frequency(sound: np.ndarray, start: float, seconds: float = 0.15, rate: int = RATE) -> float:
    piece = sound[round(start * rate) : round((start + seconds) * rate)]
    spectrum = np.abs(np.fft.rfft(piece * np.hanning(len(piece)), 1 << 17))
    return float(np.fft.rfftfreq(1 << 17, 1 / rate)[spectrum.argmax()])


def decibels(sound: np.ndarray) -> float:
    return 10 * np.log10(np.mean(sound.astype(np.float64) ** 2))


def test_each_label_is_a_sine_of_its_pitch_from_its_onset_on() -> None:
    sound = sonify.sine_tones(TRUTH, 3 * RATE, RATE)
    assert sound.dtype == np.float32 and sound.shape == (3 * RATE,)
    assert peak_frequency(sound, 0.5) == pytest.approx(440.0, abs=0.5)
    assert peak_frequency(sound, 2.0) == pytest.approx(55.0, abs=0.5)
    chord = sound[round(1.25 * RATE) :][: RATE // 5]
    spectrum = np.abs(np.fft.rfft(chord * np.hanning(len(chord)), RATE))
    assert {int(k) for k in range(200, 800) if spectrum[k] == spectrum[k - 20 : k + 21].max()} >= {262, 659}
    heard = np.flatnonzero(np.abs(sound) > 1e-4) / RATE
    starts = [0.5, 1.25, 2.0]
    np.testing.assert_allclose([heard[heard > t - 0.1][0] for t in starts], starts, atol=0.002)
    for start in starts:
        assert not ((heard > start + 0.2) & (heard < start + 0.4)).any()


def test_tones_begin_and_end_without_a_click() -> None:
    # A click is a step: the largest second difference of a pure sine of amplitude a is a·ω².
    late = Notes.from_list([Note(0.0, 1, 69), Note(0.95, 1, 69)])  # at the very beginning, and cut by the end
    sound = sonify.sonify(np.zeros(RATE, np.float32), RATE, late)[:, 1].astype(np.float64)
    assert abs(sound[0]) < 1e-6 and abs(sound[-1]) < 1e-6
    steps = np.abs(np.diff(np.concatenate([[0], sound, [0]]), 2))
    assert steps.max() < 2.5 * np.abs(sound).max() * (2 * np.pi * 440 / RATE) ** 2


def test_an_instant_is_heard_once_however_many_play_it() -> None:
    alone = sonify.sine_tones(Notes.from_list([Note(0.1, 1, 60, instrument=40)]), RATE, RATE)
    unison = Notes.from_list([Note(0.1, 1, 60, instrument=40), Note(0.1, 0.5, 60, instrument=41)])
    np.testing.assert_array_equal(sonify.sine_tones(unison, RATE, RATE), alone)
    again = Notes.from_list([Note(0.1, 1, 60), Note(0.15, 1, 60)])  # a trill's tones add
    shifted = sonify.sine_tones(Notes.from_list([Note(0.15, 1, 60)]), RATE, RATE)
    np.testing.assert_allclose(sonify.sine_tones(again, RATE, RATE), alone + shifted, atol=1e-6)


def test_what_lies_outside_the_recording_or_the_spectrum_is_left_out() -> None:
    outside = Notes.from_list([Note(-0.5, 0.5, 60), Note(1.0, 2, 60), Note(9, 10, 60)])
    assert not sonify.sine_tones(outside, RATE, RATE).any()
    assert not sonify.sine_tones(Notes.from_list([Note(0, 1, 108)]), 8000, 8000).any()  # 4186 Hz
    assert sonify.sine_tones(Notes.from_list([Note(0, 1, 107)]), 8000, 8000).any()  # 3951 Hz


@pytest.mark.parametrize("amplitude", [1e-3, 0.3, 1.0])
def test_both_sides_are_equally_loud_and_below_full_scale(amplitude: float) -> None:
    audio = np.clip(noise(4, amplitude), -1, 1)
    audio[:RATE] = 0  # silence before the music is no part of its level
    onset = np.arange(1, 4, 0.15)
    mix = sonify.sonify(audio, RATE, Notes(onset, onset + 0.1, np.arange(60, 80)))
    assert np.abs(mix).max() == pytest.approx(10 ** (-1 / 20), rel=1e-5)
    assert np.corrcoef(mix[:, 0], audio)[0, 1] == pytest.approx(1.0)  # left is the recording
    assert decibels(mix[RATE:, 0]) == pytest.approx(decibels(mix[RATE:, 1]), abs=0.5)


def test_mono_is_the_sum_of_both_sides() -> None:
    audio = noise(3)
    stereo, mono = sonify.sonify(audio, RATE, TRUTH), sonify.sonify(audio, RATE, TRUTH, mono=True)
    assert mono.shape == audio.shape
    total = stereo.sum(axis=1)
    np.testing.assert_allclose(mono, total * (np.abs(mono).max() / np.abs(total).max()), atol=1e-5)
    assert np.abs(mono).max() == pytest.approx(10 ** (-1 / 20), rel=1e-5)


def test_silence_and_nothing_stay_silent() -> None:
    audio = noise(1)
    assert not sonify.sonify(audio, RATE, Notes.empty())[:, 1].any()
    assert not sonify.sonify(np.zeros(RATE, np.float32), RATE, TRUTH)[:, 0].any()
    assert not sonify.sonify(np.zeros(RATE, np.float32), RATE, Notes.empty()).any()
    assert sonify.sonify(np.zeros(0, np.float32), RATE, TRUTH).shape == (0, 2)


@settings(max_examples=30)
@given(
    seconds=st.floats(0.001, 2),
    rows=st.lists(st.tuples(st.floats(-1, 3), st.integers(0, 127)), max_size=20),
    mono=st.booleans(),
    rate=st.sampled_from([4000, 22050, 44100]),
)
def test_whatever_the_labels_the_mix_is_finite_and_never_clips(seconds, rows, mono, rate) -> None:
    audio = noise(seconds, rate=rate)
    notes = Notes.from_list([Note(onset, onset + 0.1, pitch) for onset, pitch in rows])
    mix = sonify.sonify(audio, rate, notes, mono=mono)
    assert len(mix) == len(audio) and np.isfinite(mix).all()
    assert np.abs(mix).max(initial=0) <= 10 ** (-1 / 20) + 1e-6


@needs_soundfont
def test_as_piano_whole_notes_sound_at_their_pitch() -> None:
    notes = Notes.from_list([Note(0.25, 1.5, 69, instrument=40)])
    sound = sonify.sonify(np.zeros(2 * RATE, np.float32), RATE, notes, voice="piano")[:, 1]
    assert np.abs(sound[: round(0.24 * RATE)]).max() < 1e-4
    assert peak_frequency(sound, 0.5, 0.5) == pytest.approx(440, abs=3)
    assert decibels(sound[RATE : round(1.4 * RATE)]) > decibels(sound) - 20  # held, unlike a sine
    piano = sonify.sonify(
        np.zeros(2 * RATE, np.float32), RATE, Notes.from_list([Note(0.25, 1.5, 69, instrument=0)]), voice="piano"
    )
    np.testing.assert_array_equal(piano[:, 1], sound)  # a violin's labels too are played on a piano


def test_piano_without_a_soundfont_names_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthesis, "find_soundfonts", list)
    with pytest.raises(AudioError, match=r"no soundfont .* apt install"):
        sonify.sonify(noise(1), RATE, TRUTH, voice="piano")


def test_the_file_holds_what_was_mixed(tmp_path: Path) -> None:
    audio = noise(30)  # more than one block of writing
    path = tmp_path / "check.flac"
    sonify.write(path, audio, RATE, TRUTH)
    assert (soundfile.info(path).format, soundfile.info(path).subtype) == ("FLAC", "PCM_16")
    read, rate = soundfile.read(path)
    assert rate == RATE
    np.testing.assert_allclose(read, sonify.sonify(audio, RATE, TRUTH), atol=1 / 32768)
    sonify.write(path, audio, RATE, TRUTH, mono=True)
    assert soundfile.info(path).channels == 1
    assert [p.name for p in tmp_path.iterdir()] == ["check.flac"]


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written as FLAC"):
        sonify.write(tmp_path / "missing" / "check.flac", noise(1), RATE, TRUTH)
    with pytest.raises(OutputError, match=r"check.flac: cannot be written as FLAC at 900000 Hz"):
        sonify.write(tmp_path / "check.flac", noise(1), 900_000, TRUTH)
    assert not list(tmp_path.iterdir())


def test_an_hour_takes_few_copies_of_itself(tmp_path: Path) -> None:
    seconds, rate = 3600, 4000
    rng = np.random.default_rng(0)
    onset = np.sort(rng.uniform(0, seconds, 30_000))
    notes = Notes(onset, onset + 0.1, rng.integers(40, 90, len(onset)))
    audio = np.tile(noise(60, rate=rate), 60)
    tracemalloc.start()
    sonify.write(tmp_path / "hour.flac", audio, rate, notes)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5 * audio.nbytes  # labels, two channels, one at work

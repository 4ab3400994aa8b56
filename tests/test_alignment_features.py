"""Frames that a recording and a synthesised score are compared by."""

from __future__ import annotations

import librosa
import numpy as np
import pytest

from musicnet_tf.alignment import features
from musicnet_tf.alignment.features import Frames
from musicnet_tf.alignment.settings import Features
from musicnet_tf.timebase import FrameClock

RATE = 22050


@pytest.fixture
def tone() -> np.ndarray:
    """Two seconds; A4 (MIDI 69) enters after one."""
    time = np.arange(2 * RATE) / RATE
    return (0.5 * np.sin(2 * np.pi * 440 * time) * (time >= 1)).astype(np.float32)


def test_a_tone_stands_in_its_own_band_from_where_it_begins(tone: np.ndarray) -> None:
    frames = features.extract(tone, RATE, Features(kind="pitch_onset"))
    middle = round(frames.clock.time_to_frame(1.5).item())
    assert frames.tonal[middle].argmax() == 69 - features.LOWEST
    np.testing.assert_allclose(np.linalg.norm(frames.tonal, axis=1), 1, rtol=1e-5)
    strongest = frames.onsets[:, 69 - features.LOWEST].argmax()
    assert frames.clock.frame_to_time(strongest) == pytest.approx(1.0, abs=0.025)


def test_a_posteriorgram_beside_the_spectrum_is_brought_to_its_clock(
    tone: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    tonal, onsets = rng.random((2, 120, 88)).astype(np.float32)
    tonal /= np.linalg.norm(tonal, axis=1, keepdims=True)
    heard = Frames(tonal, onsets, FrameClock(16000, 320, origin=160))
    monkeypatch.setattr(features, "_posteriorgram", lambda *_: heard)
    spectral = features.extract(tone, RATE, Features(kind="pitch_onset"))
    both = features.extract(tone, RATE, Features(kind="pitch_onset_posteriorgram"))
    assert both.clock == spectral.clock
    np.testing.assert_allclose(both.tonal[:, :88], spectral.tonal / np.sqrt(2), rtol=1e-5)
    np.testing.assert_array_equal(both.onsets[:, :88], spectral.onsets)
    # Frame 100 stands at 100 * 256 / 22050 = 1.16100 s: 0.5499 of the way from frame 57 (1.15 s) to 58 (1.17 s).
    part = (100 * 256 / 22050 - 1.15) / 0.02
    np.testing.assert_allclose(both.onsets[100, 88:], 2 * ((1 - part) * onsets[57] + part * onsets[58]), rtol=1e-4)
    np.testing.assert_allclose(both.tonal[100, 88:], ((1 - part) * tonal[57] + part * tonal[58]) / 2**0.5, rtol=1e-4)


def test_alike_sounds_are_nearer_than_others_whichever_way(tone: np.ndarray) -> None:
    louder = 0.5 * tone + 0.001 * np.random.default_rng(1).standard_normal(len(tone)).astype(np.float32)
    time = np.arange(2 * RATE) / RATE
    other = (0.5 * np.sin(2 * np.pi * 554.37 * time) * (time >= 1)).astype(np.float32)
    for kind in ("spectrogram", "chroma", "chroma_onset", "pitch_onset"):
        given = Features(kind=kind, window_length=4096)
        a, b, c = (features.extract(sound, RATE, given).tonal[120] for sound in (tone, louder, other))
        assert np.linalg.norm(a - b) < 0.5 * np.linalg.norm(a - c), kind


@pytest.mark.parametrize("log", [True, False])
def test_how_loud_the_whole_is_changes_nothing(tone: np.ndarray, log: bool) -> None:
    given = Features(kind="spectrogram", cutoff=50, log=log)
    loud, quiet = (features.extract(level * tone, RATE, given).tonal for level in (1.0, 0.05))
    np.testing.assert_allclose(loud, quiet, atol=1e-4)


def test_blocks_give_the_spectrum_of_the_whole(tone: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    given = Features(kind="spectrogram", window_length=2048, hop_length=512)
    monkeypatch.setattr(features, "_BLOCK_FRAMES", 7)
    found = np.concatenate(list(features._magnitudes(tone, given, 2048)))
    whole = np.abs(librosa.stft(tone, n_fft=2048, hop_length=512, window="hann")).T / 512
    np.testing.assert_allclose(found, whole, atol=1e-6)

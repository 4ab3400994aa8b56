"""The check by ear of the MusicNet paper's appendix A: the recording on the left, its labels on the right."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile

from musicnet_tf import files, scores, synthesis
from musicnet_tf.audio import quantise
from musicnet_tf.errors import AudioError, OutputError
from musicnet_tf.events import Notes

Voice = Literal["sine", "piano"]

_TONE_SECONDS = 0.2
_ATTACK_SECONDS = 0.005  # shorter clicks, longer blurs the instant that is to be judged
_PEAK = 10 ** (-1 / 20)  # 1 dB below full scale
_LEVEL_BLOCK_SECONDS = 0.4
_LEVEL_GATE = 10 ** (-10 / 10)  # blocks 10 dB below the mean are pauses, as in ITU-R BS.1770
_WRITE_BLOCK = 1 << 18
_MIN_SQUARE = 1e-14  # silence for 16 bits


def sonify(
    audio: np.ndarray,
    sample_rate: int,
    notes: Notes,
    *,
    voice: Voice = "sine",
    soundfont: str | Path | None = None,
    mono: bool = False,
) -> np.ndarray:
    """A recording beside what its labels say, both equally loud and together at most 1 dB below full scale.

    Args:
        audio: the recording, float32 mono `(n,)`.
        sample_rate: Hz.
        notes: labels in seconds of the recording; those that begin outside it are not heard.
        voice: `sine` plays a short sine at the fundamental of each note at its onset, as the paper does,
            `piano` the notes on a soundfont.
        soundfont: file for `piano`; None takes the first that is installed.
        mono: mix both into one channel, where beats and dissonance betray a wrong label.

    Returns:
        Float32 `(n, 2)`: recording, labels; `(n,)` with `mono`.

    Raises:
        AudioError: where the piano cannot be played.
    """
    if voice == "piano":
        labels = _piano(notes, len(audio), sample_rate, soundfont)
    else:
        labels = sine_tones(notes, len(audio), sample_rate)
    _fade_out(labels, sample_rate)
    mix = np.zeros((len(audio), 1 if mono else 2), np.float32)
    for sound, channel in ((audio, 0), (labels, -1)):
        if level := _level(sound, sample_rate):
            mix[:, channel] += sound / np.float32(level)
    mix = mix[:, 0] if mono else mix
    peak = max(mix.max(initial=0.0), -mix.min(initial=0.0))
    mix *= _PEAK / peak if peak else 1.0
    return mix


def write(
    path: str | Path,
    audio: np.ndarray,
    sample_rate: int,
    notes: Notes,
    *,
    voice: Voice = "sine",
    soundfont: str | Path | None = None,
    mono: bool = False,
) -> None:
    """Writes what `sonify` gives as 16-bit FLAC.

    Raises:
        AudioError: where the piano cannot be played.
        OutputError: where the file cannot be written.
    """
    mix = sonify(audio, sample_rate, notes, voice=voice, soundfont=soundfont, mono=mono)
    channels = 1 if mix.ndim == 1 else mix.shape[1]
    try:
        with (
            files.atomic(path) as part,
            soundfile.SoundFile(os.fsencode(part), "w", sample_rate, channels, "PCM_16", format="FLAC") as sound,
        ):
            for start in range(0, len(mix), _WRITE_BLOCK):
                sound.write(quantise(mix[start : start + _WRITE_BLOCK]))
    except soundfile.SoundFileError as error:
        raise OutputError(f"{path}: cannot be written as FLAC at {sample_rate} Hz ({error})") from error


# Libraries were asked first. For an hour at 44.1 kHz mir_eval.sonify.time_frequency holds a matrix of pitches by
# samples (over 100 GB), its `clicks` overwrite one another, and pretty_midi.synthesize holds four arrays of
# doubles as long as the sound and starts notes without a ramp.
def sine_tones(notes: Notes, num_samples: int, sample_rate: int) -> np.ndarray:
    """A short sine at the fundamental of each note from its onset on, float32 `(num_samples,)`.

    Each pitch sounds once at an instant, however many instruments play it. Low tones are stronger, since
    ears and loudspeakers are weak there. Pitches above the Nyquist frequency are left out.
    """
    sound = np.zeros(num_samples, np.float32)
    onset = np.rint(notes.onset * sample_rate).astype(np.int64)
    inside = (onset >= 0) & (onset < num_samples)
    for pitch in np.unique(notes.pitch).tolist():
        tone = _tone(pitch, sample_rate)
        for start in np.unique(onset[inside & (notes.pitch == pitch)]).tolist():
            sound[start : start + len(tone)] += tone[: num_samples - start]
    return sound


def _fade_out(sound: np.ndarray, sample_rate: int) -> None:
    """Silences the end in place, where the recording may cut a label off."""
    end = sound[max(0, len(sound) - round(_ATTACK_SECONDS * sample_rate)) :]
    end *= np.linspace(1, 0, len(end), dtype=np.float32)


def _tone(pitch: int, sample_rate: int) -> np.ndarray:
    """A sine that rises within the attack and dies away."""
    frequency = 440.0 * 2 ** ((pitch - 69) / 12)
    if frequency >= sample_rate / 2:
        return np.zeros(0, np.float32)
    seconds = np.arange(round(_TONE_SECONDS * sample_rate)) / sample_rate
    rise = np.clip(seconds / _ATTACK_SECONDS, 0, 1)
    fall = np.clip((_TONE_SECONDS - seconds) / (_TONE_SECONDS - _ATTACK_SECONDS), 0, 1)
    envelope = np.sin(np.pi / 2 * rise) ** 2 * np.sin(np.pi / 2 * fall) ** 2
    loudness = np.clip((440.0 / frequency) ** 0.5, 0.25, 4.0)
    return (loudness * envelope * np.sin(2 * np.pi * frequency * seconds)).astype(np.float32)


def _piano(notes: Notes, num_samples: int, sample_rate: int, soundfont: str | Path | None) -> np.ndarray:
    if soundfont is None:
        installed = synthesis.find_soundfonts()
        if not installed:
            raise AudioError(
                "no soundfont is installed to play the labels as piano; on Debian: apt install fluid-soundfont-gm,"
                f" or name one in {synthesis.SOUNDFONT_VARIABLE}, or take sines"
            )
        soundfont = installed[0]
    on_piano = scores.with_columns(notes, instrument=np.zeros(len(notes), np.int64))
    sound = synthesis.render(on_piano, soundfont, sample_rate, duration=num_samples / sample_rate)
    return np.pad(sound, (0, max(0, num_samples - len(sound))))[:num_samples]


def _level(sound: np.ndarray, sample_rate: int) -> float:
    """Root mean square over what is not a pause; 0.0 for silence."""
    size = min(len(sound), round(_LEVEL_BLOCK_SECONDS * sample_rate))
    if not size:
        return 0.0
    blocks = sound[: len(sound) // size * size].reshape(-1, size)
    power = np.einsum("ij,ij->i", blocks, blocks) / size  # without a second array of the same length
    power = power[power > _MIN_SQUARE]
    if not len(power):
        return 0.0
    return float(np.sqrt(power[power >= _LEVEL_GATE * power.mean()].mean()))

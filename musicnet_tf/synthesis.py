"""Notes → audio, by the FluidSynth program and a General MIDI soundfont."""

from __future__ import annotations

import functools
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pretty_midi

from musicnet_tf import audio, scores
from musicnet_tf.errors import AudioError
from musicnet_tf.events import Note, Notes

SOUNDFONT_VARIABLE = "MUSICNET_SOUNDFONTS"
"""Environment variable: soundfonts, or folders of them, separated as in PATH; searched before the usual places."""

SOUNDFONT_FOLDERS = (
    Path("/usr/share/sounds/sf2"),
    Path("/usr/share/sounds/sf3"),
    Path("/usr/share/soundfonts"),
    Path("/usr/local/share/soundfonts"),
    Path("~/.local/share/soundfonts"),
)

_RENDER_RATE = 44100
"""FluidSynth plays at the rate of the samples themselves and is resampled after: its own interpolation
does not filter, so that a lower rate would fold everything above half of it back into the music."""

_PROBE_RATE = 16000
_RANGES = {40: (57, 84), 41: (50, 77), 42: (38, 65), 43: (28, 50), 70: (38, 65), 73: (62, 86)}
"""Program → the lowest and the highest pitch that it is probed at, where that is not about middle C."""
_BEND_CENTS = 200  # of a whole pitch bend, where nothing else is told
_VOLUME = 7  # controller; 100 where nothing is told
_PREFERRED = ("MuseScore_General", "FluidR3_GM", "GeneralUser")
_HEADER_BYTES = 65536  # the INFO list comes first
_TAIL_SECONDS = 1.0
_SILENCE = 1e-4  # a reverberation without input is not quite zero


def render(
    notes: Notes,
    soundfont: str | Path,
    sample_rate: int,
    *,
    duration: float | None = None,
    gain: float = 0.5,
    reverb: bool = True,
    cents: Mapping[int, float] | None = None,
    level_db: Mapping[int, float] | None = None,
    drums: Notes | None = None,
    timeout: float = 600.0,
) -> np.ndarray:
    """Plays notes on a soundfont. The same input gives the same output on the same machine.

    Args:
        notes: in seconds, instruments as General MIDI programs; what lies before 0 is not played.
        soundfont: an .sf2 or .sf3 file.
        sample_rate: of the result.
        duration: seconds of the result; by default the last offset and one second of tail.
        gain: FluidSynth's master gain. The result is not normalised and may exceed 1 where it is high.
        reverb: FluidSynth's default reverberation; the chorus is always off.
        cents: program → hundredths of a semitone by which it is tuned higher, at most 200 either way.
        level_db: program → decibels by which it is louder, at most 0; a channel's volume has 127 steps.
        drums: what the percussion channel plays: pitches are keys of the General MIDI percussion map, the instrument
            is the program of the kit, one alone; tuning and levels are not theirs.
        timeout: seconds after which the program is given up.

    Returns:
        Float32 mono `(round(duration * sample_rate),)`.

    Raises:
        AudioError: where FluidSynth or the soundfont is missing, or the program fails.
    """
    drums = Notes.empty() if drums is None else drums
    duration = max(notes.end, drums.end) + _TAIL_SECONDS if duration is None else duration
    length = max(0, round(duration * sample_rate))
    notes, drums = (part[(part.offset > 0) & (part.onset < duration)] for part in (notes, drums))
    num_notes = len(notes) + len(drums)
    if not num_notes or not length:
        return np.zeros(length, np.float32)
    midi = scores.to_midi(notes)
    for instrument in midi.instruments:
        _set_up(instrument, (cents or {}).get(instrument.program, 0.0), (level_db or {}).get(instrument.program, 0.0))
    for instrument in scores.to_midi(drums).instruments:
        instrument.is_drum = True
        midi.instruments.append(instrument)
    sound = _resample(_play(midi, num_notes, Path(soundfont), duration, gain, reverb, timeout), sample_rate)[:length]
    return np.pad(sound, (0, length - len(sound)))


@functools.lru_cache(maxsize=1024)
def attack(soundfont: Path, program: int, level_db: float = -16.0) -> float:
    """Seconds from a note's onset to where an instrument of a soundfont is heard: a bow takes tens of milliseconds.

    That is where the amplitude over 5 ms first comes within `level_db` of its largest in the first half second, the
    median of notes at three pitches and two velocities. People who mark onsets by hand mark about there: in Bach10,
    harmonics of the violin are 16 dB below their largest 3 ms before the mark, where soundfonts need 20 ms.

    Raises:
        AudioError: as `render`.
    """
    low, high = _RANGES.get(program, (48, 72))
    pitches = (low, (low + high) // 2, high)
    probes = [(pitch, velocity) for pitch in pitches for velocity in (50, 90)]
    notes = [Note(1 + 2.0 * k, 2 + 2.0 * k, pitch, velocity, program) for k, (pitch, velocity) in enumerate(probes)]
    audio = render(Notes.from_list(notes), soundfont, _PROBE_RATE, duration=2.0 * len(probes) + 1, reverb=False)
    window = _PROBE_RATE // 200
    power = np.convolve(np.square(audio), np.full(window, 1 / window), "same")
    heard = []
    for k in range(len(probes)):
        start = round((1 + 2 * k) * _PROBE_RATE)
        early = power[start : start + _PROBE_RATE // 2]
        heard.append(int(np.argmax(early >= early.max() * 10 ** (level_db / 10))) / _PROBE_RATE)
    return float(np.median(heard))


def find_soundfonts() -> list[Path]:
    """Every soundfont in `MUSICNET_SOUNDFONTS` and the usual places, by file name, each file once."""
    places = [Path(p) for p in os.environ.get(SOUNDFONT_VARIABLE, "").split(os.pathsep) if p]
    found: dict[Path, None] = {}
    for place in [*places, *SOUNDFONT_FOLDERS]:
        place = place.expanduser()
        files = [place] if place.is_file() else sorted(place.glob("*.sf[23]"))
        found.update(dict.fromkeys(file.resolve() for file in files if file.is_file()))
    return sorted(found, key=lambda file: (file.name, str(file)))


def default_soundfont() -> Path:
    """The installed soundfont to use where none is named: of a full General MIDI set, if there is one.

    Raises:
        AudioError: where none is installed.
    """
    found = find_soundfonts()
    if not found:
        raise AudioError(
            f"no soundfont is installed; on Debian: apt install fluid-soundfont-gm, or name one in {SOUNDFONT_VARIABLE}"
        )
    return min(found, key=lambda file: next((k for k, name in enumerate(_PREFERRED) if name in file.name), 99))


def licence(soundfont: str | Path) -> str:
    """What a soundfont says of its copyright (the ICOP entry of its header), empty where it says nothing.

    Raises:
        AudioError: where the file cannot be read.
    """
    try:
        with Path(soundfont).open("rb") as file:
            header = file.read(_HEADER_BYTES)
    except OSError as error:
        raise AudioError(f"{soundfont}: no such soundfont ({error.strerror}); name another") from error
    place = header.find(b"ICOP")
    if not header.startswith(b"RIFF") or place < 0 or place + 8 > len(header):
        return ""
    (size,) = struct.unpack_from("<I", header, place + 4)
    return " ".join(header[place + 8 : place + 8 + size].split(b"\0")[0].decode("utf-8", "replace").split())


def _program() -> str:
    program = shutil.which("fluidsynth")
    if program is None:
        raise AudioError(
            "fluidsynth: the program is not installed; on Debian: apt install fluidsynth fluid-soundfont-gm"
        )
    return program


def _set_up(instrument: pretty_midi.Instrument, cents: float, level_db: float) -> None:
    """Tuning and volume of a channel, told before its first note."""
    if cents:
        bend = int(np.clip(round(8192 * cents / _BEND_CENTS), -8192, 8191))
        instrument.pitch_bends.append(pretty_midi.PitchBend(bend, 0.0))
    if level_db:  # General MIDI 1: the level is 40 log10 of the volume's share of 127
        volume = int(np.clip(round(127 * 10 ** (level_db / 40)), 1, 127))
        instrument.control_changes.append(pretty_midi.ControlChange(_VOLUME, volume, 0.0))


def _play(
    midi: pretty_midi.PrettyMIDI,
    num_notes: int,
    soundfont: Path,
    duration: float,
    gain: float,
    reverb: bool,
    timeout: float,
) -> np.ndarray:
    program = _program()
    if not soundfont.is_file():
        raise AudioError(
            f"{soundfont}: no such soundfont; on Debian: apt install fluid-soundfont-gm, or name one in"
            f" {SOUNDFONT_VARIABLE}"
        )
    with tempfile.TemporaryDirectory(prefix="musicnet-") as folder:
        score, raw = Path(folder) / "score.mid", Path(folder) / "audio.raw"
        midi.write(str(score))
        # Without a default soundfont a damaged one is an error, and not silently another instrument.
        settings = {"synth.cpu-cores": 1, "synth.dynamic-sample-loading": 1, "synth.default-soundfont": ""}
        command = [program, "-n", "-i", "-f", os.devnull, "-C", "0", "-R", str(int(reverb)), "-g", str(gain)]
        command += [part for key, value in settings.items() for part in ("-o", f"{key}={value}")]
        command += [
            "-r",
            str(_RENDER_RATE),
            "-T",
            "raw",
            "-O",
            "float",
            "-E",
            "little",
            "-F",
            str(raw),
            str(soundfont.resolve()),
            str(score),
        ]
        try:
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=timeout)
        except subprocess.TimeoutExpired as error:
            raise AudioError(f"fluidsynth: gave no audio within {timeout:g} s for {num_notes} notes") from error
        stereo = np.fromfile(raw, "<f4") if raw.exists() else np.zeros(0, np.float32)
    said = done.stdout + done.stderr
    if done.returncode or "not a SoundFont" in said or np.abs(stereo).max(initial=0.0) < _SILENCE:
        told = [line.strip() for line in said.splitlines() if "error" in line.lower() or "not a" in line]
        why = " ".join(told) or f"exit status {done.returncode}, silent output"
        raise AudioError(f"{soundfont}: fluidsynth cannot play {num_notes} notes with it: {why[:300]}")
    return stereo[: 2 * (round(duration * _RENDER_RATE) + 1)].reshape(-1, 2).mean(axis=1)


def _resample(played: np.ndarray, sample_rate: int) -> np.ndarray:
    """At another rate, level and all: `audio.resample` would clip a mix that exceeds full scale."""
    headroom = 2.0 * max(1.0, float(np.abs(played).max(initial=0.0)))  # a filter overshoots by less than twice
    return headroom * audio.resample(played / headroom, _RENDER_RATE, sample_rate, "fluidsynth")

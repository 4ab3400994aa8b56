"""Ways to align, ours and peers', each: a pair, its sound and the score's sound → seconds of each note of the score."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import librosa
import numpy as np

from benchmarks import alignment_truth
from benchmarks.alignment_truth import Pair
from musicnet_tf import alignment, audio, files, synthesis
from musicnet_tf.alignment.settings import Settings
from musicnet_tf.errors import AlignmentError
from musicnet_tf.events import Notes
from musicnet_tf.scores import with_columns

SAMPLE_RATE = 22050
SCORE_PLAYED_ON = "MuseScore_General_Full.sf3"
SYNCTOOLBOX = "synctoolbox==1.4.2"

_WINDOW = 2048
_BYTES_A_CELL = 24  # costs and sums in float64, steps in int32, and the same again while they are traced
_MAX_BYTES = 4 * 2**30
_TICKS = 960


class Way(NamedTuple):
    """A way to align.

    Attributes:
        name: in the table.
        settings: ours; None for a peer.
        python: of synctoolbox's own environment.
    """

    name: str
    settings: Settings | None = None
    python: str = ""

    def key(self) -> str:
        """A name for files, which differs where the settings do."""
        told = "" if self.settings is None else json.dumps(self.settings.model_dump(), sort_keys=True)
        return f"{self.name}-{hashlib.sha256(told.encode()).hexdigest()[:8]}"

    def code(self) -> str:
        """A fingerprint of what computes it, to tell stale results by."""
        sources = [Path(__file__)]
        if self.settings is not None:
            sources += sorted(Path(alignment.__file__).parent.glob("*.py"))
        return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:12]


def onsets(way: Way, pair: Pair, cache: Path) -> tuple[np.ndarray, dict[str, Any]]:
    """Seconds of each of `pair.score.notes` by a way, NaN where it left the note out, and plain details.

    Raises:
        MusicNetError: where the way cannot align the pair.
    """
    sound = alignment_truth.render(pair, cache)
    if way.settings is not None:
        return _ours(pair, sound, way.settings)
    notes = pair.score.notes
    stretch = len(audio.load(sound, SAMPLE_RATE)) / SAMPLE_RATE / notes.end
    path, details = _PEERS[way.name](sound, score_sound(pair, stretch, cache), way)
    return along(path, notes.onset * stretch), details


def score_sound(pair: Pair, stretch: float, cache: Path) -> Path:
    """The score, as long as the recording, on the soundfont that our aligner is given; made once.

    At the score's own tempi some recordings last four times as long, which no feature rate would outweigh.
    """
    path = files.make_folder(cache / "scores") / f"{pair.id}.flac"
    if not path.is_file():
        notes = pair.score.notes
        notes = with_columns(notes, onset=notes.onset * stretch, offset=notes.offset * stretch)
        sound = synthesis.render(notes, alignment_truth.soundfont(SCORE_PLAYED_ON), SAMPLE_RATE)
        sound *= 0.9 / max(float(np.abs(sound).max(initial=0.0)), 1e-9)
        with files.atomic(path) as part:
            part.write_bytes(audio.encode(sound, SAMPLE_RATE, "flac"))
    return path


def along(path: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """Seconds of the recording at seconds of the score, along a warp `(p, 2)` of the same; plateaus at their middle."""
    order = np.lexsort((path[:, 0], path[:, 1]))
    score, index = np.unique(path[order, 1], return_inverse=True)
    recording = np.bincount(index, path[order, 0]) / np.bincount(index)
    return np.interp(seconds, score, recording)


def of_score(score: Notes, labels: Notes) -> tuple[np.ndarray, int]:
    """Seconds of each note of the score in its labels, NaN where it has none; and how many labels are left over.

    A note is known by its beat, pitch and instrument. Of one that was labelled twice the first counts.
    """
    waiting: dict[tuple[int, int, int], list[float]] = defaultdict(list)
    for key, onset in zip(_keys(labels), labels.onset.tolist(), strict=True):
        waiting[key].append(onset)
    found = np.full(len(score), np.nan)
    for i, key in enumerate(_keys(score)):
        if waiting[key]:
            found[i] = waiting[key].pop(0)
    return found, sum(map(len, waiting.values()))


def _keys(notes: Notes) -> list[tuple[int, int, int]]:
    ticks = np.round(notes.start_beat * _TICKS).astype(np.int64)
    return list(zip(ticks.tolist(), notes.pitch.tolist(), notes.instrument.tolist(), strict=True))


def _ours(pair: Pair, sound: Path, settings: Settings) -> tuple[np.ndarray, dict[str, Any]]:
    from musicnet_tf.alignment import aligner

    settings = settings.model_copy(update={"soundfont": str(alignment_truth.soundfont(SCORE_PLAYED_ON))})
    rate = audio.probe(sound).sample_rate
    found = aligner.align(audio.load(sound), rate, pair.score, settings)
    seconds, extra = of_score(pair.score.notes, found.notes)
    details = {
        "accepted": found.accepted,
        "confidence": found.confidence,
        "findings": [finding.kind for finding in found.findings],
        "extra": extra,
    }
    return seconds, details


def _librosa_stft(sound: Path, score: Path, way: Way) -> tuple[np.ndarray, dict[str, Any]]:
    """Magnitudes of an STFT, cosine distance, librosa's default steps, at the least hop that fits 4 GiB."""

    def features(samples: np.ndarray, hop: int) -> np.ndarray:
        return np.abs(librosa.stft(samples, n_fft=_WINDOW, hop_length=hop))

    return _librosa(sound, score, features, 512)


def _librosa_chroma(sound: Path, score: Path, way: Way) -> tuple[np.ndarray, dict[str, Any]]:
    """As librosa's gallery has it: constant-Q chroma at a hop of 1024, cosine distance."""

    def features(samples: np.ndarray, hop: int) -> np.ndarray:
        return librosa.feature.chroma_cqt(y=samples, sr=SAMPLE_RATE, hop_length=hop)

    return _librosa(sound, score, features, 1024)


def _librosa(
    sound: Path, score: Path, features: Callable[[np.ndarray, int], np.ndarray], hop: int
) -> tuple[np.ndarray, dict[str, Any]]:
    recording, played = (audio.load(path, SAMPLE_RATE) for path in (sound, score))
    while len(recording) / hop * (len(played) / hop) * _BYTES_A_CELL > _MAX_BYTES:
        hop *= 2
    x, y = (librosa.util.normalize(features(samples, hop), norm=2, axis=0) for samples in (recording, played))
    # metric="cosine" gives the same costs, by a slower way
    _, path = librosa.sequence.dtw(C=1 - x.T.astype(np.float64) @ y)
    return path[::-1] * hop / SAMPLE_RATE, {"hop_length": hop}


def _synctoolbox(sound: Path, score: Path, way: Way) -> tuple[np.ndarray, dict[str, Any]]:
    script = Path(__file__).with_name("_alignment_peers_synctoolbox.py")
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "path.npy"
        done = subprocess.run(
            [way.python, str(script), str(sound), str(score), str(target)], capture_output=True, text=True
        )
        if done.returncode:
            said = done.stderr.strip().splitlines()
            raise AlignmentError(f"synctoolbox: {said[-1] if said else f'exit status {done.returncode}'}")
        return np.load(target, allow_pickle=False), {}


_PEERS = {"librosa_stft": _librosa_stft, "librosa_chroma": _librosa_chroma, "synctoolbox": _synctoolbox}


def peers(folder: Path) -> list[Way]:
    """All peers; synctoolbox is installed into an environment of its own in `folder`, once.

    Its requirements would change the versions that the library is tested with. Where it cannot be installed
    that is printed, and the others are returned.
    """
    found = [Way("librosa_stft"), Way("librosa_chroma")]
    try:
        found.append(Way("synctoolbox", python=str(install_synctoolbox(folder))))
    except AlignmentError as error:
        print(error, file=sys.stderr)
    return found


def install_synctoolbox(folder: Path) -> Path:
    """The Python of an environment that has synctoolbox; made where it is not there yet.

    Raises:
        AlignmentError: where it cannot be installed, with the last line that the installer said.
    """
    python = folder / "bin" / "python"
    uv = shutil.which("uv")
    make = [uv, "venv", "-q", str(folder)] if uv else [sys.executable, "-m", "venv", str(folder)]
    install = [uv, "pip", "install", "-q", "--python", str(python)] if uv else [str(python), "-m", "pip", "install"]
    check = [str(python), "-c", "import synctoolbox"]
    if python.is_file() and not subprocess.run(check, capture_output=True).returncode:
        return python
    for command in (make, [*install, SYNCTOOLBOX], check):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            said = done.stderr.strip().splitlines()
            raise AlignmentError(f"{SYNCTOOLBOX}: cannot be installed in {folder}: {said[-1] if said else 'no reason'}")
    return python

"""Notes and posteriorgrams → the files a musician or a researcher opens. Each is whole or absent."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

import musicnet_tf
from musicnet_tf import files, scores
from musicnet_tf.errors import ConfigError, OutputError
from musicnet_tf.events import UNKNOWN, Notes
from musicnet_tf.registry import nearest
from musicnet_tf.timebase import FrameClock

Observation = tuple[float, float, Any, float | None]
"""A row of a JAMS annotation: time and duration in seconds, value, confidence."""


class Annotation(NamedTuple):
    """What one annotation of a JAMS file holds.

    Attributes:
        namespace: of JAMS, which says what values are.
        rows: in the order of time.
        rules: how values are to be read, where the namespace does not say.
    """

    namespace: str
    rows: Iterable[Observation]
    rules: str = ""


_CLOCK_FIELDS = ("sample_rate", "hop_length", "origin")


@dataclasses.dataclass(frozen=True)
class Transcript:
    """All that is known of a recording once it has been heard.

    Attributes:
        events: what was found; `Notes` for the formats here.
        duration: seconds of audio.
        title: of the recording, for people to read.
        model: name of the model that listened.
        posteriorgram: the model's activations, where a format needs them.
        recording: the file that was heard, where it was one.
    """

    events: Any
    duration: float
    title: str = ""
    model: str = ""
    posteriorgram: PosteriorgramSpool | None = None
    recording: Path | None = None


class PosteriorgramSpool:
    """Activations that arrive piece by piece, kept on disk in nameless files until they are written.

    Memory does not grow with the recording, and a killed process leaves nothing behind.

    Args:
        folder: where there is room; the output folder, as a rule.
        clock: of the frames.
        first_pitch: MIDI number of class 0.
    """

    def __init__(self, folder: str | Path, clock: FrameClock, first_pitch: int) -> None:
        self.clock = clock
        self.first_pitch = first_pitch
        self._folder = Path(folder)
        self._files: dict[str, IO[bytes]] = {}
        self._shapes: dict[str, tuple[int, int]] = {}

    def __enter__(self) -> PosteriorgramSpool:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            with contextlib.suppress(OSError):  # a full disk, of which `push` told already: what waits is thrown away
                file.close()

    def push(self, heads: Mapping[str, np.ndarray]) -> None:
        """Appends the next frames: head → activations `(frames, num_classes)`, kept as float16.

        Raises:
            OutputError: where the disk is full or the folder cannot be written to.
        """
        try:
            for name, values in heads.items():
                if name not in self._files:
                    self._files[name] = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115  # closed in __exit__
                self._files[name].write(np.ascontiguousarray(values, "<f2").tobytes())
                frames = self._shapes.get(name, (0, 0))[0] + len(values)
                self._shapes[name] = (frames, values.shape[1])
        except OSError as error:
            raise OutputError(f"{self._folder}: cannot keep the posteriorgram there ({error.strerror})") from error

    def read(self) -> dict[str, np.ndarray]:
        """All of it in memory: head → float32 `(frames, num_classes)`."""
        heads = {}
        for name, file in self._files.items():
            file.seek(0)
            heads[name] = np.frombuffer(file.read(), "<f2").reshape(self._shapes[name]).astype(np.float32)
        return heads

    def copy_to(self, archive: zipfile.ZipFile) -> None:
        """Writes one `.npy` entry a head, without reading any of them whole."""
        for name, file in self._files.items():
            file.seek(0)
            header = {"descr": "<f2", "fortran_order": False, "shape": self._shapes[name]}
            with archive.open(_entry(name), "w", force_zip64=True) as entry:
                np.lib.format.write_array_header_1_0(entry, header)
                shutil.copyfileobj(file, entry, 1 << 20)


def write_midi(path: str | Path, notes: Notes) -> None:
    """A Standard MIDI File with velocities, ticks of 1 ms; see `scores.to_midi`."""
    midi = scores.to_midi(notes)
    with files.atomic(path) as part:
        midi.write(str(part))


def write_csv(path: str | Path, notes: Notes) -> None:
    """A table in MusicNet's columns, times in samples at its 44.1 kHz."""
    files.write_text(path, scores.format_musicnet_csv(notes))


def write_jams(path: str | Path, notes: Notes, duration: float, title: str = "", model: str = "") -> None:
    """A JAMS file with one `note_midi` annotation.

    The schema has no place for velocity: `confidence` holds velocity / 127, and says so in
    `annotation_rules`; it is null where the velocity is unknown. JAMS knows no time before 0, so notes
    are cut there.
    """
    rows: list[Observation] = []
    for note in notes:
        start = max(note.onset, 0.0)
        if note.offset > start:
            loudness = None if note.velocity == UNKNOWN else note.velocity / 127
            rows.append((start, note.offset - start, note.pitch, loudness))
    annotation = Annotation("note_midi", rows, "confidence is MIDI velocity / 127")
    write_annotations(path, [annotation], duration, title, model)


def write_annotations(
    path: str | Path, annotations: Sequence[Annotation], duration: float, title: str = "", model: str = ""
) -> None:
    """A JAMS file.

    Args:
        path: to write to.
        annotations: what it holds.
        duration: seconds of the recording.
        title: of the recording.
        model: that made it.
    """
    import jams  # pulls in half of scientific Python, for one format

    tools = f"musicnet_tf {musicnet_tf.__version__}" + (f", model {model}" if model else "")
    jam = jams.JAMS()
    for namespace, rows, rules in annotations:
        metadata = jams.AnnotationMetadata(annotation_tools=tools, data_source="program", annotation_rules=rules)
        annotation = jams.Annotation(namespace=namespace, time=0, duration=duration, annotation_metadata=metadata)
        for time, length, value, confidence in rows:
            annotation.append(time=time, duration=length, value=value, confidence=confidence)
        jam.annotations.append(annotation)
    jam.file_metadata.duration = duration
    jam.file_metadata.title = title
    with files.atomic(path) as part:
        jam.save(str(part), strict=True, fmt="jams")


def write_npz(path: str | Path, spool: PosteriorgramSpool) -> None:
    """The posteriorgram and its clock, to be opened by `numpy.load` or `read_npz`.

    Arrays: one a head, float16 `(frames, num_classes)`; `sample_rate`, `hop_length`, `origin` of the
    clock (frame `k` speaks for sample `origin + k * hop_length`) and `first_pitch`, int64.
    """
    numbers = {name: getattr(spool.clock, name) for name in _CLOCK_FIELDS} | {"first_pitch": spool.first_pitch}
    with files.atomic(path) as part, zipfile.ZipFile(part, "w") as archive:
        spool.copy_to(archive)
        for name, number in numbers.items():
            _add(archive, name, np.array(number, np.int64))


def write_arrays(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Arrays by name, to be opened by `numpy.load`; equal ones give equal files."""
    with files.atomic(path) as part, zipfile.ZipFile(part, "w") as archive:
        for name, values in arrays.items():
            _add(archive, name, values)


def read_npz(path: str | Path) -> tuple[dict[str, np.ndarray], FrameClock, int]:
    """What `write_npz` wrote: head → activations, their clock, and the MIDI number of class 0.

    Raises:
        OutputError: where the file is missing or is not such an archive.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        clock = FrameClock(**{name: int(arrays.pop(name)) for name in _CLOCK_FIELDS})
        return arrays, clock, int(arrays.pop("first_pitch"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise OutputError(f"{path}: not a posteriorgram as `--formats=npz` writes it ({error})") from error


def write_png(path: str | Path, notes: Notes, duration: float, title: str = "") -> None:
    """A picture of the piano roll."""
    from musicnet_tf import plots  # brings matplotlib, for one format

    picture = plots.to_png_bytes(plots.piano_roll(notes, duration=duration, title=title))
    with files.atomic(path) as part:
        part.write_bytes(picture)


class Format(NamedTuple):
    """A kind of output file.

    Attributes:
        suffix: of its name.
        write: path, transcript → the file.
        needs_posteriorgram: whether it holds the model's activations.
        head: that a model must have for it, where not all of a task do.
    """

    suffix: str
    write: Callable[[Path, Transcript], None]
    needs_posteriorgram: bool = False
    head: str = ""


def _write_spooled(path: Path, transcript: Transcript) -> None:
    if transcript.posteriorgram is None:
        raise ConfigError(f"{path}: a posteriorgram was asked for, but none was kept")
    write_npz(path, transcript.posteriorgram)


FORMATS: dict[str, Format] = {
    "midi": Format(".mid", lambda path, t: write_midi(path, t.events)),
    "csv": Format(".csv", lambda path, t: write_csv(path, t.events)),
    "jams": Format(".jams", lambda path, t: write_jams(path, t.events, t.duration, t.title, t.model)),
    "npz": Format(".npz", _write_spooled, needs_posteriorgram=True),
    "png": Format(".png", lambda path, t: write_png(path, t.events, t.duration, t.title)),
}


def check_formats(names: Sequence[str], choices: Collection[str] = FORMATS) -> list[str]:
    """The names without repetition, in order.

    Raises:
        ConfigError: where there are none, or one is unknown; lists the choices.
    """
    told = f"choose from {', '.join(choices)}"
    if not names:
        raise ConfigError(f"no output format was named; {told}")
    for name in names:
        if name not in choices:
            raise ConfigError(f"unknown output format {name!r}{nearest(name, choices)}; {told}")
    return list(dict.fromkeys(names))


def _add(archive: zipfile.ZipFile, name: str, values: np.ndarray) -> None:
    with archive.open(_entry(name), "w", force_zip64=True) as entry:
        np.lib.format.write_array(entry, values, allow_pickle=False)


def _entry(name: str) -> zipfile.ZipInfo:
    """An archive member with zip's earliest date, so that equal posteriorgrams give equal files."""
    info = zipfile.ZipInfo(f"{name}.npy")
    info.compress_type = zipfile.ZIP_DEFLATED  # activations are mostly near 0: a tenth of the size
    return info

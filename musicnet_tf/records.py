"""The versioned record: one tf.Example is a contiguous excerpt of one recording, its audio, notes and beats.

Records hold events, not piano rolls: hop, window and label set change without rebuilding. Event times are integer
sample indices from the excerpt's first sample, at the record's own sample rate, as in MusicNet's label files; a note
that reaches into the excerpt keeps its true (then negative) onset. What not every corpus tells, as beats, is optional.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pydantic
import tensorflow as tf

from musicnet_tf import audio as audio_files
from musicnet_tf import files, validation
from musicnet_tf.audio import Encoding
from musicnet_tf.datasets import Recording, Split
from musicnet_tf.errors import RecordError, ScoreError
from musicnet_tf.events import Beats, Notes

SCHEMA_VERSION = 1
INFO = "dataset_info.json"

_SCALARS = {"schema_version": tf.int64, "excerpt": tf.int64, "start_sample": tf.int64, "sample_rate": tf.int64}
_TEXTS = ("id", "corpus", "split", "work", "audio/encoding")
_EVENTS = {
    "notes/onset": tf.int64,
    "notes/offset": tf.int64,
    "notes/pitch": tf.int64,
    "notes/velocity": tf.int64,
    "notes/instrument": tf.int64,
    "notes/start_beat": tf.float32,
    "notes/end_beat": tf.float32,
    "notes/note_value": tf.string,
}
_BEATS = {"beats/time": tf.int64, "beats/position": tf.int64}
BEATS_KNOWN = "beats/known"
"""1 in records of recordings whose beats are told, also where none falls into the excerpt; 0 or absent in others."""

FEATURES: dict[str, Any] = {
    **{name: tf.io.FixedLenFeature((), dtype) for name, dtype in _SCALARS.items()},
    **{name: tf.io.FixedLenFeature((), tf.string) for name in (*_TEXTS, "audio")},
    **{name: tf.io.RaggedFeature(dtype) for name, dtype in {**_EVENTS, **_BEATS}.items()},
    BEATS_KNOWN: tf.io.FixedLenFeature((), tf.int64, default_value=0),
}


@dataclasses.dataclass(frozen=True)
class Excerpt:
    """A stretch of a recording: float32 audio `(samples,)`, and notes, and beats if told, in seconds from its start."""

    recording: Recording
    corpus: str
    index: int
    start_sample: int
    sample_rate: int
    audio: np.ndarray
    notes: Notes
    beats: Beats | None = None


def cut(
    recording: Recording,
    corpus: str,
    audio: np.ndarray,
    notes: Notes,
    rate: int,
    seconds: float,
    beats: Beats | None = None,
) -> list[Excerpt]:
    """Cuts a recording into excerpts of `seconds`, the last one as long as what is left.

    Notes and beats go onto the grid of samples first, so that which excerpt holds an onset is never a matter of
    rounding; a note shorter than a sample becomes one sample long, and of beats at one sample the first stays. Notes
    that no sample of the audio hears, and beats off the audio, are left out.
    """
    length = round(seconds * rate)
    onset = np.rint(notes.onset * rate).astype(np.int64)
    offset = np.maximum(np.rint(notes.offset * rate).astype(np.int64), onset + 1)
    excerpts = []
    for index, start in enumerate(range(0, len(audio), length)):
        stop = min(start + length, len(audio))
        inside = (onset < stop) & (offset > start)
        moved = dataclasses.replace(
            notes[inside], onset=(onset[inside] - start) / rate, offset=(offset[inside] - start) / rate
        )
        told = None if beats is None else _beats_within(beats, start, stop, rate)
        excerpts.append(Excerpt(recording, corpus, index, start, rate, audio[start:stop], moved, told))
    return excerpts


def _beats_within(beats: Beats, start: int, stop: int, rate: int) -> Beats:
    """Beats from sample `start` to before `stop`, on the grid of samples, in seconds from `start`."""
    sample, first = np.unique(np.rint(beats.time * rate).astype(np.int64), return_index=True)
    inside = (sample >= start) & (sample < stop)
    return Beats((sample[inside] - start) / rate, beats.position[first[inside]])


def begun(notes: Notes, excerpt: int) -> Notes:
    """The notes of excerpt number `excerpt` that no earlier excerpt of the recording holds as well."""
    return notes if excerpt == 0 else notes[notes.onset >= 0]


def serialise(excerpt: Excerpt, encoding: Encoding) -> bytes:
    """An excerpt as a tf.Example of this schema; equal excerpts give equal bytes."""
    rate, notes, recording = excerpt.sample_rate, excerpt.notes, excerpt.recording
    values: dict[str, Any] = {
        "schema_version": [SCHEMA_VERSION],
        "excerpt": [excerpt.index],
        "start_sample": [excerpt.start_sample],
        "sample_rate": [rate],
        "id": [recording.id],
        "corpus": [excerpt.corpus],
        "split": [recording.split],
        "work": [recording.work],
        "audio/encoding": [encoding],
        "audio": [audio_files.encode(excerpt.audio, rate, encoding)],
        "notes/onset": np.rint(notes.onset * rate).astype(int).tolist(),
        "notes/offset": np.rint(notes.offset * rate).astype(int).tolist(),
    }
    for column in ("pitch", "velocity", "instrument", "start_beat", "end_beat", "note_value"):
        values[f"notes/{column}"] = getattr(notes, column).tolist()
    if excerpt.beats is not None:
        values[BEATS_KNOWN] = [1]
        values["beats/time"] = np.rint(excerpt.beats.time * rate).astype(int).tolist()
        values["beats/position"] = excerpt.beats.position.tolist()
    for key, text in recording.metadata.items():
        values[f"metadata/{key}"] = [text]
    features = {name: _feature(values[name]) for name in sorted(values)}
    example = tf.train.Example(features=tf.train.Features(feature=features))
    return example.SerializeToString(deterministic=True)


def _feature(values: list[Any]) -> tf.train.Feature:
    if values and isinstance(values[0], str | bytes):
        raw = [v.encode() if isinstance(v, str) else v for v in values]
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=raw))
    if values and isinstance(values[0], float):
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values)) if values else tf.train.Feature()


def parse(serialised: tf.Tensor, info: DatasetInfo | None = None) -> dict[str, tf.Tensor]:
    """A serialised tf.Example → tensors by the names of `FEATURES`, in the graph.

    Args:
        serialised: a scalar string.
        info: of the set that the record is in; its rate and encoding must be the record's own.

    Raises (when run):
        InvalidArgumentError: on an Example without these features, of another schema version or another set.
    """
    fields = tf.io.parse_single_example(serialised, FEATURES)
    wanted: dict[str, tuple[Any, str]] = {"schema_version": (SCHEMA_VERSION, "schema version; this program reads")}
    if info is not None:  # shards of two sets in one folder would decode to noise
        wanted["sample_rate"] = (info.sample_rate, "sample rate; this set holds")
        wanted["audio/encoding"] = (info.encoding, "audio encoding; this set holds")
    checks = [
        tf.debugging.assert_equal(
            tf.equal(fields[name], tf.constant(value, fields[name].dtype)),  # texts that differ it cannot print
            True,
            f"record of another {what} {value}: build the records again",
        )
        for name, (value, what) in wanted.items()
    ]
    with tf.control_dependencies([check for check in checks if check is not None]):
        return {name: tf.identity(value) for name, value in fields.items()}


def decode_audio(data: tf.Tensor, encoding: Encoding) -> tf.Tensor:
    """Audio bytes → float32 `(samples,)` in [-1, 1), in the graph.

    FLAC goes through tensorflow-io, which decodes in C++ without the interpreter's lock.

    Raises:
        RecordError: for FLAC where tensorflow-io does not load.
    """
    if encoding == "pcm_s16le":
        samples = tf.io.decode_raw(data, tf.int16)
    else:
        samples = _tensorflow_io().audio.decode_flac(data, dtype=tf.int16)[:, 0]
    return tf.cast(samples, tf.float32) / 32768.0


def flac_is_readable() -> bool:
    """Whether FLAC records can be decoded in the graph here, i.e. tensorflow-io loads."""
    try:
        _tensorflow_io()
    except RecordError:
        return False
    return True


def default_encoding() -> Encoding:
    """The smaller of the encodings that can be decoded in the graph here."""
    return "flac" if flac_is_readable() else "pcm_s16le"


def _tensorflow_io() -> Any:
    try:
        import tensorflow_io as tfio

        tfio.audio.decode_flac  # noqa: B018  # loading the C++ ops is what fails on another TensorFlow
    except Exception as error:  # tensorflow-io raises NotImplementedError, ImportError or NotFoundError
        raise RecordError(
            "FLAC records need tensorflow-io, which does not load with this TensorFlow"
            f" ({type(error).__name__}); install musicnet_tf[tfio], or build the records with --encoding=pcm_s16le"
        ) from error
    return tfio


class Shard(pydantic.BaseModel):
    """One TFRecord file of a set."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    file: str = pydantic.Field(pattern=r"^[\w-][\w.-]*$")  # a name beside the info, never a path elsewhere
    split: Split
    num_excerpts: int
    num_bytes: int


class DatasetInfo(pydantic.BaseModel):
    """`dataset_info.json`: what a set of records holds and how it was built.

    Attributes:
        config, shards: of the job that built it; every file, in order.
        recordings: id → what is known of it: split, work, seconds, notes, metadata; `num_beats` where they are told.
        splits: split → recordings, excerpts, notes and hours, and beats where any recording tells them.
        composers, instruments: → number of notes; instruments are MIDI programs counted from 0.
        split_hash: SHA-256 of the sorted (id, split) pairs.
        failed: id → why the recording is missing.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    schema_version: int = SCHEMA_VERSION
    library_version: str
    corpus: str
    licence: str
    sample_rate: int
    encoding: Encoding
    config: dict[str, Any]
    shards: tuple[Shard, ...]
    recordings: dict[str, dict[str, Any]]
    splits: dict[Split, dict[str, float]]
    composers: dict[str, int]
    instruments: dict[str, int]
    split_hash: str
    failed: dict[str, str] = {}

    @property
    def annotations(self) -> tuple[str, ...]:
        """What the set tells of at least one of its recordings: `notes`, `beats`."""
        return ("notes", "beats") if any("num_beats" in entry for entry in self.recordings.values()) else ("notes",)

    def num_excerpts(self, split: Split) -> int:
        return sum(shard.num_excerpts for shard in self.shards if shard.split == split)

    def write(self, folder: str | Path) -> None:
        """Writes `dataset_info.json` into a folder."""
        files.write_json(Path(folder) / INFO, self.model_dump(mode="json"))


def read_info(folder: str | Path) -> DatasetInfo:
    """Reads `dataset_info.json` and checks that its shards are there, whole.

    Raises:
        RecordError: where the set is missing, unfinished, of another schema version, or a shard is missing
            or of another size than was written.
    """
    folder = Path(folder)
    path = folder / INFO
    try:
        info = DatasetInfo.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise RecordError(
            f"{path}: not found; {folder} is no finished record set: build it with `musicnet build_records`"
        ) from error
    except OSError as error:
        raise RecordError(f"{path}: cannot be read ({error.strerror})") from error
    except pydantic.ValidationError as error:
        version = _version_of(path)
        if version not in (None, SCHEMA_VERSION):
            raise RecordError(_other_version(path, version)) from error
        reason = validation.describe(DatasetInfo, error)
        raise RecordError(f"{path}: damaged or foreign ({reason}); build the records again") from error
    if info.schema_version != SCHEMA_VERSION:
        raise RecordError(_other_version(path, info.schema_version))
    for shard in info.shards:
        _check_size(folder / shard.file, shard.num_bytes)
    return info


def _version_of(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes()).get("schema_version")
    except (OSError, ValueError, AttributeError):
        return None


def _other_version(path: Path, version: Any) -> str:
    return (
        f"{path}: schema version {version}, this program reads {SCHEMA_VERSION};"
        " build the records again, or use the release that wrote them"
    )


def _check_size(path: Path, expected: int) -> None:
    if (size := path.stat().st_size if path.is_file() else None) != expected:
        state = "missing" if size is None else f"{size} bytes where {expected} were written"
        raise RecordError(f"{path}: {state}; remove it and build the records again to replace it")


def read(path: str | Path, info: DatasetInfo | None = None) -> Iterator[dict[str, Any]]:
    """The records of one TFRecord file as NumPy values by feature name.

    Raises:
        RecordError: on a damaged or foreign file, or a record of another schema, or set if `info` of its own is given.
    """
    path = Path(path)
    try:
        for serialised in tf.data.TFRecordDataset(str(path)):
            yield {name: value.numpy() for name, value in parse(serialised, info).items()}
    except tf.errors.NotFoundError as error:
        raise RecordError(f"{path}: not found") from error
    except tf.errors.DataLossError as error:
        raise RecordError(f"{path}: truncated, or not a TFRecord file; build the records again") from error
    except tf.errors.InvalidArgumentError as error:
        reason = re.sub(r"^\{\{.*?\}\} ", "", error.message.splitlines()[0])  # the node's name tells no one anything
        raise RecordError(f"{path}: not a record of this program's schema {SCHEMA_VERSION} ({reason})") from error
    except tf.errors.OpError as error:
        raise RecordError(f"{path}: cannot be read ({error.message.splitlines()[0]})") from error


def notes_of(record: Mapping[str, Any]) -> Notes:
    """The notes of a record that `read` gave, in seconds from the excerpt's first sample.

    Raises:
        RecordError: where they cannot be notes.
    """
    rate = _rate_of(record)
    columns = {name.split("/")[1]: record[name] for name in _EVENTS}
    try:
        columns["note_value"] = np.array([v.decode() for v in columns["note_value"]], dtype=str)
        return Notes(**{**columns, "onset": columns["onset"] / rate, "offset": columns["offset"] / rate})
    except (ScoreError, UnicodeDecodeError) as error:
        raise RecordError(f"damaged notes ({error})") from error


def beats_of(record: Mapping[str, Any]) -> Beats | None:
    """The beats of a record, None where they are not told; else as `notes_of`."""
    if not record[BEATS_KNOWN]:
        return None
    try:
        return Beats(record["beats/time"] / _rate_of(record), record["beats/position"])
    except ScoreError as error:
        raise RecordError(f"damaged beats ({error})") from error


def _rate_of(record: Mapping[str, Any]) -> int:
    rate = int(record["sample_rate"])
    if rate < 1:
        raise RecordError(f"sample rate {rate} Hz")
    return rate


def read_notes(folder: str | Path) -> Iterator[tuple[dict[str, Any], Notes]]:
    """Every recording's entry of `dataset_info.json` and its notes put together from its excerpts.

    A note that reaches over an excerpt's edge stands in both excerpts and is counted once.

    Raises:
        RecordError: where the set or a record in it is damaged.
    """
    folder = Path(folder)
    info = read_info(folder)
    parts: dict[str, list[Notes]] = {}
    for shard in info.shards:
        for record in read(folder / shard.file, info):
            name = record["id"].decode(errors="replace")
            if name not in info.recordings:
                raise RecordError(
                    f"{folder / shard.file}: recording {name!r} is not in {INFO}; build the records again"
                )
            try:
                notes = begun(notes_of(record), int(record["excerpt"]))
            except RecordError as error:
                raise RecordError(f"{folder / shard.file}: {name}: {error}; build the records again") from error
            seconds = int(record["start_sample"]) / int(record["sample_rate"])
            parts.setdefault(name, []).append(notes.shift(seconds))
    for name in sorted(parts):
        yield {"id": name, **info.recordings[name]}, Notes.concatenate(parts[name])

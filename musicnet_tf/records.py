"""The versioned record: one tf.Example is a contiguous excerpt of one recording, its audio, notes, beats and tags.

Records hold events, not piano rolls: hop, window and label set change without rebuilding. Event times are integer
sample indices from the excerpt's first sample, at the record's own sample rate, as in MusicNet's label files; a note
that reaches into the excerpt keeps its true (then negative) onset, a tag's stretch is cut at the excerpt's ends. What
not every corpus tells, as beats and tags, is optional.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from musicnet_tf import audio as audio_files
from musicnet_tf.audio import Encoding
from musicnet_tf.datasets import Recording
from musicnet_tf.errors import RecordError, ScoreError
from musicnet_tf.events import Beats, Notes, TagSpans
from musicnet_tf.record_info import INFO, SCHEMA_VERSION, DatasetInfo, read_info

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

_TAGS = {"tags/start": tf.int64, "tags/stop": tf.int64, "tags/name": tf.string}
TAGS_KNOWN = "tags/known"
"""1 in records of recordings whose tags are told, also where the excerpt bears none; 0 or absent in others."""

FEATURES: dict[str, Any] = {
    **{name: tf.io.FixedLenFeature((), dtype) for name, dtype in _SCALARS.items()},
    **{name: tf.io.FixedLenFeature((), tf.string) for name in (*_TEXTS, "audio")},
    **{name: tf.io.RaggedFeature(dtype) for name, dtype in {**_EVENTS, **_BEATS, **_TAGS}.items()},
    **{name: tf.io.FixedLenFeature((), tf.int64, default_value=0) for name in (BEATS_KNOWN, TAGS_KNOWN)},
}


@dataclasses.dataclass(frozen=True)
class Excerpt:
    """A stretch of a recording: float32 audio `(samples,)`, and its events in seconds from its start.

    Beats and tags are None where they are not told.
    """

    recording: Recording
    corpus: str
    index: int
    start_sample: int
    sample_rate: int
    audio: np.ndarray
    notes: Notes
    beats: Beats | None = None
    tags: TagSpans | None = None


def cut(
    recording: Recording,
    corpus: str,
    audio: np.ndarray,
    notes: Notes,
    rate: int,
    seconds: float,
    beats: Beats | None = None,
    tags: TagSpans | None = None,
) -> list[Excerpt]:
    """Cuts a recording into excerpts of `seconds`, the last one as long as what is left.

    Notes, beats and tags go onto the grid of samples first, so that which excerpt holds an onset is never a matter of
    rounding; a note shorter than a sample becomes one sample long, and of beats at one sample the first stays. Notes
    and tags that no sample of the audio hears, and beats off the audio, are left out. Stretches of one tag that overlap
    or touch become one.
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
        struck = None if beats is None else _beats_within(beats, start, stop, rate)
        borne = None if tags is None else _tags_within(tags, start, stop, rate)
        excerpts.append(Excerpt(recording, corpus, index, start, rate, audio[start:stop], moved, struck, borne))
    return excerpts


def _beats_within(beats: Beats, start: int, stop: int, rate: int) -> Beats:
    """Beats from sample `start` to before `stop`, on the grid of samples, in seconds from `start`."""
    sample, first = np.unique(np.rint(beats.time * rate).astype(np.int64), return_index=True)
    inside = (sample >= start) & (sample < stop)
    return Beats((sample[inside] - start) / rate, beats.position[first[inside]])


def _tags_within(tags: TagSpans, start: int, stop: int, rate: int) -> TagSpans:
    """What of the stretches lies between two samples, on the grid of samples, in seconds from `start`, merged."""
    begin, end = (np.clip(np.rint(times * rate), start, stop) - start for times in (tags.start, tags.stop))
    heard = end > begin
    return TagSpans(begin[heard] / rate, end[heard] / rate, tags.tag[heard]).merged()


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
    if excerpt.tags is not None:
        values[TAGS_KNOWN] = [1]
        values["tags/start"] = np.rint(excerpt.tags.start * rate).astype(int).tolist()
        values["tags/stop"] = np.rint(excerpt.tags.stop * rate).astype(int).tolist()
        values["tags/name"] = excerpt.tags.tag.tolist()
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


def tags_of(record: Mapping[str, Any]) -> TagSpans | None:
    """The tags of a record, cut at its ends; None where they are not told; else as `notes_of`."""
    if not record[TAGS_KNOWN]:
        return None
    try:
        rate, names = _rate_of(record), [name.decode() for name in record["tags/name"]]
        return TagSpans(record["tags/start"] / rate, record["tags/stop"] / rate, names)  # type: ignore[arg-type]
    except (ScoreError, UnicodeDecodeError) as error:
        raise RecordError(f"damaged tags ({error})") from error


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

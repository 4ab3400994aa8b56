"""A set of records as a corpus: what took minutes to render is heard again in seconds."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pydantic

from musicnet_tf import audio as audio_files
from musicnet_tf.datasets import Dataset, Recording, Split
from musicnet_tf.errors import DatasetError, RecordError
from musicnet_tf.events import Beats, Notes, TagSpans
from musicnet_tf.record_info import DatasetInfo, read_info


class Recorded(Dataset):
    """The recordings of a folder that `musicnet build_records` made, each put together from its excerpts.

    Not registered, as it has no licence of its own: nothing is to be trained on it under another name.
    """

    name: ClassVar[str] = "records"
    description: ClassVar[str] = "a set of records"
    licence: ClassVar[str] = "that of the corpus that it was built from"
    source: ClassVar[str] = "musicnet build_records"

    @pydantic.computed_field  # type: ignore[prop-decorator]
    @property
    def folder(self) -> str:
        """Its name, which is told where paths are not."""
        return self.root.resolve().name

    def recordings(self) -> list[Recording]:
        """As the corpus had them. Raises RecordError where there is no whole set of records."""
        return [
            Recording(id, entry["split"], entry["work"], _metadata(entry))
            for id, entry in sorted(_info(self.root).recordings.items())
        ]

    def load_audio(self, recording: Recording, sample_rate: int) -> np.ndarray:
        parts = [
            audio_files.decode(record["audio"], record["audio/encoding"].decode())
            for record in self._records(recording)
        ]
        return audio_files.resample(np.concatenate(parts), _info(self.root).sample_rate, sample_rate, recording.id)

    def load_notes(self, recording: Recording) -> Notes:
        from musicnet_tf import records  # brings TensorFlow

        def begun(record: dict[str, Any]) -> Notes:
            return records.begun(records.notes_of(record), int(record["excerpt"])).shift(_start(record))

        return Notes.concatenate(self._each(recording, begun))

    def load_beats(self, recording: Recording) -> Beats | None:
        from musicnet_tf import records

        def told(record: dict[str, Any]) -> Beats | None:
            beats = records.beats_of(record)
            return None if beats is None else beats.shift(_start(record))

        parts = self._each(recording, told)
        return None if None in parts else Beats.concatenate(parts)

    def load_tags(self, recording: Recording) -> TagSpans | None:
        """As the corpus had them, cut where the audio ends."""
        from musicnet_tf import records

        def told(record: dict[str, Any]) -> TagSpans | None:
            tags, rate, first = records.tags_of(record), int(record["sample_rate"]), int(record["start_sample"])
            if tags is None:
                return None
            start, stop = ((np.rint(times * rate) + first) / rate for times in (tags.start, tags.stop))
            return TagSpans(start, stop, tags.tag)  # whole samples, so that what was cut at an edge meets there

        parts = self._each(recording, told)
        return None if None in parts else TagSpans.concatenate(parts).merged()

    def _each(self, recording: Recording, part: Callable[[dict[str, Any]], Any]) -> list[Any]:
        """What `part` makes of each of its excerpts. Raises DatasetError, RecordError."""
        try:
            return [part(record) for record in self._records(recording)]
        except RecordError as error:
            raise RecordError(f"{self.root}: {recording.id}: {error}; build the records again") from error

    def _records(self, recording: Recording) -> list[dict[str, Any]]:
        """Its excerpts in order. Raises DatasetError, RecordError."""
        path = _shards(self.root, recording.split).get(recording.id)
        if path is None:
            raise DatasetError(f"{self.root}: split {recording.split!r} holds no recording {recording.id!r}")
        mine = [record for record in _read(path) if _id(record) == recording.id]
        return sorted(mine, key=lambda record: int(record["excerpt"]))


def _metadata(entry: dict[str, Any]) -> dict[str, str]:
    prefix = "metadata/"
    return {key.removeprefix(prefix): text for key, text in entry.items() if key.startswith(prefix)}


def _id(record: dict[str, Any]) -> str:
    return record["id"].decode(errors="replace")


def _start(record: dict[str, Any]) -> float:
    return int(record["start_sample"]) / int(record["sample_rate"])


@functools.lru_cache(maxsize=4)
def _info(root: Path) -> DatasetInfo:
    return read_info(root)


@functools.lru_cache(maxsize=4)
def _shards(root: Path, split: Split) -> dict[str, Path]:
    """Recording → the file that holds it; the files say it themselves alone."""
    paths = [root / shard.file for shard in _info(root).shards if shard.split == split]
    return {_id(record): path for path in paths for record in _read(path)}


@functools.lru_cache(maxsize=1)
def _read(path: Path) -> list[dict[str, Any]]:
    from musicnet_tf import records

    return list(records.read(path, _info(path.parent)))

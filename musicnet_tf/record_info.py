"""What a set of records holds, as `dataset_info.json` beside its shards tells it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pydantic

from musicnet_tf import files, validation
from musicnet_tf.audio import Encoding
from musicnet_tf.datasets import Split
from musicnet_tf.errors import RecordError

SCHEMA_VERSION = 1
INFO = "dataset_info.json"

_COUNTS = {"notes": "num_notes", "beats": "num_beats", "tags": "num_tags"}
"""What may be told of a recording → how often it is, in the recording's entry."""


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
        recordings: id → what is known of it: split, work, seconds, metadata; how many notes, beats and tags it has,
            where they are told; `tags` → seconds that bear it.
        splits: split → recordings, excerpts, notes and hours, beats where any recording tells them, different tags
            likewise.
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
        """What the set tells of at least one of its recordings, of `notes`, `beats` and `tags`."""
        entries = self.recordings.values()
        return tuple(what for what, count in _COUNTS.items() if any(count in entry for entry in entries))

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

"""Which recordings a job is about, and how their outputs are named."""

from __future__ import annotations

import dataclasses
import glob
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from musicnet_tf import audio, files
from musicnet_tf.alignment.pairs import read_rows
from musicnet_tf.errors import AudioError, DatasetError

COLUMNS = ("audio", "id", "reason")
"""Of a manifest, `audio` being needed; and of the list of failed recordings, which is one."""


@dataclasses.dataclass(frozen=True)
class Recording:
    """One recording.

    Attributes:
        name: of its outputs, below the output folder and without their suffixes; `/` separates folders. Unique.
        path: absolute.
    """

    name: str
    path: Path


def find(sources: Sequence[str | Path]) -> list[Recording]:
    """The recordings of folders, globs and files, each once.

    Of a folder all audio files in it and below are taken, of a glob those that it matches; what is hidden is left
    out. A file that is named is taken whatever it is. Names keep the folders below the root that all sources share;
    the root of a glob is what precedes its first wildcard.

    Raises:
        AudioError: where there are none, a folder cannot be listed, or two would be named alike.
    """
    found = [_of_source(str(source)) for source in sources]
    roots = [os.path.abspath(root) for root, _ in found]  # noqa: PTH100  # unlike resolve, leaves links in names
    paths: dict[Path, Path] = {}
    for _, those in found:
        for path in those:
            paths.setdefault(path.resolve(), Path(os.path.abspath(path)))  # noqa: PTH100
    if not paths:
        raise AudioError(
            f"{', '.join(map(str, sources)) or 'nothing'}: no recording was found; give audio files"
            f" ({', '.join(audio.SUFFIXES)}), folders that hold some, or a glob"
        )
    root = os.path.commonpath(roots)
    return _named(Recording(_stem(os.path.relpath(path, root)), path) for path in paths.values())


def read_manifest(path: str | Path) -> list[Recording]:
    """The recordings of a CSV file with the column `audio` and perhaps `id`; one `reason` is not looked at.

    Paths are relative to the manifest. An id names the outputs and may hold `/`; without one, they are named by the
    folders below the root that all recordings share. Whether the files are there is not looked at.

    Raises:
        DatasetError: naming file and line, on another column, an empty path, an id that cannot name files, or a
            file without recordings.
        AudioError: where two would be named alike.
    """
    path = Path(path)
    rows = []
    try:
        for line, row in read_rows(path, COLUMNS[:1], COLUMNS[1:]):
            if not row["audio"]:
                raise DatasetError(f"{path}: line {line}: audio is empty; give a path, relative to the manifest")
            _check_id(row["id"], f"{path}: line {line}")
            place = os.path.abspath(path.parent / Path(row["audio"]).expanduser())  # noqa: PTH100  # as above
            rows.append((row["id"], Path(place)))
    except FileNotFoundError as error:
        raise DatasetError(f"{path}: no such manifest") from error
    if not rows:
        raise DatasetError(f"{path}: holds no recordings; each line after the header names one")
    root = os.path.commonpath([place.parent for _, place in rows])
    return _named(Recording(id or _stem(os.path.relpath(place, root)), place) for id, place in rows)


def write_list(path: Path, recordings: Iterable[Recording]) -> None:
    """Writes recordings for `read_list`, names that are no Unicode too. Raises OutputError."""
    files.write_text(path, "".join(json.dumps([r.name, str(r.path)]) + "\n" for r in recordings))


def read_list(path: str) -> Iterator[Recording]:
    """What `write_list` wrote, one by one."""
    with Path(path).open(encoding="utf-8") as lines:
        for name, place in map(json.loads, lines):
            yield Recording(name, Path(place))


def _of_source(source: str) -> tuple[Path, Iterable[Path]]:
    path = Path(source)
    if path.is_dir():
        return path, _below(path)
    if path.exists() or not glob.has_magic(source):
        return path.parent, [path]
    parts = path.parts
    root = Path(*parts[: next(i for i, part in enumerate(parts) if glob.has_magic(part))])
    return root, [file for file in map(Path, sorted(glob.glob(source, recursive=True))) if _is_audio(file)]  # noqa: PTH207


def _below(folder: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise AudioError(f"{files.printable(error.filename)}: cannot be listed ({error.strerror})") from error

    for place, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        present = (Path(place, name) for name in sorted(names) if not name.startswith("."))
        yield from (file for file in present if _is_audio(file))


def _is_audio(path: Path) -> bool:
    return path.suffix.lower() in audio.SUFFIXES and path.is_file()


def _stem(path: str) -> str:
    return Path(path).with_suffix("").as_posix()


def _named(recordings: Iterable[Recording]) -> list[Recording]:
    by_name: dict[str, Recording] = {}
    for recording in recordings:
        other = by_name.setdefault(recording.name, recording)
        if other is not recording:
            raise AudioError(
                f"{files.printable(other.path)} and {files.printable(recording.path)} would both be written to"
                f" {files.printable(recording.name)}.*; choose by a glob, or tell them apart by `id` in a manifest"
            )
    return list(by_name.values())


def _check_id(id: str, where: str) -> None:
    if id and any(part[:1] in ("", ".") for part in id.split("/")):
        raise DatasetError(
            f"{where}: id {id!r} cannot name files; use names that begin with no dot, with / between folders"
        )

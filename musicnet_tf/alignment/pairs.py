"""A manifest of pairs: which score belongs to which recording, and what is known of them."""

from __future__ import annotations

import csv
import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

from musicnet_tf.datasets import SPLITS
from musicnet_tf.errors import DatasetError
from musicnet_tf.registry import nearest

REQUIRED = ("id", "audio", "score")
OPTIONAL = ("work", "composer", "composition", "movement", "ensemble", "split", "licence")

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_TAKEN = ("report", "verdicts")  # names of files that stand beside those of the pairs


@dataclasses.dataclass(frozen=True)
class Pair:
    """One row of a manifest.

    Attributes:
        id: unique, safe as a file name; the pair's output is named after it.
        audio, score: files.
        work, composer, composition, movement, ensemble, licence: as far as known, else empty.
        split: `train`, `validation`, `test`, or empty where the work shall decide.
    """

    id: str
    audio: Path
    score: Path
    work: str = ""
    composer: str = ""
    composition: str = ""
    movement: str = ""
    ensemble: str = ""
    split: str = ""
    licence: str = ""

    def known(self) -> dict[str, str]:
        """What the optional columns say, in their order, empty ones too."""
        return {name: getattr(self, name) for name in OPTIONAL}


def read_manifest(path: str | Path) -> list[Pair]:
    """The pairs of a CSV file with the columns `REQUIRED` and any of `OPTIONAL`.

    Paths are relative to the manifest. Whether the files are there is not looked at: a pair whose files
    are missing fails alone.

    Raises:
        DatasetError: naming file and line, on a missing or unknown column, an id that is empty, taken or
            no file name, an empty path, an unknown split, or a file without pairs.
    """
    path = Path(path)
    pairs: dict[str, Pair] = {}
    try:
        for line, row in read_rows(path, REQUIRED, OPTIONAL):
            pair = _pair(row, path.parent, f"{path}: line {line}")
            other = pairs.setdefault(pair.id.casefold(), pair)
            if other is not pair:
                raise DatasetError(f"{path}: line {line}: id {pair.id!r} is taken by a line before; ids must be unique")
    except FileNotFoundError as error:
        raise DatasetError(f"{path}: no such manifest") from error
    if not pairs:
        raise DatasetError(f"{path}: holds no pairs; each line after the header names one")
    return list(pairs.values())


def read_rows(path: Path, required: tuple[str, ...], optional: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and stripped cells of each row of a CSV file with a header; cells of absent columns are empty.

    Raises:
        DatasetError: naming file and line, where it is no CSV in UTF-8, or has other columns.
        FileNotFoundError: where there is no such file.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            _check_header(path, [name.strip() for name in reader.fieldnames or ()], required, optional)
            reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
            for row in reader:
                if None in row or None in row.values():
                    raise DatasetError(
                        f"{path}: line {reader.line_num}: has not as many cells as the header;"
                        " quote cells that hold commas"
                    )
                cells = {name: cell.strip() for name, cell in row.items()}
                for name, cell in cells.items():
                    if "\0" in cell:
                        raise DatasetError(f"{path}: line {reader.line_num}: {name} holds a NUL; write the file anew")
                if any(cells.values()):
                    yield reader.line_num, dict.fromkeys((*required, *optional), "") | cells
    except FileNotFoundError:
        raise
    except (OSError, UnicodeError, csv.Error) as error:
        raise DatasetError(f"{path}: cannot be read as CSV in UTF-8 ({error})") from error


def _check_header(path: Path, header: list[str], required: tuple[str, ...], optional: tuple[str, ...]) -> None:
    missing = [name for name in required if name not in header]
    if missing:
        raise DatasetError(f"{path}: line 1: the header lacks {', '.join(missing)}; it needs {','.join(required)}")
    for name in header:
        if name not in (*required, *optional):
            raise DatasetError(f"{path}: line 1: unknown column {name!r}{nearest(name, [*required, *optional])}")
        if header.count(name) > 1:
            raise DatasetError(f"{path}: line 1: column {name!r} is there twice")


def _pair(row: dict[str, str], folder: Path, where: str) -> Pair:
    if not _ID.fullmatch(row["id"]):
        raise DatasetError(
            f"{where}: id {row['id']!r} cannot name files; use up to 100 of A–Z, a–z, 0–9, - and _,"
            " the first a letter or digit"
        )
    if row["id"].casefold() in _TAKEN:
        raise DatasetError(f"{where}: id {row['id']!r} names another file of the output; choose another")
    for name in ("audio", "score"):
        if not row[name]:
            raise DatasetError(f"{where}: {name} is empty; give the path of a file, relative to the manifest")
    if row["split"] not in ("", *SPLITS):
        raise DatasetError(
            f"{where}: split is {row['split']!r}; use {', '.join(SPLITS)}, or leave it empty for the work to decide"
        )
    paths = {name: folder / Path(row[name]).expanduser() for name in ("audio", "score")}
    return Pair(**{**row, **paths})  # type: ignore[arg-type]

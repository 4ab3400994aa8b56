"""Files that are either whole or absent."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from musicnet_tf.errors import OutputError


def printable(name: str | Path) -> str:
    """A file name that need not be UTF-8, as text that is."""
    return os.fsencode(name).decode("utf-8", "replace")


def make_folder(folder: str | Path) -> Path:
    """Creates a folder for output, with its parents.

    Raises:
        OutputError: where it cannot be made, is a file, or cannot be written to.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"{folder}: cannot write there ({reason}); choose another output folder") from error
    return folder


@contextlib.contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Gives a temporary path beside `path` and renames it there once the block ended without error.

    The temporary file keeps the suffix, since many writers choose their format by it. On an error it
    is removed, and whatever stood at `path` before stays.

    Raises:
        OutputError: where the folder cannot be written to.
    """
    path = Path(path)
    part = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield part
        part.replace(path)
    except OSError as error:
        if error.filename in (str(part), str(path), None) or isinstance(error, PermissionError):
            raise OutputError(f"{path}: cannot be written ({error.strerror or error})") from error
        raise
    finally:
        with contextlib.suppress(OSError):  # the folder itself may not be there
            part.unlink()


def write_text(path: str | Path, text: str) -> None:
    """Writes a whole text file, or none."""
    with atomic(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Writes a whole JSON file, or none; keys keep their order, so that equal values give equal bytes."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")

"""Published archives → a folder that holds the corpus: checked, resumed where cut, safely unpacked."""

from __future__ import annotations

import dataclasses
import hashlib
import http.client
import json
import shutil
import stat
import tarfile
import time
import urllib.error
import urllib.parse
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from musicnet_tf import files
from musicnet_tf.errors import DatasetError

_BLOCK = 1 << 20
_TIMEOUT = 60.0
_WAIT = 2.0


@dataclasses.dataclass(frozen=True)
class Part:
    """A published file: its name, size in bytes and MD5, and whether it is an archive to unpack.

    Attributes:
        max_unpacked: bytes that an archive may unpack to.
        subfolder: where in the corpus's folder the file belongs.
    """

    file: str
    size: int
    md5: str
    max_unpacked: int = 0
    subfolder: str = ""


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Where a corpus is published, and its parts by name. `url` ends before the file name."""

    url: str
    parts: dict[str, Part]


GIB = 1 << 30

CORPORA = {
    "musicnet": Corpus(
        url="https://zenodo.org/records/5120004/files/",
        parts={
            "metadata": Part("musicnet_metadata.csv", 43_775, "1caef62cee9c875235e62aac368b49d8", subfolder="musicnet"),
            "midis": Part("musicnet_midis.tar.gz", 2_601_302, "b5fa98a113bfc51c8a445def9f24dc7e", GIB // 4),
            "recordings": Part("musicnet.tar.gz", 11_097_394_998, "844764911fa0d5b97c97da944a057590", 40 * GIB),
        },
    ),
}
"""Sizes and checksums as the publisher gives them. The metadata goes beside what the archive of recordings
unpacks to."""


def download(
    corpus: Corpus,
    folder: str | Path,
    *,
    parts: tuple[str, ...] = (),
    base_url: str = "",
    retries: int = 5,
    keep_archives: bool = False,
) -> list[Path]:
    """Fetches and unpacks a corpus; what an earlier run has finished is not touched.

    Args:
        corpus: one of `CORPORA`.
        folder: to hold the corpus.
        parts: names of the parts wanted; all where empty.
        base_url: of a mirror that holds the same files, instead of the publisher's.
        retries: how often a broken connection is taken up again.
        keep_archives: leaves archives in the folder once they are unpacked.

    Returns:
        The files and archives fetched by this call.

    Raises:
        DatasetError: on an unknown part, a refusal of the server, a wrong size or checksum, an archive
            that is damaged or would write outside the folder, or too little room on the disk.
        OutputError: where the folder cannot be written to.
    """
    folder = files.make_folder(folder)
    unknown = sorted(set(parts) - set(corpus.parts))
    if unknown:
        raise DatasetError(f"unknown part {unknown[0]!r}; choose from: {', '.join(corpus.parts)}")
    wanted = [corpus.parts[name] for name in parts or corpus.parts]
    missing = [part for part in wanted if not _is_done(part, folder)]
    _check_room(missing, folder)
    base = (base_url or corpus.url).rstrip("/") + "/"
    for part in missing:
        place = files.make_folder(folder / part.subfolder)
        path = fetch(base + urllib.parse.quote(part.file), place / part.file, part.size, part.md5, retries)
        contents = unpack(path, place, part.max_unpacked) if part.max_unpacked else [part.file]
        if part.max_unpacked and not keep_archives:
            path.unlink()
        files.write_json(_stamp(part, folder), {"md5": part.md5, "files": contents})
    return [_path(part, folder) for part in missing]


def fetch(url: str, path: Path, size: int, md5: str, retries: int = 5) -> Path:
    """Fetches one file, going on from `<path>.part` where an earlier try was cut, and checks it.

    Raises:
        DatasetError: where the server refuses, or size or checksum differ; the bad file is removed.
    """
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise DatasetError(f"{url}: not a web address; it must begin with https:// or http://")
    partial = _partial(path)
    if not (path.is_file() and path.stat().st_size == size):
        _fetch_rest(url, partial, size, retries)
        partial.replace(path)
    found = _md5(path)
    if found != md5:
        path.unlink()
        raise DatasetError(
            f"{path}: MD5 is {found}, published is {md5}; the file was removed, run again to fetch it anew"
        )
    return path


def unpack(archive: Path, folder: Path, max_bytes: int) -> list[str]:
    """Unpacks a tar archive of plain files and folders, after looking at all its entries.

    Returns:
        Names of the files in it, from `folder`.

    Raises:
        DatasetError: naming the entry that would leave the folder, is a link or a device, or makes the
            whole larger than `max_bytes`; then nothing has been unpacked. Also on a damaged archive.
    """
    try:
        with tarfile.open(archive) as tar:
            members = list(_checked(archive, tar, max_bytes))
            bar = tqdm(members, desc=f"unpacking {archive.name}", unit="file", disable=None)
            for member in bar:
                _unpack_one(tar, member, folder)
            return [member.name for member in members if member.isfile()]
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise DatasetError(f"{archive}: cannot be unpacked into {folder} ({error})") from error


def _checked(archive: Path, tar: tarfile.TarFile, max_bytes: int) -> Iterator[tarfile.TarInfo]:
    total = 0
    for member in tar:
        path = PurePosixPath(member.name)
        total += member.size
        why = ""
        if path.is_absolute() or ".." in path.parts or "\\" in member.name or "\0" in member.name:
            why = "would be written outside the folder"
        elif not (member.isfile() or member.isdir()):
            why = "is a link or a device"
        elif total > max_bytes:
            why = f"brings the archive to {total:,} bytes, more than the {max_bytes:,} expected"
        if why:
            raise DatasetError(f"{archive}: entry {member.name!r} {why}; nothing was unpacked, do not trust this file")
        yield member


def _unpack_one(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    target = folder / member.name
    # A link that already lies in the folder must not lead the archive out of it.
    if not target.resolve().is_relative_to(folder.resolve()):
        raise DatasetError(f"{target}: lies outside {folder} by a link that is there; remove the link")
    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    source = tar.extractfile(member)
    assert source is not None  # only plain files come this far
    with files.atomic(target) as part, source, part.open("wb") as sink:
        shutil.copyfileobj(source, sink, _BLOCK)


def _fetch_rest(url: str, partial: Path, size: int, retries: int) -> None:
    with tqdm(total=size, desc=partial.stem, unit="B", unit_scale=True, disable=None) as bar:
        tries = 0
        while (have := _size(partial)) != size:
            if have > size:
                partial.unlink()
                have = 0
            bar.update(have - bar.n)
            try:
                _request(url, partial, have, size, bar.update)
            except (OSError, http.client.HTTPException) as error:
                tries = 0 if _size(partial) > have else tries
                tries += 1
                if _is_final(error) or tries > retries:
                    kept = f"; {_size(partial):,} bytes are kept, run again to go on" if _size(partial) else ""
                    raise DatasetError(f"{url}: cannot be fetched ({error}){kept}") from error
                time.sleep(min(_WAIT * tries, 30.0))


def _request(url: str, partial: Path, start: int, size: int, progress: Callable[[int], object]) -> None:
    """Appends to `partial` what the server sends from byte `start` on."""
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
        resumed = start > 0 and response.status == http.HTTPStatus.PARTIAL_CONTENT
        if resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            raise http.client.HTTPException("the server resumed at another place")
        length = response.headers.get("Content-Length", "")
        total = (start if resumed else 0) + int(length) if length.isdecimal() else size
        if total != size:  # a length that is missing or no number tells nothing; the checksum will
            raise DatasetError(
                f"{url}: the server offers {total:,} bytes, published are {size:,}; is it the right file?"
            )
        if not resumed:
            progress(-start)
        got = start if resumed else 0
        with partial.open("ab" if resumed else "wb") as sink:
            while got < size and (block := response.read(min(_BLOCK, size - got))):
                sink.write(block)
                got += len(block)
                progress(len(block))
        if got < size:
            raise http.client.IncompleteRead(b"", size - got)


def _is_final(error: Exception) -> bool:
    """Whether another try cannot help: the server understood and refused."""
    if isinstance(error, urllib.error.HTTPError):
        return 400 <= error.code < 500 and error.code not in (408, 425, 429)
    return isinstance(error, PermissionError | FileNotFoundError)


def _check_room(parts: list[Part], folder: Path) -> None:
    needed = sum(part.size - min(part.size, _size(_partial(_path(part, folder)))) for part in parts)
    # What an archive unpacks to is not known beforehand; audio hardly shrinks in one.
    needed += sum(2 * part.size for part in parts if part.max_unpacked)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DatasetError(
            f"{folder}: {needed / GIB:,.1f} GiB are needed, {free / GIB:,.1f} GiB are free; choose another folder"
        )


def _path(part: Part, folder: Path) -> Path:
    return folder / part.subfolder / part.file


def _partial(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def _stamp(part: Part, folder: Path) -> Path:
    return folder / f".{part.file}.done"


def _is_done(part: Part, folder: Path) -> bool:
    """Whether an earlier run finished this very file, and all that came of it is still there."""
    try:
        stamp = json.loads(_stamp(part, folder).read_text(encoding="utf-8"))
        place = folder / part.subfolder
        same = stamp["md5"] == part.md5 and all((place / name).is_file() for name in stamp["files"])
    except (OSError, ValueError, KeyError, TypeError):  # no stamp, or none of this program
        return False
    return same and (bool(part.max_unpacked) or _size(_path(part, folder)) == part.size)


def _size(path: Path) -> int:
    try:
        found = path.stat()
    except OSError:
        return 0
    return found.st_size if stat.S_ISREG(found.st_mode) else 0


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with (
        path.open("rb") as file,
        tqdm(total=_size(path), desc="checking", unit="B", unit_scale=True, disable=None) as bar,
    ):
        while block := file.read(_BLOCK):
            digest.update(block)
            bar.update(len(block))
    return digest.hexdigest()

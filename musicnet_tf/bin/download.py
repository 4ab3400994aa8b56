"""Fetches a published corpus with checksum, resume and safe unpacking.

Usage: musicnet download --dataset=musicnet --output_dir=DIR [--parts=metadata,midis,recordings]

    musicnet download --output_dir=data
    musicnet download --output_dir=data --parts=metadata,midis

A run that was cut goes on where it stopped; a second run fetches nothing. MusicNet's recordings are
11 GB, and need as much again to unpack. `data/musicnet` then holds train_data, train_labels and so on.
"""

from __future__ import annotations

from absl import app, flags

from musicnet_tf import download

_DATASET = flags.DEFINE_enum("dataset", "musicnet", sorted(download.CORPORA), "Corpus to fetch.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder to hold it.", required=True)
_PARTS = flags.DEFINE_list("parts", [], "Only these parts of the corpus; all if not given.")
_BASE_URL = flags.DEFINE_string("base_url", "", "Mirror that holds the same files; the publisher's if not given.")
_RETRIES = flags.DEFINE_integer("retries", 5, "How often a broken connection is taken up again.", lower_bound=0)
_KEEP_ARCHIVES = flags.DEFINE_bool("keep_archives", False, "Leaves archives in the folder once unpacked.")


def main(argv: list[str]) -> int | None:
    """Downloads what is missing."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}; the corpus is named by --dataset")
    fetched = download.download(
        download.CORPORA[_DATASET.value],
        _OUTPUT_DIR.value,
        parts=tuple(_PARTS.value),
        base_url=_BASE_URL.value,
        retries=_RETRIES.value,
        keep_archives=_KEEP_ARCHIVES.value,
    )
    print(
        f"{_OUTPUT_DIR.value}: " + (f"fetched {', '.join(p.name for p in fetched)}" if fetched else "already complete")
    )
    return None

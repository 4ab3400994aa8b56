"""Counts minutes, labels and recordings by composer, ensemble and instrument: Table 1 of the MusicNet paper.

Usage: musicnet stats PATH… [--dataset=NAME] [--json]

PATH is a record set, a folder that holds MusicNet, or a folder of its label files; with --dataset, a folder that
holds that corpus.

    musicnet stats data/musicnet
    musicnet stats --dataset=maps data/maps
    musicnet stats --json records/musicnet > table1.json
"""

from __future__ import annotations

import json

from absl import app, flags

from musicnet_tf import statistics

_DATASET = flags.DEFINE_string("dataset", None, "Corpus that each PATH holds, as in `musicnet list`.")
_JSON = flags.DEFINE_bool("json", False, "Prints one JSON object, path → counts, instead of tables.")


def main(argv: list[str]) -> int | None:
    """Prints the table of each path."""
    if len(argv) < 2:
        raise app.UsageError("name at least one record set or folder of a corpus")
    name = _DATASET.value
    items = {path: statistics.read_corpus(path, name) if name else statistics.read(path) for path in argv[1:]}
    tables = {path: statistics.summarise(labelled) for path, labelled in items.items()}
    if _JSON.value:
        print(json.dumps({path: table.to_dict() for path, table in tables.items()}, indent=2, ensure_ascii=False))
    else:
        print("\n\n".join(f"{path}: {table.format()}" for path, table in tables.items()))
    return None

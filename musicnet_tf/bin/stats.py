"""Counts minutes, labels and recordings by composer, ensemble and instrument: Table 1 of the MusicNet paper.

Usage: musicnet stats PATH… [--json]

PATH is a record set, a folder that holds MusicNet, or a folder of its label files.

    musicnet stats data/musicnet
    musicnet stats --json records/musicnet > table1.json
"""

from __future__ import annotations

import json

from absl import app, flags

from musicnet_tf import statistics

_JSON = flags.DEFINE_bool("json", False, "Prints one JSON object, path → counts, instead of tables.")


def main(argv: list[str]) -> int | None:
    """Prints the table of each path."""
    if len(argv) < 2:
        raise app.UsageError("name at least one record set or folder of MusicNet labels")
    tables = {path: statistics.summarise(statistics.read(path)) for path in argv[1:]}
    if _JSON.value:
        print(json.dumps({path: table.to_dict() for path, table in tables.items()}, indent=2, ensure_ascii=False))
    else:
        print("\n\n".join(f"{path}: {table.format()}" for path, table in tables.items()))
    return None

"""Show what there is: models, tasks, corpora, configs, ways to align and shipped models.

Usage: musicnet list [models|tasks|corpora|configs|alignments|shipped]… [--json]

Examples:
    musicnet list
    musicnet list shipped --json

Parameters of a model are those that its defaults train. Listing models and tasks imports TensorFlow, the
rest is there at once.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from absl import app, flags

from musicnet_tf.registry import nearest

_JSON = flags.DEFINE_bool("json", False, "Prints one JSON object, kind → entries, instead of tables.")
_CONFIGS = flags.DEFINE_string("configs", "configs", "Folder of configs; where there is none, none are listed.")

KINDS = ("models", "tasks", "corpora", "configs", "alignments", "shipped")


def main(argv: list[str]) -> int:
    """Prints what the arguments name, or everything."""
    kinds = argv[1:] or list(KINDS)
    for kind in kinds:
        if kind not in KINDS:
            raise app.UsageError(f"no kind {kind!r}{nearest(kind, KINDS)}; choose from: {', '.join(KINDS)}")
    from musicnet_tf import catalogue

    found = {kind: _rows(kind) for kind in kinds}
    if _JSON.value:
        print(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        print("\n\n".join(f"{kind}\n{catalogue.table(kind, rows)}" for kind, rows in found.items()))
    return 0


def _rows(kind: str) -> list[dict[str, Any]]:
    from musicnet_tf import catalogue

    folder = Path(_CONFIGS.value)
    if kind == "configs":
        return catalogue.configs(folder) if flags.FLAGS["configs"].present or folder.is_dir() else []
    if kind == "alignments":
        return catalogue.alignments(folder / "alignment")
    return getattr(catalogue, kind)()

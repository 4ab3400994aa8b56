"""Corpora of tags → records, as a user would build them, and the tags that these then hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from musicnet_tf.datasets import Dataset
from musicnet_tf.events import TagSpans


def build(
    musicnet: Callable[..., Any], corpus: Dataset, output: Path, *options: str
) -> dict[str, list[TagSpans | None]]:
    """Id of a recording → tags of each of its excerpts, from a set of records that `musicnet build_records` made."""
    outcome = musicnet(
        *("build_records", f"--dataset={corpus.name}", f"--data_dir={corpus.root}", f"--output_dir={output}"),
        *("--sample_rate=16000", "--encoding=pcm_s16le", "--strict", *options),
    )
    assert outcome.status == 0, outcome.stderr
    from musicnet_tf import record_info, records

    info = record_info.read_info(output)
    assert (info.corpus, info.annotations) == (corpus.name, ("tags",))
    found: dict[str, list[TagSpans | None]] = {}
    for shard in sorted(output.glob("*.tfrecord")):
        for record in sorted(records.read(shard, info), key=lambda record: int(record["excerpt"])):
            found.setdefault(record["id"].decode(), []).append(records.tags_of(record))
    assert {id: entry["num_tags"] for id, entry in info.recordings.items()} == {
        id: len({name for tags in excerpts if tags is not None for name in tags.tag.tolist()})
        for id, excerpts in found.items()
    }
    return found

"""One row's training: its experiment on the records at hand, scaled, in a run folder of its own."""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from musicnet_tf import config, files, record_info, trainer
from musicnet_tf.config import Experiment, Source
from musicnet_tf.datasets import Recording
from musicnet_tf.errors import ConfigError, ModelError
from musicnet_tf.reproduction.settings import Row

FILENAME = "training.json"
"""In a run folder: which records it was trained on, and how long that took."""


def experiment(row: Row, scale: float = 1.0, overrides: Sequence[str] = ()) -> Experiment:
    """A row's experiment as it is trained here, but for its records.

    Args:
        row: of the table.
        scale: of the number of steps, see `scaled`.
        overrides: such as `train.batch_size=100`.

    Raises:
        ConfigError: where the config cannot be read or is wrong.
    """
    chosen = config.load(row.config, overrides)
    return chosen.model_copy(update={"train": scaled(chosen.train, scale)})


def on_records(chosen: Experiment, folders: Sequence[Path]) -> Experiment:
    """An experiment on these record sets instead of those that it names; windows are drawn from each alike."""
    # By name under one folder, so that a run goes on where the records were moved to another place.
    absolute = [folder.absolute() for folder in folders]
    shared = Path(os.path.commonpath([folder.parent for folder in absolute]))
    sources = tuple(Source(records=folder.relative_to(shared)) for folder in absolute)
    data = chosen.data.model_copy(update={"folder": shared, "train": sources, "validation": ()})
    return chosen.model_copy(update={"data": data})


def check_scale(scale: float) -> None:
    """Raises ConfigError where `scale` is not a positive number."""
    if not 0 < scale < math.inf:
        raise ConfigError(f"--scale: must be a number greater than 0, got {scale:g}")


def scaled(train: config.Train, scale: float) -> config.Train:
    """With `scale` times as many steps, those for warming up among them: at least one epoch of at least one step.

    The weights after the last epoch are kept: the publication has no validation split, and choosing among
    weights on test pieces would flatter.

    Raises:
        ConfigError: as `check_scale`.
    """
    check_scale(scale)
    steps = max(1, round(train.steps * scale))
    update = {
        "steps": steps,
        "steps_per_epoch": min(train.steps_per_epoch, steps),
        "warmup_steps": round(train.warmup_steps * scale),
        "keep": "last",
        "patience": 0,
    }
    return train.model_copy(update=update)


def describe_records(chosen: Experiment) -> dict[str, Any]:
    """Name of each record set → what tells it from another one of that name.

    Raises:
        RecordError: where a set is missing or damaged.
    """
    sources = chosen.data.train
    return {str(source.records): _describe(record_info.read_info(chosen.data.path(source))) for source in sources}


def _describe(info: record_info.DatasetInfo) -> dict[str, Any]:
    split: dict[str, Any] = dict(info.splits.get("train", {}))
    return {"corpus": info.corpus, **split, "split_hash": info.split_hash, "config": info.config}


def refuse_tested(folders: Sequence[Path], tested: Collection[Recording]) -> None:
    """Refuses record sets whose training split holds a test recording, or another performance of what it performs.

    Raises:
        ConfigError: which names the set and the recordings.
        RecordError: where a set is missing or damaged.
    """
    ids = {recording.id for recording in tested}
    works = {_plain(recording.work) for recording in tested}
    for folder in folders:
        for name, entry in record_info.read_info(folder).recordings.items():
            origin = Path(entry.get("metadata/score", name)).stem  # what a rendered recording was rendered from
            known = {name, origin} & ids or {_plain(entry["work"])} & works
            if entry["split"] == "train" and known:
                raise ConfigError(
                    f"{folder}: its training split holds {name}, of {', '.join(known)}, which is tested on;"
                    " build the records without it, or name other --test recordings"
                )


def _plain(work: str) -> str:
    """A work's name without the empty parts that corpora end it with."""
    return work.rstrip(": ")


def train(chosen: Experiment, run: Path) -> float:
    """Trains in a run folder, or goes on with what is there.

    Returns:
        Seconds that it took, earlier calls included, but for those that were killed.

    Raises:
        ConfigError: where the folder holds a run of another config, or on other records.
        RecordError, ModelError: as `trainer.train`.
    """
    trained_on = describe_records(chosen)
    _refuse_other(chosen, trained_on, run)
    files.make_folder(run)
    with _timed(run, trained_on):
        trainer.train(chosen, run)
    return read(run)["seconds"]


def read(run: Path) -> dict[str, Any]:
    """`seconds` and `records` of a run; none yet of a folder where nothing was trained.

    Raises:
        ModelError: where the file is damaged.
    """
    path = run / FILENAME
    if not path.exists():
        return {"seconds": 0.0, "records": None}
    try:
        known = json.loads(path.read_text())
        return {"seconds": float(known["seconds"]), "records": known["records"]}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ModelError(f"{path}: damaged ({error}); remove the folder, and the row is trained again") from error


def _refuse_other(chosen: Experiment, trained_on: dict[str, Any], run: Path) -> None:
    way_out = "choose another --output_dir, or remove the folder, and the row is trained anew"
    path = run / config.FILENAME
    if not path.exists():
        return
    if not config.load(path).trains_as(chosen):
        raise ConfigError(f"{path}: this run has another config or --scale; {way_out}")
    before = read(run)["records"]
    if before is not None and before != trained_on:
        raise ConfigError(f"{run}: this run was trained on other records; {way_out}")


@contextlib.contextmanager
def _timed(run: Path, trained_on: dict[str, Any]) -> Iterator[None]:
    """Adds the time that the block takes to what the folder tells, also where it is interrupted."""
    before, start = read(run)["seconds"], time.monotonic()
    files.write_json(run / FILENAME, {"seconds": before, "records": trained_on})
    try:
        yield
    finally:
        seconds = round(before + time.monotonic() - start, 1)
        files.write_json(run / FILENAME, {"seconds": seconds, "records": trained_on})

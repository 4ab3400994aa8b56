"""What there is to work with: registered models, tasks and corpora, configs, ways to align, and shipped models.

Each function gives rows: what `musicnet list --json` shows of an entry, as plain values.
"""

from __future__ import annotations

import inspect
import itertools
import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from musicnet_tf import inference
from musicnet_tf.alignment.settings import load_settings
from musicnet_tf.errors import ConfigError
from musicnet_tf.manifest import Manifest
from musicnet_tf.registry import DATASETS, MODELS, TASKS

Row = dict[str, Any]


def models() -> list[Row]:
    """Registered families as their defaults make them. Builds each to count its parameters, with TensorFlow."""
    return [_model(name) for name in MODELS.names()]


def tasks() -> list[Row]:
    """Registered tasks. Their losses and metrics are in Keras, which brings TensorFlow."""
    return [_task(TASKS.get(name)) for name in TASKS.names()]


def corpora() -> list[Row]:
    """Registered corpora."""
    return [_corpus(DATASETS.get(name)) for name in DATASETS.names()]


def configs(folder: str | Path) -> list[Row]:
    """The experiments in a folder, as their files say: read, not checked, so that nothing heavy is imported.

    Raises:
        ConfigError: where there is no such folder, or a file of it is no config.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; name the one that holds the configs")
    return [_config(path) for path in sorted(folder.glob("*.yaml"))]


def alignments(folder: str | Path) -> list[Row]:
    """The ways to align in a folder, which is empty or not there where only the defaults are.

    Raises:
        ConfigError: where a file of it is no such config.
    """
    return [_alignment(path) for path in sorted(Path(folder).expanduser().glob("*.yaml"))]


def shipped() -> list[Row]:
    """Models that come with the library. Raises ModelError where a manifest is damaged."""
    return [_shipped(name, folder) for name, folder in inference.shipped().items()]


def _model(name: str) -> Row:
    family = MODELS.get(name)()
    spec = family.spec()
    return {
        "name": name,
        "parameters": _num_parameters(family),
        "sample_rate": spec.clock.sample_rate,
        "window_length": spec.window_length,
        "heads": {head: shape.num_classes for head, shape in spec.heads.items()},
        "summary": _summary(type(family)),
        "source": family.source,
    }


def _num_parameters(family: Any) -> int:
    import keras

    with keras.StatelessScope(initialize_variables=False):  # in which weights are shapes, and take no memory or time
        return sum(math.prod(variable.shape) for variable in family.build().trainable_variables)


def _task(task: Any) -> Row:
    return {
        "name": task.name,
        "required_heads": list(task.required_heads),
        "optional_heads": list(task.optional_heads),
        "summary": _summary(task),
        "source": task.source,
    }


def _corpus(corpus: Any) -> Row:
    return {
        "name": corpus.name,
        "description": corpus.description,
        "licence": corpus.licence,
        "source": corpus.source,
    }


def _config(path: Path) -> Row:
    try:
        text = path.read_text(encoding="utf-8")
        values = yaml.safe_load(text)
        return {
            "name": values["name"],
            "path": str(path),
            "task": values["task"]["name"],
            "model": values["model"]["name"],
            "records": [source["records"] for source in values["data"]["train"]],
            "summary": _comment(text),
        }
    except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError, KeyError) as error:
        raise ConfigError(f"{path}: no config of an experiment ({' '.join(str(error).split())})") from error


def _alignment(path: Path) -> Row:
    chosen = load_settings(path)
    return {
        "name": path.stem,
        "path": str(path),
        "features": chosen.features.kind,
        "method": chosen.method,
        "norm": chosen.norm,
        "summary": _comment(path.read_text(encoding="utf-8")),
    }


def _comment(text: str) -> str:
    """The first line of comment, or nothing."""
    return next((line.lstrip("# ") for line in text.splitlines() if line.startswith("#")), "")


def _shipped(name: str, folder: Path) -> Row:
    manifest = Manifest.read(folder)
    return {
        "name": name,
        "task": manifest.task,
        "parameters": manifest.num_parameters,
        "bytes": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        "sample_rate": manifest.geometry.clock.sample_rate,
        "heads": {head: shape.num_classes for head, shape in manifest.geometry.heads.items()},
        "licence": manifest.licence,
        "training_data": manifest.training_data,
        "scores": manifest.scores,
    }


def _summary(cls: type) -> str:
    return (inspect.getdoc(cls) or "").partition("\n")[0]


Columns = Mapping[str, Callable[[Row], str]]
"""Head of a column → what it shows of a row."""


def _heads(row: Row) -> str:
    return ", ".join(f"{head} {classes}" for head, classes in row["heads"].items())


def _input(row: Row) -> str:
    seconds = row["window_length"] / row["sample_rate"]
    return f"{row['sample_rate']} Hz, {row['window_length']} samples ({seconds:.3g} s)"


def _task_heads(row: Row) -> str:
    return ", ".join([*row["required_heads"], *(f"[{head}]" for head in row["optional_heads"])])


def _training_data(row: Row) -> str:
    return "; ".join(f"{data['corpus']}: {data['licence']}" for data in row["training_data"])


def _scores(row: Row) -> str:
    """The F1s that stand for the rest, for a table; `--json` has all scores."""
    lines = []
    for corpus, values in row["scores"].items():
        chosen = {metric: values[metric] for metric in HEADLINES if metric in values}
        if chosen:
            lines.append(f"{corpus}: " + ", ".join(f"{metric} {value:.3f}" for metric, value in chosen.items()))
    return "; ".join(lines)


CELL_WIDTH = 40
HEADLINES = ("onset/f1", "onset_offset/f1", "frame/f1")
COLUMNS: dict[str, Columns] = {
    "models": {
        "name": lambda row: row["name"],
        "parameters": lambda row: f"{row['parameters']:,}",
        "input": _input,
        "heads": _heads,
        "source": lambda row: row["source"],
    },
    "tasks": {
        "name": lambda row: row["name"],
        "heads [optional]": _task_heads,
        "source": lambda row: row["source"],
    },
    "corpora": {
        "name": lambda row: row["name"],
        "description": lambda row: row["description"],
        "licence": lambda row: row["licence"],
        "source": lambda row: row["source"],
    },
    "configs": {
        "name": lambda row: row["name"],
        "task": lambda row: row["task"],
        "model": lambda row: row["model"],
        "records": lambda row: ", ".join(row["records"]),
        "path": lambda row: row["path"],
    },
    "alignments": {
        "name": lambda row: row["name"],
        "features": lambda row: row["features"],
        "method": lambda row: row["method"],
        "norm": lambda row: row["norm"],
        "path": lambda row: row["path"],
    },
    "shipped": {
        "name": lambda row: row["name"],
        "parameters": lambda row: f"{row['parameters']:,}",
        "size": lambda row: f"{row['bytes'] / 1e6:.2f} MB",
        "licence": lambda row: row["licence"],
        "trained on": _training_data,
        "scores": _scores,
    },
}


def table(kind: str, rows: Sequence[Row]) -> str:
    """Rows of a kind as aligned text under the heads of the columns, long cells on several lines."""
    columns = COLUMNS[kind]
    if not rows:
        return "  (none)"
    lines = [list(columns)]
    for row in rows:
        cells = [textwrap.wrap(show(row), CELL_WIDTH) or ["-"] for show in columns.values()]
        lines += [list(line) for line in itertools.zip_longest(*cells, fillvalue="")]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
    return "\n".join(f"  {line}".rstrip() for line in padded)

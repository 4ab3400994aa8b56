"""A reproduction in TensorBoard: figures as images, the report as text, scores as scalars and hyperparameters."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from musicnet_tf import files
from musicnet_tf.reproduction.result import Result

FOLDER = "tensorboard"
REPORT, ROWS = "report", "rows"
"""Runs of TensorBoard: one of the whole, and beneath the other one of each row."""

SCALARS = ("precision", "recall", "f1", "average_precision")


def write(folder: Path, results: Iterable[Result], pictures: Mapping[str, bytes], text: str) -> list[Path]:
    """Writes event files in place of those of an earlier report.

    Args:
        folder: for `tensorboard --logdir`.
        results: a run each, with its scores on the test and the training points.
        pictures: name → PNG.
        text: Markdown.

    Returns:
        The event files.
    """
    import tensorflow as tf
    from tensorboard.plugins.hparams import api as hparams

    for name in (REPORT, ROWS):  # TensorBoard would show old and new side by side
        shutil.rmtree(folder / name, ignore_errors=True)
    files.make_folder(folder)
    writer = tf.summary.create_file_writer(str(folder / REPORT))
    with writer.as_default(step=0):
        tf.summary.text("report", text)
        for name, png in pictures.items():
            tf.summary.image(name, tf.io.decode_png(png, channels=3)[None])
    writer.close()
    for result in results:
        writer = tf.summary.create_file_writer(str(folder / ROWS / result.row))
        with writer.as_default(step=0):
            hparams.hparams(_hyperparameters(result), trial_id=result.row)
            for part, scores in (("test", result.pooled), ("training", result.training)):
                for name in filter(scores.__contains__, SCALARS):
                    tf.summary.scalar(f"{part}/{name}", scores[name])
        writer.close()
    return sorted(folder.rglob("events.out.tfevents.*"))


def _hyperparameters(result: Result) -> dict[str, bool | int | float | str]:
    """What can be compared in a table: plain settings, and the size of the network and of its training."""
    plain = {name: value for name, value in result.settings.items() if isinstance(value, bool | int | float | str)}
    size = {"num_parameters": result.num_parameters, "points_trained": result.points_trained}
    return {"row": result.row, **plain, **size, "threshold": result.threshold}

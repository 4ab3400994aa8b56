"""What came of one row: scores, curves and what training took, as JSON beside its run."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from musicnet_tf import files
from musicnet_tf.errors import ModelError

FILENAME = "result.json"

Scores = dict[str, float]
"""`precision`, `recall`, `f1`, `average_precision`, `points`."""


@dataclasses.dataclass(frozen=True)
class Result:
    """Of one row.

    Attributes:
        row: its name.
        settings: every choice that moves a figure: seed, steps, batch, rate, protocol, records, test ids.
        num_parameters: trainable.
        points_trained: labelled points that training saw, repeats counted.
        seconds: that training took.
        threshold: `c`, chosen on training points.
        training: scores on the sampled training points that `c` was chosen on.
        pooled: scores over all test points.
        pieces: test recording → its scores.
        polyphony: number of simultaneous notes → scores of the points with so many, `"0"` upwards.
        curves: subset (`all`, `one`, `three`) → `precision`, `recall`, `threshold` of its curve.
    """

    row: str
    settings: dict[str, Any]
    num_parameters: int
    points_trained: int
    seconds: float
    threshold: float
    training: Scores
    pooled: Scores
    pieces: dict[str, Scores]
    polyphony: dict[str, Scores]
    curves: dict[str, dict[str, list[float]]]

    def write(self, run: Path) -> None:
        """Writes `result.json` into the row's run folder."""
        files.write_json(run / FILENAME, dataclasses.asdict(self))

    @classmethod
    def read(cls, run: Path) -> Result | None:
        """Of a run folder; None where there is none yet.

        Raises:
            ModelError: where it is damaged.
        """
        path = run / FILENAME
        if not path.exists():
            return None
        try:
            return cls(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise ModelError(f"{path}: damaged ({error}); remove it, and the row is evaluated again") from error

"""Beat tracking: where the beats are, and which of them begin a bar."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import keras
import numpy as np
import pydantic
from keras import ops

from musicnet_tf import events
from musicnet_tf.decode.beats import BeatDecoding
from musicnet_tf.errors import ConfigError
from musicnet_tf.models import ModelSpec
from musicnet_tf.registry import TASKS
from musicnet_tf.tasks import Task, notes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Head = Literal["beat", "downbeat"]
Loss = Callable[[Any, Any], Any]
_ONES: dict[Head, float] = {"beat": 1.0, "downbeat": 1.0}


@TASKS.register("beats")
class Beats(Task):
    """Activations of beats and, for models with the head, of downbeats.

    Frames of recordings whose beats are not told count in no loss, nor do those around beats whose places in the bar
    are unknown in the loss of downbeats.

    Attributes:
        loss: `cross_entropy` with targets that fall off round a beat, or `shift_tolerant` (Foscarin et al. 2024),
            which asks for a peak within `tolerance` of each beat and leaves frames as far again round it alone.
        width: seconds from a beat's frame to where its target has fallen to 0; two frames where None, so that the
            frames beside it have 0.5.
        tolerance: seconds (Foscarin et al. 2024: 3 frames of 20 ms).
        positive_weights: of the frames of beats and of downbeats in the loss, relative to all others.
        weights: of the heads' losses; those that are not named keep their default.
        decoder: how activations become beats until its parameters have been chosen on validation data.
    """

    source: ClassVar[str] = "Böck & Schedl 2011; Böck et al. 2016; Foscarin et al. 2024"
    required_heads: ClassVar[tuple[str, ...]] = ("beat",)
    optional_heads: ClassVar[tuple[str, ...]] = ("downbeat",)

    loss: Literal["cross_entropy", "shift_tolerant"] = "cross_entropy"
    width: float | None = pydantic.Field(default=None, ge=0)
    tolerance: float = pydantic.Field(default=0.06, gt=0)
    positive_weights: dict[Head, pydantic.PositiveFloat] = _ONES
    weights: dict[Head, pydantic.NonNegativeFloat] = _ONES
    decoder: BeatDecoding = BeatDecoding()

    @property
    def annotations(self) -> tuple[str, ...]:
        return ("beats",)

    @pydantic.field_validator("weights", "positive_weights", mode="after")
    @classmethod
    def _fill_in(cls, weights: dict[Head, float]) -> dict[Head, float]:
        return {**_ONES, **weights}

    def check(self, model: str, spec: ModelSpec) -> None:
        """Raises ConfigError too where a head has several classes, or windows are too short for the loss."""
        super().check(model, spec)
        for head in self.heads(spec):
            if spec.heads[head].num_classes != 1:
                raise ConfigError(f"task {self.name!r}: head {head!r} of model {model!r} must have one class")
        reach = 2 * self._tolerance(spec)
        if self.loss == "shift_tolerant" and spec.num_frames <= 2 * reach:
            raise ConfigError(
                f"task.loss: shift_tolerant leaves {reach} frames at either end of a window alone, and model {model!r}"
                f" gives {spec.num_frames}; take longer windows, or lower task.tolerance"
            )

    def targets(self, record: Mapping[str, Any], start: Any, spec: ModelSpec) -> dict[str, Any]:
        from musicnet_tf import records, targets  # the only part that needs TensorFlow

        time, known = record["beats/time"] - start, record[records.BEATS_KNOWN] > 0
        grid = (spec.clock, spec.num_frames, 2 / spec.clock.frame_rate if self.width is None else self.width)
        made = {"beat": targets.beats(time, known, *grid)}
        if "downbeat" in spec.heads:
            made["downbeat"] = targets.downbeats(time, record["beats/position"], known, *grid)
        return made

    def losses(self, spec: ModelSpec) -> dict[str, Loss]:
        return {head: self._loss(head, spec) for head in self.heads(spec)}

    def loss_weights(self, spec: ModelSpec) -> dict[str, float]:
        return {head: self.weights[head] for head in self.heads(spec)}  # type: ignore[index]

    def metrics(self, spec: ModelSpec) -> dict[str, list[keras.metrics.Metric]]:
        return {head: [F1(name="f1")] for head in self.heads(spec)}

    def activations(self, logits: Mapping[str, Any]) -> dict[str, Any]:
        return {head: ops.sigmoid(value) for head, value in logits.items()}

    def picture(self, activations: Mapping[str, Any], targets: Mapping[str, Any], spec: ModelSpec) -> Figure:
        from musicnet_tf import beat_writers

        frames = np.flatnonzero(targets["beat"][:, 0] == 1.0)
        first = targets["downbeat"][frames, 0] == 1.0 if "downbeat" in targets else np.zeros(len(frames), bool)
        truth = events.Beats(spec.clock.frame_to_time(frames), np.where(first, 1, events.UNKNOWN))
        heads = {head: activations[head] for head in self.heads(spec)}
        return beat_writers.figure(truth, spec.window_length / spec.clock.sample_rate, "", heads, spec.clock)

    def decoder_params(self) -> dict[str, Any]:
        return self.decoder.model_dump(mode="json")

    def _loss(self, head: str, spec: ModelSpec) -> Loss:
        weight = self.positive_weights[head]  # type: ignore[index]
        if self.loss == "cross_entropy":
            return lambda targets, logits: cross_entropy(targets, logits, weight)
        tolerance = self._tolerance(spec)
        return lambda targets, logits: shift_tolerant(targets, logits, tolerance, weight)

    def _tolerance(self, spec: ModelSpec) -> int:
        return max(round(self.tolerance * spec.clock.frame_rate), 1)


@keras.saving.register_keras_serializable("musicnet_tf", name="BeatF1")
class F1(notes.F1):
    """F1 pooled over the frames whose labels are told: those within half the width of a beat's target count as it."""

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Counts one batch; `sample_weight` is not used."""
        super().update_state(y_true, ops.where(y_true < 0, self.threshold, y_pred))


def cross_entropy(targets: Any, logits: Any, positive_weight: float = 1.0) -> Any:
    """Binary cross-entropy of soft targets `(batch, frames, 1)` → `(batch, frames)`; 0 where the target is unknown.

    The part of a target counts `positive_weight` times.
    """
    known, targets = ops.cast(targets >= 0, "float32"), ops.maximum(targets, 0.0)
    logits = ops.cast(logits, "float32")
    loss = positive_weight * targets * ops.softplus(-logits) + (1.0 - targets) * ops.softplus(logits)
    return ops.sum(known * loss, axis=-1)


def shift_tolerant(targets: Any, logits: Any, tolerance: int, positive_weight: float = 1.0) -> Any:
    """The shift-tolerant cross-entropy of Foscarin, Schlüter and Widmer (ISMIR 2024), `(batch, frames)`.

    At a beat, and at frames more than twice `tolerance` away from all beats, the highest logit within `tolerance`
    frames counts; other frames do not, so that a peak may lie a little off but two do not pay. Nor do the frames
    within twice `tolerance` of either end of the window, since what lies beyond it is not known.

    Args:
        targets: `(batch, frames, 1)`; 1 at the frames of beats, of lower ones nothing is read, below 0 for unknown.
        tolerance: frames.
    """
    beat = ops.cast(targets >= 1.0, "float32")
    near = _highest_within(beat, 2 * tolerance)
    frames = ops.shape(targets)[1]
    index = ops.arange(frames)[None, :, None]
    inner = ops.cast((index >= 2 * tolerance) & (index < frames - 2 * tolerance), "float32")
    counted = inner * ops.cast(targets >= 0, "float32") * (beat + 1.0 - near)
    highest = _highest_within(ops.cast(logits, "float32"), tolerance)
    loss = positive_weight * beat * ops.softplus(-highest) + (1.0 - beat) * ops.softplus(highest)
    return ops.sum(counted * loss, axis=-1)


def _highest_within(values: Any, reach: int) -> Any:
    """The maximum over so many frames to either side, `(batch, frames, 1)`."""
    return ops.max_pool(values, 2 * reach + 1, strides=1, padding="same", data_format="channels_last")

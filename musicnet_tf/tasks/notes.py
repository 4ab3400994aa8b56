"""Note transcription: which pitches sound, where they begin, and how loud."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import keras
import pydantic
from keras import ops

from musicnet_tf.decode.notes import NoteDecoding, decode
from musicnet_tf.models import ModelSpec
from musicnet_tf.registry import TASKS
from musicnet_tf.tasks import Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Head = Literal["frame", "onset", "offset", "velocity"]
_WEIGHTS: dict[Head, float] = {"frame": 1.0, "onset": 1.0, "offset": 1.0, "velocity": 0.5}


@TASKS.register("notes")
class Notes(Task):
    """Frame labels as in the MusicNet paper, and, for models with the heads, onsets, offsets and velocity.

    Attributes:
        frame_loss: `cross_entropy`, or `square` as in the paper, whose outputs are no logits then but the
            estimates themselves.
        onset_width: half the base in seconds of the triangle that marks an onset or offset (Kong et al.
            2021: 50 ms).
        weights: of the heads' losses; those that are not named keep their default.
        decoder: how activations become notes until thresholds have been chosen on validation data.
    """

    source: ClassVar[str] = "Thickstun et al. 2017, section 4; Hawthorne et al. 2018; Kong et al. 2021"
    required_heads: ClassVar[tuple[str, ...]] = ("frame",)
    optional_heads: ClassVar[tuple[str, ...]] = ("onset", "offset", "velocity")

    frame_loss: Literal["cross_entropy", "square"] = "cross_entropy"
    onset_width: float = pydantic.Field(default=0.05, gt=0)
    weights: dict[Head, pydantic.NonNegativeFloat] = _WEIGHTS
    decoder: NoteDecoding = NoteDecoding()

    @pydantic.field_validator("weights", mode="after")
    @classmethod
    def _fill_in(cls, weights: dict[Head, float]) -> dict[Head, float]:
        return {**_WEIGHTS, **weights}

    def targets(self, record: Mapping[str, Any], start: Any, spec: ModelSpec) -> dict[str, Any]:
        from musicnet_tf import targets  # the only part that needs TensorFlow

        # Triangles of events beyond the window's ends may reach into it.
        notes = targets.NoteTensors.of_window(record, start, spec, reach=self.onset_width)

        def make(head: str) -> Any:
            grid = (spec.clock, spec.num_frames, spec.heads[head])
            if head == "frame":
                return targets.sounding(notes, *grid)
            if head == "velocity":
                return targets.velocity_near_onsets(notes, *grid, self.onset_width)
            return targets.nearness(getattr(notes, head), notes, *grid, self.onset_width)

        return {head: make(head) for head in self.heads(spec)}

    def losses(self, spec: ModelSpec) -> dict[str, Callable[[Any, Any], Any]]:
        frame = _square if self.frame_loss == "square" else _cross_entropy
        choices = {"frame": frame, "onset": _cross_entropy, "offset": _cross_entropy, "velocity": _velocity}
        return {head: choices[head] for head in self.heads(spec)}

    def loss_weights(self, spec: ModelSpec) -> dict[str, float]:
        return {head: self.weights[head] for head in self.heads(spec)}  # type: ignore[index]

    def metrics(self, spec: ModelSpec) -> dict[str, list[keras.metrics.Metric]]:
        threshold = 0.5 if self.frame_loss == "square" else 0.0
        chosen: dict[str, list[keras.metrics.Metric]] = {"frame": [F1(threshold, name="f1")]}
        for head in self.heads(spec):
            chosen.setdefault(head, [] if head == "velocity" else [F1(0.0, name="f1")])
        return chosen

    def activations(self, logits: Mapping[str, Any]) -> dict[str, Any]:
        linear = ("frame",) if self.frame_loss == "square" else ()
        return {
            head: ops.clip(value, 0.0, 1.0) if head in linear else ops.sigmoid(value) for head, value in logits.items()
        }

    def picture(self, activations: Mapping[str, Any], targets: Mapping[str, Any], spec: ModelSpec) -> Figure:
        from musicnet_tf import plots

        first_pitch = spec.heads["frame"].first_pitch
        literally = NoteDecoding(min_duration=0.0, max_gap=0.0)
        truth = decode({"frame": targets["frame"]}, spec.clock, literally, first_pitch)
        return plots.posteriorgram(activations["frame"], spec.clock, truth, first_pitch)

    def decoder_params(self) -> dict[str, Any]:
        return self.decoder.model_dump(mode="json")


@keras.saving.register_keras_serializable("musicnet_tf")
class F1(keras.metrics.Metric):
    """F1 pooled over every cell: targets of at least 0.5 against logits above a threshold."""

    def __init__(self, threshold: float = 0.0, name: str = "f1", dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)
        self.threshold = threshold
        self._hits, self._predicted, self._labelled = (
            self.add_weight(name=part, initializer="zeros") for part in ("hits", "predicted", "labelled")
        )

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Counts one batch; `sample_weight` is not used."""
        truth = ops.cast(y_true >= 0.5, self.dtype)
        guess = ops.cast(y_pred > self.threshold, self.dtype)
        self._hits.assign_add(ops.sum(truth * guess))
        self._predicted.assign_add(ops.sum(guess))
        self._labelled.assign_add(ops.sum(truth))

    def result(self) -> Any:
        return 2 * self._hits / ops.maximum(self._predicted + self._labelled, 1.0)

    def get_config(self) -> dict[str, Any]:
        return {"threshold": self.threshold, "name": self.name, "dtype": self.dtype}


def _cross_entropy(targets: Any, logits: Any) -> Any:
    """Binary cross-entropy of soft targets, `(batch, frames)`: the mean over pitches, times 10.

    Most cells are silent, so that the mean is small; the factor keeps losses and clipping near 1.
    """
    logits = ops.cast(logits, "float32")
    return 10.0 * ops.mean(ops.softplus(logits) - targets * logits, axis=-1)


def _square(targets: Any, estimates: Any) -> Any:
    """Half the squared error summed over pitches, `(batch, frames)`, as in the MusicNet paper."""
    return 0.5 * ops.sum(ops.square(targets - ops.cast(estimates, "float32")), axis=-1)


def _velocity(targets: Any, logits: Any) -> Any:
    """Squared error at onsets, weighted by their nearness, `(batch,)`; 0 for a window without any."""
    level, weight = targets[..., 0], targets[..., 1]
    error = weight * ops.square(level - ops.sigmoid(ops.cast(logits, "float32")))
    return ops.sum(error, axis=(1, 2)) / ops.maximum(ops.sum(weight, axis=(1, 2)), 1.0)

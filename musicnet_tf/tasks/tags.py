"""Tagging: which of a vocabulary of tags each stretch of a recording bears."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import keras
import numpy as np
import pydantic
from keras import ops

from musicnet_tf import instruments
from musicnet_tf.decode.tags import TagDecoding
from musicnet_tf.errors import ConfigError
from musicnet_tf.models import ModelSpec
from musicnet_tf.registry import TASKS, nearest
from musicnet_tf.tasks import Task, beats

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_DRAWN = 40
_UNTOLD = "#e9d8d8"


@TASKS.register("tags")
class Tags(Task):
    """Scores of tags by frame, of which a model has one a chunk or more; what the tags were told from is served too.

    Attributes:
        tags: the vocabulary, in the order of the head's classes.
        labels: where it is told what a frame bears: by the records' `tags`, or by which `instruments`' notes sound in
            it, each tag being an instrument's name (`instruments.name_of`).
        exclusive: whether a frame bears one tag alone. Scores are then the softmax of the logits, where they are
            otherwise the sigmoid of each, and frames that do not bear just one count in no loss.
        least_seconds: a frame bears a tag where it does so for more than that at a stretch.
        positive_weights: of frames that bear a tag, in the loss, relative to those that do not; 1 where none is named.
        decoder: how scores of frames become those of a recording until thresholds have been chosen on validation data.
            It is `exclusive` where the task is.
    """

    source: ClassVar[str] = "Won et al. 2020; Choi et al. 2016"
    required_heads: ClassVar[tuple[str, ...]] = ("tag",)
    mixes: ClassVar[bool] = True

    tags: tuple[str, ...] = pydantic.Field(min_length=1)
    labels: Literal["tags", "instruments"] = "tags"
    exclusive: bool = False
    least_seconds: float = pydantic.Field(default=0.0, ge=0)
    positive_weights: dict[str, pydantic.PositiveFloat] = pydantic.Field(default_factory=dict)
    decoder: TagDecoding = TagDecoding()

    @property
    def annotations(self) -> tuple[str, ...]:
        return ("notes",) if self.labels == "instruments" else ("tags",)

    @pydantic.model_validator(mode="after")
    def _fits(self) -> Tags:
        twice = sorted({tag for tag in self.tags if self.tags.count(tag) > 1})
        if twice:
            raise ValueError(f"tags: {twice[0]!r} is named twice")
        chosen = {"positive_weights": self.positive_weights, "decoder.thresholds": self.decoder.thresholds}
        for key, tag in ((key, tag) for key, values in chosen.items() for tag in values):
            if tag not in self.tags:
                raise ValueError(f"{key}: {tag!r} is none of the tags{nearest(tag, self.tags)}")
        if self.exclusive and len(self.tags) == 1:
            raise ValueError("exclusive: one tag alone leaves nothing to choose from; name another, or take it out")
        if self.labels == "instruments":
            self._programs()
        return self

    def check(self, model: str, spec: ModelSpec) -> None:
        """Raises ConfigError too where the model tells another number of tags, or frames are too short for any."""
        super().check(model, spec)
        classes = spec.heads["tag"].num_classes
        if classes != len(self.tags):
            raise ConfigError(
                f"task.tags names {len(self.tags)} tags, and head 'tag' of model {model!r} has {classes} classes;"
                f" set model.num_tags={len(self.tags)}"
            )
        if self._least(spec) >= spec.clock.hop_length:
            seconds = spec.clock.hop_length / spec.clock.sample_rate
            raise ConfigError(
                f"task.least_seconds={self.least_seconds:g}: no frame of model {model!r} can bear a tag for longer, as"
                f" they last {seconds:g} s; lower it, or take longer frames"
            )

    def served(self, spec: ModelSpec) -> ModelSpec:
        """The geometry of what is served: the tags by name, and what they are told from."""
        kept = {name: head for name, head in spec.heads.items() if name in ("tag", "embedding")}
        kept["tag"] = dataclasses.replace(kept["tag"], labels=self.tags)
        return dataclasses.replace(spec, heads=kept)

    def unlabelled(self, recordings: Iterable[Mapping[str, Any]]) -> list[str]:
        if self.labels == "tags":
            told = {tag for entry in recordings for tag in entry.get("tags", ())}
        else:
            programs = {int(program) for entry in recordings for program in entry["instruments"]}
            told = {instruments.name_of(program) for program in programs if program >= 0}
        missing = [tag for tag in self.tags if tag not in told]
        if len(missing) == len(self.tags):
            asked, borne = (", ".join(names[:5]) + " …" * (len(names) > 5) for names in (missing, sorted(told)))
            raise ConfigError(f"task.tags: no recording bears any of {asked}; those that are borne: {borne or 'none'}")
        return missing

    def targets(self, record: Mapping[str, Any], start: Any, spec: ModelSpec) -> dict[str, Any]:
        from musicnet_tf import records, targets  # the only part that needs TensorFlow

        grid = (spec.clock, spec.num_frames, self._least(spec))
        if self.labels == "instruments":
            made = targets.instruments(record, start, self._programs(), *grid)
        else:
            begin, end = record["tags/start"] - start, record["tags/stop"] - start
            made = targets.tags(begin, end, record["tags/name"], record[records.TAGS_KNOWN] > 0, self.tags, *grid)
        return {"tag": targets.only_one(made) if self.exclusive else made}

    def losses(self, spec: ModelSpec) -> dict[str, Callable[[Any, Any], Any]]:
        weights = np.array([self.positive_weights.get(tag, 1.0) for tag in self.tags], np.float32)
        loss = softmax_cross_entropy if self.exclusive else cross_entropy
        return {"tag": lambda targets, logits: loss(targets, logits, weights)}

    def loss_weights(self, spec: ModelSpec) -> dict[str, float]:
        return {"tag": 1.0}

    def metrics(self, spec: ModelSpec) -> dict[str, list[keras.metrics.Metric]]:
        decided = Accuracy(name="accuracy") if self.exclusive else beats.F1(name="f1")
        return {"tag": [PrAuc(len(self.tags), self.exclusive, name="pr_auc"), decided]}

    def activations(self, logits: Mapping[str, Any]) -> dict[str, Any]:
        score = ops.softmax if self.exclusive else ops.sigmoid
        return {head: score(value) if head == "tag" else value for head, value in logits.items()}

    def picture(self, activations: Mapping[str, Any], targets: Mapping[str, Any], spec: ModelSpec) -> Figure:
        """The tags of a window as they are told, and as they are heard; those that are told or heard first."""
        truth, heard = targets["tag"], activations["tag"]
        order = np.argsort(-(truth.max(axis=0) + heard.max(axis=0)), kind="stable")[:_MOST_DRAWN]
        return _side_by_side(truth[:, order], heard[:, order], [self.tags[tag] for tag in order], spec)

    def decoder_params(self) -> dict[str, Any]:
        return {**self.decoder.model_dump(mode="json"), "exclusive": self.exclusive}

    def _programs(self) -> list[int]:
        return [instruments.program_of(tag) for tag in self.tags]

    def _least(self, spec: ModelSpec) -> int:
        """Whole samples that a tag must be borne for, and one more."""
        return math.floor(self.least_seconds * spec.clock.sample_rate + 1e-6)


@keras.saving.register_keras_serializable("musicnet_tf", name="TagPrAuc")
class PrAuc(keras.metrics.AUC):
    """Area under precision over recall, of logits: the mean over the tags that any frame bore so far.

    Frames of which it is not told whether they bear a tag are left out for that tag. The curve is read at 200
    thresholds, so that this serves to watch a training, not to compare models.

    Args:
        num_labels: how many tags there are.
        exclusive: whether their scores are the softmax of the logits.
        name, dtype: of the metric.
    """

    def __init__(self, num_labels: int, exclusive: bool = False, name: str = "pr_auc", dtype: Any = None) -> None:
        super().__init__(curve="PR", multi_label=True, num_labels=num_labels, name=name, dtype=dtype)
        self.exclusive = exclusive

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Counts one batch `(batch, frames, tags)`; `sample_weight` is not used."""
        truth, logits = (ops.reshape(ops.cast(x, "float32"), (-1, self.num_labels)) for x in (y_true, y_pred))
        scores = ops.softmax(logits) if self.exclusive else ops.sigmoid(logits)
        super().update_state(truth >= 0.5, scores, sample_weight=truth >= 0)

    def result(self) -> Any:
        self.label_weights = ops.cast(self.true_positives[0] > 0, self.dtype)  # all are found at the lowest threshold
        value = super().result()
        self.label_weights = None
        return value

    def get_config(self) -> dict[str, Any]:
        own = {"num_labels": self.num_labels, "exclusive": self.exclusive}
        return {**own, "name": self.name, "dtype": self.dtype}


@keras.saving.register_keras_serializable("musicnet_tf", name="TagAccuracy")
class Accuracy(keras.metrics.CategoricalAccuracy):
    """Share of frames whose highest logit is that of the tag they bear, of those that are known to bear one."""

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Counts one batch `(batch, frames, tags)`; `sample_weight` is not used."""
        super().update_state(y_true, y_pred, sample_weight=ops.all(y_true >= 0, axis=-1))


def cross_entropy(targets: Any, logits: Any, positive_weights: Any = 1.0) -> Any:
    """Binary cross-entropy of each tag, `(batch, frames)`: the mean over tags, of which unknown ones give 0.

    Args:
        targets: `(batch, frames, tags)`, in [0, 1], or below 0 for unknown.
        logits: of the same shape.
        positive_weights: `(tags,)`, by which the part of a target counts.
    """
    known, targets, logits = _known(targets, logits)
    loss = positive_weights * targets * ops.softplus(-logits) + (1.0 - targets) * ops.softplus(logits)
    return ops.mean(known * loss, axis=-1)


def softmax_cross_entropy(targets: Any, logits: Any, positive_weights: Any = 1.0) -> Any:
    """Cross-entropy of tags of which each frame bears one, `(batch, frames)`; 0 where it is unknown which.

    Args:
        targets: `(batch, frames, tags)`, of sum 1, or below 0 for unknown.
        logits: of the same shape.
        positive_weights: `(tags,)`, of the frames that bear a tag.
    """
    known, targets, logits = _known(targets, logits)
    return -ops.sum(known * positive_weights * targets * ops.log_softmax(logits), axis=-1)


def _known(targets: Any, logits: Any) -> tuple[Any, Any, Any]:
    """1 where a target is known, targets that are 0 elsewhere, logits in full precision."""
    return ops.cast(targets >= 0, "float32"), ops.maximum(targets, 0.0), ops.cast(logits, "float32")


def _side_by_side(truth: np.ndarray, heard: np.ndarray, names: list[str], spec: ModelSpec) -> Figure:
    """A strip a tag over time, `(frames, tags)` each; what is unknown is reddish."""
    from musicnet_tf import plots

    drawn = plots.blank_figure(12, 1.2 + 0.2 * len(names))
    edges = spec.clock.frame_to_time(np.arange(len(truth) + 1)) - spec.clock.frame_to_time(0)
    axes = drawn.subplots(1, 2, sharey=True)
    for ax, values, title in zip(axes, (np.ma.masked_less(truth, 0), heard), ("as told", "as heard"), strict=True):
        ax.pcolormesh(edges, np.arange(len(names) + 1), values.T, cmap="Purples", vmin=0, vmax=1)
        ax.set_facecolor(_UNTOLD)
        plots.time_axis(ax, 0.0, edges[-1])
        plots.plain(ax)
        ax.grid(False)
        plots.heading(ax, title)
    axes[0].set_yticks(np.arange(len(names)) + 0.5, [name.replace("$", r"\$") for name in names])
    axes[0].invert_yaxis()
    return drawn

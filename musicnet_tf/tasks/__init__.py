"""What a model is trained for, one task a file: heads, targets, losses, metrics, decoder, served outputs."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from musicnet_tf.errors import ConfigError
from musicnet_tf.models import ModelSpec
from musicnet_tf.registry import Entry

if TYPE_CHECKING:
    import keras
    from matplotlib.figure import Figure


class Task(Entry, abc.ABC):
    """A task. Subclasses register with `@TASKS.register(name)` and are frozen configs.

    Task and model meet through named heads: the task trains those of `required_heads` and of
    `optional_heads` that the model has.
    """

    source: ClassVar[str]
    required_heads: ClassVar[tuple[str, ...]]
    optional_heads: ClassVar[tuple[str, ...]] = ()
    mixes: ClassVar[bool] = False
    """Whether two windows mixed have the targets of both, mixed alike, as `augment.mixup` takes for granted."""

    @property
    def annotations(self) -> tuple[str, ...]:
        """What records must tell to train it, as in `record_info.DatasetInfo.annotations`."""
        return ("notes",)

    def check(self, model: str, spec: ModelSpec) -> None:
        """Raises ConfigError, naming both, where the model lacks a head that the task needs."""
        missing = [head for head in self.required_heads if head not in spec.heads]
        if missing:
            raise ConfigError(
                f"task {self.name!r} needs head {missing[0]!r}, and model {model!r} gives {', '.join(spec.heads)}"
            )

    def heads(self, spec: ModelSpec) -> list[str]:
        """The model's heads that this task trains."""
        return [head for head in spec.heads if head in (*self.required_heads, *self.optional_heads)]

    def served(self, spec: ModelSpec) -> ModelSpec:
        """The geometry of what is served: the model's, with this task's heads alone."""
        return dataclasses.replace(spec, heads={head: spec.heads[head] for head in self.heads(spec)})

    def unlabelled(self, recordings: Iterable[Mapping[str, Any]]) -> list[str]:
        """Names of classes that none of these recordings teaches.

        Args:
            recordings: entries of `record_info.DatasetInfo.recordings`.

        Raises:
            ConfigError: where they teach none at all.
        """
        return []

    @abc.abstractmethod
    def targets(self, record: Mapping[str, Any], start: Any, spec: ModelSpec) -> dict[str, Any]:
        """Targets of one window by head, in pure TensorFlow ops.

        Args:
            record: tensors by the names of `records.FEATURES`, event times in samples of the excerpt.
            start: first sample of the window within the excerpt, int64 scalar.
            spec: geometry of the model.
        """

    @abc.abstractmethod
    def losses(self, spec: ModelSpec) -> dict[str, Callable[[Any, Any], Any]]:
        """Head → loss `(targets, logits) -> (batch, ...)`, in `keras.ops`."""

    @abc.abstractmethod
    def loss_weights(self, spec: ModelSpec) -> dict[str, float]:
        """Head → weight of its loss in the sum."""

    @abc.abstractmethod
    def metrics(self, spec: ModelSpec) -> dict[str, list[keras.metrics.Metric]]:
        """Head → metrics on logits."""

    @abc.abstractmethod
    def activations(self, logits: Mapping[str, Any]) -> dict[str, Any]:
        """What is served: logits → activations in [0, 1], in `keras.ops`."""

    def picture(self, activations: Mapping[str, Any], targets: Mapping[str, Any], spec: ModelSpec) -> Figure | None:
        """Activations against targets of one window, head → NumPy array, for TensorBoard; None for no picture."""
        return None

    @abc.abstractmethod
    def decoder_params(self) -> dict[str, Any]:
        """Parameters of the decoder, for the manifest; thresholds chosen later replace them."""

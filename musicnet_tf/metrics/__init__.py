"""Adapters onto mir_eval and scikit-learn, and how models are scored by them.

What a task's events are worth is one file, `<task>_scorer.py`. It registers a `Scorer` under the task's name, and
evaluation, the choice of the decoder's parameters and the report go through it, so that none of them names a task.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from musicnet_tf.errors import ConfigError, ModelError
from musicnet_tf.registry import SCORERS

if TYPE_CHECKING:
    import numpy as np

    from musicnet_tf.datasets import Dataset, Recording
    from musicnet_tf.events import Notes
    from musicnet_tf.manifest import Manifest
    from musicnet_tf.thresholds import Chosen


class Heard(NamedTuple):
    """A recording, its true events, and what a model makes of it: head → `(frames, classes)`."""

    id: str
    events: Any
    heads: dict[str, np.ndarray]
    duration: float

    @property
    def notes(self) -> Notes:
        """The events of a recording that was heard for its notes."""
        return self.events


class Scorer(abc.ABC):
    """Scores the events of one task, piece by piece. Subclasses register with `@SCORERS.register(task)`.

    One scorer serves one evaluation: it keeps what is pooled over its pieces.

    Attributes:
        name: of the task.
        annotation: what a recording must tell, as in `Dataset.annotations`.
        columns: scores that a table shows, where there are any, and their headings.
        options: what `of` takes besides, and `__init__` as well where there is no model.
        drawn: scores that a figure draws a bar of for each piece, and what they are called there.
        class_columns: scores of classes (see `by_class`) that a table shows, where there are any, and their headings.
        drawn_of_classes: those that a figure draws a bar of for each class, and what they are called there.
        curves_title: what `curves` are of.
        estimates, references: suffixes of files of events, those that are preferred first.
        parameters: of the task's decoder.
        left_out: why pieces lack scores that others have → their names.
    """

    name: ClassVar[str] = ""
    annotation: ClassVar[str]
    columns: ClassVar[Mapping[str, str]]
    options: ClassVar[tuple[str, ...]] = ()
    drawn: ClassVar[Mapping[str, str]]
    class_columns: ClassVar[Mapping[str, str]] = {}
    drawn_of_classes: ClassVar[Mapping[str, str]] = {}
    curves_title: ClassVar[str] = ""
    estimates: ClassVar[tuple[str, ...]]
    references: ClassVar[tuple[str, ...]]
    parameters: ClassVar[type[Chosen]]

    def __init__(self) -> None:
        self.left_out: dict[str, list[str]] = {}

    @classmethod
    @abc.abstractmethod
    def of(cls, manifest: Manifest, chosen: Chosen | None = None, **options: Any) -> Scorer:
        """A scorer of a model's events.

        Args:
            manifest: of the model.
            chosen: parameters of its decoder, chosen on *other* recordings; by default the manifest's.
            options: of the task's scores, which are named in `options`.

        Raises:
            ModelError: where the model does not do the task.
        """

    @classmethod
    def truth(cls, dataset: Dataset, recording: Recording) -> Any:
        """The events of a recording; None where they are not told. Raises ScoreError, or as the corpus does."""
        return getattr(dataset, f"load_{cls.annotation}")(recording)

    @classmethod
    @abc.abstractmethod
    def read(cls, path: Path) -> Any:
        """The events of a file. Raises ScoreError."""

    @classmethod
    def read_chosen(cls, path: str | Path) -> Chosen:
        """Parameters of the decoder as `musicnet evaluate --choose_thresholds` wrote them. Raises ModelError."""
        return cls.parameters.read(path)

    @abc.abstractmethod
    def settings(self) -> dict[str, Any]:
        """Every parameter that moves a figure, in plain types."""

    @abc.abstractmethod
    def score(self, heard: Heard) -> dict[str, float]:
        """Flat score names → values of what a model heard; nothing where the piece cannot be scored."""

    @abc.abstractmethod
    def score_events(self, id: str, reference: Any, estimate: Any) -> dict[str, float]:
        """The same of events that were found without a model."""

    def can_score(self, heard: Heard) -> bool:
        """Whether `score` would find anything to compare with."""
        return heard.events is not None

    @abc.abstractmethod
    def search(self, heard: Sequence[Sequence[Heard]]) -> Chosen:
        """Parameters of the decoder that are best on pieces kept from training, those of each corpus in a list.

        Corpora count alike, however many pieces they have; `can_score` holds of each piece.
        """

    def pooled(self) -> dict[str, float]:
        """Scores of all pieces as if they were one, where that has a meaning."""
        return {}

    def curves(self) -> dict[str, dict[str, list[float]]]:
        """Name → columns of a curve, pooled over the pieces."""
        return {}

    def by_class(self) -> dict[str, dict[str, dict[str, float]]]:
        """What is scored → class → score names → values, pooled; `positives` tells of each class how often it is true.

        Only of tasks whose classes are few and have names.
        """
        return {}

    def confusion(self) -> dict[str, dict[str, dict[str, int]]]:
        """What is scored → true class → the class that was found → how often; of classes that exclude one another."""
        return {}

    def _leave_out(self, reason: str, id: str) -> None:
        self.left_out.setdefault(reason, []).append(id)


def scorer_of(manifest: Manifest) -> type[Scorer]:
    """What scores a model's task. Raises ModelError where nothing does."""
    if manifest.task not in SCORERS.names():
        raise ModelError(
            f"model {manifest.name!r} does task {manifest.task!r}, which this program cannot score; it knows"
            f" {', '.join(SCORERS.names())}"
        )
    return SCORERS.get(manifest.task)


def check_options(scorer: type[Scorer], options: Mapping[str, Any]) -> None:
    """Raises ConfigError where a scorer does not know an option."""
    for name in options:
        if name not in scorer.options:
            choices = f"only {', '.join(scorer.options)}" if scorer.options else "none"
            raise ConfigError(f"scores of {scorer.name} have no option {name!r}, {choices}")


def under(prefix: str, values: Mapping[str, float]) -> dict[str, float]:
    """The scores with a prefix and a slash before their names."""
    return {f"{prefix}/{name}": value for name, value in values.items()}

"""How tags are scored: of each frame of a model, and of whole recordings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from musicnet_tf import instruments
from musicnet_tf.decode import decoding_of
from musicnet_tf.decode.heard_tags import HeardTags
from musicnet_tf.decode.tags import TagDecoding, decode
from musicnet_tf.events import TagSpans
from musicnet_tf.metrics import Heard, Scorer, frames, tag_files, tags, under
from musicnet_tf.metrics.tag_search import TagParameters, search_parameters
from musicnet_tf.metrics.tags import Items
from musicnet_tf.models import ModelSpec
from musicnet_tf.registry import SCORERS

if TYPE_CHECKING:
    from musicnet_tf.datasets import Dataset, Recording
    from musicnet_tf.manifest import Manifest
    from musicnet_tf.thresholds import Chosen

_GRAINS = ("frame", "recording")
_TOPS = (1, 3)


@SCORERS.register("tags")
class TagScorer(Scorer):
    """Scores of a piece, and of all pooled, by `metrics.tags`.

    - `frame/…`: of the stretches, by default a second long, that the model tells tags of. A tag is true of those that
      bear it for more than `least_seconds` at a stretch.
    - `recording/…`: of recordings, by the decoder's scores of the whole. A tag is true of those that bear it for more
      than `least_seconds` in total.

    A piece has `…/micro/…` of its own, and the pool all averages: those over tags have a meaning there alone. Tags
    that no piece bears are in none of them. Only tags that the model tells count; pieces that bear none of them have
    no scores, but what was wrongly heard in them counts in the pool. Pieces whose tags are not told are left out.
    """

    annotation: ClassVar[str] = "tags"
    columns: ClassVar[Mapping[str, str]] = {
        "frame/accuracy": "frame accuracy",
        "frame/micro/precision": "frame P",
        "frame/micro/recall": "frame R",
        "frame/micro/f1": "frame F",
        "recording/accuracy": "whole accuracy",
        "recording/micro/precision": "whole P",
        "recording/micro/recall": "whole R",
        "recording/micro/f1": "whole F",
        "recording/top1": "top 1",
        "recording/top3": "top 3",
    }
    drawn: ClassVar[Mapping[str, str]] = {"frame/micro/f1": "frame F", "recording/micro/f1": "whole F"}
    class_columns: ClassVar[Mapping[str, str]] = {
        "positives": "true",
        "found": "found",
        "threshold": "threshold",
        "precision": "P",
        "recall": "R",
        "f1": "F",
        "roc_auc": "ROC",
        "pr_auc": "PR",
        "pr_floor": "by chance",
    }
    drawn_of_classes: ClassVar[Mapping[str, str]] = {"f1": "F", "pr_auc": "PR-AUC"}
    curves_title: ClassVar[str] = "all tags as one"
    options: ClassVar[tuple[str, ...]] = ("least_seconds",)
    estimates: ClassVar[tuple[str, ...]] = tag_files.HEARD
    references: ClassVar[tuple[str, ...]] = tag_files.TRUE
    parameters: ClassVar[type[Chosen]] = TagParameters

    def __init__(
        self,
        spec: ModelSpec | None = None,
        decoder: TagDecoding | None = None,
        least_seconds: float = 0.0,
    ) -> None:
        super().__init__()
        self._spec, self._least = spec, least_seconds
        self._decoder = None if decoder is None else decoder.model_copy(update={"top": 0})  # all are scored
        self._pool = {grain: _Pool() for grain in _GRAINS}

    @classmethod
    def of(cls, manifest: Manifest, chosen: Chosen | None = None, **options: Any) -> TagScorer:
        """With `least_seconds`, by default those that the model was trained with."""
        own = decoding_of(manifest, "tags")  # also where others are given: it refuses a model of no tags
        trained = manifest.experiment.get("task", {}).get("least_seconds", 0.0)
        options = {"least_seconds": trained, **options}
        return cls(manifest.geometry, own if chosen is None else chosen.decoder, **options)  # type: ignore[arg-type]

    @classmethod
    def truth(cls, dataset: Dataset, recording: Recording) -> TagSpans | None:
        """Of records made before they held tags, the instruments that sound, where their notes tell them."""
        told = super().truth(dataset, recording)
        if told is not None:
            return told
        return instruments.spans_of_notes(dataset.load_notes(recording)) or None

    @classmethod
    def read(cls, path: Path) -> HeardTags | TagSpans:
        return tag_files.read_heard(path) if path.suffix.lower() in tag_files.HEARD else tag_files.read_true(path)

    def settings(self) -> dict[str, Any]:
        decoder = {} if self._decoder is None else {"decoder": self._decoder.model_dump(mode="json")}
        return {**decoder, "least_seconds": self._least}

    def score(self, heard: Heard) -> dict[str, float]:
        assert self._spec is not None and self._decoder is not None
        if heard.events is None:
            self._leave_out("tell no tags", heard.id)
            return {}
        told = decode(heard.heads, self._spec, self._decoder, heard.duration)
        return self._score(heard.id, heard.events, told, heard.duration)

    def score_events(self, id: str, reference: TagSpans, estimate: HeardTags) -> dict[str, float]:
        return self._score(id, reference, estimate, float(np.max(estimate.stop, initial=0.0)))

    def search(self, heard: Sequence[Sequence[Heard]]) -> TagParameters:
        assert self._spec is not None and self._decoder is not None
        return search_parameters(heard, self._spec, self._decoder, self._least)

    def pooled(self) -> dict[str, float]:
        frame, recording = (self._pool[grain].items() for grain in _GRAINS)
        scores = {**tags.averages(frame, ("macro", "weighted", "micro")), **_ranking(frame), **self._accuracy(frame)}
        whole = {**tags.averages(recording), **_ranking(recording), **self._accuracy(recording)}
        return {**under("frame", scores), **under("recording", whole)}

    def by_class(self) -> dict[str, dict[str, dict[str, float]]]:
        return {
            grain: self._with_thresholds(tags.by_tag(pool.names, pool.items())) for grain, pool in self._pool.items()
        }

    def confusion(self) -> dict[str, dict[str, dict[str, int]]]:
        if not self._exclusive:
            return {}
        return {grain: tags.confusion(pool.names, pool.items()) for grain, pool in self._pool.items()}

    def curves(self) -> dict[str, dict[str, list[float]]]:
        """Of all tags as one, at all thresholds."""
        drawn = {}
        for grain, pool in self._pool.items():
            items = pool.items()
            if items.truth.any():
                curve = frames.precision_recall_curve(items.truth, items.scores)
                drawn[grain] = {key: np.round(values, 6).tolist() for key, values in curve.items()}
        return drawn

    @property
    def _exclusive(self) -> bool:
        return self._decoder is not None and self._decoder.exclusive

    def _score(self, id: str, reference: TagSpans, told: HeardTags, duration: float) -> dict[str, float]:
        frame = tags.of_frames(reference, told, self._least)
        recording = tags.of_recording(reference, told, duration, self._least)
        self._pool["frame"].add(told.names, frame)
        self._pool["recording"].add(told.names, recording)
        scores = {**under("micro", tags.score(frame)), **self._accuracy(frame)}
        whole = {**under("micro", tags.score(recording)), **_ranking(recording), **self._accuracy(recording)}
        row = {**under("frame", scores), **under("recording", whole)}
        if not row:
            self._leave_out("bear no tag that the model tells", id)
        return row

    def _accuracy(self, items: Items) -> dict[str, float]:
        return tags.accuracy(items) if self._exclusive else {}

    def _with_thresholds(self, rows: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
        if self._decoder is None or self._exclusive:
            return rows
        own = self._decoder.thresholds
        return {tag: {**row, "threshold": own.get(tag, self._decoder.threshold)} for tag, row in rows.items()}


def _ranking(items: Items) -> dict[str, float]:
    return {name: value for k in _TOPS for name, value in tags.top_k(items, k).items()}


class _Pool:
    """The items of all pieces; of a piece that was not asked for a tag, it is neither true nor found."""

    def __init__(self) -> None:
        self.names: tuple[str, ...] = ()
        self._parts: list[tuple[tuple[str, ...], Items]] = []

    def add(self, names: tuple[str, ...], items: Items) -> None:
        self.names = tuple(dict.fromkeys((*self.names, *names)))
        self._parts.append((names, items))

    def items(self) -> Items:
        return Items.concatenate([self._of_all(names, items) for names, items in self._parts])

    def _of_all(self, names: tuple[str, ...], items: Items) -> Items:
        if names == self.names:
            return items
        columns = [self.names.index(name) for name in names]
        wide = [np.zeros((len(values), len(self.names)), values.dtype) for values in items]
        for whole, values in zip(wide, items, strict=True):
            whole[:, columns] = values
        return Items(*wide)

"""Scores of tags by scikit-learn: are they ranked above those that are not there, and found at the thresholds?

An item is what bears tags or not: a frame of a model, or a recording. A tag that no item bears has no scores, and is in
no average.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from sklearn import metrics as sklearn_metrics

from musicnet_tf.decode.heard_tags import HeardTags
from musicnet_tf.events import TagSpans
from musicnet_tf.metrics import frames, under

AVERAGES = ("macro", "weighted", "micro", "samples")
"""As scikit-learn calls them: over tags, over tags by their positives, of all entries as one, over items."""


class Items(NamedTuple):
    """Items in rows, tags in columns: which bear which, how much a model hears it, and what it says is there.

    Attributes:
        truth: bool `(items, tags)`.
        scores: float `(items, tags)`, the higher the surer.
        found: bool `(items, tags)`.
    """

    truth: np.ndarray
    scores: np.ndarray
    found: np.ndarray

    @classmethod
    def concatenate(cls, parts: Sequence[Items]) -> Items:
        """The items of several, at least one, which have the same tags."""
        return cls(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))

    def of(self, index: slice | int) -> Items:
        """Those of one tag, `(items,)`; or of several."""
        return Items(*(values[:, index] for values in self))


def by_tag(names: Sequence[str], items: Items) -> dict[str, dict[str, float]]:
    """Each tag's scores, as of `score`, after `positives`, the number of items that bear it, and of those `found`."""
    return {
        name: {
            "positives": int(np.count_nonzero(items.truth[:, tag])),
            "found": int(np.count_nonzero(items.found[:, tag])),
            **score(items.of(tag)),
        }
        for tag, name in enumerate(names)
    }


def score(items: Items) -> dict[str, float]:
    """Scores of all entries as if they were of one tag: scikit-learn's of binary labels, its `micro` of several.

    Returns:
        `precision`, `recall` and `f1` of what was found, 0 where nothing was; `roc_auc`; `pr_auc`, which is
        scikit-learn's average precision; and `pr_floor`, what `pr_auc` is by chance, the rate of positives. Nothing
        where there are no positives, and no `roc_auc` where there are only positives.
    """
    if not items.truth.any():
        return {}
    scores = frames.count(items.truth, items.found).scores()
    if not items.truth.all():
        scores["roc_auc"] = float(sklearn_metrics.roc_auc_score(items.truth.ravel(), items.scores.ravel()))
    scores["pr_auc"] = frames.average_precision(items.truth, items.scores)
    scores["pr_floor"] = float(items.truth.mean())
    return scores


def averages(items: Items, kinds: Sequence[str] = AVERAGES) -> dict[str, float]:
    """Averages of `score`, with names such as `macro/pr_auc`.

    Equal to scikit-learn's where each of its parts is defined. Where not, tags (of `samples`: items) without positives
    are left out, and those without negatives of `roc_auc`; scikit-learn would take them for 0, or refuse.

    Args:
        items: with their tags.
        kinds: of `AVERAGES`. `samples` takes about a second for each thousand items.
    """
    num_items, num_tags = items.truth.shape
    rows: dict[str, list[dict[str, float]]] = {}
    if {"macro", "weighted"} & {*kinds}:
        rows["macro"] = rows["weighted"] = [score(items.of(tag)) for tag in range(num_tags)]
    if "samples" in kinds:
        rows["samples"] = [score(Items(*row)) for row in zip(*items, strict=True)]
    weights = {"macro": np.ones(num_tags), "weighted": items.truth.sum(axis=0), "samples": np.ones(num_items)}
    found: dict[str, float] = {}
    for kind in kinds:
        found |= under(kind, score(items) if kind == "micro" else _mean(rows[kind], weights[kind]))
    return found


def top_k(items: Items, k: int) -> dict[str, float]:
    """`top<k>`: the share of items of whose `k` highest scores one is of a tag that they bear.

    Items without tags are left out; equal scores count in the order of the tags. With one tag an item, this is
    scikit-learn's top-k accuracy. Nothing where no item has tags, or there are no more than `k` tags.
    """
    tagged = items.truth.any(axis=1)
    if not tagged.any() or items.truth.shape[1] <= k:
        return {}
    best = np.argsort(-items.scores[tagged], axis=1, kind="stable")[:, :k]
    return {f"top{k}": float(np.take_along_axis(items.truth[tagged], best, axis=1).any(axis=1).mean())}


def accuracy(items: Items) -> dict[str, float]:
    """`accuracy`: of items that bear exactly one tag, the share of which just that was found; nothing without any."""
    single = items.truth.sum(axis=1) == 1
    if not single.any():
        return {}
    return {"accuracy": float(sklearn_metrics.accuracy_score(items.truth[single], items.found[single]))}


def confusion(names: Sequence[str], items: Items) -> dict[str, dict[str, int]]:
    """How many items of each true tag were taken for each tag: true → found → items.

    Of items that bear exactly one tag, and of which one was found.
    """
    single = (items.truth.sum(axis=1) == 1) & (items.found.sum(axis=1) == 1)
    counts = sklearn_metrics.confusion_matrix(
        np.argmax(items.truth[single], axis=1),
        np.argmax(items.found[single], axis=1),
        labels=np.arange(len(names)),
    )
    return {name: dict(zip(names, row, strict=True)) for name, row in zip(names, counts.tolist(), strict=True)}


def borne(spans: TagSpans, names: Sequence[str], duration: float, least_seconds: float = 0.0) -> np.ndarray:
    """Which tags a recording bears: those of more than `least_seconds` in total, bool `(tags,)`.

    Args:
        spans: stretches that bear tags; what lies outside the recording does not count.
        names: of the tags.
        duration: seconds of the recording.
        least_seconds: in total.
    """
    whole = spans.merged()
    seconds = np.maximum(np.minimum(whole.stop, duration) - np.maximum(whole.start, 0.0), 0.0)
    return np.array([seconds[whole.tag == name].sum() > least_seconds for name in names], bool)


def of_frames(spans: TagSpans, heard: HeardTags, least_seconds: float = 0.0) -> Items:
    """The stretches that a model tells tags of; a tag is true of those that bear it for more than `least_seconds`."""
    truth = spans.active(heard.names, heard.start, heard.stop, least_seconds)
    return Items(truth, heard.timeline, heard.active)


def of_recording(spans: TagSpans, heard: HeardTags, duration: float, least_seconds: float = 0.0) -> Items:
    """A recording as one item; what is true of it, `borne` says."""
    truth = borne(spans, heard.names, duration, least_seconds)
    return Items(truth[np.newaxis], heard.scores[np.newaxis], heard.present[np.newaxis])


def _mean(rows: Sequence[dict[str, float]], weights: np.ndarray) -> dict[str, float]:
    """Each score's mean over the rows that have it."""
    found = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        has = [name in row for row in rows]
        values = [row[name] for row in rows if name in row]
        found[name] = float(np.average(values, weights=weights[has]))
    return found

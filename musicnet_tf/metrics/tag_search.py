"""The search for the thresholds of tags, on recordings kept from training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from musicnet_tf.decode.heard_tags import Stretches
from musicnet_tf.decode.tags import TagDecoding, decode
from musicnet_tf.errors import DatasetError
from musicnet_tf.events import TagSpans
from musicnet_tf.metrics import Heard, tags
from musicnet_tf.models import ModelSpec
from musicnet_tf.thresholds import Chosen

CRITERIA = ("frame/macro/f1", "recording/macro/f1")
THRESHOLDS = tuple((np.arange(1, 100) / 100).tolist())


class TagParameters(Chosen):
    """Those of a decoder of tags.

    Attributes:
        least_seconds: what bears a tag for no longer does not count as bearing it.
        not_chosen: tags that no piece bears, whose thresholds therefore stayed.
    """

    decoder: TagDecoding = TagDecoding()
    least_seconds: float = 0.0
    not_chosen: tuple[str, ...] = ()


def search_parameters(
    heard: Sequence[Sequence[Heard]], spec: ModelSpec, start: TagDecoding, least_seconds: float = 0.0
) -> TagParameters:
    """The best threshold of each tag; where tags exclude one another there is nothing to choose.

    What is maximised is the sum of two F-measures of the tag: of frames, and of recordings as the decoder tells them
    from frames. Each is of what all pieces come to, a frame or recording of a corpus counting by one over their number
    there, so that corpora count alike. Of equally good values the one nearest to the value so far is kept.

    Args:
        heard: the pieces of each corpus; each has some, and events.
        spec: of the model that heard them.
        start: parameters that are not searched, and the thresholds of tags that no piece bears.
        least_seconds: as of `tags.borne` and `TagSpans.active`.

    Raises:
        DatasetError: where no piece bears any tag of the model.
    """
    corpora = [[_piece(each, spec, start, least_seconds) for each in corpus] for corpus in heard]
    names = corpora[0][0].stretches.names
    values = (start.threshold,) if start.exclusive else THRESHOLDS
    f1 = np.array([_f1(corpora, start, value) for value in tqdm(values, desc="threshold", disable=None)])
    told = ~np.isnan(f1[0]).all(axis=0)
    if not told.any():
        raise DatasetError(f"no recording that was heard bears a tag of the model, which are {', '.join(names)}")
    best = np.array(
        [
            _nearest_best(f1[..., tag], values, start.thresholds.get(name, start.threshold))
            for tag, name in enumerate(names)
        ]
    )
    chosen = {} if start.exclusive else {name: values[best[tag]] for tag, name in enumerate(names) if told[tag]}
    reached = np.take_along_axis(f1, best[np.newaxis, np.newaxis], axis=0)[0]
    return TagParameters(
        decoder=start.model_copy(update={"thresholds": {**start.thresholds, **chosen}}),
        scores={name: float(np.nanmean(row)) for name, row in zip(CRITERIA, reached, strict=True)},
        least_seconds=least_seconds,
        not_chosen=tuple(name for tag, name in enumerate(names) if not told[tag]),
    )


class _Piece(NamedTuple):
    """What was heard of a recording, and what is true: of frames `(frames, tags)`, of the whole `(1, tags)`."""

    stretches: Stretches
    frame: np.ndarray
    recording: np.ndarray


def _piece(heard: Heard, spec: ModelSpec, params: TagDecoding, least_seconds: float) -> _Piece:
    found = decode(heard.heads, spec, params, heard.duration).whole
    spans: TagSpans = heard.events
    frame = spans.active(found.names, found.start, found.stop, least_seconds)
    return _Piece(found, frame, tags.borne(spans, found.names, heard.duration, least_seconds)[np.newaxis])


def _f1(corpora: Sequence[Sequence[_Piece]], start: TagDecoding, threshold: float) -> np.ndarray:
    """F-measures of frames and of recordings, `(2, tags)`; not a number where there are no positives."""
    params = start.model_copy(update={"threshold": threshold, "thresholds": {}, "top": 0})
    counts = np.sum([_counts(pieces, params) for pieces in corpora], axis=0)
    correct, found, true = np.moveaxis(counts, 1, 0)
    return np.where(true > 0, 2 * correct / np.maximum(found + true, np.finfo(float).tiny), np.nan)


def _counts(pieces: Sequence[_Piece], params: TagDecoding) -> np.ndarray:
    """Shares of a corpus's frames and recordings that are correct, found and true of each tag, `(2, 3, tags)`."""
    heard = [params.tags(piece.stretches) for piece in pieces]
    frame = [(piece.frame, told.active) for piece, told in zip(pieces, heard, strict=True)]
    recording = [(piece.recording, told.present[np.newaxis]) for piece, told in zip(pieces, heard, strict=True)]
    return np.array(
        [_shares(*(np.concatenate(part) for part in zip(*rows, strict=True))) for rows in (frame, recording)]
    )


def _shares(truth: np.ndarray, found: np.ndarray) -> np.ndarray:
    return np.array([(truth & found).mean(axis=0), found.mean(axis=0), truth.mean(axis=0)])


def _nearest_best(f1: np.ndarray, values: Sequence[float], now: float) -> int:
    """Index of the value with the highest sum of F-measures `(values, 2)`; of equal ones that nearest to `now`."""
    order = np.argsort(np.abs(np.array(values) - now), kind="stable")
    return int(order[np.argmax(np.nansum(f1, axis=1)[order])])

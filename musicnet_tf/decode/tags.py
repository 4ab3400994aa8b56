"""Scores of tags, chunk by chunk → those of the recording, and which of them it bears, and when."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import pydantic
from scipy import special

from musicnet_tf import windowing
from musicnet_tf.decode import Decoding
from musicnet_tf.decode.heard_tags import HeardTags, Stretches, short
from musicnet_tf.errors import ConfigError, ModelError
from musicnet_tf.models import ModelSpec
from musicnet_tf.registry import DECODERS, nearest
from musicnet_tf.timebase import FrameClock

if TYPE_CHECKING:
    from musicnet_tf.writers import Format

_LEAST = 2.0**-24
"""Probabilities are kept so far from 0 and 1 before their logits are taken: float32 knows none that is nearer to 1."""
_MOST_TOLD = 5
"""Tags in a line, where it was not said how many."""

Share = Annotated[float, pydantic.Field(ge=0, le=1)]


@DECODERS.register("tags")
class TagDecoding(Decoding):
    """What the decoder may be told. Kept in a model's manifest.

    Attributes:
        aggregate: how the scores of chunks become that of the recording: their `mean`, their `max`, or by `vote`, the
            share of chunks that bear the tag. A last chunk that the recording ends in counts, in mean and vote, by
            the part of it that is recording.
        of: mean and maximum are taken of `probabilities`, or of `logits` (of tags that exclude one another, of the
            logarithms of their probabilities), which are then made probabilities again. Not of `vote`.
        exclusive: whether a chunk, and the recording, bears exactly one tag: that of the highest score.
        threshold: score from which on a tag is borne, by a chunk and by the recording, where tags are not exclusive.
        thresholds: the same of single tags, in place of `threshold`.
        top: only so many tags are told of a recording, those of the highest scores; 0 for all.
    """

    noun: ClassVar[str] = "tags"
    heads: ClassVar[tuple[str, ...]] = ("tag",)
    default_formats: ClassVar[tuple[str, ...]] = ("json", "csv", "png")

    aggregate: Literal["mean", "max", "vote"] = "mean"
    of: Literal["probabilities", "logits"] = "probabilities"
    exclusive: bool = False
    threshold: Share = 0.5
    thresholds: dict[str, Share] = pydantic.Field(default_factory=dict)
    top: int = pydantic.Field(0, ge=0)

    def start(self, spec: ModelSpec) -> TagDecoder:
        """Raises ConfigError where `thresholds` names a tag that the model does not tell."""
        names = names_of(spec)
        for name in self.thresholds:
            if name not in names:
                raise ConfigError(
                    f"thresholds: the model tells no tag {name!r}{nearest(name, names)}; it tells {', '.join(names)}"
                )
        return TagDecoder(windowing.recording_clock(spec), self, names)

    def within(self, events: HeardTags, duration: float) -> HeardTags:
        """The tags of a recording of so many seconds: stretches end with it, and count by what is left of them."""
        return self.tags(events.whole.ending(duration))

    def count(self, events: HeardTags) -> int:
        """Tags that the recording bears."""
        return int(events.present.sum())

    def details(self, events: HeardTags) -> str:
        """The tags that the recording bears with their scores, the highest first; else the likeliest."""
        ranked = events.ranked()
        borne = [(tag, score) for tag, score in ranked if tag in events.borne()]
        most = self.top or _MOST_TOLD
        told = ", ".join(f"{tag} {short(score)}" for tag, score in borne[:most])
        if len(borne) > most:
            told += f" and {len(borne) - most} more"
        if not borne and ranked:
            told = f"most likely {ranked[0][0]} {short(ranked[0][1])}"
        return f"; {told}" if told else ""

    @classmethod
    def formats(cls) -> Mapping[str, Format]:
        from musicnet_tf import tag_writers  # draws, too, which a decoder alone need not

        return tag_writers.FORMATS

    def tags(self, heard: Stretches) -> HeardTags:
        """What the scores of all stretches come to."""
        active = self.borne(heard.scores, heard.names)
        scores = self._aggregated(heard, active)
        present = self.borne(scores[np.newaxis], heard.names)[0] & (len(active) > 0)
        kept = np.sort(np.argsort(-scores, kind="stable")[: self.top or None])
        return HeardTags(
            names=tuple(heard.names[tag] for tag in kept),
            scores=scores[kept],
            start=heard.start,
            stop=heard.stop,
            timeline=heard.scores[:, kept],
            embedding=heard.embedding,
            present=present[kept],
            active=active[:, kept],
            whole=heard,
        )

    def borne(self, scores: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
        """Which tags are borne by their scores, `(frames, tags)` → bool `(frames, tags)`."""
        if self.exclusive:
            return np.arange(len(names)) == np.argmax(scores, axis=1)[:, np.newaxis]
        return scores >= np.array([self.thresholds.get(name, self.threshold) for name in names])

    def _aggregated(self, heard: Stretches, active: np.ndarray) -> np.ndarray:
        """Scores of the recording, float64 `(tags,)`; 0 of one without stretches."""
        weights = heard.weights()
        if not weights.any():
            return np.zeros(len(heard.names))
        if self.aggregate == "vote":
            return np.average(active, axis=0, weights=weights)
        values = heard.scores if self.of == "probabilities" else self._logits(heard.scores)
        value = np.average(values, axis=0, weights=weights) if self.aggregate == "mean" else values.max(axis=0)
        if self.of == "probabilities":
            return value
        return special.softmax(value) if self.exclusive else special.expit(value)

    def _logits(self, scores: np.ndarray) -> np.ndarray:
        inner = np.clip(scores, _LEAST, 1 - _LEAST)
        return np.log(inner) if self.exclusive else special.logit(inner)


def names_of(spec: ModelSpec) -> tuple[str, ...]:
    """What a model's tags are called: the labels of its head, or `tag 0`, `tag 1` … where it has none."""
    head = spec.heads["tag"]
    return head.labels or tuple(f"tag {index}" for index in range(head.num_classes))


def decode(
    heads: Mapping[str, np.ndarray], spec: ModelSpec, params: TagDecoding, duration: float | None = None
) -> HeardTags:
    """The tags of a whole recording's activations; see `TagDecoder`.

    Args:
        heads: `tag` → scores `(frames, tags)`, and maybe `embedding` → `(frames, features)`.
        spec: geometry of the model.
        params: of the decoder.
        duration: seconds of the recording, where the last stretch is to count by what of it is recording.
    """
    decoder = params.start(spec)
    decoder.push(heads)
    tags = decoder.finish()
    return tags if duration is None else params.within(tags, duration)


class TagDecoder:
    """Gathers the scores of chunks, from which those of the recording are told, however they were cut into pieces.

    Head `tag` is needed; a head `embedding` is kept beside it. Memory grows with both.

    Args:
        clock: of the frames, each of which speaks for `hop_length` samples round its instant.
        params: of the decoder.
        names: of the tags.
    """

    def __init__(self, clock: FrameClock, params: TagDecoding, names: tuple[str, ...]) -> None:
        self._clock, self._params, self._names = clock, params, names
        self._kept: dict[str, list[np.ndarray]] = {}
        self._frames = 0
        self._rows: list[dict[str, Any]] = []
        self._before = np.zeros(len(names), bool)

    @property
    def look_ahead(self) -> float:
        """Seconds from where a stretch begins, of which a row tells, to the instant of its frame."""
        return self._clock.hop_length / 2 / self._clock.sample_rate

    def push(self, heads: Mapping[str, np.ndarray]) -> None:
        """Takes the next frames: head → `(frames, classes)`.

        Raises:
            ModelError: where `tag` is missing, shapes differ, or a score is not a number.
        """
        new = _checked(heads, len(self._names), self._kept)
        for name, values in new.items():
            self._kept.setdefault(name, []).append(values)
        self._tell(new["tag"])
        self._frames += len(new["tag"])

    def live(self) -> list[dict[str, Any]]:
        """Where tags began and ended to be borne, since the last call.

        A `begin` and an `end` have `time` in seconds, `tag`, and the `score` of the stretch that begins there. What is
        borne up to the end of the recording has no `end`.
        """
        rows, self._rows = self._rows, []
        return rows

    def finish(self) -> HeardTags:
        """The tags of all frames, as if the recording ended with the last of them."""
        start = self._starts(np.arange(self._frames + 1))
        known = {name: np.concatenate(parts) for name, parts in self._kept.items()}
        scores = known.get("tag", np.zeros((0, len(self._names)))).astype(np.float64)
        hop = self._clock.hop_length / self._clock.sample_rate
        heard = Stretches(self._names, scores, start[:-1], start[1:], hop, known.get("embedding"))
        return self._params.tags(heard)

    def _starts(self, frame: np.ndarray) -> np.ndarray:
        """Seconds at which stretches begin, none before the recording."""
        sample = self._clock.frame_to_sample(frame) - self._clock.hop_length // 2
        return np.maximum(sample, 0) / self._clock.sample_rate

    def _tell(self, scores: np.ndarray) -> None:
        """Notes what changes, frame by frame."""
        borne = np.concatenate([self._before[np.newaxis], self._params.borne(scores, self._names)])
        start = self._starts(self._frames + np.arange(len(scores)))
        for frame, tag in np.argwhere(borne[1:] != borne[:-1]):
            self._rows.append(
                {
                    "event": "begin" if borne[1 + frame, tag] else "end",
                    "time": float(start[frame]),
                    "tag": self._names[tag],
                    "score": float(scores[frame, tag]),
                }
            )
        self._before = borne[-1]


def _checked(heads: Mapping[str, np.ndarray], num_tags: int, before: Mapping[str, Any]) -> dict[str, np.ndarray]:
    if "tag" not in heads:
        raise ModelError(f"tags need a head 'tag', the model gives {', '.join(heads) or 'none'}")
    known = {name: np.asarray(heads[name], np.float32) for name in ("tag", "embedding") if name in heads}
    if before and known.keys() != before.keys():
        raise ModelError(f"heads changed from {', '.join(before)} to {', '.join(known)} within a recording")
    frames = len(known["tag"])
    for name, values in known.items():
        classes = num_tags if name == "tag" else values.shape[-1]
        if values.shape != (frames, classes):
            raise ModelError(f"head {name!r} has shape {values.shape}, expected ({frames}, {classes})")
        if not np.isfinite(values).all():
            raise ModelError(f"head {name!r} holds what is not a finite number; the model is damaged")
    return known

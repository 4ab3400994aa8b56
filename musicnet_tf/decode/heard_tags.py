"""What was heard of a recording's tags: scores of the whole and of stretches, and which of them are borne."""

from __future__ import annotations

import dataclasses

import numpy as np

from musicnet_tf.events import Tags, TagSpans


@dataclasses.dataclass(frozen=True, eq=False)
class Stretches:
    """All that was heard of a recording.

    Attributes:
        names: of the tags.
        scores: float64 `(frames, tags)`.
        start, stop: seconds, float64 `(frames,)`.
        hop: seconds that a whole stretch lasts.
        embedding: float32 `(frames, features)`, where the model tells it.
    """

    names: tuple[str, ...]
    scores: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    hop: float
    embedding: np.ndarray | None

    def weights(self) -> np.ndarray:
        """What part of a stretch is recording, float64 `(frames,)`."""
        return (self.stop - self.start) / self.hop

    def ending(self, duration: float) -> Stretches:
        """The same, of a recording that ends after so many seconds."""
        return dataclasses.replace(self, stop=np.maximum(np.minimum(self.stop, duration), self.start))


@dataclasses.dataclass(frozen=True, eq=False)
class HeardTags(Tags):
    """Tags, and which of them are borne.

    Attributes:
        present: by the recording, bool `(tags,)`.
        active: by each stretch, bool `(frames, tags)`.
        whole: what they were told from.
    """

    present: np.ndarray = dataclasses.field(kw_only=True)
    active: np.ndarray = dataclasses.field(kw_only=True)
    whole: Stretches = dataclasses.field(kw_only=True)

    def borne(self) -> set[str]:
        """The tags that the recording bears."""
        return {name for name, present in zip(self.names, self.present, strict=True) if present}

    def spans(self) -> TagSpans:
        """The stretches of time that bear a tag, those that touch joined; sorted by start, then by tag."""
        lasting = self.stop > self.start  # a recording may have been told to be shorter than what was heard
        frame, tag = np.nonzero(self.active & lasting[:, np.newaxis])
        return TagSpans(self.start[frame], self.stop[frame], np.array(self.names, str)[tag]).merged()


def short(score: float) -> str:
    """`0.983` → `.98`."""
    return f"{score:.2f}".removeprefix("0")

"""Tags of corpora: those of which nothing else is told, and those that notes and metadata tell."""

from __future__ import annotations

import abc
from collections.abc import Mapping

from musicnet_tf import instruments
from musicnet_tf.datasets import Dataset, Recording
from musicnet_tf.events import Notes, TagSpans

_KINDS = ("composer", "ensemble")


class TaggedDataset(Dataset):
    """A corpus that tells tags of its recordings, and no notes."""

    def load_notes(self, recording: Recording) -> Notes:
        """None: they are not told."""
        return Notes.empty()

    @abc.abstractmethod
    def load_tags(self, recording: Recording) -> TagSpans:
        """The stretches that bear a tag, from the first sample. Raises DatasetError."""

    @classmethod
    def annotations(cls) -> tuple[str, ...]:
        return ("tags",)


def tags_of_music(notes: Notes, metadata: Mapping[str, str]) -> TagSpans:
    """What notes and metadata tell: stretches in which instruments sound, and composer and ensemble of the whole.

    Instruments go by their bare names, the others by their kind as well: `violin`, `composer/Bach`,
    `ensemble/String Quartet`.
    """
    whole = [f"{kind}/{metadata[kind]}" for kind in _KINDS if metadata.get(kind)]
    return TagSpans.concatenate([instruments.spans_of_notes(notes), TagSpans.of_whole(whole)])

"""Networks, one family a file. A family is a frozen config that can tell its geometry and build itself."""

from __future__ import annotations

import abc
import dataclasses
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import pydantic

from musicnet_tf.errors import ConfigError
from musicnet_tf.registry import Entry
from musicnet_tf.timebase import FrameClock

if TYPE_CHECKING:
    import keras


@dataclasses.dataclass(frozen=True)
class HeadSpec:
    """One named output `(batch, frames, num_classes)`; class `c` of a pitch head is MIDI `first_pitch + c`.

    Attributes:
        labels: what the classes are called, as many as there are; empty where their numbers say it all.
    """

    num_classes: int
    first_pitch: int = 0
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", tuple(self.labels))  # of JSON, which knows lists alone
        if self.labels and len(self.labels) != self.num_classes:
            raise ConfigError(f"a head of {self.num_classes} classes cannot have {len(self.labels)} labels")

    def to_dict(self) -> dict[str, Any]:
        fields = {"num_classes": self.num_classes, "first_pitch": self.first_pitch}
        return {**fields, "labels": list(self.labels)} if self.labels else fields


PIANO = HeadSpec(88, first_pitch=21)
"""The keys of a piano, from A0 on."""


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """The geometry of a model: what it takes, what it gives, and when each output frame is.

    Attributes:
        clock: of the output frames, sample 0 being the first sample of the window.
        window_length: samples in one input window, `(batch, window_length)` float32.
        num_frames: output frames of one window.
        margin: frames at each end of a window whose receptive field leaves it, to be cut off when
            windows are stitched. 0 where every output sees only the window.
        heads: name → `HeadSpec`.
    """

    clock: FrameClock
    window_length: int
    num_frames: int
    margin: int
    heads: dict[str, HeadSpec]

    def to_dict(self) -> dict[str, Any]:
        """Fields in the types of JSON; a head's labels where it has any."""
        return {**dataclasses.asdict(self), "heads": {name: head.to_dict() for name, head in self.heads.items()}}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> ModelSpec:
        heads = {name: HeadSpec(**head) for name, head in fields["heads"].items()}
        return cls(**{**fields, "clock": FrameClock(**fields["clock"]), "heads": heads})


def _is_geometry(spec: dict[str, Any]) -> dict[str, Any]:
    try:
        ModelSpec.from_dict(spec)
    except (KeyError, TypeError, AttributeError, ConfigError) as error:
        raise ValueError(f"no geometry of a model ({type(error).__name__}: {error})") from error
    return spec


Geometry = Annotated[dict[str, Any], pydantic.AfterValidator(_is_geometry)]
"""What `ModelSpec.to_dict` gives, as a field of a file that tells of a model."""


def midpoint_spec(sample_rate: int, window: int, hop_length: int, window_frames: int) -> ModelSpec:
    """The geometry of the paper's models: windows labelled at their midpoints, `window_frames` of them a stretch."""
    clock = FrameClock(sample_rate, hop_length, origin=window // 2)
    heads = {"frame": HeadSpec(128)}
    return ModelSpec(clock, window + (window_frames - 1) * hop_length, window_frames, margin=0, heads=heads)


class Model(Entry, abc.ABC):
    """A model family. Subclasses register with `@MODELS.register(name)` and are frozen configs.

    Built from `keras.ops` and Keras layers alone, with the front end inside, so that the same file
    trains on any backend and what is served takes a waveform.
    """

    source: ClassVar[str]
    """The paper, or `musicnet_tf` for our own."""

    @abc.abstractmethod
    def spec(self) -> ModelSpec:
        """The geometry, known before anything is built."""

    @abc.abstractmethod
    def build(self) -> keras.Model:
        """A network `(batch, window_length)` float32 → dict of head → logits `(batch, frames, classes)`."""

    def parts(self) -> dict[str, Model]:
        """Families whose networks are layers of this one, by the layers' names; they come with weights of their own."""
        return {}

    def ear(self) -> Model | None:
        """The transcriber whose activations are all that the layer `trunk` hears; None where there is none.

        Such a network can learn from notes: the trunk takes head → activations of this family's heads.
        """
        return None


class WindowModel(Model):
    """A family that labels the midpoint of each window of a stretch of audio, as the MusicNet paper's models do.

    Attributes:
        sample_rate: of the waveform that it takes.
        window: samples that one label is told from.
        hop_length: samples from one window to the next; the paper's test points.
        window_frames: windows that one stretch of audio holds.
    """

    sample_rate: int = 44100
    window: int = pydantic.Field(default=16384, gt=0)
    hop_length: int = pydantic.Field(default=512, gt=0)
    window_frames: int = pydantic.Field(default=1, gt=0)

    def spec(self) -> ModelSpec:
        return midpoint_spec(self.sample_rate, self.window, self.hop_length, self.window_frames)

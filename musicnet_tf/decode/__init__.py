"""What a task's activations become: events, and the files that hold them. NumPy only, so that a client needs no more.

One file a task. It registers what a manifest's `decoder` holds under the task's name, and whoever serves, streams or
transcribes in bulk goes through here, so that none of them names a task:

    decoding = decoding_of(manifest)
    decoder = decoding.start(manifest.geometry)
    decoder.push(heads)
    events = decoder.finish()
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sized
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import pydantic

from musicnet_tf import validation
from musicnet_tf.errors import ConfigError, ModelError
from musicnet_tf.models import ModelSpec
from musicnet_tf.registry import DECODERS

if TYPE_CHECKING:
    import numpy as np

    from musicnet_tf.manifest import Manifest
    from musicnet_tf.writers import Format


class Decoder(Protocol):
    """Turns activations into events. However the frames are cut into pieces, the events are the same."""

    @property
    def look_ahead(self) -> float | None:
        """Seconds of activations after the last instant of which a row of `live` tells, that may have to be seen first.

        None where there is no such bound, as of a decoder that decides at the end.
        """

    def push(self, heads: Mapping[str, np.ndarray]) -> None:
        """Takes the next frames: head → activations `(frames, num_classes)`. Raises ModelError."""

    def live(self) -> list[dict[str, Any]]:
        """What has been decided since the last call, for a listener: JSON values, `event` telling of what kind.

        Nothing in it is taken back later, and `finish` gives these events as well.
        """

    def finish(self) -> Sized:
        """All events, once the last frame was pushed."""


class Decoding(pydantic.BaseModel, abc.ABC):
    """Parameters of a task's decoder, kept in a model's manifest. Register with `@DECODERS.register(task)`.

    Attributes:
        name: of the task.
        noun: what its events are called, in the plural.
        heads: that the decoder cannot do without.
        default_formats: names in `formats()` that are written where nobody chose.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    name: ClassVar[str] = ""
    noun: ClassVar[str]
    heads: ClassVar[tuple[str, ...]]
    default_formats: ClassVar[tuple[str, ...]]

    @abc.abstractmethod
    def start(self, spec: ModelSpec) -> Decoder:
        """A decoder of one recording's posteriorgram, whose clock is `windowing.recording_clock(spec)`."""

    def live(self) -> Decoding:
        """These parameters, but for a listener: events are to be told while the sound still comes."""
        return self

    def within(self, events: Any, duration: float) -> Any:
        """The same events where it matters that the recording lasts so many seconds, of which a decoder is not told."""
        return events

    def count(self, events: Any) -> int:
        """How many there are of what `noun` names."""
        return len(events)

    def details(self, events: Any) -> str:
        """What there is to tell of a recording's events besides their number, in a line; begins with "; "."""
        return ""

    @classmethod
    @abc.abstractmethod
    def formats(cls) -> Mapping[str, Format]:
        """Name → kind of file that the events are written to."""


def live_decoding_of(manifest: Manifest, **overrides: Any) -> Any:
    """As `decoding_of`, of parameters that suit a listener unless they are overridden. Raises as that does."""
    suited = decoding_of(manifest).live()
    return decoding_of(manifest.model_copy(update={"decoder": suited.model_dump(mode="json")}), **overrides)


def decoding_of(manifest: Manifest, task: str = "", **overrides: Any) -> Any:
    """The decoder's parameters that a model brings with it, some replaced.

    Args:
        manifest: of the model.
        task: that it must do; any by default.
        overrides: fields of the task's `Decoding`; None leaves the model's own.

    Raises:
        ModelError: where the model does another task, lacks a head, or its manifest is damaged.
        ConfigError: where an override is out of range.
    """
    if manifest.task not in DECODERS.names():
        raise ModelError(
            f"model {manifest.name!r} does task {manifest.task!r}, which this program cannot decode; it knows"
            f" {', '.join(DECODERS.names())}"
        )
    kind = DECODERS.get(task or manifest.task)
    if manifest.task != kind.name or not set(kind.heads) <= set(manifest.geometry.heads):
        raise ModelError(
            f"model {manifest.name!r} does task {manifest.task!r} with heads {', '.join(manifest.geometry.heads)},"
            f" which gives no {kind.noun}; choose another"
        )
    try:
        decoding = kind.model_validate(manifest.decoder)
    except pydantic.ValidationError as error:
        reason = validation.describe(kind, error)
        raise ModelError(
            f"model {manifest.name!r}: its manifest's decoder is not one of {kind.noun}: {reason}"
        ) from error
    try:
        return kind(**{**decoding.model_dump(), **{k: v for k, v in overrides.items() if v is not None}})
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        name, value = first["loc"][0], first["input"]
        raise ConfigError(f"{name}={value}: {first['msg'][0].lower()}{first['msg'][1:]}") from error

"""All that a client knows and decides, without its transport: one place for threads and for coroutines.

A session is a model on a server as it was when the client began: its manifest and its version. What it says
to the server is told in steps (`exchange.Steps`), which `client` and `aio` carry out.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
import pydantic

from musicnet_tf import inference
from musicnet_tf.errors import ServingError, VersionGoneError
from musicnet_tf.manifest import FORMAT_VERSION, Manifest
from serving import credentials, retry
from serving.address import Address
from serving.exchange import UNREADABLE, Answer, Pause, Predict, Refusal, Send, Steps, Versions, printable
from serving.options import Options

Heads = dict[str, np.ndarray]
"""Head → activations, float32 `(batch, num_frames, num_classes)`."""

_JSON_BYTES_PER_SAMPLE = 24  # "-1.2345678901234567e-05," at the longest, as JSON writes a float32
_OPENINGS = 3  # versions that may go, one after the other, between being named and being asked


class Session:
    """A model on a server: what to send to it, when to send again, and what its answers must be.

    Attributes:
        address: of the model, in the version that this session began with as soon as it is known.
        manifest: of that version; there once `open` has ended.
        options: as given.
    """

    manifest: Manifest

    def __init__(
        self,
        address: Address,
        options: Options,
        clock: Callable[[], float] = time.monotonic,
        uniform: Callable[[], float] = random.random,
    ) -> None:
        """Checks that the options suit the address. Raises ServingError.

        Args:
            address: of the model.
            options: of the client.
            clock: seconds from any origin.
            uniform: draws from [0, 1), for the pauses between attempts.
        """
        credentials.check(address, options)
        self.address, self.options = address, options
        self._asked, self._clock, self._uniform = address, clock, uniform
        self._max_windows = options.max_windows

    def open(self, patience: float) -> Steps[None]:
        """Finds the version that the address means, newest or by label, and fetches its manifest.

        Args:
            patience: seconds for each message with its retries.

        Raises:
            ServingError: where there is no such model, or it does not describe itself.
        """
        for attempt in range(1, _OPENINGS + 1):
            try:
                self.address, self.manifest = yield from self._describe(patience)
                return
            except VersionGoneError:
                if attempt == _OPENINGS:
                    raise

    def messages(self, windows: np.ndarray) -> list[np.ndarray]:
        """A batch as messages of about equal size, none larger than the options and the server allow; at least one.

        Raises:
            ServingError: where windows are not `(batch, window_length)`.
        """
        spec = self.manifest.geometry
        windows = np.asarray(windows, np.float32)
        if windows.ndim != 2 or windows.shape[1] != spec.window_length:
            raise ServingError(
                f"{self.address}: windows of shape {windows.shape}, the model takes (batch, {spec.window_length})"
            )
        sample_bytes = _JSON_BYTES_PER_SAMPLE if self.address.is_rest else 4
        fitting = self.options.max_message_bytes // (sample_bytes * spec.window_length)
        size = max(1, min(self._max_windows, fitting))
        return np.array_split(windows, max(1, -(-len(windows) // size)))

    def split(self, batches: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, bool]]:
        """The messages of each batch, and whether a message is the last of its batch. Raises as `messages`."""
        for windows in batches:
            *others, last = self.messages(windows)
            yield from ((message, False) for message in others)
            yield last, True

    def activations(self, windows: np.ndarray) -> Steps[Heads]:
        """What the model hears in the windows of one message, `(batch, window_length)` float32.

        Where the server takes no message of this size, or gives no answer of its size, it goes in halves, and
        later ones are not made as large.

        Raises:
            VersionGoneError: where the version that this session began with is there no longer.
            ServingError: where the server refuses, or does not answer, or its answer is not as promised.
        """
        if not len(windows):
            spec = self.manifest.geometry
            return {n: np.zeros((0, spec.num_frames, head.num_classes), np.float32) for n, head in spec.heads.items()}
        question = Predict(self.address, inference.SIGNATURE, {inference.WINDOWS: windows})
        try:
            answer: Answer = yield from self._ask(question, self.options.total_timeout)
        except Refusal as refusal:
            if not (refusal.is_of_size and len(windows) > 1):
                raise (yield from self._error(refusal, question)) from refusal
        else:
            return self._as_promised(answer, len(windows))
        middle = -(-len(windows) // 2)
        self._max_windows = min(self._max_windows, middle)
        first = yield from self.activations(windows[:middle])
        second = yield from self.activations(windows[middle:])
        return joined([first, second])

    def _describe(self, patience: float) -> Steps[tuple[Address, Manifest]]:
        address = self._asked
        question: Predict | Versions = Versions(address)
        try:
            if address.is_rest and address.version is None:  # a REST answer does not tell its version
                versions = yield from self._ask(question, patience)
                if not versions:
                    raise Refusal("NOT_FOUND", "none of its versions is available")
                address = address.at(max(versions))
            question = Predict(address, inference.DESCRIBE, {inference.EACH: np.zeros(1, np.int32)})
            answer: Answer = yield from self._ask(question, patience)
        except Refusal as refusal:
            raise (yield from self._error(refusal, question)) from refusal
        if answer.version is not None:
            address = address.at(answer.version)
        return address, _manifest_in(answer, address)

    def _ask(self, question: Predict | Versions, patience: float) -> Steps:
        """Asks until there is an answer, a refusal that does not pass, or no patience. Raises Refusal."""
        deadline = self._clock() + patience
        before: Refusal | None = None
        for pause in retry.pauses(self._uniform):
            left = deadline - self._clock()
            if before and left <= 0:  # the pause took longer than it was to
                raise before
            timeout = min(self.options.timeout, left)
            try:
                return (yield Send(question, timeout))
            except Refusal as refusal:
                if refusal.code == "DEADLINE_EXCEEDED":
                    cut_short = before if timeout == left else None
                    raise cut_short or Refusal(refusal.code, f"{timeout:.3g} s") from refusal
                if not refusal.passes or self._clock() + pause >= deadline:
                    raise
                before = refusal
            yield Pause(pause)
        raise AssertionError("pauses have no end")

    def _as_promised(self, answer: Answer, batch: int) -> Heads:
        spec = self.manifest.geometry
        outputs = _named(answer.outputs, spec.heads)
        for name, head in spec.heads.items():
            promised = (batch, spec.num_frames, head.num_classes)
            if name not in outputs:
                raise ServingError(f"{self.address}: gives no head {name!r}, which its manifest promises")
            if outputs[name].shape != promised:
                raise ServingError(
                    f"{self.address}: head {name!r} has shape {outputs[name].shape}, its manifest promises {promised}"
                )
            if outputs[name].dtype != np.float32 or not np.isfinite(outputs[name]).all():
                raise ServingError(f"{self.address}: head {name!r} holds what is not a finite number")
        return {name: outputs[name] for name in spec.heads}

    def _error(self, refusal: Refusal, question: Predict | Versions) -> Steps[ServingError]:
        """What is raised for a refusal; for a model that is not found, with the versions that are there."""
        address = question.address
        if refusal.code != "NOT_FOUND":
            return ServingError(f"{address}: {_reason(refusal, question)}")
        there = "" if isinstance(question, Versions) else (yield from self._versions_there())
        if address.version is not None and self._asked.version is None:
            return VersionGoneError(
                f"{address}: the server has let this version go, with which this began{there}; begin again"
            )
        return ServingError(f"{address}: the server has no such model or version{there or f' ({refusal.details})'}")

    def _versions_there(self) -> Steps[str]:
        everything = Address(*[getattr(self._asked, name) for name in ("scheme", "host", "port", "model")])
        try:
            versions = yield Send(Versions(everything), self.options.timeout)
        except Refusal:
            return ""
        return printable(f"; it has version {', '.join(map(str, sorted(versions)))}") if versions else ""


class Remote:
    """What predictors on servers have in common, whichever way they wait.

    Attributes:
        options: as `connect` was given them.
    """

    def __init__(self, address: Address, options: Options) -> None:
        self.options = options
        self._session = Session(address, options)

    @property
    def address(self) -> Address:
        """Of the model, in the version that this began with."""
        return self._session.address

    @property
    def manifest(self) -> Manifest:
        """What the model says of itself."""
        return self._session.manifest

    def _check_open(self, is_closed: bool) -> None:
        if is_closed:
            raise ServingError(f"{self.address}: the predictor is closed")


class Gathered:
    """Messages' activations, put together again into those of batches."""

    def __init__(self) -> None:
        self._parts: list[Heads] = []

    def add(self, part: Heads, is_last: bool) -> Iterator[Heads]:
        """Gives the batch where the message was its last, and nothing otherwise."""
        self._parts.append(part)
        if is_last:
            yield joined(self._parts)
            self._parts = []


def joined(parts: list[Heads]) -> Heads:
    """Activations of consecutive windows, one after the other."""
    if len(parts) == 1:
        return parts[0]
    return {head: np.concatenate([part[head] for part in parts]) for head in parts[0]}


def _manifest_in(answer: Answer, address: Address) -> Manifest:
    outputs = _named(answer.outputs, [inference.MANIFEST])
    try:
        (text,) = outputs[inference.MANIFEST]
        manifest = Manifest.model_validate_json(text)
    except (KeyError, ValueError, TypeError, pydantic.ValidationError) as error:
        raise ServingError(
            f"{address}: does not describe itself as `musicnet export` would have it ({printable(str(error))})"
        ) from error
    if manifest.format_version != FORMAT_VERSION:
        raise ServingError(
            f"{address}: its manifest is of format version {manifest.format_version}, this program reads"
            f" {FORMAT_VERSION}; export the model again, or use the release that exported it"
        )
    return manifest


def _named(outputs: Mapping[str, np.ndarray], expected: Mapping | list[str]) -> Mapping[str, np.ndarray]:
    """With the name of an only output that a server left out."""
    if list(outputs) == [""] and len(expected) == 1:
        return dict(zip(expected, outputs.values(), strict=True))
    return outputs


def _reason(refusal: Refusal, question: Predict | Versions) -> str:
    code, details, address = refusal.code, refusal.details, question.address
    signature = question.signature if isinstance(question, Predict) else ""
    protocol = "REST" if address.is_rest else "gRPC"
    if refusal.is_of_size:
        return f"the server takes no message as large as one window needs; raise its limit ({details})"
    if refusal.is_of_trust:
        return f"the server's certificate is not trusted; name the file of who signed it ({details})"
    if code == "UNAVAILABLE":
        return f"no server answers there; is it running, and is this its {protocol} port? ({details})"
    if code == "DEADLINE_EXCEEDED":
        return f"no answer within {details}; allow it more time, or send shorter batches"
    if code == "RESOURCE_EXHAUSTED":
        return f"the server is full; try again later, or keep fewer messages in flight ({details})"
    if code in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
        return f"the server does not let this client in; give it a token or a certificate ({details})"
    if code == UNREADABLE:
        return f"an answer that cannot be read ({details})"
    if address.label and "label" in details.lower():
        return f"the server has no version labelled {address.label!r} ({details})"
    if signature and f'"{signature}"' in details:
        return f"the model has no signature {signature!r}; export it with `musicnet export` ({details})"
    return f"the server refused: {code} ({details})"

"""What a client and a server say to one another, in whichever protocol: questions, answers and refusals."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Generator, Mapping
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

import numpy as np

from serving.address import Address
from serving.retry import PASSING

UNREADABLE = "UNREADABLE"
"""Code of an answer that came but makes no sense; the other codes are gRPC's own."""
_MAX_DETAILS = 300
# gRPC in C++, Go and Java, Envoy's and HTTP's words; the last is of TensorFlow Serving's batching.
_TOO_LARGE = re.compile(
    r"message.{0,30}(larger than|exceeds|too (large|big))|entity too large|payload too large|content too large"
    r"|(batch|task).{0,30}larger than max",
    re.IGNORECASE,
)
_UNTRUSTED = re.compile("certificate.verify.failed", re.IGNORECASE)
_CODES_OF_SIZE = frozenset({"RESOURCE_EXHAUSTED", "INVALID_ARGUMENT", "OUT_OF_RANGE"})


@dataclasses.dataclass(frozen=True)
class Predict:
    """Asks a signature of a model for its outputs."""

    address: Address
    signature: str
    inputs: Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Versions:
    """Asks which versions of a model answer; of a label, the one that it names. The answer is a list of them."""

    address: Address


class Answer(NamedTuple):
    """Outputs by name, and the version that gave them where the server tells.

    A server may leave out the name of an only output: it is "" then.
    """

    outputs: dict[str, np.ndarray]
    version: int | None = None


class Refusal(Exception):  # noqa: N818  # an answer as any other; the errors that people see are ServingErrors
    """That a server refused, did not answer, or gave what cannot be read.

    Attributes:
        code: gRPC's name of it, such as `NOT_FOUND`, or `UNREADABLE`.
        details: the server's words, in one line that is safe to print.
    """

    def __init__(self, code: str, details: str = "") -> None:
        super().__init__(code, details)
        self.code = code
        self.details = printable(details)

    @property
    def is_of_size(self) -> bool:
        """Whether a smaller message would have been taken, or its answer been read."""
        return self.code in _CODES_OF_SIZE and bool(_TOO_LARGE.search(self.details))

    @property
    def passes(self) -> bool:
        """Whether the same message may be taken later."""
        return self.code in PASSING and not self.is_of_size and not self.is_of_trust

    @property
    def is_of_trust(self) -> bool:
        """Whether the server's certificate is what was refused, and by this side."""
        return bool(_UNTRUSTED.search(self.details))


class Send(NamedTuple):
    """A step of a conversation: to ask, and wait so many seconds for the answer at most."""

    question: Predict | Versions
    timeout: float


class Pause(NamedTuple):
    """A step of a conversation: to wait."""

    seconds: float


T = TypeVar("T")
Steps: TypeAlias = Generator[Send | Pause, Any, T]
"""A conversation without its transport: yields steps, is sent answers or thrown refusals, and returns its outcome.

So that it stands once, whether it is held by threads or by coroutines.
"""


class Conversation(Generic[T]):
    """Steps under way: `step` until it gives None, with the answer or refusal to each; then there is the outcome."""

    outcome: T

    def __init__(self, steps: Steps[T]) -> None:
        self._steps = steps
        self._reply: Any = None
        self._refusal: Refusal | None = None

    def step(self) -> Send | Pause | None:
        """What to do next. Raises what the conversation makes of a refusal."""
        reply, refusal = self._reply, self._refusal
        self._reply = self._refusal = None
        try:
            return self._steps.throw(refusal) if refusal else self._steps.send(reply)
        except StopIteration as end:
            self.outcome = end.value
            return None

    def answer(self, reply: Any) -> None:
        """What the server gave."""
        self._reply = reply

    def refuse(self, refusal: Refusal) -> None:
        """That the server did not."""
        self._refusal = refusal


def printable(text: str) -> str:
    """One line without control characters, which a terminal would obey."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= _MAX_DETAILS else f"{line[:_MAX_DETAILS]}…"

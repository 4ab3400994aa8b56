"""What a system cost over all pieces, whatever it hears in them, and the cells in which every table tells it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar


class TimedRow(Protocol):
    """A system on a piece: which piece, its length in seconds, and those of CPU that inference took."""

    @property
    def corpus(self) -> str: ...

    @property
    def piece(self) -> str: ...

    @property
    def seconds(self) -> float: ...

    @property
    def cpu_seconds(self) -> float: ...


AnyRow = TypeVar("AnyRow", bound=TimedRow)


@dataclasses.dataclass(frozen=True)
class Outcome(Generic[AnyRow]):
    """A system on all pieces.

    Attributes:
        name, ours: of the system.
        told: how it runs.
        start_up: seconds from its launch until it is loaded.
        load: of the machine (processes that ran or waited over the last minute) when it began.
        rows: one a piece.
    """

    name: str
    ours: bool
    told: str
    start_up: float
    load: float
    rows: Sequence[AnyRow]

    @property
    def cpu_factor(self) -> float:
        """CPU seconds of inference by seconds of audio, over all pieces: less moved by what else the machine does."""
        return sum(row.cpu_seconds for row in self.rows) / sum(row.seconds for row in self.rows)

    @property
    def title(self) -> str:
        """Its name in Markdown, bold where it is ours."""
        return f"**{self.name}**" if self.ours else self.name

    @property
    def costs(self) -> list[str]:
        """Cells under `COSTS`."""
        return [f"{self.cpu_factor:.4f}", f"{self.start_up:.1f} s", f"{self.load:.1f}", self.told]

    def row_like(self, other: TimedRow) -> AnyRow:
        """The row of the same piece."""
        return next(row for row in self.rows if (row.corpus, row.piece) == (other.corpus, other.piece))


COSTS = ["CPU", "start-up", "load", "runs on"]


def grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)

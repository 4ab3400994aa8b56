"""When a refused message is sent again, and after how long."""

from __future__ import annotations

from collections.abc import Callable, Iterator

BASE, LONGEST = 0.1, 5.0
"""Seconds: what the first pause may last, and what any may."""
PASSING = frozenset({"UNAVAILABLE", "RESOURCE_EXHAUSTED"})
"""gRPC's codes of refusals that pass: a server that restarts, and one that is full for the moment."""


def pauses(random: Callable[[], float]) -> Iterator[float]:
    """Seconds to wait before the second attempt, the third, and so on, without end.

    Exponential back-off with full jitter, so that clients of a server that comes back do not come all at
    once: uniform between 0 and a limit that doubles up to `LONGEST`. After M. Brooker, "Exponential Backoff
    And Jitter" (AWS Architecture Blog, 2015).

    Args:
        random: draws uniformly from [0, 1).
    """
    limit = BASE
    while True:
        yield limit * random()
        limit = min(2 * limit, LONGEST)

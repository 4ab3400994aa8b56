"""Repeat signs, endings, da capo and their like → where the page sends the player."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import pairwise
from typing import Literal, NamedTuple

SignKind = Literal[
    "movement",
    "forward",
    "backward",
    "ending_start",
    "ending_stop",
    "segno",
    "coda",
    "to_coda",
    "dacapo",
    "dalsegno",
    "fine",
]


class Sign(NamedTuple):
    """One sign, at its place in quarter notes from the beginning. `label` tells several segnos or codas apart."""

    kind: SignKind
    place: Fraction
    label: str = ""


Jump = tuple[Fraction, Fraction]


def jumps(signs: Iterable[Sign], end: Fraction) -> list[Jump]:
    """Where signs send the player, from and to, sorted and without duplicates.

    A backward repeat goes to the forward repeat of its section; where there is none, to the end of the
    section before, or the beginning of the movement. From the beginning of a first ending there is a
    jump to each later one. Da capo goes to the beginning of the movement, dal segno to the last segno
    before it, to-coda to its coda, and fine to the end of the movement.

    Args:
        signs: in any order; those of several parts may be given together. `movement` is where one begins.
        end: of the score.
    """
    ordered = sorted(set(signs), key=lambda sign: sign.place)
    borders = sorted({Fraction(0), end, *(s.place for s in ordered if s.kind == "movement")})
    found: set[Jump] = set()
    for start, stop in pairwise(borders):
        # What stands on the border between two movements is a beginning's in the second, an end's in the first.
        opening = {"forward", "ending_start", "segno", "coda"}
        inside = [s for s in ordered if (start <= s.place < stop if s.kind in opening else start < s.place <= stop)]
        found.update(_in_movement(inside, start, stop))
    return sorted(jump for jump in found if jump[0] != jump[1])


def _in_movement(signs: list[Sign], start: Fraction, stop: Fraction) -> Iterator[Jump]:
    groups = _endings(signs, stop)
    yield from _repeats(signs, groups, start)
    for first, *others in groups:
        yield from ((first[0], begin) for begin, _ in others)
    for sign in signs:
        if sign.kind == "dacapo":
            yield sign.place, start
        elif sign.kind == "fine":
            yield sign.place, stop
        elif sign.kind == "dalsegno":
            before = [s for s in signs if s.kind == "segno" and s.place < sign.place]
            yield from ((sign.place, s.place) for s in _labelled(before, sign.label)[-1:])
        elif sign.kind == "to_coda":
            after = [s for s in signs if s.kind == "coda" and s.place >= sign.place]
            yield from ((sign.place, s.place) for s in _labelled(after, sign.label)[:1])


def _labelled(targets: list[Sign], label: str) -> list[Sign]:
    return [s for s in targets if s.label == label] or targets


def _endings(signs: list[Sign], stop: Fraction) -> list[list[Jump]]:
    """Groups of endings that follow one another, each its start and stop."""
    starts = sorted({s.place for s in signs if s.kind == "ending_start"})
    stops = sorted({s.place for s in signs if s.kind == "ending_stop"})
    groups: list[list[Jump]] = []
    for start, following in zip(starts, [*starts, stop][1:], strict=True):
        ending = start, min([following, *(place for place in stops if place > start)])
        if groups and groups[-1][-1][1] == start:
            groups[-1].append(ending)
        else:
            groups.append([ending])
    return groups


def _repeats(signs: list[Sign], groups: list[list[Jump]], start: Fraction) -> Iterator[Jump]:
    """Each backward repeat and the beginning of its section."""
    forwards = [s.place for s in signs if s.kind == "forward"]
    section, previous = start, None
    for place in sorted({s.place for s in signs if s.kind == "backward"}):
        forward = max((f for f in forwards if f < place), default=None)
        if forward is not None and (previous is None or forward >= previous):
            section = forward
        elif previous is not None:
            group = next((g for g in groups if g[0][0] < previous <= g[-1][1]), None)
            if group is None:
                section = previous
            elif place > group[-1][1]:
                section = group[-1][1]
        previous = place
        yield place, section

"""Time signatures and measures → beats, as written."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from musicnet_tf.events import UNKNOWN


class Bar(NamedTuple):
    """A written measure. All in quarter notes: its length, that of its time signature, and that of a beat."""

    length: Fraction
    nominal: Fraction
    beat: Fraction


def beats_a_bar(numerator: int, denominator: int) -> int:
    """Beats of a bar as a conductor counts them: 6, 9, 12 … of whatever value are 2, 3, 4 … dotted ones.

    As in ASAP's annotations and in `pretty_midi`.

    >>> [beats_a_bar(*signature) for signature in ((4, 4), (3, 8), (6, 8), (6, 4), (12, 16), (5, 8))]
    [4, 3, 2, 2, 4, 5]
    """
    return numerator // 3 if numerator > 3 and numerator % 3 == 0 else numerator


def written_beats(bars: Sequence[Bar]) -> list[tuple[Fraction, int]]:
    """The beats of measures that follow one another: place in quarter notes from the beginning, position in the bar.

    A first measure that is too short is a pickup and counts back from its end. A later one begins a bar, or goes on
    with that of a short measure before it, as where a repeat divides a bar. What exceeds a bar has no position.

    >>> half, bar = Fraction(2), Bar(Fraction(4), Fraction(4), Fraction(1))
    >>> [position for _, position in written_beats([bar._replace(length=Fraction(1)), bar, bar._replace(length=half)])]
    [4, 1, 2, 3, 4, 1, 2]
    """
    found = []
    begin = filled = Fraction(0)
    for index, bar in enumerate(bars):
        if index == 0:
            filled = max(bar.nominal - bar.length, Fraction(0))
        elif filled >= bar.nominal or filled + bar.length > bar.nominal:
            filled = Fraction(0)
        for k in range(-(-filled // bar.beat), -(-(filled + bar.length) // bar.beat)):
            found.append((begin + k * bar.beat - filled, k + 1 if k * bar.beat < bar.nominal else UNKNOWN))
        begin += bar.length
        filled += bar.length
    return found

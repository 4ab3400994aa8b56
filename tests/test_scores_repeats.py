"""Where the page sends the player, by hand."""

from fractions import Fraction

import pytest

from musicnet_tf.scores.repeats import Sign, jumps


def at(**places):
    """Signs of `kind=place` or `kind=[places]`."""
    rows = [(kind, p) for kind, given in places.items() for p in (given if isinstance(given, list) else [given])]
    return [Sign(kind, Fraction(place)) for kind, place in rows]


@pytest.mark.parametrize(
    ("signs", "expected"),
    [
        pytest.param(at(), [], id="nothing"),
        pytest.param(at(backward=8), [(8, 0)], id="back to the beginning"),
        pytest.param(at(forward=4, backward=8), [(8, 4)], id="back to the forward repeat"),
        pytest.param(at(forward=[4, 8], backward=[8, 16]), [(8, 4), (16, 8)], id="two sections, back to back"),
        pytest.param(at(backward=[8, 16]), [(8, 0), (16, 8)], id="a section begins where the last was repeated"),
        pytest.param(at(forward=8, backward=[4, 16]), [(4, 0), (16, 8)], id="a passage between two sections"),
        pytest.param(
            at(forward=0, ending_start=[8, 12], ending_stop=[12, 16], backward=12),
            [(8, 12), (12, 0)],
            id="two endings",
        ),
        pytest.param(
            at(ending_start=[8, 12, 16], ending_stop=[12, 16, 20], backward=[12, 16]),
            [(8, 12), (8, 16), (12, 0), (16, 0)],
            id="three endings, and every repeat goes back to the beginning",
        ),
        pytest.param(
            at(ending_start=[8, 12], ending_stop=[12, 16], backward=[12, 24]),
            [(8, 12), (12, 0), (24, 16)],
            id="what follows the last ending is a section",
        ),
        pytest.param(
            at(ending_start=[8, 12, 24, 28], ending_stop=[12, 16, 28, 30], forward=[16], backward=[12, 28]),
            [(8, 12), (12, 0), (24, 28), (28, 16)],
            id="two groups of endings",
        ),
        pytest.param(at(ending_start=[8, 12], ending_stop=[12], backward=12), [(8, 12), (12, 0)], id="open bracket"),
        pytest.param(at(fine=12, dacapo=24), [(12, 40), (24, 0)], id="da capo al fine"),
        pytest.param(at(dacapo=24, fine=40), [(24, 0)], id="a fine at the end leads nowhere"),
        pytest.param(at(segno=4, to_coda=12, dalsegno=24, coda=28), [(12, 28), (24, 4)], id="dal segno al coda"),
        pytest.param(at(dalsegno=24), [], id="dal segno without a segno"),
        pytest.param(at(segno=[4, 8, 30], dalsegno=24), [(24, 8)], id="the last segno before"),
        pytest.param(
            [Sign("segno", Fraction(4), "a"), Sign("segno", Fraction(8), "b"), Sign("dalsegno", Fraction(24), "a")],
            [(24, 4)],
            id="segni told apart by label",
        ),
        pytest.param(
            at(movement=[16, 32], backward=[8, 24], fine=20, dacapo=32),
            [(8, 0), (20, 32), (24, 16), (32, 16)],
            id="each movement for itself",
        ),
        pytest.param(at(movement=16, forward=[8, 16], backward=[16, 24]), [(16, 8), (24, 16)], id="signs at a border"),
    ],
)
def test_by_hand(signs, expected):
    assert jumps(signs, Fraction(40)) == expected
    assert jumps([*reversed(signs), *signs], Fraction(40)) == expected, "order and doubles must not matter"

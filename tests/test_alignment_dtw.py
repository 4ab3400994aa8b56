from __future__ import annotations

import dataclasses

import librosa
import numpy as np
import pytest
from scipy.spatial.distance import cdist

from musicnet_tf.alignment import dtw
from musicnet_tf.alignment.result import Segment
from musicnet_tf.alignment.unfold import unfold
from musicnet_tf.errors import AlignmentError
from musicnet_tf.events import Notes


def costs(rows: int, columns: int, seed: int = 0, norm: str = "l2", **more) -> dtw.Costs:
    rng = np.random.default_rng(seed)
    x, y = (rng.random((n, 5)).astype(np.float32) for n in (rows, columns))
    return dtw.Costs(x, y, np.zeros((rows, 0), np.float32), np.zeros((columns, 0), np.float32), norm=norm, **more)


def slow_walk(frames: int, total: int, seed: int) -> dtw.Costs:
    """Two sides that visit the same smooth curve, the columns at a wandering pace."""
    rng = np.random.default_rng(seed)
    curve = np.cumsum(rng.normal(size=(frames, 6)), axis=0).astype(np.float32)
    pace = np.interp(np.arange(total), [0, total // 3, total - 1], [0, frames // 2, frames - 1])
    y = np.stack([np.interp(pace, np.arange(frames), c) for c in curve.T], axis=1).astype(np.float32)
    return dtw.Costs(curve, y, np.zeros((frames, 0), np.float32), np.zeros((total, 0), np.float32), norm="l2")


@pytest.mark.parametrize(
    ("norm", "metric"), [("l1", "cityblock"), ("l2", "euclidean"), ("linf", "chebyshev")], ids=["l1", "l2", "linf"]
)
@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0), (1.0, 1.0, 2.0), (1.5, 1.25, 2.0)])
def test_the_exact_path_costs_what_librosas_does(norm, metric, weights):
    given = costs(23, 31, seed=3, norm=norm, step_weights=weights)
    path, along = dtw.exact(given, 1.0)
    matrix = cdist(given.recording, given.score, metric)
    total, _ = librosa.sequence.dtw(
        C=matrix, step_sizes_sigma=np.array([[1, 1], [1, 0], [0, 1]]), weights_mul=np.array(weights)[[2, 0, 1]]
    )
    steps = np.diff(path, axis=0)
    weight = np.where(steps.sum(axis=1) == 2, weights[2], np.where(steps[:, 0] == 1, weights[0], weights[1]))
    # librosa adds a zero row and column, so that it too counts the first cell by the step of both.
    ours = along[0] + (weight * along[1:]).sum()
    assert ours == pytest.approx(total[-1, -1], rel=1e-5)
    np.testing.assert_allclose(along, matrix[path[:, 0], path[:, 1]], rtol=1e-5)


def test_a_path_leads_from_corner_to_corner_by_single_steps():
    path, _ = dtw.exact(costs(17, 40), 1.0)
    assert path[0].tolist() == [0, 0]
    assert path[-1].tolist() == [16, 39]
    assert set(map(tuple, np.diff(path, axis=0).tolist())) <= {(0, 1), (1, 0), (1, 1)}


def test_a_penalty_straightens_the_path():
    loose, _ = dtw.exact(costs(60, 60), 1.0)
    straight, _ = dtw.exact(costs(60, 60, step_penalty=100.0), 1.0)
    assert len(loose) > len(straight) == 60


def test_onsets_move_the_path():
    flat = np.ones((20, 1), np.float32)
    here, there = np.zeros((20, 1), np.float32), np.zeros((20, 1), np.float32)
    here[5], there[9] = 1, 1
    path, _ = dtw.exact(dtw.Costs(flat, flat, here, there, onset_weight=5.0), 1.0)
    assert [5, 9] in path.tolist()


def test_coarse_to_fine_is_exact_where_the_path_is_clear(monkeypatch):
    given = slow_walk(900, 1100, seed=1)
    best, _ = dtw.exact(given, 1.0)
    monkeypatch.setattr(dtw, "_FULL_CELLS", 10_000)
    found, _ = dtw.multiscale(given)
    row = np.interp(np.arange(1100), found[:, 1], found[:, 0])
    assert np.abs(row - np.interp(np.arange(1100), best[:, 1], best[:, 0])).max() <= 2


def test_a_tube_holds_the_path_and_what_is_near():
    path = np.array([[0, 0], [4, 10], [9, 10], [19, 29]])
    tube = dtw.around(path, 20, 30, 2)
    assert (tube.start[0], tube.stop[-1]) == (0, 30)
    assert (np.diff(tube.start) >= 0).all()
    assert (np.diff(tube.stop) >= 0).all()
    for row, column in path:
        assert tube.start[row] <= column < tube.stop[row]
    assert (tube.start[7], tube.stop[7]) == (8, 13)


def test_exact_alignment_tells_beforehand_what_it_needs():
    long = np.zeros((70_000, 1), np.float32)
    given = dataclasses.replace(costs(2, 2), recording=long, score=long)
    with pytest.raises(AlignmentError, match=r"70000 by 70000 frames needs 4\.6 GiB.*multiscale"):
        dtw.exact(given, 4.0)


def test_what_was_played_twice_is_there_twice_and_what_was_left_out_is_not():
    notes = Notes([0.0, 1.0, 2.0, 3.0], [1.0, 2.5, 3.0, 4.0], [60, 62, 64, 65])
    played = unfold(notes, [Segment(0.0, 2.0), Segment(0.0, 1.0), Segment(3.0, 4.0)])
    assert played.notes.pitch.tolist() == [60, 62, 60, 65]
    assert played.notes.onset.tolist() == [0.0, 1.0, 2.0, 3.0]
    assert played.notes.offset.tolist() == [1.0, 2.0, 3.0, 4.0]  # the second is cut where its segment ends
    assert played.index.tolist() == [0, 1, 0, 3]


@pytest.mark.parametrize(("norm", "metric"), [("l2", "euclidean"), ("cosine", "cosine"), ("l1", "cityblock")])
def test_the_cost_of_frames_at_random_is_the_mean_of_all(norm, metric):
    given = costs(300, 400, norm=norm)
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (given.recording, given.score)]
    sides = unit if norm == "cosine" else [given.recording, given.score]
    given = dataclasses.replace(given, recording=sides[0], score=sides[1])
    assert dtw.random_cost(given) == pytest.approx(cdist(*sides, metric).mean(), rel=0.03)

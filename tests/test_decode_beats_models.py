"""What trackers of beats are made of, against brute force, NumPy and numbers from the papers."""

import doctest
import importlib
import itertools
import pkgutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musicnet_tf.decode import tracking
from musicnet_tf.decode.tracking import tempo, viterbi
from musicnet_tf.decode.tracking.evidence import Upsampler, evidence
from musicnet_tf.decode.tracking.forward import Forward
from musicnet_tf.decode.tracking.greedy import greedy
from musicnet_tf.decode.tracking.peaks import PeakPicker
from musicnet_tf.decode.tracking.placement import Placement
from musicnet_tf.decode.tracking.selection import closest_to_mean
from musicnet_tf.decode.tracking.state_space import StateSpace
from musicnet_tf.decode.tracking.viterbi import Segment, Viterbi
from musicnet_tf.errors import ConfigError
from musicnet_tf.events import UNKNOWN

SMALL = {
    "beats": StateSpace.of(10, 60, 150, transition_lambda=3, observation_lambda=4, beat_cost=0.5),
    "bars": StateSpace.of(
        10, 75, 150, transition_lambda=3, observation_lambda=3, beats_per_bar=(2, 3), meter_change=0.3
    ),
}
"""Of 4 to 10 frames a beat, so that all states fit into one matrix."""


class Dense:
    """A state space as one matrix over all states, written down from the papers' sentences."""

    def __init__(self, space: StateSpace) -> None:
        self.states = [
            (kind, tempo, frame)
            for kind in range(space.num_kinds)
            for tempo, interval in enumerate(space.intervals)
            for frame in range(interval)
        ]
        self.space, self.count = space, len(self.states)
        self.index = index = {state: i for i, state in enumerate(self.states)}
        self.change = np.full((self.count, self.count), -np.inf)
        for kind, tempo_, frame in self.states:
            here = index[kind, tempo_, frame]
            if frame + 1 < space.intervals[tempo_]:
                self.change[here, index[kind, tempo_, frame + 1]] = 0.0
                continue
            for before, after, log in space.next_kinds:
                for other in range(len(space.intervals)) if before == kind else ():
                    self.change[here, index[after, other, 0]] = log + space.tempo_change[tempo_, other]

    def likelihoods(self, ratios: np.ndarray) -> np.ndarray:
        downbeat = [int(self.space.position[kind] == 1) for kind, _, _ in self.states]
        on = [frame < self.space.widths[tempo_] for _, tempo_, frame in self.states]
        return np.where(on, ratios[:, downbeat], 0.0)

    def best(self, ratios: np.ndarray) -> float:
        """The log-probability of the best path (Viterbi 1967)."""
        likelihoods = self.likelihoods(ratios)
        score = likelihoods[0] - np.log(self.count)
        for row in likelihoods[1:]:
            score = (score[:, None] + self.change).max(axis=0) + row
        return float(score.max())

    def score(self, states: list[int], ratios: np.ndarray) -> float:
        """The log-probability of a path."""
        changes = sum(self.change[a, b] for a, b in itertools.pairwise(states))
        return float(self.likelihoods(ratios)[np.arange(len(states)), states].sum() + changes - np.log(self.count))

    def posteriors(self, ratios: np.ndarray) -> np.ndarray:
        """Of all states by the frames so far, `(frames, states)`."""
        likelihoods, change = np.exp(self.likelihoods(ratios)), np.exp(self.change)
        mass, found = np.full(self.count, 1 / self.count), []
        for i, row in enumerate(likelihoods):
            mass = (mass @ change if i else mass) * row
            mass /= mass.sum()
            found.append(mass)
        return np.array(found)


DENSE = {name: Dense(space) for name, space in SMALL.items()}
seeds = st.integers(0, 2**32 - 1)


def random_ratios(seed: int, frames: int, bars: bool) -> np.ndarray:
    ratios = np.random.default_rng(seed).normal(scale=2.0, size=(frames, 2))
    return ratios if bars else np.repeat(ratios[:, :1], 2, axis=1)


def path_of(dense: Dense, beats: list[Segment], frames: int) -> list[int]:
    """States of a path of beats; where bars of several lengths have its beat, of one that makes the path possible."""
    space, ways = dense.space, [[]]
    follow = {(before, after) for before, after, _ in space.next_kinds}
    for beat in beats:
        kinds = np.flatnonzero(space.position == beat.position).tolist()
        ways = [[*way, kind] for way in ways for kind in kinds if not way or (way[-1], kind) in follow]
    assert ways
    tempi = {int(interval): i for i, interval in enumerate(space.intervals)}
    paths = []
    for way in ways:
        path = [
            dense.index[kind, tempi[beat.interval], time - beat.start]
            for kind, beat in zip(way, beats, strict=True)
            for time in range(max(0, beat.start), min(frames, beat.start + beat.interval))
        ]
        paths.append(path)
    return (
        paths[0]
        if len(paths) == 1
        else max(paths, key=lambda path: sum(dense.change[a, b] for a, b in itertools.pairwise(path)))
    )


def track(space: StateSpace, ratios: np.ndarray, cuts: list[int]) -> tuple[list[Segment], int]:
    """The whole path, and how many of its beats were told before the end."""
    tracker, beats = Viterbi(space), []
    for piece in np.split(ratios, sorted(cuts)):
        beats += tracker.push(piece)
    told = len(beats)
    return beats + tracker.finish(), told


@pytest.mark.parametrize("module", [m.name for m in pkgutil.iter_modules(tracking.__path__)])
def test_examples_in_docstrings(module):
    tested = importlib.import_module(f"{tracking.__name__}.{module}")
    assert doctest.testmod(tested).failed == 0


# --- state space


@pytest.mark.parametrize(
    ("frame_rate", "bpm", "beats_per_bar", "tempi", "states"),
    [
        (100, (55, 215), (), 82, 5617),
        (100, (55, 215), (3, 4), 82, 7 * 5617),
        (50, (55, 215), (), 42, 1449),  # 14 to 55 frames
        (100, (120, 120), (), 1, 50),
    ],
)
def test_numbers_of_states(frame_rate, bpm, beats_per_bar, tempi, states):
    space = StateSpace.of(frame_rate, *bpm, beats_per_bar=beats_per_bar)
    assert (len(space.intervals), space.num_states) == (tempi, states)


def test_tempo_changes_are_probabilities_that_fall_with_the_ratio():
    space = StateSpace.of(100, 55, 215)
    assert np.exp(space.tempo_change).sum(axis=1) == pytest.approx(1.0)
    from_50 = space.tempo_change[50 - 28]
    assert from_50[55 - 28] - from_50[50 - 28] == pytest.approx(-100 * 0.1)
    assert from_50[45 - 28] - from_50[50 - 28] == pytest.approx(-100 * 0.1)
    costly = StateSpace.of(100, 55, 215, beat_cost=0.5)
    assert np.exp(costly.tempo_change).sum(axis=1) == pytest.approx(np.exp(-0.5))


def test_a_beat_is_heard_in_its_first_sixteenth():
    space = StateSpace.of(100, 55, 215)
    expected = [sum(frame / interval < 1 / 16 for frame in range(interval)) for interval in space.intervals]
    assert space.widths.tolist() == expected


def test_bars_go_on_beat_by_beat_and_may_change_at_their_end():
    space = SMALL["bars"]
    assert space.position.tolist() == [1, 2, 1, 2, 3]
    follow = {(before, after): np.exp(log) for before, after, log in space.next_kinds}
    assert follow == pytest.approx(
        {(0, 1): 1, (2, 3): 1, (3, 4): 1, (1, 0): 0.7, (1, 2): 0.3, (4, 2): 0.7, (4, 0): 0.3}
    )


def test_frames_too_far_apart_are_refused():
    with pytest.raises(ConfigError, match=r"max_bpm=215: .* at 5 frames a second; choose at most 100"):
        StateSpace.of(5)


# --- evidence


def test_downbeats_and_other_beats_share_the_activation():
    told = evidence(np.array([0.9, 0.9, 0.1]), np.array([0.0, 0.8, 0.0]), observation_lambda=5)
    between = np.log(np.array([0.1, 0.1, 0.9]) / 4)
    assert told[:, 0] == pytest.approx(np.log([0.9, 0.1, 0.1]) - between)
    assert told[1, 1] == pytest.approx(np.log(0.8) - between[1])
    assert (told[[0, 2], 1] < told[[0, 2], 0]).all()
    assert np.isfinite(evidence(np.array([0.0, 1.0]), np.array([1.0, 0.0]), 16)).all()


@given(seeds, st.integers(1, 4), st.lists(st.integers(0, 30), max_size=4))
@settings(max_examples=30, deadline=None)
def test_upsampling_is_interpolation_however_cut(seed, factor, cuts):
    values = np.random.default_rng(seed).random((30, 2))
    upsampler = Upsampler(factor)
    got = np.concatenate([upsampler.push(piece) for piece in np.split(values, sorted(cuts))])
    at = np.arange(29 * factor + 1) / factor
    assert got == pytest.approx(np.stack([np.interp(at, np.arange(30), column) for column in values.T], axis=1))


# --- hidden Markov models


@pytest.mark.parametrize("name", SMALL)
@given(seed=seeds, frames=st.integers(1, 70), cuts=st.lists(st.integers(0, 70), max_size=4))
@settings(max_examples=25, deadline=None)
def test_the_path_is_that_of_all_states(name, seed, frames, cuts):
    space, ratios = SMALL[name], random_ratios(seed, frames, name == "bars")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(viterbi, "_CHECK_FRAMES", 7)
        beats, _ = track(space, ratios, cuts)
    states = path_of(DENSE[name], beats, frames)
    assert DENSE[name].score(states, ratios) == pytest.approx(DENSE[name].best(ratios))


def test_beats_are_told_before_the_end_and_forgotten():
    ratios = np.random.default_rng(0).normal(-2.0, 1.0, size=(20_000, 2))  # of no two ways equally good
    ratios[::55] = 12.0
    space = StateSpace.of(100)
    tracker = Viterbi(space)
    told = [beat for piece in np.array_split(ratios, 400) for beat in tracker.push(piece)]
    assert len(told) > 340  # of 364
    assert tracker._back.nbytes < 1_000_000  # of 3,280,000
    whole, _ = track(space, ratios, [])
    assert [*told, *tracker.finish()] == whole


@pytest.mark.parametrize("name", SMALL)
@given(seed=seeds, frames=st.integers(1, 70), cuts=st.lists(st.integers(0, 70), max_size=4))
@settings(max_examples=25, deadline=None)
def test_the_most_probable_state_is_that_of_all_states(name, seed, frames, cuts):
    space, ratios = SMALL[name], random_ratios(seed, frames, name == "bars")
    tracker = Forward(space)
    got = np.concatenate([tracker.states(piece) for piece in np.split(ratios, sorted(cuts))])
    posteriors = DENSE[name].posteriors(ratios)
    chosen = [DENSE[name].index[tuple(state)] for state in got.tolist()]
    assert posteriors[np.arange(frames), chosen] == pytest.approx(posteriors.max(axis=1))


def test_probabilities_stay_numbers_for_long():
    tracker = Forward(StateSpace.of(100, beats_per_bar=(3, 4), meter_change=1e-3))
    ratios = np.full((3000, 2), [-9.0, -9.0])
    ratios[::50, 0] = 14.0
    ratios[::200] = [-9.0, 14.0]
    beats = tracker.push(ratios)
    assert np.isfinite(tracker._mass).all()
    assert tracker._mass.max() > 0
    assert [beat.position for beat in beats[-8:]] == [
        *itertools.islice(itertools.cycle([1, 2, 3, 4]), *_from(beats[-8]))
    ]


def _from(beat: Segment) -> tuple[int, int]:
    return beat.position - 1, beat.position + 7


# --- placement and peaks


@pytest.mark.parametrize(
    ("values", "beat", "reach", "expected"),
    [
        ([0, 0, 0.2, 0.9, 0.2, 0], (2, 3), None, (3.0, True)),
        ([0, 0, 0.5, 1.0, 0.75, 0], (2, 3), None, (3.25, True)),  # a triangle whose apex lies between frames
        ([0, 0, 0.1, 0.3, 0.9, 0.3], (1, 3), None, (4.0, True)),  # it goes on to rise where the width ends
        ([0, 0, 0.1, 0.3, 0.9, 0.3], (1, 3), 2, (3.0, True)),
        ([0, 0, 0, 0, 0, 0], (2, 3), None, (3.0, False)),
        ([1.0, 0.5, 0, 0], (-1, 3), None, (0.0, True)),
    ],
)
def test_a_beat_lies_on_the_peak_near_it(values, beat, reach, expected):
    placement = Placement(audible=0.05)
    placement.push(np.array(values, float))
    start, width = beat
    assert placement.place(Segment(start, 16 * width, width, UNKNOWN), reach) == expected


def test_an_unheard_beat_lies_as_the_one_before_it():
    placement = Placement(audible=0.05)
    placement.push(np.array([0, 0, 0, 1.0] + [0] * 96))
    assert placement.place(Segment(2, 48, 3, UNKNOWN)) == (3.0, True)
    placement.forget(50)
    assert placement.place(Segment(50, 48, 3, UNKNOWN)) == (51.0, False)


def test_activations_between_frames_of_the_model_refine_nothing():
    placement = Placement(audible=0.05, step=2)
    placement.push(Upsampler(2).push(np.array([0, 0.5, 1.0, 0.75, 0])[:, None])[:, 0])
    assert placement.place(Segment(3, 48, 3, UNKNOWN)) == (4.5, True)


@given(
    st.lists(st.sampled_from([0.0, 0.3, 0.5, 0.6, 0.9]), max_size=40),
    st.integers(1, 4),
    st.lists(st.integers(0, 40), max_size=5),
)
@settings(max_examples=100, deadline=None)
def test_peaks_are_the_greatest_around_them_however_cut(values, reach, cuts):
    values = np.array(values)
    picker = PeakPicker(0.5, reach)
    got = [peak for piece in np.split(values, sorted(cuts)) for peak in picker.push(piece)] + picker.finish()
    high = [i for i, v in enumerate(values) if v >= 0.5 and v == values[max(0, i - reach) : i + reach + 1].max()]
    groups: list[list[int]] = []
    for i in high:
        if groups and i - groups[-1][0] <= reach:
            groups[-1].append(i)
        else:
            groups.append([i])
    assert got == [(group[0] + group[-1]) / 2 for group in groups]


# --- tempo


@given(seeds, st.integers(1, 60))
@settings(max_examples=30, deadline=None)
def test_autocorrelation_is_that_of_numpy(seed, frames):
    values = np.random.default_rng(seed).random(frames)
    lags = np.arange(1, 70)
    whole = np.correlate(values, values, mode="full")[frames - 1 :]
    expected = [whole[lag] if lag < frames else 0.0 for lag in lags]
    assert tempo.autocorrelation(values, lags) == pytest.approx(expected)


@given(seeds, st.integers(1, 40))
@settings(max_examples=30, deadline=None)
def test_comb_filters_are_what_their_equation_says(seed, frames):
    values, intervals = np.random.default_rng(seed).random(frames), np.arange(3, 9)
    rings = np.zeros((len(intervals), frames))
    for row, interval in enumerate(intervals):
        for n in range(frames):
            rings[row, n] = 0.21 * values[n] + (0.79 * rings[row, n - interval] if n >= interval else 0.0)
    expected = np.zeros(len(intervals))
    for n in range(frames):
        expected += np.where(rings[:, n] == rings[:, n].max(), rings[:, n], 0.0)
    assert tempo.comb_filters(values, intervals) == pytest.approx(expected)


@pytest.mark.parametrize("method", ["comb", "autocorrelation"])
@pytest.mark.parametrize("bpm", [65, 87, 114, 195])
def test_the_tempo_of_clicks(method, bpm):
    clicks = np.zeros(6000)
    clicks[np.rint(np.arange(0, 60, 60 / bpm) * 100).astype(int)] = 1.0
    found = tempo.tempi(clicks, 100, min_bpm=55, max_bpm=215, method=method)
    assert found[:, 1].sum() == pytest.approx(1.0)
    assert min(abs(found[0, 0] / bpm - 1), abs(found[0, 0] * 2 / bpm - 1)) < 0.02
    if method == "comb":
        assert found[0, 0] == pytest.approx(bpm, rel=0.02)


def test_smoothing_keeps_a_constant_and_the_place_of_a_peak():
    assert tempo.smooth(np.ones(50), 9)[10:40] == pytest.approx(1.0)
    peak = np.zeros(51)
    peak[25] = 1.0
    assert np.argmax(tempo.smooth(peak, 9)) == 25
    assert tempo.smooth(peak, 1) is peak


def test_a_greedy_tracker_bridges_what_is_missing():
    values = np.zeros(2000)
    values[10::50] = 1.0
    values[510] = values[1260] = 0.0
    assert greedy(values, 100, np.arange(28, 110)).tolist() == list(range(10, 2000, 50))
    assert len(greedy(np.zeros(100), 100, np.arange(28, 110))) == 0


# --- several models


def test_the_model_nearest_to_the_mean_is_chosen():
    rng = np.random.default_rng(0)
    truth = rng.random((200, 1))
    noisy = [truth + rng.normal(scale=scale, size=truth.shape) for scale in (0.5, 0.05, 0.4)]
    assert closest_to_mean(noisy) == 1
    with pytest.raises(ValueError, match="shape"):
        closest_to_mean([truth, truth[:-1]])

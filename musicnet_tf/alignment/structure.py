"""Which parts of the score were played, in which order: repeats left out or added, passages skipped, silence around.

Coarse on purpose: a few frames a second tell where the music is; the exact alignment follows through the
segments found here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np

from musicnet_tf.alignment import jump_path
from musicnet_tf.alignment.result import Segment
from musicnet_tf.errors import AlignmentError

JumpKind = Literal["repeat_added", "repeat_left_out", "passage_left_out"]


@dataclasses.dataclass(frozen=True)
class Prices:
    """What a path pays, in seconds of wholly unrelated music. Chosen on development pieces.

    Attributes:
        jump: of a jump from bar line to bar line.
        marked: of one that the page allows.
        off_bar: added where a jump leaves away from a bar line.
        edge: of beginning or ending elsewhere than the score does.
        background: of a second of the recording before or after the music, by the second.
        step: of a frame that moves the score by 0, 1, 2, … frames, by the second: at about the tempo of the
            whole, and in a section far above it.
        switch: of going over from one of these to another.
    """

    jump: float = 2.5
    marked: float = 0.8
    off_bar: float = 0.5
    edge: float = 5.0
    background: float = 0.7
    step: tuple[tuple[float, ...], ...] = (
        (0.1, 0.0, 0.1, 0.6, 9.0, 9.0),
        (0.6, 0.3, 0.0, 0.0, 0.1, 0.6),
    )
    switch: float = 2.0


class Jump(NamedTuple):
    """A place where the player went on elsewhere than the score does.

    Attributes:
        kind: `repeat_added`, a jump back; `repeat_left_out`, forward over music that the score writes out
            twice; `passage_left_out`, forward over other music.
        start, stop: seconds of the score that it leads from and to.
        time: seconds of the recording.
        gain: how much cheaper the path is than the best one without this jump, in seconds of wholly
            unrelated music.
        marked: whether the page allows it.
    """

    kind: JumpKind
    start: float
    stop: float
    time: float
    gain: float
    marked: bool


@dataclasses.dataclass(frozen=True)
class Structure:
    """What was played.

    Attributes:
        segments: spans of the score in seconds, in the order played; one from beginning to end where
            nothing was found.
        jumps: between the segments, one fewer than they are.
        music: seconds of the recording at which the first segment begins and the last ends; what lies
            outside is silence, applause, or other music.
        tempo: seconds of the score played in a second of the recording, the median.
        cost: mean cosine distance along the path, 0–1.
        random_cost: mean cosine distance of all pairs of frames. Where `cost` comes near it the two
            sides are different pieces.
        path: seconds of the recording, seconds of the score (which jumps), float64 `(p, 2)`, at the low rate.
    """

    segments: tuple[Segment, ...]
    jumps: tuple[Jump, ...]
    music: tuple[float, float]
    tempo: float
    cost: float
    random_cost: float
    path: np.ndarray


def find_segments(
    recording: np.ndarray,
    score: np.ndarray,
    frame_rate: float,
    *,
    barlines: np.ndarray | None = None,
    jumps: np.ndarray | None = None,
    prices: Prices | None = None,
) -> Structure:
    """Finds the unfolding of the score that the recording plays, by cost.

    Args:
        recording: `low_rate.low_rate_features` of the recording, float32 `(m, d)`.
        score: the same of the synthesised score, `(n, d)`.
        frame_rate: of both.
        barlines: seconds of the score at which measures begin; None or empty where unknown.
        jumps: seconds from and to, `(k, 2)`, that the page allows.
        prices: of what a path may do.

    Raises:
        AlignmentError: where a side has fewer than two frames, or the widths differ.
    """
    if recording.ndim != 2 or score.ndim != 2 or recording.shape[1] != score.shape[1]:
        raise AlignmentError(f"features of shape {recording.shape} and {score.shape} cannot be compared")
    if min(len(recording), len(score)) < 2:
        raise AlignmentError("structure: needs at least two frames of both the recording and the score")
    search = _Search(
        np.ascontiguousarray(recording, np.float32),
        np.ascontiguousarray(score, np.float32),
        float(frame_rate),
        np.unique(np.asarray([] if barlines is None else barlines, np.float64)),
        np.asarray([] if jumps is None else jumps, np.float64).reshape(-1, 2),
        prices or Prices(),
    )
    return search.run()


class _Search:
    """One search. Score frames below are at the tempo that was played: frame k is at `k * tempo / frame_rate`."""

    SHORTEST_SECONDS = 4.0
    SHORTEST_BARS = 3  # a run in small notes is one bar, however long the score thinks that it lasts
    GRID_SECONDS = 1.0
    TEMPI = (0.6, 1.0, 1.6)
    EDGE_SECONDS = 1.5
    SAME_BAR_SECONDS = 0.6
    NEIGHBOURS = 2  # bars
    UNMARKED = 1.0
    LATER = 0.1  # price of jumping ahead a second of the score earlier than one could
    REPEATED = 0.8  # less for jumping ahead over what was just played
    SAME = 0.15  # of random cost, from which on frames are not the same music

    def __init__(self, recording, score, frame_rate, barlines, marked, prices):  # type: ignore[no-untyped-def]
        self.recording, self.score, self.frame_rate = recording, score, frame_rate
        self.duration = (len(score) - 1) / frame_rate
        grid = np.arange(0.0, self.duration, self.GRID_SECONDS)
        barlines = barlines[(barlines >= 0) & (barlines < self.duration)]
        self.has_barlines = len(barlines) > 1
        self.barlines = barlines if self.has_barlines else grid
        self.marked = marked
        self.prices = prices
        self.scale = jump_path.mean_cost(recording, score)

    def run(self) -> Structure:
        tempo = self._tempo()
        rules, played = self._rules(tempo), self._at(tempo)
        path = jump_path.find_path(self.recording, played, rules, self.scale)
        return self._structure(path, played, rules, tempo)

    def _tempo(self) -> float:
        """Seconds of the score for one of the recording: the best of a few at half the rate, then the slope."""
        overall = (len(self.score) - 1) / (len(self.recording) - 1)
        half, recording = self.frame_rate / 2, self.recording[::2]
        best, tempo = np.inf, overall
        for factor in self.TEMPI:
            candidate = overall * factor
            if not 0.3 <= candidate <= 3.3:
                continue
            path = jump_path.find_path(recording, self._at(candidate, half), self._rules(candidate, half), self.scale)
            if path.total < best:
                best, tempo = path.total, candidate * _slope(path)
        return float(np.clip(tempo, 0.3, 3.3))

    def _at(self, tempo: float, rate: float | None = None) -> np.ndarray:
        """The score's features at another tempo and rate."""
        return self._sample(np.arange(0.0, self.duration + 1e-9, tempo / (rate or self.frame_rate)))

    def _rules(self, tempo: float, rate: float | None = None) -> jump_path.Rules:
        rate = rate or self.frame_rate
        prices = self.prices
        n = len(np.arange(0.0, self.duration + 1e-9, tempo / rate))
        to_frame = rate / tempo

        def frames(seconds: np.ndarray) -> np.ndarray:
            return np.clip(np.round(seconds * to_frame), 0, n - 1).astype(np.int64)

        targets = np.unique(frames(self.barlines))
        source = np.full(n, prices.off_bar * rate if self.has_barlines else 0.0)
        for shift in (-2, -1, 0):
            source[np.clip(targets + shift, 0, n - 1)] = 0.0
        marked = self._jump_frames(self.marked, tempo, rate, n)
        marked = marked[np.abs(marked[:, 1] - marked[:, 0] - 1) >= 4]
        seconds = np.arange(n) / to_frame
        enter = np.where(seconds <= self.EDGE_SECONDS, 0.0, np.inf)
        enter[targets] = np.minimum(enter[targets], prices.edge * rate)
        leave = np.where(seconds >= self.duration - 2 * self.EDGE_SECONDS, 0.0, prices.edge * rate)
        everywhere = np.union1d(targets, marked[:, 1])
        return jump_path.Rules(
            step=np.array(prices.step),
            switch=prices.switch * rate,
            enter=enter,
            leave=leave,
            background=prices.background,
            source=source,
            targets=everywhere,
            target=np.where(np.isin(everywhere, targets), prices.jump * rate, np.inf),
            reach=self._reach(targets, everywhere, rate, n),
            marked=marked,
            marked_price=np.full(len(marked), prices.marked * rate),
        )

    def _reach(self, bars: np.ndarray, targets: np.ndarray, rate: float, n: int) -> np.ndarray:
        """Frames about each target from which a jump is long enough: in seconds, and in bars where they are known."""
        shortest = max(4, round(self.SHORTEST_SECONDS * rate))
        reach = np.stack([targets - 1 - shortest, targets - 1 + shortest], axis=1)
        if self.has_barlines:
            edges = np.concatenate([np.full(self.SHORTEST_BARS, 0), bars, np.full(self.SHORTEST_BARS + 1, n + 1)])
            bar = np.searchsorted(bars, targets)
            reach[:, 0] = np.minimum(reach[:, 0], edges[bar] - 1)
            reach[:, 1] = np.maximum(reach[:, 1], edges[bar + 2 * self.SHORTEST_BARS] - 1)
        return np.clip(reach, -1, n)

    def _structure(self, path, played, rules, tempo):  # type: ignore[no-untyped-def]
        rate = self.frame_rate
        seconds = tempo / rate
        places: dict[int, tuple[float, float]] = {}
        if len(path.jumps):
            path, places = self._settle(path, played, rules, tempo)
        rows = np.flatnonzero(path.played)
        gains = self._gains(path, played, rules)
        jumps = []
        for (row, (start, stop)), gain in zip(places.items(), gains, strict=True):
            marked = self._is_marked(start, stop)
            jumps.append(Jump(self._kind(start, stop), start, stop, row / rate, gain / rate, marked))
        begin = path.frames[rows[0]] * seconds if len(rows) else 0.0
        end = path.frames[rows[-1]] * seconds if len(rows) else self.duration
        begin = 0.0 if begin <= self.EDGE_SECONDS else begin
        end = self.duration if end >= self.duration - 2 * self.EDGE_SECONDS else end
        edges = [begin, *(x for jump in jumps for x in (jump.start, jump.stop)), end]
        segments = tuple(Segment(float(a), float(b)) for a, b in zip(edges[::2], edges[1::2], strict=True))
        music = (rows[0] / rate, (rows[-1] + 1) / rate) if len(rows) else (0.0, 0.0)
        cost = float(path.costs[path.played].mean()) * self.scale if len(rows) else float("nan")
        return Structure(
            segments,
            tuple(jumps),
            music,
            tempo,
            cost,
            self.scale,
            np.stack([rows / rate, path.frames[rows] * seconds], axis=1),
        )

    def _settle(self, path, played, rules, tempo):  # type: ignore[no-untyped-def]
        """The path with its jumps from bar line to bar line, and where they lead: `{row: (start, stop)}`.

        Music that the score writes twice can be left at any bar of its first time for the same bar of its
        second: costs are equal. What a page would say is the last such place, so that is made a little cheaper,
        as is a jump over a second time of what was just played.
        """
        bars, rate, wanted = self.barlines, self.frame_rate, {}
        for row in path.jumps:
            start = self._bar((path.frames[row - 1] + 1) * tempo / rate)
            stop = self._bar(path.frames[row] * tempo / rate)
            reach = abs(stop - start)
            nearest = np.searchsorted(bars, stop) + np.arange(-self.NEIGHBOURS, self.NEIGHBOURS + 1)
            for there in bars[nearest[(nearest >= 0) & (nearest < len(bars))]]:
                shift = there - start
                same = self._same(shift)
                for bar in bars[np.abs(bars - start) <= reach]:
                    end = self._bar(bar + shift)
                    if abs(end - bar - shift) < self.SAME_BAR_SECONDS and shift * (stop - start) > 0:
                        price = self.UNMARKED
                        if shift > 0:
                            before, here, after = same(np.array([bar - shift, bar, start + reach]))
                            repeated = (here - before) / shift
                            early = after - here if repeated > 0.5 else start + reach - bar
                            price += self.LATER * early - self.REPEATED * repeated
                        wanted[float(bar), end] = price
        wanted |= {(float(a), float(b)): 0.0 for a, b in self.marked}
        ends = np.array(list(wanted)).reshape(-1, 2)
        frames = self._jump_frames(ends, tempo, rate, len(played))
        only = _only(_same_ends(rules, path), frames, np.array(list(wanted.values())) * rate)
        path = jump_path.find_path(self.recording, played, only, self.scale)
        names = {tuple(pair): tuple(end) for pair, end in zip(frames.tolist(), ends.tolist(), strict=True)}
        return path, {int(row): names[int(path.frames[row - 1]), int(path.frames[row])] for row in path.jumps}

    def _same(self, shift: float) -> Callable[[np.ndarray], np.ndarray]:
        """How many seconds up to each place the score sounds as it does `shift` seconds later."""
        seconds = np.arange(0.0, max(0.0, self.duration - shift), 1.0 / self.frame_rate)
        near = np.einsum("td,td->t", self._sample(seconds), self._sample(seconds + shift))
        alike = np.clip(1.0 - (1.0 - near) / (self.SAME * self.scale), 0.0, 1.0)
        total = np.concatenate([[0.0], np.cumsum(alike)]) / self.frame_rate
        return lambda places: np.interp(places * self.frame_rate, np.arange(len(total)), total)

    def _is_marked(self, start: float, stop: float) -> bool:
        return bool((np.abs(self.marked - [start, stop]).max(axis=1) < self.SAME_BAR_SECONDS).any())

    @staticmethod
    def _jump_frames(ends: np.ndarray, tempo: float, rate: float, n: int) -> np.ndarray:
        """Last frame before and first after each jump from second to second."""
        first = np.clip(np.round(ends * rate / tempo), 0, n - 1).astype(np.int64)
        return np.maximum(first - [1, 0], 0)

    def _bar(self, seconds: float) -> float:
        return float(self.barlines[np.argmin(np.abs(self.barlines - seconds))])

    def _sample(self, seconds: np.ndarray) -> np.ndarray:
        """The score's features between frames."""
        at = np.clip(seconds * self.frame_rate, 0, len(self.score) - 1)
        low = np.minimum(at.astype(np.int64), len(self.score) - 2)
        part = (at - low)[:, np.newaxis].astype(np.float32)
        mixed = (1 - part) * self.score[low] + part * self.score[low + 1]
        return np.ascontiguousarray(mixed / np.maximum(np.linalg.norm(mixed, axis=1, keepdims=True), 1e-9), np.float32)

    def _gains(self, path, played, rules):  # type: ignore[no-untyped-def]
        if not len(path.jumps):
            return []
        found = np.stack([path.frames[path.jumps - 1], path.frames[path.jumps]], axis=1)
        rules = _same_ends(rules, path)

        def total(kept: np.ndarray) -> float:
            only = _only(rules, found[kept], np.zeros(len(kept)))
            return jump_path.find_path(self.recording, played, only, self.scale).total

        everything = np.arange(len(found))
        whole = total(everything)
        return [total(np.delete(everything, j)) - whole for j in everything]

    def _kind(self, start: float, stop: float) -> JumpKind:
        if stop < start:
            return "repeat_added"
        rate = self.frame_rate
        a, b = round(start * rate), round(stop * rate)
        skipped, before = self.score[a:b], self.score[:a]
        if len(before) < 4:
            return "passage_left_out"
        n = len(before)
        rules = jump_path.Rules(
            step=np.array(self.prices.step[:1]),
            switch=np.inf,
            enter=np.zeros(n),
            leave=np.zeros(n),
            background=np.inf,
            source=np.zeros(n),
            targets=np.zeros(0, np.int64),
            target=np.zeros(0),
            reach=np.zeros((0, 2), np.int64),
            marked=np.zeros((0, 2), np.int64),
            marked_price=np.zeros(0),
        )
        path = jump_path.find_path(skipped, before, rules, jump_path.mean_cost(self.score, self.score))
        return "repeat_left_out" if path.costs.mean() < 0.25 else "passage_left_out"


def _only(rules: jump_path.Rules, jumps: np.ndarray, price: np.ndarray) -> jump_path.Rules:
    """The same rules, but for the jumps: these alone, last frame before and first after."""
    targets = np.unique(jumps[:, 1])
    return dataclasses.replace(
        rules,
        targets=targets,
        target=np.full(len(targets), np.inf),
        reach=np.zeros((len(targets), 2), np.int64),
        marked=jumps,
        marked_price=price,
    )


def _same_ends(rules: jump_path.Rules, path: jump_path.Path) -> jump_path.Rules:
    """The same rules, but that the score begins and ends free of charge where it does on the path, and at its ends."""
    first, last = path.frames[path.played][[0, -1]]
    enter, leave = np.where(rules.enter == 0, 0.0, np.inf), np.where(rules.leave == 0, 0.0, np.inf)
    enter[first] = leave[last] = 0.0
    return dataclasses.replace(rules, enter=enter, leave=leave)


def _slope(path: jump_path.Path) -> float:
    """Frames of the score for one of the recording: the median over spans without a jump."""
    span = 20
    frames = path.frames
    if len(frames) <= span:
        return 1.0
    step = frames[span:] - frames[:-span]
    jumped = np.zeros(len(frames), bool)
    jumped[path.jumps] = True
    jumped[~path.played] = True
    clean = np.convolve(jumped, np.ones(span + 1))[span:-span] == 0
    return float(np.median(step[clean]) / span) if clean.any() else 1.0

"""The search for the parameters of the decoder of beats, on recordings kept from training."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from tqdm import tqdm

from musicnet_tf import windowing
from musicnet_tf.decode.beats import BeatDecoding, decode
from musicnet_tf.metrics import Heard, beats
from musicnet_tf.models import ModelSpec
from musicnet_tf.thresholds import Chosen

CRITERIA = ("beat/f1", "downbeat/f1")
MAX_ROUNDS = 2
SEARCH_SECONDS = 2400.0
THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
AUDIBLE = (0.01, 0.02, 0.05, 0.1, 0.2)
LAMBDAS = {"transition_lambda": (5.0, 20.0, 60.0, 200.0), "observation_lambda": (6.0, 12.0, 24.0)}
BEAT_COSTS = (0.0, 0.5, 1.0, 2.0, 4.0)
TEMPI = {"min_bpm": (30.0, 40.0, 55.0), "max_bpm": (160.0, 215.0, 280.0)}
METERS = ((4,), (3, 4), (2, 3, 4), (2, 3, 4, 6))
METER_CHANGES = (1e-4, 1e-3, 1e-2, 5e-2)
FACTORS = (0.7, 1.4)
"""Of a value, in the last stage."""


class BeatParameters(Chosen):
    """Those of a decoder of beats.

    Attributes:
        trim_seconds: beats before it did not count.
    """

    decoder: BeatDecoding = BeatDecoding()
    trim_seconds: float = beats.TRIM_SECONDS


def search_parameters(
    heard: Sequence[Sequence[Heard]],
    spec: ModelSpec,
    start: BeatDecoding,
    trim_seconds: float = beats.TRIM_SECONDS,
) -> BeatParameters:
    """The best parameters of the decoder, by a staged grid.

    What is maximised is the mean of the F-measures of beats and of downbeats, each a mean over the corpora of its
    means over their pieces; that of the beats alone where no piece tells downbeats or the model has no head for them.

    Of `dbn`, both lambdas are searched on one grid, then the cost of a beat, the range of tempi, the lengths of bars,
    how often they change, and what is audible; so in turn until nothing moves, and at last finer steps in lambdas
    and cost. Of `peaks`, the threshold. `SEARCH_SECONDS` of each corpus are searched on, evenly chosen pieces; what was
    found is compared with the start on all. Other methods are taken only where the search starts from them: comb and
    autocorrelation are slow, and `dbn_online` hears less than `dbn`. Of equally good values the first is kept.

    Args:
        heard: the pieces of each corpus; each has some.
        spec: of the model that heard them.
        start: parameters that are not searched, and first values of the others.
        trim_seconds: as of `beats.score`.
    """
    search = _Search([_thinned(corpus) for corpus in heard], spec, trim_seconds)
    found = [search.model(start if start.method == "dbn_online" else start.model_copy(update={"method": "dbn"}))]
    found.append(search.peaks(start))
    whole = _Search(heard, spec, trim_seconds)
    best = whole.best([start, *found], "method")
    return BeatParameters(decoder=best, scores=whole.scores(best), trim_seconds=trim_seconds)


def _thinned(corpus: Sequence[Heard]) -> Sequence[Heard]:
    """Evenly chosen pieces of about `SEARCH_SECONDS`, all where there are no more."""
    step = max(1, round(sum(piece.duration for piece in corpus) / SEARCH_SECONDS))
    return corpus[::step]


class _Search:
    """Mean F-measures as a function of decoder parameters, each computed once."""

    def __init__(self, heard: Sequence[Sequence[Heard]], spec: ModelSpec, trim_seconds: float) -> None:
        self._heard, self._trim = heard, trim_seconds
        self._clock = windowing.recording_clock(spec)
        self._downbeats = "downbeat" in spec.heads
        self._known: dict[BeatDecoding, dict[str, float]] = {}
        self._pool = ThreadPoolExecutor(os.cpu_count())  # decoding leaves the interpreter alone for the most part

    def scores(self, params: BeatDecoding) -> dict[str, float]:
        """Those of `CRITERIA` that there are, means over the corpora."""
        if params not in self._known:
            corpora = [[*self._pool.map(self._piece, corpus, itertools.repeat(params))] for corpus in self._heard]
            self._known[params] = {}
            for name in CRITERIA:
                means = [np.mean(values) for rows in corpora if (values := [row[name] for row in rows if name in row])]
                if means:
                    self._known[params][name] = float(np.mean(means))
        return self._known[params]

    def _piece(self, heard: Heard, params: BeatDecoding) -> dict[str, float]:
        row = beats.f1(heard.events, decode(heard.heads, self._clock, params), self._trim)
        return row if self._downbeats else {name: row[name] for name in CRITERIA[:1] if name in row}

    def best(self, candidates: Iterable[BeatDecoding], what: str) -> BeatDecoding:
        """The first of those with the highest mean of all scores."""
        progress = tqdm(list(dict.fromkeys(candidates)), desc=what, unit="setting", disable=None)
        return max(progress, key=lambda params: float(np.mean([*self.scores(params).values()])))

    def peaks(self, start: BeatDecoding) -> BeatDecoding:
        start = start.model_copy(update={"method": "peaks"})
        return self.best([start, *_varied(start, {"threshold": THRESHOLDS})], "peaks: threshold")

    def model(self, start: BeatDecoding) -> BeatDecoding:
        """The hidden Markov model's."""
        stages: list[Mapping[str, Sequence[Any]]] = [LAMBDAS, {"beat_cost": BEAT_COSTS}, TEMPI]
        if self._downbeats:
            stages += [{"beats_per_bar": METERS}, {"meter_change": METER_CHANGES}]
        stages.append({"audible": AUDIBLE})
        best = self._in_turn(start, stages)
        names = ("transition_lambda", "observation_lambda", "beat_cost")
        finer = [{name: [getattr(best, name) * factor for factor in FACTORS]} for name in names]
        return self._in_turn(best, finer, rounds=1)

    def _in_turn(
        self, best: BeatDecoding, stages: Sequence[Mapping[str, Sequence[Any]]], rounds: int = MAX_ROUNDS
    ) -> BeatDecoding:
        for _ in range(rounds):
            before = best
            for values in stages:
                best = self.best([best, *_varied(best, values)], f"{best.method}: {', '.join(values)}")
            if best == before:
                break
        return best


def _varied(params: BeatDecoding, values: Mapping[str, Sequence[Any]]) -> list[BeatDecoding]:
    """The parameters with every combination of other values of some of them; without those that are out of range."""
    made = []
    for combination in itertools.product(*values.values()):
        changed = {**params.model_dump(), **dict(zip(values, combination, strict=True))}
        if changed["observation_lambda"] >= 2 and changed["min_bpm"] <= changed["max_bpm"]:
            made.append(BeatDecoding(**changed))
    return made

"""Decoder thresholds: what they are, and the search for them on recordings kept from training."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import pydantic
from tqdm import tqdm

from musicnet_tf import files, validation, windowing
from musicnet_tf.decode import Decoding, decoding_of
from musicnet_tf.decode.notes import NoteDecoding, decode
from musicnet_tf.errors import ModelError
from musicnet_tf.manifest import Manifest
from musicnet_tf.metrics import Heard, frames
from musicnet_tf.metrics import notes as note_metrics
from musicnet_tf.models import ModelSpec

COARSE = (0.1, 0.3, 0.5, 0.7, 0.9)
STEPS = ((-0.15, -0.1, -0.05, 0.05, 0.1, 0.15), (-0.03, -0.02, -0.01, 0.01, 0.02, 0.03))
MAX_ROUNDS = 3
CRITERIA = ("onset", "onset_offset")
MIN_DURATIONS = (0.0, 0.02, 0.03, 0.05, 0.08)
SMOOTHINGS = (0.0, 0.06)


class Chosen(pydantic.BaseModel):
    """Parameters of a task's decoder, chosen on validation pieces and then used on others.

    Attributes:
        decoder: the parameters.
        chosen_on: split, and of each corpus its options and recordings.
        scores: mean scores reached there, over the corpora of means over their pieces.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    decoder: Decoding
    chosen_on: dict[str, Any] = {}
    scores: dict[str, float] = {}

    def into(self, manifest: Manifest) -> Manifest:
        """The manifest with these parameters, and without the scores that the old ones reached."""
        return manifest.with_thresholds(self.decoder.model_dump(mode="json"), manifest.posteriorgram_threshold)

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Reads what `musicnet evaluate --choose_thresholds` wrote. Raises ModelError."""
        try:
            return cls.model_validate_json(Path(path).read_bytes())
        except OSError as error:
            raise ModelError(f"{path}: cannot be read ({error.strerror})") from error
        except pydantic.ValidationError as error:
            raise ModelError(f"{path}: holds no chosen thresholds: {validation.describe(cls, error)}") from error

    def write(self, path: str | Path) -> None:
        """Writes what `read` reads."""
        files.write_json(path, self.model_dump(mode="json"))


class Thresholds(Chosen):
    """Those of a decoder of notes, and one more.

    Attributes:
        posteriorgram: a pitch counts as sounding in a frame iff its `frame` activation is greater.
            Another optimum than the decoder's `frame_threshold`, which serves the notes' ends.
    """

    decoder: NoteDecoding = NoteDecoding()
    posteriorgram: float = 0.5

    @classmethod
    def of(cls, manifest: Manifest) -> Thresholds:
        """Those of a manifest; where it holds none for the posteriorgram, the decoder's `frame_threshold` serves.

        Raises:
            ModelError: where the model does not transcribe notes.
        """
        decoder = decoding_of(manifest, "notes")
        own = manifest.posteriorgram_threshold
        return cls(decoder=decoder, posteriorgram=decoder.frame_threshold if own is None else own)

    def into(self, manifest: Manifest) -> Manifest:
        return manifest.with_thresholds(self.decoder.model_dump(mode="json"), self.posteriorgram)


def search_thresholds(heard: Sequence[Sequence[Heard]], spec: ModelSpec, start: NoteDecoding) -> Thresholds:
    """A coarse grid over all thresholds at once, then finer steps in one at a time, by mean F1.

    Means are over corpora of the means over their pieces: one of many pieces does not drown the others.

    With an onset head the grid maximises onset F1 + (onset + offset) F1, for a note is lost as well by a
    `frame_threshold` that it does not outlast as by an `onset_threshold` that it does not reach. Then
    `onset_threshold` is refined for onset F1 and `frame_threshold` for onset + offset F1, in turn until
    neither moves. This is done with each of `SMOOTHINGS` of the onset head, and the best by that sum is taken.
    Without an onset head, notes begin where `frame` rises, and its threshold is chosen for onset F1. At last
    `min_duration`, for onset F1. Of equally good values the one nearest to the value so far is kept.

    Args:
        heard: the pieces of each corpus; each has some.
        spec: of the model that heard them.
        start: parameters of the decoder that are not searched, and first values of the others.
    """
    search = _Search(heard, spec)
    if "onset" in spec.heads:
        smoothed = dict.fromkeys([start, *_varied(start, "onset_smoothing", SMOOTHINGS)])
        names = {"onset_threshold": ("onset",), "frame_threshold": ("onset_offset",)}
        best = search.best([search.climb(each, names) for each in smoothed], CRITERIA, "onset_smoothing")
    else:
        best = search.climb(start, {"frame_threshold": ("onset",)})
    best = search.best([best, *_varied(best, "min_duration", MIN_DURATIONS)], ("onset",), "min_duration")
    posteriorgram, frame_f1 = search.posteriorgram_threshold()
    means = {f"{name}/f1": search.f1(best, name) for name in CRITERIA}
    return Thresholds(decoder=best, posteriorgram=posteriorgram, scores={**means, "posteriorgram/f1": frame_f1})


def _varied(params: NoteDecoding, name: str, values: Iterable[float]) -> list[NoteDecoding]:
    """The parameters with other values of one of them, nearest first."""
    now = getattr(params, name)
    return [params.model_copy(update={name: float(v)}) for v in sorted(values, key=lambda value: abs(value - now))]


class _Search:
    """Mean F1 as a function of decoder parameters, each computed once."""

    def __init__(self, heard: Sequence[Sequence[Heard]], spec: ModelSpec) -> None:
        self._heard = [piece for corpus in heard for piece in corpus]
        self._weights = [1 / len(corpus) for corpus in heard for _ in corpus]
        self._clock = windowing.recording_clock(spec)
        self._first_pitch = spec.heads["frame"].first_pitch
        self._known: dict[NoteDecoding, dict[str, float]] = {}

    def f1(self, params: NoteDecoding, criterion: str) -> float:
        """Mean over the corpora."""
        if params not in self._known:
            rows = [self._piece_f1(heard, params) for heard in self._heard]
            self._known[params] = {
                name: float(np.average([row[name] for row in rows], weights=self._weights)) for name in CRITERIA
            }
        return self._known[params][criterion]

    def _piece_f1(self, heard: Heard, params: NoteDecoding) -> dict[str, float]:
        estimate = decode(heard.heads, self._clock, params, self._first_pitch)
        scores = note_metrics.score(heard.notes, estimate, CRITERIA)
        return {name: scores[f"{name}/f1"] for name in CRITERIA}

    def climb(self, start: NoteDecoding, names: Mapping[str, tuple[str, ...]]) -> NoteDecoding:
        """The best of the grid in all of some thresholds, then refined in one at a time for criteria of its own."""
        best = self.grid(start, list(names), [criterion for criteria in names.values() for criterion in criteria])
        for _ in range(MAX_ROUNDS):
            before = best
            for name, criteria in names.items():
                best = self.refine(best, name, criteria)
            if best == before:
                break
        return best

    def grid(self, start: NoteDecoding, names: Sequence[str], criteria: Sequence[str]) -> NoteDecoding:
        """The best of `start` and every combination of coarse values."""
        candidates = [start]
        for values in itertools.product(COARSE, repeat=len(names)):
            candidates.append(start.model_copy(update=dict(zip(names, values, strict=True))))
        return self.best(candidates, criteria, "coarse grid")

    def refine(self, params: NoteDecoding, name: str, criteria: Sequence[str]) -> NoteDecoding:
        """The best of two ever smaller neighbourhoods in one parameter."""
        for steps in STEPS:
            values = np.round(getattr(params, name) + np.array(steps), 4)
            candidates = _varied(params, name, values[(values > 0) & (values < 1)])
            params = self.best([params, *candidates], criteria, name)
        return params

    def best(self, candidates: Sequence[NoteDecoding], criteria: Sequence[str], what: str) -> NoteDecoding:
        """The first of those with the highest sum of mean F1."""
        progress = tqdm(candidates, desc=what, unit="setting", disable=None)
        return max(progress, key=lambda params: sum(self.f1(params, criterion) for criterion in criteria))

    def posteriorgram_threshold(self) -> tuple[float, float]:
        """The threshold of best mean frame F1, and that F1."""
        grid = np.arange(1, 100) / 100
        curves = []
        for heard in self._heard:
            posteriorgram = frames.widen(heard.heads["frame"], self._first_pitch)
            roll = frames.piano_roll(heard.notes, self._clock, len(posteriorgram))
            curves.append(frames.f1_by_threshold(roll, posteriorgram, grid))
        f1 = np.average(curves, axis=0, weights=self._weights)
        return float(grid[np.argmax(f1)]), float(f1.max())

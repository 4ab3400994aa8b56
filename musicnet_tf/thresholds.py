"""Decoder thresholds: what they are, and the search for them on recordings kept from training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pydantic
from tqdm import tqdm

from musicnet_tf import files, windowing
from musicnet_tf.decode.notes import NoteDecoding, decode
from musicnet_tf.errors import ModelError
from musicnet_tf.events import Notes
from musicnet_tf.manifest import Manifest
from musicnet_tf.metrics import frames
from musicnet_tf.metrics import notes as note_metrics
from musicnet_tf.models import ModelSpec

COARSE = np.arange(1, 10) / 10
FINE = np.arange(-8, 9, 2) / 100
MIN_DURATIONS = (0.0, 0.02, 0.03, 0.05, 0.08)


class Thresholds(pydantic.BaseModel):
    """What is chosen on validation pieces and then used on others.

    Attributes:
        decoder: of notes.
        posteriorgram: a pitch counts as sounding in a frame iff its `frame` activation is greater.
            Another optimum than the decoder's `frame_threshold`, which serves the notes' ends.
        chosen_on: corpus, split and recordings.
        scores: mean scores reached there.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    decoder: NoteDecoding = NoteDecoding()
    posteriorgram: float = 0.5
    chosen_on: dict[str, Any] = {}
    scores: dict[str, float] = {}

    @classmethod
    def of(cls, manifest: Manifest) -> Thresholds:
        """Those of a manifest, which holds none for the posteriorgram: the decoder's serves.

        Raises:
            ModelError: where its decoder has parameters that no note decoder knows.
        """
        try:
            decoder = NoteDecoding.model_validate(manifest.decoder)
        except pydantic.ValidationError as error:
            raise ModelError(f"model {manifest.name!r}: its manifest's decoder is not one of notes: {error}") from error
        return cls(decoder=decoder, posteriorgram=decoder.frame_threshold)

    @classmethod
    def read(cls, path: str | Path) -> Thresholds:
        """Reads what `musicnet evaluate --choose_thresholds` wrote. Raises ModelError."""
        try:
            return cls.model_validate_json(Path(path).read_bytes())
        except (OSError, pydantic.ValidationError) as error:
            raise ModelError(f"{path}: holds no chosen thresholds: {error}") from error

    def write(self, path: str | Path) -> None:
        """Writes what `read` reads."""
        files.write_json(path, self.model_dump(mode="json"))


class Heard(NamedTuple):
    """A recording, its notes, and what a model makes of it: head → `(frames, classes)`."""

    id: str
    notes: Notes
    heads: dict[str, np.ndarray]
    duration: float


def search_thresholds(heard: Sequence[Heard], spec: ModelSpec, start: NoteDecoding) -> Thresholds:
    """One parameter at a time, coarse and then fine, by means over the pieces.

    With an onset head, `onset_threshold` is chosen for the best onset F1, `frame_threshold` for the
    best onset + offset F1, and `onset_threshold` once more, for a note must also outlast
    `min_duration`. Without one, notes begin where `frame` rises, and its threshold is chosen for onset
    F1. Then `min_duration`, for onset F1. Equally good values: the one nearest to `start`'s.
    """
    search = _Search(heard, spec)
    best = start
    if "onset" in spec.heads:
        best = search.refine(best, "onset_threshold", "onset")
        best = search.refine(best, "frame_threshold", "onset_offset")
        best = search.refine(best, "onset_threshold", "onset")
    else:
        best = search.refine(best, "frame_threshold", "onset")
    best = search.best(best, "min_duration", MIN_DURATIONS, "onset")
    posteriorgram, frame_f1 = search.posteriorgram_threshold()
    means = {f"{name}/f1": search.f1(best, name) for name in ("onset", "onset_offset")}
    return Thresholds(decoder=best, posteriorgram=posteriorgram, scores={**means, "posteriorgram/f1": frame_f1})


class _Search:
    """Mean F1 over pieces as a function of decoder parameters, each computed once."""

    def __init__(self, heard: Sequence[Heard], spec: ModelSpec) -> None:
        self._heard = heard
        self._clock = windowing.recording_clock(spec)
        self._first_pitch = spec.heads["frame"].first_pitch
        self._known: dict[tuple[NoteDecoding, str], float] = {}

    def f1(self, params: NoteDecoding, criterion: str) -> float:
        key = (params, criterion)
        if key not in self._known:
            self._known[key] = float(np.mean([self._piece_f1(h, params, criterion) for h in self._heard]))
        return self._known[key]

    def _piece_f1(self, heard: Heard, params: NoteDecoding, criterion: str) -> float:
        estimate = decode(heard.heads, self._clock, params, self._first_pitch)
        return note_metrics.score(heard.notes, estimate, (criterion,))[f"{criterion}/f1"]

    def refine(self, params: NoteDecoding, name: str, criterion: str) -> NoteDecoding:
        """The best of a coarse grid, then of a fine one about it."""
        params = self.best(params, name, COARSE, criterion)
        fine = np.round(getattr(params, name) + FINE, 4)
        return self.best(params, name, fine[(fine > 0) & (fine < 1)], criterion)

    def best(self, params: NoteDecoding, name: str, values: Iterable[float], criterion: str) -> NoteDecoding:
        now = getattr(params, name)
        candidates = sorted({now, *map(float, values)}, key=lambda value: abs(value - now))
        progress = tqdm(candidates, desc=name, unit="setting", disable=None)
        return max((params.model_copy(update={name: v}) for v in progress), key=self._by(criterion))

    def _by(self, criterion: str) -> Callable[[NoteDecoding], float]:
        return lambda params: self.f1(params, criterion)

    def posteriorgram_threshold(self) -> tuple[float, float]:
        """The threshold of best mean frame F1, and that F1."""
        grid = np.arange(1, 100) / 100
        curves = []
        for heard in self._heard:
            posteriorgram = frames.widen(heard.heads["frame"], self._first_pitch)
            roll = frames.piano_roll(heard.notes, self._clock, len(posteriorgram))
            curves.append(frames.f1_by_threshold(roll, posteriorgram, grid))
        f1 = np.mean(curves, axis=0)
        return float(grid[np.argmax(f1)]), float(f1.max())

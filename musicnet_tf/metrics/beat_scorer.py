"""How beats are scored: as decoded from a model's activations, or as files hold them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from musicnet_tf import scores, windowing
from musicnet_tf.decode import decoding_of
from musicnet_tf.decode.beats import BeatDecoding, decode
from musicnet_tf.events import Beats
from musicnet_tf.metrics import Heard, Scorer, beats
from musicnet_tf.metrics.beat_search import BeatParameters, search_parameters
from musicnet_tf.models import ModelSpec
from musicnet_tf.registry import SCORERS

if TYPE_CHECKING:
    from musicnet_tf.manifest import Manifest
    from musicnet_tf.thresholds import Chosen


@SCORERS.register("beats")
class BeatScorer(Scorer):
    """Scores of a piece by `metrics.beats`, without the beats before `trim_seconds`. None are pooled.

    A piece whose downbeats are not told has no `downbeat/…`, and one whose beats are not told no scores at all; both
    are counted in `left_out`. Of a model without a head for downbeats, they are not scored.
    """

    annotation: ClassVar[str] = "beats"
    columns: ClassVar[Mapping[str, str]] = {
        "beat/f1": "F",
        "downbeat/f1": "downbeat F",
        "beat/cemgil": "Cemgil",
        "beat/goto": "Goto",
        "beat/p_score": "P-score",
        "beat/cmlc": "CMLc",
        "beat/cmlt": "CMLt",
        "beat/amlc": "AMLc",
        "beat/amlt": "AMLt",
        "beat/information_gain": "inf gain",
    }
    drawn: ClassVar[Mapping[str, str]] = {"beat/f1": "beat F", "downbeat/f1": "downbeat F"}
    options: ClassVar[tuple[str, ...]] = ("trim_seconds",)
    estimates: ClassVar[tuple[str, ...]] = (".beats", ".txt")
    references: ClassVar[tuple[str, ...]] = (".beats", ".txt")
    parameters: ClassVar[type[Chosen]] = BeatParameters

    def __init__(
        self,
        spec: ModelSpec | None = None,
        decoder: BeatDecoding | None = None,
        trim_seconds: float = beats.TRIM_SECONDS,
    ) -> None:
        super().__init__()
        self._spec, self._decoder, self._trim = spec, decoder, trim_seconds

    @classmethod
    def of(cls, manifest: Manifest, chosen: Chosen | None = None, **options: Any) -> BeatScorer:
        """With `trim_seconds`, by default mir_eval's 5."""
        own = decoding_of(manifest, "beats")  # also where others are given: it refuses a model of no beats
        return cls(manifest.geometry, own if chosen is None else chosen.decoder, **options)  # type: ignore[arg-type]

    @classmethod
    def read(cls, path: Path) -> Beats:
        return scores.read_beats(path)

    def settings(self) -> dict[str, Any]:
        decoder = {} if self._decoder is None else {"decoder": self._decoder.model_dump(mode="json")}
        return {**decoder, "trim_seconds": self._trim}

    def score(self, heard: Heard) -> dict[str, float]:
        assert self._spec is not None and self._decoder is not None
        estimate = decode(heard.heads, windowing.recording_clock(self._spec), self._decoder)
        return self._score(heard.id, heard.events, estimate, "downbeat" in self._spec.heads)

    def score_events(self, id: str, reference: Beats, estimate: Beats) -> dict[str, float]:
        return self._score(id, reference, estimate, True)

    def can_score(self, heard: Heard) -> bool:
        return heard.events is not None and bool(beats.f1(heard.events, Beats.empty(), self._trim))

    def search(self, heard: Sequence[Sequence[Heard]]) -> BeatParameters:
        assert self._spec is not None and self._decoder is not None
        return search_parameters(heard, self._spec, self._decoder, self._trim)

    def _score(self, id: str, reference: Beats | None, estimate: Beats, downbeats: bool) -> dict[str, float]:
        row = {} if reference is None else beats.score(reference, estimate, self._trim)
        if not row:
            self._leave_out(f"tell no beat after {self._trim:g} s", id)
        elif not downbeats:
            row.pop("downbeat/f1", None)
        elif "downbeat/f1" not in row:
            self._leave_out(f"tell no downbeat after {self._trim:g} s", id)
        return row

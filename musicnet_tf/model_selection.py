"""Several models hear a recording, and the one is believed that suits it: multi-model selection.

Each of the models learnt other music. The one whose activations are the closest to the mean of all is the one that the
others contradict least (Böck, Krebs & Widmer, ISMIR 2014).
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from musicnet_tf import transcription, windowing
from musicnet_tf.decode import Decoding
from musicnet_tf.decode.tracking.selection import closest_to_mean
from musicnet_tf.errors import ConfigError, ModelError, MusicNetError
from musicnet_tf.manifest import Manifest
from musicnet_tf.registry import DECODERS
from musicnet_tf.transcription import Predictor, Result
from musicnet_tf.writers import Format

FEWEST = 3
"""Models that there must be: two are equally far from their mean."""


def check(manifests: Sequence[Manifest]) -> None:
    """Refuses models that cannot be compared.

    Args:
        manifests: of models of one task.

    Raises:
        ConfigError: where there are fewer than `FEWEST`.
        ModelError: where their frames are not at the same instants, or tell of other classes.
    """
    if len(manifests) < FEWEST:
        names = " and ".join(manifest.name for manifest in manifests)
        raise ConfigError(f"{names}: two models are equally far from their mean; name one, or at least {FEWEST}")
    for other in manifests[1:]:
        _check_pair(manifests[0], other)


def _check_pair(first: Manifest, other: Manifest) -> None:
    pair = f"models {first.name!r} and {other.name!r} cannot be compared:"
    clocks = [windowing.recording_clock(manifest.geometry) for manifest in (first, other)]
    if clocks[0] != clocks[1]:
        told = " and ".join(f"{clock.hop_length} samples apart at {clock.sample_rate} Hz" for clock in clocks)
        raise ModelError(f"{pair} their frames are {told}; name models of one clock")
    for name in DECODERS.get(first.task).heads:
        if first.geometry.heads[name] != other.geometry.heads[name]:
            raise ModelError(f"{pair} their heads {name!r} have other classes; name models of the same")


def transcribe_batch(
    paths: Iterable[str | Path],
    predictors: Sequence[Predictor],
    output_dir: str | Path,
    formats: Sequence[Format],
    decode: Callable[[Manifest], Decoding],
    batch_size: int | None = None,
) -> Iterator[Result]:
    """As `transcription.transcribe_batch`, each recording by the model that is believed; `details` name it.

    Args:
        paths: of the recordings.
        predictors: the models, as `check` wants them, all of one task.
        output_dir: made if need be.
        formats: of the decoding's `formats()`.
        decode: manifest → parameters of the decoder.
        batch_size: windows a batch; see `windowing.posteriorgrams`.
    """
    for path in map(Path, paths):
        began = time.perf_counter()
        try:
            model = believed(path, predictors, batch_size)
            result = transcription.transcribe_file(path, model, output_dir, formats, decode(model.manifest), batch_size)
        except MusicNetError as error:
            yield Result(path, error=str(error))
            continue
        details = f"{result.details}; by {model.manifest.name}"
        yield dataclasses.replace(result, details=details, seconds=time.perf_counter() - began)


def believed(path: str | Path, predictors: Sequence[Predictor], batch_size: int | None = None) -> Recalled:
    """The model that suits a recording, by the heads that its decoder cannot do without.

    Memory grows with the recording by the activations of all models.

    Args:
        path: of the recording.
        predictors: the models, as `check` wants them, all of one task.
        batch_size: windows a batch.

    Returns:
        What gives the model's activations without hearing the recording again, for batches of the same size.

    Raises:
        AudioError: where the recording cannot be read.
        ModelError: where a model breaks its promises.
    """
    heard = [Recalled(predictor) for predictor in predictors]
    return heard[closest_to_mean([model.hear(Path(path), batch_size) for model in heard])]


class Recalled:
    """A model that hears one recording, and then recalls what it gave, batch by batch."""

    def __init__(self, predictor: Predictor) -> None:
        self.manifest = predictor.manifest
        self._predictor = predictor
        self._outputs: list[Mapping[str, np.ndarray]] = []

    def hear(self, path: Path, batch_size: int | None) -> np.ndarray:
        """Activations of the heads that the decoder needs side by side, float32 `(frames, classes)`."""
        spec, needed = self.manifest.geometry, DECODERS.get(self.manifest.task).heads
        blocks = transcription.blocks_with_progress(path, spec.clock.sample_rate)
        pieces = windowing.posteriorgrams(blocks, spec, self, batch_size)
        rows = [np.concatenate([heads[name] for name in needed], axis=1) for heads in pieces]
        return np.concatenate(rows) if rows else np.zeros((0, sum(spec.heads[name].num_classes for name in needed)))

    def __call__(self, windows: np.ndarray) -> dict[str, np.ndarray]:
        return self._predictor(windows)

    def map(self, batches: Iterable[np.ndarray]) -> Iterator[Mapping[str, np.ndarray]]:
        """What the model gives for the recording's batches; from the second time on, which must be of the same size,
        from memory."""
        if self._outputs:
            yield from (outputs for _, outputs in zip(batches, self._outputs, strict=True))
            return
        for outputs in windowing.outputs_of(self._predictor, batches):
            self._outputs.append(outputs)
            yield outputs

"""A row's learned filters, the same layer before training, and the notes that it was trained on."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from musicnet_tf import filters
from musicnet_tf.errors import ModelError
from musicnet_tf.events import NUM_PITCHES

LAYER = "filters"
"""Name of the bottom layer in every network that learns filters; its `kernel` is `(receptive field, units)`."""


@dataclasses.dataclass(frozen=True)
class Tuning:
    """What the filters of one moment of training are tuned to.

    Attributes:
        frequencies: dominant one of each unit, Hz, `(units,)`; NaN where all weights are 0.
        ratios: peak to median of each unit's spectrum, `(units,)`.
    """

    frequencies: np.ndarray
    ratios: np.ndarray

    @classmethod
    def of(cls, kernels: np.ndarray, sample_rate: int) -> Tuning:
        """Of kernels `(receptive field, units)`."""
        found = filters.spectra(kernels, sample_rate)
        return cls(filters.dominant_frequencies(found), filters.peak_to_median(found))

    @property
    def ratio(self) -> float:
        """The median over the units that are not all 0; NaN where all are."""
        alive = self.ratios[np.isfinite(self.ratios)]
        return float(np.median(alive)) if len(alive) else float("nan")

    @functools.cached_property
    def histogram(self) -> np.ndarray:
        """Units by the MIDI pitch that their frequency is nearest to, `(128,)`."""
        return filters.pitch_histogram(self.frequencies)


@dataclasses.dataclass(frozen=True)
class Analysis:
    """The filters of one row.

    Attributes:
        row: its name.
        sample_rate: of what the filters hear, Hz.
        kernels: trained, `(receptive field, units)`.
        trained, initial: tuning after and before training.
        notes: how much of the training each MIDI pitch sounds, `(128,)`, sum 1; None where the records are not at
            hand any more.
    """

    row: str
    sample_rate: int
    kernels: np.ndarray
    trained: Tuning
    initial: Tuning
    notes: np.ndarray | None

    @property
    def quotient(self) -> float:
        """How many times purer the filters became: the median ratio trained over that at initialisation."""
        return self.trained.ratio / self.initial.ratio

    def correlation(self, tuning: Tuning) -> filters.Correlation | None:
        """Of the histograms of filters and notes; None where the notes are not known."""
        return None if self.notes is None else filters.correlation(tuning.histogram, self.notes)


def analyse(row: str, run: Path) -> Analysis | None:
    """Of a run folder; None for a network that learns no filters.

    Raises:
        ConfigError, ModelError: where the run cannot be loaded, or its layer of filters is not what it should be.
        RecordError: where the records that it was trained on are damaged.
    """
    import keras

    from musicnet_tf import config, runs

    _, experiment, network = runs.load(run)
    if LAYER not in {layer.name for layer in network.layers}:
        return None
    trained = _kernels(network, run)
    keras.utils.set_random_seed(experiment.seed)  # as training does, so that the same weights are drawn
    initial = _kernels(experiment.model.build(), run)
    sample_rate = experiment.model.spec().clock.sample_rate
    there = run / config.FILENAME  # the manifest does not tell where the records lay
    data = (config.load(there) if there.exists() else experiment).data
    return Analysis(
        row,
        sample_rate,
        trained,
        Tuning.of(trained, sample_rate),
        Tuning.of(initial, sample_rate),
        training_notes((data.path(source), source.weight) for source in data.train),
    )


def training_notes(sources: Iterable[tuple[Path, float]]) -> np.ndarray | None:
    """How much each MIDI pitch sounds in what is trained on, `(128,)`, sum 1.

    Args:
        sources: record sets and their weights: each counts as often as windows are drawn from it.

    Returns:
        None where a record set cannot be found.

    Raises:
        RecordError: where one is damaged.
    """
    total = np.zeros(NUM_PITCHES)
    for folder, weight in sources:
        histogram = _notes_of(folder)
        if histogram is None:
            return None
        total += weight * histogram / max(histogram.sum(), 1e-9)
    return total / max(total.sum(), 1e-9)


@functools.lru_cache  # the rows of a study are trained on the same records
def _notes_of(folder: Path) -> np.ndarray | None:
    from musicnet_tf import record_info, records

    if not (folder / record_info.INFO).exists():
        return None
    histogram = np.zeros(NUM_PITCHES)
    for recording, notes in records.read_notes(folder):
        if recording["split"] == "train":
            histogram += filters.note_histogram(notes.pitch, notes.offset - notes.onset)
    return histogram


def _kernels(network: object, run: Path) -> np.ndarray:
    import keras

    kernels = keras.ops.convert_to_numpy(network.get_layer(LAYER).kernel)  # type: ignore[attr-defined]
    if kernels.ndim != 2:
        raise ModelError(
            f"{run}: layer {LAYER!r} has a kernel of shape {kernels.shape}, not (receptive field, units);"
            " train the row again with this release"
        )
    return kernels

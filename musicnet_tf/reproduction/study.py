"""A reproduction, row by row: records, training, evaluation by the protocol, and what came of it beside each run."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
from absl import logging
from tqdm import tqdm

from musicnet_tf import files
from musicnet_tf.config import Experiment
from musicnet_tf.datasets import Dataset, Recording
from musicnet_tf.datasets.musicnet import MusicNet
from musicnet_tf.errors import ConfigError, DatasetError, MusicNetError
from musicnet_tf.manifest import Manifest
from musicnet_tf.metrics import frames, protocol
from musicnet_tf.registry import nearest
from musicnet_tf.reproduction import points, settings, training
from musicnet_tf.reproduction.points import Excerpt, Points, RawNetwork
from musicnet_tf.reproduction.result import Result, Scores
from musicnet_tf.reproduction.settings import Row, Study

RUNS, RECORDS = "runs", "records"
"""Folders within the output folder: of each row by its name, and of records that are built here."""

Builder = Callable[[Dataset, int, Path], object]
"""Builds records of a corpus at a sample rate in a folder, skipping what is done."""


class Outcome(NamedTuple):
    """What came of the rows, in their order, and why others failed, by name."""

    results: list[Result]
    failed: dict[str, str]


def run(
    study: Study,
    data: Path,
    output_dir: Path,
    *,
    build: Builder | None = None,
    train_records: Sequence[Path] = (),
    test: Sequence[str] = (),
    rows: Sequence[str] = (),
    scale: float = 1.0,
    overrides: Mapping[str, Sequence[str]] | None = None,
) -> Outcome:
    """Trains and evaluates the rows of a study; goes on where an earlier call stopped, and skips what is done.

    A row that fails is told, and the others go on.

    Args:
        study: what to reproduce.
        data: folder of recordings in MusicNet's layout; those to test on, and the others to train on.
        output_dir: for `runs/<row>`, each a run folder with `result.json`, and `records/`.
        build: makes the records to train on, where `train_records` names none.
        train_records: finished record sets to train on instead of the other recordings of `data`.
        test: ids of the recordings to test on; by default the study's.
        rows: names of those to do; by default all.
        scale: of every row's number of steps.
        overrides: row → changes of its experiment, such as `train.batch_size=100`.

    Raises:
        ConfigError: where a row or `scale` is not known or wrong, or records for training hold a test work.
        DatasetError: where no recording to test on is at hand.
        RecordError: where a record set is missing or damaged.
    """
    training.check_scale(scale)  # once, and not as the failure of each row
    chosen = select_rows(study, rows)
    select_rows(study, [*(overrides or {})])
    corpus, tested = test_recordings(data, test or study.test)
    sets = _RecordSets(corpus, tested, output_dir / RECORDS, train_records, build, study.protocol.threshold_seed)
    files.make_folder(output_dir)
    outcome = Outcome([], {})
    for row in tqdm(chosen, desc=study.name, unit="row", disable=None):
        logging.info("%s: row %s", study.name, row.name)
        try:
            result = _row(study, row, sets, output_dir / RUNS / row.name, scale, (overrides or {}).get(row.name, ()))
            outcome.results.append(result)
        except MusicNetError as error:
            logging.error("row %s failed: %s", row.name, error)
            outcome.failed[row.name] = str(error)
        keras.backend.clear_session()
        gc.collect()
    return outcome


def read_results(study: Study, output_dir: Path) -> list[Result]:
    """The results that are there, in the order of the study; nothing is trained or evaluated.

    Raises:
        ModelError: where one is damaged.
    """
    found = [Result.read(output_dir / RUNS / row.name) for row in study.rows]
    return [result for result in found if result is not None]


def select_rows(study: Study, names: Sequence[str]) -> list[Row]:
    """The rows of these names, in the order of the study; all of them for no names.

    Raises:
        ConfigError: for a name that is no row's.
    """
    known = [row.name for row in study.rows]
    for name in names:
        if name not in known:
            raise ConfigError(f"{study.name} has no row {name!r}{nearest(name, known)}; there are {', '.join(known)}")
    return [row for row in study.rows if not names or row.name in names]


def test_recordings(data: Path, ids: Sequence[str]) -> tuple[MusicNet, list[Recording]]:
    """The corpus with these recordings, and all of their works, kept for the test; and those that are at hand.

    Raises:
        DatasetError: where none of them is, or the folder does not hold the corpus.
    """
    corpus = MusicNet(root=data, test=tuple(ids), validation=())
    known = {recording.id: recording for recording in corpus.recordings()}
    there = [known[id] for id in dict.fromkeys(ids) if id in known]
    if not there:
        more = f" and {len(known) - 20} more" if len(known) > 20 else ""
        raise DatasetError(
            f"{data}: none of the test recordings {', '.join(ids)} is there; name others by --test,"
            f" of {', '.join([*known][:20])}{more}"
        )
    missing = [id for id in dict.fromkeys(ids) if id not in known]
    if missing:
        logging.warning("%s: without the test recordings %s, which are not there", data, ", ".join(missing))
    return corpus, there


class _RecordSets:
    """Record sets to train on by sample rate, checked once; and the sampled excerpts of them."""

    def __init__(
        self,
        corpus: Dataset,
        tested: list[Recording],
        folder: Path,
        named: Sequence[Path],
        build: Builder | None,
        seed: int,
    ) -> None:
        if not named and build is None:
            raise ConfigError("no records to train on: name finished sets by --train_records")
        self.corpus, self.tested, self._seed = corpus, tested, seed
        self._folder, self._named, self._build = folder, [Path(path) for path in named], build
        self._built: dict[int, list[Path]] = {}
        self._excerpts: dict[int, list[Excerpt]] = {}
        training.refuse_tested(self._named, tested)

    def at(self, sample_rate: int) -> list[Path]:
        """Folders of the sets; those that are named, or one that is built now."""
        if self._named or self._build is None:
            return self._named
        if sample_rate not in self._built:
            folder = self._folder / f"{self.corpus.name}_{sample_rate}"
            self._build(self.corpus, sample_rate, folder)
            training.refuse_tested([folder], self.tested)
            self._built[sample_rate] = [folder]
        return self._built[sample_rate]

    def excerpts(self, sample_rate: int) -> list[Excerpt]:
        """The sample of the training splits, held in memory for the next row (about 5 MB an excerpt)."""
        if sample_rate not in self._excerpts:
            self._excerpts[sample_rate] = points.sample_excerpts(self.at(sample_rate), self._seed)
        return self._excerpts[sample_rate]


def _row(study: Study, row: Row, sets: _RecordSets, folder: Path, scale: float, overrides: Sequence[str]) -> Result:
    chosen = training.experiment(row, scale, overrides)
    spec = chosen.model.spec()
    chosen = training.on_records(chosen, sets.at(spec.clock.sample_rate))
    asked = _settings(study, chosen, sets.tested, scale)
    known = Result.read(folder)
    if known is not None and known.settings == asked:
        logging.info("row %s is done already", row.name)
        return known
    seconds = training.train(chosen, folder)
    result = Result(
        row=row.name,
        settings=asked,
        num_parameters=Manifest.read(folder).num_parameters,
        points_trained=asked["steps"] * asked["batch_size"] * spec.num_frames,
        seconds=seconds,
        **evaluate(folder, study.protocol, sets.corpus, sets.tested, sets.excerpts(spec.clock.sample_rate)),
    )
    result.write(folder)
    return result


def _settings(study: Study, chosen: Experiment, tested: Sequence[Recording], scale: float) -> dict[str, Any]:
    """What `Result.settings` tells: all that moves a figure, but not where files lay."""
    how = chosen.train
    data = chosen.data.model_dump(mode="json", exclude={"folder"})
    return {
        "seed": chosen.seed,
        "scale": scale,
        "steps": how.epochs * how.steps_per_epoch,
        "batch_size": how.batch_size,
        "optimizer": how.optimizer,
        "learning_rate": how.learning_rate,
        "schedule": how.schedule,
        "sample_rate": chosen.model.spec().clock.sample_rate,
        "protocol": study.protocol.model_dump(mode="json"),
        "test": [recording.id for recording in tested],
        "records": training.describe_records(chosen),
        "experiment": {**chosen.model_dump(mode="json"), "data": data},
    }


def evaluate(
    folder: Path,
    how: settings.Protocol,
    corpus: Dataset,
    tested: Sequence[Recording],
    excerpts: Sequence[Excerpt],
) -> dict[str, Any]:
    """Scores a trained run by the protocol: the threshold on training points, then everything on test points.

    Args:
        folder: of the run.
        how: the protocol.
        corpus, tested: the recordings to test on.
        excerpts: of the records that it was trained on.

    Returns:
        `threshold`, `training`, `pooled`, `pieces`, `polyphony` and `curves` of a `Result`.

    Raises:
        AudioError, ScoreError, DatasetError: where a test recording cannot be read or is too short.
        ModelError: where the run is missing, incomplete or damaged.
        RecordError: where no training excerpt is as long as a window.
    """
    network = RawNetwork(folder)
    sample = points.of_training(network, excerpts, how.threshold_seed, how.interpolation)
    threshold = protocol.choose_threshold(sample.labels, sample.estimates)
    pieces = {
        recording.id: points.of_recording(network, corpus, recording, how.convention, how.interpolation)
        for recording in tqdm(tested, desc="test", unit="piece", disable=None)
    }
    pooled = Points.concatenate(pieces.values())
    return {
        "threshold": threshold,
        "training": _score(sample, threshold),
        "pooled": _score(pooled, threshold),
        "pieces": {id: _score(piece, threshold) for id, piece in pieces.items()},
        "polyphony": protocol.by_polyphony(pooled.labels, pooled.estimates, threshold),
        "curves": _curves(pooled),
    }


def _score(at: Points, threshold: float) -> Scores:
    return {**frames.score(at.labels, at.estimates, threshold), "points": len(at)}


def _curves(at: Points) -> dict[str, dict[str, list[float]]]:
    """Figure 4's, of the subsets in which anything sounds."""
    curves = {}
    for name, subset in protocol.subsets(at.labels).items():
        if at.labels[subset].any():
            curve = frames.precision_recall_curve(at.labels[subset], at.estimates[subset])
            curves[name] = {key: np.round(values, 6).tolist() for key, values in curve.items()}
    return curves

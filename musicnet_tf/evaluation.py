"""How good is a model, or a folder of transcriptions? Every figure that the library reports comes from here."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from musicnet_tf import scores, windowing
from musicnet_tf.datasets import Dataset, Recording
from musicnet_tf.decode.notes import decode
from musicnet_tf.errors import DatasetError, ModelError, MusicNetError
from musicnet_tf.events import Notes
from musicnet_tf.metrics import frames
from musicnet_tf.metrics import notes as note_metrics
from musicnet_tf.metrics import protocol as musicnet_protocol
from musicnet_tf.metrics.report import Report
from musicnet_tf.models import ModelSpec
from musicnet_tf.registry import nearest
from musicnet_tf.thresholds import Heard, Thresholds, search_thresholds
from musicnet_tf.transcription import Predictor

_CONTEXT_SECONDS = 10.0
"""Heard beyond the last point, so that what a model makes of it does not depend on the cut."""


def select(dataset: Dataset, split: str, ids: Sequence[str] | None = None) -> list[Recording]:
    """The recordings of a split (or of `all`), or those of them that are named.

    Raises:
        DatasetError: where none is left, or a name is not among them.
    """
    recordings = dataset.recordings()
    known = {r.id: r for r in recordings if split in (r.split, "all")}
    if not known:
        splits = ", ".join(sorted({r.split for r in recordings}))
        raise DatasetError(f"{dataset.root}: {dataset.name} has no recording in split {split!r}, only in {splits}")
    for name in ids or ():
        if name not in known:
            raise DatasetError(
                f"{dataset.root}: no recording {name!r} in split {split!r} of {dataset.name}{nearest(name, known)};"
                f" there are {', '.join(known)}"
            )
    return [known[name] for name in dict.fromkeys(ids)] if ids else list(known.values())


def listen(predictor: Predictor, dataset: Dataset, recording: Recording, seconds: float = math.inf) -> Heard:
    """Runs a model over one recording, or over the first `seconds` of it.

    Raises:
        AudioError, ScoreError: where the recording or its labels cannot be read.
        ModelError: where the model does not give what its manifest promises.
    """
    spec = predictor.manifest.geometry
    notes = dataset.load_notes(recording)
    audio = dataset.load_audio(recording, spec.clock.sample_rate)
    audio = audio[: int(min(seconds * spec.clock.sample_rate, len(audio)))]
    heads = windowing.posteriorgram(audio, spec, predictor)
    return Heard(recording.id, notes, heads, len(audio) / spec.clock.sample_rate)


def evaluate_model(
    predictor: Predictor,
    dataset: Dataset,
    split: str,
    recordings: Sequence[str] | None = None,
    thresholds: Thresholds | None = None,
    protocol: musicnet_protocol.Protocol | None = None,
    c: musicnet_protocol.Threshold | None = None,
) -> Report:
    """Scores a model on a split of a corpus, piece by piece; a piece that cannot be read is listed, not fatal.

    Scores of a piece, and of all pooled:

    - `onset/…`, `onset_offset/…`, `onset_offset_velocity/…`: decoded notes, by `metrics.notes`.
    - `frame/…`, `multipitch/…`: decoded notes on a 10 ms grid, by `metrics.frames`.
    - `posteriorgram/…`: head `frame` above `thresholds.posteriorgram`, on the model's own clock.
    - `protocol/…`: the MusicNet paper's, by `metrics.protocol`. Not for recordings of less than a second.

    Args:
        predictor: the model.
        dataset: the corpus.
        split: `train`, `validation`, `test` or `all`.
        recordings: only these of the split.
        thresholds: chosen on *other* recordings; by default the manifest's.
        protocol: where the paper's points lie.
        c: the paper's threshold, by `search_protocol_threshold`; by default that of `posteriorgram/…`.

    Raises:
        DatasetError: where nothing is selected, or nothing of it could be read.
        ModelError: where the model does not transcribe notes.
    """
    own = Thresholds.of(predictor.manifest)  # also where others are given: it refuses a model of no notes
    thresholds = thresholds or own
    protocol = protocol or musicnet_protocol.Protocol()
    c = c or musicnet_protocol.Threshold(thresholds.posteriorgram, "thresholds.posteriorgram")
    chosen = select(dataset, split, recordings)
    report = Report(
        settings={
            "model": predictor.manifest.name,
            "dataset": dataset.model_dump(mode="json"),
            "split": split,
            "thresholds": thresholds.model_dump(mode="json"),
            "protocol": {**dataclasses.asdict(protocol), "threshold": dataclasses.asdict(c)},
        }
    )
    pool = _Pool()
    for heard in _heard(predictor, dataset, chosen, report.failed):
        row = _score_heard(heard, predictor.manifest.geometry, thresholds, pool)
        row |= _score_protocol(heard, predictor.manifest.geometry, protocol, c.value, pool)
        report.pieces[heard.id] = row
    _need_pieces(report, dataset.root)
    report.pooled = pool.scores(c.value)
    report.curves = pool.curves()
    return report


def evaluate_estimates(estimates_dir: str | Path, references_dir: str | Path) -> Report:
    """Scores a folder of transcriptions against one of references; files are paired by name.

    Names are compared without their suffix (and without a `.musicnet` before it). Where one folder has
    several files of a name, an estimate is taken from MIDI first, which carries velocities, and a
    reference from a label file first, for a MIDI beside it may be the score and not the performance.

    Raises:
        DatasetError: where a folder is missing, no pair is found, or none can be read.
    """
    estimates = _by_name(Path(estimates_dir), (".mid", ".midi", ".csv", ".tsv", ".txt"))
    references = _by_name(Path(references_dir), (".csv", ".tsv", ".txt", ".mid", ".midi"))
    pairs = sorted(estimates.keys() & references.keys())
    if not pairs:
        raise DatasetError(
            f"{estimates_dir}: no estimate of its {len(estimates)} is named like one of the {len(references)}"
            f" references in {references_dir}; files are paired by name ({', '.join(scores.READERS)})"
        )
    report = Report(settings={"estimates": str(estimates_dir), "references": str(references_dir)})
    report.unpaired = {
        "estimates": sorted(estimates.keys() - references.keys()),
        "references": sorted(references.keys() - estimates.keys()),
    }
    pool = _Pool()
    for name in tqdm(pairs, desc="evaluate", unit="piece", disable=None):
        try:
            reference, estimate = scores.read(references[name]), scores.read(estimates[name])
        except MusicNetError as error:
            report.failed[name] = str(error)
            continue
        report.pieces[name] = _score_notes(reference, estimate, pool)
    _need_pieces(report, Path(estimates_dir))
    report.pooled = pool.scores()
    return report


def _heard(
    predictor: Predictor, dataset: Dataset, recordings: Iterable[Recording], failed: dict[str, str]
) -> Iterator[Heard]:
    """Those that can be read, one after the other; why the others cannot goes to `failed`."""
    for recording in tqdm(recordings, desc="listen", unit="piece", disable=None):
        try:
            heard = listen(predictor, dataset, recording)
        except ModelError:
            raise
        except MusicNetError as error:
            failed[recording.id] = str(error)
            continue
        yield heard


def _need_pieces(report: Report, place: Path) -> None:
    if not report.pieces:
        name, reason = next(iter(report.failed.items()))
        raise DatasetError(f"{place}: none of {len(report.failed)} pieces could be evaluated; {name}: {reason}")


def _by_name(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """Name → its file, of the first suffix for which there is one."""
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder; it should hold one file a piece ({', '.join(suffixes)})")
    found = [path for path in folder.iterdir() if path.suffix.lower() in suffixes and path.is_file()]
    found.sort(key=lambda path: (suffixes.index(path.suffix.lower()), path.name), reverse=True)
    return {path.stem.removesuffix(".musicnet"): path for path in found}


class _Pool:
    """What is summed over pieces: counts, and the protocol's points."""

    def __init__(self) -> None:
        self._counts: dict[str, frames.Counts] = {}
        self._labels: list[np.ndarray] = []
        self._predictions: list[np.ndarray] = []

    def count(self, name: str, counts: frames.Counts) -> None:
        self._counts[name] = self._counts.get(name, frames.Counts()) + counts

    def points(self, labels: np.ndarray, predictions: np.ndarray) -> None:
        self._labels.append(labels)
        self._predictions.append(predictions)

    def scores(self, threshold: float = 0.5) -> dict[str, float]:
        pooled = {
            f"{name}/{key}": value for name, counts in self._counts.items() for key, value in counts.scores().items()
        }
        if self._labels:
            pooled |= _under("protocol", musicnet_protocol.score(*self._points(), threshold))
        return pooled

    def curves(self) -> dict[str, dict[str, list[float]]]:
        """Figure 4 of the paper."""
        if not self._labels:
            return {}
        labels, predictions = self._points()
        drawn = {}
        for name, subset in musicnet_protocol.subsets(labels).items():
            if labels[subset].any():
                curve = frames.precision_recall_curve(labels[subset], predictions[subset])
                drawn[name] = {key: np.round(values, 6).tolist() for key, values in curve.items()}
        return drawn

    def _points(self) -> tuple[np.ndarray, np.ndarray]:
        return np.concatenate(self._labels), np.concatenate(self._predictions)


def _score_notes(reference: Notes, estimate: Notes, pool: _Pool) -> dict[str, float]:
    row = note_metrics.score(reference, estimate)
    for criterion in note_metrics.CRITERIA:
        if f"{criterion}/recall" in row:
            correct = round(row[f"{criterion}/recall"] * len(reference))
            pool.count(criterion, frames.Counts(correct, len(estimate), len(reference)))
    rolls = frames.rolls(reference, estimate)
    counts = frames.count(*rolls)
    pool.count("frame", counts)
    return {**row, **_under("frame", counts.scores()), **_under("multipitch", frames.multipitch_rolls(*rolls))}


def _score_heard(heard: Heard, spec: ModelSpec, thresholds: Thresholds, pool: _Pool) -> dict[str, float]:
    first_pitch, clock = spec.heads["frame"].first_pitch, windowing.recording_clock(spec)
    row = _score_notes(heard.notes, decode(heard.heads, clock, thresholds.decoder, first_pitch), pool)

    posteriorgram = frames.widen(heard.heads["frame"], first_pitch)
    roll = frames.piano_roll(heard.notes, clock, len(posteriorgram))
    row |= _under("posteriorgram", frames.score(roll, posteriorgram, thresholds.posteriorgram))
    pool.count("posteriorgram", frames.count(roll, posteriorgram > thresholds.posteriorgram))
    return row


def _score_protocol(
    heard: Heard, spec: ModelSpec, protocol: musicnet_protocol.Protocol, c: float, pool: _Pool
) -> dict[str, float]:
    labels, predictions = _protocol_points(heard, spec, protocol)
    if not len(labels):
        return {}
    pool.points(labels, predictions)
    return _under("protocol", musicnet_protocol.score(labels, predictions, c))


def _protocol_points(
    heard: Heard, spec: ModelSpec, protocol: musicnet_protocol.Protocol
) -> tuple[np.ndarray, np.ndarray]:
    """Labels and predictions `(points, 128)`; none of a recording that ends before the first point."""
    num_points = protocol.num_points(heard.duration)
    if not num_points:
        return np.zeros((0, frames.NUM_PITCHES), bool), np.zeros((0, frames.NUM_PITCHES), np.float32)
    posteriorgram, first_pitch = heard.heads["frame"], spec.heads["frame"].first_pitch
    clock = windowing.recording_clock(spec)
    predictions = protocol.predictions(posteriorgram, clock, num_points, first_pitch)
    return protocol.labels(heard.notes, num_points), predictions


def search_protocol_threshold(
    predictor: Predictor, dataset: Dataset, protocol: musicnet_protocol.Protocol
) -> musicnet_protocol.Threshold:
    """Searches the `c` of the MusicNet paper for F1 on a sampled subset of the corpus's training split.

    The subset, `SUBSET_POINTS` of each of `SUBSET_RECORDINGS`, is the same at each call. Of longer recordings
    only as much is heard as holds the points.

    Raises:
        DatasetError: where there is no recording for training, or none that holds a point.
        AudioError, ScoreError: where a recording or its labels cannot be read.
        ModelError: where the model does not transcribe notes.
    """
    Thresholds.of(predictor.manifest)  # refuses a model of no notes
    spec, known = predictor.manifest.geometry, select(dataset, "train")
    subset = [known[i] for i in musicnet_protocol.sample(len(known), musicnet_protocol.SUBSET_RECORDINGS, seed=0)]
    points: list[tuple[np.ndarray, np.ndarray]] = []
    for i, recording in enumerate(tqdm(subset, desc="search c", unit="piece", disable=None)):
        heard = listen(predictor, dataset, recording, musicnet_protocol.LAST_SECOND + _CONTEXT_SECONDS)
        labels, predictions = _protocol_points(heard, spec, protocol)
        chosen = musicnet_protocol.sample(len(labels), musicnet_protocol.SUBSET_POINTS, seed=i)
        points.append((labels[chosen], predictions[chosen]))
    labels, predictions = (np.concatenate(columns) for columns in zip(*points, strict=True))
    if not len(labels):
        raise DatasetError(f"{dataset.root}: no recording of split 'train' is long enough to hold a point")
    source = f"{len(labels)} sampled points of {len(subset)} recordings of {dataset.name}/train"
    return musicnet_protocol.Threshold(musicnet_protocol.choose_threshold(labels, predictions), source)


def _under(prefix: str, values: dict[str, float]) -> dict[str, float]:
    return {f"{prefix}/{name}": value for name, value in values.items()}


def choose_thresholds(
    predictor: Predictor,
    datasets: Sequence[Dataset],
    split: str = "validation",
    recordings: Sequence[str] | None = None,
) -> Thresholds:
    """Searches decoder and posteriorgram thresholds on recordings kept from training.

    A model that is to serve several kinds of music needs thresholds chosen on all of them; corpora count
    alike, however many pieces they have.

    The model runs once over each recording; its posteriorgrams are held in memory (about 0.1 MB a
    second for 88 pitches and four heads). A recording that cannot be read is an error here.

    Raises:
        DatasetError: where nothing is selected.
        AudioError, ScoreError: where a recording or its labels cannot be read.
        ModelError: where the model does not transcribe notes.
    """
    start = Thresholds.of(predictor.manifest).decoder
    chosen = [select(dataset, split, recordings) for dataset in datasets]
    heard = [
        [listen(predictor, dataset, r) for r in tqdm(pieces, desc=f"listen {dataset.name}", unit="piece", disable=None)]
        for dataset, pieces in zip(datasets, chosen, strict=True)
    ]
    found = search_thresholds(heard, predictor.manifest.geometry, start)
    corpora = [
        {"dataset": dataset.model_dump(mode="json", exclude={"root"}), "recordings": [piece.id for piece in pieces]}
        for dataset, pieces in zip(datasets, heard, strict=True)
    ]
    return found.model_copy(update={"chosen_on": {"split": split, "corpora": corpora}})

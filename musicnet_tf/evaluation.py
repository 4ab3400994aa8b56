"""How good is a model, or a folder of transcriptions? Every figure that the library reports comes from here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from musicnet_tf import windowing
from musicnet_tf.datasets import Dataset, Recording
from musicnet_tf.errors import DatasetError, ModelError, MusicNetError
from musicnet_tf.metrics import Heard, Scorer, check_options, scorer_of
from musicnet_tf.metrics import protocol as musicnet_protocol
from musicnet_tf.metrics.note_scorer import protocol_points
from musicnet_tf.metrics.report import Report
from musicnet_tf.registry import SCORERS, nearest
from musicnet_tf.thresholds import Chosen, Thresholds
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
        ModelError: where the model does not give what its manifest promises, or its task has no scores.
    """
    spec = predictor.manifest.geometry
    events = scorer_of(predictor.manifest).truth(dataset, recording)
    audio = dataset.load_audio(recording, spec.clock.sample_rate)
    audio = audio[: int(min(seconds * spec.clock.sample_rate, len(audio)))]
    heads = windowing.posteriorgram(audio, spec, predictor)
    return Heard(recording.id, events, heads, len(audio) / spec.clock.sample_rate)


def evaluate_model(
    predictor: Predictor,
    dataset: Dataset,
    split: str,
    recordings: Sequence[str] | None = None,
    thresholds: Chosen | None = None,
    **options: Any,
) -> Report:
    """Scores a model on a split of a corpus, piece by piece; a piece that cannot be read is listed, not fatal.

    What scores a piece has, and all pooled, the scorer of the model's task tells: `metrics.note_scorer.NoteScorer`,
    `metrics.beat_scorer.BeatScorer`, `metrics.tag_scorer.TagScorer`.

    Args:
        predictor: the model.
        dataset: the corpus.
        split: `train`, `validation`, `test` or `all`.
        recordings: only these of the split.
        thresholds: chosen on *other* recordings; by default the manifest's.
        options: of the task's scorer: `protocol` and `c` of notes, `trim_seconds` of beats,
            `least_seconds` of tags.

    Raises:
        DatasetError: where nothing is selected, nothing of it could be read, or the corpus does not tell what the
            task needs.
        ModelError: where the model's task has no scores.
        ConfigError: where its scorer has no such option.
    """
    scorer = _scorer(predictor, thresholds, options)
    _check_annotation(scorer, dataset)
    chosen = select(dataset, split, recordings)
    settings = {"model": predictor.manifest.name, "dataset": dataset.model_dump(mode="json"), "split": split}
    report = Report.of(scorer, settings)
    for heard in _heard(predictor, dataset, chosen, report.failed):
        report.add(heard.id, scorer.score(heard))
    return _finished(report, scorer, dataset.root)


def evaluate_estimates(
    estimates_dir: str | Path, references_dir: str | Path, task: str = "notes", **options: Any
) -> Report:
    """Scores a folder of transcriptions against one of references; files are paired by name.

    Names are compared without their suffix (and without a `.musicnet` before it). Where one folder has
    several files of a name, an estimate of notes is taken from MIDI first, which carries velocities, and a
    reference from a label file first, for a MIDI beside it may be the score and not the performance.

    Raises:
        ConfigError: where the task or an option of its scorer is unknown.
        DatasetError: where a folder is missing, no pair is found, or none can be read.
    """
    kind = SCORERS.get(task)
    check_options(kind, options)
    scorer = kind(**options)
    estimates = _by_name(Path(estimates_dir), scorer.estimates)
    references = _by_name(Path(references_dir), scorer.references)
    pairs = sorted(estimates.keys() & references.keys())
    if not pairs:
        raise DatasetError(
            f"{estimates_dir}: no estimate of its {len(estimates)} is named like one of the {len(references)}"
            f" references in {references_dir}; files are paired by name ({', '.join(scorer.references)})"
        )
    settings = {"estimates": str(estimates_dir), "references": str(references_dir)}
    report = Report.of(scorer, settings)
    report.unpaired = {
        "estimates": sorted(estimates.keys() - references.keys()),
        "references": sorted(references.keys() - estimates.keys()),
    }
    for name in tqdm(pairs, desc="evaluate", unit="piece", disable=None):
        try:
            reference, estimate = scorer.read(references[name]), scorer.read(estimates[name])
        except MusicNetError as error:
            report.failed[name] = str(error)
            continue
        report.add(name, scorer.score_events(name, reference, estimate))
    return _finished(report, scorer, Path(estimates_dir))


def choose_thresholds(
    predictor: Predictor,
    datasets: Sequence[Dataset],
    split: str = "validation",
    recordings: Sequence[str] | None = None,
    **options: Any,
) -> Chosen:
    """Searches the decoder's parameters on recordings kept from training.

    A model that is to serve several kinds of music needs parameters chosen on all of them; corpora count
    alike, however many pieces they have.

    The model runs once over each recording; its posteriorgrams are held in memory (about 0.1 MB a
    second for 88 pitches and four heads). A recording that cannot be read is an error here; one that does not tell
    what the task needs is passed over.

    Raises:
        DatasetError: where nothing is selected, or nothing of it tells what the task needs.
        AudioError, ScoreError: where a recording or its labels cannot be read.
        ModelError: where the model's task has no scores.
    """
    scorer = _scorer(predictor, None, options)
    for dataset in datasets:
        _check_annotation(scorer, dataset)
    chosen = [select(dataset, split, recordings) for dataset in datasets]
    heard = [
        _heard_for_search(predictor, scorer, dataset, pieces) for dataset, pieces in zip(datasets, chosen, strict=True)
    ]
    found = scorer.search(heard)
    corpora = [
        {"dataset": dataset.model_dump(mode="json", exclude={"root"}), "recordings": [piece.id for piece in pieces]}
        for dataset, pieces in zip(datasets, heard, strict=True)
    ]
    return found.model_copy(update={"chosen_on": {"split": split, "corpora": corpora}})


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
        labels, predictions = protocol_points(heard, spec, protocol)
        chosen = musicnet_protocol.sample(len(labels), musicnet_protocol.SUBSET_POINTS, seed=i)
        points.append((labels[chosen], predictions[chosen]))
    labels, predictions = (np.concatenate(columns) for columns in zip(*points, strict=True))
    if not len(labels):
        raise DatasetError(f"{dataset.root}: no recording of split 'train' is long enough to hold a point")
    source = f"{len(labels)} sampled points of {len(subset)} recordings of {dataset.name}/train"
    return musicnet_protocol.Threshold(musicnet_protocol.choose_threshold(labels, predictions), source)


def _scorer(predictor: Predictor, chosen: Chosen | None, options: Mapping[str, Any]) -> Scorer:
    kind = scorer_of(predictor.manifest)
    check_options(kind, options)
    return kind.of(predictor.manifest, chosen, **options)


def _check_annotation(scorer: Scorer, dataset: Dataset) -> None:
    """Raises DatasetError where a corpus never tells what the scorer needs."""
    if scorer.annotation not in dataset.annotations():
        raise DatasetError(
            f"{dataset.root}: {dataset.name} tells no {scorer.annotation} but {', '.join(dataset.annotations())};"
            f" choose a corpus of {scorer.annotation}"
        )


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


def _heard_for_search(
    predictor: Predictor, scorer: Scorer, dataset: Dataset, recordings: Sequence[Recording]
) -> list[Heard]:
    """Those that tell what the scorer needs."""
    progress = tqdm(recordings, desc=f"listen {dataset.name}", unit="piece", disable=None)
    heard = [piece for piece in (listen(predictor, dataset, r) for r in progress) if scorer.can_score(piece)]
    if not heard:
        raise DatasetError(f"{dataset.root}: none of {len(recordings)} recordings tells any {scorer.annotation}")
    return heard


def _finished(report: Report, scorer: Scorer, place: Path) -> Report:
    """With what is pooled. Raises DatasetError where no piece has scores."""
    if not report.pieces:
        reasons = [*report.failed.items(), *((names[0], why) for why, names in scorer.left_out.items())]
        count = len(report.failed) + sum(map(len, scorer.left_out.values()))
        raise DatasetError(f"{place}: none of {count} pieces could be evaluated; {reasons[0][0]}: {reasons[0][1]}")
    report.pooled, report.curves, report.left_out = scorer.pooled(), scorer.curves(), scorer.left_out
    report.by_class, report.confusion = scorer.by_class(), scorer.confusion()
    return report


def _by_name(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """Name → its file, of the first suffix for which there is one."""
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder; it should hold one file a piece ({', '.join(suffixes)})")
    found = [path for path in folder.iterdir() if path.suffix.lower() in suffixes and path.is_file()]
    found.sort(key=lambda path: (suffixes.index(path.suffix.lower()), path.name), reverse=True)
    return {path.stem.removesuffix(".musicnet"): path for path in found}

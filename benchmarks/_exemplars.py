"""The rows of the table of exemplars, and how each is trained: as much audio, the same records, thresholds chosen."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from benchmarks.peers.pieces import Piece
from musicnet_tf import audio, config, files, inference, windowing
from musicnet_tf.config import Experiment, Source, Train
from musicnet_tf.datasets import Recording
from musicnet_tf.errors import ConfigError, ModelError
from musicnet_tf.manifest import Manifest
from musicnet_tf.models import ModelSpec
from musicnet_tf.registry import nearest
from musicnet_tf.reproduction import training
from musicnet_tf.thresholds import Heard, Thresholds, search_thresholds
from musicnet_tf.transcription import Predictor

CONFIGS = Path(__file__).parents[1] / "configs"
OURS = "notes_harmonic_cnn"
STEP_SECONDS = 32.0
"""Of audio, that a step counts as: what a batch of `OURS` holds."""
EPOCH_STEPS = 100
"""About so many steps from one checkpoint to the next."""
FILENAME = "exemplar.json"


class Row(NamedTuple):
    """A line of the table: its name, its config in `CONFIGS`, and what is changed in it."""

    name: str
    config: str
    overrides: tuple[str, ...] = ()


def _ours(channels: int) -> Row:
    return Row(f"harmonic_cnn_{channels}", OURS, (f"model.channels={channels}", "model.offset=true"))


ROWS = (
    Row("basic_pitch", "notes_basic_pitch"),
    Row("harmonic_shift_26k", "notes_harmonic_shift_26k"),
    _ours(20),
    _ours(32),
    Row("harmonic_shift_137k", "notes_harmonic_shift_137k"),
    _ours(64),
    Row("harmonic_shift_678k", "notes_harmonic_shift_678k"),
    Row("onsets_and_frames_2018", "notes_onsets_and_frames_2018"),
    Row("high_resolution", "notes_high_resolution"),
    Row("onsets_and_frames", "notes_onsets_and_frames"),
)
"""By number of parameters."""


def select(names: Sequence[str]) -> list[Row]:
    """The rows of these names, in the order of the table. Raises ConfigError for a name that is no row's."""
    known = [row.name for row in ROWS]
    for name in names:
        if name not in known:
            raise ConfigError(f"--rows: no row {name!r}{nearest(name, known)}; there are {', '.join(known)}")
    return [row for row in ROWS if row.name in names]


def sources(told: Sequence[str]) -> list[Source]:
    """`maps:5` → records `maps` with weight 5; those of `OURS` where none are told.

    Raises:
        ConfigError: where one is not a name and a positive number.
    """
    if not told:
        return list(config.load(CONFIGS / f"{OURS}.yaml").data.train)
    return [_source(text) for text in told]


def _source(text: str) -> Source:
    name, _, weight = text.rpartition(":")
    try:
        return Source(records=Path(name or weight), weight=float(weight) if name else 1.0)
    except ValueError as error:
        raise ConfigError(f"--train {text}: give a record set and a number greater than 0, such as maps:5") from error


def at_rate(found: Sequence[Source], sample_rate: int) -> tuple[Source, ...]:
    """The sets of a sample rate: other rates than that of `OURS` stand behind the name, as in `maps_22050`."""
    if sample_rate == config.load(CONFIGS / f"{OURS}.yaml").model.spec().clock.sample_rate:
        return tuple(found)
    return tuple(
        one.model_copy(update={"records": one.records.with_name(f"{one.records.name}_{sample_rate}")}) for one in found
    )


def experiment(row: Row, records: Path, found: Sequence[Source], steps: int) -> Experiment:
    """A row's experiment on these records, which hears `steps` times `STEP_SECONDS`.

    Raises:
        ConfigError: where the config cannot be read or is wrong.
    """
    chosen = config.load(CONFIGS / f"{row.config}.yaml", row.overrides)
    spec = chosen.model.spec()
    where = {"folder": records, "train": at_rate(found, spec.clock.sample_rate), "validation": ()}
    data = chosen.data.model_copy(update=where)
    train = budgeted(chosen.train, spec, steps)
    return chosen.model_copy(update={"name": row.name, "data": data, "train": train})


def window_seconds(spec: ModelSpec) -> float:
    """Length of a window."""
    return spec.window_length / spec.clock.sample_rate


def budgeted(train: Train, spec: ModelSpec, steps: int) -> Train:
    """Hears `steps` times `STEP_SECONDS`, to half a batch an epoch; all models have the same number of epochs."""
    batch = train.batch_size * window_seconds(spec)
    epochs = max(1, round(steps / EPOCH_STEPS))
    each = max(1, round(steps * STEP_SECONDS / epochs / batch))
    scaled = training.scaled(train, epochs * each / train.steps)
    return scaled.model_copy(update={"steps": epochs * each, "steps_per_epoch": each})


def refuse_heard(rows: Sequence[Row], records: Path, found: Sequence[Source], recordings: Sequence[Recording]) -> None:
    """Refuses record sets whose training split holds a validation piece, or another performance of it.

    A set that is not there is told where a row is trained on it.

    Raises:
        ConfigError: which names the set and the recordings.
        RecordError: where a set is damaged.
    """
    rates = {config.load(CONFIGS / f"{row.config}.yaml").model.spec().clock.sample_rate for row in rows}
    folders = dict.fromkeys(records / one.records for rate in sorted(rates) for one in at_rate(found, rate))
    training.refuse_tested([folder for folder in folders if folder.is_dir()], recordings)


@dataclasses.dataclass(frozen=True)
class Trained:
    """What a row's training took.

    Attributes:
        row: its name.
        steps, batch_size, window: of training; the window in seconds.
        heard: seconds of audio.
        seconds: that training took by the clock, start-up and compilation included.
        settings: all that decides the outcome: experiment, records, pieces that thresholds were chosen on.
    """

    row: str
    steps: int
    batch_size: int
    window: float
    heard: float
    seconds: float
    settings: dict[str, Any]

    @classmethod
    def read(cls, run: Path) -> Trained | None:
        """Of a run folder; None where the row is not done. Raises ModelError where the file is damaged."""
        path = run / FILENAME
        if not path.is_file():
            return None
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise ModelError(f"{path}: damaged ({error}); remove it, and thresholds are chosen again") from error


def train(name: str, chosen: Experiment, run: Path, heard: Sequence[Piece]) -> Trained:
    """Trains in a run folder, or goes on with what is there, and chooses thresholds for the run's manifest.

    Raises:
        ConfigError: where the folder holds a run of another config, or on other records.
        RecordError, ModelError: as `trainer.train`.
        AudioError: where a piece cannot be read.
    """
    settings = {
        "experiment": chosen.anywhere().model_dump(mode="json"),
        "records": training.describe_records(chosen),
        "pieces": [[piece.id, piece.identity, _fingerprint(piece)] for piece in heard],
    }
    known = Trained.read(run)
    if known is not None and known.settings == settings:
        return known
    seconds = training.train(chosen, run)
    found = choose_thresholds(inference.load(run), heard)
    decoder = found.decoder.model_dump(mode="json")
    Manifest.read(run).with_thresholds(decoder, found.posteriorgram).write(run)
    how, window = chosen.train, window_seconds(chosen.model.spec())
    trained = Trained(
        row=name,
        steps=how.steps,
        batch_size=how.batch_size,
        window=window,
        heard=how.steps * how.batch_size * window,
        seconds=seconds,
        settings=settings,
    )
    files.write_json(run / FILENAME, dataclasses.asdict(trained))
    return trained


def choose_thresholds(predictor: Predictor, heard: Sequence[Piece]) -> Thresholds:
    """The best on these pieces; each corpus counts alike.

    Raises:
        AudioError: where a piece cannot be read.
    """
    spec = predictor.manifest.geometry
    by_corpus: dict[str, list[Heard]] = {}
    for piece in tqdm(heard, desc=f"listen {predictor.manifest.name}", unit="piece", disable=None):
        samples = audio.load(piece.audio, spec.clock.sample_rate)
        heads = windowing.posteriorgram(samples, spec, predictor)
        by_corpus.setdefault(piece.corpus, []).append(Heard(piece.id, piece.notes, heads, piece.seconds))
    return search_thresholds([*by_corpus.values()], spec, Thresholds.of(predictor.manifest).decoder)


def _fingerprint(piece: Piece) -> str:
    """Of its notes: other labels have other thresholds."""
    columns = (piece.notes.onset, piece.notes.offset, piece.notes.pitch)
    return hashlib.sha256(b"".join(column.tobytes() for column in columns)).hexdigest()[:16]

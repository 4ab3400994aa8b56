"""One family of taggers: trained for some minutes, heard on held-out pieces; in a process of its own: JOB.json.

A process each, because what a large family takes of memory may end it; the others then go on.
"""

from __future__ import annotations

import dataclasses
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from musicnet_tf import config, files, input_pipeline, record_info, records, trainer, windowing
from musicnet_tf.config import Experiment
from musicnet_tf.errors import RecordError
from musicnet_tf.events import Notes, TagSpans
from musicnet_tf.instruments import spans_of_notes
from musicnet_tf.metrics import tags
from musicnet_tf.metrics.tags import Items
from musicnet_tf.models import ModelSpec

Heads = dict[str, np.ndarray]
MEASURES = ("pr_auc", "roc_auc", "pr_floor")


class Piece(NamedTuple):
    """A held-out recording, put together from its excerpts: float32 `(samples,)`, and when which instruments sound."""

    id: str
    audio: np.ndarray
    spans: TagSpans


@dataclasses.dataclass(frozen=True)
class Row:
    """What a family took and reached.

    Attributes:
        family: its name.
        parameters: trainable.
        window: seconds of a chunk.
        batch_size: chunks a step.
        steps: that the budget had room for.
        first: seconds to the end of the first step, in which the graph is made.
        seconds: to the end of the last.
        real_time_factor: seconds to hear a second of music.
        scores: `second/pr_auc` and so on: macro averages over the tags that are borne, by seconds and by pieces.
        settings: all that decides the outcome but the machine.
        left_out: why there is no more than this, where that is so.
    """

    family: str
    settings: dict[str, Any]
    parameters: int = 0
    window: float = 0.0
    batch_size: int = 0
    steps: int = 0
    first: float = 0.0
    seconds: float = 0.0
    real_time_factor: float = 0.0
    scores: dict[str, float] = dataclasses.field(default_factory=dict)
    left_out: str = ""

    @property
    def examples_a_second(self) -> float:
        """Chunks trained on each second, after the first step; 0 where there was no other."""
        return (self.steps - 1) * self.batch_size / (self.seconds - self.first) if self.steps > 1 else 0.0


class Budget(keras.callbacks.Callback):
    """Ends a training at the first step that is done after so many seconds, or whose loss is no number."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._budget, self._clock = seconds, clock
        self.steps, self.first, self.seconds = 0, 0.0, 0.0
        self.diverged = False

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._start = self._clock()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.steps += 1
        self.seconds = self._clock() - self._start
        self.first = self.first or self.seconds
        self.diverged = not math.isfinite((logs or {}).get("loss", 0.0))
        if self.diverged or self.seconds >= self._budget:
            self.model.stop_training = True


def train(chosen: Experiment, seconds: float) -> tuple[keras.Model, Budget]:
    """Trains for so long, or for all of its steps; returns the network and what it took."""
    keras.utils.set_random_seed(chosen.seed)
    network = chosen.model.build()
    budget = Budget(seconds)
    trainer.compiled(network, chosen).fit(
        input_pipeline.training(chosen), steps_per_epoch=chosen.train.steps, callbacks=[budget], verbose=0
    )
    return network, budget


def held_out(folders: Sequence[Path], most: int, seconds: float) -> list[Piece]:
    """The beginnings of at most so many validation pieces, evenly chosen of all in these record sets.

    Raises:
        RecordError: where a set is damaged, or there are none.
    """
    pieces = [piece for folder in folders for piece in _pieces(folder, seconds)]
    if not pieces:
        raise RecordError(f"{', '.join(map(str, folders))}: no validation pieces; name sets that hold some")
    return [pieces[i] for i in sorted({round(i) for i in np.linspace(0, len(pieces) - 1, most)})]


def _pieces(folder: Path, seconds: float) -> Iterator[Piece]:
    info = record_info.read_info(folder)
    parts: dict[str, list[dict[str, Any]]] = {}
    for shard in info.shards:
        for record in records.read(folder / shard.file, info) if shard.split == "validation" else ():
            if record["start_sample"] < seconds * info.sample_rate:
                parts.setdefault(record["id"].decode(), []).append(record)
    for name in sorted(parts):
        yield _joined(name, sorted(parts[name], key=lambda record: int(record["excerpt"])), info, seconds)


def _joined(name: str, excerpts: Sequence[dict[str, Any]], info: record_info.DatasetInfo, seconds: float) -> Piece:
    rate = info.sample_rate
    audio = np.concatenate([records.decode_audio(one["audio"], info.encoding).numpy() for one in excerpts])
    starts = [int(one["start_sample"]) / rate for one in excerpts]
    notes = Notes.concatenate(
        [
            records.begun(records.notes_of(one), int(one["excerpt"])).shift(start)
            for one, start in zip(excerpts, starts, strict=True)
        ]
    )
    return Piece(name, audio[: round(seconds * rate)], spans_of_notes(notes))


def by_second(scores: np.ndarray, piece: Piece, names: Sequence[str], spec: ModelSpec) -> Items:
    """Whole seconds of a piece, each with the scores `(frames, tags)` of the frame that its middle lies in."""
    start = np.arange(len(piece.audio) // spec.clock.sample_rate)
    frame = ((start + 0.5) * spec.clock.sample_rate / spec.clock.hop_length).astype(int)
    heard = scores[np.minimum(frame, len(scores) - 1)]
    return Items(piece.spans.active(names, start, start + 1, 0.0), heard, heard >= 0.5)


def whole(items: Items) -> Items:
    """The piece as one item: what any second bears, and the mean of their scores."""
    mean = items.scores.mean(axis=0, keepdims=True)
    return Items(items.truth.any(axis=0, keepdims=True), mean, mean >= 0.5)


def listen(network: keras.Model, chosen: Experiment, pieces: Sequence[Piece]) -> tuple[dict[str, float], float]:
    """Scores on pieces, and the real-time factor once the graph is made."""
    spec = chosen.task.served(chosen.model.spec())
    spec = dataclasses.replace(spec, heads={"tag": spec.heads["tag"]})
    graph = tf.function(lambda windows: chosen.task.activations({"tag": network(windows, training=False)["tag"]}))

    def predict(windows: np.ndarray) -> Heads:
        return {head: value.numpy() for head, value in graph(tf.convert_to_tensor(windows)).items()}

    windowing.posteriorgram(pieces[0].audio, spec, predict)
    start = time.perf_counter()
    heard = [windowing.posteriorgram(piece.audio, spec, predict)["tag"] for piece in pieces]
    factor = (time.perf_counter() - start) * spec.clock.sample_rate / sum(len(piece.audio) for piece in pieces)
    names = spec.heads["tag"].labels
    seconds = [by_second(scores, piece, names, spec) for scores, piece in zip(heard, pieces, strict=True)]
    return scored(seconds), factor


def scored(pieces: Sequence[Items]) -> dict[str, float]:
    """Macro averages over tags of all seconds, and of all pieces, under `second/` and `piece/`."""
    grains = {"second": Items.concatenate(pieces), "piece": Items.concatenate([whole(items) for items in pieces])}
    found = {}
    for grain, items in grains.items():
        macro = tags.averages(items, ("macro",))
        found |= {f"{grain}/{name}": macro[f"macro/{name}"] for name in MEASURES if f"macro/{name}" in macro}
    return found


def run(job: dict[str, Any]) -> Row:
    """One job: `family`, `config` (a file), `minutes`, `held_out` (folders), `pieces`, `seconds`, `settings`."""
    chosen = config.load(job["config"])
    spec = chosen.model.spec()
    network, budget = train(chosen, 60 * job["minutes"])
    row = Row(
        family=job["family"],
        settings=job["settings"],
        parameters=sum(math.prod(variable.shape) for variable in network.trainable_variables),
        window=spec.window_length / spec.clock.sample_rate,
        batch_size=chosen.train.batch_size,
        steps=budget.steps,
        first=budget.first,
        seconds=budget.seconds,
    )
    if budget.diverged:
        return dataclasses.replace(row, left_out=f"its loss was no number any more after {budget.steps} steps")
    if budget.steps == 1:
        told = f"its first step took {budget.first:.0f} s, more than the budget of {60 * job['minutes']:.0f} s"
        return dataclasses.replace(row, left_out=told)
    scores, factor = listen(network, chosen, held_out([*map(Path, job["held_out"])], job["pieces"], job["seconds"]))
    return dataclasses.replace(row, scores=scores, real_time_factor=factor)


def main(path: str) -> None:
    """Writes the row where the job says."""
    job = json.loads(Path(path).read_text(encoding="utf-8"))
    files.write_json(Path(job["row"]), dataclasses.asdict(run(job)))


if __name__ == "__main__":
    main(sys.argv[1])

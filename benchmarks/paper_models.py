"""What training and inference of the MusicNet paper's models cost a point, beside the floor of their operations.

    python -m benchmarks.paper_models [--rows=mlp_500,cnn] [--points=512] [--repeats=5] [--records=FOLDER]

A point is a labelled window. For every `configs/paper/*.yaml`, or those named by `--rows`, a training step as
configured (batch, points a stretch, precision) and a call of the network as it is evaluated (float32, at least 128
points a stretch) are timed on audio in memory, taking turns with a product of large matrices. The floor is the number
of operations (`_paper_models_operations`) at the rate of that product; ratios to it are told by the clock and by CPU
seconds, which other load on the machine disturbs less.

The second table holds training on stretches to training on single windows, each copied out of the audio: the same
points, as many a step, taking turns; once with the network as configured but for `window_frames: 1`, and once with its
filters written as a plain dense layer or convolution. With `--records`, a folder of record sets that configs call
data.folder, a third one does the same on batches that the input pipeline makes meanwhile.
"""

from __future__ import annotations

import dataclasses
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from absl import app, flags

from benchmarks import _paper_models_operations as operations
from benchmarks import _paper_models_work as work
from benchmarks._paper_models_work import Spent
from musicnet_tf import config
from musicnet_tf.config import Experiment

CONFIGS = Path(__file__).parents[1] / "configs/paper"

SHARED = ("mlp_500", "mlp_500_16384", "avgpool", "cnn", "translation_invariant")
"""Rows whose stretches are held to single windows: one of each kind of layer at the bottom, and of each width."""

STRETCHES, WINDOWS, PLAIN, COPYING = "stretches", "windows", "windows, plain layer", "copying"


def define_flags() -> None:
    """The command line. Importing the module defines no flag: one process has a single set of them."""
    flags.DEFINE_list("rows", None, "Names of configs/paper/*.yaml; all by default.")
    flags.DEFINE_integer("points", None, "Points a step and a call at most; as configured by default.", lower_bound=1)
    flags.DEFINE_integer("repeats", 5, "Turns of each, whose median is told.", lower_bound=1)
    flags.DEFINE_integer("steps", 8, "Steps of a turn on batches of the input pipeline.", lower_bound=1)
    flags.DEFINE_string("records", None, "Folder of record sets, to measure the input pipeline as well.")


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a step or call takes, and what it has to.

    Attributes:
        row, what: `training` or `inference` of a config.
        numbers: the type that most of it is computed in.
        points: of one step or call.
        done: operations of a point by type.
        spent: seconds of one step or call.
        product: of one product of matrices, by type.
    """

    row: str
    what: str
    numbers: str
    points: int
    done: Mapping[str, float]
    spent: Spent
    product: Mapping[str, Spent]

    @property
    def floor(self) -> Spent:
        """Seconds that a point's operations would take at the rate of the product, by the clock and of CPU."""
        count = 2 * work.MATRIX**3
        wall, cpu = (
            operations.floor(self.done, {t: count / seconds[i] for t, seconds in self.product.items()})
            for i in range(2)
        )
        return Spent(wall, cpu)

    @property
    def to_floor(self) -> Spent:
        """How many times the floor, by the clock and in CPU seconds."""
        return Spent(*(taken / self.points / least for taken, least in zip(self.spent, self.floor, strict=True)))


COST_HEADER = (
    "| row | | numbers | points at once | Mflop a point | points a second | CPU µs a point | floor, µs a point |"
    " to the floor | in CPU seconds |\n|---|---|---|---|---|---|---|---|---|---|"
)


def cost_line(cost: Cost) -> str:
    """A line of the table of costs."""
    rate, cpu = cost.points / cost.spent.wall, 1e6 * cost.spent.cpu / cost.points
    begin = f"| {cost.row} | {cost.what} | {cost.numbers} | {cost.points} | {sum(cost.done.values()) / 1e6:.2f}"
    ratio = f"{cost.to_floor.wall:.2f} | {cost.to_floor.cpu:.2f}"
    return f"{begin} | {rate:,.0f} | {cpu:.1f} | {1e6 * cost.floor.wall:.1f} | {ratio} |"


@dataclasses.dataclass(frozen=True)
class Way:
    """One way to make a training step of the same points: `row`, `name` and seconds of a step.

    Attributes:
        size: bytes of the audio of a batch.
        done: operations of a point, of any type.
    """

    row: str
    name: str
    points: int
    size: int
    done: float
    spent: Spent


WAYS_HEADER = (
    "| row | trained on | points a step | audio of a step | Mflop a point | step | CPU | to stretches |"
    " in CPU seconds | in operations |\n|---|---|---|---|---|---|---|---|---|---|"
)


def way_lines(ways: Sequence[Way]) -> list[str]:
    """Lines of the table of ways, of one row; the first way is what the others are held to."""
    first, told = ways[0], []
    for way in ways:
        begin = f"| {way.row} | {way.name} | {way.points} | {way.size / 2**20:.1f} MiB"
        spent = f"{way.done / 1e6:.2f} | {1e3 * way.spent.wall:.1f} ms | {1e3 * way.spent.cpu:.1f} ms"
        wall, cpu = (taken / least for taken, least in zip(way.spent, first.spent, strict=True))
        ratio = f"{way.done / first.done:.2f} |" if way.done else "|"
        told.append(f"{begin} | {spent} | {wall:.2f} | {cpu:.2f} | {ratio}")
    return told


def experiments(names: Sequence[str] | None, points: int | None = None) -> dict[str, Experiment]:
    """The experiments of the paper's rows by name, with batches of at most so many points, of a stretch at least.

    Raises:
        UsageError: where a name is no row's.
    """
    there = {path.stem: path for path in sorted(CONFIGS.glob("*.yaml"))}
    unknown = [name for name in names or () if name not in there]
    if unknown:
        raise app.UsageError(f"--rows: no row {unknown[0]!r}; choose from: {', '.join(there)}")
    return {name: _at_most(config.load(there[name]), points) for name in names or there}


def _at_most(experiment: Experiment, points: int | None) -> Experiment:
    size = experiment.train.batch_size
    if points:
        size = max(1, min(size, points // experiment.model.spec().num_frames))
    return experiment.model_copy(update={"train": experiment.train.model_copy(update={"batch_size": size})})


def step_points(experiment: Experiment) -> int:
    """Points of a training step."""
    return experiment.train.batch_size * experiment.model.spec().num_frames


def costs(row: str, experiment: Experiment, points: int | None, repeats: int) -> Iterator[Cost]:
    """What training and inference of a row cost."""
    model, policy = experiment.model, experiment.train.mixed_precision
    numbers = policy.removeprefix("mixed_")
    done = operations.operations(model, True, policy)
    network, (audio, labels) = work.trained(experiment), work.batch(experiment)
    calls = {"training": lambda: network.train_on_batch(audio, {"frame": labels})}
    spent = work.take_turns({**calls, **{t: work.matrix_product(t) for t in done}}, repeats)
    taken = spent.pop("training")
    yield Cost(row, "training", numbers, step_points(experiment), done, taken, spent)
    call, size = work.inference(model, points)
    done = operations.operations(work.as_evaluated(model), False)
    spent = work.take_turns({"inference": call, "float32": work.matrix_product("float32")}, repeats)
    taken = spent.pop("inference")
    yield Cost(row, "inference", "float32", size, done, taken, spent)


def ways(row: str, experiment: Experiment, repeats: int) -> list[Way]:
    """Training steps on stretches and on single windows copied out of them, and the copying alone."""
    model, points = experiment.model, step_points(experiment)
    single = work.on_single_windows(experiment)
    window, hop_length = single.model.spec().window_length, model.spec().clock.hop_length
    audio, labels = work.batch(experiment)

    def copied() -> np.ndarray:
        return work.windows(audio, window, hop_length)

    stretched, alone = work.trained(experiment), work.trained(single)
    one_by_one = {"frame": labels.reshape(points, 1, -1)}
    calls = {
        STRETCHES: lambda: stretched.train_on_batch(audio, {"frame": labels}),
        WINDOWS: lambda: alone.train_on_batch(copied(), one_by_one),
    }
    if work.has_filters(alone):
        plain = work.trained(single, plain=True)
        calls[PLAIN] = lambda: plain.train_on_batch(copied(), one_by_one)
    calls[COPYING] = copied
    spent = work.take_turns(calls, repeats)
    shared, separate = (sum(operations.operations(m, True).values()) for m in (model, single.model))
    done = {STRETCHES: shared, COPYING: 0.0}
    size = {STRETCHES: audio.nbytes}
    copies = copied().nbytes
    return [Way(row, n, points, size.get(n, copies), done.get(n, separate), spent[n]) for n in calls]


def ways_from_records(row: str, experiment: Experiment, folder: str, steps: int, repeats: int) -> list[Way]:
    """Training steps on stretches and on single windows that the input pipeline draws from records meanwhile.

    Both draw as many points of an excerpt and shuffle as many; blocks that are shuffled are small, so that what is
    timed is made while it is timed.
    """
    points = step_points(experiment)
    found = []
    turns: dict[str, list[Spent]] = {STRETCHES: [], WINDOWS: []}
    for name, chosen in ((STRETCHES, experiment), (WINDOWS, work.on_single_windows(experiment))):
        chosen = work.on_records(chosen, folder)
        found.append((name, chosen, work.trained(chosen)))
    for _ in range(repeats):
        for name, chosen, network in found:
            turns[name].append(work.from_records(chosen, network, steps))
    return [
        Way(
            row,
            name,
            points,
            4 * chosen.train.batch_size * chosen.model.spec().window_length,
            sum(operations.operations(chosen.model, True).values()),
            work.median(turns[name]),
        )
        for name, chosen, _ in found
    ]


def main(argv: list[str]) -> None:
    """Prints the tables, a line as soon as it is known."""
    if argv[1:]:
        raise app.UsageError(f"unexpected argument {argv[1]!r}; rows are named by --rows")
    values = flags.FLAGS
    found = experiments(values.rows, values.points)
    print(f"{len(os.sched_getaffinity(0))} cores, {platform.processor() or platform.machine()}; {work.versions()}\n")
    print(COST_HEADER, flush=True)
    for row, experiment in found.items():
        for cost in costs(row, experiment, values.points, values.repeats):
            print(cost_line(cost), flush=True)
    shared = {row: experiment for row, experiment in found.items() if row in SHARED}
    print(f"\n{WAYS_HEADER}", flush=True)
    for row, experiment in shared.items():
        print("\n".join(way_lines(ways(row, experiment, values.repeats))), flush=True)
    if values.records:
        print(f"\nWith the input pipeline:\n\n{WAYS_HEADER}", flush=True)
        for row, experiment in shared.items():
            measured = ways_from_records(row, experiment, values.records, values.steps, values.repeats)
            print("\n".join(way_lines(measured)), flush=True)


if __name__ == "__main__":
    define_flags()
    app.run(main)

"""Trains the field's transcribers and ours on the same records, hearing as much, and puts them in one table.

    python -m benchmarks.exemplars --records=data/records --data_dir=FOLDER [--steps=3200] [--output_dir=out/exemplars]
        [--rows=basic_pitch,harmonic_shift_26k,…] [--train=maps:5,musicnet:1.5,…] [--corpora=maps,bach10,…]
        [--musicnet_labels=FOLDER]

Every row takes its config's batch, windows and rate of learning; a step counts as 32 s of audio, and rows whose batches
hold more or less take fewer or more steps, so that all hear the same number of seconds, to a few in a thousand. The
weights after the last step count. `--train` names the record sets and how often windows are drawn from each, by default
as `configs/notes_harmonic_cnn.yaml` does; a model at another sample rate takes the sets of that name with its rate
behind it, such as maps_22050. Sets in whose training split a validation piece is played are refused.

Thresholds are chosen on the validation pieces of `--data_dir`, which holds a folder for each corpus, as for
`benchmarks.transcription_peers`; by that benchmark's means they are then heard and scored, so that the figures of both
tables may be held to one another. Goes on where it stopped, and skips what is done: a row is a run folder in
OUTPUT_DIR/runs. The table, exemplars.md and exemplars.csv, has the rows that are done, those of earlier calls too.
"""

from __future__ import annotations

import csv
import dataclasses
import gc
import io
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import keras
from absl import app, flags

from benchmarks import _exemplars as exemplars
from benchmarks import transcription_peers
from benchmarks._exemplars import Row, Trained
from benchmarks.peers import comparison, pieces, systems, table
from benchmarks.peers.pieces import Piece
from musicnet_tf import evaluation, files
from musicnet_tf.config import Source
from musicnet_tf.datasets import Recording
from musicnet_tf.errors import ConfigError, MusicNetError

REPORT, LINES = "exemplars.md", "exemplars.csv"


def train(
    rows: Sequence[Row], runs: Path, records: Path, sources: Sequence[Source], steps: int, heard: Sequence[Piece]
) -> dict[str, str]:
    """Trains those rows that are not done, and chooses their thresholds.

    Args:
        rows: to train.
        runs: folder of their run folders.
        records: folder of record sets.
        sources: that windows are drawn from.
        steps: of 32 s.
        heard: pieces that thresholds are chosen on.

    Returns:
        Row → why it failed.
    """
    failed = {}
    for row in rows:
        try:
            chosen = exemplars.experiment(row, records, sources, steps)
            trained = exemplars.train(row.name, chosen, runs / row.name, heard)
            print(f"{row.name}: {trained.heard:,.0f} s of audio in {trained.seconds:,.0f} s", flush=True)
        except MusicNetError as error:
            failed[row.name] = str(error)
            print(f"{row.name}: {error}", file=sys.stderr, flush=True)
        keras.backend.clear_session()
        gc.collect()
    return failed


def markdown(done: Sequence[tuple[Trained, table.Result]], failed: Mapping[str, str], notes: Sequence[str]) -> str:
    """The table, by size, and below it what was left out.

    Args:
        done: each row's training and what it reached.
        failed: row → why it is not among them.
        notes: on how it was measured.
    """
    corpora = list(done[0][1].means())
    head = ["model", "parameters", "steps", "audio heard", "trained at", "real-time factor", "CPU", *corpora]
    lines = [head, ["---"] * len(head)]
    for trained, result in sorted(done, key=lambda pair: pair[1].parameters):
        lines.append(
            [
                result.name,
                f"{result.parameters:,}",
                f"{trained.steps:,} × {trained.batch_size} × {trained.window:.2f} s",
                f"{trained.heard:,.0f} s",
                f"{trained.heard / trained.seconds:.1f} s a second",
                f"{result.real_time_factor:.4f}",
                f"{result.cpu_factor:.4f}",
                *(" / ".join(f"{means[name]:.3f}" for name in table.SCORES) for means in result.means().values()),
            ]
        )
    told = [
        "F1 of notes by onset / by onset and offset / of frames, mean over the pieces of a corpus",
        "thresholds are chosen on these very pieces; real-time factor and CPU seconds by seconds of audio: inference",
        *notes,
        *(f"left out: {name}: {reason}" for name, reason in failed.items()),
    ]
    rows = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return f"{rows}\n\n" + "\n".join(f"- {line}" for line in told) + "\n"


def as_csv(done: Sequence[tuple[Trained, table.Result]]) -> str:
    """A line for each row and corpus."""
    text = io.StringIO()
    own = [field.name for field in dataclasses.fields(Trained) if field.name != "settings"]
    costs = ["parameters", "real_time_factor", "cpu_factor"]
    writer = csv.DictWriter(text, [*own, *costs, "corpus", *table.SCORES], lineterminator="\n")
    writer.writeheader()
    for trained, result in done:
        cost = {name: getattr(result, name) for name in costs}
        for corpus, means in result.means().items():
            writer.writerow({name: getattr(trained, name) for name in own} | cost | {"corpus": corpus} | means)
    return text.getvalue()


def validation_pieces(
    data_dir: Path, corpora: Sequence[str], cache: Path, musicnet_labels: Path | None
) -> tuple[list[Recording], list[Piece]]:
    """The recordings that no training may have heard, and the same as pieces.

    Raises:
        ConfigError, DatasetError, AudioError, ScoreError: as `pieces.gather`.
    """
    gathered = pieces.gather(data_dir, corpora, "validation", cache, None, musicnet_labels)
    recordings = [r for name in corpora for r in evaluation.select(pieces.CORPORA[name](data_dir), "validation")]
    return recordings, gathered


def define_flags() -> None:
    """The command line. Importing the module defines no flag: one process has a single set of them."""
    flags.DEFINE_string("records", None, "Folder of record sets, data.folder of configs.", required=True)
    flags.DEFINE_string("data_dir", None, "Folder with maps/, bach10/ and musicnet/.", required=True)
    flags.DEFINE_string("output_dir", "out/exemplars", "Folder for runs, sound, outputs and the table.")
    flags.DEFINE_integer("steps", 3200, "Steps of 32 s of audio.", lower_bound=1)
    flags.DEFINE_list("rows", [row.name for row in exemplars.ROWS], "Rows to train.")
    flags.DEFINE_list("train", [], "Record sets and how often windows are drawn from each, such as maps:5.")
    flags.DEFINE_list("corpora", ["maps", "bach10", "musicnet"], "Corpora to hear.")
    flags.DEFINE_string("musicnet_labels", None, "Folder of <id>.csv, in place of MusicNet's published labels.")


def main(argv: list[str]) -> int:
    """Prints and writes the table; exit status 1 where a row failed."""
    if argv[1:]:
        raise app.UsageError(f"unexpected argument {argv[1]!r}; everything is named by a flag")
    return comparison.reported("exemplars", lambda: _run(flags.FLAGS))


def _run(values: flags.FlagValues) -> int:
    rows, sources = exemplars.select(values.rows), exemplars.sources(values.train)
    output = files.make_folder(values.output_dir)
    labels = Path(values.musicnet_labels) if values.musicnet_labels else None
    recordings, heard = validation_pieces(Path(values.data_dir), values.corpora, output / "audio", labels)
    exemplars.refuse_heard(rows, Path(values.records), sources, recordings)
    failed = train(rows, output / "runs", Path(values.records), sources, values.steps, heard)
    known = [Trained.read(output / "runs" / row.name) for row in exemplars.ROWS]
    trained = {one.row: one for one in known if one}
    if not trained:
        raise ConfigError("no row was trained; name others by --rows")
    found = [systems.own(str(output / "runs" / name)) for name in trained]
    results, notes = comparison.compare(found, heard, output / "heard", failed, transcription_peers.result)
    done = [(trained[result.name], result) for result in results]
    if not done:
        raise ConfigError(f"no row could be heard: {'; '.join(failed.values())}")
    report = markdown(done, failed, notes)
    files.write_text(output / REPORT, report)
    files.write_text(output / LINES, as_csv(done))
    print(report)
    return 1 if failed else 0


if __name__ == "__main__":
    define_flags()
    app.run(main)

"""Trains families of taggers on the same records for the same time, and puts them in one table.

    python -m benchmarks.tagging_families --records=data/records [--train=rendered_parts,musicnet:0.5]
        [--held_out=rendered_parts] [--families=instrument_cnn,fcn,…] [--minutes=10] [--batch_seconds=128]
        [--output_dir=out/tagging_families]

Each tells which of MusicNet's instruments sound, at 16 kHz and with the chunks that it was published with, as near as
that rate allows; a batch holds the same seconds of audio for all, at least one chunk. The budget counts from when the
first step begins, and that step, in which the graph is made, with it. Learning rates are constant: 1e-3, and less for
transformers (`RATES`). Weights begin as drawn, also where a family was published with others.

Validation pieces of `--held_out` are then heard: of each its first `--seconds`, at most `--pieces` of them, evenly
chosen. Areas under curves are means over the instruments that sound in any of them, by seconds (a family whose chunk
is longer tells the same of all its seconds) and by pieces, whose scores are means.

Each family has a process of its own. Rows are kept in OUTPUT_DIR as soon as they are done, also of families that took
no second step within the budget, or more memory than there is; remove a row's file to measure it again. The table has
those of earlier calls with the same settings, too.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import app, flags
from tqdm import tqdm

from benchmarks import _exemplars as exemplars
from benchmarks import _tagging_families_work as work
from benchmarks._tagging_families_work import Row
from benchmarks.peers import comparison
from benchmarks.peers.outcome import grid
from musicnet_tf import files, validation
from musicnet_tf.config import Experiment
from musicnet_tf.errors import ConfigError, ModelError
from musicnet_tf.instruments import PROGRAMS
from musicnet_tf.registry import MODELS, nearest
from musicnet_tf.reproduction import training

RATE = 16000
_AT_16_KHZ = {"sample_rate": RATE, "hop_length": 160, "window_length": 512, "fmax": 8000.0}  # as PANNs' own have it
FIELDS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("panns_cnn6", "panns_cnn10", "panns_cnn14", "hts_at"), _AT_16_KHZ),
    "sample_cnn": {"sample_rate": RATE},
    "sample_cnn_se": {"sample_rate": RATE},
    "music_tagging_transformer": {"sample_rate": RATE, "chunk_frames": 469},  # 15 s
    "tutorial_cnn": {"sample_rate": RATE, "chunk_frames": 906},  # 29 s
}
"""What is not a family's default."""
RATES = {
    "audio_spectrogram_transformer": 1e-4,
    "hts_at": 3e-4,
    "music_tagging_transformer": 3e-4,
    "self_attention_cnn": 3e-4,
}
"""Of learning, where it is not 1e-3."""
REPORT = "tagging_families.md"
_MOST_STEPS = 10**6
_GRACE = 1800
"""Seconds beyond the budget, for start, a last step and held-out pieces."""


def families() -> list[str]:
    """All that tag, by name."""
    return [name for name in MODELS.names() if "tag" in MODELS.get(name)().spec().heads]


def select(names: Sequence[str]) -> list[str]:
    """Those named, all where none is. Raises ConfigError for one that is none."""
    known = families()
    for name in names:
        if name not in known:
            raise ConfigError(f"--families: {name!r} tags nothing{nearest(name, known)}; there are {', '.join(known)}")
    return [name for name in known if name in (names or known)]


def experiment(family: str, folder: Path, told: Sequence[str], batch_seconds: float) -> Experiment:
    """A family's experiment on record sets such as `rendered_parts:2`.

    Raises:
        ConfigError: where a set is not a name and a positive number.
    """
    model = MODELS.get(family)(num_tags=len(PROGRAMS), **FIELDS.get(family, {}))
    spec = model.spec()
    batch = max(1, round(batch_seconds * spec.clock.sample_rate / spec.window_length))
    fields = {
        "name": family,
        "task": {"name": "tags", "labels": "instruments", "tags": list(PROGRAMS)},
        "model": model.model_dump(mode="json"),
        "data": {"folder": str(folder), "train": [one.model_dump(mode="json") for one in exemplars.sources(told)]},
        "train": {
            "steps": _MOST_STEPS,
            "steps_per_epoch": 1000,
            "batch_size": batch,
            "learning_rate": RATES.get(family, 1e-3),
            "schedule": "constant",
            "clip_norm": 3.0,
            "keep": "last",
        },
    }
    return validation.construct(Experiment, fields, where=family)


def read(path: Path, settings: Mapping[str, Any] | None = None) -> Row | None:
    """A row that is there; None where there is none, or one of other settings than these."""
    if not path.is_file():
        return None
    try:
        row = Row(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{path}: damaged ({error}); remove it, and the family is trained again") from error
    return row if settings is None or row.settings == settings else None


def measure(chosen: Experiment, job: dict[str, Any], folder: Path) -> Row:
    """One family's row, from its file or by a process of its own, which leaves it there.

    Raises:
        ModelError: where the process could not do its work for another reason than memory or time.
    """
    row = folder / f"{chosen.name}.json"
    settings = {
        "experiment": chosen.anywhere().model_dump(mode="json"),
        "records": training.describe_records(chosen),
        **{key: job[key] for key in ("minutes", "pieces", "seconds")},
        "held_out": [Path(path).name for path in job["held_out"]],
    }
    known = read(row, settings)
    if known is not None:
        return known
    place = files.make_folder(folder / "jobs" / chosen.name)
    chosen.write(place)
    whole = {**job, "family": chosen.name, "config": str(place / "config.yaml"), "settings": settings, "row": str(row)}
    files.write_json(place / "job.json", whole)
    reason = _run(place / "job.json", place / "log.txt", 60 * job["minutes"] + _GRACE)
    if reason:
        files.write_json(row, dataclasses.asdict(Row(chosen.name, settings, left_out=reason)))
    found = read(row, settings)
    assert found is not None
    return found


def _run(job: Path, log: Path, limit: float) -> str:
    """Does a job. Returns why it could not be done, where memory or time did not suffice; nothing where it was."""
    command = [sys.executable, "-m", work.__name__, str(job)]
    with log.open("wb") as file:
        try:
            status = subprocess.run(command, stdout=file, stderr=file, timeout=limit, check=False).returncode
        except subprocess.TimeoutExpired:
            return f"was not done after {limit:.0f} s"
    if status in (-9, 137) or b"OOM when allocating" in log.read_bytes():
        return "took more memory than there is"
    if status:
        last = log.read_text(errors="replace").strip().splitlines()[-1:]
        raise ModelError(f"{job.parent.name}: failed ({' '.join(last)}); {log} has all of it")
    return ""


def markdown(rows: Sequence[Row], notes: Sequence[str]) -> str:
    """The table, the best first, and below it what was left out."""
    done = [row for row in rows if not row.left_out]
    head = [
        *("family", "parameters", "PR-AUC by second", "ROC-AUC", "PR-AUC by piece", "ROC-AUC"),
        *("steps × batch × chunk", "examples a second", "real-time factor"),
    ]
    measures = [f"{grain}/{name}" for grain in ("second", "piece") for name in ("pr_auc", "roc_auc")]
    lines = [
        [
            row.family,
            f"{row.parameters:,}",
            *(f"{row.scores[name]:.3f}" if name in row.scores else "–" for name in measures),
            f"{row.steps:,} × {row.batch_size} × {row.window:.2f} s",
            f"{row.examples_a_second:.2f}",
            f"{row.real_time_factor:.4f}",
        ]
        for row in sorted(done, key=lambda row: -row.scores.get("second/pr_auc", 0.0))
    ]
    floors = {name: value for row in done for name, value in row.scores.items() if name.endswith("/pr_floor")}
    told = [
        *(f"PR-AUC by chance, by {name.partition('/')[0]}: {value:.3f}" for name, value in floors.items()),
        *notes,
        *(f"left out: {row.family}: {row.left_out}" for row in rows if row.left_out),
    ]
    return grid(head, lines) + "\n\n" + "\n".join(f"- {line}" for line in told) + "\n"


def define_flags() -> None:
    """The command line. Importing the module defines no flag: one process has a single set of them."""
    flags.DEFINE_string("records", None, "Folder of record sets, data.folder of configs.", required=True)
    flags.DEFINE_list("train", ["rendered_parts"], "Record sets and how often windows are drawn from each: a:5,b.")
    flags.DEFINE_list("held_out", [], "Record sets whose validation pieces are heard; those trained on by default.")
    flags.DEFINE_list("families", [], "Families to train; all by default.")
    flags.DEFINE_float("minutes", 10.0, "Of training, for each.", lower_bound=0.01)
    flags.DEFINE_float("batch_seconds", 128.0, "Of audio in a batch.", lower_bound=1.0)
    flags.DEFINE_integer("pieces", 40, "Held-out pieces at most.", lower_bound=1)
    flags.DEFINE_float("seconds", 60.0, "Heard of each at most.", lower_bound=1.0)
    flags.DEFINE_string("output_dir", "out/tagging_families", "Folder for rows and the table.")


def main(argv: list[str]) -> int:
    """Prints and writes the table; exit status 1 where a family failed."""
    if argv[1:]:
        raise app.UsageError(f"unexpected argument {argv[1]!r}; everything is named by a flag")
    return comparison.reported("tagging_families", lambda: _compare(flags.FLAGS))


def _compare(values: flags.FlagValues) -> int:
    chosen, output = select(values.families), files.make_folder(values.output_dir)
    folder = Path(values.records)
    heard = [source.records for source in exemplars.sources(values.held_out or values.train)]
    job = {
        "minutes": values.minutes,
        "held_out": [str(folder / name) for name in heard],
        "pieces": values.pieces,
        "seconds": values.seconds,
    }
    rows, failed = [], []
    for family in tqdm(chosen, desc="families", disable=None):
        try:
            rows.append(measure(experiment(family, folder, values.train, values.batch_seconds), job, output))
        except ModelError as error:
            failed.append(str(error))
            print(error, file=sys.stderr, flush=True)
    cores = len(os.sched_getaffinity(0))
    notes = [
        f"{values.minutes:g} minutes each, {cores} core{'s' if cores > 1 else ''}",
        f"at most {values.pieces} pieces of {', '.join(map(str, heard))}, {values.seconds:g} s of each",
        *failed,
    ]
    report = markdown(rows, notes)
    files.write_text(output / REPORT, report)
    print(report)
    return 1 if failed else 0


if __name__ == "__main__":
    define_flags()
    app.run(main)

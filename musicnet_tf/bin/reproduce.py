"""Trains and evaluates every row of a paper's table, and reports them beside the paper's own figures.

    musicnet reproduce --config=configs/reproduce/musicnet_table3.yaml --data=data/musicnet --output_dir=reproduction
    musicnet reproduce --config=configs/reproduce/musicnet_table3.yaml --data=data/musicnet --output_dir=short \\
        --test=2227,2231,2247 --rows=mlp_500,cnn --scale=0.1 --set=cnn.train.batch_size=50

Trains on the recordings in --data that are not tested on, of which it builds records, or on --train_records. Goes
on where it stopped, and skips the rows that are done; exits with 1 if a row failed. Writes OUTPUT_DIR/report.html and
report.md; each row is a run folder in OUTPUT_DIR/runs, and `tensorboard --logdir=OUTPUT_DIR` shows all of them.
"""

from __future__ import annotations

import logging as stdlib_logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from absl import app, flags, logging

from musicnet_tf.errors import ConfigError

if TYPE_CHECKING:
    from musicnet_tf.datasets import Dataset
    from musicnet_tf.reproduction.result import Result
    from musicnet_tf.reproduction.settings import Study

_CONFIG = flags.DEFINE_string("config", None, "YAML file of the reproduction.", required=True)
_DATA = flags.DEFINE_string("data", None, "Folder of recordings in MusicNet's layout, test recordings among them.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder for runs and report.", required=True)
_TRAIN_RECORDS = flags.DEFINE_list(
    "train_records", [], "Finished record sets to train on, instead of records built of --data."
)
_TEST = flags.DEFINE_list("test", [], "Ids of the recordings to test on; by default those that the config names.")
_ROWS = flags.DEFINE_list("rows", [], "Only these rows.")
_SCALE = flags.DEFINE_float(
    "scale", 1.0, "Of every row's number of training steps; running statistics need some hundred.", lower_bound=0
)
_SET = flags.DEFINE_multi_string("set", [], "Changes a row's experiment, such as cnn.train.batch_size=50.")
_REPORT_ONLY = flags.DEFINE_bool("report_only", False, "Write the report of the rows that are done, and no more.")


def main(argv: list[str]) -> int:
    """Reproduces as the flags say; gives the exit status."""
    if argv[1:]:
        raise app.UsageError(f"unexpected argument {argv[1]!r}; everything is named by a flag")
    if not _DATA.value and not _REPORT_ONLY.value:
        raise app.UsageError("give --data, or --report_only")
    from musicnet_tf.reproduction import settings

    study = settings.load(_CONFIG.value)
    output_dir = Path(_OUTPUT_DIR.value).expanduser()
    overrides = _overrides(study)

    from musicnet_tf.reproduction import report
    from musicnet_tf.reproduction import study as reproduction

    failed: dict[str, str] = {}
    if not _REPORT_ONLY.value:
        logging.set_verbosity(logging.INFO)
        failed = reproduction.run(
            study,
            Path(_DATA.value or "").expanduser(),
            output_dir,
            build=_build,
            train_records=[Path(path).expanduser() for path in _TRAIN_RECORDS.value],
            test=_TEST.value,
            rows=_ROWS.value,
            scale=_SCALE.value,
            overrides=overrides,
        ).failed
    results = reproduction.read_results(study, output_dir)  # those of earlier calls, too
    if results:
        _print(study, results)
        print(f"wrote {', '.join(str(path) for path in report.write(study, results, output_dir)[:2])}")
    for name, why in failed.items():
        print(f"failed   {name}: {why}")
    if _REPORT_ONLY.value and not results:
        raise ConfigError(f"{output_dir}: no row of {study.name} was evaluated there; run without --report_only")
    return 1 if failed else 0


def _build(corpus: Dataset, sample_rate: int, folder: Path) -> None:
    from musicnet_tf import records
    from pipelines import build_records  # brings Beam

    stdlib_logging.getLogger("apache_beam").setLevel(stdlib_logging.WARNING)  # else it tells of its own insides

    how = build_records.Settings(corpus, sample_rate, 30.0, records.default_encoding(), recordings_per_shard=2)
    build_records.build(how, folder, build_records.beam_options("FnApiRunner"))


def _overrides(study: Study) -> dict[str, list[str]]:
    """`cnn.train.steps=5` → `{"cnn": ["train.steps=5"]}`; of names that begin alike the longest counts."""
    found: dict[str, list[str]] = {}
    for override in _SET.value:
        fitting = [row.name for row in study.rows if override.startswith(f"{row.name}.")]
        if not fitting:
            names = ", ".join(row.name for row in study.rows)
            raise ConfigError(f"--set {override}: begin with a row and a dot; there are {names}")
        name = max(fitting, key=len)
        found.setdefault(name, []).append(override.removeprefix(f"{name}."))
    return found


def _print(study: Study, results: Sequence[Result]) -> None:
    """A table in per cent, as the paper's own, with its average precision beside ours."""
    by_name = {result.row: result for result in results}
    width = max(len(row.name) for row in study.rows)
    print(f"{'row':{width}s} {'P':>6s} {'R':>6s} {'AP':>6s} {'paper AP':>9s}")
    for row in study.rows:
        if row.name in by_name:
            ours, theirs = by_name[row.name].pooled, row.published.average_precision
            figures = " ".join(f"{100 * ours[key]:6.1f}" for key in ("precision", "recall", "average_precision"))
            print(f"{row.name:{width}s} {figures} {'' if theirs is None else f'{100 * theirs:.1f}':>9s}")

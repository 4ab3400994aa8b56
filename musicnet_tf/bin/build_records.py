"""Corpus → sharded TFRecords, as an Apache Beam job; needs `musicnet_tf[beam]`.

    musicnet build_records --dataset=musicnet --data_dir=~/musicnet --output_dir=data/records/musicnet
    musicnet build_records --dataset=grooves --set count=200 --output_dir=data/records/grooves

Options of the corpus are set by --set (`--set validation='["2227"]'`). A shard is written whole or not at
all; a second run skips what is done and tries again what failed. In process by default; on a cluster by
--runner and --beam_option, e.g. --runner=FlinkRunner --beam_option=flink_master=host:8081.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

from absl import flags

from musicnet_tf.errors import ConfigError

if TYPE_CHECKING:
    from pipelines.build_records import Settings

_DATASET = flags.DEFINE_string("dataset", None, "Corpus, as in `musicnet list`.", required=True)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder that holds the corpus as published; grooves needs none.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder for the records.", required=True)
_SET = flags.DEFINE_multi_string("set", [], "Option of the corpus, key=value in YAML; may be given again.")
_SAMPLE_RATE = flags.DEFINE_integer("sample_rate", 44100, "Of the audio in the records; models say which they take.")
_EXCERPT_SECONDS = flags.DEFINE_float("excerpt_seconds", 30.0, "Length of one record.", lower_bound=1.0)
_ENCODING = flags.DEFINE_enum(
    "encoding", "auto", ["auto", "flac", "pcm_s16le"], "Of the audio; auto: flac where tensorflow-io loads."
)
_RECORDINGS_PER_SHARD = flags.DEFINE_integer("recordings_per_shard", 4, "Recordings in one file.", lower_bound=1)
_RUNNER = flags.DEFINE_string("runner", "FnApiRunner", "Apache Beam runner; the default runs in this process.")
_NUM_WORKERS = flags.DEFINE_integer("num_workers", 1, "Processes of the in-process runner.", lower_bound=1)
_BEAM_OPTION = flags.DEFINE_multi_string("beam_option", [], "Any other Beam option, key=value; may be given again.")
_STRICT = flags.DEFINE_bool("strict", False, "Exit with status 1 where any recording failed.")


def main(argv: list[str]) -> int:
    """Builds a record set from the flags; gives the exit status."""
    if len(argv) > 1:
        raise ConfigError(f"build_records takes flags only, got {' '.join(argv[1:])!r}")
    from pipelines import build_records  # brings Beam and TensorFlow

    options = build_records.beam_options(_RUNNER.value, _NUM_WORKERS.value, _BEAM_OPTION.value)
    info = build_records.build(_settings(), Path(_OUTPUT_DIR.value).expanduser(), options)
    for split, totals in info.splits.items():
        more = "".join(f"  {totals[what]:8.0f} {what}" for what in ("beats", "tags") if what in totals)
        print(
            f"{split:10s} {totals['recordings']:5.0f} recordings  {totals['excerpts']:6.0f} excerpts"
            f"  {totals['hours']:7.2f} h  {totals['notes']:8.0f} notes{more}"
        )
    for name, why in info.failed.items():
        print(f"left out   {name}: {why}")
    if info.failed:
        print(f"{len(info.failed)} of {len(info.failed) + len(info.recordings)} recordings left out")
    return 1 if info.failed and _STRICT.value else 0


def _settings() -> Settings:
    from musicnet_tf import records
    from musicnet_tf.audio import Encoding
    from musicnet_tf.registry import DATASETS
    from musicnet_tf.validation import construct, parse_overrides
    from pipelines.build_records import Settings

    encoding = records.default_encoding() if _ENCODING.value == "auto" else cast(Encoding, _ENCODING.value)
    options, corpus = parse_overrides(_SET.value), DATASETS.get(_DATASET.value)
    if _DATA_DIR.value is not None:
        options["root"] = str(Path(_DATA_DIR.value).expanduser())
    elif corpus.model_fields["root"].is_required():
        raise ConfigError(f"--dataset={_DATASET.value}: name the folder that holds it, by --data_dir")
    dataset = construct(corpus, options, where=f"--dataset={_DATASET.value}")
    return Settings(dataset, _SAMPLE_RATE.value, _EXCERPT_SECONDS.value, encoding, _RECORDINGS_PER_SHARD.value)

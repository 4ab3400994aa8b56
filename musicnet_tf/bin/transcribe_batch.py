"""Transcribe recordings by the thousand, as an Apache Beam job; needs `musicnet_tf[beam]`.

    musicnet transcribe_batch RECORDINGS --output_dir=OUT --num_workers=4
    musicnet transcribe_batch '/archive/**/*.flac' --output_dir=OUT --server=grpc://host:8500/notes
    musicnet transcribe_batch --manifest=recordings.csv --output_dir=OUT --formats=csv

Recordings are those of folders and all folders below, of globs in quotes, files, or the rows of a manifest: a CSV file
with the column audio, its paths relative to itself, and perhaps id, which names the outputs. OUT keeps the folders. A
second run skips what is done and tries again what failed; OUT/failed.csv lists that, and is a manifest. In process by
default; on a cluster by --runner and --beam_option, e.g. --runner=FlinkRunner --beam_option=flink_master=host:8081.
The exit status is 1 where any recording failed.
"""

from __future__ import annotations

import functools
import logging
import sys
import time
from typing import TYPE_CHECKING

from absl import app, flags

import musicnet_tf.bin._server_flags as server_flags
from musicnet_tf.bin import _summary

if TYPE_CHECKING:
    from pipelines.transcribe import Model

_BESIDES = ("apitools not found", "Resource module is not available")

_TOLD = 10  # failures that are printed; the list of failed recordings has all

_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder for the outputs; made if need be.", required=True)
_MANIFEST = flags.DEFINE_string("manifest", None, "Table of recordings, instead of naming them.")
_FORMATS = flags.DEFINE_list("formats", None, "Kinds of files; by default those that suit the model's task.")
_MODEL = flags.DEFINE_string("model", None, "A shipped model's name (`musicnet list`), or a run's or export's folder.")
_SET = flags.DEFINE_multi_string("set", [], "Overrides a parameter of the decoder, such as onset_threshold=0.4.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", None, "Windows that the model hears at once.", lower_bound=1)
_SKIP_EXISTING = flags.DEFINE_bool(
    "skip_existing", True, "Leave alone what an earlier run did, if nothing has changed."
)
_RUNNER = flags.DEFINE_string("runner", "FnApiRunner", "Apache Beam runner; the default runs in this process.")
_NUM_WORKERS = flags.DEFINE_integer("num_workers", 1, "Processes of the in-process runner.", lower_bound=1)
_BEAM_OPTION = flags.DEFINE_multi_string("beam_option", [], "Any other Beam option, key=value; may be given again.")
flags.adopt_module_key_flags(server_flags)


def main(argv: list[str]) -> int:
    """Transcribes what argv or the manifest names and returns 1 if any recording failed."""
    if bool(argv[1:]) == bool(_MANIFEST.value):
        raise app.UsageError("name recordings, folders or globs, or give --manifest")
    server_flags.check()
    _quieten_beam()
    from musicnet_tf import validation
    from pipelines import _recordings, transcribe  # brings Beam

    began = time.perf_counter()
    found = _recordings.read_manifest(_MANIFEST.value) if _MANIFEST.value else _recordings.find(argv[1:])
    model = _model()
    results = transcribe.transcribe(
        found,
        _OUTPUT_DIR.value,
        model,
        options=transcribe.beam_options(_RUNNER.value, _NUM_WORKERS.value, _BEAM_OPTION.value),
        formats=_FORMATS.value,
        overrides=validation.parse_overrides(_SET.value),
        batch_size=_BATCH_SIZE.value,
        skip_existing=_SKIP_EXISTING.value,
        threads=transcribe.threads_of_each(_NUM_WORKERS.value),
    )
    failed = [result.error for result in results if result.error]
    for error in failed[:_TOLD]:
        print(f"musicnet transcribe_batch: error: {error}", file=sys.stderr)
    if failed:
        print(f"failed recordings are listed in {_OUTPUT_DIR.value}/{transcribe.FAILED}", file=sys.stderr)
    noun = transcribe.decoding_of(model.manifest).noun
    print(_summary.of(results, noun, time.perf_counter() - began, _OUTPUT_DIR.value))
    return 1 if failed else 0


def _model() -> Model:
    from pipelines import transcribe

    if server_flags.SERVER.value is None:
        return transcribe.local_model(_MODEL.value) if _MODEL.value else transcribe.local_model()
    from serving import client

    return transcribe.remote_model(functools.partial(client.connect, server_flags.SERVER.value, server_flags.options()))


def _quieten_beam() -> None:
    """Keeps what Beam says of libraries that it could use besides off the terminal."""
    logging.getLogger().addFilter(_is_of_use)


def _is_of_use(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith(_BESIDES)

"""Write down the notes of recordings, as files that a musician can open.

Examples:
    musicnet transcribe prelude.flac fugue.mp3 --output_dir=OUT
    musicnet transcribe RECORDINGS --output_dir=OUT --formats=midi,png --skip_existing
    musicnet transcribe RECORDINGS --output_dir=OUT --server=grpc://host:8500/notes:stable

Each recording becomes OUT/<name>.mid, .csv (MusicNet's columns), .png (a piano roll), .jams and .npz (the
model's activations with their clock), as --formats asks. Of a folder, the audio files directly in it
are taken, not those in folders below. A recording that cannot be read is named and the others go on; the
exit status is 1 then.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from absl import app, flags

import musicnet_tf.bin._server_flags as server_flags

if TYPE_CHECKING:
    from musicnet_tf import transcription
    from musicnet_tf.decode import Decoding
    from musicnet_tf.manifest import Manifest
    from musicnet_tf.writers import Format

_OUTPUT_DIR = flags.DEFINE_string("output_dir", "out", "Folder for the outputs; made if need be.")
_FORMATS = flags.DEFINE_list("formats", ["midi", "csv", "png"], "Any of midi, csv, jams, npz, png.")
_MODEL = flags.DEFINE_string("model", None, "A shipped model's name (`musicnet list`), or a run's or export's folder.")
_SKIP_EXISTING = flags.DEFINE_bool("skip_existing", False, "Leave recordings alone whose outputs are all there.")
_ONSET_THRESHOLD = flags.DEFINE_float(
    "onset_threshold",
    None,
    "Least onset activation that starts a note, up to 1; higher finds fewer notes.",
    lower_bound=0.0,
    upper_bound=1.0,
)
_FRAME_THRESHOLD = flags.DEFINE_float(
    "frame_threshold",
    None,
    "Least activation with which a note sounds, up to 1; higher makes notes shorter.",
    lower_bound=0.0,
    upper_bound=1.0,
)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", None, "Windows that the model hears at once.", lower_bound=1)
_RUNTIME = flags.DEFINE_enum(
    "runtime",
    "auto",
    ["auto", "tensorflow", "lite"],
    "What runs a model in this process; lite starts in a fraction of the time, auto takes it where the model has it.",
)
flags.adopt_module_key_flags(server_flags)


def main(argv: list[str]) -> int:
    """Transcribes what argv names and returns 1 if any recording failed."""
    if not argv[1:]:
        raise app.UsageError("name at least one recording or folder")
    server_flags.check()
    from musicnet_tf import files, transcription

    formats = transcription.chosen_formats("notes", _FORMATS.value)
    recordings = transcription.find_recordings(argv[1:])
    files.make_folder(_OUTPUT_DIR.value)
    to_do, results = transcription.triage(recordings, _OUTPUT_DIR.value, formats, _SKIP_EXISTING.value)
    for result in results:
        _report(result)
    if to_do:
        for result in _transcribe(to_do, formats):
            _report(result)
            results.append(result)
    print(_summary(results))
    return 1 if any(result.error for result in results) else 0


def _transcribe(recordings: list[Path], formats: list[Format]) -> Iterator[transcription.Result]:
    from musicnet_tf import decode, inference, transcription  # loading may bring TensorFlow: last, after all checks

    thresholds = {"onset_threshold": _ONSET_THRESHOLD.value, "frame_threshold": _FRAME_THRESHOLD.value}
    with contextlib.ExitStack() as stack:
        predictor: transcription.Predictor
        if server_flags.SERVER.value:
            predictor = stack.enter_context(server_flags.connect())
        else:
            runtime: inference.Runtime = _RUNTIME.value  # type: ignore[assignment]  # one of its values, by the flag
            predictor = inference.load(_MODEL.value or inference.DEFAULT_MODEL, runtime)

        def chosen(manifest: Manifest) -> Decoding:
            return decode.decoding_of(manifest, "notes", **thresholds)

        chosen(predictor.manifest)  # a fault of the flags or the model is told once, not for each recording
        yield from transcription.transcribe_batch(
            recordings, predictor, _OUTPUT_DIR.value, formats, chosen, _BATCH_SIZE.value
        )


def _report(result: transcription.Result) -> None:
    if result.error:
        print(f"musicnet transcribe: error: {result.error}", file=sys.stderr)
    elif result.skipped:
        print(f"{result.name}: skipped, its outputs exist")
    else:
        print(f"{result.name}: {result.events} notes in {result.audio_seconds:.1f} s of audio")


def _summary(results: Sequence[transcription.Result]) -> str:
    done = [r for r in results if not r.error and not r.skipped]
    audio_seconds, seconds = sum(r.audio_seconds for r in done), sum(r.seconds for r in done)
    counts = {"transcribed": len(done), "skipped": 0, "failed": 0}
    for result in results:
        counts["skipped"] += result.skipped
        counts["failed"] += bool(result.error)
    parts = [f"{number} {what}" for what, number in counts.items() if number or what == "transcribed"]
    text = f"{', '.join(parts)}; {sum(r.events for r in done)} notes in {audio_seconds:.1f} s of audio"
    if audio_seconds:
        text += f"; real-time factor {seconds / audio_seconds:.3f}"
    return f"{text}; outputs in {_OUTPUT_DIR.value}"

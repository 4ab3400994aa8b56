"""What verbs share that turn each recording into files of events: their flags, and all but what events they find.

A verb imports this by its full name and takes the flags for its own, so that its help tells them:

    import musicnet_tf.bin._recordings as recordings

    flags.adopt_module_key_flags(recordings)
    ...
    return recordings.run("transcribe", argv[1:], "notes", ["midi"], {"onset_threshold": 0.4})
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import app, flags

import musicnet_tf.bin._server_flags as server_flags
from musicnet_tf.bin import _summary

if TYPE_CHECKING:
    from musicnet_tf import transcription
    from musicnet_tf.decode import Decoding
    from musicnet_tf.manifest import Manifest
    from musicnet_tf.writers import Format

_OUTPUT_DIR = flags.DEFINE_string("output_dir", "out", "Folder for the outputs; made if need be.")
_MODEL = flags.DEFINE_multi_string(
    "model",
    None,
    "A shipped model's name (`musicnet list`), or a run's or export's folder. May be given three times or more: each"
    " recording is then heard by all, and told by the one whose activations are the closest to the mean of all.",
)
_SKIP_EXISTING = flags.DEFINE_bool("skip_existing", False, "Leave recordings alone whose outputs are all there.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", None, "Windows that the model hears at once.", lower_bound=1)
_RUNTIME = flags.DEFINE_enum(
    "runtime",
    "auto",
    ["auto", "tensorflow", "lite"],
    "What runs a model in this process; lite starts in a fraction of the time, auto takes it where the model has it.",
)
flags.adopt_module_key_flags(server_flags)


def run(
    verb: str, paths: Sequence[str], task: str, format_names: Sequence[str], decoder_params: Mapping[str, Any]
) -> int:
    """Writes the files of each recording, tells of it in a line, and sums up.

    Args:
        verb: that was called, for messages.
        paths: recordings, and folders of them.
        task: of the model; which by default is the one that ships for it.
        format_names: of the task's kinds of files.
        decoder_params: in place of the model's own; None leaves those.

    Returns:
        The exit status: 1 if any recording failed.

    Raises:
        UsageError: where flags do not go together, or no recording is named.
        MusicNetError: for what keeps all recordings from being heard.
    """
    if not paths:
        raise app.UsageError("name at least one recording or folder")
    server_flags.check()
    from musicnet_tf import files, transcription
    from musicnet_tf.registry import DECODERS

    formats = transcription.chosen_formats(task, format_names)
    found = transcription.find_recordings(paths)
    files.make_folder(_OUTPUT_DIR.value)
    to_do, results = transcription.triage(found, _OUTPUT_DIR.value, formats, _SKIP_EXISTING.value)
    noun = DECODERS.get(task).noun
    for result in results:
        _report(result, verb, noun)
    if to_do:
        for result in _heard(to_do, task, formats, decoder_params):
            _report(result, verb, noun)
            results.append(result)
    seconds = sum(result.seconds for result in results)
    print(_summary.of(results, noun, seconds, _OUTPUT_DIR.value))
    return 1 if any(result.error for result in results) else 0


def _heard(
    recordings: list[Path], task: str, formats: list[Format], decoder_params: Mapping[str, Any]
) -> Iterator[transcription.Result]:
    from musicnet_tf import decode, inference, model_selection, transcription  # may bring TensorFlow: after all checks

    def chosen(manifest: Manifest) -> Decoding:
        return decode.decoding_of(manifest, task, **decoder_params)

    def check(manifest: Manifest) -> None:
        """Tells a fault of the flags or the model once, and not for each recording."""
        chosen(manifest).start(manifest.geometry)
        transcription.check_heads(formats, manifest)

    with contextlib.ExitStack() as stack:
        predictors: list[transcription.Predictor]
        if server_flags.SERVER.value:
            predictors = [stack.enter_context(server_flags.connect())]
            check(predictors[0].manifest)
        else:
            models = _MODEL.value or [inference.DEFAULT_MODELS[task]]
            manifests = [inference.read_manifest(model) for model in models]
            for manifest in manifests:
                check(manifest)
            if len(models) > 1:
                model_selection.check(manifests)
            runtime: inference.Runtime = _RUNTIME.value  # type: ignore[assignment]  # one of its values, by the flag
            predictors = [inference.load(model, runtime) for model in models]
        rest = (_OUTPUT_DIR.value, formats, chosen, _BATCH_SIZE.value)
        if len(predictors) > 1:
            yield from model_selection.transcribe_batch(recordings, predictors, *rest)
        else:
            yield from transcription.transcribe_batch(recordings, predictors[0], *rest)


def _report(result: transcription.Result, verb: str, noun: str) -> None:
    if result.error:
        print(f"musicnet {verb}: error: {result.error}", file=sys.stderr)
    elif result.skipped:
        print(f"{result.name}: skipped, its outputs exist")
    else:
        found = _summary.counted(result.events, noun)
        print(f"{result.name}: {found} in {result.audio_seconds:.1f} s of audio{result.details}")

"""Write a trained model as a versioned export, for TensorFlow Serving or for use in process.

Examples:
    musicnet export --model=runs/notes --output_dir=exported/notes
    musicnet export --model=notes_harmonic_cnn --output_dir=exported/notes --window_frames=1000
    musicnet export --model=runs/notes --output_dir=exported/notes_lite --format=tflite --window_frames=1000

Writes OUTPUT_DIR/<version>/, whole or not at all, and the same bytes for the same model. It takes windows of a
waveform, or whole WAV files, and gives activations; beside it and within it lies the manifest, which tells rates,
window, heads and thresholds. Requests to warm up with are there too, which a server answers before it lets others in.
serving/README.md shows how to serve it; `musicnet transcribe --model=OUTPUT_DIR` runs it in process.

With --format=tflite, it is model.tflite and manifest.json alone: a file that is run without TensorFlow, where the
package ai-edge-litert is installed. Put beside the weights of the same model, it is run in place of them.
"""

from __future__ import annotations

from absl import app, flags

_MODEL = flags.DEFINE_string("model", None, "Run folder, or name of a shipped model.", required=True)
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "The model's folder, which holds its versions.", required=True)
_VERSION = flags.DEFINE_integer("version", None, "Number of the version; by default the next.", lower_bound=1)
_WINDOW_FRAMES = flags.DEFINE_integer(
    "window_frames",
    None,
    "Frames in one window, where the model's family lets one choose; as trained by default. Longer windows"
    " overlap less.",
    lower_bound=1,
)
_FORMAT = flags.DEFINE_enum("format", "saved_model", ["saved_model", "tflite"], "What to write.")
_PRECISION = flags.DEFINE_enum(
    "precision",
    "float32",
    ["float32", "int8"],
    "Of the weights in a TFLite file; int8 is faster still, and changes some activations by some hundredths.",
)


def main(argv: list[str]) -> int:
    """Exports as the flags say; gives the exit status."""
    if argv[1:]:
        raise app.UsageError(f"unexpected argument {argv[1]!r}; everything is named by a flag")
    from musicnet_tf import export

    folder = export.export(
        _MODEL.value,
        _OUTPUT_DIR.value,
        _VERSION.value,
        _WINDOW_FRAMES.value,
        _FORMAT.value,  # type: ignore[arg-type]  # the flags let nothing else through
        _PRECISION.value,  # type: ignore[arg-type]
    )
    print(f"wrote {folder}")
    return 0

"""Write a trained model as a versioned SavedModel, for TensorFlow Serving or for use in process.

Examples:
    musicnet export --model=runs/notes --output_dir=exported/notes
    musicnet export --model=notes_harmonic_cnn --output_dir=exported/notes --window_frames=1000

Writes OUTPUT_DIR/<version>/, whole or not at all, and the same bytes for the same model. It takes windows of a
waveform, or whole WAV files, and gives activations; beside it and within it lies the manifest, which tells rates,
window, heads and thresholds. Requests to warm up with are there too, which a server answers before it lets others in.
serving/README.md shows how to serve it; `musicnet transcribe --model=OUTPUT_DIR` runs it in process.
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


def main(argv: list[str]) -> int:
    """Exports as the flags say; gives the exit status."""
    if argv[1:]:
        raise app.UsageError(f"unexpected argument {argv[1]!r}; everything is named by a flag")
    from musicnet_tf import export

    folder = export.export(_MODEL.value, _OUTPUT_DIR.value, _VERSION.value, _WINDOW_FRAMES.value)
    print(f"wrote {folder}")
    return 0

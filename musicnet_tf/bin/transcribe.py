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

from absl import flags

import musicnet_tf.bin._recordings as recordings

_FORMATS = flags.DEFINE_list("formats", ["midi", "csv", "png"], "Any of midi, csv, jams, npz, png.")
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
flags.adopt_module_key_flags(recordings)


def main(argv: list[str]) -> int:
    """Transcribes what argv names and returns 1 if any recording failed."""
    thresholds = {"onset_threshold": _ONSET_THRESHOLD.value, "frame_threshold": _FRAME_THRESHOLD.value}
    return recordings.run("transcribe", argv[1:], "notes", _FORMATS.value, thresholds)

"""Find the beats of recordings, which of them begin a bar, and the tempo, as files that a musician can open.

Examples:
    musicnet beats waltz.flac march.mp3 --output_dir=OUT
    musicnet beats RECORDINGS --output_dir=OUT --formats=beats,click --skip_existing
    musicnet beats ballad.wav --output_dir=OUT --min_bpm=40 --max_bpm=100 --beats_per_bar=3
    musicnet beats RECORDINGS --output_dir=OUT --server=grpc://host:8500/beats
    musicnet beats RECORDINGS --output_dir=OUT --model=beats_tcn --model=RUN --model=EXPORT

Each recording becomes OUT/<name>.beats (a line a beat: seconds, a tab, and its place in the bar, 1 for a downbeat),
.csv (the tempo up to the next beat besides), .png (the model's activations with the beats in them, and the tempo),
.click.wav (the recording with a click on each beat, higher on downbeats), .jams and .npz (the activations with their
clock), as --formats asks. A line tells how many beats there are, the median tempo, between what bounds nine tenths of
the tempi lie, and how many beats most bars have; of several models, which was believed. Files and
folders are taken as by `musicnet transcribe`.
"""

from __future__ import annotations

from absl import flags

import musicnet_tf.bin._recordings as recordings

_FORMATS = flags.DEFINE_list("formats", ["beats", "csv", "png"], "Any of beats, csv, jams, click, npz, png.")
_METHOD = flags.DEFINE_enum(
    "method",
    None,
    ["dbn", "dbn_online", "peaks", "autocorrelation", "comb"],
    "How activations become beats: dbn, the most probable path through tempo and bar; dbn_online, by what came before"
    " alone; peaks, every peak; autocorrelation and comb, from beat to beat by the interval that they find.",
)
_MIN_BPM = flags.DEFINE_float("min_bpm", None, "Least beats a minute; not of peaks.", lower_bound=1.0)
_MAX_BPM = flags.DEFINE_float("max_bpm", None, "Most beats a minute; not of peaks.", lower_bound=1.0)
_TRANSITION_LAMBDA = flags.DEFINE_float(
    "transition_lambda", None, "How steady the tempo of a dbn is; 0 lets it change at any beat.", lower_bound=0.0
)
_BEATS_PER_BAR = flags.DEFINE_list("beats_per_bar", None, "Lengths that bars of a dbn may have, such as 2,3,4.")
flags.adopt_module_key_flags(recordings)


def main(argv: list[str]) -> int:
    """Finds the beats of what argv names and returns 1 if any recording failed."""
    params = {
        "method": _METHOD.value,
        "min_bpm": _MIN_BPM.value,
        "max_bpm": _MAX_BPM.value,
        "transition_lambda": _TRANSITION_LAMBDA.value,
        "beats_per_bar": _BEATS_PER_BAR.value,
    }
    return recordings.run("beats", argv[1:], "beats", _FORMATS.value, params)

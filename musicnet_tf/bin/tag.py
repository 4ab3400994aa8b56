"""Tell which tags recordings bear, such as the instruments that sound in them, and when.

Examples:
    musicnet tag quintet.flac sonata.mp3 --output_dir=OUT
    musicnet tag RECORDINGS --output_dir=OUT --formats=json,jams --skip_existing
    musicnet tag concert.wav --output_dir=OUT --aggregate=vote --threshold=0.3 --top=5
    musicnet tag RECORDINGS --output_dir=OUT --embedding --server=grpc://host:8500/tags

Each recording becomes OUT/<name>.json (the tags of the recording, the likeliest first, and a time line), .csv (the time
line: a row a stretch, a column a tag), .png (a strip a tag over time), .jams (tags of the whole and of stretches), .npz
(all of it as arrays) and .embedding.npz (what the model tells tags from, with the times of each row), as --formats
asks; --embedding adds the last. A line tells which tags the recording bears, with their scores. Files and folders are
taken as by `musicnet transcribe`.
"""

from __future__ import annotations

from typing import Any

from absl import flags

import musicnet_tf.bin._recordings as recordings

_FORMATS = flags.DEFINE_list("formats", ["json", "csv", "png"], "Any of json, csv, jams, npz, png, embedding.")
_EMBEDDING = flags.DEFINE_bool("embedding", False, "Write the embedding, too, as --formats=…,embedding does.")
_AGGREGATE = flags.DEFINE_enum(
    "aggregate",
    None,
    ["mean", "max", "vote"],
    "How the scores of stretches become that of the recording: mean, max, or vote, the share of those that bear the"
    " tag.",
)
_OF = flags.DEFINE_enum("of", None, ["probabilities", "logits"], "What mean and max are taken of.")
_THRESHOLD = flags.DEFINE_float(
    "threshold",
    None,
    "Score from which on a tag is borne, in place of the model's, also where that has one for each tag.",
    lower_bound=0.0,
    upper_bound=1.0,
)
_TOP = flags.DEFINE_integer("top", None, "Tell the tags of the highest scores, so many; 0 for all.", lower_bound=0)
flags.adopt_module_key_flags(recordings)


def main(argv: list[str]) -> int:
    """Tags what argv names and returns 1 if any recording failed."""
    params: dict[str, Any] = {
        "aggregate": _AGGREGATE.value,
        "of": _OF.value,
        "threshold": _THRESHOLD.value,
        "thresholds": None if _THRESHOLD.value is None else {},
        "top": _TOP.value,
    }
    formats = [*_FORMATS.value, *(["embedding"] if _EMBEDDING.value else [])]
    return recordings.run("tag", argv[1:], "tags", formats, params)

"""Folder of MIDI, MusicXML or label files → rendered audio with exact labels, as records; needs `musicnet_tf[beam]`.

    musicnet synthesize ~/midi --output_dir=data/records/rendered --variants=2 --num_workers=4

Each score gives an excerpt, played by FluidSynth on soundfonts chosen for each voice, a little out of tune, with a
balance, a touch and a tempo of its own; then it goes through a room, an equaliser, noise, a codec and the like. All of
it can be set: `--set effects.noise.probability=0`, `--set soundfonts='[a.sf2]'` (see the corpus `rendered`). Works
that this project tests or validates on are left out. A second run skips the shards that are done.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import cast

from absl import app, flags

_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder for the records.", required=True)
_VARIANTS = flags.DEFINE_integer("variants", 1, "Of each excerpt, each in other sound.", lower_bound=1)
_EXCERPTS = flags.DEFINE_integer("excerpts_per_score", 1, "Of each score, at independent places.", lower_bound=1)
_SECONDS = flags.DEFINE_float("seconds", 75.0, "Length of an excerpt; 0: whole scores.", lower_bound=0.0)
_RECORD_SECONDS = flags.DEFINE_float(
    "record_seconds", 30.0, "Length of one record, at least that of a model's window.", lower_bound=1.0
)
_SEED = flags.DEFINE_integer("seed", 0, "Changes every choice.")
_SET = flags.DEFINE_multi_string("set", [], "Any other option of the corpus, key=value in YAML; may be given again.")
_SAMPLE_RATE = flags.DEFINE_integer("sample_rate", 16000, "Of the audio in the records; models say which they take.")
_ENCODING = flags.DEFINE_enum(
    "encoding", "auto", ["auto", "flac", "pcm_s16le"], "Of the audio; auto: flac where tensorflow-io loads."
)
_RECORDINGS_PER_SHARD = flags.DEFINE_integer("recordings_per_shard", 8, "Recordings in one file.", lower_bound=1)
_RUNNER = flags.DEFINE_string("runner", "FnApiRunner", "Apache Beam runner; the default runs in this process.")
_NUM_WORKERS = flags.DEFINE_integer("num_workers", 1, "Processes of the in-process runner.", lower_bound=1)
_BEAM_OPTION = flags.DEFINE_multi_string("beam_option", [], "Any other Beam option, key=value; may be given again.")
_STRICT = flags.DEFINE_bool("strict", False, "Exit with status 1 where any score failed.")


def main(argv: list[str]) -> int:
    """Synthesises a folder of scores; gives the exit status."""
    if len(argv) != 2:
        raise app.UsageError("expected one folder of scores")
    from musicnet_tf.audio import Encoding
    from musicnet_tf.validation import parse_overrides
    from pipelines import build_records, synthesize  # bring Beam and TensorFlow

    flagged = {
        "variants": _VARIANTS.value,
        "excerpts_per_score": _EXCERPTS.value,
        "excerpt_seconds": _SECONDS.value or None,
        "seed": _SEED.value,
    }
    settings = synthesize.settings(
        Path(argv[1]).expanduser(),
        {**flagged, **parse_overrides(_SET.value)},
        sample_rate=_SAMPLE_RATE.value,
        excerpt_seconds=_RECORD_SECONDS.value,
        encoding=None if _ENCODING.value == "auto" else cast(Encoding, _ENCODING.value),
        recordings_per_shard=_RECORDINGS_PER_SHARD.value,
    )
    options = synthesize.beam_options(_RUNNER.value, _NUM_WORKERS.value, _BEAM_OPTION.value)
    started = time.monotonic()
    info = build_records.build(settings, Path(_OUTPUT_DIR.value).expanduser(), options)
    for split, totals in info.splits.items():
        numbers = f"{totals['recordings']:5.0f} recordings  {totals['hours']:7.2f} h  {totals['notes']:8.0f} notes"
        print(f"{split:10s} {numbers}")
    print(f"in {time.monotonic() - started:.0f} s")
    for name, why in info.failed.items():
        print(f"left out   {name}: {why}")
    return 1 if info.failed and _STRICT.value else 0

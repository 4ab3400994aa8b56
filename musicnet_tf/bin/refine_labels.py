"""Move labels that lie near onto the onsets that a transcription model hears.

Examples:
    musicnet refine_labels prelude.flac prelude.csv --output_dir=OUT
    musicnet refine_labels musicnet/train_data musicnet/train_labels --output_dir=OUT
    musicnet refine_labels --manifest=pairs.csv --output_dir=OUT

The labels (MusicNet's CSV, MAPS' tables or MIDI) are warped onto the model's activations within --reach seconds, then
each note takes an onset of its own pitch that is heard nearby; what is not heard moves with its neighbours. Of two
folders, files of the same name are paired; a manifest is a table with the columns audio and labels, its paths relative
to itself. A pair that fails is named and the others go on; the exit status is 1 then.

OUT gets the labels in their own form and order, all columns but the times as given (of MIDI, MusicNet's CSV);
<name>.moved.csv, row for row how far each onset moved and the confidence in it; and refine_labels.json. The table tells
before → after: the share of misaligned labels as `musicnet check_labels` estimates it, without the model; onset F1 of
the model's transcription against the labels, which rises by more than they got better; how far onsets moved,
and by what constant: a model puts onsets where its training labels did, the shipped one onto the sound, which
is 0.03 s earlier than MusicNet's labels say.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from absl import app, flags

if TYPE_CHECKING:
    from musicnet_tf.alignment.refine import RefineSettings
    from musicnet_tf.alignment.refine_report import Pair, RefineReport, Scores
    from musicnet_tf.decode.notes import NoteDecoding
    from musicnet_tf.inference import Predictor

_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder for the outputs; made if need be.", required=True)
_MANIFEST = flags.DEFINE_string("manifest", None, "Table of pairs, instead of AUDIO and LABELS.")
_MODEL = flags.DEFINE_string("model", None, "A shipped model's name (`musicnet list`), or a run's or export's folder.")
_REACH = flags.DEFINE_float("reach", None, "Seconds by which labels may be off; 1.5 by default.")


def main(argv: list[str]) -> int:
    """Refines what argv names and returns 1 if any pair failed."""
    if bool(_MANIFEST.value) == bool(argv[1:]) or len(argv) not in (1, 3):
        raise app.UsageError("give AUDIO and LABELS (two files or two folders), or --manifest alone")
    from musicnet_tf import files, validation
    from musicnet_tf.alignment import refine_report
    from musicnet_tf.alignment.refine import RefineSettings

    options = {} if _REACH.value is None else {"reach": _REACH.value}
    settings = validation.construct(RefineSettings, options, "flags")
    pairs, missing = (
        (refine_report.read_manifest(_MANIFEST.value), dict[str, str]())
        if _MANIFEST.value
        else refine_report.find_pairs(argv[1], argv[2])
    )
    folder = files.make_folder(_OUTPUT_DIR.value)
    report = _refine(pairs, settings, folder)
    report.failed |= missing
    files.write_json(folder / refine_report.JSON_NAME, report.to_json())
    return _show(report, folder)


def _refine(pairs: list[Pair], settings: RefineSettings, folder: Path) -> RefineReport:
    from tqdm import tqdm

    from musicnet_tf import decode, inference
    from musicnet_tf.alignment.refine_report import RefineReport
    from musicnet_tf.errors import MusicNetError

    predictor = inference.load(_MODEL.value or inference.DEFAULT_MODEL)
    decoding = decode.decoding_of(predictor.manifest, "notes")
    report = RefineReport({"model": predictor.manifest.name, **settings.model_dump(mode="json")})
    for pair in tqdm(pairs, unit="recording", disable=None):
        try:
            report.done[pair.name] = _refine_one(pair, predictor, decoding, settings, folder)
        except MusicNetError as error:
            report.failed[pair.name] = str(error)
    return report


def _refine_one(
    pair: Pair, predictor: Predictor, decoding: NoteDecoding, settings: RefineSettings, folder: Path
) -> Scores:
    from musicnet_tf import audio, scores
    from musicnet_tf.alignment import hearing, refine, refine_report

    refine_report.outputs(folder, pair)  # refuses before the work
    notes = scores.read(pair.labels)
    rate = predictor.manifest.geometry.clock.sample_rate
    sound = audio.load(pair.audio, rate)
    heard = hearing.hear(sound, rate, predictor)
    refined = refine.refine(notes, heard, settings)
    found = refine_report.score(refined, heard, decoding, sound, rate)
    refine_report.write(folder, pair, refined)
    return found


def _show(report: RefineReport, folder: Path) -> int:
    if report.done:
        print(report.table())
    for line in report.remarks():
        print(line)
    for name, reason in report.failed.items():
        print(f"musicnet refine_labels: error: {name}: {reason}", file=sys.stderr)
    failed = f", {len(report.failed)} failed" if report.failed else ""
    print(f"{len(report.done)} refined{failed}; outputs in {folder}")
    return 1 if report.failed else 0

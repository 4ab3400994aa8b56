"""Lay scores onto recordings: labels with a confidence, a picture, and a check by ear.

Examples:
    musicnet align AUDIO SCORE --output_dir=OUT
    musicnet align quartet.flac quartet.mxl --config=configs/alignment/paper.yaml --set features.hop_length=256
    musicnet align --manifest=pairs.csv --output_dir=OUT

Writes OUT/<audio's name>.csv (labels in MusicNet's columns), .confidence.csv (a line a note), .json (confidence,
findings, settings), .png (costs, path and labels) and .flac (left the recording, right the labels). Where the
pair should not be used, its labels go to .rejected.csv, and the exit status is 1.

Configs are in configs/alignment of the source tree; from there the name is enough: paper, paper_multiscale, chroma,
chroma_onset, pitch_onset (the best without TensorFlow), posteriorgram, best (the defaults). A manifest is a table
with the columns id, audio and score, its paths relative to itself, and runs as an Apache Beam job
(`musicnet_tf[beam]`): a pair that fails is told in OUT/report.html and the others go on; a second run skips what is
done.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from absl import app, flags

if TYPE_CHECKING:
    from musicnet_tf.alignment.result import Alignment
    from musicnet_tf.alignment.settings import Settings

_WRITING = "writing"
_BAR = "{desc:>28} |{bar:24}| {n_fmt}/{total_fmt} [{elapsed}]"

_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder for the outputs; made if need be.", required=True)
_MANIFEST = flags.DEFINE_string("manifest", None, "Table of pairs, instead of AUDIO and SCORE.")
_CONFIG = flags.DEFINE_string("config", None, "YAML file of settings, or the name of one in configs/alignment.")
_SET = flags.DEFINE_multi_string("set", [], "Overrides a setting, such as features.hop_length=512.")
_FORMATS = flags.DEFINE_list("formats", ["csv", "json", "png", "flac"], "Any of csv, json, png, flac.")
_SONIFY = flags.DEFINE_enum("sonify", "sine", ["sine", "piano"], "How labels are played in the .flac.")
_SOUNDFONT = flags.DEFINE_string("soundfont", None, "File that scores and piano labels are played on.")
_KEEP_REJECTED = flags.DEFINE_bool("keep_rejected", False, "Write labels of rejected pairs as any others, status 0.")
_TIMEOUT = flags.DEFINE_float("timeout", 1800.0, "Seconds for one pair of a manifest.", lower_bound=1.0)
_RUNNER = flags.DEFINE_string("runner", "FnApiRunner", "Apache Beam runner of a manifest.")
_NUM_WORKERS = flags.DEFINE_integer("num_workers", 1, "Pairs of a manifest at once.", lower_bound=1)
_BEAM_OPTION = flags.DEFINE_multi_string("beam_option", [], "Any other Beam option, key=value.")
_STRICT = flags.DEFINE_bool("strict", False, "Exit with status 1 where a pair of a manifest failed or was rejected.")


def main(argv: list[str]) -> int:
    """Aligns one pair or those of a manifest; gives the exit status."""
    if bool(_MANIFEST.value) == bool(argv[1:]) or len(argv) not in (1, 3):
        raise app.UsageError("give AUDIO and SCORE, or --manifest alone")
    from musicnet_tf.alignment import output, settings

    overrides = [*_SET.value, *([f"soundfont={_quoted(_SOUNDFONT.value)}"] if _SOUNDFONT.value else [])]
    chosen = settings.load_settings(_CONFIG.value, overrides)
    formats = output.check_formats(_FORMATS.value)
    if _MANIFEST.value:
        return _align_manifest(Path(_MANIFEST.value), chosen, formats)
    return _align_pair(Path(argv[1]), Path(argv[2]), chosen, formats)


def _align_pair(audio_path: Path, score_path: Path, settings: Settings, formats: Sequence[str]) -> int:
    from musicnet_tf import audio, files, scores
    from musicnet_tf.alignment import aligner, output
    from musicnet_tf.alignment.sonify import Voice
    from musicnet_tf.errors import AlignmentError, AudioError, ScoreError

    output.check_place(_OUTPUT_DIR.value, audio_path.stem, formats, [audio_path, score_path])
    score = scores.read_score(score_path, constant_tempo=settings.tempo == "constant")
    sample_rate = audio.probe(audio_path).sample_rate
    sound = audio.load(audio_path)
    folder = files.make_folder(_OUTPUT_DIR.value)
    with _progress((*aligner.STAGES, _WRITING)) as tell:
        try:
            found = aligner.align(sound, sample_rate, score, settings, progress=tell)
        except (AlignmentError, AudioError, ScoreError) as error:
            raise type(error)(f"{audio_path}, {score_path}: {error}") from error
        told = {"audio": files.printable(audio_path.name), "score": files.printable(score_path.name)}
        found = dataclasses.replace(found, details={**told, **found.details})
        tell(_WRITING)
        written = output.write(
            found,
            folder,
            audio_path.stem,
            audio=sound,
            sample_rate=sample_rate,
            score=score,
            formats=formats,
            title=files.printable(audio_path.stem),
            voice=cast(Voice, _SONIFY.value),
            soundfont=settings.soundfont,
            keep_rejected=_KEEP_REJECTED.value,
        )
    _report(files.printable(audio_path.stem), found, written)
    if found.accepted:
        return 0
    why = next(finding.message for finding in found.findings if finding.rejects)
    print(f"musicnet align: error: {audio_path}: rejected: {why}", file=sys.stderr)
    return 0 if _KEEP_REJECTED.value else 1


@contextlib.contextmanager
def _progress(stages: Sequence[str]) -> Iterator[Callable[[str], None]]:
    """A bar that shows the stage it is told and how many of `stages` lie behind; on a terminal alone."""
    from tqdm import tqdm

    with tqdm(total=len(stages), leave=False, disable=None, bar_format=_BAR) as bar:

        def tell(stage: str) -> None:
            bar.n = stages.index(stage)  # a stage may be left out
            bar.set_description_str(stage)

        yield tell


def _report(name: str, found: Alignment, written: Sequence[Path]) -> None:
    from musicnet_tf import files
    from musicnet_tf.plots import time_label

    length = time_label(round(found.duration))
    print(f"{name}: {len(found.notes)} labels in {length} of audio, confidence {found.confidence:.2f}")
    for finding in found.findings:
        print(f"  {'REJECTED: ' if finding.rejects else ''}{finding.message}")
    print(f"  wrote {files.printable(', '.join(map(str, written)))}")


def _align_manifest(manifest: Path, settings: Settings, formats: Sequence[str]) -> int:
    if _SONIFY.value != "sine":
        raise app.UsageError("--sonify is for one pair; a manifest's labels are played as sines")
    from pipelines import align as job  # brings Beam

    options = job.beam_options(_RUNNER.value, _NUM_WORKERS.value, _BEAM_OPTION.value)
    report = job.align_pairs(
        manifest,
        Path(_OUTPUT_DIR.value),
        settings,
        options=options,
        timeout=_TIMEOUT.value,
        formats=formats,
        keep_rejected=_KEEP_REJECTED.value,
    )
    for row in report.rows:
        if row.status != "accepted":
            print(f"{row.status:9s}  {row.id}: {'; '.join(row.findings)}")
    counts = report.counts()
    told = ", ".join(f"{number} {what}" for what, number in counts.items() if number or what == "accepted")
    print(f"{told}; outputs and report.html in {_OUTPUT_DIR.value}")
    return 1 if _STRICT.value and counts["accepted"] < len(report.rows) else 0


def _quoted(text: str) -> str:
    """As YAML, in which a path may otherwise mean something."""
    return "'" + text.replace("'", "''") + "'"

"""Estimate how many labels of a recording or a corpus do not lie where their notes begin.

Examples:
    musicnet check_labels prelude.flac prelude.csv --output_dir=OUT
    musicnet check_labels prelude.flac prelude.csv --num_clips=5 --seed=1 --output_dir=OUT --slow
    musicnet check_labels --dataset=musicnet --data_dir=CORPUS --split=train

The protocol of the MusicNet paper's appendix A, with a test of onsets in place of two musicians. Of one recording all
is judged, or --num_clips clips; of a corpus 30 clips, spread over ensembles. The table shows the estimated share of
misaligned labels with a 95% interval over clips; that share if every undecided label were right (optimistic) or wrong
(pessimistic); and by how much the sound comes later than all labels, which is removed before they are judged.

OUT gets label_check.json, label_check.csv (a row a label) and each clip as stereo FLAC with the recording left and
a sine at each label right, for a check by ear.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from absl import app, flags

from musicnet_tf.datasets import SPLITS

if TYPE_CHECKING:
    import numpy as np

    from musicnet_tf.alignment.label_check import CheckSettings
    from musicnet_tf.alignment.label_clips import Clip, LabelReport
    from musicnet_tf.datasets import Dataset, Recording
    from musicnet_tf.events import Notes

_SAMPLE_RATE = 16000
_CORPUS_CLIPS = 30  # as in the paper

_NUM_CLIPS = flags.DEFINE_integer(
    "num_clips", None, "Clips to judge; by default all of one recording, and 30 of a corpus.", lower_bound=1
)
_CLIP_SECONDS = flags.DEFINE_float("clip_seconds", 30.0, "Length of a clip.", lower_bound=1.0)
_SEED = flags.DEFINE_integer("seed", 0, "Draws the clips.", lower_bound=0)
_TOLERANCE = flags.DEFINE_float("tolerance", 0.05, "Seconds by which an onset may lie off its label.")
_REMOVE_OFFSET = flags.DEFINE_bool("remove_offset", True, "Judge labels after removing a constant shift of them all.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Where to write results and clips; nowhere if not given.")
_SLOW = flags.DEFINE_bool("slow", False, "Write the clips at a quarter of their speed, pitch kept.")
_DATASET = flags.DEFINE_string("dataset", None, "Corpus to check, as in `musicnet list`.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder that holds the corpus.")
_SET = flags.DEFINE_multi_string("set", [], "Sets a field of the corpus, such as delay=0.03; may be given again.")
_SPLIT = flags.DEFINE_enum("split", "all", [*SPLITS, "all"], "Part of the corpus.")
_RECORDINGS = flags.DEFINE_list("recordings", [], "Only these recordings of the split.")


def main(argv: list[str]) -> int:
    """Checks what the flags say; 1 if any recording could not be checked."""
    _check_usage(argv)
    from musicnet_tf import files
    from musicnet_tf.alignment.label_check import CheckSettings
    from musicnet_tf.alignment.label_clips import LabelReport
    from musicnet_tf.validation import construct

    options = {"tolerance": _TOLERANCE.value, "remove_offset": _REMOVE_OFFSET.value}
    settings = construct(CheckSettings, options, "flags")
    if _OUTPUT_DIR.value:
        files.make_folder(_OUTPUT_DIR.value)  # before the work, not after it
    report = LabelReport({**settings.model_dump(), "clip_seconds": _CLIP_SECONDS.value, "seed": _SEED.value})
    if argv[1:]:
        _check_pair(Path(argv[1]), Path(argv[2]), settings, report)
    else:
        _check_corpus(settings, report)
    return _show(report)


def _check_usage(argv: list[str]) -> None:
    of_corpus = [_DATASET.value, _DATA_DIR.value]
    if len(argv) != (1 if any(of_corpus) else 3) or any(of_corpus) != all(of_corpus):
        raise app.UsageError("give AUDIO and LABELS, or --dataset and --data_dir")
    for flag in (_SET, _SPLIT, _RECORDINGS):
        if argv[1:] and flag.present:
            raise app.UsageError(f"--{flag.name} is of a corpus; leave it out with AUDIO and LABELS")
    if _SLOW.value and not _OUTPUT_DIR.value:
        raise app.UsageError("--slow needs an --output_dir to write clips to")


def _check_pair(audio_path: Path, labels: Path, settings: CheckSettings, report: LabelReport) -> None:
    from musicnet_tf import audio, scores
    from musicnet_tf.alignment import label_clips

    notes = scores.read(labels)
    sound = audio.load(audio_path, _SAMPLE_RATE)
    duration = len(sound) / _SAMPLE_RATE
    if _NUM_CLIPS.value:
        clips = label_clips.draw(_rng(), notes, duration, _NUM_CLIPS.value, _CLIP_SECONDS.value)
    else:
        clips = label_clips.whole(notes, duration, _CLIP_SECONDS.value)
    report.settings |= {"audio": audio_path.name, "labels": labels.name}
    _check_one(audio_path.stem, sound, notes, clips, settings, report)


def _check_corpus(settings: CheckSettings, report: LabelReport) -> None:
    from tqdm import tqdm

    from musicnet_tf.alignment import label_clips
    from musicnet_tf.errors import DatasetError, MusicNetError

    dataset, rng = _corpus(_DATASET.value or "", _DATA_DIR.value or ""), _rng()
    chosen = {recording.id: recording for recording in _select(dataset)}
    groups = dict(_groups(dataset, chosen, report))
    drawn = label_clips.spread(rng, groups, _NUM_CLIPS.value or _CORPUS_CLIPS)
    report.settings |= {"dataset": dataset.model_dump(mode="json"), "split": _SPLIT.value}
    for name in tqdm(sorted(drawn), unit="recording", disable=None):
        try:
            notes = dataset.load_notes(chosen[name])
            sound = dataset.load_audio(chosen[name], _SAMPLE_RATE)
            duration = len(sound) / _SAMPLE_RATE
            clips = label_clips.draw(rng, notes, duration, drawn[name], _CLIP_SECONDS.value)
            _check_one(name, sound, notes, clips, settings, report)
        except MusicNetError as error:
            report.failed[name] = str(error)
    if not report.checked:
        reasons = "; ".join(f"{name}: {why}" for name, why in report.failed.items())
        raise DatasetError(f"{dataset.root}: no recording could be checked ({reasons})")


def _check_one(
    name: str,
    sound: np.ndarray,
    notes: Notes,
    clips: tuple[Clip, ...],
    settings: CheckSettings,
    report: LabelReport,
) -> None:
    from musicnet_tf.alignment import label_clips

    checked = label_clips.check(sound, _SAMPLE_RATE, notes, clips, settings)
    if _OUTPUT_DIR.value:
        label_clips.write_sounds(Path(_OUTPUT_DIR.value), name, sound, _SAMPLE_RATE, checked, _SLOW.value)
    report.checked[name] = checked


def _corpus(name: str, root: str) -> Dataset:
    from musicnet_tf import validation
    from musicnet_tf.registry import DATASETS

    options = {**validation.parse_overrides(_SET.value), "root": Path(root)}
    return validation.construct(DATASETS.get(name), options, f"corpus {name!r}")


def _select(dataset: Dataset) -> list[Recording]:
    from musicnet_tf.errors import DatasetError
    from musicnet_tf.registry import nearest

    known = {r.id: r for r in dataset.recordings() if _SPLIT.value in (r.split, "all")}
    for name in _RECORDINGS.value:
        if name not in known:
            raise DatasetError(f"{dataset.root}: no recording {name!r} in split {_SPLIT.value!r}{nearest(name, known)}")
    if not known:
        raise DatasetError(f"{dataset.root}: {dataset.name} has no recording in split {_SPLIT.value!r}")
    return [known[name] for name in dict.fromkeys(_RECORDINGS.value)] or list(known.values())


def _groups(
    dataset: Dataset, recordings: dict[str, Recording], report: LabelReport
) -> Iterator[tuple[str, tuple[object, ...]]]:
    """Each recording with its ensemble and instruments."""
    from musicnet_tf.errors import MusicNetError

    for name, recording in recordings.items():
        try:
            instruments = sorted(set(dataset.load_notes(recording).instrument.tolist()))
        except MusicNetError as error:
            report.failed[name] = str(error)
            continue
        yield name, (recording.metadata.get("ensemble", ""), *instruments)


def _rng() -> np.random.Generator:
    import numpy as np

    return np.random.default_rng(_SEED.value)


def _show(report: LabelReport) -> int:
    print(report.table())
    for line in report.remarks():
        print(line, file=sys.stderr if line.split(": ")[0] in report.failed else sys.stdout)
    if _OUTPUT_DIR.value:
        for path in report.write(Path(_OUTPUT_DIR.value)):
            print(f"wrote {path}")
    return 1 if report.failed else 0

"""Score a model on a corpus, or a folder of transcriptions against references.

Examples:
    musicnet evaluate --model=NAME --dataset=maps --data_dir=MAPS --split=validation --output_dir=OUT
    musicnet evaluate --estimates=TRANSCRIBED --references=LABELS --output_dir=OUT
    musicnet evaluate --model=RUN --dataset=maps --data_dir=MAPS --dataset=bach10 --data_dir=BACH10 \\
        --set='maps.delay={ENSTDkAm: 0.03}' --choose_thresholds --write_manifest
    musicnet evaluate --model=beats_tcn --records=RECORDS --split=test
    musicnet evaluate --estimates=TAGGED --references=LABELS --task=tags

What is scored is the model's task. Notes: decoded notes, frames, and the MusicNet paper's protocol; references may be
MusicNet CSV, MAPS tables or MIDI. Beats: mir_eval's F-measure within 70 ms, Cemgil, Goto, P-score, CMLc, CMLt, AMLc,
AMLt and information gain, and the F-measure of downbeats; as in mir_eval, without the first 5 seconds of each
recording, unless --trim_seconds=0. Pieces whose downbeats are not told are counted, and not scored for them. Tags, of
each stretch that the model tells of and of whole recordings: F at the thresholds, ROC-AUC and PR-AUC with what it would
be by chance, over tags (macro) and over all (micro), top 1 and 3, and a table of all tags; those that nothing bears are
in no mean. References of tags are lines of start, stop and tag (.lab), or labels of notes, for the instruments.

Prints a row a piece, the mean, and of notes and tags the scores pooled over all; with --output_dir also writes
evaluation.json, which holds every score, and evaluation.png. Exits with 1 if a piece could not be read, or with
--strict if one has no partner.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import app, flags

from musicnet_tf import files
from musicnet_tf.datasets import SPLITS, Dataset
from musicnet_tf.errors import ConfigError, DatasetError, ModelError
from musicnet_tf.manifest import FILENAME, Manifest

if TYPE_CHECKING:
    from musicnet_tf.evaluation import Predictor
    from musicnet_tf.metrics.report import Report

THRESHOLDS_NAME = "thresholds.json"

_MODEL = flags.DEFINE_string("model", None, "Name of a shipped model, or folder of a trained or exported one.")
_DATASET = flags.DEFINE_multi_string(
    "dataset",
    None,
    "Corpus to score the model on, as in `musicnet list`. With --choose_thresholds may be given again, each with its"
    " --data_dir: the corpora then count alike, however many pieces they have.",
)
_DATA_DIR = flags.DEFINE_multi_string("data_dir", None, "Folder that holds the corpus.")
_SET = flags.DEFINE_multi_string(
    "set",
    [],
    "Sets a field of the corpus, such as delay={ENSTDkAm: 0.03} of maps, or maps.delay={…} where there are"
    " several corpora; may be given again.",
)
_RECORDS = flags.DEFINE_multi_string(
    "records",
    None,
    "Folder of records to score the model on, in place of a corpus: what had to be rendered need not be again. With"
    " --choose_thresholds may be given again, and beside corpora.",
)
_SPLIT = flags.DEFINE_enum("split", "validation", [*SPLITS, "all"], "Part of the corpus.")
_RECORDINGS = flags.DEFINE_list("recordings", [], "Only these recordings of the split.")
_ESTIMATES = flags.DEFINE_string("estimates", None, "Folder of transcriptions, paired with --references by name.")
_REFERENCES = flags.DEFINE_string(
    "references",
    None,
    "Folder of labels: MusicNet CSV, MAPS tables, MIDI; with --task=beats .beats and .txt, with --task=tags .lab too.",
)
_TASK = flags.DEFINE_string("task", "notes", "Of --estimates; of a model, its manifest tells the task.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Where to write JSON and figure; nowhere if not given.")
_CHOOSE = flags.DEFINE_bool(
    "choose_thresholds",
    False,
    f"Instead of scoring, search the decoder's thresholds on the split; writes {THRESHOLDS_NAME}.",
)
_THRESHOLDS = flags.DEFINE_string(
    "thresholds", None, f"A {THRESHOLDS_NAME} to score with, in place of the thresholds in the model's manifest."
)
_PROTOCOL = flags.DEFINE_enum(
    "protocol",
    "midpoint",
    ["midpoint", "thickstun2018"],
    "Points of the MusicNet protocol: the paper's 7,752, or the 7,500 of its authors' public code.",
)
_PROTOCOL_THRESHOLD = flags.DEFINE_enum(
    "protocol_threshold",
    "posteriorgram",
    ["posteriorgram", "train"],
    "The threshold c of the MusicNet protocol: that of the posteriorgram, from the manifest or --thresholds; or, as in"
    " the paper, searched on sampled points of the corpus's split for training.",
)
_TRIM = flags.DEFINE_float(
    "trim_seconds",
    None,
    "Of scores of beats: those before it count on neither side; by default mir_eval's 5, and 0 for all.",
    lower_bound=0.0,
)
_LEAST = flags.DEFINE_float(
    "least_seconds",
    None,
    "Of scores of tags: what bears a tag for no longer does not count as bearing it; by default as in the training.",
    lower_bound=0.0,
)
_WRITE_MANIFEST = flags.DEFINE_bool(
    "write_manifest",
    False,
    "Record the chosen thresholds, or the scores (means over pieces, and those that only all together have), in"
    " the manifest of the --model folder. Scores are recorded of whole splits alone, with the manifest's thresholds;"
    " new thresholds remove those of the old.",
)
_STRICT = flags.DEFINE_bool("strict", False, "Exit with 1 if an estimate or a reference has no partner.")

_OF_SCORING = (_THRESHOLDS, _PROTOCOL, _PROTOCOL_THRESHOLD)
_OF_MODELS = (_RECORDS, _SET, _SPLIT, _RECORDINGS, _CHOOSE, _WRITE_MANIFEST, *_OF_SCORING)


def main(argv: list[str]) -> int:
    """Evaluates as the flags say and returns the exit status."""
    _check_usage(argv)
    if _OUTPUT_DIR.value:
        files.make_folder(_OUTPUT_DIR.value)  # before the work, not after it
    if _ESTIMATES.value and _REFERENCES.value:
        from musicnet_tf import evaluation

        return _show(evaluation.evaluate_estimates(_ESTIMATES.value, _REFERENCES.value, _TASK.value, **_options()))
    return _with_model()


def _check_usage(argv: list[str]) -> None:
    if argv[1:]:
        raise app.UsageError(f"unexpected argument {argv[1]!r}; everything is named by a flag")
    by_folder = [_ESTIMATES.value, _REFERENCES.value]
    by_model = [_MODEL.value, _DATASET.value, _DATA_DIR.value, _RECORDS.value]
    corpora = all(by_model[1:3]) or (_RECORDS.value and not any(by_model[1:3]))
    if any(by_folder) == any(by_model) or not (all(by_folder) or (_MODEL.value and corpora)):
        raise app.UsageError(
            "give either --estimates and --references, or --model, --dataset and --data_dir, or --model and --records"
        )
    if any(by_folder):
        _refuse("--estimates and --references are scored without a --model", *_OF_MODELS)
        return
    _refuse("only --estimates and --references may lack partners", _STRICT)
    _refuse("a model's manifest tells its task", _TASK)
    if _CHOOSE.value:
        _refuse("--choose_thresholds does not score", *_OF_SCORING)
    elif _WRITE_MANIFEST.value:
        reason = "--write_manifest records what the manifest's own thresholds reach on a whole split"
        _refuse(reason, _RECORDINGS, _TRIM, _LEAST, *_OF_SCORING)
    _check_pairs()


def _check_pairs() -> None:
    names, folders, records = _DATASET.value or [], _DATA_DIR.value or [], _RECORDS.value or []
    if not names:
        _refuse("records have no options", _SET)
    if len(names) != len(folders) or len({*names}) != len(names):
        raise app.UsageError(f"give each --dataset once, with one --data_dir; got {len(names)} and {len(folders)}")
    if len(names) + len(records) > 1 and not _CHOOSE.value:
        raise app.UsageError("only --choose_thresholds takes several corpora; score them one by one")
    if len(names) + len(records) > 1:
        _refuse("recordings are named within one corpus", _RECORDINGS)


def _refuse(reason: str, *unfit: flags.FlagHolder) -> None:
    """Raises UsageError where one of these flags is given."""
    given = [f"--{flag.name}" for flag in unfit if flag.present and flag.value is not False]
    if given:
        raise app.UsageError(f"{reason}; leave out {', '.join(given)}")


def _with_model() -> int:
    datasets = _corpora()
    from musicnet_tf import evaluation, inference

    if _WRITE_MANIFEST.value and not (_model_folder() / FILENAME).is_file():
        raise ModelError(f"{_MODEL.value}: no folder with a {FILENAME}; --write_manifest needs one")
    for dataset in datasets:
        evaluation.select(dataset, _SPLIT.value, _RECORDINGS.value)  # a wrong name is told before the model loads
    if _search_c():
        evaluation.select(datasets[0], "train")
    predictor = inference.load(_MODEL.value or inference.DEFAULT_MODEL)
    return _choose(predictor, datasets) if _CHOOSE.value else _score(predictor, datasets[0])


def _corpora() -> list[Dataset]:
    from musicnet_tf import validation
    from musicnet_tf.datasets._recorded import Recorded
    from musicnet_tf.registry import DATASETS

    names, options = _DATASET.value or [], validation.parse_overrides(_SET.value)
    by_corpus = {names[0]: options} if len(names) == 1 else options
    for name in by_corpus:
        if name not in names or not isinstance(by_corpus[name], dict):
            raise ConfigError(f"--set {name}: with several corpora, begin with one of {', '.join(names)}, and a dot")
    corpora = [
        validation.construct(DATASETS.get(name), {**by_corpus.get(name, {}), "root": Path(root)}, f"corpus {name!r}")
        for name, root in zip(names, _DATA_DIR.value or [], strict=True)
    ]
    return [*corpora, *(Recorded(root=Path(folder)) for folder in _RECORDS.value or [])]


def _choose(predictor: Predictor, datasets: list[Dataset]) -> int:
    from musicnet_tf import evaluation

    chosen = evaluation.choose_thresholds(predictor, datasets, _SPLIT.value, _RECORDINGS.value, **_options())
    print(json.dumps(chosen.model_dump(mode="json"), indent=2, ensure_ascii=False))
    if _OUTPUT_DIR.value:
        path = Path(_OUTPUT_DIR.value, THRESHOLDS_NAME)
        chosen.write(path)
        print(f"wrote {path}")
    if _WRITE_MANIFEST.value:
        _replace_manifest(chosen.into)
    return 0


def _score(predictor: Predictor, dataset: Dataset) -> int:
    from musicnet_tf import evaluation
    from musicnet_tf.metrics import scorer_of

    kind = scorer_of(predictor.manifest)
    thresholds = kind.read_chosen(_THRESHOLDS.value) if _THRESHOLDS.value else None
    options = {**_options(), **_protocol(predictor, dataset)}
    report = evaluation.evaluate_model(predictor, dataset, _SPLIT.value, _RECORDINGS.value, thresholds, **options)
    status = _show(report)
    if _WRITE_MANIFEST.value:
        _record(report, dataset)
    return status


def _options() -> dict[str, float]:
    """Those of the task's scores that are given."""
    return {flag.name: flag.value for flag in (_TRIM, _LEAST) if flag.value is not None}


def _protocol(predictor: Predictor, dataset: Dataset) -> dict[str, Any]:
    """What the flags say of the MusicNet protocol; nothing, where they are not given."""
    if not _PROTOCOL.present and not _PROTOCOL_THRESHOLD.present:
        return {}
    from musicnet_tf import evaluation
    from musicnet_tf.metrics.protocol import Protocol

    protocol = Protocol(_PROTOCOL.value)  # type: ignore[arg-type]  # one of the flag's values
    c = evaluation.search_protocol_threshold(predictor, dataset, protocol) if _search_c() else None
    return {"protocol": protocol, "c": c}


def _search_c() -> bool:
    return _PROTOCOL_THRESHOLD.value == "train"


def _record(report: Report, dataset: Dataset) -> None:
    """Into the manifest, under a name that tells options of the corpus too, for they move scores; records have theirs
    in their own."""
    name = " ".join([f"{getattr(dataset, 'folder', dataset.name)}/{_SPLIT.value}", *_SET.value])
    if report.failed:
        raise DatasetError(
            f"{_model_folder() / FILENAME}: not changed, for without {', '.join(report.failed)} the scores"
            f" are not those of {name}; mend what failed and evaluate again"
        )
    _replace_manifest(lambda manifest: manifest.with_scores(name, {**report.pooled, **report.mean}))


def _replace_manifest(change: Callable[[Manifest], Manifest]) -> None:
    folder = _model_folder()
    change(Manifest.read(folder)).write(folder)
    print(f"updated {folder / FILENAME}")


def _model_folder() -> Path:
    """The folder that the model is loaded from."""
    from musicnet_tf import inference

    return inference.locate(_MODEL.value or inference.DEFAULT_MODEL)


def _show(report: Report) -> int:
    print("settings:", json.dumps(report.settings, ensure_ascii=False))
    print(report.table())
    for line in report.remarks():
        print(line, file=sys.stderr)
    if _OUTPUT_DIR.value:
        for path in report.write(_OUTPUT_DIR.value):
            print(f"wrote {path}")
    unpaired = any(report.unpaired.values())
    return 1 if report.failed or (_STRICT.value and unpaired) else 0

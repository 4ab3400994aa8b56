"""Evaluation of tags from sound to figures: of a model, of folders, and the choice of thresholds."""

import json
from pathlib import Path

import numpy as np
import pytest
from tone_corpus import HERTZ, LOUDNESS, RECORDINGS, SAMPLE_RATE, ToneEar, Tones

from musicnet_tf import evaluation, inference, scores, tag_writers
from musicnet_tf.datasets._recorded import Recorded
from musicnet_tf.decode.tags import TagDecoding, decode
from musicnet_tf.errors import ConfigError, DatasetError, ScoreError
from musicnet_tf.events import Note, Notes, TagSpans
from musicnet_tf.manifest import Manifest
from musicnet_tf.metrics import Heard, tag_files, tag_search
from musicnet_tf.metrics.tag_search import TagParameters


@pytest.fixture
def corpus(tmp_path) -> Tones:
    return Tones(root=tmp_path)


def test_a_model_is_scored_by_frame_and_by_recording(corpus):
    report = evaluation.evaluate_model(ToneEar(), corpus, "test")
    assert list(report.pieces) == ["brief", "trio"]
    assert report.left_out == {"bear no tag that the model tells": ["silent"]}
    # Of trio's frames 8 are low, 3 mid and 3 high, whose tone is too soft by far; of brief's 5 low, and the 4th mid
    # too, a fifth of it, and not heard.
    trio, brief = report.pieces["trio"], report.pieces["brief"]
    assert trio["frame/micro/precision"] == 1 and trio["frame/micro/recall"] == pytest.approx(11 / 14)
    assert brief["frame/micro/recall"] == pytest.approx(5 / 6) and brief["frame/micro/pr_floor"] == pytest.approx(
        6 / 20
    )
    assert report.pooled["frame/micro/recall"] == pytest.approx(16 / 20)
    # The means over trio: low 1, mid 3/8 of .75, high 3/8 of .25: found is low.
    assert trio["recording/micro/precision"] == 1 and trio["recording/micro/recall"] == pytest.approx(1 / 3)
    assert trio["recording/top1"] == trio["recording/top3"] == 1
    by_class = report.by_class["frame"]
    assert [row["positives"] for row in by_class.values()] == [13, 4, 3, 0]
    assert [row["found"] for row in by_class.values()] == [13, 3, 0, 0]
    assert by_class["low"]["f1"] == 1 and by_class["mid"]["recall"] == 3 / 4 and by_class["high"]["f1"] == 0
    assert by_class["never"] == {"positives": 0, "found": 0, "threshold": 0.5}
    whole = report.by_class["recording"]
    assert [row["positives"] for row in whole.values()] == [2, 2, 1, 0]
    # Nothing in silence ranks above what sounds: the scores of all three are told apart.
    assert [whole[tag]["roc_auc"] for tag in LOUDNESS] == [1, 1, 1]
    assert report.pooled["recording/macro/pr_auc"] == 1 and report.pooled["recording/macro/f1"] == pytest.approx(1 / 3)
    assert report.pooled["frame/macro/f1"] == pytest.approx(np.mean([by_class[tag]["f1"] for tag in LOUDNESS]))
    assert "frame/samples/f1" not in report.pooled and "recording/samples/f1" in report.pooled


def test_what_lasts_no_longer_than_the_least_is_not_borne(corpus):
    trained = evaluation.evaluate_model(ToneEar(least_seconds=0.25), corpus, "test")
    asked = evaluation.evaluate_model(ToneEar(), corpus, "test", least_seconds=0.25)
    assert trained.pieces == asked.pieces and trained.settings["least_seconds"] == 0.25
    assert trained.by_class["frame"]["mid"]["positives"] == 3 and trained.by_class["recording"]["mid"]["positives"] == 1
    assert trained.by_class["frame"]["mid"]["f1"] == 1


def test_pieces_without_scores_count_in_the_pool_or_are_told(corpus):
    told = evaluation.evaluate_model(ToneEar({"threshold": 0.0}), corpus, "test", ["silent", "trio"])
    assert told.by_class["recording"]["low"]["found"] == 2  # everything is found in silence, too
    assert told.pooled["recording/micro/precision"] == pytest.approx(3 / 8)
    report = evaluation.evaluate_model(ToneEar(), Tones(root=corpus.root, untold=True, broken=True), "test")
    assert report.left_out["tell no tags"] == ["untold"] and report.failed == {"broken": "broken.wav: cannot be read"}
    with pytest.raises(DatasetError, match="none of 1 pieces could be evaluated; silent: bear no tag that the model"):
        evaluation.evaluate_model(ToneEar(), corpus, "test", ["silent"])
    with pytest.raises(ConfigError, match="scores of tags have no option 'trim_seconds', only least_seconds"):
        evaluation.evaluate_model(ToneEar(), corpus, "test", trim_seconds=1.0)


def test_tags_that_exclude_one_another_have_an_accuracy(corpus):
    report = evaluation.evaluate_model(ToneEar({"exclusive": True}), corpus, "all")
    # Frames that bear just one: 4 of duo are low and 2 high (or both), 3 of solo, 3 of trio, 4 of brief.
    single = {"duo": 4, "solo": 3, "trio": 3, "brief": 4}
    assert {id: row["frame/accuracy"] for id, row in report.pieces.items()} == dict.fromkeys(sorted(single), 1)
    frame = report.confusion["frame"]
    assert frame["low"] == {"low": 9, "mid": 0, "high": 0, "never": 0} and frame["high"]["high"] == 2
    assert sum(sum(row.values()) for row in frame.values()) == sum(single.values())
    assert report.confusion["recording"]["mid"] == {"low": 0, "mid": 1, "high": 0, "never": 0}
    assert "threshold" not in report.by_class["frame"]["low"]
    assert "frame: true, taken for" in report.table() and "whole accuracy" in report.table()
    chosen = evaluation.choose_thresholds(ToneEar({"exclusive": True}), [corpus])
    assert chosen.decoder == TagDecoding(exclusive=True)
    # low is heard in its 4 frames and in the one of silence, mid in its 3, and high in 2 of 4, where low is silent.
    assert chosen.scores["frame/macro/f1"] == pytest.approx(np.mean([8 / 9, 1, 4 / 6]))
    assert chosen.scores["recording/macro/f1"] == pytest.approx(2 / 3)


def test_table_figure_and_json_tell_of_every_tag(corpus, tmp_path):
    report = evaluation.evaluate_model(ToneEar(), corpus, "test")
    pieces, frame, recording = report.table().split("\n\n")
    assert pieces.splitlines()[-1].split()[:4] == ["pooled", "1.000", "0.800", "0.889"] and "top 3" in pieces
    assert " ".join(frame.splitlines()[0].split()) == "frame true found threshold P R F ROC PR by chance"
    assert frame.splitlines()[2].split()[:5] == ["low", "13", "13", "0.500", "1.000"]
    assert frame.splitlines()[5].split() == ["never", "0", "0", "0.500", *["-"] * 6]
    averages = [line.split() for line in frame.splitlines()[-3:]]
    assert [row[0] for row in averages] == ["macro", "weighted", "micro"] and set(frame.splitlines()[-4]) == {"-"}
    assert averages[0][6] == f"{report.pooled['frame/macro/f1']:.3f}"
    assert recording.splitlines()[0].startswith("recording") and recording.splitlines()[-1].startswith("samples")
    assert "frame: nothing is never; in no mean over classes" in report.remarks()
    written = report.write(tmp_path / "out")
    told = json.loads(written[0].read_text())
    assert told["by_class"] == report.by_class and "confusion" not in told
    assert set(told["curves"]) == {"frame", "recording"} and told["pooled"]["frame/macro/pr_auc"] > 0.9
    figure = report.figure()
    assert [
        axes.get_title(loc) for loc, axes in zip(("center", "center", "left", "left"), figure.axes, strict=True)
    ] == ["", "all tags as one", "frame", "recording"]
    names = [text.get_text() for text in figure.axes[2].get_yticklabels()]
    assert names == ["low", "mid", "high"]  # of what never is, there is nothing to draw
    bars = [bar.get_width() for bar in figure.axes[2].containers[0]]
    assert bars == [report.by_class["frame"][tag]["f1"] for tag in names]


def test_curves_hold_the_points_of_all_thresholds(corpus):
    report = evaluation.evaluate_model(ToneEar(), corpus, "test")
    curve = report.curves["frame"]
    low = np.argmin(np.abs(np.array(curve["threshold"]) - 1.0))
    assert (curve["precision"][low], curve["recall"][low]) == (1.0, pytest.approx(13 / 20, abs=0.06))


def test_chosen_thresholds_serve_unseen_pieces(corpus, tmp_path):
    before = evaluation.evaluate_model(ToneEar(), corpus, "test").pooled
    chosen = evaluation.choose_thresholds(ToneEar(), [corpus])
    assert set(chosen.decoder.thresholds) == set(LOUDNESS) and chosen.not_chosen == ("never",)
    chosen.write(tmp_path / "thresholds.json")
    again = TagParameters.read(tmp_path / "thresholds.json")
    assert again == chosen
    own = evaluation.evaluate_model(ToneEar(), corpus, "validation", thresholds=again).pooled
    assert {name: own[name] for name in chosen.scores} == pytest.approx(chosen.scores)
    unseen = evaluation.evaluate_model(ToneEar(), corpus, "test", thresholds=again)
    assert before["frame/macro/f1"] < 0.7 and unseen.pooled["frame/macro/f1"] > 0.9
    assert unseen.by_class["frame"]["high"]["threshold"] == chosen.decoder.thresholds["high"] < 0.3


def test_thresholds_have_the_highest_sum_of_both_f_measures(corpus):
    """Against what evaluation reaches with each threshold of each tag."""
    ear = ToneEar({"aggregate": "vote"})
    chosen = evaluation.choose_thresholds(ear, [corpus])
    reached = []
    for threshold in tag_search.THRESHOLDS[9::16]:
        decoder = TagDecoding(aggregate="vote", threshold=threshold)
        report = evaluation.evaluate_model(ear, corpus, "validation", thresholds=TagParameters(decoder=decoder))
        reached.append([sum(report.by_class[grain][tag]["f1"] for grain in report.by_class) for tag in LOUDNESS])
    best = evaluation.evaluate_model(ear, corpus, "validation", thresholds=chosen)
    mine = [sum(best.by_class[grain][tag]["f1"] for grain in best.by_class) for tag in LOUDNESS]
    assert (np.array(mine) >= np.max(reached, axis=0) - 1e-12).all() and np.max(mine) > np.min(reached)


def heard(id: str, levels: list[float], spans: TagSpans) -> Heard:
    """A piece with the scores of tag `low`, of one second each."""
    values = np.zeros((len(levels), len(HERTZ)), np.float32)
    values[:, 0] = levels
    return Heard(id, spans, {"tag": values}, float(len(levels)))


def test_corpora_count_alike_however_many_pieces_they_have():
    """What finds all of one corpus finds too much in the other, what suits the other nothing of the first."""
    spec = ToneEar().manifest.geometry
    soft = heard("soft", [0.25, 0.25, 0.1, 0.1], TagSpans([0.0], [2.0], ["low"]))
    loud = heard("loud", [0.65, 0.4, 0.4, 0.4], TagSpans([0.0], [1.0], ["low"]))
    alone = tag_search.search_parameters([[soft]], spec, TagDecoding())
    assert alone.decoder.thresholds == {
        "low": 0.17
    }  # frames of .25, of a mean of .175: the nearest to .5 that finds both
    other = tag_search.search_parameters([[loud]], spec, TagDecoding())
    assert other.decoder.thresholds == {"low": 0.46}  # for the mean, .4625
    alike = tag_search.search_parameters([[soft], [loud]], spec, TagDecoding())
    many = tag_search.search_parameters([[soft], [loud] * 9], spec, TagDecoding())
    assert many.decoder == alike.decoder == alone.decoder and many.scores == pytest.approx(alike.scores)
    drowned = tag_search.search_parameters([[soft, *[loud] * 9]], spec, TagDecoding())
    assert drowned.decoder == other.decoder
    # Of ten pieces of four frames, each counted alike: 9 of 11 frames are found, and 9 of 10 recordings.
    assert [*drowned.scores.values()] == pytest.approx([2 * 9 / (9 + 11), 2 * 9 / (9 + 10)])
    with pytest.raises(DatasetError, match="bears a tag of the model, which are low, mid, high, never"):
        tag_search.search_parameters([[heard("none", [0.5], TagSpans.empty())]], spec, TagDecoding())


@pytest.fixture
def folders(corpus, tmp_path) -> tuple[Path, Path]:
    """What the ear hears of two pieces, as `musicnet tag` writes it, and what is true, as lines."""
    ear, (estimates, references) = ToneEar({"threshold": 0.2}), (tmp_path / "estimates", tmp_path / "references")
    for folder in (estimates, references):
        folder.mkdir()
    spec, decoder = ear.manifest.geometry, TagDecoding(threshold=0.2)
    for recording in evaluation.select(corpus, "test", ["brief", "trio"]):
        told = evaluation.listen(ear, corpus, recording)
        tags = decode(told.heads, spec, decoder, told.duration)
        tag_writers.write_json(estimates / f"{recording.id}.json", tags, told.duration)
        tag_writers.write_npz(estimates / f"{recording.id}.npz", tags)
        rows = [f"{start}\t{min(stop, told.duration)}\t{tag}" for start, stop, tag in RECORDINGS[recording.id][2]]
        (references / f"{recording.id}.lab").write_text("\n".join(["# start, stop, tag", *rows]) + "\n")
    return estimates, references


def test_files_score_as_the_model_that_wrote_them(folders, corpus):
    expected = evaluation.evaluate_model(ToneEar({"threshold": 0.2}), corpus, "test", ["brief", "trio"])
    report = evaluation.evaluate_estimates(*folders, "tags")
    assert report.pieces == {id: pytest.approx(row) for id, row in expected.pieces.items()}
    assert report.pooled == pytest.approx(expected.pooled)
    least = evaluation.evaluate_estimates(*folders, "tags", least_seconds=0.25)
    assert least.by_class["frame"]["mid"]["positives"] == report.by_class["frame"]["mid"]["positives"] - 1 == 3
    for path in folders[0].glob("*.npz"):
        path.unlink()
    by_json = evaluation.evaluate_estimates(*folders, "tags")  # which has four digits
    assert by_json.pooled == pytest.approx(expected.pooled, abs=1e-4)


def test_labels_of_notes_tell_instruments(tmp_path):
    notes = Notes.from_list(
        [Note(0, 2, 60, instrument=40), Note(1, 3, 64, instrument=40), Note(1, 2, 50, instrument=42)]
    )
    (tmp_path / "a.csv").write_text(scores.format_musicnet_csv(notes))
    assert tag_files.read_true(tmp_path / "a.csv") == TagSpans([0, 1], [3, 2], ["violin", "cello"])
    (tmp_path / "b.csv").write_text(scores.format_musicnet_csv(Notes.from_list([Note(0, 2, 60)])))
    with pytest.raises(ScoreError, match=r"b.csv: tells no instruments of its notes; use labels that do"):
        tag_files.read_true(tmp_path / "b.csv")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", "{", "a.json: not tags as `musicnet tag` writes them"),
        ("a.json", '{"tags": []}', "KeyError: 'timeline'"),
        (
            "a.json",
            '{"tags": [{"tag": "b", "score": 1, "present": true}],'
            ' "stretches": [], "timeline": {"start": [0, 1], "stop": [1, 2], "scores": {"b": [0]}}}',
            r"ValueError: cannot reshape",
        ),
        ("a.npz", "PK", "a.npz: not tags as `musicnet tag` writes them"),
        ("a.lab", "0 x y\n", "a.lab: not lines of start, stop and tag"),
        ("a.lab", "2 1 y\n", r"a.lab: not lines of .* .tag 0 .y.: must end after it begins"),
    ],
)
def test_damaged_files_are_told(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(ScoreError, match=message):
        (tag_files.read_true if name.endswith(".lab") else tag_files.read_heard)(tmp_path / name)
    with pytest.raises(ScoreError, match=r"missing.json: cannot be read"):
        tag_files.read_heard(tmp_path / "missing.json")


def test_stretches_in_lines_may_overlap_and_tags_have_several_words(tmp_path):
    (tmp_path / "a.lab").write_text("0\t2.5\tmale voice\n1 2 guitar\n")
    assert tag_files.read_true(tmp_path / "a.lab") == TagSpans([0, 1], [2.5, 2], ["male voice", "guitar"])
    (tmp_path / "none.lab").write_text("")
    assert len(tag_files.read_true(tmp_path / "none.lab")) == 0


@pytest.fixture(scope="module")
def records(tmp_path_factory) -> Path:
    """A set of records of the corpus, some of which begin in the midst of a tag."""
    from pipelines import build_records

    folder = tmp_path_factory.mktemp("records") / "tones_8000"
    settings = build_records.Settings(Tones(root=folder.parent, untold=True), SAMPLE_RATE, 2.5, "pcm_s16le", 2)
    build_records.build(settings, folder, build_records.beam_options("FnApiRunner"))
    return folder


@pytest.fixture
def run(tmp_path, monkeypatch) -> Path:
    """The folder of a model: its manifest on disk, and the ear where a trained network would be loaded."""

    def load(folder):
        loaded = ToneEar()
        loaded.manifest = Manifest.read(folder)
        return loaded

    monkeypatch.setattr(inference, "load", load)
    (tmp_path / "run").mkdir()
    ToneEar().manifest.write(tmp_path / "run")
    return tmp_path / "run"


def test_command_chooses_on_records_scores_them_and_records_both(musicnet, run, records, corpus, tmp_path):
    by_corpus = evaluation.evaluate_model(ToneEar(), corpus, "test")
    by_records = evaluation.evaluate_model(ToneEar(), Recorded(root=records), "test")
    assert by_records.by_class["frame"].keys() == by_corpus.by_class["frame"].keys()
    for tag, row in by_corpus.by_class["frame"].items():
        assert by_records.by_class["frame"][tag] == pytest.approx(row, abs=1e-3)
    assert by_records.left_out == {**by_corpus.left_out, "tell no tags": ["untold"]}

    flags = ["evaluate", f"--model={run}", f"--records={records}", f"--output_dir={tmp_path}", "--write_manifest"]
    done = musicnet(*flags, "--choose_thresholds")
    assert done.status == 0, done.stderr
    chosen = TagParameters.read(tmp_path / "thresholds.json")
    assert chosen.chosen_on["corpora"][0]["dataset"] == {"name": "records", "folder": "tones_8000"}
    assert Manifest.read(run).decoder["thresholds"] == chosen.decoder.thresholds
    done = musicnet(*flags, "--split=test")
    assert done.status == 0, done.stderr
    recorded = Manifest.read(run).scores["tones_8000/test"]
    assert recorded["frame/macro/pr_auc"] > 0.9 and recorded["frame/macro/f1"] > 0.9
    report = json.loads((tmp_path / "evaluation.json").read_text())
    assert recorded == {**report["pooled"], **report["mean"]}
    assert "1 pieces tell no tags, not scored for it: untold" in done.stderr
    assert "recording  true  found" in done.stdout


def test_command_scores_a_folder(musicnet, folders):
    estimates, references = folders
    done = musicnet("evaluate", f"--estimates={estimates}", f"--references={references}", "--task=tags")
    assert done.status == 0, done.stderr
    assert done.stdout.splitlines()[1].split()[0] == "piece" and "pooled" in done.stdout
    done = musicnet("evaluate", "--model=m", "--records=r", "--write_manifest", "--least_seconds=1")
    assert done.status == 2 and "leave out --least_seconds" in done.stderr

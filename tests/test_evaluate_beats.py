"""Evaluation of beats from sound to figures: of a model, of folders, and the choice of the decoder's parameters."""

import json
from pathlib import Path

import numpy as np
import pytest
from click_corpus import HOP, SAMPLE_RATE, ClickEar, Clicks, beats_of

from musicnet_tf import beat_writers, evaluation, inference
from musicnet_tf.datasets._recorded import Recorded
from musicnet_tf.decode.beats import BeatDecoding
from musicnet_tf.errors import ConfigError, DatasetError, ModelError
from musicnet_tf.events import Beats
from musicnet_tf.manifest import Manifest
from musicnet_tf.metrics import Heard, beat_search
from musicnet_tf.metrics.beat_search import BeatParameters

POOR = {"method": "peaks", "threshold": 0.99}


@pytest.fixture
def corpus(tmp_path) -> Clicks:
    return Clicks(root=tmp_path)


@pytest.fixture(scope="module")
def records(tmp_path_factory) -> Path:
    """A set of records of the corpus: two excerpts of a recording may lie on two sides of a bar."""
    from pipelines import build_records

    folder = tmp_path_factory.mktemp("records") / "clicks_8000"
    settings = build_records.Settings(Clicks(root=folder.parent), SAMPLE_RATE, 7.0, "pcm_s16le", 2)
    build_records.build(settings, folder, build_records.beam_options("FnApiRunner"))
    return folder


@pytest.fixture
def small_grid(monkeypatch):
    """A search of some ten settings."""
    monkeypatch.setattr(beat_search, "MAX_ROUNDS", 1)
    monkeypatch.setattr(beat_search, "THRESHOLDS", (0.3, 0.5))
    monkeypatch.setattr(beat_search, "LAMBDAS", {"transition_lambda": (60.0,)})
    monkeypatch.setattr(beat_search, "TEMPI", {"min_bpm": (55.0,)})
    for name in ("AUDIBLE", "BEAT_COSTS", "METER_CHANGES", "FACTORS"):
        monkeypatch.setattr(beat_search, name, ())
    monkeypatch.setattr(beat_search, "METERS", ((2, 4), (3, 4)))


def activations(beats: Beats, seconds: float) -> dict[str, np.ndarray]:
    """Peaks of 0.9 in the frames of beats, and in another head in those of downbeats."""
    heads = {name: np.full((round(seconds * SAMPLE_RATE / HOP), 1), 0.01, np.float32) for name in ("beat", "downbeat")}
    heads["beat"][np.rint(beats.time * SAMPLE_RATE / HOP).astype(int)] = 0.9
    heads["downbeat"][np.rint(beats.downbeats * SAMPLE_RATE / HOP).astype(int)] = 0.9
    return heads


def test_a_model_is_scored_from_sound_to_beats(corpus):
    report = evaluation.evaluate_model(ClickEar(), corpus, "test")
    assert list(report.pieces) == ["free", "vivace"]
    assert report.mean["beat/f1"] == report.mean["beat/cmlc"] == report.mean["downbeat/f1"] == 1
    assert "downbeat/f1" in report.pieces["vivace"] and "downbeat/f1" not in report.pieces["free"]
    assert report.left_out == {
        "tell no beat after 5 s": ["brief", "silent"],
        "tell no downbeat after 5 s": ["free"],
    }
    assert report.remarks()[0] == "2 pieces tell no beat after 5 s, not scored for it: brief, silent"
    assert report.settings["trim_seconds"] == 5 and report.settings["decoder"]["method"] == "dbn"
    assert report.pooled == report.curves == {}


def test_all_beats_count_where_that_is_asked(corpus):
    class Late(ClickEar):
        """Deaf to what is in the first window alone."""

        windows = 0

        def __call__(self, windows):
            heard = super().__call__(windows)
            for values in heard.values():
                values[: max(0, 1 - self.windows)] = 0
            self.windows += len(windows)
            return heard

    ear = Late({"method": "peaks", "threshold": 0.3})
    first = (250 - 2 * 10) * HOP / SAMPLE_RATE  # seconds of the first window: frames between its margins
    report = evaluation.evaluate_model(ear, corpus, "test", ["vivace"], trim_seconds=0.0)
    time = beats_of("vivace").time
    found = np.count_nonzero(time > first - 0.01)
    assert 0 < found < len(time)
    assert report.mean["beat/f1"] == pytest.approx(2 * found / (found + len(time)))
    assert (
        evaluation.evaluate_model(Late({"method": "peaks", "threshold": 0.3}), corpus, "test", ["vivace"]).mean[
            "beat/f1"
        ]
        == 1
    )


def test_a_model_without_downbeats_is_scored_for_its_beats(corpus):
    report = evaluation.evaluate_model(ClickEar(heads=("beat",)), corpus, "test")
    assert report.mean["beat/f1"] == 1 and "downbeat/f1" not in report.mean
    assert list(report.left_out) == ["tell no beat after 5 s"]


def test_what_cannot_be_scored_is_told(corpus):
    with pytest.raises(DatasetError, match="none of 2 pieces could be evaluated; brief: tell no beat after 5 s"):
        evaluation.evaluate_model(ClickEar(), corpus, "test", ["brief", "silent"])
    with pytest.raises(ConfigError, match="scores of beats have no option 'protocol', only trim_seconds"):
        evaluation.evaluate_model(ClickEar(), corpus, "test", protocol=None)

    class NotesAlone(Clicks):
        @classmethod
        def annotations(cls):
            return ("notes",)

    with pytest.raises(DatasetError, match="clicks tells no beats but notes; choose a corpus of beats"):
        evaluation.evaluate_model(ClickEar(), NotesAlone(root=corpus.root), "test")
    other = ClickEar()
    other.manifest = other.manifest.model_copy(update={"task": "dance"})
    with pytest.raises(
        ModelError, match="does task 'dance', which this program cannot score; it knows beats, notes, t"
    ):
        evaluation.evaluate_model(other, corpus, "test")
    report = evaluation.evaluate_model(ClickEar(), Clicks(root=corpus.root, broken=True), "validation")
    assert report.failed == {"broken": "broken.wav: cannot be read"} and len(report.pieces) == 2


def test_table_and_figure_have_the_scores_of_beats(corpus, tmp_path):
    report = evaluation.evaluate_model(ClickEar(), corpus, "test")
    lines = report.table().splitlines()
    assert lines[0].split()[:4] == ["piece", "F", "downbeat", "F"]
    assert lines[2].split()[:3] == ["free", "1.000", "-"]
    assert lines[-1].split()[:3] == ["mean", "1.000", "1.000"] and set(lines[-2]) == {"-"}  # nothing is pooled
    written = report.write(tmp_path / "out")
    assert json.loads(written[0].read_text())["left_out"] == report.left_out
    legend = [text.get_text() for text in report.figure().legends[0].get_texts()]
    assert legend == ["beat F (mean 1.000)", "downbeat F (mean 1.000)"]


def test_chosen_parameters_serve_unseen_pieces(corpus, tmp_path, small_grid):
    before = evaluation.evaluate_model(ClickEar(POOR), corpus, "test").mean
    chosen = evaluation.choose_thresholds(ClickEar(POOR), [corpus])
    assert chosen.chosen_on["corpora"][0]["recordings"] == ["allegro", "andante"]
    chosen.write(tmp_path / "thresholds.json")
    again = BeatParameters.read(tmp_path / "thresholds.json")
    assert again == chosen
    own = evaluation.evaluate_model(ClickEar(POOR), corpus, "validation", thresholds=again).mean
    assert {name: own[name] for name in chosen.scores} == pytest.approx(chosen.scores)
    unseen = evaluation.evaluate_model(ClickEar(POOR), corpus, "test", thresholds=again).mean
    assert before["beat/f1"] == 0 and unseen["beat/f1"] == 1


def test_bars_that_the_start_does_not_know_are_found(small_grid):
    """Bars of two beats: with (3, 4) alone, downbeats cannot all be right."""
    beats = Beats(0.3 + 0.5 * np.arange(40), np.arange(40) % 2 + 1)
    heard = Heard("duple", beats, activations(beats, 21.0), 21.0)
    spec, start = ClickEar().manifest.geometry, BeatDecoding(threshold=0.95)
    search = beat_search._Search([[heard]], spec, 5.0)
    assert search.scores(start)["downbeat/f1"] < 0.8
    best = search.model(start)
    assert best.beats_per_bar == (2, 4) and search.scores(best) == {"beat/f1": 1, "downbeat/f1": 1}


def test_corpora_count_alike_and_pieces_without_downbeats_only_for_beats():
    beats = Beats(0.3 + 0.5 * np.arange(40), np.arange(40) % 4 + 1)
    right, deaf = activations(beats, 21.0), activations(Beats.empty(), 21.0)
    pieces = {
        "right": Heard("right", beats, right, 21.0),
        "deaf": Heard("deaf", beats, deaf, 21.0),
        "untold": Heard("untold", Beats(beats.time), right, 21.0),
    }
    corpora = [[pieces["right"], pieces["deaf"], pieces["deaf"]], [pieces["untold"], pieces["right"]]]
    search = beat_search._Search(corpora, ClickEar().manifest.geometry, 5.0)
    scores = search.scores(BeatDecoding(method="peaks"))
    assert scores == pytest.approx({"beat/f1": (1 / 3 + 1) / 2, "downbeat/f1": (1 / 3 + 1) / 2})
    alone = beat_search._Search([[pieces["untold"]]], ClickEar().manifest.geometry, 5.0)
    assert alone.scores(BeatDecoding()) == {"beat/f1": 1}
    no_head = beat_search._Search(corpora, ClickEar(heads=("beat",)).manifest.geometry, 5.0)
    assert list(no_head.scores(BeatDecoding(method="peaks"))) == ["beat/f1"]


def test_varied_parameters_are_in_range():
    made = beat_search._varied(BeatDecoding(), {"min_bpm": (40.0, 200.0), "max_bpm": (160.0, 250.0)})
    assert [(m.min_bpm, m.max_bpm) for m in made] == [(40, 160), (40, 250), (200, 250)]
    assert beat_search._varied(BeatDecoding(observation_lambda=2), {"observation_lambda": (1.4,)}) == []


def test_files_of_beats_are_scored(tmp_path):
    for folder, late in (("estimates", 0.1), ("references", 0.0)):
        (tmp_path / folder).mkdir()
        beat_writers.write_beats(tmp_path / folder / "a.beats", beats_of("allegro"))
        beat_writers.write_beats(tmp_path / folder / "b.beats", beats_of("vivace").shift(late))
    report = evaluation.evaluate_estimates(tmp_path / "estimates", tmp_path / "references", "beats")
    assert [row["beat/f1"] for row in report.pieces.values()] == [1, 0]
    assert report.settings["trim_seconds"] == 5


def test_an_estimate_without_any_beat_scores_0_and_a_reference_without_any_is_left_out(tmp_path):
    for folder, beats in (("estimates", Beats.empty()), ("references", beats_of("allegro"))):
        (tmp_path / folder).mkdir()
        beat_writers.write_beats(tmp_path / folder / "silent.beats", beats)
        beat_writers.write_beats(tmp_path / folder / "told.beats", beats_of("allegro"))
    report = evaluation.evaluate_estimates(tmp_path / "estimates", tmp_path / "references", "beats")
    assert {name: row["beat/f1"] for name, row in report.pieces.items()} == {"silent": 0, "told": 1}
    assert set(report.pieces["silent"].values()) == {0.0}
    beat_writers.write_beats(tmp_path / "references/silent.beats", Beats.empty())
    report = evaluation.evaluate_estimates(tmp_path / "estimates", tmp_path / "references", "beats")
    assert list(report.pieces) == ["told"] and report.left_out["tell no beat after 5 s"] == ["silent"]


def test_records_are_the_corpus_that_they_were_made_of(corpus, records):
    recorded = Recorded(root=records)
    theirs = {r.id: r for r in corpus.recordings()}
    ours = {r.id: r for r in recorded.recordings()}
    assert ours == theirs
    for id, recording in theirs.items():
        told, expected = recorded.load_beats(recording), corpus.load_beats(recording)
        assert (told is None) == (expected is None)
        if told is not None:
            np.testing.assert_allclose(told.time, expected.time, atol=0.51 / SAMPLE_RATE)
            assert told.position.tolist() == expected.position.tolist(), id
        audio = corpus.load_audio(recording, SAMPLE_RATE)
        np.testing.assert_allclose(recorded.load_audio(recording, SAMPLE_RATE), audio, atol=1 / 32768)
        assert len(recorded.load_audio(recording, 2 * SAMPLE_RATE)) == 2 * len(audio)
    with pytest.raises(DatasetError, match="split 'test' holds no recording 'allegro'"):
        recorded.load_audio(theirs["allegro"].__class__("allegro", "test", "allegro"), SAMPLE_RATE)


@pytest.fixture
def run(tmp_path, monkeypatch) -> Path:
    """The folder of a model: its manifest on disk, and the ear where a trained network would be loaded."""

    def load(folder):
        loaded = ClickEar()
        loaded.manifest = Manifest.read(folder)
        return loaded

    monkeypatch.setattr(inference, "load", load)
    (tmp_path / "run").mkdir()
    ClickEar(POOR).manifest.write(tmp_path / "run")
    return tmp_path / "run"


def test_command_chooses_on_records_scores_them_and_records_both(musicnet, run, records, tmp_path, small_grid):
    flags = ["evaluate", f"--model={run}", f"--records={records}", f"--output_dir={tmp_path}"]
    done = musicnet(*flags, "--choose_thresholds", "--write_manifest")
    assert done.status == 0, done.stderr
    chosen = BeatParameters.read(tmp_path / "thresholds.json")
    assert chosen.chosen_on["corpora"][0]["dataset"] == {"name": "records", "folder": "clicks_8000"}
    assert str(records) not in json.dumps(chosen.chosen_on)
    manifest = Manifest.read(run)
    assert manifest.decoder == chosen.decoder.model_dump(mode="json") != POOR
    assert manifest.posteriorgram_threshold is None

    done = musicnet(*flags, "--split=test", "--write_manifest")
    assert done.status == 0, done.stderr
    assert Manifest.read(run).scores["clicks_8000/test"]["beat/f1"] == 1
    assert "1 pieces tell no downbeat after 5 s, not scored for it: free" in done.stderr

    done = musicnet(*flags, "--trim_seconds=0", f"--thresholds={tmp_path / 'thresholds.json'}")
    assert done.status == 0, done.stderr
    assert json.loads((tmp_path / "evaluation.json").read_text())["settings"]["trim_seconds"] == 0
    done = musicnet(*flags, "--protocol=thickstun2018")
    assert done.status == 1 and "scores of beats have no option 'protocol'" in done.stderr


RECORDS = ["--model=m", "--records=r"]


@pytest.mark.parametrize(
    ("flags", "status", "message"),
    [
        ([*RECORDS, "--set=a=1"], 2, "records have no options; leave out --set"),
        ([*RECORDS, "--records=s"], 2, "only --choose_thresholds takes several corpora"),
        ([*RECORDS, "--task=beats"], 2, "a model's manifest tells its task; leave out --task"),
        ([*RECORDS, "--write_manifest", "--trim_seconds=0"], 2, "leave out --trim_seconds"),
        ([*RECORDS, "--dataset=maps"], 2, "or --model and --records"),
        (["--records=r"], 2, "or --model and --records"),
        (RECORDS, 1, "r/dataset_info.json: not found"),
        (["--estimates=a", "--references=b", "--task=chords"], 1, "unknown scorer 'chords'"),
        (["--estimates=a", "--references=b", "--trim_seconds=1"], 1, "scores of notes have no option 'trim_seconds'"),
    ],
)
def test_command_refuses_with_one_line(musicnet, flags, status, message):
    done = musicnet("evaluate", *flags)
    assert done.status == status
    assert message in done.stderr and len(done.stderr.strip().splitlines()) == 1


def test_a_large_corpus_is_searched_on_evenly_chosen_pieces(monkeypatch):
    pieces = [Heard(str(k), Beats.empty(), {}, 60.0) for k in range(9)]
    assert beat_search._thinned(pieces) == pieces
    monkeypatch.setattr(beat_search, "SEARCH_SECONDS", 180.0)
    assert [piece.id for piece in beat_search._thinned(pieces)] == ["0", "3", "6"]

"""Evaluation from audio and label files to figures: of a model, and of folders of transcriptions."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import synthetic
from conftest import ROOT
from sklearn import metrics as sklearn_metrics

from musicnet_tf import evaluation, inference, scores, thresholds, windowing
from musicnet_tf.datasets.maps import Maps
from musicnet_tf.decode.notes import NoteDecoding
from musicnet_tf.errors import DatasetError, ModelError
from musicnet_tf.events import Note, Notes
from musicnet_tf.manifest import Manifest
from musicnet_tf.metrics import frames, protocol
from musicnet_tf.models import HeadSpec, ModelSpec
from musicnet_tf.timebase import FrameClock

SAMPLE_RATE, FIRST_PITCH, NUM_PITCHES, SEGMENT = 8_000, 60, 25, 1_024


class ToneBank:
    """A transcriber without learning: how strong is each pitch's sine, and how fast does it rise?"""

    def __init__(self) -> None:
        heads = {name: HeadSpec(NUM_PITCHES, FIRST_PITCH) for name in ("frame", "onset")}
        spec = ModelSpec(FrameClock(SAMPLE_RATE, 128, SEGMENT // 2), SEGMENT + 63 * 128, 64, 4, heads)
        decoder = {"onset_threshold": 0.4, "frame_threshold": 0.5, "max_gap": 0.0}
        self.manifest = Manifest(name="tone_bank", task="notes", spec=spec.to_dict(), decoder=decoder)
        frequency = 440 * 2 ** ((np.arange(NUM_PITCHES) + FIRST_PITCH - 69) / 12)
        phase = 2j * np.pi * np.arange(SEGMENT)[:, None] * frequency / SAMPLE_RATE
        self._bank = np.exp(phase) * np.hanning(SEGMENT)[:, None] * 4 / SEGMENT

    def __call__(self, windows):
        segments = np.lib.stride_tricks.sliding_window_view(windows, SEGMENT, axis=1)[:, ::128]
        strength = np.abs(segments @ self._bank)
        rise = np.zeros_like(strength)
        rise[:, 2:-2] = np.maximum(0, strength[:, 4:] - strength[:, :-4])
        return {"frame": np.clip(strength / 0.2, 0, 1), "onset": np.clip(rise / 0.2, 0, 1)}


def write_piece(folder: Path, name: str, duration: float, seed: int) -> Notes:
    """Sines of 0.2 to 0.6 s, up to two at once, loud and soft, in noise; and their labels."""
    rng = np.random.default_rng(seed)
    rows, t = [], 0.1
    while t < duration - 0.7:
        pitches = rng.choice(np.arange(60, 85, 3), rng.integers(1, 3), replace=False)
        length = rng.uniform(0.2, 0.6)
        rows += [(round(t, 3), round(t + length, 3), int(pitch), 64) for pitch in pitches]
        t += length + 0.1
    time = np.arange(int(duration * SAMPLE_RATE)) / SAMPLE_RATE
    audio = rng.normal(0, 0.02, len(time))
    for onset, offset, pitch, _ in rows:
        tone = rng.uniform(0.06, 0.2) * np.sin(2 * np.pi * 440 * 2 ** ((pitch - 69) / 12) * time)
        audio += tone * ((time >= onset) & (time < offset))
    soundfile.write(folder / f"MAPS_MUS-{name}_Sines.wav", audio, SAMPLE_RATE)
    lines = ["# onset,offset,note,velocity", *("\t".join(map(str, row)) for row in rows)]
    (folder / f"MAPS_MUS-{name}_Sines.tsv").write_text("\n".join(lines) + "\n")
    return Notes.from_list([Note(*row) for row in rows])


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Maps:
    folder = tmp_path_factory.mktemp("corpus")
    for seed, (name, duration) in enumerate([("bor_ps6", 6.0), ("deb_menu", 5.0), ("other", 6.0), ("brief", 0.9)]):
        write_piece(folder, name, duration, seed)
    return Maps(root=folder)


@pytest.fixture(scope="module")
def bank() -> ToneBank:
    return ToneBank()


@pytest.fixture(scope="module")
def report(bank, corpus) -> evaluation.Report:
    return evaluation.evaluate_model(bank, corpus, "validation")


PIECE = "MAPS_MUS-bor_ps6_Sines"


def test_a_model_is_scored_from_audio_to_notes(report):
    assert list(report.pieces) == [PIECE, "MAPS_MUS-deb_menu_Sines"]
    # The thresholds of its manifest are meant for loud notes: those are found, and nothing else.
    assert report.mean["onset/precision"] == 1 and 0.3 < report.mean["onset/recall"] < 0.6
    assert 0.4 < report.mean["frame/f1"] < 0.7
    assert report.mean["posteriorgram/average_precision"] > 0.9
    onset = [row["onset/f1"] for row in report.pieces.values()]
    assert report.mean["onset/f1"] == pytest.approx(sum(onset) / 2)
    assert "onset_offset_velocity/f1" not in report.mean  # this model tells no velocity


def test_posteriorgram_scores_equal_scikit_learn(bank, corpus, report):
    recording = evaluation.select(corpus, "validation", [PIECE])[0]
    heard = evaluation.listen(bank, corpus, recording)
    clock = windowing.recording_clock(bank.manifest.geometry)
    times = clock.times(len(heard.heads["frame"]))[:, None]
    truth = np.zeros((len(times), 128), bool)
    for note in heard.notes:
        truth[:, note.pitch] |= ((times >= note.onset) & (times < note.offset))[:, 0]
    activation = np.zeros(truth.shape)
    activation[:, FIRST_PITCH : FIRST_PITCH + NUM_PITCHES] = heard.heads["frame"]
    row = report.pieces[PIECE]
    expected = sklearn_metrics.average_precision_score(truth.ravel(), activation.ravel())
    assert row["posteriorgram/average_precision"] == pytest.approx(expected)
    assert row["posteriorgram/f1"] == pytest.approx(sklearn_metrics.f1_score(truth.ravel(), activation.ravel() > 0.5))


def test_protocol_points_lie_from_the_first_second_on(report):
    points = [len(range(44_100, seconds * 44_100, 512)) for seconds in (6, 5)]
    assert [row["protocol/all/points"] for row in report.pieces.values()] == points
    assert report.pooled["protocol/all/points"] == sum(points)
    assert report.pooled["protocol/all/average_precision"] > 0.9
    assert set(report.curves) == {"all", "one"}  # never three notes at once


def test_the_papers_threshold_is_searched_on_training_points(bank, corpus, monkeypatch):
    def points(split, kind, c):
        """F1 of every point of a split, by scikit-learn."""
        labels, predictions = [], []
        for recording in evaluation.select(corpus, split):
            heard = evaluation.listen(bank, corpus, recording)
            num_points = kind.num_points(heard.duration)
            clock = windowing.recording_clock(bank.manifest.geometry)
            labels.append(kind.labels(heard.notes, num_points))
            if num_points:
                predictions.append(kind.predictions(heard.heads["frame"], clock, num_points, FIRST_PITCH))
        return sklearn_metrics.f1_score(np.concatenate(labels).ravel(), np.concatenate(predictions).ravel() > c)

    kind = protocol.Protocol()
    c = evaluation.search_protocol_threshold(bank, corpus, kind)
    assert c.source == "431 sampled points of 2 recordings of maps/train"  # one of them too brief for any
    f1 = [points("train", kind, value) for value in np.arange(1, 100) / 100]
    assert c.value == (np.argmax(f1) + 1) / 100

    report = evaluation.evaluate_model(bank, corpus, "validation", protocol=kind, c=c)
    own = bank.manifest.decoder["frame_threshold"]
    assert report.settings["protocol"]["threshold"] == {"value": c.value, "source": c.source} and c.value != own
    assert report.pooled["protocol/all/f1"] == pytest.approx(points("validation", kind, c.value))
    plain = evaluation.evaluate_model(bank, corpus, "validation")
    assert plain.settings["protocol"]["threshold"] == {"value": own, "source": "thresholds.posteriorgram"}
    assert plain.pooled["protocol/all/f1"] == pytest.approx(points("validation", kind, own))
    assert plain.mean["posteriorgram/f1"] == report.mean["posteriorgram/f1"]  # which has a threshold of its own

    monkeypatch.setattr(protocol, "SUBSET_POINTS", 100)
    assert evaluation.search_protocol_threshold(bank, corpus, kind).source.startswith("100 sampled points of 2")
    monkeypatch.setattr(protocol, "SUBSET_RECORDINGS", 1)
    assert "of 1 recordings" in evaluation.search_protocol_threshold(bank, corpus, kind).source


def test_a_corpus_without_training_points_has_no_threshold(bank, corpus, tmp_path):
    everything = Maps(root=corpus.root, validation=("bor_ps6", "deb_menu", "other", "brief"))
    with pytest.raises(DatasetError, match="no recording in split 'train', only in validation"):
        evaluation.search_protocol_threshold(bank, everything, protocol.Protocol())
    brief = Maps(root=corpus.root, validation=("bor_ps6", "deb_menu", "other"))
    with pytest.raises(DatasetError, match="no recording of split 'train' is long enough"):
        evaluation.search_protocol_threshold(bank, brief, protocol.Protocol())


def test_only_the_beginning_of_a_recording_is_heard(bank, corpus):
    recording = evaluation.select(corpus, "validation", [PIECE])[0]
    whole = evaluation.listen(bank, corpus, recording)
    part = evaluation.listen(bank, corpus, recording, seconds=2.5)
    assert (whole.duration, part.duration) == (6.0, 2.5)
    np.testing.assert_allclose(part.heads["frame"][:140], whole.heads["frame"][:140], atol=1e-6)
    assert len(part.heads["frame"]) == -(-int(2.5 * SAMPLE_RATE) // 128)


def test_notes_are_pooled_by_their_counts(bank, corpus, report):
    pooled = frames.Counts()
    for recording in evaluation.select(corpus, "validation"):
        heard, row = evaluation.listen(bank, corpus, recording), report.pieces[recording.id]
        correct = round(row["onset/recall"] * len(heard.notes))
        pooled += frames.Counts(correct, round(correct / row["onset/precision"]), len(heard.notes))
    assert report.pooled["onset/f1"] == pytest.approx(pooled.scores()["f1"])


def test_a_piece_of_less_than_a_second_has_no_protocol(bank, corpus):
    row = evaluation.evaluate_model(bank, corpus, "train", ["MAPS_MUS-brief_Sines"]).pieces["MAPS_MUS-brief_Sines"]
    assert row["onset/f1"] > 0 and not any(name.startswith("protocol") for name in row)


def test_the_other_convention_labels_later_points(bank, corpus):
    late = evaluation.evaluate_model(bank, corpus, "validation", [PIECE], protocol=protocol.Protocol("thickstun2018"))
    assert late.pieces[PIECE]["protocol/all/points"] == len(range(44_100 + 8_192, 6 * 44_100, 512))
    assert late.settings["protocol"]["convention"] == "thickstun2018"


def test_a_damaged_recording_is_listed_and_the_others_scored(bank, corpus, tmp_path):
    folder = tmp_path / "corpus"
    shutil.copytree(corpus.root, folder)
    (folder / f"{PIECE}.wav").write_bytes(b"no audio at all")
    found = evaluation.evaluate_model(bank, Maps(root=folder), "validation")
    assert list(found.pieces) == ["MAPS_MUS-deb_menu_Sines"]
    assert f"{PIECE}.wav" in found.failed[PIECE]
    assert found.remarks() == [f"failed: {PIECE}: {found.failed[PIECE]}"]
    with pytest.raises(DatasetError, match="none of 1 pieces could be evaluated"):
        evaluation.evaluate_model(bank, Maps(root=folder), "validation", [PIECE])


def test_wrong_selections_are_refused(corpus):
    with pytest.raises(DatasetError, match="no recording in split 'test'"):
        evaluation.select(corpus, "test")
    with pytest.raises(DatasetError, match=r"did you mean 'MAPS_MUS-bor_ps6_Sines'"):
        evaluation.select(corpus, "validation", ["MAPS_MUS-bor_ps7_Sines"])
    assert len(evaluation.select(corpus, "all")) == 4


def test_a_model_that_is_not_of_notes_is_refused(bank, corpus):
    class Beats(ToneBank):
        pass

    other = Beats()
    spec = dataclasses.replace(other.manifest.geometry, heads={"beat": HeadSpec(1)})
    other.manifest = other.manifest.model_copy(update={"spec": spec.to_dict()})
    with pytest.raises(ModelError, match="which gives no notes"):
        evaluation.evaluate_model(other, corpus, "validation")
    other.manifest = bank.manifest.model_copy(update={"decoder": {"tempo": 120}})
    with pytest.raises(ModelError, match="decoder is not one of notes"):
        evaluation.Thresholds.of(other.manifest)


def test_chosen_thresholds_are_the_best_and_serve_unseen_pieces(bank, corpus, tmp_path):
    poor = ToneBank()
    poor.manifest = bank.manifest.model_copy(update={"decoder": {"onset_threshold": 0.95, "frame_threshold": 0.95}})
    before = evaluation.evaluate_model(poor, corpus, "train", ["MAPS_MUS-other_Sines"]).mean
    chosen = evaluation.choose_thresholds(poor, [corpus], "validation")
    assert chosen.chosen_on["corpora"][0]["recordings"] == [PIECE, "MAPS_MUS-deb_menu_Sines"]
    chosen.write(tmp_path / "thresholds.json")
    again = evaluation.Thresholds.read(tmp_path / "thresholds.json")
    assert again == chosen

    own = evaluation.evaluate_model(poor, corpus, "validation", thresholds=again).mean
    for name in ("onset/f1", "onset_offset/f1", "posteriorgram/f1"):
        assert own[name] == pytest.approx(chosen.scores[name])
    for value in thresholds.COARSE:
        decoder = chosen.decoder.model_copy(update={"onset_threshold": float(value)})
        other = evaluation.Thresholds(decoder=decoder, posteriorgram=float(value))
        mean = evaluation.evaluate_model(poor, corpus, "validation", thresholds=other).mean
        assert mean["onset/f1"] <= own["onset/f1"]
        assert mean["posteriorgram/f1"] <= own["posteriorgram/f1"]

    unseen = evaluation.evaluate_model(poor, corpus, "train", ["MAPS_MUS-other_Sines"], again).mean
    assert unseen["onset/f1"] > max(0.9, before["onset/f1"] + 0.1)


def test_thresholds_without_an_onset_head(bank, corpus):
    heard = [evaluation.listen(bank, corpus, r) for r in evaluation.select(corpus, "validation")]
    heard = [h._replace(heads={"frame": h.heads["frame"]}) for h in heard]
    spec = dataclasses.replace(bank.manifest.geometry, heads={"frame": HeadSpec(NUM_PITCHES, FIRST_PITCH)})
    found = thresholds.search_thresholds([heard], spec, NoteDecoding(frame_threshold=0.99))
    assert found.scores["onset/f1"] > 0.9
    assert found.decoder.onset_threshold == NoteDecoding().onset_threshold


def test_corpora_count_alike_however_many_pieces_they_have(bank, corpus):
    a, b = (evaluation.listen(bank, corpus, r) for r in evaluation.select(corpus, "validation"))
    spec, start = bank.manifest.geometry, NoteDecoding()
    alike = thresholds.search_thresholds([[a], [b]], spec, start)
    assert thresholds.search_thresholds([[a], [b, b, b]], spec, start).scores == pytest.approx(alike.scores)
    report = evaluation.evaluate_model(bank, corpus, "validation", thresholds=alike)
    assert alike.scores["onset/f1"] == pytest.approx(report.mean["onset/f1"])
    name = "posteriorgram/f1"
    assert alike.scores[name] == pytest.approx(report.mean[name])
    assert abs(report.pieces[a.id][name] - report.pieces[b.id][name]) > 1e-3  # so that a wrong weight would show
    drowned = thresholds.search_thresholds([[a, b, b, b]], spec, start)
    rows = evaluation.evaluate_model(bank, corpus, "validation", thresholds=drowned).pieces
    for name in ("onset/f1", "onset_offset/f1", "posteriorgram/f1"):
        assert drowned.scores[name] == pytest.approx((rows[a.id][name] + 3 * rows[b.id][name]) / 4)


def test_damaged_thresholds_are_refused(tmp_path):
    (tmp_path / "t.json").write_text('{"decoder": {"onset": 1}}')
    with pytest.raises(ModelError, match=r"t.json: holds no chosen thresholds"):
        evaluation.Thresholds.read(tmp_path / "t.json")


@pytest.fixture
def maps(shared_data) -> list[Path]:
    return [shared_data / f"maps/MAPS_MUS-{name}.tsv" for name in ("scn15_12_ENSTDkCl", "chpn-p14_ENSTDkAm")]


def copy_of(notes: Notes, path: Path, shift: float = 0.0) -> None:
    path.parent.mkdir(exist_ok=True)
    scores.to_midi(notes.shift(shift)).write(str(path))


def test_perfect_copies_score_one_and_late_ones_no_onset(maps, shared_data, tmp_path):
    for path in maps:
        (tmp_path / "exact").mkdir(exist_ok=True)
        shutil.copy(path, tmp_path / "exact")
        late = scores.read(path).shift(0.06)
        rows = [f"{n.onset:.6f}\t{n.offset:.6f}\t{n.pitch}\t{n.velocity}" for n in late]
        (tmp_path / "late").mkdir(exist_ok=True)
        (tmp_path / "late" / path.name).write_text("\n".join(["# onset,offset,note,velocity", *rows]) + "\n")
    exact = evaluation.evaluate_estimates(tmp_path / "exact", shared_data / "maps")
    assert set(exact.pieces) == {path.stem for path in maps}
    for name in ("onset/f1", "onset_offset/f1", "onset_offset_velocity/f1", "frame/f1", "multipitch/accuracy"):
        assert exact.mean[name] == 1 and exact.pooled.get(name, 1) == 1
    assert exact.unpaired["estimates"] == [] and len(exact.unpaired["references"]) == 22
    late_report = evaluation.evaluate_estimates(tmp_path / "late", shared_data / "maps")
    # Only where a pitch is repeated within 110 ms can a late note meet another's onset.
    assert late_report.mean["onset/f1"] < 0.02
    assert 0.5 < late_report.mean["frame/f1"] < 1


def test_musicnet_labels_against_midi(shared_data, tmp_path):
    """Official CSV labels as reference; their MIDI, to the millisecond, as estimate."""
    labels = shared_data / "musicnet/train_labels"
    for name in ("2227", "2231"):
        copy_of(scores.read(labels / f"{name}.csv"), tmp_path / "estimates" / f"{name}.mid")
        copy_of(scores.read(labels / f"{name}.csv"), tmp_path / "late" / f"{name}.mid", shift=0.06)
    found = evaluation.evaluate_estimates(tmp_path / "estimates", labels)
    assert list(found.pieces) == ["2227", "2231"]
    assert found.mean["onset/f1"] > 0.99 and found.mean["frame/f1"] > 0.99
    assert "onset_offset_velocity/f1" not in found.mean  # MusicNet has no velocities
    assert evaluation.evaluate_estimates(tmp_path / "late", labels).mean["onset/f1"] < 0.02


def test_label_files_come_before_midi_as_references(tmp_path):
    notes = Notes.from_list([Note(1.0, 2.0, 60)])
    copy_of(notes, tmp_path / "estimates/a.mid")
    copy_of(notes.shift(5), tmp_path / "references/a.mid")  # a score, not the performance
    (tmp_path / "references/a.musicnet.csv").write_text(scores.format_musicnet_csv(notes))
    assert evaluation.evaluate_estimates(tmp_path / "estimates", tmp_path / "references").mean["onset/f1"] == 1


def test_unpaired_and_unreadable_files_are_listed(tmp_path):
    notes = Notes.from_list([Note(1.0, 2.0, 60)])
    for name in ("estimates/a", "references/a", "estimates/b", "references/b", "estimates/c", "references/d"):
        copy_of(notes, tmp_path / f"{name}.mid")
    (tmp_path / "estimates/b.mid").write_bytes(b"MThd")
    found = evaluation.evaluate_estimates(tmp_path / "estimates", tmp_path / "references")
    assert list(found.pieces) == ["a"] and list(found.failed) == ["b"]
    assert found.unpaired == {"estimates": ["c"], "references": ["d"]}
    assert "1 references without a partner, not scored: d" in found.remarks()


def test_folders_without_pairs_are_refused(tmp_path):
    notes = Notes.from_list([Note(1.0, 2.0, 60)])
    copy_of(notes, tmp_path / "estimates/a.mid")
    copy_of(notes, tmp_path / "references/b.mid")
    with pytest.raises(DatasetError, match="no estimate of its 1 is named like one of the 1"):
        evaluation.evaluate_estimates(tmp_path / "estimates", tmp_path / "references")
    with pytest.raises(DatasetError, match="no such folder"):
        evaluation.evaluate_estimates(tmp_path / "estimates", tmp_path / "nowhere")


def test_report_as_table_json_and_figure(report, tmp_path):
    lines = report.table().splitlines()
    assert lines[0].split()[:3] == ["piece", "onset", "P"]
    assert len({len(line) for line in lines[:4]}) == 1  # aligned
    assert lines[2].split()[3] == f"{report.pieces[PIECE]['onset/f1']:.3f}"
    assert lines[-2].split()[0] == "mean" and lines[-1].split()[0] == "pooled"

    written = report.write(tmp_path / "out")
    assert [path.name for path in written] == ["evaluation.json", "evaluation.png"]
    read = json.loads(written[0].read_text())
    assert read["num_pieces"] == 2 and read["mean"] == report.mean
    assert read["settings"]["thresholds"]["decoder"]["onset_threshold"] == 0.4
    import matplotlib.image

    picture = matplotlib.image.imread(written[1])[..., :3]
    assert picture.shape[1] > picture.shape[0] and len(np.unique(picture.reshape(-1, 3), axis=0)) > 50


def test_command_scores_a_folder(musicnet, maps, shared_data, tmp_path):
    (tmp_path / "estimates").mkdir()
    for path in maps:
        shutil.copy(path, tmp_path / "estimates")
    flags = [f"--estimates={tmp_path / 'estimates'}", f"--references={shared_data / 'maps'}"]
    done = musicnet("evaluate", *flags, f"--output_dir={tmp_path / 'out'}")
    assert done.status == 0, done.stderr
    assert "mean" in done.stdout and "22 references without a partner" in done.stderr
    assert json.loads((tmp_path / "out/evaluation.json").read_text())["mean"]["onset/f1"] == 1
    assert (tmp_path / "out/evaluation.png").stat().st_size > 5_000
    assert musicnet("evaluate", *flags, "--strict").status == 1


@pytest.fixture
def run(bank, tmp_path, monkeypatch) -> Path:
    """The folder of a model: its manifest on disk, and the tone bank where a trained network would be loaded."""

    def load(folder):
        loaded = ToneBank()
        loaded.manifest = Manifest.read(folder)
        return loaded

    monkeypatch.setattr(inference, "load", load)
    folder = tmp_path / "run"
    folder.mkdir()
    bank.manifest.write(folder)
    return folder


def test_command_chooses_thresholds_scores_with_them_and_records_both(musicnet, run, bank, corpus, tmp_path):
    old = {"validation_windows": {"loss": 0.5}, "maps/validation": {"onset/f1": 0.9}}
    bank.manifest.model_copy(update={"scores": old}).write(run)
    flags = ["evaluate", f"--model={run}", "--dataset=maps", f"--data_dir={corpus.root}", "--write_manifest"]

    done = musicnet(*flags, "--choose_thresholds", f"--output_dir={tmp_path}")
    assert done.status == 0, done.stderr
    chosen = evaluation.Thresholds.read(tmp_path / "thresholds.json")
    manifest = Manifest.read(run)
    assert manifest.decoder == chosen.decoder.model_dump() != bank.manifest.decoder
    assert manifest.posteriorgram_threshold == chosen.posteriorgram != chosen.decoder.frame_threshold
    assert manifest.scores == {"validation_windows": {"loss": 0.5}}  # those of the old thresholds are gone

    done = musicnet(*flags)
    assert done.status == 0, done.stderr
    expected = evaluation.evaluate_model(bank, corpus, "validation", thresholds=chosen).mean
    assert Manifest.read(run).scores == {**manifest.scores, "maps/validation": expected}
    assert f"{expected['posteriorgram/f1']:.3f}" in done.stdout

    plain = musicnet(*flags[:-1], "--protocol_threshold=train", f"--output_dir={tmp_path}")
    assert plain.status == 0, plain.stderr
    settings = json.loads((tmp_path / "evaluation.json").read_text())["settings"]
    assert settings["protocol"]["threshold"]["source"].endswith("of 2 recordings of maps/train")

    # Labels moved by 60 ms, as by an option of the corpus, are no longer met by the same model.
    late = musicnet(*flags, "--set=delay={Sines: 0.06}", f"--output_dir={tmp_path}")
    assert late.status == 0, late.stderr
    written = json.loads((tmp_path / "evaluation.json").read_text())
    assert written["settings"]["dataset"]["delay"] == {"Sines": 0.06} and written["mean"]["onset/f1"] < 0.2
    scores = Manifest.read(run).scores
    assert scores["maps/validation"] == expected
    assert scores["maps/validation delay={Sines: 0.06}"] == written["mean"]


def test_command_chooses_on_several_corpora(musicnet, run, corpus, tiny_corpus, tmp_path):
    done = musicnet(
        *("evaluate", f"--model={run}", "--choose_thresholds", f"--output_dir={tmp_path}"),
        *("--dataset=maps", f"--data_dir={corpus.root}", "--set=maps.delay={Other: 0.5}"),
        *("--dataset=musicnet", f"--data_dir={tiny_corpus}", f"--set=musicnet.validation={[*synthetic.VALIDATION]}"),
    )
    assert done.status == 0, done.stderr
    chosen_on = evaluation.Thresholds.read(tmp_path / "thresholds.json").chosen_on
    assert chosen_on["split"] == "validation"
    maps, musicnet_corpus = chosen_on["corpora"]
    assert maps["dataset"]["name"] == "maps" and maps["dataset"]["delay"] == {"Other": 0.5}
    assert maps["recordings"] == [PIECE, "MAPS_MUS-deb_menu_Sines"]
    assert musicnet_corpus["recordings"] == sorted(synthetic.VALIDATION)
    assert str(tiny_corpus) not in json.dumps(chosen_on)  # no folder of this machine


def test_scores_without_a_failed_piece_are_not_recorded(musicnet, run, bank, corpus, tmp_path):
    folder = tmp_path / "corpus"
    shutil.copytree(corpus.root, folder)
    (folder / f"{PIECE}.wav").write_bytes(b"no audio at all")
    done = musicnet("evaluate", f"--model={run}", "--dataset=maps", f"--data_dir={folder}", "--write_manifest")
    assert done.status == 1 and "mean" in done.stdout
    reason = done.stderr.strip().splitlines()[-1]
    assert "manifest.json: not changed, for without MAPS_MUS-bor_ps6_Sines the scores are not those of maps" in reason
    assert Manifest.read(run) == bank.manifest


MODEL = ["--model=m", "--dataset=maps", "--data_dir=."]
BACH = ["--dataset=bach10", "--data_dir=."]


@pytest.mark.parametrize(
    "flags, status, message",
    [
        *[
            (["--estimates=a", "--references=b", flag], 2, f"leave out {flag.partition('=')[0]}")
            for flag in ("--split=test", "--recordings=a", "--protocol=midpoint", "--set=a=1", "--write_manifest")
        ],
        ([*MODEL, "--strict"], 2, "may lack partners; leave out --strict"),
        ([*MODEL, "--choose_thresholds", "--protocol=midpoint"], 2, "does not score; leave out --protocol"),
        ([*MODEL, "--write_manifest", "--protocol_threshold=train"], 2, "leave out --protocol_threshold"),
        ([*MODEL, "--choose_thresholds", "--thresholds=t"], 2, "does not score; leave out --thresholds"),
        ([*MODEL, "--data_dir=."], 2, "give each --dataset once, with one --data_dir; got 1 and 2"),
        ([*MODEL, "--dataset=maps", "--data_dir=."], 2, "give each --dataset once"),
        ([*MODEL, *BACH], 2, "only --choose_thresholds takes several corpora"),
        ([*MODEL, *BACH, "--choose_thresholds", "--recordings=a"], 2, "within one corpus; leave out --recordings"),
        ([*MODEL, *BACH, "--choose_thresholds", "--set=delay={}"], 1, "--set delay: with several corpora, begin with"),
        ([*MODEL, *BACH, "--choose_thresholds", "--set=maps=1"], 1, "begin with one of maps, bach10, and a dot"),
        ([*MODEL, *BACH, "--choose_thresholds", "--set=bach10.stem=no"], 1, "corpus 'bach10': unknown key 'stem'"),
        ([], 2, "give either --estimates and --references, or"),
        (["--estimates=a", "--model=m"], 2, "give either --estimates and --references, or"),
        (["a.mid", "--estimates=a", "--references=b"], 2, "unexpected argument 'a.mid'"),
        (
            ["--estimates=a", "--references=b", "--choose_thresholds"],
            2,
            "a --model; leave out --choose_thresholds",
        ),
        (["--estimates=/nowhere", "--references=b"], 1, "/nowhere: no such folder"),
        (["--model=m", "--dataset=mapz", "--data_dir=."], 1, "unknown corpus 'mapz', did you mean 'maps'"),
        (["--model=m", "--dataset=maps", "--data_dir=/nowhere"], 1, "/nowhere"),
        (
            ["--model=m", "--dataset=maps", "--data_dir=.", "--set=dela=1"],
            1,
            "unknown key 'dela', did you mean 'delay'",
        ),
        (["--model=m", "--dataset=maps", "--data_dir=.", "--write_manifest"], 1, "m: no folder"),
        (
            [f"--model={ROOT / 'tests'}", "--dataset=maps", "--data_dir=.", "--write_manifest"],
            1,
            "--write_manifest needs one",
        ),
        (
            ["--model=m", "--dataset=maps", "--data_dir=.", "--write_manifest", "--recordings=a", "--thresholds=t"],
            2,
            "own thresholds reach on a whole split; leave out --recordings, --thresholds",
        ),
        (
            ["--model=m", "--dataset=maps", "--data_dir=.", "--write_manifest", "--protocol=thickstun2018"],
            2,
            "leave out --protocol",
        ),
    ],
)
def test_command_refuses_with_one_line(musicnet, flags, status, message):
    done = musicnet("evaluate", *flags)
    assert done.status == status
    assert message in done.stderr and len(done.stderr.strip().splitlines()) == 1


def test_command_tells_of_an_empty_split_before_it_loads_a_model(musicnet, corpus):
    done = musicnet("evaluate", "--model=none", "--dataset=maps", f"--data_dir={corpus.root}", "--split=test")
    assert done.status == 1 and "has no recording in split 'test'" in done.stderr

"""Beats of corpora: moved and cut exactly as the notes are, and read from the published annotations."""

from __future__ import annotations

import tarfile
from pathlib import Path

import musicxml_text
import numpy as np
import pytest

from musicnet_tf import rhythm, scores
from musicnet_tf.datasets import Recording
from musicnet_tf.datasets.bach10 import Bach10
from musicnet_tf.datasets.maps import Maps
from musicnet_tf.datasets.musicnet import MusicNet
from musicnet_tf.datasets.rendered import Rendered
from musicnet_tf.events import Note, Notes
from musicnet_tf.scores.meter import beats_a_bar

FONT = Path("any.sf2")


@pytest.fixture
def read(tmp_path):
    def score(*measures, **options):
        path = tmp_path / "score.musicxml"
        path.write_text(musicxml_text.document(list(measures), **options))
        return scores.read_score(path)

    return score


def bar(*pitches, time=None, divisions=2, length=1):
    """Notes of `length` divisions each, eighths by default."""
    told = "" if time is None else musicxml_text.attributes(divisions, time)
    return told + "".join(musicxml_text.note(pitch, length) for pitch in pitches)


def test_written_beats_follow_the_time_signature(read):
    """At 120 quarter notes a minute: 3/8 has beats of an eighth (0.25 s), 6/8 of three, 2/2 of a half (1 s)."""
    eighths = ["C4", "D4", "E4", "F4", "G4", "A4"]
    score = read(bar(*eighths[:3], time=(3, 8)), bar(*eighths, time=(6, 8)), bar("C4", "D4", time=(2, 2), length=4))
    np.testing.assert_allclose(score.beats.time, [0, 0.25, 0.5, 0.75, 1.5, 2.25, 3.25])
    assert score.beats.position.tolist() == [1, 2, 3, 1, 2, 1, 2]


def test_a_pickup_counts_back_and_a_divided_bar_goes_on(read):
    """3/4: a quarter before the first bar, and a bar that a double bar line cuts after two quarters."""
    quarters = bar("C4", "D4", "E4", length=2)
    score = read(bar("G3", time=(3, 4), length=2), quarters, bar("C4", "D4", length=2), bar("E4", length=2), quarters)
    assert score.beats.position.tolist() == [3, 1, 2, 3, 1, 2, 3, 1, 2, 3]
    np.testing.assert_allclose(score.beats.time, np.arange(10) / 2)
    np.testing.assert_allclose(score.beats.downbeats, [0.5, 2.0, 3.5])


def test_a_pickup_of_half_a_beat_has_no_beat(read):
    score = read(bar("G3", time=(2, 4)), bar("C4", "D4", length=2))
    np.testing.assert_allclose(score.beats.time, [0.25, 0.75])
    assert score.beats.position.tolist() == [1, 2]


def test_a_bar_without_measure_in_it_and_one_too_long(read):
    score = read(bar("C4", "D4", time=(2, 4), length=2), bar("C4", "D4", "E4", length=2), bar("C4", "D4", length=2))
    assert score.beats.position.tolist() == [1, 2, 1, 2, -1, 1, 2]


def rendered(root, **options):
    return Rendered(root=root, soundfonts=(FONT,), **options)


def at_beats(notes):
    """Onsets of the notes that begin on a beat, and that beat's number."""
    on = notes.start_beat == np.rint(notes.start_beat)
    return dict(zip(notes.start_beat[on].tolist(), notes.onset[on].tolist(), strict=True))


def steady(seconds=90.0):
    """A note each quarter second, two a beat, but for every sixteenth."""
    k = np.arange(int(4 * seconds))
    k = k[k % 16 != 0]
    onset = 0.3 + k / 4
    return Notes(onset, onset + 0.2, 60 + k % 12, start_beat=k / 2, end_beat=np.full(len(k), 0.5))


@pytest.mark.parametrize("options", [{}, {"tempo": 0.2}, {"tempo": 0.2, "excerpt_seconds": None}, {"variants": 2}])
def test_beats_of_labels_are_where_their_notes_are_played(tmp_path, options):
    (tmp_path / "1001.csv").write_text(scores.format_musicnet_csv(steady()))
    corpus = rendered(tmp_path, **options)
    for recording in corpus.recordings():
        notes, beats = corpus.load_notes(recording), corpus.load_beats(recording)
        heard = np.array(list(at_beats(notes).values()))
        assert len(heard) > 50
        np.testing.assert_allclose([np.abs(beats.time - t).min() for t in heard], 0, atol=1e-4)
        # and between them those at which no note begins: a steady tempo all the same
        np.testing.assert_allclose(np.diff(beats.time), np.diff(beats.time)[0], atol=1e-4)
        if corpus.excerpt_seconds:
            assert beats.time[0] >= 0
            assert beats.time[-1] < corpus.excerpt_seconds
            assert len(beats) == pytest.approx(corpus.excerpt_seconds / np.diff(beats.time)[0], abs=1)


def test_beats_of_a_written_score_drift_with_its_notes(tmp_path):
    measures = [bar("C4", "D4", "E4", "F4", time=(4, 4) if k == 0 else None, length=2) for k in range(40)]
    (tmp_path / "a.musicxml").write_text(musicxml_text.document(measures))
    corpus = rendered(tmp_path, rubato=0.2, tempo=0.1, excerpt_seconds=30.0)
    (recording,) = corpus.recordings()
    notes, beats = corpus.load_notes(recording), corpus.load_beats(recording)
    np.testing.assert_allclose(beats.time[: len(notes)], notes.onset, atol=1e-9)
    assert abs(len(beats) - len(notes)) <= 1  # one may begin at the very end
    assert np.std(np.diff(beats.time)) > 0.02
    assert beats.position[:8].tolist() in [[(k + j) % 4 + 1 for j in range(8)] for k in range(4)]
    (together,) = rendered(tmp_path, rubato=0.2, tempo=0.1, excerpt_seconds=30.0, asynchrony=0.01).recordings()
    assert rendered(tmp_path, rubato=0.2, tempo=0.1, excerpt_seconds=None).load_beats(together).time[-1] > 60


def test_annotations_beside_a_performance_are_moved_with_it(tmp_path):
    played = Notes.from_list([Note(t, t + 0.2, 60, 80, 0) for t in np.arange(1, 80, 0.37).tolist()])
    scores.to_midi(played).write(str(tmp_path / "Scriabin_op_42.mid"))
    rows = "".join(f"{t:.2f}\t{t:.2f}\t{'db' if k % 3 == 0 else 'b'}\n" for k, t in enumerate(np.arange(1, 80, 0.74)))
    (tmp_path / "Scriabin_op_42_annotations.txt").write_text(rows)
    (tmp_path / "Scriabin_op_43.mid").write_bytes((tmp_path / "Scriabin_op_42.mid").read_bytes())
    corpus = rendered(tmp_path, tempo=0.2, excerpt_seconds=20.0)
    one, unknown = sorted(corpus.recordings(), key=lambda r: r.id)
    notes, beats = corpus.load_notes(one), corpus.load_beats(one)
    np.testing.assert_allclose([np.abs(notes.onset - t).min() for t in beats.time[1:]], 0, atol=1e-3)
    assert rhythm.meter(beats).beats_per_bar == 3
    assert corpus.load_beats(unknown) is None  # its tempo is told as 120, and no note lies on that grid


def test_musicnet_moves_its_beats_with_its_notes(tmp_path):
    for folder, name in (("train_data", "1001.wav"), ("train_labels", "1001.csv")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).touch()
    (tmp_path / "train_labels/1001.csv").write_text(scores.format_musicnet_csv(steady()))
    recording = Recording("1001", "train", "x")
    plain, late = (MusicNet(root=tmp_path, delay=delay).load_beats(recording) for delay in (0.0, 0.25))
    np.testing.assert_allclose(late.time, plain.time + 0.25)
    np.testing.assert_allclose(plain.time, 0.8 + np.arange(len(plain)) / 2, atol=1e-4)  # the first note is at 0.55 s


def test_maps_tells_no_beats(tmp_path):
    assert Maps(root=tmp_path).load_beats(Recording("any", "train", "any")) is None


def test_bach10_beats_are_those_of_the_mix_for_every_part(shared_data):
    corpus = Bach10(root=shared_data / "bach10")
    first = [recording for recording in corpus.recordings() if recording.id.startswith("01-")]
    beats = [corpus.load_beats(recording) for recording in first]
    assert len(beats) == 5
    assert all(each == beats[0] for each in beats)
    notes = corpus.load_notes(first[0])
    on = np.abs(notes.start_beat - np.rint(notes.start_beat)) < 0.02
    away = [np.abs(beats[0].time - t).min() for t in notes.onset[on]]
    assert np.median(away) < 0.01  # tapped beats and onsets of notes within a fiftieth of them agree
    assert max(away) < 0.04
    assert 60 < rhythm.tempo(beats[0]).median < 130


@pytest.fixture(scope="session")
def archive(shared_data, tmp_path_factory):
    """Unpacks what a prefix selects from an archive of the shared data."""

    def unpack(name, *prefixes):
        folder = tmp_path_factory.mktemp("archive")
        with tarfile.open(shared_data / name) as tar:
            chosen = [member for member in tar if member.name.removeprefix("./").startswith(prefixes)]
            tar.extractall(folder, members=chosen, filter="data")
        return folder

    return unpack


@pytest.mark.slow
def test_published_annotations_are_read_as_their_collectors_read_them(archive):
    """beat_this's own conversion of ASAP's labels is the oracle; others give the meters that they are known for."""
    theirs = archive("annotations.tar.xz", "beat_this_annotations", "harmonixset")
    ours = archive("asap.tar.xz", "asap/Bach/Fugue/bwv_84")
    compared = 0
    for path in theirs.glob("beat_this_annotations/asap/annotations/beats/Bach_Fugue_bwv_84*.beats"):
        *_, number, player = path.stem.split("_")
        source = ours / f"asap/Bach/Fugue/bwv_{number}/{player}_annotations.txt"
        if source.is_file():
            mine, oracle = scores.read_beats(source), scores.read_beats(path)
            np.testing.assert_allclose(mine.time, oracle.time, atol=1e-9)
            assert mine.position.tolist() == oracle.position.tolist()
            compared += 1
    assert compared >= 3
    read = [scores.read_beats(path) for path in theirs.rglob("*.beats")]
    assert len(read) > 150
    assert all(len(beats) > 10 for beats in read)
    harmonix = [scores.read_beats(path) for path in theirs.glob("harmonixset/dataset/beats_and_downbeats/*.txt")]
    assert [rhythm.meter(beats).beats_per_bar for beats in harmonix].count(4) >= 10
    candombe = [scores.read_beats(path) for path in theirs.glob("beat_this_annotations/candombe/**/*.beats")]
    assert {rhythm.meter(beats).beats_per_bar for beats in candombe} == {4}


@pytest.mark.slow
def test_every_performance_of_asap_tells_its_beats_and_its_score_agrees(archive):
    root = archive("asap.tar.xz", "asap/Haydn", "asap/Bach/Prelude") / "asap"
    checked = 0
    for path in sorted(root.rglob("midi_score.mid"))[::6]:
        annotated = scores.beats_of_score(path)
        own = scores.read_midi_beats(path)
        away = np.array([np.abs(own.time - t).min() for t in annotated.time])
        assert np.mean(away < 0.02) > 0.95
        checked += 1
    assert checked >= 5
    for path in sorted(root.rglob("*_annotations.txt")):
        assert rhythm.meter(scores.read_beats(path)).share > 0.5


@pytest.mark.slow
def test_pulse_of_scores_whose_time_signature_is_known(archive):
    """ASAP's annotations tell the time signatures."""
    root = archive("asap.tar.xz", "asap/Bach", "asap/Haydn", "asap/Mozart") / "asap"
    right = compound = total = 0
    for path in sorted(root.rglob("midi_score.mid"))[::2]:
        labels = path.with_name("midi_score_annotations.txt").read_text().splitlines()
        told = {label.split(",")[1] for label in labels if "/" in label}
        if len(told) != 1:
            continue
        numerator, denominator = map(int, told.pop().split("/"))
        quarters = 4 * numerator / denominator / beats_a_bar(numerator, denominator)
        if quarters not in (1.0, 1.5):
            continue
        right += scores.pulse(scores.read_score(path).notes)[0] == quarters
        compound += quarters == 1.5
        total += 1
    assert total > 30
    assert compound > 4
    assert right >= 0.85 * total  # 0.93 of all scores


@pytest.mark.slow
def test_musicnet_labels_keep_their_beats_apart(archive):
    """Of whole published label files: beats increase, and few are lost to alignments that stand still."""
    root = archive("musicnet_labels.tar.xz", "musicnet_labels/train/17")
    paths = sorted(root.rglob("17*.csv"))
    assert len(paths) > 5
    for path in paths:
        notes = scores.read(path)
        beats = scores.beats_of_labels(notes, quarters=1.0)
        wanted = np.floor(notes.start_beat.max()) - np.ceil(notes.start_beat.min()) + 1
        assert 0.9 * wanted <= len(beats) <= wanted + 2
        on = notes.start_beat == np.rint(notes.start_beat)
        away = np.array([np.abs(beats.time - t).min() for t in notes.onset[on]])
        assert np.mean(away < 1e-6) > 0.95

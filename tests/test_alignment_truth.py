"""Which note of a performance is which of the score, and how far labels lie from it."""

from __future__ import annotations

import csv
import sys
import tarfile
import types
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.optimize import linear_sum_assignment

from benchmarks import _alignment_corpora as corpora
from benchmarks import _alignment_matching as matching
from benchmarks import _alignment_peers as ways
from benchmarks import alignment_accuracy as accuracy
from benchmarks import alignment_truth as truth
from musicnet_tf import scores
from musicnet_tf.alignment.result import Alignment
from musicnet_tf.alignment.settings import Settings
from musicnet_tf.errors import AlignmentError, AudioError, ScoreError
from musicnet_tf.events import Note, Notes, Score

BEATS = np.arange(0, 9, 1.0)
PLAYED_BEATS = np.array([0.5, 1.6, 2.6, 3.5, 4.7, 6.2, 7.3, 8.3, 9.5])


def test_a_rubato_performance_is_matched_note_by_note() -> None:
    onset = np.array([0, 0, 1, 1.5, 2, 3, 4])
    pitch = np.array([48, 60, 62, 62, 62, 64, 65])
    played = np.array([0.52, 0.49, 1.65, 2.1, 2.55, 3.5, 4.6])
    found = matching.match(onset, pitch, played, pitch, BEATS, PLAYED_BEATS)
    assert found.tolist() == [0, 1, 2, 3, 4, 5, 6]


def test_a_note_left_out_has_no_match_and_an_added_one_takes_none() -> None:
    onset, pitch = np.array([0.0, 1, 2, 3]), np.array([60, 60, 60, 60])
    played = np.array([0.5, 2.62, 2.75, 3.48])  # the second is left out, the third is struck twice
    found = matching.match(onset, pitch, played, np.full(4, 60), BEATS, PLAYED_BEATS)
    assert found.tolist() == [0, -1, 1, 3]


def test_a_wrong_pitch_is_no_match() -> None:
    found = matching.match(
        np.array([0.0, 1]), np.array([60, 62]), np.array([0.5, 1.6]), np.array([61, 62]), BEATS, BEATS
    )
    assert found[0] == -1


def test_notes_doubled_by_two_voices_are_played_by_one_key() -> None:
    onset, pitch = np.array([1.0, 1.0, 2.0]), np.array([60, 60, 60])
    found = matching.match(onset, pitch, np.array([1.6, 2.6]), np.array([60, 60]), BEATS, PLAYED_BEATS)
    assert found.tolist() == [0, 0, 1]


def test_a_passage_that_drags_inside_a_beat_is_followed() -> None:
    onset = np.arange(0, 4, 0.25)
    pitch = 60 + np.arange(16) % 2  # a trill, so that every neighbour but one is the same pitch
    late = np.interp(onset, [0, 1.5, 2, 4], [0, 0.2, 0, 0])
    found = matching.match(onset, pitch, onset + late, pitch, BEATS, BEATS)
    assert found.tolist() == list(range(16))


def test_notes_far_behind_within_a_long_beat_are_found() -> None:
    onset, beats = np.array([0, 0.5, 1.0, 1.5, 2.0]), np.array([0.0, 2, 4])
    played = onset + np.array([0, 0.5, 0.5, 0.4, 0])
    pitch = np.arange(60, 65)
    assert matching.match(onset, pitch, played, pitch, beats, beats).tolist() == [0, 1, 2, 3, 4]


def test_neighbours_tell_which_of_two_equal_notes_was_left_out() -> None:
    onset = np.array([0, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0])
    pitch = np.array([50, 61, 62, 60, 63, 60, 64, 51])
    played = onset + np.array([0, 0.35, 0.35, 0.35, 0.35, np.nan, 0.2, 0])
    there = np.isfinite(played)
    beats = np.array([0.0, 2, 4])  # they alone would have the late note at 1.35 be that of 1.5
    found = matching.match(onset, pitch, played[there], pitch[there], beats, beats)
    assert found.tolist() == [0, 1, 2, 3, 4, -1, 5, 6]


def test_beats_are_followed_beyond_both_ends() -> None:
    seconds = matching.interpolate(np.array([-1.0, 0.5, 3.0]), np.array([0.0, 1, 2]), np.array([10.0, 12, 14]))
    assert seconds.tolist() == [8.0, 11.0, 16.0]


_TIMES = arrays.arrays(np.float64, st.integers(0, 7), elements=st.floats(0, 2).map(lambda x: round(x, 2)), unique=True)


@given(_TIMES, _TIMES, st.floats(0.05, 0.8))
def test_the_monotone_match_costs_as_little_as_the_best_assignment(
    expected: np.ndarray, played: np.ndarray, tolerance: float
) -> None:
    expected, played = np.sort(expected), np.sort(played)
    found = matching.monotone(expected, played, np.full(len(expected), tolerance))
    matched = found >= 0
    assert (np.diff(found[matched]) > 0).all()
    distance = np.abs(expected[matched] - played[found[matched]])
    assert (distance <= tolerance + 1e-9).all()
    cost = np.abs(expected[:, None] - played[None])
    cost = np.where(cost <= tolerance, cost, 1e3)
    skipping = np.full((len(expected), len(expected)), tolerance)
    rows, columns = linear_sum_assignment(np.hstack([cost, skipping]))
    assert distance.sum() + tolerance * (~matched).sum() == pytest.approx(
        np.hstack([cost, skipping])[rows, columns].sum()
    )


def test_chords_are_found_without_beats_and_in_a_part_of_the_score() -> None:
    onset = np.repeat(np.arange(40) * 0.5, 2)
    pitch = 50 + np.random.default_rng(0).permutation(80) % 40
    part = slice(20, 60)
    played = 3 + (onset[part] - onset[20]) * 1.3
    written, heard = matching.anchors(onset, pitch, played, pitch[part])
    assert written[0] == onset[20] and written[-1] == onset[59]
    np.testing.assert_allclose(heard, 3 + (written - onset[20]) * 1.3)


MATCH = """info(matchFileVersion,1.0.0).
info(midiClockUnits,480).
info(midiClockRate,500000).
scoreprop(timeSignature,6/8,0:1,0,-1.0000).
snote(n2,[E,b],4,1:1,0,1/8,0.0000,2.0000,[v1,staff1])-note(n2,63,960,1400,80,0,0).
snote(n1,[C,n],5,0:1,0,1/8,-1.0000,0.0000,[v1,staff1])-note(n0,72,480,900,112,0,0).
snote(n3,[F,#],3,1:3,0,0,2.0000,2.0000,[v1,staff1,grace])-note(n3,54,1900,1950,80,0,0).
snote(n4,[G,n],3,1:3,0,1/8,2.0000,3.0000,[v1,staff1])-deletion.
insertion-note(n9,30,2000,2100,50,0,0).
sustain(0,127).
"""


def test_a_match_file_gives_the_score_in_quarters_and_the_seconds_played(tmp_path: Path) -> None:
    (tmp_path / "x.match").write_text(MATCH)
    notes, played = corpora.read_match(tmp_path / "x.match")
    assert notes.pitch.tolist() == [72, 63, 54, 55]
    assert notes.start_beat.tolist() == [0, 0.5, 1.5, 1.5]  # an eighth is a beat here
    assert notes.onset.tolist() == [0, 0.25, 0.75, 0.75]
    np.testing.assert_allclose(notes.offset, [0.25, 0.75, 0.85, 1.0])
    np.testing.assert_allclose(played, [0.5, 1.0, 1900 / 960, np.nan])


def test_a_damaged_match_file_is_told_by_its_line(tmp_path: Path) -> None:
    (tmp_path / "x.match").write_text(MATCH.replace("[F,#]", "[H,#]"))
    with pytest.raises(ScoreError, match=r"x\.match, line 7"):
        corpora.read_match(tmp_path / "x.match")
    (tmp_path / "y.match").write_text("info(matchFileVersion,5.0).\n")
    with pytest.raises(ScoreError, match=r"version 1\.0"):
        corpora.read_match(tmp_path / "y.match")


def _piece(root: Path, composer: str, title: str, beats: np.ndarray, extra: int = 0) -> dict[str, str]:
    folder = f"{composer}/{title}"
    (root / folder).mkdir(parents=True)
    pitch = 60 + np.arange(len(beats)) % 5
    for name, times in (("score", np.arange(len(beats)) * 0.5), ("play", beats)):
        notes = Notes(times, times + 0.2, pitch)
        scores.to_midi(notes).write(str(root / folder / f"{name}.mid"))
        shown = times[: len(times) - extra] if name == "play" else times
        (root / folder / f"{name}.txt").write_text("".join(f"{t}\t{t}\tb\n" for t in shown))
    return {
        "composer": composer,
        "title": title,
        "folder": folder,
        "midi_score": f"{folder}/score.mid",
        "midi_performance": f"{folder}/play.mid",
        "midi_score_annotations": f"{folder}/score.txt",
        "performance_annotations": f"{folder}/play.txt",
    }


def _collection(root: Path, pieces: list[dict[str, str]]) -> list[truth.Entry]:
    with (root / "metadata.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(pieces[0]))
        writer.writeheader()
        writer.writerows(pieces)
    return truth.asap_entries(root)


def test_a_piece_whose_beats_disagree_is_left_out_and_others_have_their_truth(tmp_path: Path) -> None:
    beats = np.array([0.4, 1.0, 1.7, 2.2, 2.8, 3.6])
    entries = _collection(tmp_path, [_piece(tmp_path, "A", "one", beats), _piece(tmp_path, "A", "two", beats, extra=1)])
    assert [entry.id for entry in entries] == ["A-one"]
    pair = truth.read_asap(entries[0])
    np.testing.assert_allclose(pair.truth, beats, atol=1e-3)
    assert pair.score.notes.onset.tolist() == [0, 0.5, 1, 1.5, 2, 2.5]


def test_no_work_is_developed_on_and_reported_and_long_pieces_are_reported(tmp_path: Path) -> None:
    short, long = np.arange(5) * 0.5, np.append(np.arange(4) * 0.5, 721)
    pieces = [_piece(tmp_path, "A", f"{name}{form}", short) for name in "abcdefgh" for form in ("", "_no_repeat")]
    pieces += [_piece(tmp_path, "A", "long", long), _piece(tmp_path, "B", "alone", short)]
    entries = _collection(tmp_path, pieces)
    chosen = truth.select(entries, cap=4)
    works = {name: [(entry.composer, entry.work) for entry in part] for name, part in chosen.items()}
    assert len(works["development"]) == 2 and len(works["report"]) == 5
    assert not set(works["development"]) & set(works["report"])
    assert {("A", "long"), ("B", "alone")} <= set(works["report"])
    assert truth.select(entries[::-1], cap=4) == chosen


def test_a_room_neither_delays_nor_clips_and_is_the_same_each_time() -> None:
    click = np.zeros(22050, np.float32)
    click[5000] = 1.0
    heard = truth.in_a_room(click, 22050, "x")
    assert int(np.argmax(np.abs(heard))) == 5000
    assert np.abs(heard).max() == pytest.approx(0.7)
    assert np.abs(heard[:4999]).max() < 0.01 < np.abs(heard[5001:6000]).max()
    np.testing.assert_array_equal(heard, truth.in_a_room(click, 22050, "x"))
    assert not np.array_equal(heard, truth.in_a_room(click, 22050, "y"))


def test_a_warp_is_followed_at_the_middle_of_its_plateaus() -> None:
    path = np.array([[0, 0], [1, 1], [2, 1], [3, 1], [4, 2], [4, 3]], np.float64)
    assert ways.along(path, np.array([0, 1, 1.5, 2.5, 9])).tolist() == [0, 2, 3, 4, 4]


def test_labels_are_told_by_beat_pitch_and_instrument() -> None:
    score = Notes.from_list([Note(0, 1, 60), Note(0.5, 1, 60), Note(1, 2, 64), Note(1, 2, 64)])
    score = scores.with_columns(score, start_beat=score.onset * 2)
    labels = scores.with_columns(score, onset=np.array([3, 3.4, 4, 4.1]), offset=np.full(4, 9.0))
    labels = Notes.concatenate([labels[[0, 2, 3]], labels[[0]].shift(5)])
    found, extra = ways.of_score(score, labels)
    np.testing.assert_allclose(found, [3, np.nan, 4, 4.1])
    assert extra == 1


def test_a_note_left_out_counts_as_wrong_and_one_without_truth_does_not() -> None:
    played = np.array([1.0, 2, 3, np.nan, 5])
    error = accuracy.errors(played, np.array([1.02, 2.07, np.nan, 4, 5.2]))
    told = accuracy.summary(error)
    assert told["notes"] == 4
    assert (told["over_50"], told["over_100"]) == (75.0, 50.0)
    assert told["median"] == pytest.approx(70)
    assert told["p95"] == pytest.approx(200)


def test_our_aligner_is_given_the_other_soundfont_and_its_labels_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ways.SCORE_PLAYED_ON).write_bytes(b"")
    monkeypatch.setenv("MUSICNET_SOUNDFONTS", str(tmp_path))
    monkeypatch.setattr("musicnet_tf.synthesis.SOUNDFONT_FOLDERS", ())
    notes = scores.with_columns(Notes.from_list([Note(0, 1, 60), Note(1, 2, 62)]), start_beat=np.array([0.0, 2.0]))
    soundfile.write(tmp_path / "r.wav", np.zeros(3200), 16000)

    def align(sound: np.ndarray, rate: int, score: Score, settings: Settings) -> Alignment:
        assert (len(sound), rate, Path(settings.soundfont or "").name) == (3200, 16000, ways.SCORE_PLAYED_ON)
        path = np.zeros((1, 2))
        return Alignment(score.notes[[1]].shift(0.5), np.ones(1), path, (), 0.75, (), 0.2)

    aligner = types.ModuleType("musicnet_tf.alignment.aligner")
    aligner.align = align  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, aligner.__name__, aligner)
    monkeypatch.setattr("musicnet_tf.alignment.aligner", aligner, raising=False)
    pair = truth.Pair("p", "A", "w", Score(notes), notes, notes.onset, tmp_path / "r.wav")
    found, details = ways.onsets(ways.Way("best", Settings()), pair, tmp_path)
    np.testing.assert_array_equal(found, [np.nan, 1.5])
    assert details == {"accepted": True, "confidence": 0.75, "findings": [], "extra": 0}


def test_a_soundfont_that_is_missing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSICNET_SOUNDFONTS", str(tmp_path))
    monkeypatch.setattr("musicnet_tf.synthesis.SOUNDFONT_FOLDERS", ())
    with pytest.raises(AudioError, match=truth.PERFORMED_ON):
        truth.soundfont(truth.PERFORMED_ON)


def test_the_sweep_changes_one_key_at_a_time() -> None:
    base = Settings()
    varied = accuracy.sweep(base)
    assert len({way.key() for way in varied}) == len(varied)
    for way in varied[1:]:
        flat = [{**settings.model_dump(), **settings.features.model_dump()} for settings in (base, way.settings)]
        changed = {key for key in flat[0] if flat[0][key] != flat[1][key]} - {"features"}
        assert len(changed) == 1
        assert changed.pop() == way.name.split("=")[0]


def test_a_refused_pair_is_kept_with_its_reason_and_counts_as_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = Notes.from_list([Note(0, 1, 60)])
    pair = truth.Pair("p", "A", "w", Score(notes), notes, np.array([0.3]))

    def refuse(*_: object) -> None:
        raise AlignmentError("too long")

    monkeypatch.setattr(ways, "onsets", refuse)
    first = accuracy.measure(ways.Way("librosa_stft"), pair, tmp_path, False)
    monkeypatch.setattr(ways, "onsets", lambda *_: (np.array([0.31]), {}))
    kept = accuracy.measure(ways.Way("librosa_stft"), pair, tmp_path, False)
    assert first == kept and kept["error"] == "too long"
    assert accuracy.errors(pair.truth, np.array(kept["onsets"], np.float64)).tolist() == [np.inf]
    fresh = accuracy.measure(ways.Way("librosa_stft"), pair, tmp_path, True)
    assert fresh["onsets"] == [0.31]


def test_librosa_follows_a_melody_to_within_its_hop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rate = ways.SAMPLE_RATE
    onset = np.arange(12) * 0.5
    played = np.append(0, np.cumsum(0.5 + 0.15 * np.sin(np.arange(11))))
    pitch = 60 + np.array([0, 4, 7, 2, 5, 9, 11, 3, 8, 1, 6, 10])

    def sine(path: Path, starts: np.ndarray, end: float) -> Path:
        time = np.arange(round(end * rate)) / rate
        note = np.searchsorted(starts, time, side="right") - 1
        soundfile.write(path, 0.5 * np.sin(2 * np.pi * 440 * 2 ** ((pitch[note] - 69) / 12) * time), rate)
        return path

    recording = sine(tmp_path / "r.flac", played, played[-1] + 0.6)
    score = Score(Notes(onset, onset + 0.5, pitch))

    def score_sound(pair: truth.Pair, stretch: float, cache: Path) -> Path:
        return sine(cache / "s.flac", onset * stretch, score.notes.end * stretch)

    monkeypatch.setattr(ways, "score_sound", score_sound)
    pair = truth.Pair("p", "A", "w", score, score.notes, played, recording)
    found, details = ways.onsets(ways.Way("librosa_stft"), pair, tmp_path)
    assert np.abs(found - played).max() < 2 * details["hop_length"] / rate


def test_matching_about_beats_agrees_with_the_published_matches(shared_data: Path, tmp_path: Path) -> None:
    name = "Schubert_D783_no15_p01"
    (tmp_path / "match").mkdir()
    with tarfile.open(shared_data / "scores_and_performances.tar.xz") as archive:
        member = next((m for m in archive if m.name.endswith(f"{name}.match")), None)
        assert member is not None
        text = archive.extractfile(member).read().decode()  # type: ignore[union-attr]
    (tmp_path / "match" / f"{name}.match").write_text(text)
    plain = [
        line for line in text.splitlines() if line.startswith("snote") and ")-note(" in line and "grace" not in line
    ]
    check = corpora.check_matching(tmp_path)
    assert check.notes == len(plain)
    assert check.wrong / check.notes < 0.01
    assert check.missed / check.notes < 0.02

from __future__ import annotations

import dataclasses
import itertools
import shutil

import numpy as np
import pytest
import scipy.stats
import synthetic
from hypothesis import given
from hypothesis import strategies as st

from musicnet_tf import synthesis
from musicnet_tf.alignment import label_check, label_clips, label_evidence
from musicnet_tf.alignment.label_check import VERDICTS, CheckSettings, judge, systematic_offset
from musicnet_tf.alignment.label_clips import Checked, Clip, Tally
from musicnet_tf.datasets.musicnet import MusicNet
from musicnet_tf.errors import AudioError, ConfigError, DatasetError, ScoreError
from musicnet_tf.events import Notes
from musicnet_tf.validation import construct

RATE = 16000


def chorale(seconds: float, seed: int = 0) -> Notes:
    """Four voices that move independently by scale steps, exactly as labelled."""
    rng = np.random.default_rng(seed)
    scale = np.array([d + 12 * octave for octave in range(3, 8) for d in (0, 2, 4, 5, 7, 9, 11)])
    onset, offset, pitch = [], [], []
    for voice, centre in enumerate((8, 14, 20, 25)):
        time, step = 0.1 + 0.05 * voice, centre
        while time < seconds - 1.5:
            length = rng.choice([0.25, 0.5, 0.75])
            onset.append(time)
            offset.append(time + 0.9 * length)
            pitch.append(scale[step])
            step = int(np.clip(step + rng.choice([-3, -2, -1, 1, 2, 3]), centre - 4, centre + 4))
            time += length + rng.uniform(-0.02, 0.02)
    return Notes(onset, offset, pitch)


def shifted(notes: Notes, share: float, seconds: float, seed: int = 0) -> tuple[Notes, np.ndarray]:
    """The notes with exactly this share of them early or late by `seconds`, and which notes these are now."""
    rng = np.random.default_rng(seed)
    move = np.zeros(len(notes))
    move[rng.choice(len(notes), round(share * len(notes)), replace=False)] = seconds
    move *= rng.choice([-1, 1], len(notes))
    move = np.where(notes.onset + move < 0, -move, move)
    onset = notes.onset + move
    order = np.lexsort((notes.instrument, notes.pitch, onset))
    return Notes(onset, notes.offset + move, notes.pitch, instrument=notes.instrument), move[order]


@pytest.fixture(scope="module")
def music() -> tuple[Notes, label_evidence.Peaks, float]:
    """Three minutes of synthetic chorale: its exact labels, the evidence in its sound and its duration."""
    seconds = 180.0
    notes = chorale(seconds)
    return notes, label_evidence.onset_peaks(synthetic.synthesise(notes, RATE, seconds), RATE), seconds


def test_the_strongest_peak_of_a_lone_tone_is_its_onset():
    sound = synthetic.synthesise(Notes([1.5], [2.5], [64]), RATE, 4.0)
    peaks = label_evidence.onset_peaks(sound, RATE)
    assert (np.diff(peaks.pitch) >= 0).all()
    own = peaks.of(64)
    assert own.time[np.argmax(own.strength)] == pytest.approx(1.5, abs=0.012)


def test_evidence_does_not_depend_on_level_or_sample_rate():
    notes = chorale(12.0)
    loud, quiet = (label_evidence.onset_peaks(g * synthetic.synthesise(notes, RATE, 12.0), RATE) for g in (1, 0.01))
    assert len(loud.time) == pytest.approx(len(quiet.time), rel=0.001)
    np.testing.assert_allclose(*(np.sort(p.strength)[-500:] for p in (loud, quiet)), rtol=0.001)
    other = label_evidence.onset_peaks(synthetic.synthesise(notes, 44100, 12.0), 44100)
    for note in notes:
        near = [p.of(note.pitch).strength[np.abs(p.of(note.pitch).time - note.onset) < 0.03] for p in (loud, other)]
        assert near[1].max(initial=0) == pytest.approx(near[0].max(initial=0), rel=0.3, abs=0.3)


def test_blocks_leave_no_seam(monkeypatch):
    sound = synthetic.synthesise(chorale(10.0), RATE, 10.0)
    whole = label_evidence.onset_peaks(sound, RATE)
    monkeypatch.setattr(label_evidence, "_BLOCK_FRAMES", 100)
    pieces = label_evidence.onset_peaks(sound, RATE)
    np.testing.assert_allclose(pieces.time, whole.time, atol=1e-4)
    np.testing.assert_allclose(pieces.strength, whole.strength, rtol=1e-3)


def test_silence_is_refused():
    with pytest.raises(AudioError, match="silent"):
        label_evidence.onset_peaks(np.zeros(RATE, np.float32), RATE)


def test_fundamental_of_labels_and_of_wrong_pitches():
    onset, pitch = np.arange(10) * 0.5 + 0.2, np.arange(48, 78, 3)
    sound = synthetic.synthesise(Notes(onset, onset + 0.4, pitch), RATE, 6.0, harmonics=1)
    assert label_evidence.has_fundamental(sound, RATE, onset, pitch).all()
    assert not label_evidence.has_fundamental(sound, RATE, onset, pitch + 6).any()
    assert not label_evidence.has_fundamental(sound, RATE, np.array([-1.0, 5.95]), np.array([60, 60])).any()


@pytest.mark.parametrize(("share", "seconds"), [(0.0, 0.2), (0.05, 0.2), (0.05, 0.5), (0.1, 0.2), (0.2, 0.2)])
def test_the_injected_share_is_reported(music, share, seconds):
    notes, peaks, duration = music
    labels, moved = shifted(notes, share, seconds)
    judged = judge(peaks, labels, duration)
    assert judged.share == pytest.approx(np.mean(moved != 0), abs=0.005 if share <= 0.05 and seconds <= 0.2 else 0.01)


def test_the_labels_that_moved_are_named_with_how_far(music):
    notes, peaks, duration = music
    labels, moved = shifted(notes, 0.05, 0.2)
    judged = judge(peaks, labels, duration)
    flagged = judged.verdict == VERDICTS.index("misaligned")
    assert flagged[moved != 0].mean() > 0.8
    assert flagged[moved == 0].mean() < 0.01
    found = judged.displacement[flagged & (moved != 0)]
    assert np.mean(np.abs(found + moved[flagged & (moved != 0)]) < 0.03) > 0.9
    assert np.nanmax(np.abs(judged.displacement[judged.verdict == VERDICTS.index("aligned")])) <= 0.05


@pytest.mark.parametrize("late", [0.027, -0.03, 0.2])
def test_a_constant_shift_is_told_as_such_and_not_as_errors(music, late):
    notes, peaks, duration = music
    judged = judge(peaks, notes.shift(late), duration)
    assert judged.offset == pytest.approx(systematic_offset(peaks, notes, 0.4) - late, abs=0.003)
    assert systematic_offset(peaks, notes, 0.4) == pytest.approx(0.0, abs=0.012)  # clicks are heard a little early
    assert judged.share < 0.005


def test_without_offset_a_constant_shift_beyond_the_tolerance_is_an_error(music):
    notes, peaks, duration = music
    judged = judge(peaks, notes.shift(0.2), duration, CheckSettings(remove_offset=False))
    assert judged.offset == 0.0
    assert judged.share > 0.5


def test_what_cannot_be_told_is_left_out(music):
    notes, peaks, duration = music
    beyond, off_piano = Notes([duration + 1], [duration + 2], [60]), Notes([5.0], [6.0], [10])
    labels = Notes.concatenate([notes, beyond, off_piano])
    judged = judge(peaks, labels, duration)
    assert judged.probability[labels.onset > duration].tolist() == [1.0]
    assert judged.verdict[labels.onset > duration].tolist() == [VERDICTS.index("misaligned")]
    assert np.isnan(judged.probability[labels.pitch == 10]).all()
    assert judged.verdict[labels.pitch == 10].tolist() == [VERDICTS.index("undecided")]


def test_trills_and_unsounded_labels_do_not_pass_for_aligned(music):
    notes, peaks, duration = music
    trill = np.arange(20.0, 24.0, 0.1)
    labels = Notes.concatenate([notes, Notes(trill, trill + 0.09, np.full(len(trill), 100))])
    judged = judge(peaks, labels, duration)
    assert np.isnan(judged.probability[labels.pitch == 100][5:-5]).all()


def test_labels_of_another_piece_are_wrong(music):
    _, peaks, duration = music
    judged = judge(peaks, chorale(180.0, seed=7), duration)
    assert judged.share > 0.6


def test_no_labels_and_wrong_settings_are_refused(music):
    with pytest.raises(ScoreError, match="no labels"):
        judge(music[1], Notes.empty(), 10.0)
    with pytest.raises(ConfigError, match="twice the tolerance"):
        construct(CheckSettings, {"tolerance": 0.3, "reach": 0.5}, "settings")
    with pytest.raises(ConfigError, match="tolerance"):
        construct(CheckSettings, {"tolerance": -1}, "settings")


def test_a_single_label_is_judged(music):
    notes, peaks, duration = music
    judged = judge(peaks, notes[10:11], duration)
    assert judged.verdict[0] != VERDICTS.index("misaligned")
    assert 0 <= judged.share < 0.5


times = st.floats(0, 200, allow_nan=False, width=32)


@given(st.lists(times, min_size=1, max_size=30), st.floats(1, 200), st.floats(1, 60))
def test_a_whole_recording_gives_each_label_one_clip(onsets, duration, seconds):
    notes = Notes(onsets, np.array(onsets) + 0.1, np.full(len(onsets), 60))
    clips = label_clips.whole(notes, duration, seconds)
    assert [sum(c.start <= t < c.stop for c in clips) for t in notes.onset] == [1] * len(notes)
    assert all(a.stop == b.start for a, b in itertools.pairwise(clips))


@given(st.integers(0, 1000), st.integers(1, 40), st.floats(5, 400), st.floats(1, 60))
def test_drawn_clips_lie_in_the_recording_and_apart(seed, count, duration, seconds):
    notes = Notes([1.0, duration - 2], [2.0, duration - 1], [60, 62])
    clips = label_clips.draw(np.random.default_rng(seed), notes, duration, count, seconds)
    assert clips == label_clips.draw(np.random.default_rng(seed), notes, duration, count, seconds)
    assert 1 <= len(clips) <= count
    assert clips[0].start >= 1.0 and clips[-1].stop <= duration
    assert all(b.start >= a.stop - 1e-9 for a, b in itertools.pairwise(clips))
    assert all(c.stop - c.start <= seconds + 1e-9 for c in clips)


def test_clips_spread_over_ensembles_rather_than_recordings():
    groups = {f"piano{k}": "piano" for k in range(50)} | {"quintet": "quintet", "duo1": "duo", "duo2": "duo"}
    drawn = label_clips.spread(np.random.default_rng(0), groups, 30)
    by_group = {g: sum(n for name, n in drawn.items() if groups[name] == g) for g in ("piano", "quintet", "duo")}
    assert by_group == {"piano": 10, "quintet": 10, "duo": 10}
    assert drawn["duo1"] == drawn["duo2"] == 5
    assert sum(name.startswith("piano") for name in drawn) == 10
    assert drawn == label_clips.spread(np.random.default_rng(0), dict(reversed(groups.items())), 30)
    with pytest.raises(DatasetError, match="no recording"):
        label_clips.spread(np.random.default_rng(0), {}, 30)


def test_interval_agrees_with_scipy():
    rng = np.random.default_rng(3)
    told = rng.integers(50, 200, 25)
    expected = told * rng.beta(1, 15, 25)
    tallies = [Tally(int(n), int(n), float(x)) for n, x in zip(told, expected, strict=True)]
    oracle = scipy.stats.bootstrap(
        (expected, told.astype(float)),
        lambda e, t, axis: e.sum(axis) / t.sum(axis),
        paired=True,
        method="percentile",
        n_resamples=5000,
        random_state=1,
    ).confidence_interval
    assert label_clips.interval(tallies) == pytest.approx((oracle.low, oracle.high), abs=0.004)
    assert label_clips.interval(tallies[:3]) is None


def test_tallies_add_up_by_clip_and_by_instrument(music):
    notes, peaks, duration = music
    notes = dataclasses.replace(notes, instrument=np.where(notes.pitch < 60, 42, 40))
    judged = judge(peaks, notes, duration)
    found = np.ones(len(notes), bool)
    checked = Checked(judged, found, label_clips.whole(notes, duration))
    report = label_clips.LabelReport({"tolerance": 0.05}, {"a": checked})
    parts = report.to_json()
    assert sum(clip["labels"] for clip in parts["clips"]) == parts["pooled"]["labels"] == len(notes)
    assert {name: row["labels"] for name, row in parts["instruments"].items()} == {
        "Cello": int(np.sum(notes.pitch < 60)),
        "Violin": int(np.sum(notes.pitch >= 60)),
    }
    assert parts["pooled"]["error_rate"] == pytest.approx(judged.share, abs=1e-5)
    undecided, wrong = (np.mean(judged.verdict == VERDICTS.index(v)) for v in ("undecided", "misaligned"))
    assert parts["pooled"]["optimistic"] == pytest.approx(wrong, abs=1e-5)
    assert parts["pooled"]["pessimistic"] == pytest.approx(wrong + undecided, abs=1e-5)
    assert parts["pooled"]["fundamental"] == 1.0


def test_clips_without_labels_are_refused():
    sound = synthetic.synthesise(Notes([1.0], [2.0], [60]), RATE, 4.0)
    with pytest.raises(ScoreError, match="no label begins"):
        label_clips.check(sound, RATE, Notes([1.0], [2.0], [60]), (Clip(2.0, 3.0),))


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("fluidsynth"), reason="fluidsynth is not installed")
def test_on_rendered_piano_the_injected_share_is_reported():
    soundfonts = synthesis.find_soundfonts()
    if not soundfonts:
        pytest.skip("no soundfont is installed")
    errors, clean = [], []
    for seed in range(4):
        notes = chorale(90.0, seed)
        velocity = np.random.default_rng(seed).integers(45, 100, len(notes))
        sound = synthesis.render(dataclasses.replace(notes, velocity=velocity), soundfonts[0], RATE, gain=0.3)
        peaks, duration = label_evidence.onset_peaks(sound, RATE), len(sound) / RATE
        clean.append(judge(peaks, notes, duration).share)
        for draw in range(6):
            labels, moved = shifted(notes, 0.05, 0.2, seed + 100 * draw)
            errors.append(judge(peaks, labels, duration).share - np.mean(moved != 0))
    assert np.mean(errors) == pytest.approx(0, abs=0.005)
    assert np.std(errors) < 0.01
    assert np.mean(clean) < 0.005


@pytest.mark.slow
def test_the_known_delay_of_musicnets_piano_labels_is_found(shared_data):
    corpus = MusicNet(root=shared_data / "musicnet")
    (recording,) = [r for r in corpus.recordings() if r.id == "2247"]
    sound, notes = corpus.load_audio(recording, RATE), corpus.load_notes(recording)
    judged = label_check.judge(label_evidence.onset_peaks(sound, RATE), notes, len(sound) / RATE)
    assert -0.035 < judged.offset < -0.018
    assert judged.share < 0.1

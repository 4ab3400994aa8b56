from __future__ import annotations

import shutil

import numpy as np
import pytest

from musicnet_tf import synthesis
from musicnet_tf.alignment import aligner, judgement
from musicnet_tf.alignment.hearing import Heard
from musicnet_tf.alignment.settings import Features, Settings
from musicnet_tf.errors import AlignmentError, AudioError, ScoreError
from musicnet_tf.events import Notes, Score
from musicnet_tf.timebase import FrameClock

RATE = 22050
needs_fluidsynth = pytest.mark.skipif(
    shutil.which("fluidsynth") is None or not synthesis.find_soundfonts(), reason="needs fluidsynth and a soundfont"
)


def melody(count: int = 60, seed: int = 0) -> Notes:
    """Two voices, a chord at every other step."""
    rng = np.random.default_rng(seed)
    onset = np.concatenate([np.arange(count) * 0.5, np.arange(0, count, 2) * 0.5])
    pitch = np.concatenate([rng.integers(60, 84, count), rng.integers(40, 58, (count + 1) // 2)])
    return Notes(onset, onset + 0.45, pitch, None, np.zeros(len(onset)), start_beat=onset * 2, end_beat=0.9 + 0 * onset)


def performed(notes: Notes, seed: int = 0) -> Notes:
    """The same music, from slow to fast and with play, after a second of silence."""
    rng = np.random.default_rng(seed)
    beats = np.unique(notes.onset)
    step = 0.6 + 0.25 * np.sin(np.arange(len(beats)) / 6) + rng.uniform(-0.03, 0.03, len(beats))
    time = 1.0 + np.concatenate([[0.0], np.cumsum(step)[:-1]])
    onset = np.interp(notes.onset, beats, time)
    columns = (notes.pitch, None, notes.instrument)
    return Notes(onset, onset + 0.4, *columns)


@needs_fluidsynth
@pytest.mark.parametrize(
    "settings",
    [
        Settings(),
        Settings(features=Features(kind="pitch_onset"), step_penalty=0.3),
        Settings(features=Features(kind="chroma_onset")),
        Settings(
            features=Features(kind="spectrogram", sample_rate=44100, hop_length=512, cutoff=50),
            norm="l2",
            method="exact",
            step_weights=(1, 1, 1),
            step_penalty=0,
            find_jumps=False,
        ),
    ],
    ids=["best", "pitch_onset", "chroma_onset", "paper"],
)
def test_every_note_is_found_where_it_was_played(settings):
    score = Score(melody())
    truth = performed(score.notes)
    audio = synthesis.render(truth, synthesis.default_soundfont(), RATE)
    found = aligner.align(audio, RATE, score, settings)
    assert found.accepted
    assert len(found.segments) == 1
    written = np.lexsort((found.notes.pitch, found.notes.start_beat))
    assert found.notes.pitch[written].tolist() == truth.pitch.tolist()
    error = np.abs(found.notes.onset[written] - truth.onset)
    assert np.median(error) < 0.03
    assert np.quantile(error, 0.95) < 0.1
    assert np.array_equal(found.notes.start_beat[written], score.notes.start_beat)
    assert ((found.note_confidence >= 0) & (found.note_confidence <= 1)).all()
    assert (np.diff(found.path, axis=0) >= 0).all()
    assert found.details["soundfont"] == synthesis.default_soundfont().name


@needs_fluidsynth
def test_another_piece_is_rejected():
    score = Score(melody(seed=5))
    audio = synthesis.render(performed(melody(seed=11)), synthesis.default_soundfont(), RATE)
    found = aligner.align(audio, RATE, score)
    assert not found.accepted
    assert found.findings[0].kind == "wrong_piece"
    assert aligner.match_cost(audio, RATE, score) > 2 * aligner.match_cost(audio, RATE, Score(melody(seed=11)))


def test_a_silent_recording_is_refused():
    with pytest.raises(AudioError, match="the recording is silent, or"):
        aligner.align(np.zeros(RATE * 3, np.float32), RATE, Score(melody()))


def test_a_recording_that_is_no_numbers_is_refused():
    audio = np.full(RATE * 3, 0.1, np.float32)
    audio[RATE] = np.nan
    with pytest.raises(AudioError, match="no finite numbers"):
        aligner.align(audio, RATE, Score(melody()))


def test_the_sounding_span_leaves_three_seconds_of_silence_at_either_end():
    audio = np.zeros(RATE * 30, np.float32)
    audio[RATE * 10 : RATE * 12] = 0.5
    assert aligner.sounding_span(audio, RATE) == pytest.approx((9.0, 13.0), abs=0.1)
    assert aligner.sounding_span(audio[RATE * 9 : RATE * 13], RATE) == pytest.approx((0.0, 4.0))


@needs_fluidsynth
def test_long_silence_around_the_music_is_told_and_does_no_harm():
    score = Score(melody(24))
    truth = performed(score.notes)
    sound = synthesis.render(truth, synthesis.default_soundfont(), RATE)
    audio = np.pad(sound, (RATE * 40, RATE * 60))
    audio += np.random.default_rng(0).normal(0, 1e-5, len(audio)).astype(np.float32)
    found = aligner.align(audio, RATE, score, Settings(features=Features(kind="chroma_onset")))
    assert found.accepted
    assert {"leading_silence", "trailing_silence"} <= {finding.kind for finding in found.findings}
    written = np.lexsort((found.notes.pitch, found.notes.start_beat))
    assert found.notes.pitch[written].tolist() == truth.pitch.tolist()
    assert np.median(np.abs(found.notes.onset[written] - truth.onset - 40)) < 0.03


@needs_fluidsynth
def test_noise_that_matches_little_of_the_score_is_rejected():
    noise = np.random.default_rng(0).normal(0, 0.1, RATE * 12).astype(np.float32)
    assert not aligner.align(noise, RATE, Score(melody(24)), Settings(features=Features(kind="chroma_onset"))).accepted


def test_exact_alignment_that_needs_too_much_memory_is_refused_before_any_work(monkeypatch):
    monkeypatch.setattr(synthesis, "render", lambda *_, **__: pytest.fail("synthesised"))
    paper = Settings(features=Features(kind="spectrogram", hop_length=441), method="exact", max_memory_gib=0.001)
    told: list[str] = []
    # 30 s are 1500 frames of 20 ms, the score and the silence before it 1525: 2.2 MB, a byte a pair.
    with pytest.raises(AlignmentError, match=r"1500 by 1525 frames .* more than max_memory_gib = 0\.001; use method"):
        aligner.align(np.ones(RATE * 30, np.float32), RATE, Score(melody()), paper, progress=told.append)
    assert told == []


@needs_fluidsynth
def test_stages_are_told_in_order():
    score, told = Score(melody()), []
    audio = synthesis.render(performed(score.notes), synthesis.default_soundfont(), RATE)
    aligner.align(audio, RATE, score, Settings(features=Features(kind="chroma")), progress=told.append)
    assert told == [stage for stage in aligner.STAGES if stage in told]
    assert {"synthesis", "structure", "features", "warping"} <= set(told)


def test_an_empty_score_is_refused():
    with pytest.raises(ScoreError, match="has no notes"):
        aligner.align(np.ones(RATE * 3, np.float32), RATE, Score(Notes.empty()))


def test_a_recording_without_samples_is_refused():
    with pytest.raises(AudioError, match="empty"):
        aligner.align(np.zeros(0, np.float32), RATE, Score(melody()))


@needs_fluidsynth
def test_a_soundfont_tells_its_licence(tmp_path):
    header = b"RIFF\0\0\0\0sfbkLIST\0\0\0\0INFOICOP\x09\0\0\0MIT yours"
    (tmp_path / "a.sf2").write_bytes(header)
    assert synthesis.licence(tmp_path / "a.sf2") == "MIT yours"
    (tmp_path / "b.sf2").write_bytes(b"RIFF")
    assert synthesis.licence(tmp_path / "b.sf2") == ""


def test_notes_move_onto_onsets_that_the_model_hears_and_carry_how_surely():
    notes = Notes([1.0, 1.0, 2.0, 2.0], [1.5, 1.5, 2.5, 2.5], [60, 64, 62, 90])
    clock = FrameClock(16000, 320)
    onsets = np.zeros((200, 88), np.float32)
    for frame, pitch, strength in ((27, 60, 0.8), (24, 64, 0.6), (100, 62, 0.9)):  # of a part that begins at 0.5 s
        onsets[frame - 1 : frame + 2, pitch - 21] = strength * np.array([0.5, 1, 0.5])
    found, confidence = aligner._snapped(
        notes, np.full(4, 0.4), Heard({"frame": onsets, "onset": onsets}, clock, 21), 0.5, 0.05
    )
    # 27 frames and half a second are 1.04 s, 24 are 0.98 s; 100 are 2.5 s, out of reach; of 90 nothing is heard.
    assert found.pitch.tolist() == [64, 60, 62, 90]
    np.testing.assert_allclose(found.onset, [0.98, 1.04, 2.0, 2.0], atol=1e-6)
    bells = 0.6 * np.exp(-0.5 * 0.4**2), 0.8 * np.exp(-0.5 * 0.8**2)
    np.testing.assert_allclose(confidence, [(0.4 + bells[0]) / 2, (0.4 + bells[1]) / 2, 0.2, 0.2], atol=1e-6)


def test_a_note_is_as_sure_as_the_path_around_it_is_cheap():
    times = np.arange(0, 10, 0.1)
    costs = np.where(times < 5, 0.2, 1.3)  # of frames at random
    warp = aligner.Warp(times, times, costs)
    found = judgement.of_notes(Notes([2.0, 5.0, 8.0], [3.0, 6.0, 9.0], [60, 62, 64]), warp)
    # Around 5.0 s, within 0.25 s: 4.8 and 4.9 at 0.2; 5.0, 5.1 and 5.2 at 1.3.
    np.testing.assert_allclose(found, [0.8, 1 - (2 * 0.2 + 3 * 1.3) / 5, 0.0], atol=1e-9)

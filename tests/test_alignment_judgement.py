from __future__ import annotations

import numpy as np
import pytest

from musicnet_tf.alignment import judgement
from musicnet_tf.alignment.result import Finding, Segment
from musicnet_tf.alignment.structure import Jump, Structure
from musicnet_tf.events import Notes, Score

RATE = 22050
MUSIC = 10.0
"""Seconds at which the path leaves the recording: half a second after the last chord has begun."""


def tone(pitch: float, seconds: float, decay: float) -> np.ndarray:
    """Six partials, the higher ones weaker and quicker to fade; `decay` is the time constant of the lowest."""
    time = np.arange(round(seconds * RATE)) / RATE
    frequency = 440.0 * 2 ** ((pitch - 69) / 12)
    partials = [np.sin(2 * np.pi * k * frequency * time) / k * np.exp(-time * k / decay) for k in range(1, 7)]
    return np.sum(partials, axis=0) * np.minimum(1.0, time / 0.005)


def add(sound: np.ndarray, start: float, part: np.ndarray) -> np.ndarray:
    first = round(start * RATE)
    length = min(len(part), len(sound) - first)
    changed = sound.copy()
    changed[first : first + length] += part[:length]
    return changed


def performance(seconds: float) -> np.ndarray:
    """A scale, and from 9.5 s on a chord that dies away."""
    sound = 1e-4 * np.random.default_rng(0).standard_normal(round(seconds * RATE))
    for place in range(19):
        sound = add(sound, 0.5 * place, 0.1 * tone(60 + place % 12, 0.6, 0.4))
    for pitch in (48, 55, 64, 72):
        sound = add(sound, MUSIC - 0.5, 0.08 * tone(pitch, seconds, 1.5))
    return sound.astype(np.float32)


def told(audio: np.ndarray, **changes: object) -> tuple[Finding, ...]:
    onset = np.arange(20) * 0.5
    velocity, instrument = np.full(20, 64), np.zeros(20, np.int64)
    notes = Notes(onset, onset + 0.5, np.full(20, 60), velocity, instrument, onset, np.full(20, 0.5))
    whole = (Segment(0.0, MUSIC),)
    values: dict = {"segments": whole, "jumps": (), "music": (0.0, MUSIC), "cost": 0.1, **changes}
    found = Structure(tempo=1.0, random_cost=0.5, path=np.zeros((0, 2)), **values)
    return judgement.findings(found, Score(notes), found.segments, 1.0, audio, RATE, True)


def kinds(audio: np.ndarray, **changes: object) -> list[str]:
    return [finding.kind for finding in told(audio, **changes)]


def noise(seconds: float) -> np.ndarray:
    return np.random.default_rng(1).standard_normal(round(seconds * RATE))


def applause(seconds: float) -> np.ndarray:
    """Thirty claps a second, each an exponentially fading burst."""
    rng, sound = np.random.default_rng(2), np.zeros(round(seconds * RATE))
    for start in rng.uniform(0, seconds - 0.05, round(30 * seconds)):
        sound = add(sound, start, 0.2 * rng.standard_normal(400) * np.exp(-np.arange(400) / 80))
    return sound


def fading(sound: np.ndarray) -> np.ndarray:
    return sound * np.exp(-np.arange(len(sound)) / RATE)


@pytest.mark.parametrize("seconds", [12.0, 14.0, 18.0])
def test_a_last_chord_that_dies_away_is_not_told(seconds):
    assert kinds(performance(seconds)) == []


@pytest.mark.parametrize("sample_rate", [16000, 44100])
def test_a_dying_chord_is_known_at_any_rate(sample_rate):
    from musicnet_tf import audio

    sound = audio.resample(performance(16.0), RATE, sample_rate)
    assert judgement._dies_away(sound, sample_rate, (0.0, MUSIC), 16.0)


@pytest.mark.parametrize(
    "part",
    [
        pytest.param(applause(6.0), id="applause"),
        pytest.param(fading(applause(6.0)), id="applause that fades"),
        pytest.param(0.02 * noise(6.0), id="steady noise"),
        pytest.param(0.08 * tone(67, 6.0, 1.0), id="one more note"),
        pytest.param(performance(18.0)[: 6 * RATE], id="other music"),
    ],
)
@pytest.mark.parametrize("start", [MUSIC, 12.0])
def test_what_begins_after_the_music_is_told(part, start):
    (finding,) = told(add(performance(18.0), start, part))
    assert (finding.kind, finding.start, finding.stop) == ("passage_unmatched", MUSIC, pytest.approx(18.0))
    assert finding.rejects is True  # of Python, as JSON takes no truth value of NumPy


def test_a_chord_that_is_cut_off_leaves_silence():
    sound = performance(16.0)
    sound[round(MUSIC * RATE) :] = 0
    assert kinds(sound) == ["trailing_silence"]


def test_a_chord_that_rings_before_the_music_is_told():
    """What dies away before the first note belongs to something else."""
    before = np.concatenate([sum(0.08 * tone(pitch, 4.0, 1.5) for pitch in (50, 57)), performance(12.0)])
    assert kinds(before, music=(4.0, 4.0 + MUSIC)) == ["passage_unmatched"]


def test_of_another_piece_nothing_else_is_told():
    sound = add(performance(18.0), MUSIC, applause(6.0))
    jump = Jump("repeat_left_out", 3.0, 6.0, 3.0, 1.0, False)
    changes = {"jumps": (jump,), "segments": (Segment(0.0, 3.0), Segment(6.0, MUSIC))}
    assert set(kinds(sound, **changes)) == {"passage_unmatched", "repeat_left_out"}
    (finding,) = told(sound, **changes, cost=0.4)
    assert finding.kind == "wrong_piece"
    assert finding.rejects


@pytest.mark.parametrize(
    ("music", "duration", "cost", "expected"),
    [
        ((0.0, 100.0), 100.0, 0.2, 0.4),
        ((0.0, 75.0), 100.0, 0.2, 0.4),  # up to a quarter may be something else
        ((10.0, 60.0), 100.0, 0.2, 0.75 * 0.4 + 0.25),
        ((0.0, 0.0), 100.0, float("nan"), 1.0),
    ],
)
def test_contrast_counts_what_is_outside_beyond_a_quarter_as_unrelated(music, duration, cost, expected):
    found = Structure((Segment(0.0, 1.0),), (), music, 1.0, cost, 0.5, np.zeros((0, 2)))
    assert judgement.contrast(found, duration) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("time", "text"),
    [
        (5.0, "the performer leaves out 0:03–0:06 of the score, at 0:05 of the recording"),
        (MUSIC - 0.4, "the recording ends, at 0:09.6, before 0:03–0:06 of the score are played"),
        (0.3, "the recording begins, at 0:00.3, after 0:03–0:06 of the score"),
    ],
)
def test_what_is_cut_off_a_recording_is_not_told_as_left_out_by_the_performer(time, text):
    jump = Jump("passage_left_out", 3.0, 6.0, time, 1.0, False)
    assert [found.message for found in told(performance(MUSIC), jumps=(jump,))] == [text]


@pytest.mark.parametrize(("seconds", "found"), [(1.6, []), (2.4, ["passage_unmatched"])])
def test_what_is_shorter_than_two_seconds_at_an_end_is_not_told(seconds, found):
    sound = add(performance(MUSIC + seconds), MUSIC, applause(seconds))
    assert kinds(sound) == found

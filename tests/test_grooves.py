"""Bands composed by rule: beats, bars and strokes agree, chance is repeatable, and others hear the beats there."""

from __future__ import annotations

import shutil

import mir_eval
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musicnet_tf import record_info, rhythm, synthesis
from musicnet_tf.datasets import _groove_band, _groove_form, _groove_harmony, grooves
from musicnet_tf.datasets._draws import generator, unit
from musicnet_tf.datasets._groove_style import KEYS, Style
from musicnet_tf.datasets._groove_styles import STYLES
from musicnet_tf.datasets.grooves import Grooves
from musicnet_tf.effects import Effects
from musicnet_tf.errors import ConfigError
from musicnet_tf.events import Notes

needs_synthesiser = pytest.mark.skipif(
    not (shutil.which("fluidsynth") and synthesis.find_soundfonts()),
    reason="fluidsynth or a soundfont is not installed (apt install fluidsynth timgm6mb-soundfont)",
)
STEPS = {"drums": "xXg.123456789", "bass": "1358aw.-", "chords": "xXb1234.-", "lead": "x.-123456789"}
PLAIN = Style(
    signature=(4, 4),
    steps=4,
    tempo=(120, 120),
    drums=({"kick": "x... x... x... x...", "hat": "..g. ..g. ..g. ..g."},),
    bass=("1--- ---- ---- ----",),
    chords=("x--- ---- ---- ----",),
    lead=("x--- x--- x--- x---",),
)


@pytest.fixture
def plain(monkeypatch):
    """Four to the floor, all on the beat."""
    monkeypatch.setitem(STYLES, "plain", PLAIN)
    return lambda **options: Grooves(styles=("plain",), effects=Effects(), changes=False, drift=0.0, **options)


@pytest.fixture
def font():
    """The smallest one that is there, to be quick."""
    return min(synthesis.find_soundfonts(), key=lambda path: path.stat().st_size)


def pieces(**options):
    """Each recording of a corpus with its performance."""
    dataset = Grooves(**options)
    return [(recording, dataset._performance(recording)) for recording in dataset.recordings()]


@pytest.mark.parametrize("name", STYLES)
def test_patterns_fill_whole_bars_and_say_what_their_player_can_read(name):
    style = STYLES[name]
    kit = [pattern for drums in style.drums for pattern in drums.values()]
    for part, patterns in {"drums": kit, **{p: getattr(style, p) for p in ("bass", "chords", "lead")}}.items():
        for pattern in patterns:
            steps = pattern.replace(" ", "")
            assert steps, part
            assert len(steps) % (style.steps * style.beats) == 0, (part, pattern)
            assert set(steps) <= set(STEPS[part]), (part, pattern)
    assert {voice for drums in style.drums for voice in drums} <= KEYS.keys()
    assert 40 <= style.tempo[0] <= style.tempo[1] <= 220
    assert style.harmony in _groove_harmony.PROGRESSIONS


@given(st.sampled_from(sorted(STYLES)), st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_bars_have_the_beats_of_their_metre_and_follow_one_another(name, seed):
    """Only a pickup is short at its beginning; a bar that is cut short loses beats at its end."""
    rng = generator(seed)
    materials = [_groove_form.material(STYLES[name], seed % 12, rng) for _ in range(2)]
    bars = _groove_form.form(materials, 100, rng)
    assert [bar.first for bar in bars] == np.cumsum([0, *[bar.beats for bar in bars[:-1]]]).tolist()
    assert sum(bar.beats for bar in bars) >= 100
    assert all(bar.position == 1 for bar in bars[1:])
    beats = STYLES[name].beats
    assert bars[0].position + bars[0].beats == beats + 1
    assert all(bar.beats == beats for bar in bars[1:] if bar.beats != beats - beats // 2)
    for events in (
        *(_groove_band.kit(bars, rng), _groove_band.bass(bars, rng)),
        *(_groove_band.chords(bars, True, rng), _groove_band.lead(bars, rng)),
    ):
        grid = STYLES[name].steps
        for event in events:
            assert 0 <= event.place < sum(bar.beats for bar in bars)
            assert event.place * grid == pytest.approx(round(event.place * grid))
            assert event.length > 0
            assert 0 <= event.pitch <= 127


@pytest.mark.parametrize("name", STYLES)
def test_beats_have_the_metre_and_the_tempo_that_are_announced(name):
    for recording, played in pieces(count=3, styles=(name,), changes=False, seconds=40):
        tempo, meter = rhythm.tempo(played.beats), rhythm.meter(played.beats)
        assert meter.beats_per_bar == STYLES[name].beats
        assert meter.share > 0.8
        assert tempo.median == pytest.approx(float(recording.metadata["tempo"]), rel=0.05)
        assert 60 / np.diff(played.beats.time).mean() == pytest.approx(tempo.median, rel=0.08)
        assert played.beats.time[0] >= 0
        assert played.beats.time[-1] < 40
        positions = played.beats.position.tolist()
        assert set(positions) == set(range(1, STYLES[name].beats + 1))


def test_strokes_lie_about_the_beats_as_far_as_the_players_are_loose(plain):
    asynchrony = 0.01
    for seed in range(4):
        (recording,) = plain(count=1, seed=seed, asynchrony=asynchrony).recordings()
        played = plain(count=1, seed=seed, asynchrony=asynchrony)._performance(recording)
        kicks = played.drums.onset[played.drums.pitch == KEYS["kick"]]
        away = np.abs(kicks[:, None] - played.beats.time).min(axis=1)
        assert len(kicks) > 30
        assert away.max() <= 3 * asynchrony + 1e-9
        assert 0.2 * asynchrony < np.sqrt(np.mean(away**2)) < 1.1 * asynchrony
        bass = played.notes.onset[played.notes.pitch < 49]
        downbeats = played.beats.downbeats
        assert np.abs(bass[:, None] - downbeats).min(axis=1).max() < 5 * asynchrony


def test_machines_play_on_the_beat_itself():
    for _, played in pieces(count=3, styles=("techno",), seconds=30):
        kicks = played.drums.onset[played.drums.pitch == KEYS["kick"]]
        assert len(kicks) > 10
        assert np.abs(kicks[:, None] - played.beats.time).min(axis=1).max() < 1e-9


def test_tempo_drifts_and_changes_where_it_may():
    def spread(**options):
        found = [np.diff(played.beats.time) for _, played in pieces(count=12, styles=("rock",), seconds=40, **options)]
        return np.array([steps.std() / steps.mean() for steps in found])

    assert spread(changes=False, drift=0.0).max() < 1e-9
    assert 0.005 < spread(changes=False).max() < 0.06
    assert spread(drift=0.0).max() > 0.03


def test_second_halves_of_beats_are_swung():
    """Of 12 s at one beat a second, swung at 0.6: an eighth is at 0.6 of its beat, a sixteenth at 0.3."""
    place = np.array([0.0, 0.25, 0.5, 0.75, 1.0, 1.5])
    swing, once = np.full(6, 0.6), np.ones(6)
    np.testing.assert_allclose(_groove_band.swung(place, swing, once), [0, 0.3, 0.6, 0.8, 1, 1.6])
    np.testing.assert_allclose(_groove_band.swung(place, swing, 2 * once), [0, 0.3, 0.5, 0.8, 1, 1.5])


@given(st.floats(0, 50), st.floats(0, 50), st.floats(0.5, 0.7), st.sampled_from([1, 2]))
def test_swing_keeps_the_order_and_the_beats(first, second, swing, parts):
    place = np.array([first, second, np.floor(first)])
    swung = _groove_band.swung(place, np.full(3, swing), np.full(3, parts))
    assert (swung[0] - swung[1]) * (first - second) >= 0
    assert swung[2] == place[2]


def test_chords_are_what_their_symbols_say():
    """In D: the sixth chord of the lowered sixth degree is B flat major with a seventh."""
    assert _groove_harmony.chord("bVIM7", 2) == (10, (0, 4, 7, 11))
    assert _groove_harmony.chord("IIm7b5", 0) == (2, (0, 3, 6, 10))
    assert _groove_harmony.chord("Vsus", 5) == (0, (0, 5, 7))
    (first, second) = _groove_harmony.chord("I", 0), _groove_harmony.chord("V7", 0)
    rng = generator("bass")
    assert [_groove_harmony.bass(step, first, second, rng) for step in "1358a"] == [36, 40, 43, 48, 30]
    assert _groove_harmony.voicing(first, 1) == [64, 67, 72]


def test_numbers_are_drawn_by_their_chance_and_held_notes_fall_with_them():
    drawn = [_groove_form._settled("x3-- 7.x-", generator(k)) for k in range(400)]
    assert all(pattern[0] == "x" and pattern[5:] == ".x-" for pattern in drawn)
    assert np.mean([pattern[1] == "x" for pattern in drawn]) == pytest.approx(0.3, abs=0.08)
    assert np.mean([pattern[4] == "x" for pattern in drawn]) == pytest.approx(0.7, abs=0.08)
    assert {pattern[1:4] for pattern in drawn} == {"x--", "..."}


def test_notes_are_those_of_pitched_instruments_and_lie_in_the_recording():
    for recording, played in pieces(count=20, seconds=20):
        assert len(played.notes) > 5, recording
        assert played.notes.onset[0] >= 0
        assert played.notes.end <= 20
        style = STYLES[recording.metadata["style"]]
        programs = {*style.bass_programs, *style.chord_programs, *style.lead_programs}
        assert set(played.notes.instrument.tolist()) <= programs
        assert set(played.drums.instrument.tolist()) <= set(style.kits)
        if not style.drums:
            assert not len(played.drums)


def test_beats_begin_with_the_sound_and_a_piece_that_ends_does_so_on_a_downbeat_that_rings():
    ended = 0
    for _, played in pieces(count=40, seconds=20):
        struck = np.concatenate([played.notes.onset, played.drums.onset])
        assert played.beats.time[0] >= struck.min() - 0.07
        if played.beats.time[-1] < 19.3 - 60 / rhythm.tempo(played.beats).low:
            ended += 1
            last = played.notes[played.notes.onset > played.beats.time[-1] - 0.1]
            assert played.beats.position[-1] == 1
            assert len(last) >= 3
            assert (last.offset - last.onset).max() > 0.5
            assert struck.max() < played.beats.time[-1] + 0.1
    assert 5 <= ended <= 25


def test_some_pieces_have_pickups_other_metres_and_bars_in_which_the_kit_is_silent():
    pickups = metres = silent = 0
    names = ("rock", "funk", "waltz", "swing")
    for recording, played in pieces(count=60, seconds=40, styles=names):
        beats = played.beats
        pickups += bool(beats.position[0] > 1 and beats.time[0] > 0.1)
        lengths = np.diff(np.flatnonzero(beats.position == 1))
        metres += bool((lengths != STYLES[recording.metadata["style"]].beats).any())
        within = beats.downbeats[(beats.downbeats > played.drums.onset[0]) & (beats.downbeats < played.drums.onset[-1])]
        strokes = np.searchsorted(played.drums.onset, within - 0.15)
        silent += bool((np.diff(strokes) == 0).any())
    assert 5 <= pickups <= 40
    assert 2 <= metres <= 20
    assert 10 <= silent <= 50


def test_a_recording_that_is_over_before_the_first_beat_holds_nothing():
    for _, played in pieces(count=20, seconds=0.06):
        assert len(played.beats) <= 1
        assert len(played.notes) <= 8


def test_recordings_depend_on_seed_and_id_alone():
    few, many = Grooves(count=3), Grooves(count=6)
    assert many.recordings()[:3] == few.recordings()
    again = few.load_notes(few.recordings()[1])
    grooves.perform.cache_clear()
    assert many.load_notes(many.recordings()[1]) == again
    assert many.load_beats(many.recordings()[1]) == few.load_beats(few.recordings()[1])
    other = Grooves(count=3, seed=1)
    assert {r.work for r in other.recordings()}.isdisjoint(r.work for r in few.recordings())
    assert other.load_notes(other.recordings()[1]) != again
    assert len({unit("a", k) for k in range(100)}) == 100


def test_styles_come_by_their_weight_and_works_by_their_share():
    recordings = Grooves(count=3000, test_fraction=0.2).recordings()
    total = sum(style.weight for style in STYLES.values())
    for name in ("rock", "seven_eight"):
        share = np.mean([recording.metadata["style"] == name for recording in recordings])
        assert share == pytest.approx(STYLES[name].weight / total, rel=0.35)
    assert np.mean([recording.split == "validation" for recording in recordings]) == pytest.approx(0.1, abs=0.02)
    assert np.mean([recording.split == "test" for recording in recordings]) == pytest.approx(0.2, abs=0.03)


def test_an_unknown_style_is_named_with_the_nearest():
    with pytest.raises(ConfigError, match=r"unknown style 'regae', did you mean 'reggae'\?"):
        Grooves(styles=("regae",))


@needs_synthesiser
def test_the_same_recording_sounds_the_same_and_fills_its_time(font):
    dataset = Grooves(count=2, seconds=6, soundfonts=(font,))
    first, second = dataset.recordings()
    audio = dataset.load_audio(first, 16000)
    assert audio.shape == (96000,)
    assert audio.dtype == np.float32
    assert 0.05 < np.abs(audio).max() <= 1
    np.testing.assert_array_equal(dataset.load_audio(first, 16000), audio)
    assert not np.array_equal(dataset.load_audio(second, 16000), audio)


@needs_synthesiser
def test_the_kit_is_heard_at_its_strokes_and_not_as_notes(font):
    """A kick is a thud below 200 Hz, a hat has next to nothing there; the same keys are other sounds on a piano."""
    drums = Notes([0.5, 1.25], [0.7, 1.45], [KEYS["kick"], KEYS["hat"]], [110, 110], [0, 0])
    audio = synthesis.render(Notes.empty(), font, 16000, drums=drums, duration=2.0, reverb=False)
    energy = np.square(audio).reshape(-1, 80).sum(axis=1)
    heard = [
        0.005 * (start + np.argmax(energy[start : start + 40] > 0.1 * energy[start : start + 40].max()))
        for start in (90, 240)
    ]
    np.testing.assert_allclose(heard, [0.5, 1.25], atol=0.015)
    spectra = [np.abs(np.fft.rfft(audio[start : start + 3200])) ** 2 for start in (8000, 20000)]
    low = [spectrum[:40].sum() / spectrum.sum() for spectrum in spectra]
    assert low[0] > 0.5 > 0.05 > low[1]
    alone = synthesis.render(drums, font, 16000, duration=2.0, reverb=False)
    assert not np.allclose(audio, alone, atol=1e-3)


def test_pitched_instruments_that_speak_late_are_played_early(plain, monkeypatch, tmp_path):
    monkeypatch.setattr(synthesis, "attack", lambda font, program, level_db: 0.01 * -level_db + 1e-4 * program)
    played = []

    def render(notes, font, sample_rate, drums=None, **options):
        played.append((notes, drums))
        return np.zeros(sample_rate, np.float32)

    monkeypatch.setattr(synthesis, "render", render)
    for level in (None, -5.0):
        dataset = plain(count=1, seconds=20.0, soundfonts=(tmp_path / "any.sf2",), attack_db=level)
        (recording,) = dataset.recordings()
        dataset.load_audio(recording, 8000)
    (as_composed, _), (_, kit), (early, _), (_, same_kit) = played
    labels = dataset.load_notes(recording)
    assert as_composed == labels and len(labels) > 20 and len(set(labels.instrument)) > 1
    assert same_kit == kit and len(kit) > 20
    expected = sorted(np.maximum(labels.onset - 0.05 - 1e-4 * labels.instrument, 0.0))
    np.testing.assert_allclose(sorted(early.onset), expected)


@needs_synthesiser
def test_librosa_hears_the_beats_of_a_plain_piece(plain, font):
    import librosa  # slow to import: by this test alone

    dataset = plain(count=1, seconds=20, soundfonts=(font,))
    (recording,) = dataset.recordings()
    truth = dataset.load_beats(recording).time
    audio = dataset.load_audio(recording, 22050)
    tempo, heard = librosa.beat.beat_track(y=audio, sr=22050, units="time", trim=False)
    assert float(np.squeeze(tempo)) == pytest.approx(120, rel=0.03)
    assert mir_eval.beat.f_measure(mir_eval.beat.trim_beats(truth), mir_eval.beat.trim_beats(heard)) > 0.9


@needs_synthesiser
def test_the_verb_builds_records_without_a_folder(musicnet, font, tmp_path):
    out = tmp_path / "set"
    flags = ["--dataset=grooves", "--set=count=3", "--set=seconds=5", f"--set=soundfonts=[{font}]"]
    done = musicnet("build_records", *flags, f"--output_dir={out}", "--sample_rate=8000", "--encoding=pcm_s16le")
    assert done.status == 0
    info = record_info.read_info(out)
    dataset = Grooves(count=3, seconds=5, soundfonts=(font,))
    assert list(info.recordings) == [recording.id for recording in dataset.recordings()]
    for recording in dataset.recordings():
        assert info.recordings[recording.id]["num_beats"] == len(dataset.load_beats(recording))
        assert info.recordings[recording.id]["metadata/style"] == recording.metadata["style"]


def test_the_verb_asks_for_the_folder_of_a_corpus_that_has_one(musicnet, tmp_path):
    done = musicnet("build_records", "--dataset=maps", f"--output_dir={tmp_path}")
    assert done.status == 1
    assert "--dataset=maps: name the folder that holds it, by --data_dir" in done.stderr

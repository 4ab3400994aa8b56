import shutil

import numpy as np
import pytest

from musicnet_tf import synthesis
from musicnet_tf.errors import AudioError
from musicnet_tf.events import Note, Notes

WOODBLOCK, PIANO, STRINGS = 115, 0, 48

needs_synthesiser = pytest.mark.skipif(
    not (shutil.which("fluidsynth") and synthesis.find_soundfonts()),
    reason="fluidsynth or a soundfont is not installed (apt install fluidsynth timgm6mb-soundfont)",
)


@pytest.fixture
def soundfont():
    """The smallest one that is there, to be quick."""
    return min(synthesis.find_soundfonts(), key=lambda path: path.stat().st_size)


def attack(audio, rate, onset):
    """Seconds from `onset` to where the energy in 1 ms steps first reaches a tenth of its later peak."""
    start = round((onset - 0.1) * rate)
    step = rate // 1000
    energy = np.square(audio[start : start + 300 * step]).reshape(-1, step).sum(axis=1)
    return np.argmax(energy > 0.1 * energy.max()) / 1000 - 0.1


@needs_synthesiser
@pytest.mark.parametrize("rate", [16000, 44100])
def test_a_struck_note_begins_at_its_onset(soundfont, rate):
    onsets = [0.5, 1.2345, 2.0003]
    notes = Notes.from_list([Note(t, t + 0.1, 60, 100, WOODBLOCK) for t in onsets])
    audio = synthesis.render(notes, soundfont, rate, duration=3.0, reverb=False)
    assert audio[: round(0.49 * rate)].max() < 1e-3
    for onset in onsets:
        assert abs(attack(audio, rate, onset)) <= 0.010


@needs_synthesiser
def test_same_input_gives_the_same_bytes(soundfont):
    notes = Notes.from_list([Note(0.1 * k, 0.1 * k + 0.3, 50 + k, 60 + k, k % 5 * 10) for k in range(12)])
    first, again = (synthesis.render(notes, soundfont, 16000) for _ in range(2))
    assert first.tobytes() == again.tobytes()
    assert first.dtype == np.float32
    assert len(first) == round((notes.end + 1.0) * 16000)


@needs_synthesiser
@pytest.mark.parametrize("program", [PIANO, STRINGS])
def test_pitch_is_the_one_asked_for(soundfont, program):
    rate = 44100
    audio = synthesis.render(Notes.from_list([Note(0.0, 2.0, 69, 90, program)]), soundfont, rate, duration=2.0)
    steady = audio[rate // 2 : rate // 2 + rate] * np.hanning(rate)
    spectrum = np.abs(np.fft.rfft(steady))  # 1 Hz a bin
    assert abs(np.argmax(spectrum[300:600]) + 300 - 440) <= 4


@needs_synthesiser
def test_a_mix_beyond_full_scale_keeps_its_level_at_every_rate(soundfont):
    notes = Notes.from_list([Note(0.0, 1.0, pitch, 127, STRINGS) for pitch in range(40, 80, 2)])
    peaks = [np.abs(synthesis.render(notes, soundfont, rate, gain=4.0)).max() for rate in (44100, 32000)]
    assert min(peaks) > 1.5, "nothing that could be clipped"
    assert peaks[1] == pytest.approx(peaks[0], rel=0.1)


@needs_synthesiser
@pytest.mark.parametrize("cents", [-50.0, 20.0])
def test_an_instrument_is_as_much_out_of_tune_as_asked(soundfont, cents):
    notes = Notes.from_list([Note(0.0, 3.0, 69, 90, PIANO)])
    heard = []
    for tuning in (None, {PIANO: cents, STRINGS: 100.0}):
        audio = synthesis.render(notes, soundfont, 16000, duration=3.0, reverb=False, cents=tuning)
        steady = audio[16000:]
        spectrum = np.abs(np.fft.rfft(steady * np.hanning(len(steady)), 1 << 19))
        heard.append((np.argmax(spectrum[13000:16000]) + 13000) * 16000 / (1 << 19))
    assert 1200 * np.log2(heard[1] / heard[0]) == pytest.approx(cents, abs=1.5)


@needs_synthesiser
def test_an_instrument_is_as_much_softer_as_asked(soundfont):
    notes = Notes.from_list([Note(0.0, 1.0, 60, 90, PIANO)])

    def power(level_db):
        return np.mean(synthesis.render(notes, soundfont, 16000, reverb=False, level_db={PIANO: level_db}) ** 2)

    # Volume is a step of 127: the nearest to -6 dB is 90, at -5.98 dB, to -12 dB 64, at -11.90.
    assert 10 * np.log10(power(-12.0) / power(-6.0)) == pytest.approx(-5.92, abs=0.1)


@needs_synthesiser
def test_the_attack_of_a_bow_is_longer_than_of_a_hammer(soundfont):
    piano, violin = (synthesis.attack(soundfont, program) for program in (PIANO, 40))
    assert 0.0 <= piano < 0.02
    assert piano < violin < 0.2
    assert synthesis.attack(soundfont, 40, -6.0) >= violin


@needs_synthesiser
def test_louder_velocity_is_louder(soundfont):
    soft, loud = (
        np.abs(synthesis.render(Notes.from_list([Note(0.0, 1.0, 60, v, PIANO)]), soundfont, 16000)).max()
        for v in (30, 110)
    )
    assert loud > 2 * soft


@needs_synthesiser
def test_duration_pads_and_cuts(soundfont):
    notes = Notes.from_list([Note(0.0, 2.0, 60, 90, PIANO), Note(5.0, 6.0, 60, 90, PIANO)])
    assert len(synthesis.render(notes, soundfont, 16000, duration=1.5)) == 24000
    padded = synthesis.render(notes[:1], soundfont, 16000, duration=20.0)
    assert len(padded) == 320000
    assert not padded[-16000:].any()


def test_nothing_to_play_is_silence_without_any_program(monkeypatch):
    monkeypatch.setenv("PATH", "")
    silence = synthesis.render(Notes.empty(), "none.sf2", 8000, duration=0.5)
    assert silence.tolist() == [0.0] * 4000


NOTE = Notes.from_list([Note(0.0, 1.0, 60)])


def test_missing_program_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AudioError, match="fluidsynth: the program is not installed; on Debian: apt install fluidsynth"):
        synthesis.render(NOTE, tmp_path / "any.sf2", 16000)


@needs_synthesiser
def test_missing_soundfont_says_what_to_install(tmp_path):
    with pytest.raises(AudioError, match=r"any\.sf2: no such soundfont; on Debian: apt install fluid-soundfont-gm"):
        synthesis.render(NOTE, tmp_path / "any.sf2", 16000)


@needs_synthesiser
@pytest.mark.parametrize("content", [b"", b"RIFF\x04\x00\x00\x00sfbk", b"not a soundfont"])
def test_a_damaged_soundfont_is_an_error_and_not_another_instrument(tmp_path, content):
    path = tmp_path / "bad.sf2"
    path.write_bytes(content)
    with pytest.raises(AudioError, match=r"bad\.sf2: fluidsynth cannot play"):
        synthesis.render(NOTE, path, 16000)


@needs_synthesiser
def test_an_endless_program_is_given_up(soundfont):
    with pytest.raises(AudioError, match=r"gave no audio within 0\.001 s"):
        synthesis.render(NOTE, soundfont, 16000, timeout=0.001)


def test_soundfonts_are_found_in_files_and_folders_each_once(monkeypatch, tmp_path):
    folder = tmp_path / "fonts"
    folder.mkdir()
    for name in ("b.sf2", "a.sf3", "notes.txt"):
        (folder / name).touch()
    (tmp_path / "c.sf2").touch()
    (folder / "link.sf2").symlink_to(tmp_path / "c.sf2")
    monkeypatch.setattr(synthesis, "SOUNDFONT_FOLDERS", (tmp_path / "absent",))
    monkeypatch.setenv(synthesis.SOUNDFONT_VARIABLE, f"{folder}:{tmp_path / 'c.sf2'}")
    assert [path.name for path in synthesis.find_soundfonts()] == ["a.sf3", "b.sf2", "c.sf2"]

"""Files of beats: what they hold, read back by those who know their forms."""

import csv

import jams
import numpy as np
import pytest
import soundfile
from matplotlib import image

from musicnet_tf import beat_writers
from musicnet_tf.decode.beats import BeatDecoding
from musicnet_tf.errors import AudioError
from musicnet_tf.events import UNKNOWN, Beats
from musicnet_tf.scores.beats import read_beats
from musicnet_tf.timebase import FrameClock
from musicnet_tf.writers import PosteriorgramSpool, Transcript, read_npz

BEATS = Beats([0.25, 0.75, 1.25, 2.25], [2, 3, 1, 2])
PLACELESS = Beats(BEATS.time)
PARTLY = Beats(BEATS.time, [UNKNOWN, UNKNOWN, 1, 2])


def transcript(beats=BEATS, spool=None) -> Transcript:
    return Transcript(beats, 3.0, "waltz", "a model", spool)


def write(name, path, told):
    form = BeatDecoding.formats()[name]
    form.write(path, told)
    return path


def test_the_default_formats_exist():
    assert set(BeatDecoding.default_formats) <= set(BeatDecoding.formats())
    assert BeatDecoding.formats()["beats"].suffix == ".beats"


@pytest.mark.parametrize("beats", [BEATS, PLACELESS, PARTLY])
def test_beats_are_read_back(beats, tmp_path):
    assert read_beats(write("beats", tmp_path / "a.beats", transcript(beats))) == beats


def test_a_line_of_beats(tmp_path):
    text = write("beats", tmp_path / "a.beats", transcript()).read_text()
    assert text == "0.250\t2\n0.750\t3\n1.250\t1\n2.250\t2\n"
    assert write("beats", tmp_path / "b.beats", transcript(PLACELESS)).read_text().splitlines()[0] == "0.250"
    assert write("beats", tmp_path / "c.beats", transcript(Beats.empty())).read_text() == ""


def test_csv_has_the_tempo_up_to_the_next_beat(tmp_path):
    with write("csv", tmp_path / "a.csv", transcript(PARTLY)).open() as file:
        rows = list(csv.DictReader(file))
    assert [row["position"] for row in rows] == ["", "", "1", "2"]
    assert [float(row["tempo"]) for row in rows] == [120, 120, 60, 60]
    alone = write("csv", tmp_path / "b.csv", transcript(Beats([1.0], [1]))).read_text()
    assert alone == "time,position,tempo\n1.000,1,\n"


def test_jams(tmp_path):
    jam = jams.load(str(write("jams", tmp_path / "a.jams", transcript(PARTLY))), validate=True)
    (annotation,) = jam.search(namespace="beat")
    assert [(o.time, o.value) for o in annotation.data] == [(0.25, None), (0.75, None), (1.25, 1), (2.25, 2)]
    assert (jam.file_metadata.title, jam.file_metadata.duration) == ("waltz", 3.0)
    assert "a model" in annotation.annotation_metadata.annotation_tools


# --- clicks


def loudest_hertz(sound, rate, at) -> float:
    piece = sound[round(at * rate) : round((at + 0.05) * rate)]
    return np.argmax(np.abs(np.fft.rfft(piece, 44100))) * rate / 44100


def test_clicks_are_on_the_beats_and_higher_on_downbeats(tmp_path):
    sound, rate = soundfile.read(write("click", tmp_path / "a.click.wav", transcript()))
    assert (rate, len(sound)) == (44100, 3 * 44100)
    begins = np.flatnonzero(np.abs(sound) > 1e-3)
    begins = begins[np.diff(begins, prepend=-rate) > rate / 4] / rate
    assert begins == pytest.approx(BEATS.time, abs=0.001)
    assert [loudest_hertz(sound, rate, time) for time in BEATS.time] == pytest.approx([1000, 1000, 1500, 1000], abs=30)


def test_clicks_are_over_the_recording(tmp_path):
    rate, seconds = 8000, 25  # more than two blocks
    times = np.array([0.0, 9.99, 10.0 + 5 / rate, 24.98])
    recording = 0.5 * np.sin(np.arange(seconds * rate) * 0.1)
    soundfile.write(tmp_path / "song.wav", recording, rate, "PCM_16")
    write("click", tmp_path / "out.wav", Transcript(Beats(times), 0.0, recording=tmp_path / "song.wav"))
    sound, got_rate = soundfile.read(tmp_path / "out.wav")
    assert (got_rate, len(sound)) == (rate, len(recording))
    clicks = sound - 0.6 * recording
    silent = np.ones(len(sound), bool)
    for time in times:
        silent[round(time * rate) : round((time + 0.05) * rate)] = False
    assert np.abs(clicks[silent]).max() < 1e-4
    first = clicks[: rate // 20]
    assert np.abs(first).max() > 0.25
    assert clicks[round(9.99 * rate) :][: rate // 20][: round(0.01 * rate)] == pytest.approx(
        first[: round(0.01 * rate)], abs=1e-4
    )
    assert np.abs(sound).max() <= 1.0
    with pytest.raises(AudioError):
        beat_writers.write_click(tmp_path / "none.wav", BEATS, 0.0, tmp_path / "missing.wav")
    assert not (tmp_path / "none.wav").exists()


# --- activations


@pytest.fixture
def spool(tmp_path):
    with PosteriorgramSpool(tmp_path, FrameClock(16000, 320), 0) as kept:
        for _ in range(3):
            kept.push({"beat": np.full((50, 1), 0.25, np.float32), "downbeat": np.zeros((50, 1), np.float32)})
        yield kept


def test_npz_and_png_hold_the_activations(spool, tmp_path):
    heads, clock, _ = read_npz(write("npz", tmp_path / "a.npz", transcript(spool=spool)))
    assert clock == spool.clock
    assert (heads["beat"].shape, float(heads["beat"].max())) == ((150, 1), 0.25)
    picture = image.imread(write("png", tmp_path / "a.png", transcript(spool=spool)))
    assert picture.shape[1] == 12 * 110


def test_a_figure_shows_activations_beats_and_tempo():
    heads = {"beat": np.linspace(0, 1, 150)[:, None], "downbeat": np.zeros((150, 1))}
    upper, lower = beat_writers.figure(BEATS, 3.0, "waltz", heads, FrameClock(16000, 320)).axes
    curves = {line.get_label(): line for line in upper.get_lines()}
    curve = curves["activation of beats"]
    assert curve.get_ydata().tolist() == pytest.approx(heads["beat"][:, 0].tolist())
    assert curve.get_xdata()[-1] == pytest.approx(149 / 50)
    assert lines(upper, "a beat") == [0.25, 0.75, 2.25]
    assert lines(upper, "a bar begins") == [1.25]
    assert [text.get_text() for text in upper.texts] == ["1"]
    assert lower.get_title("left") == "120 beats a minute, mostly 66 to 120"
    assert lower.get_lines()[0].get_ydata().tolist() == [120, 120, 60, 60]


def lines(axes, label: str) -> list[float]:
    """Where the vertical lines of a kind are, in seconds."""
    (drawn,) = [each for each in axes.collections if each.get_label() == label]
    return [float(segment[0, 0]) for segment in drawn.get_segments()]


def test_long_recordings_are_drawn_in_rows_with_the_numbers_of_some_bars():
    beats = Beats(0.5 * np.arange(480), np.arange(480) % 4 + 1)
    *rows, _ = beat_writers.figure(beats, 240.0).axes
    assert [round(row.get_xlim()[0]) for row in rows] == [0, 60, 120, 180]
    assert [time for row in rows for time in lines(row, "a bar begins")] == beats.downbeats.tolist()
    assert [text.get_text() for text in rows[1].texts] == [str(bar) for bar in range(32, 62, 2)]
    half_known = Beats(beats.time, np.where(np.arange(480) == 470, UNKNOWN, beats.position))
    *rows, _ = beat_writers.figure(half_known, 240.0).axes
    assert not any(row.texts for row in rows), "whatever is told of later bars may be wrong"


@pytest.mark.parametrize("beats", [Beats.empty(), Beats([1.0])])
def test_few_beats_are_drawn_too(beats, tmp_path):
    assert write("png", tmp_path / "a.png", transcript(beats)).stat().st_size > 1000

"""Figures: what is drawn, where, and in which colour."""

import io
import itertools

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.image import imread

from musicnet_tf import plots
from musicnet_tf.events import Note, Notes
from musicnet_tf.timebase import FrameClock

NOTES = Notes.from_list([Note(1.0, 2.0, 60, 10), Note(2.0, 4.0, 64, 120), Note(2.5, 3.0, 72, 60)])


def bars(ax) -> list[tuple[float, float, float]]:
    """Left, right and middle of every bar."""
    boxes = [p.get_extents() for c in ax.collections if isinstance(c, PolyCollection) for p in c.get_paths()]
    return sorted((round(b.x0, 6), round(b.x1, 6), round((b.y0 + b.y1) / 2, 6)) for b in boxes)


def picture(figure: Figure) -> np.ndarray:
    return imread(io.BytesIO(plots.to_png_bytes(figure)))


def test_names_of_pitches_and_times() -> None:
    assert [plots.pitch_name(p) for p in (0, 21, 60, 61, 69, 127)] == ["C-1", "A0", "C4", "C♯4", "A4", "G9"]
    seconds = (0, 5.5, 59.96, 83, 3599, 3600, 7384.5)
    assert [plots.time_label(s) for s in seconds] == ["0:00", "0:05.5", "1:00", "1:23", "59:59", "1:00:00", "2:03:04.5"]


def test_each_note_is_a_bar_in_its_place() -> None:
    ax = plots.piano_roll(NOTES, duration=5).axes[0]
    assert bars(ax) == [(1, 2, 60), (2, 4, 64), (2.5, 3, 72)]
    assert ax.get_xlim() == (0, 5)
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels == ["C3", "C4", "C5", "C6"][: len(labels)] and {"C4", "C5"} <= set(labels)


def test_louder_is_darker() -> None:
    (collection,) = (c for c in plots.piano_roll(NOTES).axes[0].collections if isinstance(c, PolyCollection))
    brightness = collection.get_facecolors()[:, :3].sum(axis=1)  # drawn from soft to loud
    assert (np.diff(brightness) < -0.2).all()


@pytest.mark.parametrize(
    ("duration", "rows"),
    [(0.0, 1), (5, 1), (20, 1), (21, 3), (60, 4), (119, 4), (121, 5), (600, 5), (3600, 6), (40_000, 6)],
)
def test_rows_fit_the_duration(duration: float, rows: int) -> None:
    figure = plots.piano_roll(Notes.empty(), duration=duration)
    assert len(figure.axes) == rows
    ends = [ax.get_xlim() for ax in figure.axes]
    assert ends[0][0] == 0 and ends[-1][1] >= duration
    assert all(a[1] == b[0] for a, b in itertools.pairwise(ends))


def test_a_note_across_rows_is_in_both() -> None:
    figure = plots.piano_roll(Notes.from_list([Note(14, 16, 60, 80)]), duration=60)
    assert [bars(ax) for ax in figure.axes[:4]] == [[(14, 16, 60)], [(14, 16, 60)], [], []]


def test_an_hour_of_notes_stays_visible() -> None:
    rng = np.random.default_rng(0)
    onset = rng.uniform(0, 3600, 20_000)
    notes = Notes(onset, onset + 0.05, rng.integers(30, 90, 20_000), rng.integers(1, 128, 20_000))
    figure = plots.piano_roll(notes, duration=3600, title="An hour")
    corners = np.concatenate([p.vertices[None, :3, 0] for ax in figure.axes[:6] for p in ax.collections[0].get_paths()])
    assert np.ptp(corners, axis=1).min() >= 600 / 1000 - 1e-6
    image = picture(figure)
    assert image.shape[0] < 2500 and image.shape[1] == 1320


def test_reference_and_estimate_are_told_apart() -> None:
    figure = plots.piano_roll(NOTES, reference=NOTES.shift(0.5))
    ax = figure.axes[0]
    assert len(bars(ax)) == 6
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["estimate (3)", "reference (3)"]


def test_posteriorgram_is_drawn_on_its_clock() -> None:
    clock = FrameClock(1000, 100, origin=50)
    frame = np.zeros((30, 88), np.float32)
    frame[10:20, 39] = 1  # MIDI 60 from 1.05 s
    truth = Notes.from_list([Note(1.0, 2.0, 60)])
    ax = plots.posteriorgram(frame, clock, truth, first_pitch=21).axes[0]
    (image,) = ax.images
    assert image.get_extent() == pytest.approx([0, 3, 20.5, 108.5])
    assert np.argwhere(image.get_array() == 1).tolist() == [[39, k] for k in range(10, 20)]
    assert bars(ax) == [(1, 2, 60)]
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["activation", "truth"]


def test_long_posteriorgrams_keep_their_peaks() -> None:
    frame = np.zeros((50_000, 3), np.float32)
    frame[40_001, 1] = 0.9
    (image,) = plots.posteriorgram(frame, FrameClock(100, 1)).axes[0].images
    assert image.get_array().shape[1] <= 4000
    assert image.get_array().max() == np.float32(0.9)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("title", ["plain", "a $5 bill", "$\\frac{", "пьеса", "前奏曲", "x" * 300])
def test_any_title_can_be_drawn(title: str) -> None:
    assert picture(plots.piano_roll(NOTES, title=title)).std() > 0.01


def test_no_global_state_is_kept() -> None:
    plots.to_png_bytes(plots.piano_roll(NOTES))
    assert pyplot.get_fignums() == []

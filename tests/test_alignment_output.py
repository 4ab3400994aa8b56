"""Files, picture and settings of an alignment."""

from __future__ import annotations

import dataclasses
import io
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.image import imread

from musicnet_tf import plots, scores
from musicnet_tf.alignment import figure, output, sonify
from musicnet_tf.alignment.result import Alignment, Finding, Segment
from musicnet_tf.alignment.settings import Settings, load_settings
from musicnet_tf.errors import ConfigError, OutputError
from musicnet_tf.events import Note, Notes, Score

RATE = 16000
HEADER = "start_time,end_time,instrument,note,start_beat,end_beat,note_value"
SILENCE = Finding("leading_silence", "the recording begins with 1.0 s of silence", False, 0.0, 1.0)
WRONG = Finding("wrong_piece", "the recording is not of this score", True)


def scale(start: float = 0.0, seconds: float = 0.5) -> Notes:
    """Two octaves of C major, a note after the other."""
    pitch = np.array([12 * o + p for o in (5, 6) for p in (0, 2, 4, 5, 7, 9, 11)])
    onset = start + seconds * np.arange(len(pitch))
    count = len(pitch)
    return Notes(
        onset,
        onset + seconds,
        pitch,
        instrument=np.full(count, 40),
        start_beat=np.arange(count) * 1.0,
        end_beat=np.ones(count),
        note_value=np.full(count, "Quarter"),
    )


def sounding(notes: Notes, seconds: float, rate: int = RATE) -> np.ndarray:
    """Held sines."""
    audio = np.zeros(round(seconds * rate))
    for note in notes:
        at = np.arange(round(note.onset * rate), min(round(note.offset * rate), len(audio)))
        audio[at] += 0.1 * np.sin(2 * np.pi * 440 * 2 ** ((note.pitch - 69) / 12) * at / rate)
    return audio.astype(np.float32)


SCORE = Score(scale())
PERFORMED = scale(start=1.0, seconds=0.6)
SECONDS = 10.0
AUDIO = sounding(PERFORMED, SECONDS)
FOUND = Alignment(
    notes=PERFORMED,
    note_confidence=np.linspace(0.5, 1.0, len(PERFORMED)),
    path=np.array([[0.0, 0.0], [1.0, 0.0], [9.4, 7.0], [10.0, 7.0]]),
    segments=(Segment(0.0, 7.0),),
    confidence=0.75,
    findings=(SILENCE,),
    duration=SECONDS,
    details={"settings": {"norm": "l2"}},
)
REJECTED = dataclasses.replace(FOUND, findings=(WRONG, SILENCE))


def write(found: Alignment, folder: Path, **kwargs) -> list[str]:
    given = {"audio": AUDIO, "sample_rate": RATE, "score": SCORE, **kwargs}
    paths = output.write(found, folder, "piece", **given)
    assert all(path.parent == folder and path.is_file() for path in paths)
    return [path.name for path in paths]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_all_files_the_labels_last(tmp_path: Path) -> None:
    told = write(FOUND, tmp_path)
    assert told == ["piece.confidence.csv", "piece.json", "piece.png", "piece.flac", "piece.csv"]
    assert names(tmp_path) == sorted(told)


def test_labels_are_a_musicnet_file(tmp_path: Path) -> None:
    write(FOUND, tmp_path, formats=["csv"])
    lines = (tmp_path / "piece.csv").read_text().splitlines()
    assert lines[:2] == [HEADER, "44100,70560,41,60,0.0,1.0,Quarter"]  # 1.0 s and 1.6 s, a violin counted from 1
    assert len(lines) == 1 + len(PERFORMED)
    read = scores.read(tmp_path / "piece.csv")
    np.testing.assert_allclose(read.intervals(), PERFORMED.intervals(), atol=0.5 / 44100)
    for column in ("pitch", "instrument", "start_beat", "end_beat", "note_value"):
        np.testing.assert_array_equal(getattr(read, column), getattr(PERFORMED, column))


def test_confidence_is_row_for_row_that_of_the_labels(tmp_path: Path) -> None:
    write(FOUND, tmp_path, formats=["csv"])
    assert (tmp_path / "piece.confidence.csv").read_text().splitlines()[:2] == [
        "onset,pitch,confidence",
        "1.000000,60,0.5000",
    ]
    table = np.loadtxt(tmp_path / "piece.confidence.csv", delimiter=",", skiprows=1)
    labels = np.loadtxt(tmp_path / "piece.csv", delimiter=",", skiprows=1, usecols=(0, 3))
    np.testing.assert_allclose(table[:, 0] * 44100, labels[:, 0], atol=0.6)
    np.testing.assert_array_equal(table[:, 1], labels[:, 1])
    np.testing.assert_allclose(table[:, 2], FOUND.note_confidence, atol=5e-5)


def test_the_summary_is_plain_json(tmp_path: Path) -> None:
    write(REJECTED, tmp_path, formats=["json"])

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    json.loads((tmp_path / "piece.json").read_text(), parse_constant=refuse)
    summary = output.read_summary(tmp_path / "piece.json")
    assert summary == json.loads(json.dumps(REJECTED.summary()))
    assert (summary["accepted"], summary["settings"]) == (False, {"norm": "l2"})
    assert summary["findings"][0] == {"kind": "wrong_piece", "message": WRONG.message, "rejects": True}


@pytest.mark.parametrize("text", ["", "[1]", '{"accepted": true}', "[" * 100_000, None])
def test_a_file_that_is_no_summary_is_named(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "x.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(OutputError, match=r"x\.json: not .*summary of an alignment.*; align again"):
        output.read_summary(path)


def test_labels_of_a_rejected_pair_stand_apart(tmp_path: Path) -> None:
    csv = {"formats": ["csv"]}
    assert write(FOUND, tmp_path, **csv)[-1] == "piece.csv"
    assert write(REJECTED, tmp_path, **csv)[-1] == "piece.rejected.csv"
    assert names(tmp_path) == ["piece.confidence.csv", "piece.rejected.csv"]  # not those of the run before
    assert write(REJECTED, tmp_path, **csv, keep_rejected=True)[-1] == "piece.csv"
    assert names(tmp_path) == ["piece.confidence.csv", "piece.csv"]
    assert scores.read(tmp_path / "piece.csv").pitch.tolist() == PERFORMED.pitch.tolist()


def test_no_labels_stand_where_another_file_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(FOUND, tmp_path)
    monkeypatch.setattr(sonify, "write", lambda *_, **__: (_ for _ in ()).throw(OutputError("disk full")))
    with pytest.raises(OutputError, match="disk full"):
        write(FOUND, tmp_path)
    assert "piece.csv" not in names(tmp_path)


def test_formats_are_those_asked_for(tmp_path: Path) -> None:
    assert write(FOUND, tmp_path, formats=["json"], audio=None, score=None) == ["piece.json"]
    assert write(FOUND, tmp_path, formats=["flac", "flac"], score=None) == ["piece.flac"]
    assert soundfile.info(tmp_path / "piece.flac").channels == 2
    assert soundfile.info(tmp_path / "piece.flac").frames == len(AUDIO)
    with pytest.raises(ConfigError, match=r"unknown output format 'flak', did you mean 'flac'\?; choose from csv"):
        write(FOUND, tmp_path, formats=["flak"])
    with pytest.raises(ConfigError, match="no output format"):
        write(FOUND, tmp_path, formats=[])
    for name, missing in (("flac", "audio"), ("png", "audio"), ("png", "score")):
        with pytest.raises(ConfigError, match=f"{name}: needs the {missing}"):
            write(FOUND, tmp_path / "nowhere", formats=["csv", name], **{missing: None})


@pytest.mark.parametrize("stem", ["../piece", "a/b", "", "..", "a\0b"])
def test_a_stem_is_no_path(tmp_path: Path, stem: str) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    if stem == "..":  # harmless: the suffix makes a file name of it
        output.write(FOUND, folder, stem, formats=["csv"])
        assert names(tmp_path) == ["out"]
        return
    with pytest.raises(OutputError, match="names no file"):
        output.write(FOUND, folder, stem, formats=["csv"])
    assert names(tmp_path) == ["out"] and not names(folder)


def test_no_input_is_written_over(tmp_path: Path) -> None:
    song, score = tmp_path / "song.flac", tmp_path / "song.mid"
    (tmp_path / "deep").mkdir()
    with pytest.raises(OutputError, match=r"song\.flac: is an input"):
        output.check_place(tmp_path / "deep" / "..", "song", output.FORMATS, [song, score])
    output.check_place(tmp_path, "song", ["csv", "png"], [song, score])
    output.check_place(tmp_path / "deep", "song", output.FORMATS, [song, score])
    with pytest.raises(OutputError, match=r"song\.csv: is an input"):
        output.check_place(tmp_path, "song", ["csv"], [song, tmp_path / "song.csv"])


def found_by(path: list[tuple[float, float]], *segments: tuple[float, float]) -> Alignment:
    return dataclasses.replace(FOUND, path=np.array(path), segments=tuple(Segment(*s) for s in segments))


def test_the_path_is_told_in_the_score_as_written() -> None:
    # Seconds 0–4 are played, 2–4 again, and 4–6 left out; the performer rests from 8 to 9 before the repeat.
    found = found_by([(0, 0), (8, 4), (9, 4), (13, 6), (17, 8)], (0, 4), (2, 4), (6, 8))
    first, again, last = figure.written_path(found)
    assert first.tolist() == [[0, 0], [8, 4], [9, 4]]
    assert again.tolist() == [[9, 2], [13, 4]]
    assert last.tolist() == [[13, 6], [17, 8]]


def test_a_jump_between_two_points_of_the_path_is_interpolated() -> None:
    first, again = figure.written_path(found_by([(1, 0), (13, 6)], (0, 4), (2, 4)))
    assert first.tolist() == [[1, 0], [9, 4]] and again.tolist() == [[9, 2], [13, 4]]
    (whole,) = figure.written_path(found_by([(1, 0), (13, 6)], (2, 8)))
    assert whole.tolist() == [[1, 2], [13, 8]]
    (reached,) = figure.written_path(found_by([(0, 0), (4, 4)], (0, 4), (0, 4)))
    assert reached.tolist() == [[0, 0], [4, 4]]
    assert figure.written_path(found_by([(0, 0), (4, 4)])) == []


@given(st.lists(st.tuples(st.floats(0, 5), st.floats(0.1, 5)), min_size=1, max_size=6), st.integers(2, 40))
def test_written_paths_lie_in_their_segments_and_go_on_where_the_last_ended(spans, count) -> None:
    segments = [(start, start + length) for start, length in spans]
    total = sum(length for _, length in spans)
    path = np.stack([np.linspace(1, 1 + 3 * total, count), np.linspace(0, total, count)], axis=1)
    pieces = figure.written_path(found_by(path.tolist(), *segments))
    assert len(pieces) == len(segments)
    for piece, (start, stop) in zip(pieces, segments, strict=True):
        assert (np.diff(piece, axis=0) >= 0).all()
        np.testing.assert_allclose(piece[[0, -1], 1], [start, stop], atol=1e-6)
    for before, after in itertools.pairwise(pieces):
        assert before[-1, 0] == pytest.approx(after[0, 0])


def test_both_sides_of_the_overview_are_alike_where_they_match() -> None:
    sides = figure.overview(AUDIO, RATE, SCORE)
    assert sides.recording_rate == sides.score_rate == pytest.approx(RATE / 4096)
    assert len(sides.recording) == pytest.approx(SECONDS * sides.recording_rate, abs=1)
    unit = [side / np.maximum(np.linalg.norm(side, axis=1, keepdims=True), 1e-9) for side in sides[:2]]
    similarity = unit[1] @ unit[0].T
    at = np.arange(1.5, 9, 0.1)  # seconds of the recording; the score is played at 0.6 of its tempo from 1.0 s on
    on_path = similarity[
        np.rint((at - 1) / 1.2 * sides.score_rate).astype(int), np.rint(at * sides.recording_rate).astype(int)
    ]
    assert on_path.mean() > 0.6
    assert similarity.mean() < 0.1


def test_the_written_chroma_counts_how_long_each_class_sounds() -> None:
    rng = np.random.default_rng(0)
    onset = rng.uniform(0, 5, 40)
    notes = Notes(onset, onset + rng.uniform(0.05, 2, 40), rng.integers(30, 90, 40))
    rate = 4.0
    chroma = figure._written_chroma(notes, rate)
    expected = np.zeros_like(chroma)
    for note in notes:
        for frame in range(len(expected)):
            overlap = min(note.offset, (frame + 0.5) / rate) - max(note.onset, (frame - 0.5) / rate)
            expected[frame, note.pitch % 12] += max(0.0, overlap) * rate
    np.testing.assert_allclose(chroma, expected, atol=1e-5)


@pytest.mark.parametrize("seconds", [0.01, 0.3, 1.0])
def test_short_sounds_and_scores_are_drawn_too(seconds: float) -> None:
    notes = Notes.from_list([Note(0.0, seconds / 2, 60)])
    audio = sounding(notes, seconds)
    found = dataclasses.replace(
        FOUND,
        notes=notes,
        note_confidence=np.ones(1),
        duration=seconds,
        path=np.array([[0, 0], [seconds, seconds / 2]]),
    )
    picture = imread(
        io.BytesIO(plots.to_png_bytes(figure.draw(found, audio, RATE, figure.overview(audio, RATE, Score(notes)))))
    )
    assert picture.shape == (880, 1320, 4)


def test_the_figure_shows_path_jump_labels_and_findings() -> None:
    repeated = dataclasses.replace(
        found_by([(0, 0), (1, 0), (10, 9)], (0, 5), (3, 7)),
        findings=(WRONG, SILENCE, Finding("repeat_added", "again", False, 6, 10)),
    )
    drawn = figure.draw(repeated, AUDIO, RATE, figure.overview(AUDIO, RATE, SCORE), title="Costs $5")
    costs, spectrum, strip = drawn.axes
    lines = [np.stack(line.get_data(), axis=1).tolist() for line in costs.lines]
    assert lines == [[[0, 0], [1, 0], [6, 5]], [[6, 3], [10, 7]], [[6, 5], [6, 3]]]
    assert [text.get_text() for text in costs.get_legend().get_texts()] == ["alike", "path", "jump"]
    assert costs.get_title(loc="left") == r"Costs \$5"
    onsets = next(c for c in spectrum.collections if isinstance(c, LineCollection))
    assert [tuple(segment[0]) for segment in onsets.get_segments()] == [
        (note.onset, note.pitch - 0.7) for note in PERFORMED if note.onset < 8.5
    ]
    assert spectrum.get_xlim() == (0.5, 8.5)
    dots = next(c for c in strip.collections if isinstance(c, PathCollection))
    np.testing.assert_allclose(dots.get_offsets(), np.stack([PERFORMED.onset, FOUND.note_confidence], axis=1))
    assert sorted((p.get_x(), p.get_x() + p.get_width()) for p in strip.patches) == [(0, 1), (6, 10)]
    kinds = [text.get_text() for text in strip.get_legend().get_texts()]
    assert sorted(kinds[:3]) == ["leading silence", "repeat added", "wrong piece"]
    assert kinds[3:] == ["note", "running median"]
    assert strip.get_title(loc="left") == "rejected, confidence in the pair 0.75"


def test_the_spectrum_is_brightest_at_the_labels() -> None:
    levels = figure._levels(AUDIO[RATE:], RATE, 48, 97)
    frames = levels.shape[1] / (SECONDS - 1)
    for note in PERFORMED:
        middle = round(((note.onset + note.offset) / 2 - 1) * frames)
        assert 48 - 0.5 + (levels[:, middle].argmax() + 0.5) / 3 == pytest.approx(note.pitch, abs=0.5)


def test_a_long_piece_is_drawn_in_few_cells() -> None:
    seconds, rate = 18 * 60, 4000
    onset = np.arange(0, seconds - 1, 0.1)
    notes = Notes(onset, onset + 0.1, 40 + np.random.default_rng(0).integers(0, 40, len(onset)))
    audio = np.random.default_rng(0).normal(0, 0.1, seconds * rate).astype(np.float32)
    path = np.stack([np.linspace(0, seconds, 100_000)] * 2, axis=1)
    found = Alignment(notes, np.ones(len(notes)), path, (Segment(0, seconds),), 1.0, (), seconds)
    sides = figure.overview(audio, rate, Score(notes))
    assert len(sides.recording) > 4000
    costs = figure.draw(found, audio, rate, sides).axes[0]
    (image,) = costs.images
    assert max(image.get_array().shape) <= 750
    assert len(costs.lines[0].get_xdata()) < 5000
    left, right, bottom, top = image.get_extent()
    assert left < 0 <= seconds <= right < seconds + 3 and bottom < 0 < seconds - 2 <= top < seconds + 3


def test_silence_without_labels_is_drawn() -> None:
    audio = np.zeros(RATE, np.float32)
    nothing = Alignment(Notes.empty(), np.zeros(0), np.zeros((0, 2)), (), 0.0, (WRONG,), 1.0)
    drawn = figure.draw(nothing, audio, RATE, figure.overview(audio, RATE, SCORE))
    assert np.isfinite(drawn.axes[0].images[0].get_array()).all()
    assert len(plots.to_png_bytes(drawn)) > 10_000


CONFIGS = sorted((ROOT / "configs/alignment").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_named_config_loads(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert load_settings(path) == load_settings(path.stem)


def test_named_configs_say_what_they_are_named_after() -> None:
    by_name = {path.stem: load_settings(path) for path in CONFIGS}
    assert by_name["best"] == load_settings() == Settings()
    paper = by_name["paper"]
    features = paper.features
    assert (features.kind, features.sample_rate, features.window_length, features.hop_length, features.cutoff) == (
        "spectrogram",
        44100,
        2048,
        512,
        50,
    )
    assert features.log and (paper.norm, paper.method, paper.find_jumps, paper.step_penalty) == (
        "l2",
        "exact",
        False,
        0,
    )
    assert by_name["paper_multiscale"] == paper.model_copy(update={"method": "multiscale"})
    for name in ("chroma", "chroma_onset"):
        assert by_name[name].features.kind == name and not by_name[name].step_penalty


def test_settings_are_overridden_and_faults_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("norm: l1\nfeatures: {kind: chroma, hop_length: 100}\n")
    chosen = load_settings(path, ["features.hop_length=200", "step_penalty=0.5"])
    assert (chosen.norm, chosen.features.kind, chosen.features.hop_length, chosen.step_penalty) == (
        "l1",
        "chroma",
        200,
        0.5,
    )
    assert chosen.features.window_length == Settings().features.window_length
    with pytest.raises(ConfigError, match=r"unknown key 'features\.hop_lenght', did you mean 'hop_length'\?"):
        load_settings(None, ["features.hop_lenght=1"])
    path.write_text("norm: l3\n")
    with pytest.raises(ConfigError, match=r"mine\.yaml: key 'norm': .* got 'l3'"):
        load_settings(path)
    for text in ("- 1\n", "", "a: [\n"):
        path.write_text(text)
        with pytest.raises(ConfigError, match=r"mine\.yaml: (must be a mapping|not readable as YAML)"):
            load_settings(path)


def test_an_unknown_config_lists_those_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(ConfigError, match=r"papr: no such alignment config; .* best, chroma, chroma_onset, paper"):
        load_settings("papr")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"paper: no such alignment config; .*configs/alignment of the source tree"):
        load_settings("paper")

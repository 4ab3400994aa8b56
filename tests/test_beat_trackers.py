"""The benchmark beside other people's beat trackers: everything but the installed peers themselves."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import click_tracks
import numpy as np
import pytest
import soundfile
import synthetic
from absl import flags
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import beat_trackers
from benchmarks.peers import beat_driver, beat_pieces, beat_table, driver, environments, systems
from benchmarks.peers.beat_pieces import Piece
from benchmarks.peers.systems import System
from musicnet_tf import synthesis
from musicnet_tf.datasets import Recording
from musicnet_tf.errors import ConfigError, DatasetError
from musicnet_tf.events import Beats, Note, Notes
from musicnet_tf.scores import format_musicnet_csv, to_midi, with_columns

pytest_plugins = ["tiny_models"]

GRID = Beats(np.arange(40) * 0.5, np.arange(40) % 4 + 1)
"""Twenty seconds at 120 beats a minute in bars of four: beats 10 to 39 come after the first five seconds."""

FOREIGN = """#!{python} -IS
import json, pathlib, sys
job = json.loads(pathlib.Path(sys.argv[1]).read_text())
folder = pathlib.Path(job["folder"])
about = dict(parameters=0, told="by hand", start_up=0.25, load=0.5, threads=2)
(folder / "system.json").write_text(json.dumps(about))
for r in job["recordings"]:
    target = folder / (r["id"] + ".csv")
    target.parent.mkdir(exist_ok=True)
    beats = [(k / 2, 1 + k % 4 if {numbered} else -1) for k in range(60)]
    target.write_text("time,position\\n" + "".join(f"{{time}},{{position}}\\n" for time, position in beats))
    took = dict(read=0.1, inference=0.5, cpu_seconds=0.75, decoding=0.25)
    target.with_suffix(".json").write_text(json.dumps(dict(took, seconds=r["seconds"], identity=r["identity"])))
    print("heard " + r["id"], flush=True)
"""
"""A tracker that does as `beat_driver.py` does: half a second from beat to beat, whatever the sound."""


def foreign(folder: Path, name: str, numbered: bool = True) -> System:
    script = folder / f"{name}.py"
    script.write_text(FOREIGN.format(python=sys.executable, numbered=numbered))
    script.chmod(0o755)
    return System(name, False, (str(script),), "kind", "model", "1")


def counted(beats: int) -> Notes:
    """A note each half a second, whose labels count one unit of `start_beat` each."""
    onset, unit = np.arange(beats) / 2, np.arange(float(beats))
    return Notes(onset, onset + 0.4, 60 + np.arange(beats) % 5, np.full(beats, 80), np.full(beats, 40), unit, unit + 1)


@pytest.fixture
def corpora(tmp_path: Path) -> Path:
    """A folder with a chorale of Bach10 of twelve seconds whose beats were tapped, and a MusicNet in eighths."""
    folder = tmp_path / "data"
    (folder / "bach10").mkdir(parents=True)
    notes = counted(24)
    stem = folder / "bach10/01-Chorale"
    sound = synthetic.synthesise(notes, 16000, 12.0)
    soundfile.write(stem.with_suffix(".wav"), sound, 16000, subtype="PCM_16")
    stem.with_suffix(".musicnet.csv").write_text(format_musicnet_csv(notes))
    synthetic.write_musicnet(folder / "musicnet", {"2196": 12.0})
    eighths = with_columns(notes, end_beat=np.full(24, 2.0), note_value=np.full(24, "Quarter"))
    (folder / "musicnet/train_labels/2196.csv").write_text(format_musicnet_csv(eighths))
    return folder


# What runs inside a peer's environment.


def test_every_tracker_is_one_that_the_driver_knows() -> None:
    assert {peer.kind for peer in environments.TRACKERS.values()} == set(beat_driver.LISTENERS) - {"ours"}


def test_librosa_is_run_by_the_driver_alone_and_finds_clicks(tmp_path) -> None:
    truth = Beats(np.arange(1, 20) * 0.5)
    path = click_tracks.write(tmp_path / "clicks.wav", truth)
    piece = Piece("clicks", "clicks", path, soundfile.info(path).duration, "sound", truth)
    system = systems.of_peer("librosa", tmp_path, environments.TRACKERS, beat_trackers.DRIVER)
    assert system.command[0] == sys.executable, "it needs no environment of its own"
    assert systems.run(system, [piece], tmp_path / "heard") == 1
    found = beat_pieces.read_estimate(systems.estimate_path(piece, tmp_path / "heard"))
    assert beat_table.score(truth, found, numbered=False)["f1"] > 0.9
    assert not beat_table.tells_downbeats([found])
    assert systems.about(tmp_path / "heard")["told"].startswith("librosa ")


def test_our_model_gives_in_the_driver_what_its_decoder_gives(tmp_path, make_run) -> None:
    from musicnet_tf import audio, inference, windowing
    from musicnet_tf.decode.beats import BeatDecoding, decode

    path = click_tracks.write(tmp_path / "clicks.wav", GRID)
    folder = make_run(tmp_path / "tracker", "beats_tcn", "task.decoder={method: peaks, threshold: 0.3}")
    rows, took = driver.hear(beat_driver.ours(str(folder)), str(path))
    predictor = inference.load(folder)
    spec = predictor.manifest.geometry
    heads = windowing.posteriorgram(audio.load(path, 16000), spec, predictor)
    expected = decode(heads, windowing.recording_clock(spec), BeatDecoding(method="peaks", threshold=0.3))
    assert rows == [tuple(beat) for beat in expected]
    assert took["inference"] > 0


# Estimates.


@given(st.lists(st.tuples(st.integers(0, 10**8), st.sampled_from([-1, 1, 2, 3])), unique_by=lambda row: row[0]))
def test_beats_survive_the_table(tmp_path_factory, rows) -> None:
    rows = sorted((ticks / 1e5, position) for ticks, position in rows)
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_text(beat_driver.as_csv(rows))
    assert [tuple(beat) for beat in beat_pieces.read_estimate(path)] == rows


def test_of_beats_at_one_instant_the_first_counts_and_0_is_no_position(tmp_path) -> None:
    (tmp_path / "a.csv").write_text("time,position\n1.0,2\n1.0,3\n0.5,1\n1.5,0\n")
    assert [tuple(beat) for beat in beat_pieces.read_estimate(tmp_path / "a.csv")] == [(1.0, 2), (1.5, -1)]


@pytest.mark.parametrize("text", ["time\n1\n", "time,position\none,1\n"])
def test_a_table_that_is_none_is_refused_by_name(tmp_path, text: str) -> None:
    (tmp_path / "bad.csv").write_text(text)
    with pytest.raises(DatasetError, match=r"bad\.csv: not beats of a tracker .* remove it"):
        beat_pieces.read_estimate(tmp_path / "bad.csv")


# Recordings.


def test_recordings_are_gathered_with_their_sound_and_beats(corpora, tmp_path) -> None:
    found = beat_pieces.gather({name: corpora / name for name in ("bach10", "musicnet")}, tmp_path / "audio")
    assert [piece.id for piece in found] == ["bach10/01-Chorale", "musicnet/2196"]
    np.testing.assert_allclose(found[0].beats.time, np.arange(24) / 2, atol=1e-4)
    np.testing.assert_allclose(found[1].beats.time, np.arange(0, 24, 3) / 2, atol=1e-4)  # three eighths of 3/8
    info = soundfile.info(found[0].audio)
    assert (info.samplerate, info.channels, info.subtype, info.duration) == (44100, 1, "PCM_16", 12.0)
    assert beat_pieces.gather({"bach10": corpora / "bach10"}, tmp_path / "audio", most=1) == found[:1]


def test_a_piece_that_ends_before_beats_count_is_left_out(corpora, tmp_path) -> None:
    label = corpora / "bach10/01-Chorale.musicnet.csv"
    label.write_text(format_musicnet_csv(counted(8)))
    assert beat_pieces.gather({"bach10": corpora / "bach10"}, tmp_path / "audio") == []


def test_an_unknown_corpus_is_told_with_the_nearest(tmp_path) -> None:
    with pytest.raises(ConfigError, match="unknown corpus 'asop', did you mean 'asap'"):
        beat_pieces.gather({"asop": tmp_path}, tmp_path)


def test_one_performance_of_a_piece_is_heard() -> None:
    scores = {"a": "x/1/a.mid", "b": "x/1/b.mid", "c": "x/2/a.mid"}
    recordings = [Recording(name, "test", "w", {"score": score}) for name, score in scores.items()]
    assert [recording.id for recording in beat_pieces._one_a_folder(recordings)] == ["a", "c"]


@pytest.mark.skipif(
    not (shutil.which("fluidsynth") and synthesis.find_soundfonts()),
    reason="fluidsynth or a soundfont is not installed (apt install fluidsynth timgm6mb-soundfont)",
)
def test_performances_of_asap_are_played_and_cut_with_their_beats(tmp_path) -> None:
    piece = tmp_path / "asap/Schumann/Kreisleriana/6"  # is tested on
    piece.mkdir(parents=True)
    notes = Notes.from_list([Note(k / 2, k / 2 + 0.4, 60 + k, 80, 0) for k in range(20)])
    for name in ("One", "Two", "midi_score"):
        to_midi(notes).write(str(piece / f"{name}.mid"))
        lines = [f"{k / 2}\t{k / 2}\t{'b' if k % 4 else 'db'}\n" for k in range(20)]
        (piece / f"{name}_annotations.txt").write_text("".join(lines))
    (found,) = beat_pieces.gather({"asap": tmp_path / "asap"}, tmp_path / "audio", seconds=7.0)
    assert found.name == "Schumann_Kreisleriana_6_One-0"
    assert found.seconds == 7.0
    assert [tuple(beat) for beat in found.beats] == [(k / 2, k % 4 + 1) for k in range(14)]


# Tables.


def test_scores_by_hand() -> None:
    assert beat_table.score(GRID, GRID, True) == pytest.approx(dict.fromkeys(beat_table.SCORES, 1.0))
    half = beat_table.score(GRID, GRID[::2], True)
    assert half["f1"] == pytest.approx(2 / 3), "all 15 that were found, of 30"
    assert (half["cmlt"], half["amlt"]) == (0.0, 1.0)
    assert half["downbeat_f1"] == 1.0
    shifted = Beats(GRID.time, np.roll(GRID.position, 1))
    assert beat_table.score(GRID, shifted, True)["downbeat_f1"] == 0.0
    assert beat_table.score(GRID, shifted, False)["downbeat_f1"] is None
    assert beat_table.score(Beats(GRID.time), GRID, True)["downbeat_f1"] is None, "the piece tells none"


def row(
    system: str, piece: str, corpus: str, f1: float, downbeat: float | None, inference: float = 1.0
) -> beat_table.Row:
    return beat_table.Row(
        system, corpus, piece, f1, f1 / 2, f1 / 4, f1 + 0.1, downbeat, 9, 7, 10.0, 0.1, inference, 2 * inference, 0.5
    )


def outcome(
    name: str, f1: float, downbeat: float | None, ours: bool = False, inference: float = 1.0
) -> beat_table.Result:
    rows = [
        row(name, "p", "c", f1, downbeat, inference),
        row(name, "q", "c", f1 + 0.2, None),
        row(name, "p", "d", f1, None),
    ]
    return beat_table.Result(name, ours, "told", 1.5, 0.25, rows)


def test_means_are_of_the_pieces_that_have_a_score() -> None:
    result = outcome("a", 0.5, 0.25)
    expected = {"f1": 0.6, "cemgil": 0.3, "cmlt": 0.15, "amlt": 0.7, "downbeat_f1": 0.25}
    assert result.means("c") == pytest.approx(expected)
    assert result.means("d")["downbeat_f1"] is None
    assert result.real_time_factor == pytest.approx((1.5 + 1.5 + 1.5) / 30)
    assert result.cpu_factor == pytest.approx(6 / 30)


def test_the_report_has_a_table_a_corpus_the_best_first() -> None:
    results = [outcome("worse", 0.3, None, inference=4.0), outcome("mine", 0.5, 0.25, ours=True)]
    lines = beat_table.markdown(results, {"gone": "gone: cannot be installed"}, ["a note"]).splitlines()
    assert lines[0] == "| c, 2 pieces | F | Cemgil | CMLt | AMLt | downbeat F |"
    assert lines[2:4] == [
        "| **mine** | 0.600 | 0.300 | 0.150 | 0.700 | 0.250 |",
        "| worse | 0.400 | 0.200 | 0.100 | 0.500 | – |",
    ]
    assert lines[5] == "| d, 1 pieces | F | Cemgil | CMLt | AMLt | downbeat F |"
    assert "| worse | 0.2500 | 0.4000 | 1.5 s | 0.2 | told |" in lines
    assert "| c | p | 10 s | 9 | 0.300 / 0.400 | 0.500 / 0.600 / 0.250 |" in lines
    assert lines[-3:] == [
        "- left out: gone: cannot be installed",
        "- beats of the first 5 s do not count, as in mir_eval; means are of pieces",
        "- a note",
    ]


def test_the_document_holds_every_figure_and_is_json() -> None:
    document = json.loads(json.dumps(beat_table.as_document([outcome("mine", 0.5, None, ours=True)], {"x": "why"})))
    mine = document["systems"]["mine"]
    assert (mine["ours"], mine["load"], document["failed"], document["trim_seconds"]) == (True, 0.25, {"x": "why"}, 5.0)
    assert mine["means"]["d"] == {"f1": 0.5, "cemgil": 0.25, "cmlt": 0.125, "amlt": 0.6, "downbeat_f1": None}
    assert [(piece["piece"], piece["estimated"]) for piece in mine["pieces"]] == [("p", 7), ("q", 7), ("p", 7)]


# The command line.


@pytest.fixture
def defined() -> Iterator[None]:
    """The benchmark's flags, forgotten afterwards."""
    before = set(flags.FLAGS)
    beat_trackers.define_flags()
    yield
    for name in set(flags.FLAGS) - before:
        delattr(flags.FLAGS, name)


def call(*args: object) -> int:
    return beat_trackers.main(flags.FLAGS(["beat_trackers", *map(str, args)]))


def test_the_command_runs_peers_and_writes_report_and_figures(defined, corpora, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(systems, "of_peer", lambda name, *_: foreign(tmp_path, name, numbered=name == "aubio"))
    options = [f"--bach10={corpora}/bach10", f"--musicnet={corpora}/musicnet", f"--output_dir={tmp_path}/out"]
    assert call(*options, "--peers=essentia,aubio") == 0
    report = (tmp_path / "out/beat_trackers.md").read_text()
    told = capsys.readouterr().out
    assert report in told
    # Beats 10 to 23 of the chorale are found, and 50 more up to 30 s: F = 2 · 14 / (14 + 50).
    assert "essentia bach10/01-Chorale: F 0.438, Cemgil 0.438, " in told
    assert "| bach10, 1 pieces | F | Cemgil | CMLt | AMLt | downbeat F |" in report
    figures = json.loads((tmp_path / "out/beat_trackers.json").read_text())["systems"]
    assert figures["aubio"]["real_time_factor"] == pytest.approx(0.75 / 12)
    assert figures["essentia"]["pieces"][0]["f1"] == pytest.approx(28 / 64)
    assert call(*options, "--peers=essentia,aubio") == 0
    assert "4 of 4 outputs were there already" in capsys.readouterr().out


def test_faults_are_one_line_and_a_status(defined, corpora, tmp_path, capsys) -> None:
    for options, reason in [
        (["--peers="], "nothing to hear; name a folder by --bach10, --musicnet, --asap, --quartets"),
        ([f"--bach10={corpora}/bach10", "--peers="], "no system could be run"),
        ([f"--bach10={corpora}/bach10", "--peers=librosaa"], "unknown peer 'librosaa', did you mean 'librosa'"),
        ([f"--bach10={tmp_path}/none", "--peers=librosa"], f"{tmp_path}/none"),
    ]:
        flags.FLAGS.unparse_flags()
        flags.FLAGS["bach10"].unparse()
        assert call(f"--output_dir={tmp_path}/out", *options) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"beat_trackers: error: {reason}")

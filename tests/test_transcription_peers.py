"""The benchmark beside other people's transcribers: everything but those themselves."""

from __future__ import annotations

import csv
import io
import json
import sys
import time
import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import synthetic
from absl import flags
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import transcription_peers
from benchmarks.peers import comparison, driver, environments, pieces, systems, table
from benchmarks.peers.pieces import Piece
from benchmarks.peers.systems import System
from musicnet_tf.errors import ConfigError, DatasetError, ModelError
from musicnet_tf.events import Note, Notes

NOTES = Notes.from_list([Note(0.0, 0.5, 60), Note(0.5, 1.0, 64)])

FOREIGN = """#!{python} -IS
import json, pathlib, sys
job = json.loads(pathlib.Path(sys.argv[1]).read_text())
folder = pathlib.Path(job["folder"])
with open(folder.parent / "launches", "a") as log:
    log.write(" ".join(r["id"] for r in job["recordings"]) + "\\n")
print("loading, as some programs tell on their standard output")
{before}
about = dict(parameters=100, told="by hand", start_up=0.25, load=0.5, threads=2)
(folder / "system.json").write_text(json.dumps(about))
for r in job["recordings"]:
    target = folder / (r["id"] + ".csv")
    target.parent.mkdir(exist_ok=True)
    {during}
    target.write_text("onset,offset,pitch,velocity\\n0.02,0.5,60,80\\n0.6,1.0,64,80\\n0.7,0.7,65,80\\n")
    took = dict(read=0.1, inference=0.5, cpu_seconds=0.75, decoding=0.1)
    target.with_suffix(".json").write_text(json.dumps(dict(took, seconds=r["seconds"], identity=r["identity"])))
    print("heard " + r["id"], flush=True)
"""
"""A transcriber that does as `driver.py` does, whatever the sound."""


@pytest.fixture
def heard(tmp_path: Path) -> list[Piece]:
    """Two recordings of 2 s, both with `NOTES` in them."""
    found = []
    for name in ("first", "second"):
        path = tmp_path / f"{name}.wav"
        soundfile.write(path, synthetic.synthesise(NOTES, 16000, 2.0), 16000, subtype="PCM_16")
        found.append(Piece("tiny", name, path, 2.0, f"sound of {name}", NOTES))
    return found


def foreign(folder: Path, before: str = "", during: str = "", identity: str = "1", name: str = "foreign") -> System:
    script = folder / f"{name}.py"
    script.write_text(FOREIGN.format(python=sys.executable, before=before, during=during))
    script.chmod(0o755)
    return System(name, False, (str(script),), "kind", "model", identity)


def launches(folder: Path) -> list[str]:
    return (folder / "launches").read_text().splitlines()


def row(system: str, piece: str = "p", corpus: str = "c", f1: float = 0.5, inference: float = 1.0) -> table.Row:
    return table.Row(system, corpus, piece, f1, f1 / 2, f1 + 0.25, 7, 10.0, 0.1, inference, 2 * inference, 0.2)


def outcome(name: str, parameters: int, f1: float, inference: float = 1.0, ours: bool = False) -> table.Result:
    rows = [row(name, "p", "c", f1, inference), row(name, "q", "c", f1 + 0.1, inference), row(name, "p", "d", f1, 2.0)]
    return table.Result(name, ours, "told", 1.5, 0.25, rows, parameters)


# What runs inside a peer's environment.


def tone_listener(log: list[str]) -> driver.Listener:
    """Gives a note from half to the end of each second that it reads; the count of samples is its model."""

    def read(path: str) -> int:
        log.append(Path(path).stem)
        with wave.open(path) as sound:
            return sound.getnframes() // sound.getframerate()

    return driver.Listener(
        5,
        "by hand",
        read,
        lambda seconds: list(range(seconds)),
        lambda found: [(i + 0.5, i + 1, 60, 90) for i in found[::-1]],
    )


def test_the_driver_warms_up_then_hears_each_recording_and_tells_what_it_took(tmp_path, heard, capsys) -> None:
    log: list[str] = []
    job = {
        "model": "tone",
        "launched": time.time() - 100,
        "folder": str(tmp_path / "out"),
        "warm_up": str(heard[1].audio),
        "recordings": [{"id": p.id, "audio": str(p.audio), "seconds": 2.0, "identity": "x y"} for p in heard],
    }
    driver.run(job, lambda model: log.append(model) or tone_listener(log))
    assert log == ["tone", "second", "first", "second"]
    assert capsys.readouterr().out.splitlines() == ["heard tiny/first", "heard tiny/second"]
    expected = "onset,offset,pitch,velocity\n0.50000,1.00000,60,90\n1.50000,2.00000,60,90\n"
    assert (tmp_path / "out/tiny/first.csv").read_text() == expected, "sorted by onset"
    told = json.loads((tmp_path / "out/tiny/second.json").read_text())
    assert (told["seconds"], told["identity"]) == (2.0, "x y")
    assert all(told[part] >= 0 for part in ("read", "inference", "cpu_seconds", "decoding"))
    about = json.loads((tmp_path / "out/system.json").read_text())
    assert (about["parameters"], about["told"]) == (5, "by hand")
    assert 100 <= about["start_up"] < 200
    assert not list(tmp_path.rglob("*.part"))


def test_the_parts_are_timed_apart(monkeypatch) -> None:
    wall, cpu = iter([10.0, 11.0, 15.0, 15.5]), iter([3.0, 10.0])
    monkeypatch.setattr(driver.time, "perf_counter", lambda: next(wall))
    monkeypatch.setattr(driver.time, "process_time", lambda: next(cpu))
    _, took = driver.hear(driver.Listener(0, "", lambda path: 0, lambda x: x, lambda x: []), "")
    assert took == {"read": 1.0, "inference": 4.0, "cpu_seconds": 7.0, "decoding": 0.5}


@pytest.mark.parametrize(("flags_of_cpu", "expected"), [("fpu sse avx512_bf16 x", True), ("fpu avx512f", False)])
def test_bfloat16_is_told_by_the_processor(tmp_path, flags_of_cpu: str, expected: bool) -> None:
    (tmp_path / "cpuinfo").write_text(f"model name : any\nflags : {flags_of_cpu}\n")
    assert driver.computes_in_bfloat16(str(tmp_path / "cpuinfo")) is expected
    assert not driver.computes_in_bfloat16(str(tmp_path / "none"))


def test_every_peer_is_one_that_the_driver_knows() -> None:
    assert {peer.kind for peer in environments.PEERS.values()} == set(driver.LISTENERS) - {"ours"}


# Estimates.


@given(
    st.lists(st.tuples(st.floats(0, 1e4), st.floats(0.001, 100), st.integers(0, 127), st.integers(1, 127)), max_size=20)
)
def test_notes_survive_the_table_to_ten_microseconds(tmp_path_factory, rows) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_text(driver.as_csv((on, on + length, pitch, loud) for on, length, pitch, loud in rows))
    found = pieces.read_estimate(path)
    order = sorted((round(on, 5), pitch) for on, _, pitch, _ in rows)
    assert len(found) == len(rows)
    np.testing.assert_allclose(np.sort(found.onset), [on for on, _ in order], atol=6e-6)
    assert sorted(found.pitch) == sorted(pitch for _, _, pitch, _ in rows)
    assert sorted(found.velocity) == sorted(loud for *_, loud in rows)


def test_notes_without_length_are_left_out_and_loudness_is_brought_into_midi(tmp_path) -> None:
    (tmp_path / "a.csv").write_text("onset,offset,pitch,velocity\n1,2,60,0\n1,1,61,5\n3,2.5,62,5\n3,4,63,200\n")
    found = pieces.read_estimate(tmp_path / "a.csv")
    assert [tuple(note)[:4] for note in found] == [(1, 2, 60, 1), (3, 4, 63, 127)]


@pytest.mark.parametrize("text", ["onset\n1\n", "onset,offset,pitch,velocity\n1,2,sixty,0\n", "h\n1,2,200,5\n"])
def test_a_table_that_is_none_is_refused_by_name(tmp_path, text: str) -> None:
    (tmp_path / "bad.csv").write_text(text)
    with pytest.raises(DatasetError, match=r"bad\.csv: not notes of a transcriber .* remove it"):
        pieces.read_estimate(tmp_path / "bad.csv")


# Recordings.


@pytest.fixture
def corpora(tmp_path: Path) -> Path:
    """A folder with a piece of MAPS' validation split and a tiny MusicNet."""
    folder = tmp_path / "data"
    (folder / "maps").mkdir(parents=True)
    stem = folder / "maps/MAPS_MUS-bor_ps6_ENSTDkCl"
    soundfile.write(stem.with_suffix(".wav"), synthetic.synthesise(NOTES, 16000, 2.0), 16000, subtype="PCM_16")
    stem.with_suffix(".tsv").write_text("onset,offset,note,velocity\n0.0\t0.5\t60\t80\n0.5\t1.0\t64\t80\n")
    synthetic.write_musicnet(folder / "musicnet", {"1001": 2.0, "2227": 2.0})
    return folder


def test_a_split_of_each_corpus_is_gathered_with_its_sound(corpora, tmp_path) -> None:
    found = pieces.gather(corpora, ["maps", "musicnet"], "validation", tmp_path / "audio")
    assert [piece.id for piece in found] == ["maps/MAPS_MUS-bor_ps6_ENSTDkCl", "musicnet/2227"]
    assert [piece.seconds for piece in found] == [2.0, 2.0]
    assert found[0].notes.pitch.tolist() == [60, 64]
    info = soundfile.info(found[0].audio)
    assert (info.samplerate, info.channels, info.subtype, info.frames) == (44100, 1, "PCM_16", 88200)
    sound, _ = soundfile.read(found[0].audio)
    assert 0.3 < np.abs(sound).max() < 0.6, "as loud as what was written"


def test_only_the_beginning_is_heard_and_asked_for(corpora, tmp_path) -> None:
    (whole,) = pieces.gather(corpora, ["maps"], "validation", tmp_path)
    (begun,) = pieces.gather(corpora, ["maps"], "validation", tmp_path, seconds=0.7)
    assert begun.seconds == pytest.approx(0.7)
    assert begun.identity != whole.identity
    assert begun.notes.intervals().tolist() == [[0.0, 0.5], [0.5, pytest.approx(0.7)]]
    assert pieces.beginning(NOTES, 0.5).intervals().tolist() == [[0.0, 0.5]]


def test_labels_of_musicnet_may_be_others_than_the_published(corpora, tmp_path) -> None:
    labels = tmp_path / "refined"
    labels.mkdir()
    with pytest.raises(DatasetError, match=r"refined/2227\.csv: not found; --musicnet_labels"):
        pieces.gather(corpora, ["musicnet"], "validation", tmp_path, musicnet_labels=labels)
    (labels / "2227.csv").write_text(synthetic.format_musicnet_csv(NOTES))
    (found,) = pieces.gather(corpora, ["musicnet"], "validation", tmp_path, musicnet_labels=labels)
    assert found.notes.pitch.tolist() == [60, 64]


def test_an_unknown_corpus_is_told_with_the_nearest(corpora, tmp_path) -> None:
    with pytest.raises(ConfigError, match="unknown corpus 'map', did you mean 'maps'"):
        pieces.gather(corpora, ["map"], "validation", tmp_path)


# Running, and running again.


def test_a_system_hears_once_what_it_is_given(tmp_path, heard) -> None:
    system = foreign(tmp_path)
    assert systems.run(system, heard, tmp_path / "out") == 2
    assert systems.run(system, heard, tmp_path / "out") == 0
    assert launches(tmp_path) == ["tiny/first tiny/second"]
    assert systems.measured(heard[0], tmp_path / "out")["inference"] == 0.5


@pytest.mark.parametrize("lost", ["tiny/second.csv", "tiny/second.json"])
def test_what_is_lost_or_damaged_alone_is_heard_again(tmp_path, heard, lost: str) -> None:
    system = foreign(tmp_path)
    systems.run(system, heard, tmp_path / "out")
    (tmp_path / "out" / lost).unlink()
    assert systems.run(system, heard, tmp_path / "out") == 1
    (tmp_path / "out/tiny/second.json").write_text("{")
    assert systems.run(system, heard, tmp_path / "out") == 1
    assert launches(tmp_path)[1:] == ["tiny/second"] * 2


def test_another_sound_or_another_system_is_heard_again(tmp_path, heard) -> None:
    systems.run(foreign(tmp_path), heard, tmp_path / "out")
    changed = [Piece(**{**vars(heard[0]), "identity": "another sound"}), heard[1]]
    assert systems.run(foreign(tmp_path), changed, tmp_path / "out") == 1
    assert systems.run(foreign(tmp_path, identity="2"), changed, tmp_path / "out") == 2
    assert systems.run(foreign(tmp_path, identity="2"), changed, tmp_path / "out", fresh=True) == 2
    (tmp_path / "out/system.json").unlink()
    assert systems.run(foreign(tmp_path, identity="2"), changed, tmp_path / "out") == 2, "its parameters are lost"


def test_a_system_that_fails_is_told_in_a_line_and_keeps_what_it_heard(tmp_path, heard) -> None:
    failing = "if 'second' in r['id']: sys.exit('Traceback …\\n\\nMemoryError: no room\\n')"
    with pytest.raises(ModelError, match=r"^foreign: failed with status 1 \(MemoryError: no room\); it is left out$"):
        systems.run(foreign(tmp_path, during=failing), heard, tmp_path / "out")
    assert systems.run(foreign(tmp_path), heard, tmp_path / "out") == 1


def test_a_system_that_does_not_do_its_work_is_refused(tmp_path, heard) -> None:
    with pytest.raises(ModelError, match="did not hear tiny/first, tiny/second"):
        systems.run(foreign(tmp_path, before="sys.exit()"), heard, tmp_path / "out")
    with pytest.raises(ModelError, match=r"/none cannot be started \(No such file"):
        systems.run(System("gone", False, (f"{tmp_path}/none",), "", "", ""), heard, tmp_path / "out")


def test_one_that_fails_is_listed_and_the_others_are_compared(tmp_path, heard, capsys) -> None:
    failed: dict[str, str] = {}
    found = [foreign(tmp_path, before="sys.exit('no weights')", name="broken"), foreign(tmp_path, name="sound")]
    results, notes = comparison.compare(found, heard, tmp_path / "heard", failed, transcription_peers.result)
    assert failed == {"broken": "broken: failed with status 1 (no weights); it is left out"}
    assert [result.name for result in results] == ["sound"]
    captured = capsys.readouterr()
    assert captured.err == "broken: failed with status 1 (no weights); it is left out\n"
    # One of two onsets within 50 ms, and its offset; 0.02–0.5 of 0–0.5 s and 0.6–1.0 of 0.5–1.0 s, in frames of 10 ms.
    frame = 2 * 88 / (88 + 100)
    assert captured.out.splitlines() == [f"sound tiny/{p.name}: 0.500 / 0.500 / {frame:.3f}; 0.2500" for p in heard]
    assert results[0].real_time_factor == 0.25
    assert results[0].cpu_factor == 0.375
    assert not any("earlier run" in note for note in notes)
    _, notes = comparison.compare(found[1:], heard, tmp_path / "heard", failed, transcription_peers.result)
    assert notes[-1] == "2 of 2 outputs were there already, with times of an earlier run"


# Environments.


def test_what_is_installed_already_is_taken_as_it_is(tmp_path) -> None:
    environment = environments.Environment("any", (("no-such-thing==0",),), "no_such_thing")
    (tmp_path / "any").mkdir()
    (tmp_path / "any/installed.json").write_text(json.dumps(environment.steps))
    assert environments.install(environment, tmp_path) == tmp_path / "any/bin/python"


def test_a_peer_that_cannot_be_installed_is_told_in_a_line_and_left_out(tmp_path, capsys) -> None:
    (tmp_path / "file").write_text("no folder")
    found, failed = comparison.chosen(["basic_pitch"], ["notes_harmonic_cnn"], tmp_path / "file")
    assert [(system.name, system.ours) for system in found] == [("notes_harmonic_cnn", True)]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"basic_pitch: cannot be installed in {tmp_path}/file/basic_pitch (")
    assert failed == {"basic_pitch": line}
    assert not list(tmp_path.rglob("installed.json"))


def test_misspelt_names_are_told_before_anything_is_installed(tmp_path) -> None:
    with pytest.raises(ConfigError, match="unknown peer 'harmonica_nan', did you mean 'harmonica_nano'"):
        comparison.chosen(["basic_pitch", "harmonica_nan"], [], tmp_path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ModelError, match="no shipped model"):
        comparison.chosen([], ["notes_harmonic_cn"], tmp_path)


def test_a_model_of_ours_is_another_when_its_weights_change(tmp_path) -> None:
    export = tmp_path / "mine/3"
    export.mkdir(parents=True)
    (export / "saved_model.pb").write_bytes(b"graph")
    before = systems.own(str(tmp_path / "mine"))
    (export / "saved_model.pb").write_bytes(b"other")
    after = systems.own(str(tmp_path / "mine"))
    (export / "card.md").write_text("words")
    assert before.name == "mine"
    assert before.identity != after.identity
    assert systems.own(str(tmp_path / "mine")) == after


# Tables.


def test_three_scores_of_notes_by_hand() -> None:
    reference = Notes.from_list([Note(0, 1, 60), Note(1, 2, 62), Note(2, 3, 64), Note(3, 4, 65)])
    estimate = Notes.from_list([Note(0.04, 1.1, 60), Note(1.06, 2, 62), Note(2, 2.5, 64)])
    # Onsets: 60 and 64 of 4 and 3. Offsets within 0.2 s: 60 alone. Frames: 96 + 94 + 50 in common of 400 and 250.
    expected = {"onset": 4 / 7, "onset_offset": 2 / 7, "frame": 2 * 240 / (400 + 250)}
    assert table.score(reference, estimate) == pytest.approx(expected, abs=1e-9)


@given(st.lists(st.integers(1, 10**8), min_size=1, max_size=8), st.integers(1, 10**8))
def test_no_peer_is_nearer_in_ratio_than_the_nearest(sizes: list[int], parameters: int) -> None:
    found = table.nearest_in_size(parameters, [outcome("peer", size, 0.5) for size in sizes]).parameters

    def ratio(size: int) -> float:
        return max(size, parameters) / min(size, parameters)

    assert found in sizes
    assert all(ratio(found) <= ratio(size) * (1 + 1e-12) for size in sizes)


def test_the_nearest_is_by_ratio_and_of_two_the_bigger() -> None:
    peers = [outcome(str(size), size, size / 1e6) for size in (16_782, 26_296, 137_000, 679_000)]
    assert table.nearest_in_size(79_271, peers).name == "137000", "1.73 times as big; 26,296 is 3.01 times as small"
    assert table.nearest_in_size(30_000, peers).name == "26296"
    assert table.nearest_in_size(200, [outcome("a", 100, 0.1), outcome("b", 400, 0.1)]).name == "b"
    assert table.nearest_in_accuracy(0.2, peers).name == "137000"


def test_means_are_of_pieces_and_then_of_corpora() -> None:
    result = outcome("a", 1, 0.5)
    assert result.means()["c"] == pytest.approx({"onset": 0.55, "onset_offset": 0.275, "frame": 0.8})
    assert result.accuracy == pytest.approx((0.55 + 0.5) / 2)
    assert result.real_time_factor == pytest.approx((1 + 1 + 2) / 30)


def test_the_report_tells_ours_beside_the_nearest_peer() -> None:
    results = [outcome("mine", 1000, 0.6, ours=True), outcome("small", 100, 0.3, 3.0), outcome("big", 9000, 0.5, 2.0)]
    text = table.markdown(results, {"gone": "gone: cannot be installed"}, ["a note"])
    lines = text.splitlines()
    assert [line.split(" | ")[0] for line in lines[2:5]] == ["| small", "| **mine**", "| big"], "by size"
    assert lines[3] == (
        "| **mine** | 1,000 | 0.650 / 0.325 / 0.900 | 0.600 / 0.300 / 0.850 | 0.1333 | 1.00 | 0.2667 | 1.5 s | 0.2"
        " | told |"
    )
    assert lines[2].split(" | ")[5] == "2.00", "(3 + 3 + 2) / (1 + 1 + 2)"
    beside = next(line for line in lines if line.startswith("| **mine** (1,000)"))
    assert beside == (
        "| **mine** (1,000) | big (9,000) | +0.100 / +0.050 / +0.100 | +0.100 / +0.050 / +0.100 | 0.67"
        " | big (0.525; ours 0.625) | 0.67 |"
    )
    assert "| c | q | 10 s | 0.700 / 0.350 / 0.950 | 0.400 / 0.200 / 0.650 | 0.600 / 0.300 / 0.850 |" in lines
    assert lines[-2:] == ["- left out: gone: cannot be installed", "- a note"]


def test_the_csv_holds_every_figure() -> None:
    rows = list(
        csv.DictReader(io.StringIO(table.as_csv([outcome("mine", 1000, 0.6, ours=True), outcome("x", 5, 0.3)])))
    )
    assert len(rows) == 6
    assert rows[1] == {
        **{"system": "mine", "corpus": "c", "piece": "q", "onset": "0.7", "onset_offset": "0.35", "frame": "0.95"},
        **{"notes": "7", "seconds": "10.0", "read": "0.1", "inference": "1.0", "cpu_seconds": "2.0"},
        **{"decoding": "0.2", "parameters": "1000", "ours": "1"},
    }


# The command line.


@pytest.fixture
def defined() -> Iterator[None]:
    """The benchmark's flags, forgotten afterwards."""
    before = set(flags.FLAGS)
    transcription_peers.define_flags()
    yield
    for name in set(flags.FLAGS) - before:
        delattr(flags.FLAGS, name)


def call(*args: object) -> int:
    return transcription_peers.main(flags.FLAGS(["transcription_peers", *map(str, args)]))


def test_the_command_runs_peers_and_writes_both_tables(defined, corpora, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(systems, "of_peer", lambda name, *_: foreign(tmp_path, name=name))
    options = [f"--data_dir={corpora}", f"--output_dir={tmp_path}/out", "--models=", "--corpora=maps", "--seconds=1.5"]
    assert call(*options, "--peers=basic_pitch,transkun") == 0
    report = (tmp_path / "out/transcription_peers.md").read_text()
    assert report in capsys.readouterr().out
    assert "| maps | MAPS_MUS-bor_ps6_ENSTDkCl | 2 s | 0.500 / 0.500 / 0.936 | 0.500 / 0.500 / 0.936 |" in report
    rows = list(csv.DictReader((tmp_path / "out/transcription_peers.csv").open()))
    assert [(row["system"], row["seconds"]) for row in rows] == [("basic_pitch", "1.5"), ("transkun", "1.5")]


def test_faults_are_one_line_and_a_status(defined, corpora, tmp_path, capsys) -> None:
    common = [f"--data_dir={corpora}", f"--output_dir={tmp_path}/out", "--peers=", "--models="]
    for option, reason in [("--corpora=opera", "unknown corpus 'opera'"), ("--corpora=maps", "no system could be run")]:
        assert call(*common, option) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"transcription_peers: error: {reason}")


@pytest.mark.slow
def test_our_model_gives_in_the_driver_what_the_verb_writes(tmp_path, musicnet) -> None:
    from conftest import ROOT

    from musicnet_tf import scores

    example = next(p for p in (ROOT / "examples").iterdir() if p.suffix in (".ogg", ".flac"))
    assert musicnet("transcribe", example, f"--output_dir={tmp_path}", "--formats=csv").status == 0
    rows, took = driver.hear(driver.ours("notes_harmonic_cnn"), str(example))
    expected = scores.read_musicnet_csv(tmp_path / f"{example.stem}.csv")
    found = Notes.from_list([Note(*row) for row in rows])
    assert found.pitch.tolist() == expected.pitch.tolist()
    np.testing.assert_allclose(found.intervals(), expected.intervals(), atol=1 / 44100)
    assert took["inference"] > 0

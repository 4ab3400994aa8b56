"""`musicnet align` from end to end, with a known warp in place of the search for one."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import pretty_midi
import pytest
import soundfile

from musicnet_tf import scores
from musicnet_tf.alignment import aligner, output
from musicnet_tf.alignment.result import Alignment, Finding, Segment
from musicnet_tf.alignment.settings import Settings
from musicnet_tf.errors import AlignmentError
from musicnet_tf.events import Note, Notes, Score

RATE = 22050
SLOWER, LATER = 1.25, 1.0
WRITTEN = Notes.from_list([Note(k * 0.5, k * 0.5 + 0.4, 60 + 2 * k, 80, 0) for k in range(12)])
SILENCE = Finding("leading_silence", "the recording begins with silence (0:00–0:01)", False, 0.0, 1.0)
WRONG = Finding("wrong_piece", "the recording is of another piece", True)


def performed(notes: Notes) -> Notes:
    return scores.with_columns(notes, onset=notes.onset * SLOWER + LATER, offset=notes.offset * SLOWER + LATER)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list:
    """Puts the known warp where the aligner is; gives its findings, to be changed, and then what it was asked."""
    findings = [SILENCE]
    calls: list = [findings]

    def align(
        audio: np.ndarray, sample_rate: int, score: Score, settings: Settings, *, progress: aligner.Progress
    ) -> Alignment:
        calls.append((audio, sample_rate, score, settings))
        for stage in aligner.STAGES:
            if stage != "synthesis of what was played":
                progress(stage)
        if not np.abs(audio).max() > 1e-3:
            raise AlignmentError("the recording is silent; give one with music in it")
        notes, seconds = performed(score.notes), len(audio) / sample_rate
        end = score.notes.end
        path = np.array([[0, 0], [LATER, 0], [end * SLOWER + LATER, end], [seconds, end]])
        return Alignment(
            notes,
            np.full(len(notes), 0.9),
            path,
            (Segment(0.0, end),),
            0.9,
            tuple(findings),
            seconds,
            {"settings": settings.model_dump(mode="json")},
        )

    monkeypatch.setattr(aligner, "align", align)
    return calls


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    audio, score = tmp_path / "the song.wav", tmp_path / "score.mid"
    sound = np.zeros(10 * RATE)
    for note in performed(WRITTEN):
        at = np.arange(round(note.onset * RATE), round(note.offset * RATE))
        sound[at] += 0.2 * np.sin(2 * np.pi * 440 * 2 ** ((note.pitch - 69) / 12) * at / RATE)
    soundfile.write(audio, sound, RATE)
    scores.to_midi(WRITTEN).write(str(score))
    return audio, score


@pytest.fixture
def align(musicnet: Callable, pair: tuple[Path, Path], tmp_path: Path) -> Callable:
    return lambda *flags: musicnet("align", *pair, f"--output_dir={tmp_path / 'out'}", *flags)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_pair_becomes_labels_picture_and_sound(align, asked: list, tmp_path: Path) -> None:
    outcome = align()
    assert (outcome.status, outcome.stderr) == (0, "")
    folder = tmp_path / "out"
    assert names(folder) == [f"the song.{end}" for end in ("confidence.csv", "csv", "flac", "json", "png")]
    labels = scores.read(folder / "the song.csv")
    np.testing.assert_allclose(labels.onset, WRITTEN.onset * SLOWER + LATER, atol=1e-3)
    np.testing.assert_array_equal(labels.pitch, WRITTEN.pitch)
    sound, rate = soundfile.read(folder / "the song.flac")
    assert (rate, sound.shape) == (RATE, (10 * RATE, 2))
    summary = output.read_summary(folder / "the song.json")
    assert (summary["audio"], summary["score"], summary["num_notes"]) == ("the song.wav", "score.mid", 12)
    first, finding, wrote = outcome.stdout.splitlines()
    assert first == "the song: 12 labels in 0:10 of audio, confidence 0.90"
    assert finding.strip() == SILENCE.message
    assert wrote.startswith("  wrote ") and wrote.count(str(folder)) == 5 and wrote.endswith("the song.csv")


class Terminal(io.StringIO):
    """Shows what is written to it."""

    def isatty(self) -> bool:
        return True


def test_a_bar_shows_the_stages_on_a_terminal_and_goes(align, asked: list, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(io, "StringIO", Terminal)  # what the fixture catches errors with
    outcome = align("--formats=json")
    assert outcome.status == 0
    lines = outcome.stderr.split("\r")
    bars = [line.split("|") for line in lines if "|" in line]
    told = {bar[0].strip(): bar[2].split()[0] for bar in bars if bar[0].strip()}
    assert list(told.items()) == [  # what was not synthesised anew is passed over
        ("synthesis", "0/6"),
        ("structure", "1/6"),
        ("features", "3/6"),
        ("warping", "4/6"),
        ("writing", "5/6"),
    ]
    assert not "".join(lines[-2:]).strip(), "something is left of the bar"


def test_the_aligner_gets_sound_score_and_settings(align, asked: list, tmp_path: Path) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text("norm: l1\nmethod: exact\n")
    flags = (f"--config={config}", "--set=features.hop_length=512", "--set=norm=l2", "--soundfont=it's: a font.sf2")
    assert align("--formats=json", *flags).status == 0
    audio, rate, score, settings = asked[1]
    assert audio.dtype == np.float32 and (rate, len(audio)) == (RATE, 10 * RATE)
    assert score.notes.pitch.tolist() == WRITTEN.pitch.tolist()
    assert (settings.norm, settings.method, settings.features.hop_length) == ("l2", "exact", 512)
    assert settings.soundfont == "it's: a font.sf2"
    assert names(tmp_path / "out") == ["the song.json"]
    assert output.read_summary(tmp_path / "out" / "the song.json")["settings"]["norm"] == "l2"


def test_a_constant_tempo_is_asked_of_the_score(align, asked: list, pair) -> None:
    midi = pretty_midi.PrettyMIDI(initial_tempo=60)
    piano = pretty_midi.Instrument(0)
    piano.notes = [pretty_midi.Note(80, 60 + k, float(k), k + 1.0) for k in range(4)]
    midi.instruments.append(piano)
    midi.write(str(pair[1]))
    for flags, onset in (((), [0, 1, 2, 3]), (("--set=tempo=constant",), [0, 0.5, 1, 1.5])):
        assert align("--formats=json", *flags).status == 0
        np.testing.assert_allclose(asked[-1][2].notes.onset, onset, atol=1e-3)


def test_a_rejected_pair_says_why_and_keeps_its_labels_apart(align, asked: list, tmp_path: Path) -> None:
    asked[0][:] = [WRONG, SILENCE]
    outcome = align("--formats=csv,json")
    assert outcome.status == 1
    assert outcome.stderr.splitlines() == [
        f"musicnet align: error: {tmp_path / 'the song.wav'}: rejected: the recording is of another piece"
    ]
    assert "  REJECTED: the recording is of another piece" in outcome.stdout.splitlines()
    assert names(tmp_path / "out") == [f"the song.{end}" for end in ("confidence.csv", "json", "rejected.csv")]
    assert not output.read_summary(tmp_path / "out" / "the song.json")["accepted"]
    assert align("--formats=csv", "--keep_rejected").status == 0
    assert "the song.csv" in names(tmp_path / "out")


def test_labels_as_piano(align, asked: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from musicnet_tf import synthesis

    played = []

    def render(notes: Notes, soundfont: Path, sample_rate: int, **_) -> np.ndarray:
        played.append((len(notes), str(soundfont), sample_rate))
        return np.full(sample_rate, 0.1, np.float32)

    monkeypatch.setattr(synthesis, "render", render)
    assert align("--formats=flac", "--sonify=piano", "--soundfont=grand.sf2").status == 0
    assert played == [(12, "grand.sf2", RATE)]


@pytest.mark.parametrize(
    ("flags", "status", "told"),
    [
        (["--formats=csv,wav"], 1, "unknown output format 'wav'"),
        (["--config=nowhere.yaml"], 1, "nowhere.yaml: no such alignment config"),
        (["--set=features.hop=1"], 1, "unknown key 'features.hop'"),
        (["--set=features.hop_length=none"], 1, "key 'features.hop_length'"),
        (["--sonify=flute"], 2, "should be one of"),
        (["third.wav"], 2, "give AUDIO and SCORE, or --manifest alone"),
        (["--manifest=pairs.csv"], 2, "give AUDIO and SCORE, or --manifest alone"),
    ],
)
def test_a_wrong_flag_is_told_in_one_line(align, asked: list, tmp_path: Path, flags, status, told) -> None:
    outcome = align(*flags)
    assert outcome.status == status
    assert len(outcome.stderr.splitlines()) == 1
    assert outcome.stderr.startswith("musicnet align: error: ") and told in outcome.stderr
    assert len(asked) == 1 and not (tmp_path / "out").exists()


def test_bad_input_is_told_in_one_line(musicnet, asked: list, pair, tmp_path: Path) -> None:
    audio, score = pair
    silent, text = tmp_path / "silent.wav", tmp_path / "notes.mid"
    soundfile.write(silent, np.zeros(RATE), RATE)
    text.write_text("no score")
    for given, told in (
        ((tmp_path / "missing.wav", score), "missing.wav: not found"),
        ((audio, tmp_path / "missing.mid"), "missing.mid"),
        ((audio, text), "notes.mid: not a readable Standard MIDI File"),
        ((audio, audio), "the song.wav"),
        ((silent, score), "the recording is silent"),
    ):
        outcome = musicnet("align", *given, f"--output_dir={tmp_path / 'out'}")
        assert outcome.status == 1
        assert len(outcome.stderr.splitlines()) == 1 and told in outcome.stderr
    assert not (tmp_path / "out").exists() or not names(tmp_path / "out")
    assert musicnet("align", audio, score).status == 2  # no output folder


def test_the_recording_is_never_written_over(musicnet, asked: list, pair, tmp_path: Path) -> None:
    song = tmp_path / "song.flac"
    sound, _ = soundfile.read(pair[0])
    soundfile.write(song, sound, RATE)
    before = song.read_bytes()
    outcome = musicnet("align", song, pair[1], f"--output_dir={tmp_path}")
    assert outcome.status == 1 and "song.flac: is an input" in outcome.stderr
    assert song.read_bytes() == before
    assert musicnet("align", song, pair[1], f"--output_dir={tmp_path}", "--formats=csv,json").status == 0


@pytest.mark.parametrize("stem", [b"pr\xc3\xa9lude no. 1", b"caf\xe9 $5", b"-x"])
def test_any_file_name_will_do(musicnet, asked: list, pair, tmp_path: Path, stem: bytes) -> None:
    song = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + stem + b".wav"))
    pair[0].rename(song)
    outcome = musicnet("align", f"--output_dir={tmp_path / 'out'}", "--", song, pair[1])
    assert (outcome.status, outcome.stderr) == (0, "")
    assert sum(os.fsencode(name).startswith(stem + b".") for name in names(tmp_path / "out")) == 5
    outcome.stdout.encode()  # any terminal can show it


def test_a_manifest_is_a_job_with_the_same_settings(musicnet, monkeypatch, tmp_path: Path) -> None:
    from musicnet_tf.alignment.report import Report, Row
    from pipelines import align as job

    bad = Row("b", "rejected", "b.wav", "b.mid", 0.1, 5, 9.0, ("wrong_piece: of another piece",))
    report = Report((bad, Row("a", "accepted", "a.wav", "a.mid", 0.9, 12, 10.0)), num_resumed=1)
    align_pairs = mock.create_autospec(job.align_pairs, return_value=report)  # refuses what the job would refuse
    monkeypatch.setattr(job, "align_pairs", align_pairs)
    flags = ("--manifest=pairs.csv", f"--output_dir={tmp_path}", "--set=norm=l1", "--timeout=60", "--formats=csv,json")
    outcome = musicnet("align", *flags, "--num_workers=2", "--beam_option=job_name=x", "--keep_rejected")
    assert outcome.status == 0, outcome.stderr
    (manifest, folder, settings), kwargs = align_pairs.call_args
    assert (manifest, folder, settings.norm) == (Path("pairs.csv"), tmp_path, "l1")
    assert kwargs.pop("options").get_all_options(drop_default=True)["direct_num_workers"] == 2
    assert kwargs == {"timeout": 60.0, "formats": ["csv", "json"], "keep_rejected": True}
    assert outcome.stdout.splitlines() == [
        "rejected   b: wrong_piece: of another piece",
        f"1 accepted, 1 rejected, 1 resumed; outputs and report.html in {tmp_path}",
    ]
    assert musicnet("align", *flags, "--strict").status == 1
    assert musicnet("align", *flags, "--sonify=piano").status == 2

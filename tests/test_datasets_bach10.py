"""Bach10: mixes and parts of one chorale, on one side, each part with its own notes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile

from musicnet_tf.datasets.bach10 import PROGRAMS, Bach10
from musicnet_tf.errors import DatasetError
from musicnet_tf.events import Note, Notes
from musicnet_tf.registry import DATASETS

CSV = """start_time,end_time,instrument,note,start_beat,end_beat,note_value
22050,44100,41,72,1.0,1.0,
22050,44100,72,67,1.0,1.0,
22050,33075,67,60,1.0,0.5,
33075,44100,67,62,1.5,0.5,
22050,44100,71,48,1.0,1.0,
"""


def lay_out(folder: Path, chorale: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{chorale}.musicnet.csv").write_text(CSV)
    for level, name in enumerate(["", *(f"-{part}" for part in PROGRAMS)], 1):
        soundfile.write(folder / f"{chorale}{name}.wav", np.full(4410, level / 8), 44100, subtype="FLOAT")


def test_a_part_carries_its_own_notes_and_sound(tmp_path: Path) -> None:
    lay_out(tmp_path / "07-Title", "07-Title")
    bach = Bach10(root=tmp_path)
    recordings = {r.id: r for r in bach.recordings()}
    assert list(recordings) == sorted(["07-Title", *(f"07-Title-{part}" for part in PROGRAMS)])
    sax = recordings["07-Title-saxphone"]
    assert list(bach.load_notes(sax)) == [Note(0.5, 0.75, 60, -1, 66), Note(0.75, 1.0, 62, -1, 66)]
    assert bach.load_notes(sax).start_beat.tolist() == [1.0, 1.5]
    np.testing.assert_array_equal(bach.load_audio(sax, 44100), np.full(4410, 4 / 8))
    np.testing.assert_array_equal(bach.load_audio(recordings["07-Title"], 44100), np.full(4410, 1 / 8))
    parts = [bach.load_notes(recordings[f"07-Title-{part}"]) for part in PROGRAMS]
    assert Notes.concatenate(parts) == bach.load_notes(recordings["07-Title"])


def test_parts_can_be_left_out_and_chorales_set_apart(tmp_path: Path) -> None:
    for chorale in ("03-A", "04-B", "05-C"):
        lay_out(tmp_path, chorale)
    mixes = Bach10(root=tmp_path, stems=False, test=("05",)).recordings()
    assert [(r.id, r.split) for r in mixes] == [("03-A", "train"), ("04-B", "validation"), ("05-C", "test")]
    assert len({(r.work, r.split) for r in Bach10(root=tmp_path).recordings()}) == 3


def test_what_is_not_bach10_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"not Bach10; looked for <nn>-<title>\.musicnet\.csv"):
        Bach10(root=tmp_path).recordings()
    lay_out(tmp_path, "03-A")
    (tmp_path / "03-A-clarinet.wav").unlink()
    with pytest.raises(DatasetError, match=r"03-A\.musicnet\.csv: its audio .*03-A-clarinet\.wav .* is missing"):
        Bach10(root=tmp_path).recordings()
    assert len(Bach10(root=tmp_path, stems=False).recordings()) == 1


def test_the_real_corpus(shared_data: Path) -> None:
    bach = DATASETS.get("bach10")(root=shared_data / "bach10")
    recordings = {r.id: r for r in bach.recordings()}
    assert Counter(r.split for r in recordings.values()) == {"train": 15, "validation": 5}
    assert {r.work for r in recordings.values() if r.split == "validation"} == {"04-ChristeDuBeistand"}
    first = next(iter(bach.load_notes(recordings["04-ChristeDuBeistand"])))
    assert first == Note(4983 / 44100, 18654 / 44100, 53, -1, 66)


def test_instrument_codes_of_the_real_corpus_name_the_part_that_plays(shared_data: Path) -> None:
    """What each part sounds, by pYIN, is what the notes under its own code say and no other part's."""
    bach = Bach10(root=shared_data / "bach10")
    recordings = {r.id: r for r in bach.recordings()}
    rate, hop = 16000, 512
    parts = {part: bach.load_notes(recordings[f"04-ChristeDuBeistand-{part}"]) for part in PROGRAMS}
    for part in PROGRAMS:
        samples = bach.load_audio(recordings[f"04-ChristeDuBeistand-{part}"], rate)[: 8 * rate]
        heard = librosa.hz_to_midi(librosa.yin(samples, fmin=60, fmax=1000, sr=rate, hop_length=hop))
        times = np.arange(len(heard)) * hop / rate

        def agreement(notes: Notes, heard: np.ndarray = heard, times: np.ndarray = times) -> float:
            sounding = (notes.onset[:, None] <= times) & (times < notes.offset[:, None])
            right = np.abs(notes.pitch[:, None] - heard) < 0.5
            return float((sounding & right).any(0)[sounding.any(0)].mean())

        scores = {other: agreement(notes) for other, notes in parts.items()}
        assert max(scores, key=lambda other: scores[other]) == part
        assert scores[part] > 0.75

"""MAPS: exact piano labels, one piece never on two sides."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from musicnet_tf.datasets import Recording
from musicnet_tf.datasets.maps import Maps
from musicnet_tf.errors import DatasetError, ScoreError
from musicnet_tf.events import Note
from musicnet_tf.registry import DATASETS

TSV = (
    "# onset,offset,note,velocity\n0.500000\t1.250000\t60.000000\t64.000000\n0.250000\t1.000000\t72.000000\t90.000000\n"
)
TXT = "OnsetTime\tOffsetTime\tMidiPitch\n0.5\t1.25\t60\n0.25\t1\t72\n"


def lay_out(folder: Path, stem: str, label: str = TSV, suffix: str = ".tsv") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{stem}{suffix}").write_text(label)
    soundfile.write(folder / f"{stem}.wav", np.full((3200, 2), [0.5, 0.25]), 16000, subtype="FLOAT")


def test_published_folders_and_flat_ones_give_the_same_notes(tmp_path: Path) -> None:
    lay_out(tmp_path / "flat", "MAPS_MUS-mz_331_3_ENSTDkCl")
    lay_out(tmp_path / "published/ENSTDkCl/MUS", "MAPS_MUS-mz_331_3_ENSTDkCl", TXT, ".txt")
    flat, published = (Maps(root=tmp_path / name) for name in ("flat", "published"))
    (recording,) = flat.recordings()
    assert published.recordings() == [recording]
    assert (recording.id, recording.work, recording.split) == ("MAPS_MUS-mz_331_3_ENSTDkCl", "mz_331_3", "train")
    assert recording.metadata["instrument"] == "ENSTDkCl"
    assert list(flat.load_notes(recording)) == [Note(0.25, 1.0, 72, 90, 0), Note(0.5, 1.25, 60, 64, 0)]
    assert list(published.load_notes(recording)) == [Note(0.25, 1.0, 72, -1, 0), Note(0.5, 1.25, 60, -1, 0)]
    np.testing.assert_allclose(published.load_audio(recording, 16000), np.full(3200, 0.375))


def test_one_piece_on_two_instruments_is_on_one_side(tmp_path: Path) -> None:
    for stem in ("ty_maerz_ENSTDkAm", "ty_maerz_ENSTDkCl", "alb_se2_ENSTDkCl", "chpn-p4_AkPnBcht"):
        lay_out(tmp_path, f"MAPS_MUS-{stem}")
    maps = Maps(root=tmp_path, validation=("alb_se2",), test=("ty_maerz",))
    assert [(r.work, r.split) for r in maps.recordings()] == [
        ("alb_se2", "validation"),
        ("chpn-p4", "train"),
        ("ty_maerz", "test"),
        ("ty_maerz", "test"),
    ]


def test_a_delay_moves_the_notes_of_its_instrument_alone(tmp_path: Path) -> None:
    for stem in ("a_ENSTDkAm", "a_ENSTDkCl"):
        lay_out(tmp_path, f"MAPS_MUS-{stem}")
    maps = Maps(root=tmp_path, delay={"ENSTDkAm": 0.125})
    far, close = (maps.load_notes(recording) for recording in maps.recordings())
    assert far.intervals().tolist() == [[0.375, 1.125], [0.625, 1.375]]
    assert close.intervals().tolist() == [[0.25, 1.0], [0.5, 1.25]]


def test_what_is_not_maps_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="nowhere: not found; set the root of maps"):
        Maps(root=tmp_path / "nowhere").recordings()
    with pytest.raises(DatasetError, match=r"not MAPS; looked for MAPS_MUS-<piece>_<instrument>\.tsv"):
        Maps(root=tmp_path).recordings()
    lay_out(tmp_path, "MAPS_MUS-a_ENSTDkAm")
    with pytest.raises(DatasetError, match="holds no recording 'b'"):
        Maps(root=tmp_path).load_audio(Recording("b", "train", "b"), 16000)
    (tmp_path / "MAPS_MUS-a_ENSTDkAm.wav").unlink()
    with pytest.raises(DatasetError, match=r"a_ENSTDkAm\.tsv: its audio .*a_ENSTDkAm\.wav .* is missing"):
        Maps(root=tmp_path).recordings()


def test_a_reversed_row_is_named(tmp_path: Path) -> None:
    lay_out(tmp_path, "MAPS_MUS-a_ENSTDkAm", TSV + "3.0\t2.5\t60\t64\n")
    maps = Maps(root=tmp_path)
    with pytest.raises(ScoreError, match=r"MAPS_MUS-a_ENSTDkAm\.tsv, line 4"):
        maps.load_notes(maps.recordings()[0])


def test_the_real_corpus(shared_data: Path) -> None:
    maps = DATASETS.get("maps")(root=shared_data / "maps")
    recordings = maps.recordings()
    assert Counter(r.split for r in recordings) == {"train": 20, "validation": 4}
    assert {r.work for r in recordings if r.split == "validation"} == {"bor_ps6", "deb_menu", "mz_545_3", "scn15_12"}
    assert len({(r.work, r.split) for r in recordings}) == len({r.work for r in recordings}) == 23
    first = recordings[0]
    assert first.id == "MAPS_MUS-alb_se2_ENSTDkCl"
    assert next(iter(maps.load_notes(first))) == Note(0.521985, 6.701973, 62, 74, 0)
    assert len(maps.load_audio(first, 16000)) == 3818320

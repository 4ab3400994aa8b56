"""GTZAN: one genre a clip, and the fault-filtered split as published."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tagged_records

from musicnet_tf.datasets import Recording, stable_split
from musicnet_tf.datasets.gtzan import GENRES, Gtzan
from musicnet_tf.errors import AudioError, DatasetError
from musicnet_tf.events import Notes, TagSpans

RATE = 22050
LEVELS = {"blues.00000": 0.125, "blues.00012": 0.25, "blues.00029": 0.375, "jazz.00099": 0.5, "metal.00040": 0.625}
"""Clips of a small tree, each of one level, so that one is known from another."""


def lay_out(root: Path, levels: dict[str, float], suffix: str = ".wav") -> None:
    for name, level in levels.items():
        folder = root / name.partition(".")[0]
        folder.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / f"{name}{suffix}", np.full(RATE // 2, level, np.float32), RATE, subtype="PCM_16")


@pytest.fixture
def gtzan(tmp_path: Path) -> Gtzan:
    lay_out(tmp_path / "genres", LEVELS)
    return Gtzan(root=tmp_path)


def test_the_filtered_split_is_the_published_one(tmp_path: Path) -> None:
    (tmp_path / "blues").mkdir()
    clips = list(Gtzan(root=tmp_path).clips())
    assert Counter(clip.recording.split for clip in clips) == {"train": 443, "validation": 197, "test": 290}
    assert len({clip.name for clip in clips}) == 930
    splits = {clip.name: clip.recording.split for clip in clips}
    # the first and last lines of the published lists, which count all clips from 1: 30 and 1000, 1 and 986, 13 and 991
    assert splits["blues.00029"] == splits["rock.00099"] == "train"
    assert splits["blues.00000"] == splits["rock.00085"] == "validation"
    assert splits["blues.00012"] == splits["rock.00090"] == "test"
    by_genre = Counter((name.partition(".")[0], split) for name, split in splits.items())
    assert (by_genre["pop", "validation"], by_genre["blues", "train"], by_genre["reggae", "test"]) == (13, 46, 26)
    repeated = {"metal.00040", "reggae.00005", "disco.00050", "hiphop.00039"}  # Sturm's repetitions
    assert not repeated & set(splits)


def test_clips_bear_their_genre_and_nothing_else(gtzan: Gtzan) -> None:
    recordings = gtzan.recordings()
    assert [(r.id, r.split) for r in recordings] == [
        ("blues.00000", "validation"),
        ("blues.00012", "test"),
        ("blues.00029", "train"),
        ("jazz.00099", "test"),
    ]  # metal.00040 was left out by those who filtered
    assert [gtzan.load_tags(r).tag.tolist() for r in recordings] == [["blues"], ["blues"], ["blues"], ["jazz"]]
    assert gtzan.load_tags(recordings[3]) == TagSpans([0.0], [np.inf], ["jazz"])
    assert gtzan.load_notes(recordings[0]) == Notes.empty()
    assert gtzan.load_beats(recordings[0]) is None
    assert gtzan.annotations() == ("tags",)
    assert [float(gtzan.load_audio(r, RATE).mean()) for r in recordings] == [0.125, 0.25, 0.375, 0.5]


@pytest.mark.parametrize(
    ("place", "suffix"),
    [("", ".wav"), ("genres", ".au"), ("genres_original", ".wav"), ("Data/genres_original", ".flac")],
)
def test_every_published_layout_is_found(tmp_path: Path, place: str, suffix: str) -> None:
    lay_out(tmp_path / place, {"metal.00000": 0.25}, suffix)
    (tmp_path / place / "metal" / "._metal.00001.wav").write_bytes(b"a resource fork")
    corpus = Gtzan(root=tmp_path)
    (recording,) = corpus.recordings()
    assert (recording.id, recording.split) == ("metal.00000", "validation")
    np.testing.assert_array_equal(corpus.load_audio(recording, RATE), np.full(RATE // 2, 0.25, np.float32))


def test_what_is_left_out_is_told(gtzan: Gtzan, caplog: pytest.LogCaptureFixture) -> None:
    lay_out(gtzan.root / "genres", {"jazz.00054": 0.0})
    with caplog.at_level(logging.WARNING):
        assert "jazz.00054" not in [r.id for r in gtzan.recordings()]
    told = [record.getMessage() for record in caplog.records]
    assert [line.partition(": ")[2] for line in told] == [
        "1 of 930 clips left out, as `exclude` names them: jazz.00054",
        "925 of 930 clips left out, as their audio is not there: blues.00001, blues.00002, blues.00003 …",
    ]
    whole = Gtzan(root=gtzan.root, exclude=())
    assert "jazz.00054" in [r.id for r in whole.recordings()]


def test_without_the_filter_all_clips_are_dealt_by_name(gtzan: Gtzan) -> None:
    recordings = Gtzan(root=gtzan.root, filtered=False).recordings()
    assert [r.id for r in recordings] == sorted(LEVELS)
    assert [r.split for r in recordings] == [stable_split(name, 0.1, 0.1) for name in sorted(LEVELS)]


def test_what_is_no_gtzan_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="nowhere: not found; set the root of gtzan"):
        Gtzan(root=tmp_path / "nowhere").recordings()
    with pytest.raises(
        DatasetError, match="no audio of GTZAN; looked for folders blues … rock in it and in its folders"
    ):
        Gtzan(root=tmp_path).recordings()
    (tmp_path / "pop").mkdir()
    with pytest.raises(DatasetError, match=r"has no audio of the 930 clips listed: blues\.00000, .* …; add it"):
        Gtzan(root=tmp_path).recordings()
    with pytest.raises(DatasetError, match="has no audio of the 0 clips listed; add it"):
        Gtzan(root=tmp_path, filtered=False).recordings()


def test_a_strange_recording_and_a_damaged_file_are_named(gtzan: Gtzan) -> None:
    with pytest.raises(DatasetError, match=r"holds no recording 'blues\.00099'"):
        gtzan.load_tags(Recording("blues.00099", "train", "blues.00099"))
    (gtzan.root / "genres/blues/blues.00000.wav").write_bytes(b"")
    with pytest.raises(AudioError, match=r"blues\.00000\.wav: is empty"):
        gtzan.load_audio(gtzan.recordings()[0], RATE)


def test_it_becomes_records(gtzan: Gtzan, musicnet, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert "2 minutes, 0 labels, 4 recordings" in musicnet("stats", "--dataset=gtzan", gtzan.root).stdout
    found = tagged_records.build(musicnet, gtzan, tmp_path_factory.mktemp("records"))
    genres = {"blues.00000": "blues", "blues.00012": "blues", "blues.00029": "blues", "jazz.00099": "jazz"}
    assert found == {id: [TagSpans([0.0], [0.5], [genre])] for id, genre in genres.items()}


def test_mirdata_hears_the_same(gtzan: Gtzan) -> None:
    """Its loader needs an index that it fetches; its tracks alone do not."""
    loader = pytest.importorskip("mirdata.datasets.gtzan_genre")
    for recording in gtzan.recordings():
        genre = recording.id.partition(".")[0]
        files = {"audio": [f"genres/{genre}/{recording.id}.wav", ""], "beats": [None, ""], "tempo": [None, ""]}
        track = loader.Track(recording.id, str(gtzan.root), "gtzan_genre", {"tracks": {recording.id: files}}, None)
        assert gtzan.load_tags(recording).tag.tolist() == [track.genre]
        samples, rate = track.audio
        np.testing.assert_allclose(gtzan.load_audio(recording, int(rate)), samples, atol=1e-6)


def test_there_are_ten_genres() -> None:
    expected = "blues classical country disco hiphop jazz metal pop reggae rock"
    assert " ".join(GENRES) == expected

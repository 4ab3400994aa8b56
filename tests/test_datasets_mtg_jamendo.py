"""MTG-Jamendo: the published splits, each with its tags."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tagged_records

from musicnet_tf.datasets import SPLITS, Recording
from musicnet_tf.datasets.mtg_jamendo import MtgJamendo
from musicnet_tf.errors import ConfigError, DatasetError
from musicnet_tf.events import Notes, TagSpans
from musicnet_tf.validation import construct

RATE = 44100
HEADER = "TRACK_ID\tARTIST_ID\tALBUM_ID\tPATH\tDURATION\tTAGS\n"
# Lines of the published lists
LINES = {
    "train": "track_0000214\tartist_000014\talbum_000031\t14/214.mp3\t124.6\tgenre---punkrock\n"
    "track_0343547\tartist_340092\talbum_045285\t47/343547.mp3\t361.3\tgenre---ambient\tinstrument---synthesizer\n",
    "validation": "track_1026811\tartist_370789\talbum_120715\t11/1026811.mp3\t215.3\tmood/theme---sad\n",
    "test": "track_1050083\tartist_435725\talbum_123663\t83/1050083.mp3\t178.1\tgenre---classical\tinstrument---harp\n",
}
PATHS = ["14/214.mp3", "47/343547.mp3", "11/1026811.mp3", "83/1050083.mp3"]


def write_lists(root: Path, name: str = "autotagging_top50tags", split: int = 0, lines: dict[str, str] = LINES) -> None:
    folder = root / f"data/splits/split-{split}"
    folder.mkdir(parents=True, exist_ok=True)
    for side in SPLITS:
        (folder / f"{name}-{side}.tsv").write_text(HEADER + lines[side])


def write_audio(folder: Path, paths: list[str]) -> None:
    for k, path in enumerate(paths):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        sine = 0.125 * (k + 1) * np.sin(2 * np.pi * 440 * np.arange(RATE // 2) / RATE)
        soundfile.write(folder / path, sine, RATE, format="MP3")


@pytest.fixture
def corpus(tmp_path: Path) -> MtgJamendo:
    write_lists(tmp_path)
    write_audio(tmp_path / "audio", PATHS)
    return MtgJamendo(root=tmp_path)


def test_tracks_have_the_split_of_their_list_and_their_artist_as_work(corpus: MtgJamendo) -> None:
    assert [(r.id, r.split, r.work) for r in corpus.recordings()] == [
        ("track_0000214", "train", "artist_000014"),
        ("track_0343547", "train", "artist_340092"),
        ("track_1026811", "validation", "artist_370789"),
        ("track_1050083", "test", "artist_435725"),
    ]
    assert corpus.recordings()[0].metadata == {"artist": "artist_000014", "album": "album_000031", "seconds": "124.6"}


def test_tags_keep_their_kind_and_tracks_their_audio(corpus: MtgJamendo) -> None:
    recordings = corpus.recordings()
    assert [corpus.load_tags(r).tag.tolist() for r in recordings] == [
        ["genre---punkrock"],
        ["genre---ambient", "instrument---synthesizer"],
        ["mood/theme---sad"],
        ["genre---classical", "instrument---harp"],
    ]
    assert corpus.load_tags(recordings[2]) == TagSpans([0.0], [np.inf], ["mood/theme---sad"])
    assert corpus.load_notes(recordings[2]) == Notes.empty()
    level = [np.abs(corpus.load_audio(r, RATE)[5000:15000]).max() for r in recordings]
    np.testing.assert_allclose(level, [0.125, 0.25, 0.375, 0.5], atol=0.02)


@pytest.mark.parametrize("place", ["", "audios", "raw_30s/audio", "raw_30s/audio-low", "autotagging_moodtheme/audio"])
def test_audio_is_found_where_it_is_unpacked(tmp_path: Path, place: str) -> None:
    write_lists(tmp_path)
    low = place.endswith("-low")
    write_audio(tmp_path / place, [path.replace(".mp3", ".low.mp3") if low else path for path in PATHS])
    corpus = MtgJamendo(root=tmp_path)
    assert len(corpus.recordings()) == 4
    assert np.abs(corpus.load_audio(corpus.recordings()[3], RATE)[5000:15000]).max() > 0.48


@pytest.mark.parametrize(
    ("subset", "name"),
    [
        ("all", "autotagging"),
        ("genre", "autotagging_genre"),
        ("instrument", "autotagging_instrument"),
        ("moodtheme", "autotagging_moodtheme"),
    ],
)
def test_subset_and_split_choose_the_lists(corpus: MtgJamendo, subset: str, name: str) -> None:
    other = construct(MtgJamendo, {"root": corpus.root, "subset": subset, "split": 3}, where="corpus")
    with pytest.raises(DatasetError, match=rf"split-3/{name}-train\.tsv: not found; put this list"):
        other.recordings()
    swapped = {"train": LINES["test"], "validation": LINES["validation"], "test": LINES["train"]}
    write_lists(corpus.root, name, 3, swapped)
    assert [r.split for r in other.recordings()] == ["test", "test", "validation", "train"]


def test_tracks_that_were_not_fetched_are_left_out_and_told(
    corpus: MtgJamendo, caplog: pytest.LogCaptureFixture
) -> None:
    (corpus.root / "audio/47/343547.mp3").unlink()
    with caplog.at_level(logging.WARNING):
        assert len(corpus.recordings()) == 3
    (line,) = [record.getMessage() for record in caplog.records]
    assert line == f"{corpus.root}: 1 of 4 clips left out, as their audio is not there: track_0343547"
    excluding = MtgJamendo(root=corpus.root, exclude=("track_0000214",))
    assert [r.id for r in excluding.recordings()] == ["track_1026811", "track_1050083"]


def test_what_is_not_as_published_is_named(corpus: MtgJamendo) -> None:
    train = corpus.root / "data/splits/split-0/autotagging_top50tags-train.tsv"

    def refused(text: str) -> str:
        train.write_text(text)
        with pytest.raises(DatasetError) as caught:
            corpus.recordings()
        return str(caught.value)

    assert refused("TRACK_ID\tPATH\n").startswith(f"{train}: its columns are not TRACK_ID, ARTIST_ID, ALBUM_ID, PATH")
    assert refused("id\n").startswith(f"{train}: begins with 'id', where a column 'TRACK_ID' should be")
    assert refused(HEADER + "track_1\tartist_1\n").startswith(f"{train}, line 2: not TRACK_ID, ARTIST_ID")
    assert ", line 2: not TRACK_ID" in refused(HEADER + LINES["train"].splitlines()[0] + "\trock\n")
    assert "lists 'track_1050083' twice" in refused(HEADER + LINES["test"])
    with pytest.raises(ConfigError, match="split"):
        construct(MtgJamendo, {"root": corpus.root, "split": 5}, where="corpus")


def test_lists_without_audio_are_named(tmp_path: Path) -> None:
    write_lists(tmp_path)
    with pytest.raises(DatasetError, match="no audio of MTG-Jamendo; looked for folders 00 … 99 in it and in its"):
        MtgJamendo(root=tmp_path).recordings()
    with pytest.raises(DatasetError, match="no audio of MTG-Jamendo"):
        MtgJamendo(root=tmp_path).load_audio(Recording("track_0000214", "train", ""), RATE)


def test_it_becomes_records(corpus: MtgJamendo, musicnet, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert "15 minutes, 0 labels, 4 recordings" in musicnet("stats", "--dataset=mtg_jamendo", corpus.root).stdout
    found = tagged_records.build(musicnet, corpus, tmp_path_factory.mktemp("records"))
    assert {id: sorted(tags.tag.tolist()) for id, (tags,) in found.items()} == {
        "track_0000214": ["genre---punkrock"],
        "track_0343547": ["genre---ambient", "instrument---synthesizer"],
        "track_1026811": ["mood/theme---sad"],
        "track_1050083": ["genre---classical", "instrument---harp"],
    }


def test_mirdata_reads_the_same(tmp_path: Path) -> None:
    """Its loader of the moods and themes, beside ours; it reads the lists of all five splits."""
    loader = pytest.importorskip("mirdata.datasets.mtg_jamendo_autotagging_moodtheme")
    for split in range(5):
        write_lists(tmp_path, "autotagging_moodtheme", split)
    (tmp_path / "data/autotagging_moodtheme.tsv").write_text(HEADER + "".join(LINES.values()))
    write_audio(tmp_path / "audios", PATHS)
    read = loader.Dataset(str(tmp_path))._metadata
    corpus = MtgJamendo(root=tmp_path, subset="moodtheme", split=2)
    recordings = corpus.recordings()
    assert {side: [r.id for r in recordings if r.split == side] for side in SPLITS} == read["splits"][2]
    for recording in recordings:
        assert corpus.load_tags(recording).tag.tolist() == read[recording.id]["TAGS"]
        assert recording.work == read[recording.id]["ARTIST_ID"]

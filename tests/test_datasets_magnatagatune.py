"""MagnaTagATune: the customary split and the tags given most often, from the published lists."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tagged_records
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from musicnet_tf.datasets import Recording
from musicnet_tf.datasets.magnatagatune import DAMAGED, MagnaTagATune
from musicnet_tf.errors import ConfigError, DatasetError
from musicnet_tf.events import Notes, TagSpans
from musicnet_tf.validation import construct

RATE = 16000
TAGS = ["singer", "duet", "no voice", "guitar"]
CLIPS = {
    "2": ("f/american_bach_soloists-solo_cantatas-01-bwv54-30-59.mp3", "0011"),
    "6": ("f/american_bach_soloists-solo_cantatas-01-bwv54-146-175.mp3", "1001"),
    "10": ("c/rapoon-from_shadows-02-drift-0-29.mp3", "0010"),
    "33": ("b/kitka-nectar-11-hopa-88-117.mp3", "0000"),
    "35": ("0/kitka-wintersongs-03-byla_cesta-0-29.mp3", "1001"),
}
"""Id → path, and which of the tags are given: guitar 3, no voice 2, singer 2, duet 0 times."""
INFO = (
    "clip_id\ttrack_number\ttitle\tartist\talbum\turl\tsegmentStart\tsegmentEnd\toriginal_url\tmp3_path\n"
    '"2"\t"1"\t"BWV54 - I ""Aria"""\t"American Bach Soloists"\t"Solo Cantatas"\t""\t"30"\t"59"\t""\t"f/a.mp3"\n'
)


def write_annotations(root: Path, clips: dict[str, tuple[str, str]], tags: list[str] = TAGS) -> None:
    rows = [["clip_id", *tags, "mp3_path"], *([id, *given, path] for id, (path, given) in clips.items())]
    text = "\n".join("\t".join(f'"{cell}"' for cell in row) for row in rows)  # every cell is quoted, as published
    (root / "annotations_final.csv").write_text(text + "\n")


def write_audio(folder: Path, paths: list[str]) -> None:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / path, np.full(RATE, 0.25, np.float32), RATE, format="MP3")


@pytest.fixture
def corpus(tmp_path: Path) -> MagnaTagATune:
    write_annotations(tmp_path, CLIPS)
    write_audio(tmp_path / "mp3", [path for path, _ in CLIPS.values()])
    return MagnaTagATune(root=tmp_path)


def test_folders_tell_the_split_and_songs_the_work(corpus: MagnaTagATune) -> None:
    assert [(r.id, r.split, r.work) for r in corpus.recordings()] == [
        ("10", "validation", "rapoon-from_shadows-02-drift"),
        ("2", "test", "american_bach_soloists-solo_cantatas-01-bwv54"),
        ("33", "train", "kitka-nectar-11-hopa"),
        ("35", "train", "kitka-wintersongs-03-byla_cesta"),
        ("6", "test", "american_bach_soloists-solo_cantatas-01-bwv54"),
    ]


def test_the_sixteen_folders_go_to_three_sides(tmp_path: Path) -> None:
    write_annotations(tmp_path, {f"{k}": (f"{k:x}/song-0-29.mp3", "0000") for k in range(16)})
    write_audio(tmp_path, [f"{k:x}/song-0-29.mp3" for k in range(16)])
    sides = {int(r.id): r.split for r in MagnaTagATune(root=tmp_path).recordings()}
    assert [sides[k] for k in range(16)] == ["train"] * 12 + ["validation"] + ["test"] * 3


def test_tags_are_those_of_the_clip_and_audio_is_decoded(corpus: MagnaTagATune) -> None:
    tags = {r.id: corpus.load_tags(r) for r in corpus.recordings()}
    assert tags["6"] == TagSpans([0, 0], [np.inf, np.inf], ["guitar", "singer"])
    assert tags["33"] == TagSpans.empty()
    assert corpus.load_notes(corpus.recordings()[0]) == Notes.empty()
    samples = corpus.load_audio(corpus.recordings()[0], RATE)
    assert RATE <= len(samples) <= RATE + 2304  # an encoder adds up to two of its frames
    assert abs(float(np.median(samples)) - 0.25) < 0.01


def test_the_vocabulary_is_that_of_the_most_frequent_tags(corpus: MagnaTagATune) -> None:
    assert corpus.vocabulary() == ("guitar", "no voice", "singer")  # a tag that is never given is none of them
    top = MagnaTagATune(root=corpus.root, top=2)
    assert top.vocabulary() == ("guitar", "no voice")  # of two given twice the first by name
    assert [top.load_tags(r).tag.tolist() for r in top.recordings()] == [
        ["no voice"],
        ["guitar", "no voice"],
        [],
        ["guitar"],
        ["guitar"],
    ]
    tagged = MagnaTagATune(root=corpus.root, top=1, exclude_untagged=True)
    assert [r.id for r in tagged.recordings()] == ["2", "35", "6"]
    assert MagnaTagATune(root=corpus.root, top=None).vocabulary() == corpus.vocabulary()
    with pytest.raises(ConfigError, match="top"):
        construct(MagnaTagATune, {"root": corpus.root, "top": 0}, where="corpus")


@given(table=st.lists(st.text("01", min_size=4, max_size=4), min_size=1, max_size=12), top=st.integers(1, 4))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_tag_outside_the_vocabulary_is_more_frequent_than_one_in_it(
    tmp_path: Path, table: list[str], top: int
) -> None:
    write_annotations(tmp_path, {f"{k}": (f"0/song_{k}.mp3", given) for k, given in enumerate(table)})
    chosen = MagnaTagATune(root=tmp_path, top=top).vocabulary()
    counts = {tag: sum(given[k] == "1" for given in table) for k, tag in enumerate(TAGS)}
    assert len(chosen) == min(top, sum(count > 0 for count in counts.values()))
    assert sorted(chosen, key=lambda tag: (-counts[tag], tag)) == list(chosen)
    others = [count for tag, count in counts.items() if tag not in chosen]
    assert max(others, default=0) <= min((counts[tag] for tag in chosen), default=0)


def test_artists_and_titles_are_told_where_they_are_known(corpus: MagnaTagATune) -> None:
    assert {tuple(r.metadata.items()) for r in corpus.recordings()} == {(("seconds", "29"),)}
    (corpus.root / "clip_info_final.csv").write_text(INFO)
    known = {r.id: r.metadata for r in corpus.recordings()}
    expected = {"title": 'BWV54 - I "Aria"', "artist": "American Bach Soloists", "album": "Solo Cantatas"}
    assert known["2"] == {**expected, "seconds": "29"}
    assert known["6"] == {"seconds": "29"}


def test_damaged_and_missing_clips_are_left_out_and_told(
    corpus: MagnaTagATune, caplog: pytest.LogCaptureFixture
) -> None:
    write_annotations(corpus.root, {**CLIPS, "90": (DAMAGED[0], "1111"), "91": ("e/gone-0-29.mp3", "1111")})
    (corpus.root / "mp3/6").mkdir()
    (corpus.root / "mp3" / DAMAGED[0]).write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        assert {r.id for r in corpus.recordings()} == set(CLIPS)
    told = [record.getMessage().partition(": ")[2] for record in caplog.records]
    assert told == [
        f"1 of 7 clips left out, as `exclude` names them: {DAMAGED[0]}",
        "1 of 7 clips left out, as their audio is not there: e/gone-0-29.mp3",
    ]
    assert "90" in {r.id for r in MagnaTagATune(root=corpus.root, exclude=()).recordings()}


def test_what_is_not_as_published_is_named(corpus: MagnaTagATune, tmp_path: Path) -> None:
    def refused(line: str) -> str:
        (tmp_path / "annotations_final.csv").write_text("clip_id\tsinger\tmp3_path\n" + line)
        with pytest.raises(DatasetError) as caught:
            corpus.recordings()
        return str(caught.value)

    table = tmp_path / "annotations_final.csv"
    assert refused("2\t1") == f"{table}, line 2: not clip_id, 0 or 1 for each of 1 tags, and mp3_path"
    assert refused("2\t2\tf/a.mp3").startswith(f"{table}, line 2: not clip_id, 0 or 1")
    assert "'g/a.mp3' is no path <0–f>/<name>.mp3" in refused("2\t1\tg/a.mp3")
    assert "'/a.mp3' is no path" in refused("2\t1\t/a.mp3")
    assert "'f/a.mp3' is no name for a clip; a file could not be called so" in refused("../2\t1\tf/a.mp3")
    assert "lists 'f/b.mp3' twice" in refused("2\t1\tf/a.mp3\n2\t1\tf/b.mp3")
    table.write_text("mp3_path\tsinger\n")
    with pytest.raises(DatasetError, match=r"annotations_final\.csv: begins with 'mp3_path', where a column 'clip_id'"):
        corpus.recordings()
    table.write_text('clip_id\t"' + "x" * 200_000)
    with pytest.raises(DatasetError, match=r"cannot be read as a table \(field larger than .*\); fetch it again"):
        corpus.recordings()
    table.write_text("")
    with pytest.raises(DatasetError, match=r"begins with '', where"):
        corpus.recordings()
    table.unlink()
    with pytest.raises(DatasetError, match=r"annotations_final\.csv: not found; put this list of the corpus there$"):
        corpus.recordings()


def test_a_list_without_its_audio_is_named(tmp_path: Path) -> None:
    write_annotations(tmp_path, CLIPS)
    with pytest.raises(DatasetError, match=r"no audio of MagnaTagATune; looked for folders 0 … f .* 'mp3', 'mp3s'"):
        MagnaTagATune(root=tmp_path).recordings()
    (tmp_path / "mp3/f").mkdir(parents=True)
    with pytest.raises(DatasetError, match="has no audio of the 5 clips listed: c/rapoon"):
        MagnaTagATune(root=tmp_path).recordings()
    with pytest.raises(DatasetError, match="has no audio of the 5 clips listed"):
        MagnaTagATune(root=tmp_path).load_tags(Recording("2", "test", ""))


def test_it_becomes_records(corpus: MagnaTagATune, musicnet, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert "2 minutes, 0 labels, 5 recordings" in musicnet("stats", "--dataset=magnatagatune", corpus.root).stdout
    options = ("--set=top=2", "--excerpt_seconds=1")
    found = tagged_records.build(musicnet, corpus, tmp_path_factory.mktemp("records"), *options)
    assert found["10"][0] == TagSpans([0.0], [1.0], ["no voice"])
    told = {id: {tuple(sorted(tags.tag.tolist())) for tags in excerpts} for id, excerpts in found.items()}
    assert told == {  # in every excerpt, that of what the encoder added too
        "10": {("no voice",)},
        "2": {("guitar", "no voice")},
        "33": {()},
        "35": {("guitar",)},
        "6": {("guitar",)},
    }

"""AudioSet: lists of what is heard in ten seconds of a video, with and without the times."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tagged_records

from musicnet_tf.datasets import Recording, stable_split
from musicnet_tf.datasets.audioset import AudioSet
from musicnet_tf.errors import ConfigError, DatasetError
from musicnet_tf.events import Notes, TagSpans
from musicnet_tf.validation import construct

RATE = 8000
HEAD = (
    "# Segments csv created Sun Mar  5 10:54:31 2017\n"
    "# num_ytids=2, num_segs=2, num_unique_labels=3, num_positive_labels=4\n"
    "# YTID, start_seconds, end_seconds, positive_labels\n"
)
TRAIN = '--PJHxphWEs, 30.000, 40.000, "/m/09x0r,/t/dd00088"\n--ZhevVpy1s, 50.000, 60.000, "/m/012xff"\n'
EVAL = 's9d-2nhuJCQ, 30.000, 40.000, "/m/09x0r"\n-_nqfhgUVTQ, 0.000, 8.500, "/m/012xff"\n'
CLASSES = 'index,mid,display_name\n0,/m/09x0r,"Speech"\n1,/m/012xff,"Toothbrush"\n2,/t/dd00088,"Gush"\n'
STRONG_HEAD = "segment_id\tstart_time_seconds\tend_time_seconds\tlabel\n"
STRONG = (
    "s9d-2nhuJCQ_30000\t2.627\t7.237\t/m/053hz1\ns9d-2nhuJCQ_30000\t0.000\t10.000\t/m/05zppz\n"
    "s9d-2nhuJCQ_30000\t3.5\t3.5\t/m/05zppz\n"
)
STRONG_CLASSES = "/m/05zppz\tMale speech, man speaking\n/m/053hz1\tCheering\n"


def write_lists(folder: Path, train: str = TRAIN) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "balanced_train_segments.csv").write_text(HEAD + train)
    (folder / "eval_segments.csv").write_text(HEAD + EVAL)
    (folder / "class_labels_indices.csv").write_text(CLASSES)


def write_strong(folder: Path, rows: str = STRONG) -> None:
    (folder / "audioset_eval_strong.tsv").write_text(STRONG_HEAD + rows)
    (folder / "mid_to_display_name.tsv").write_text(STRONG_CLASSES)


def write_audio(path: Path, level: float = 0.25) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.full(RATE, level, np.float32), RATE, subtype="PCM_16")


@pytest.fixture
def corpus(tmp_path: Path) -> AudioSet:
    write_lists(tmp_path / "metadata")
    for k, name in enumerate(("--PJHxphWEs", "--ZhevVpy1s")):
        write_audio(tmp_path / f"audios/balanced_train_segments/Y{name}.wav", 0.125 * (k + 1))
    for k, name in enumerate(("s9d-2nhuJCQ", "-_nqfhgUVTQ")):
        write_audio(tmp_path / f"audios/eval_segments/Y{name}.wav", 0.125 * (k + 3))
    return AudioSet(root=tmp_path)


def test_lists_are_read_as_published(corpus: AudioSet) -> None:
    recordings = {r.id: r for r in corpus.recordings()}
    assert list(recordings) == ["Y--PJHxphWEs_30000", "Y--ZhevVpy1s_50000", "Y-_nqfhgUVTQ_0", "Ys9d-2nhuJCQ_30000"]
    tags = {id: corpus.load_tags(r).tag.tolist() for id, r in recordings.items()}
    assert list(tags.values()) == [["Speech", "Gush"], ["Toothbrush"], ["Toothbrush"], ["Speech"]]
    assert corpus.load_tags(recordings["Ys9d-2nhuJCQ_30000"]) == TagSpans([0.0], [np.inf], ["Speech"])
    assert recordings["Y-_nqfhgUVTQ_0"].metadata == {"start": "0", "seconds": "8.5", "part": "eval"}
    assert corpus.load_notes(recordings["Y-_nqfhgUVTQ_0"]) == Notes.empty()
    levels = [float(corpus.load_audio(r, RATE).mean()) for r in recordings.values()]
    assert levels == [0.125, 0.25, 0.5, 0.375]


def test_videos_of_the_evaluation_are_tested_and_a_share_of_the_others_validates(tmp_path: Path) -> None:
    videos = [f"video_{k:03d}" for k in range(200)]
    write_lists(tmp_path, "".join(f'{v}, 0.000, 10.000, "/m/09x0r"\n' for v in videos))
    for name in (*videos, "s9d-2nhuJCQ", "-_nqfhgUVTQ"):
        (tmp_path / f"{name}.wav").touch()  # what is listed is not opened
    sides = {r.work: r.split for r in AudioSet(root=tmp_path, validation=0.25).recordings()}
    assert sides.pop("s9d-2nhuJCQ") == sides.pop("-_nqfhgUVTQ") == "test"
    assert sides == {video: stable_split(video, 0.25) for video in videos}
    assert 30 < list(sides.values()).count("validation") < 70


@pytest.mark.parametrize(
    "stem",
    [
        *("Y--PJHxphWEs", "--PJHxphWEs", "--PJHxphWEs_30", "--PJHxphWEs_30000", "--PJHxphWEs_30.000"),
        *("Y--PJHxphWEs_30.000", "Y--PJHxphWEs_30.000_40.000", "--PJHxphWEs_30_40", "--PJHxphWEs_30.0-40.0"),
    ],
)
def test_audio_goes_by_the_names_that_are_in_use(tmp_path: Path, stem: str) -> None:
    write_lists(tmp_path)
    write_audio(tmp_path / f"anywhere/{stem}.flac", 0.5)
    corpus = AudioSet(root=tmp_path)
    (recording,) = corpus.recordings()
    assert float(corpus.load_audio(recording, RATE).mean()) == 0.5


def test_of_two_parts_of_a_video_each_has_its_own_audio(tmp_path: Path) -> None:
    write_lists(tmp_path, 'video, 0.000, 10.000, "/m/09x0r"\nvideo, 10.000, 20.000, "/m/012xff"\n')
    write_audio(tmp_path / "video.wav", 0.125)  # of which of the two, no one can tell
    with pytest.raises(DatasetError, match="has no audio of the 4 clips listed"):
        AudioSet(root=tmp_path).recordings()
    write_audio(tmp_path / "video_0.wav", 0.25)
    write_audio(tmp_path / "video_10.wav", 0.5)
    corpus = AudioSet(root=tmp_path)
    heard = {r.id: float(corpus.load_audio(r, RATE).mean()) for r in corpus.recordings()}
    assert heard == {"Yvideo_0": 0.25, "Yvideo_10000": 0.5}


def test_folders_by_links_are_searched_and_none_twice(corpus: AudioSet, tmp_path_factory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (corpus.root / "audios").rename(elsewhere / "audios")
    (corpus.root / "audios").symlink_to(elsewhere / "audios")
    (elsewhere / "audios/loop").symlink_to(corpus.root)
    assert len(corpus.recordings()) == 4


def test_strong_labels_tell_when(corpus: AudioSet) -> None:
    write_strong(corpus.root / "metadata")
    both = AudioSet(root=corpus.root, parts=("eval_strong", "eval"))
    spans = {r.id: both.load_tags(r) for r in both.recordings()}
    expected = TagSpans([2.627, 0.0], [7.237, 10.0], ["Cheering", "Male speech, man speaking"])
    assert spans["Ys9d-2nhuJCQ_30000"] == expected  # not the whole clip of the list without times
    assert spans["Y-_nqfhgUVTQ_0"].tag.tolist() == ["Toothbrush"]
    alone = AudioSet(root=corpus.root, parts=("eval_strong",))
    assert [(r.id, r.split) for r in alone.recordings()] == [("Ys9d-2nhuJCQ_30000", "test")]
    write_strong(corpus.root / "metadata", "s9d-2nhuJCQ_30000\t7.2\t2.6\t/m/053hz1\n")
    with pytest.raises(DatasetError, match=r"line 2: ends before it begins \(7\.2 to 2\.6 s\)"):
        alone.recordings()


def test_videos_that_are_gone_are_left_out_and_told(corpus: AudioSet, caplog: pytest.LogCaptureFixture) -> None:
    (corpus.root / "audios/eval_segments/Ys9d-2nhuJCQ.wav").unlink()
    with caplog.at_level(logging.WARNING):
        assert len(corpus.recordings()) == 3
    (line,) = [record.getMessage() for record in caplog.records]
    assert line == f"{corpus.root}: 1 of 4 clips left out, as their audio is not there: s9d-2nhuJCQ"


def test_what_is_not_as_published_is_named(corpus: AudioSet) -> None:
    table = corpus.root / "metadata/eval_segments.csv"

    def refused(line: str) -> str:
        table.write_text(HEAD + line)
        with pytest.raises(DatasetError) as caught:
            corpus.recordings()
        return str(caught.value)

    assert refused("video, 0.0, 10.0").startswith(f"{table}, line 4: not YTID, start_seconds, end_seconds and")
    assert refused('video, 0.0, 10.0, "/m/09x0r", 1').startswith(f"{table}, line 4: not YTID")
    assert refused('video, begin, 10.0, "/m/09x0r"') == f"{table}, line 4: 'begin' is no time"
    assert refused('video, 0.0, nan, "/m/09x0r"') == f"{table}, line 4: 'nan' is no time"
    assert refused('video, 5.0, 4.0, "/m/09x0r"') == f"{table}, line 4: ends before it begins (5.0 to 4.0 s)"
    assert refused('video, 0.0, 10.0, "/m/0"') == (
        f"{table}, line 4: class_labels_indices.csv has no class '/m/0'; take that of the same release"
    )
    assert "'../video' is no name for a clip" in refused('../video, 0.0, 10.0, "/m/09x0r"')
    table.unlink()
    with pytest.raises(DatasetError, match=r"eval_segments\.csv: not found; put this list of the corpus there or "):
        corpus.recordings()
    assert len(AudioSet(root=corpus.root, parts=("balanced_train",)).recordings()) == 2
    with pytest.raises(DatasetError, match=r"audioset_train_strong\.tsv: not found"):
        AudioSet(root=corpus.root, parts=("train_strong",)).recordings()
    with pytest.raises(DatasetError, match="holds no recording 'Yother_0'"):
        AudioSet(root=corpus.root, parts=("balanced_train",)).load_tags(Recording("Yother_0", "train", "other"))
    for parts in ([], ["validation"]):
        with pytest.raises(ConfigError, match="parts"):
            construct(AudioSet, {"root": corpus.root, "parts": parts}, where="corpus")


def test_it_becomes_records(corpus: AudioSet, musicnet, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert "1 minutes, 0 labels, 4 recordings" in musicnet("stats", "--dataset=audioset", corpus.root).stdout
    write_strong(corpus.root / "metadata")
    option = "--set=parts=[balanced_train, eval_strong]"
    found = tagged_records.build(musicnet, corpus, tmp_path_factory.mktemp("records"), option)
    assert found == {
        "Y--PJHxphWEs_30000": [TagSpans([0.0, 0.0], [1.0, 1.0], ["Gush", "Speech"])],
        "Y--ZhevVpy1s_50000": [TagSpans([0.0], [1.0], ["Toothbrush"])],
        "Ys9d-2nhuJCQ_30000": [TagSpans([0.0], [1.0], ["Male speech, man speaking"])],  # it ends before the cheering
    }

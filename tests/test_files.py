"""Files are either whole or absent."""

from __future__ import annotations

import json
import os
import stat

import pytest

from musicnet_tf import files
from musicnet_tf.errors import OutputError


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_writes_whole_files_and_leaves_no_other(tmp_path):
    files.write_text(tmp_path / "a.txt", "für Elise\n")
    files.write_json(tmp_path / "b.json", {"z": 1, "a": ["é"]})
    assert (tmp_path / "a.txt").read_bytes() == "für Elise\n".encode()
    assert json.loads((tmp_path / "b.json").read_text(encoding="utf-8")) == {"z": 1, "a": ["é"]}
    assert (tmp_path / "b.json").read_text(encoding="utf-8").index('"z"') < 10  # keys keep their order
    assert names(tmp_path) == ["a.txt", "b.json"]


def test_temporary_file_keeps_the_suffix_and_the_folder(tmp_path):
    with files.atomic(tmp_path / "song.mid") as part:
        assert part.suffix == ".mid"
        assert part.parent == tmp_path
        assert part.name != "song.mid"
        part.write_bytes(b"MThd")
        assert not (tmp_path / "song.mid").exists()
    assert (tmp_path / "song.mid").read_bytes() == b"MThd"


@pytest.mark.parametrize("error", [ValueError("half way"), KeyboardInterrupt(), OSError("disk full")])
def test_old_file_stays_where_writing_failed(tmp_path, error):
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises((type(error), OutputError)), files.atomic(tmp_path / "a.txt") as part:
        part.write_text("half of the new")
        raise error
    assert (tmp_path / "a.txt").read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_refuses_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(OutputError, match=r"none/a\.txt: cannot be written \(No such file or directory\)"):
        files.write_text(tmp_path / "none/a.txt", "x")


def test_refuses_a_path_that_is_a_folder(tmp_path):
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(OutputError, match=r"a\.txt: cannot be written \(Is a directory\)"):
        files.write_text(tmp_path / "a.txt", "x")
    assert names(tmp_path) == ["a.txt"]


def test_an_error_about_another_file_is_not_ours(tmp_path):
    with pytest.raises(FileNotFoundError, match="other"), files.atomic(tmp_path / "a.txt"):
        open(tmp_path / "other.wav")  # noqa: PTH123, SIM115


def test_makes_folders_with_their_parents_and_leaves_them_empty(tmp_path):
    made = files.make_folder(tmp_path / "a/b")
    assert made == tmp_path / "a/b"
    assert names(made) == []
    assert files.make_folder(made) == made


def test_refuses_a_folder_under_a_file(tmp_path):
    (tmp_path / "file").write_text("x")
    for folder in (tmp_path / "file", tmp_path / "file/deeper"):
        with pytest.raises(OutputError, match=rf"{folder}: cannot write there \(.+\); choose another output folder"):
            files.make_folder(folder)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_refuses_a_folder_without_permission(tmp_path):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(OutputError, match="Permission denied"):
        files.make_folder(tmp_path)
    with pytest.raises(OutputError, match="Permission denied"):
        files.write_text(tmp_path / "a.txt", "x")

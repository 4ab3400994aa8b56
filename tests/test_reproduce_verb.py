"""`musicnet reproduce`: a table row trained on records that it builds itself, reported, and reported again."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import synthetic
import yaml
from conftest import ROOT

from musicnet_tf import record_info
from musicnet_tf.reproduction import settings

TABLE = ROOT / "configs/reproduce/musicnet_table3.yaml"


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A study of two rows of one network."""
    experiment = {
        "name": "small_mlp",
        "task": {"name": "notes", "frame_loss": "square"},
        "model": {"name": "mlp", "sample_rate": 16000, "window": 512, "hidden": 8, "window_frames": 4},
        "data": {"train": [{"records": "elsewhere"}], "windows_per_excerpt": 4, "shuffle_windows": 16},
        "train": {"steps": 100, "steps_per_epoch": 50, "batch_size": 4, "schedule": "constant"},
    }
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(experiment))
    rows = [
        {"name": "small", "title": "Small", "config": "small.yaml", "published": {"average_precision": 0.41}},
        {"name": "small.other", "title": "Other", "config": "small.yaml"},
    ]
    whole = {"name": "tiny", "title": "Tiny", "source": "nowhere", "test": [*synthetic.VALIDATION], "rows": rows}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(whole))
    return tmp_path / "study.yaml"


def test_from_recordings_to_a_report_and_again(musicnet, small, tiny_corpus, tmp_path):
    out = tmp_path / "out"
    asked = [f"--config={small}", f"--output_dir={out}"]
    outcome = musicnet("reproduce", *asked, f"--data={tiny_corpus}", "--rows=small", "--scale=0.02")
    assert outcome.status == 0, outcome.stderr
    lines = outcome.stdout.splitlines()
    heading, row, wrote = lines[-3:]
    assert heading.split() == ["row", "P", "R", "AP", "paper", "AP"]
    name, *figures, published = row.split()
    assert name == "small" and published == "41.0" and len(figures) == 3
    assert all(0 <= float(figure) <= 100 for figure in figures)
    assert str(out / "report.html") in wrote and (out / "report.html").exists()
    # The records were built with the tested recordings kept from training.
    (folder,) = (out / "records").iterdir()
    info = record_info.read_info(folder)
    sides = {name: entry["split"] for name, entry in info.recordings.items()}
    assert sides == {**dict.fromkeys(synthetic.TRAIN, "train"), **dict.fromkeys(synthetic.VALIDATION, "test")}

    (out / "report.html").unlink()
    again = musicnet("reproduce", *asked, "--report_only")
    assert again.status == 0, again.stderr
    assert again.stdout.splitlines() == [heading, row, wrote]
    assert (out / "report.html").exists()


def test_a_failing_row_gives_status_1(musicnet, small, tiny_corpus, tiny_records, tmp_path):
    outcome = musicnet(
        "reproduce",
        *(f"--config={small}", f"--data={tiny_corpus}", f"--output_dir={tmp_path / 'out'}"),
        *(f"--train_records={tiny_records}", "--rows=small.other", "--set=small.other.model.sample_rate=8000"),
    )
    assert outcome.status == 1
    assert re.search(r"^failed   small\.other: .*16000 Hz, and the model takes 8000 Hz", outcome.stdout, re.MULTILINE)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "give --data, or --report_only"),
        (["--data=here", "--set=train.steps=1"], r"begin with a row and a dot; there are small, small\.other"),
        (["--data=here", "--rows=smal"], r"no row 'smal'.*small"),
        (["--report_only"], "no row of tiny was evaluated there"),
        (["--data=nowhere"], "nowhere: not found"),
        (["--data=here", "else"], "unexpected argument 'else'"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_line(musicnet, small, tmp_path, flags, message):
    outcome = musicnet("reproduce", f"--config={small}", f"--output_dir={tmp_path / 'out'}", *flags)
    assert outcome.status != 0
    assert re.search(message, outcome.stderr) and outcome.stderr.count("\n") == 1


def test_the_papers_table_is_whole():
    study = settings.load(TABLE)
    rows = {row.name: row for row in study.rows}
    table = {name: row for name, row in rows.items() if row.source.startswith("Table")}
    assert len(table) == 10 and all(row.published.precision and row.published.recall for row in table.values())
    assert study.test == ("1819", "2303", "2382")
    # The order that is examined is the one that the numbers have.
    published = [rows[name].published.average_precision for name in study.order]
    assert published == sorted(published, reverse=True)
    assert {name for name, row in rows.items() if row.published_pieces} == {"mlp_500", "mlp_2500", "avgpool", "cnn"}
    # Average precision pooled over three recordings lies between those of the single ones.
    for row in rows.values():
        pieces = [piece.average_precision for piece in row.published_pieces.values()]
        assert not pieces or min(pieces) < row.published.average_precision < max(pieces)

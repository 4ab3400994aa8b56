"""The report of a batch, and a person's verdicts on it."""

from __future__ import annotations

import csv
import html.parser
import math
import urllib.parse

import pytest

from musicnet_tf.alignment import report
from musicnet_tf.alignment.report import Row
from musicnet_tf.errors import DatasetError

EVIL = '<script>alert("x")</script> & "quoted", O\'Hara =1+1 | $rows'


def row(id, status="accepted", confidence=0.9, **more):
    return Row(id, status, f"../in/{id}.wav", f"../in/{id}.mid", confidence, **more)


ROWS = [
    row("sure", confidence=0.95, num_notes=120, duration=61.5, outputs=("sure.csv", "sure.png", "sure.flac")),
    row("failed", "failed", math.nan, findings=("../in/failed.wav: holds no samples",)),
    row("unsure", confidence=0.5, num_notes=30, duration=3600.0, findings=("leading_silence: of 3 s",)),
    row("wrong", "rejected", 0.0312, findings=("wrong_piece: nothing fits", "trailing_silence: of 5 s")),
]


class Page(html.parser.HTMLParser):
    """Cells of the table, and every link, player and script of a page."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.links, self.players, self.tags = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        attributes = dict(attributes)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag == "a":
            self.links.append(attributes["href"])
        if tag == "audio":
            self.players.append(attributes["src"])
            assert "controls" in attributes
        for name in attributes:
            assert not name.startswith("on"), "a text became a handler"

    def handle_data(self, data):
        if self.rows and self.rows[-1] and "script" not in self.tags:
            self.rows[-1][-1] += data.strip("\n")


def page(folder):
    return Page((folder / report.PAGE).read_text(encoding="utf-8"))


def table(folder):
    with (folder / report.TABLE).open(encoding="utf-8", newline="") as file:
        return {row["id"]: row for row in csv.DictReader(file)}


def test_least_confidence_comes_first_in_table_and_page(tmp_path):
    given = report.write(ROWS, tmp_path, num_resumed=2)
    expected = ["failed", "wrong", "unsure", "sure"]
    assert [r.id for r in given.rows] == expected
    assert list(table(tmp_path)) == expected
    head, *rows = page(tmp_path).rows
    assert [cells[0] for cells in rows] == expected
    assert dict(zip(head, rows[1], strict=True)) | {"files": ""} == {
        **dict.fromkeys(("composer", "work", "verdict", "duration", "files", "listen"), ""),
        "id": "wrong",
        "confidence": "0.031",
        "status": "rejected",
        "findings": "wrong_piece: nothing fitstrailing_silence: of 5 s",
        "notes": "0",
    }
    assert dict(zip(head, rows[3], strict=True))["duration"] == "1:01"
    assert dict(zip(head, rows[2], strict=True))["duration"] == "60:00"


def test_counts_stand_at_the_top(tmp_path):
    given = report.write(ROWS, tmp_path, num_resumed=2)
    assert given.counts() == {"accepted": 2, "rejected": 1, "failed": 1, "resumed": 2, "verdicts": 0}
    text = (tmp_path / report.PAGE).read_text()
    counts = "4 pairs: 2 accepted, 1 rejected, 1 failed, 2 resumed, 0 verdicts"
    assert 0 < text.index(counts) < text.index("<table>")


def test_a_report_is_read_as_it_was_written(tmp_path):
    written = report.write(ROWS, tmp_path).rows
    for before, after in zip(written, report.read(tmp_path), strict=True):
        assert (math.isnan(after.confidence), math.isnan(after.duration)) == (
            math.isnan(before.confidence),
            math.isnan(before.duration),
        )
        known = {name: value for name, value in vars(before).items() if value == value}
        assert {name: vars(after)[name] for name in known} == known


def test_files_are_linked_and_the_sound_can_be_played(tmp_path):
    report.write(ROWS, tmp_path)
    found = page(tmp_path)
    assert found.links == ["sure.csv", "sure.png", "sure.flac"]
    assert found.players == ["sure.flac"]


@pytest.mark.parametrize("kept", [("a.confidence.csv", "a.csv"), ("a.confidence.csv", "a.rejected.csv")])
def test_a_file_is_known_by_its_whole_suffix(kept):
    found = row("a", outputs=(*kept, "a.json"))
    assert found.output(".csv") == ("a.csv" if "a.csv" in kept else "")
    assert found.output(".rejected.csv") == ("a.rejected.csv" if "a.rejected.csv" in kept else "")
    assert (found.output(".confidence.csv"), found.output(".flac")) == ("a.confidence.csv", "")
    assert row("a.b", outputs=("a.b.csv",)).output(".csv") == "a.b.csv"


def test_the_page_needs_nothing_from_elsewhere(tmp_path):
    report.write(ROWS, tmp_path)
    text = (tmp_path / report.PAGE).read_text()
    assert "://" not in text
    assert "link" not in page(tmp_path).tags


def test_text_from_outside_stays_text(tmp_path):
    hostile = row(EVIL, findings=(EVIL,), outputs=(f"{EVIL}.flac",), composer=EVIL, work=EVIL, movement=EVIL)
    (tmp_path / report.VERDICTS).write_text("id,verdict,comment\nok,reject,<img src=x onerror=alert(1)>\n")
    report.write([hostile, row("ok")], tmp_path)
    found = page(tmp_path)
    assert found.tags.count("script") == 1
    assert "img" not in found.tags
    cells = next(cells for cells in found.rows if cells[0] == EVIL)
    assert (cells[1], cells[2], cells[6]) == (EVIL, f"{EVIL}: {EVIL}", EVIL)
    assert [urllib.parse.unquote(link) for link in found.links] == [f"{EVIL}.flac"]
    assert table(tmp_path)[EVIL]["composer"] == EVIL


def test_a_verdict_overrides_what_the_program_found(tmp_path):
    (tmp_path / report.VERDICTS).write_text(
        "id,verdict,comment\nsure,Reject,out of tune\nwrong,accept,\nfailed,accept,\nunsure,,hear again\n"
    )
    given = report.write(ROWS, tmp_path)
    assert {r.id: r.accepted for r in given.rows} == {"sure": False, "wrong": True, "failed": False, "unsure": True}
    assert given.counts()["verdicts"] == 3
    assert table(tmp_path)["sure"]["status"] == "accepted"
    assert (table(tmp_path)["sure"]["verdict"], table(tmp_path)["sure"]["comment"]) == ("reject", "out of tune")
    assert ["sure", "reject: out of tune"] in [[cells[0], cells[5]] for cells in page(tmp_path).rows]
    (tmp_path / report.VERDICTS).write_text("id,verdict\nunsure,reject\n")
    assert {r.id: r.accepted for r in report.read(tmp_path)} == {
        "sure": True,
        "wrong": False,
        "failed": False,
        "unsure": False,
    }


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("id,verdict\nsure,accept\nsure,reject\n", r"line 3: 'sure' has a verdict on a line before"),
        ("id,verdict\nsure,maybe\n", r"line 2: verdict is 'maybe'; use accept or reject"),
        ("id,coment,verdict\nsure,,accept\n", r"line 1: unknown column 'coment', did you mean 'comment'\?"),
        ("id,verdict\nsure\n", r"line 2: has not as many cells as the header"),
        ("id,verdict\nsure,\xff\n", r"cannot be read as CSV in UTF-8"),
    ],
)
def test_verdicts_that_cannot_be_read_are_told(tmp_path, text, told):
    (tmp_path / report.VERDICTS).write_bytes(text.encode("latin-1"))
    with pytest.raises(DatasetError, match=rf"verdicts\.csv: {told}"):
        report.write(ROWS, tmp_path)
    assert not (tmp_path / report.TABLE).exists()


def test_a_verdict_on_an_unknown_pair_is_warned_of(tmp_path, caplog):
    (tmp_path / report.VERDICTS).write_text("id,verdict\nsurre,reject\n")
    report.write(ROWS, tmp_path)
    assert "'surre' is no pair of this report" in caplog.text


def test_no_report_or_a_damaged_one_is_told(tmp_path):
    with pytest.raises(DatasetError, match=r"report\.csv: not found; run musicnet align"):
        report.read(tmp_path)
    report.write(ROWS, tmp_path)
    path = tmp_path / report.TABLE
    path.write_text(path.read_text().replace("0.0312", "much"))
    with pytest.raises(DatasetError, match=r"csv: line 3: could not convert .*'much'; run musicnet align again"):
        report.read(tmp_path)

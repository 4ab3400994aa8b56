"""What a batch of alignments gave, for a person who checks by ear: a table, a page, and the person's verdicts."""

from __future__ import annotations

import collections
import csv
import dataclasses
import html
import io
import logging
import math
import string
import urllib.parse
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, get_args

from musicnet_tf import files
from musicnet_tf.alignment import pairs
from musicnet_tf.errors import DatasetError

Status = Literal["accepted", "rejected", "failed"]

TABLE = "report.csv"
PAGE = "report.html"
VERDICTS = "verdicts.csv"
"""A person's file beside the report, columns `id,verdict` and perhaps `comment`; a verdict is `accept` or `reject`."""

_VERDICTS = ("accept", "reject", "")
_SEPARATOR = " | "

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Row:
    """What is told of one pair.

    Attributes:
        id: of the pair, as in the manifest.
        status: what the program found; `failed` where there is no alignment.
        audio, score: paths relative to the folder of the report.
        confidence: 0–1, NaN where it failed.
        num_notes, duration: labels, and seconds of the recording; 0 and NaN where it failed.
        findings: `kind: message` each, or the reason of the failure.
        outputs: names of the files that were written for it.
        labels: the one of them that holds the labels, empty where none was written.
        work, composer, composition, movement, ensemble, split, licence: as in the manifest.
        verdict, comment: a person's, empty where none was given.
    """

    id: str
    status: Status
    audio: str
    score: str
    confidence: float = math.nan
    num_notes: int = 0
    duration: float = math.nan
    findings: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    labels: str = ""
    work: str = ""
    composer: str = ""
    composition: str = ""
    movement: str = ""
    ensemble: str = ""
    split: str = ""
    licence: str = ""
    verdict: str = ""
    comment: str = ""

    @property
    def accepted(self) -> bool:
        """Whether its labels are to be used: what a person said, else what the program found."""
        if self.status == "failed":
            return False
        return self.verdict == "accept" if self.verdict else self.status == "accepted"

    def output(self, suffix: str) -> str:
        """Name of the file `<id><suffix>`, empty where it was not written: `.csv` is never `.confidence.csv`."""
        name = f"{self.id}{suffix}"
        return name if name in self.outputs else ""


@dataclasses.dataclass(frozen=True)
class Report:
    """All pairs of a batch, those of least confidence first, and how many were done by an earlier run."""

    rows: tuple[Row, ...]
    num_resumed: int = 0

    def counts(self) -> dict[str, int]:
        """Pairs by status, those done by an earlier run, and those on which a person decided."""
        status = collections.Counter(row.status for row in self.rows)
        return {
            **{name: status[name] for name in get_args(Status)},
            "resumed": self.num_resumed,
            "verdicts": sum(bool(row.verdict) for row in self.rows),
        }


def write(rows: Iterable[Row], folder: Path, num_resumed: int = 0) -> Report:
    """Writes `report.csv` and `report.html`, with the verdicts of `verdicts.csv` where that is there.

    Raises:
        DatasetError: where the verdicts cannot be read.
        OutputError: where the folder cannot be written to.
    """
    ordered = sorted(_judged(rows, folder), key=lambda row: (_number(row.confidence, -1.0), row.id))
    report = Report(tuple(ordered), num_resumed)
    files.write_text(folder / PAGE, _page(report))
    files.write_text(folder / TABLE, _table(report))
    return report


def read(folder: Path) -> list[Row]:
    """The rows of a report, with the verdicts as they are now.

    Raises:
        DatasetError: where there is no report, or it or the verdicts cannot be read.
    """
    path = folder / TABLE
    try:
        rows = [_parse(row, f"{path}: line {line}") for line, row in pairs.read_rows(path, _COLUMNS, ())]
    except FileNotFoundError as error:
        raise DatasetError(f"{path}: not found; run musicnet align --manifest=… --output_dir={folder} first") from error
    return list(_judged(rows, folder))


def read_verdicts(folder: Path) -> dict[str, tuple[str, str]]:
    """Id → verdict and comment from `verdicts.csv`; empty without one. Raises DatasetError naming file and line."""
    path = folder / VERDICTS
    verdicts: dict[str, tuple[str, str]] = {}
    try:
        for line, row in pairs.read_rows(path, ("id", "verdict"), ("comment",)):
            verdict = row["verdict"].lower()
            if verdict not in _VERDICTS:
                raise DatasetError(f"{path}: line {line}: verdict is {row['verdict']!r}; use accept or reject")
            if row["id"] in verdicts:
                raise DatasetError(f"{path}: line {line}: {row['id']!r} has a verdict on a line before; keep one")
            verdicts[row["id"]] = verdict, row["comment"]
    except FileNotFoundError:
        return {}
    return verdicts


def _judged(rows: Iterable[Row], folder: Path) -> Iterator[Row]:
    verdicts = read_verdicts(folder)
    for row in rows:
        verdict, comment = verdicts.pop(row.id, ("", ""))
        yield dataclasses.replace(row, verdict=verdict, comment=comment)
    for id in verdicts:
        _log.warning("%s: %r is no pair of this report; its verdict is not used", folder / VERDICTS, id)


_COLUMNS = tuple(field.name for field in dataclasses.fields(Row))


def _table(report: Report) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for row in report.rows:
        cells = dataclasses.asdict(row) | {
            "confidence": _format(row.confidence, 4),
            "duration": _format(row.duration, 3),
            "findings": _SEPARATOR.join(row.findings),
            "outputs": _SEPARATOR.join(row.outputs),
        }
        writer.writerow([" ".join(str(cells[name]).split()) for name in _COLUMNS])
    return text.getvalue()


def _parse(row: dict[str, str], where: str) -> Row:
    try:
        if row["status"] not in get_args(Status):
            raise ValueError(f"status is {row['status']!r}")
        return Row(
            **{  # type: ignore[arg-type]
                **row,
                "confidence": float(row["confidence"] or math.nan),
                "num_notes": int(row["num_notes"]),
                "duration": float(row["duration"] or math.nan),
                "findings": tuple(filter(None, row["findings"].split(_SEPARATOR))),
                "outputs": tuple(filter(None, row["outputs"].split(_SEPARATOR))),
            }
        )
    except ValueError as error:
        raise DatasetError(f"{where}: {error}; run musicnet align again, which writes the report anew") from error


def _number(value: float, otherwise: float) -> float:
    return otherwise if math.isnan(value) else value


def _format(value: float, digits: int) -> str:
    return "" if math.isnan(value) else f"{value:.{digits}f}"


_HEADS = (
    "id",
    "composer",
    "work",
    "confidence",
    "status",
    "verdict",
    "findings",
    "duration",
    "notes",
    "files",
    "listen",
)

_TEMPLATE = string.Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Alignment report</title>
<style>
body { font: 14px/1.4 system-ui, sans-serif; margin: 1.5em; color: #22223b; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .3em .6em; border-bottom: 1px solid #c9c9d6; }
th { position: sticky; top: 0; background: #f3f3f7; }
th button { all: unset; cursor: pointer; font-weight: bold; }
th button:focus-visible { outline: 2px solid #3b5b92; }
.accepted { color: #00695c; } .rejected { color: #a33b00; } .failed { color: #8b0000; }
td ul { margin: 0; padding-left: 1.1em; }
</style>
</head>
<body>
<h1>Alignment report</h1>
<p id="counts">$counts</p>
<p>To decide on a pair by ear, write its id and <code>accept</code> or <code>reject</code> into
<code>verdicts.csv</code> beside this page (columns <code>id,verdict,comment</code>).</p>
<p><label>Filter <input id="filter" type="search"></label> <span id="shown"></span></p>
<table>
<thead><tr>$heads</tr></thead>
<tbody>
$rows
</tbody>
</table>
<script>
const body = document.querySelector("tbody"), rows = [...body.rows], filter = document.getElementById("filter");
const key = (row, i) => row.cells[i].dataset.sort ?? row.cells[i].textContent;
const compare = (a, b) => Number(a) - Number(b) || a.localeCompare(b);
document.querySelectorAll("th").forEach((head, i) => head.firstChild.onclick = () => {
  const way = head.dataset.way === "1" ? -1 : 1;
  head.dataset.way = way;
  body.append(...rows.sort((a, b) => way * compare(key(a, i), key(b, i))));
});
const narrow = () => {
  for (const row of rows) row.hidden = !row.textContent.toLowerCase().includes(filter.value.toLowerCase());
  document.getElementById("shown").textContent = rows.filter(row => !row.hidden).length + " shown";
};
filter.oninput = narrow;
narrow();
</script>
</body>
</html>
""")


def _page(report: Report) -> str:
    counts = ", ".join(f"{number} {name}" for name, number in report.counts().items())
    return _TEMPLATE.substitute(
        counts=html.escape(f"{len(report.rows)} pairs: {counts}"),
        heads="".join(f'<th><button type="button">{head}</button></th>' for head in _HEADS),
        rows="\n".join(_html_row(row) for row in report.rows),
    )


def _html_row(row: Row) -> str:
    findings = "".join(f"<li>{html.escape(finding)}</li>" for finding in row.findings)
    work = ": ".join(filter(None, (row.work or row.composition, row.movement)))
    cells = [
        _cell(row.id),
        _cell(row.composer),
        _cell(work),
        _cell(_format(row.confidence, 3), sort=_number(row.confidence, -1.0)),
        _cell(row.status, kind=row.status),
        _cell(": ".join(filter(None, (row.verdict, row.comment)))),
        f"<td>{f'<ul>{findings}</ul>' if findings else ''}</td>",
        _cell(_minutes(row.duration), sort=_number(row.duration, -1.0)),
        _cell(str(row.num_notes), sort=row.num_notes),
        f"<td>{' '.join(_link(name, row.id) for name in row.outputs)}</td>",
        f"<td>{_player(row.output('.flac'))}</td>",
    ]
    return f"<tr>{''.join(cells)}</tr>"


def _cell(text: str, sort: float | None = None, kind: str = "") -> str:
    attributes = (f' data-sort="{sort:g}"' if sort is not None else "") + (f' class="{kind}"' if kind else "")
    return f"<td{attributes}>{html.escape(text)}</td>"


def _link(name: str, id: str) -> str:
    return f'<a href="{_url(name)}">{html.escape(name.removeprefix(f"{id}."))}</a>'


def _player(name: str) -> str:
    return f'<audio controls preload="none" src="{_url(name)}"></audio>' if name else ""


def _url(name: str) -> str:
    return html.escape(urllib.parse.quote(name))


def _minutes(seconds: float) -> str:
    return "" if math.isnan(seconds) else f"{int(seconds) // 60}:{int(seconds) % 60:02d}"

"""A report as blocks, told once and written both as Markdown and as a page of HTML."""

from __future__ import annotations

import dataclasses
import html
import re
import string
import urllib.parse
from collections.abc import Iterable

DASH = "–"
"""Stands where there is no value."""


@dataclasses.dataclass(frozen=True)
class Heading:
    """A section's; the title of the whole has level 1."""

    text: str
    level: int = 2


@dataclasses.dataclass(frozen=True)
class Paragraph:
    """Plain text."""

    text: str


@dataclasses.dataclass(frozen=True)
class Table:
    """Cells as text; the first `left` columns are words, the others numbers."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: int = 1


@dataclasses.dataclass(frozen=True)
class Picture:
    """A file beside the report, relative to it, and what it shows."""

    path: str
    caption: str


@dataclasses.dataclass(frozen=True)
class Code:
    """Lines to be read by a machine, such as YAML, folded away under a summary."""

    summary: str
    text: str


Block = Heading | Paragraph | Table | Picture | Code


def to_markdown(blocks: Iterable[Block]) -> str:
    """As GitHub and TensorBoard read it; what could be taken for markup is escaped."""
    return "\n\n".join(map(_markdown, blocks)) + "\n"


def to_html(title: str, blocks: Iterable[Block]) -> str:
    """A page that needs nothing but its pictures."""
    return _PAGE.substitute(title=html.escape(title), body="\n".join(map(_html, blocks)))


def _markdown(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"{'#' * level} {_escaped(text)}"
        case Paragraph(text):
            return _escaped(text)
        case Picture(path, caption):
            return f"![{_escaped(caption)}]({_url(path)})\n\n{_escaped(caption)}"
        case Code(summary, text):
            fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=2))
            words = html.escape(" ".join(summary.split()))
            return f"<details><summary>{words}</summary>\n\n{fence}\n{text.rstrip()}\n{fence}\n\n</details>"
        case Table(head, rows, left):
            rule = ["---" if column < left else "---:" for column in range(len(head))]
            lines = [map(_escaped, head), rule, *(map(_escaped, row) for row in rows)]
            return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _html(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"<h{level}>{html.escape(text)}</h{level}>"
        case Paragraph(text):
            return f"<p>{html.escape(text)}</p>"
        case Picture(path, caption):
            words = html.escape(caption)
            return (
                f'<figure><img src="{html.escape(_url(path))}" alt="{words}"><figcaption>{words}</figcaption></figure>'
            )
        case Code(summary, text):
            return f"<details><summary>{html.escape(summary)}</summary>\n<pre>{html.escape(text)}</pre></details>"
        case Table(head, rows, left):
            top = _html_row("th", head, left)
            body = "\n".join(_html_row("td", row, left) for row in rows)
            return f"<table>\n<thead>{top}</thead>\n<tbody>\n{body}\n</tbody>\n</table>"


def _html_row(tag: str, cells: tuple[str, ...], left: int) -> str:
    kinds = ["" if column < left else ' class="number"' for column in range(len(cells))]
    return f"<tr>{''.join(f'<{tag}{k}>{html.escape(c)}</{tag}>' for k, c in zip(kinds, cells, strict=True))}</tr>"


def _escaped(text: str) -> str:
    line = " ".join(text.split())
    return re.sub(r"([\\`*_\[\]|])", r"\\\1", html.escape(line, quote=False))


def _url(path: str) -> str:
    return urllib.parse.quote(path)


_PAGE = string.Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>$title</title>
<style>
body { font: 14px/1.4 system-ui, sans-serif; margin: 1.5em; color: #22223b; max-width: 85em; }
table { border-collapse: collapse; margin: 1em 0; }
th, td { text-align: left; vertical-align: top; padding: .3em .6em; border-bottom: 1px solid #c9c9d6; }
th { background: #f3f3f7; }
td { overflow-wrap: anywhere; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
th.number { white-space: normal; }
figure { margin: 1.5em 0; } img { max-width: 100%; } figcaption { color: #55556a; }
</style>
</head>
<body>
$body
</body>
</html>
""")

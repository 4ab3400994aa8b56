"""What a reproduction gave, beside what the paper gives: one report as Markdown, as HTML and in TensorBoard."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import yaml
from matplotlib.figure import Figure

from musicnet_tf import files, plots
from musicnet_tf.errors import MusicNetError
from musicnet_tf.reproduction import analysis, board, figures, tables
from musicnet_tf.reproduction.analysis import Analysis
from musicnet_tf.reproduction.document import Block, Code, Heading, Paragraph, Picture, Table, to_html, to_markdown
from musicnet_tf.reproduction.result import Result
from musicnet_tf.reproduction.settings import Study
from musicnet_tf.reproduction.study import RUNS
from musicnet_tf.reproduction.tables import Results

MARKDOWN, PAGE, FIGURES = "report.md", "report.html", "figures"

_DPI = 80

_log = logging.getLogger(__name__)


def write(study: Study, results: Mapping[str, Result] | Iterable[Result], output_dir: str | Path) -> list[Path]:
    """Writes `report.md`, `report.html` and their `figures/`, and the same for TensorBoard under `tensorboard/`.

    Rows without a result are told as missing. Filters are read from the rows' run folders,
    `output_dir/runs/<name>`; those of rows that cannot be read are left out with a warning.

    Args:
        study: what was reproduced.
        results: of the rows evaluated so far, in any order.
        output_dir: of the reproduction.

    Returns:
        The files written, the two reports first.

    Raises:
        OutputError: where the folder cannot be written to.
    """
    found = {r.row: r for r in (results.values() if isinstance(results, Mapping) else results)}
    found = {row.name: found[row.name] for row in study.rows if row.name in found}
    output_dir = files.make_folder(output_dir)
    analyses = dict(_analyses(study, found, output_dir))
    pictures = {name: plots.to_png_bytes(figure, _DPI) for name, figure in _figures(study, found, analyses)}
    folder = files.make_folder(output_dir / FIGURES)
    for name, png in pictures.items():
        with files.atomic(folder / f"{name}.png") as part:
            part.write_bytes(png)
    blocks = list(_blocks(study, found, analyses, pictures))
    files.write_text(output_dir / MARKDOWN, to_markdown(blocks))
    files.write_text(output_dir / PAGE, to_html(study.title, blocks))
    words = [block for block in blocks if not isinstance(block, Picture | Code)]
    events = board.write(output_dir / board.FOLDER, found.values(), pictures, to_markdown(words))
    drawn = [folder / f"{name}.png" for name in pictures]
    return [output_dir / MARKDOWN, output_dir / PAGE, *drawn, *events]


def _analyses(study: Study, results: Results, output_dir: Path) -> Iterator[tuple[str, Analysis]]:
    for row in study.rows:
        if row.name not in results:
            continue
        try:
            found = analysis.analyse(row.name, output_dir / RUNS / row.name)
        except MusicNetError as error:
            _log.warning("filters of %s are left out: %s", row.name, error)
            continue
        if found is not None:
            yield row.name, found


def _figures(study: Study, results: Results, analyses: Mapping[str, Analysis]) -> Iterator[tuple[str, Figure]]:
    """Names, which are those of the files, and figures of what is there."""
    rows = {row.name: row for row in study.rows}
    shown = [row for row in study.rows if row.in_table and row.name in results]
    if shown:
        ours = [results[row.name].pooled["average_precision"] for row in shown]
        paper = [_or_nan(row.published.average_precision) for row in shown]
        names = [tables.label(row) for row in shown]
        yield "average_precision", figures.average_precisions(names, ours, paper, "Average precision")
    for name in filter(results.__contains__, study.figures.curves):
        row = rows[name]
        yield f"curves_{name}", figures.precision_recall(results[name].curves, tables.label(row), row.published)
    for name in filter(analyses.__contains__, study.figures.filters):
        found = analyses[name]
        yield f"filters_{name}", figures.weights(found.kernels, found.sample_rate, tables.label(rows[name]))
    found_of = analyses.get(study.figures.histogram)
    if found_of is not None and found_of.notes is not None:
        tuned, correlation = found_of.trained.histogram, found_of.correlation(found_of.trained)
        assert correlation is not None
        words = tables.label(rows[found_of.row])
        yield f"histogram_{found_of.row}", figures.histograms(found_of.notes, tuned, correlation, words)


def _blocks(
    study: Study, results: Results, analyses: Mapping[str, Analysis], pictures: Mapping[str, bytes]
) -> Iterator[Block]:
    yield Heading(study.title, 1)
    yield Paragraph(
        f"After {study.source}. Tested on the recordings {', '.join(tables.tested(results)) or 'none yet'}."
    )
    absent = [id for id in study.test if id not in tables.tested(results)]
    if results and absent:
        yield Paragraph(f"The study's own test recordings {', '.join(absent)} were not at hand, or others were chosen.")
    differing = tables.differing(results)
    if differing:
        yield Paragraph(f"Rows differ in {', '.join(differing)}: see the settings before comparing their scores.")
    yield from _scores(study, results, pictures)
    if results:
        yield from _order(study, results)
        yield from _pieces(study, results)
        yield from _details(study, results)
        yield from _curves(study, results, pictures)
        yield from _filters(study, analyses, pictures)
        yield from _settings(study, results)


def _scores(study: Study, results: Results, pictures: Mapping[str, bytes]) -> Iterator[Block]:
    yield Heading("Scores")
    yield Paragraph(
        "In percent, over all points and notes of the test recordings. P and R are precision and recall at the"
        " threshold c, AP is average precision. A dash stands where the publication gives nothing; its F1 is"
        " computed from its P and R. Points trained counts repeats; training time is hours, minutes and seconds."
    )
    missing = [tables.label(row) for row in study.rows if row.name not in results]
    if missing:
        yield Paragraph(f"Missing, as not trained or not evaluated yet: {'; '.join(missing)}.")
    yield tables.main(study, results)
    for source in dict.fromkeys(row.source for row in study.rows if row.in_table and row.source):
        names = [tables.label(row) for row in study.rows if row.in_table and row.source == source]
        yield Paragraph(f"From {source}: {'; '.join(names)}.")
    extra = tables.extra(study, results)
    if extra is not None:
        yield Paragraph("Trained for the figures alone:")
        yield extra
    yield from _picture("average_precision", "Average precision of each row, ours and the paper's.", pictures)


def _order(study: Study, results: Results) -> Iterator[Block]:
    pairs = tables.order(study, results)
    if not pairs:
        return
    yield Heading("Whether the paper's order comes out")
    absent = [name for name in study.order if name not in results]
    held = sum(pair.holds for pair in pairs)
    words = f"{held} of {len(pairs)} neighbouring pairs have the order of the paper."
    if absent:
        words += f" Rows of the order that are missing are passed over: {', '.join(absent)}."
    yield Paragraph(words)
    yield tables.ordering(study, results)
    yield Paragraph(
        f"Kendall's tau with the order examined: {_tau(tables.order_tau(study, results))}; with the published average"
        f" precisions of all rows that have one: {_tau(tables.published_tau(study, results))}."
    )


def _pieces(study: Study, results: Results) -> Iterator[Block]:
    yield Heading("By recording")
    for id in tables.tested(results):
        yield Heading(f"Recording {id}", 3)
        yield tables.piece(study, results, id)


def _details(study: Study, results: Results) -> Iterator[Block]:
    polyphony = tables.polyphony(study, results)
    if polyphony is not None:
        yield Heading("By number of simultaneous notes")
        yield Paragraph(
            "Average precision in percent over the test points with exactly so many labels. Where nothing sounds,"
            " nothing can be found; there it is the share of points in which anything is predicted at all."
        )
        yield polyphony
    yield Heading("Training beside test")
    yield Paragraph(
        "Training scores are those of the sampled training points that the threshold c was chosen on, for the best"
        " F1; test points had no part in the choice. A wide gap tells of over-fitting."
    )
    yield tables.fit(study, results)


def _curves(study: Study, results: Results, pictures: Mapping[str, bytes]) -> Iterator[Block]:
    drawn = [row for row in study.rows if f"curves_{row.name}" in pictures]
    if drawn:
        yield Heading("Precision and recall (the paper's Figure 4)")
    for row in drawn:
        points = {
            "all": results[row.name].pooled.get("points"),
            "one": results[row.name].polyphony.get("1", {}).get("points"),
            "three": results[row.name].polyphony.get("3", {}).get("points"),
        }
        counts = "; ".join(f"{figures.SUBSETS[k]}: {int(n):,}" for k, n in points.items() if n is not None)
        yield from _picture(f"curves_{row.name}", f"{tables.label(row)}. Points: {counts}.", pictures)


def _filters(study: Study, analyses: Mapping[str, Analysis], pictures: Mapping[str, bytes]) -> Iterator[Block]:
    if not analyses:
        return
    yield Heading("What the bottom filters learnt (the paper's Figures 1, 3 and 5)")
    yield Paragraph(
        "Peak / median: the greatest magnitude of a filter's spectrum over the median of its magnitudes, and of that"
        " the median over all filters; in power it is the square. About 3 for white noise, which filters are before"
        " training. The quotient is trained over initialisation, the same layer drawn anew from the row's seed. r is"
        " Pearson's correlation, over the semitones where either has mass, between how many filters have their"
        " spectral peak at each MIDI pitch and how long that pitch sounds in the training recordings, each record set"
        " by its weight. Filters with their peak beyond all MIDI pitches are not counted."
    )
    if any(found.notes is None for found in analyses.values()):
        yield Paragraph("Where r is a dash, the records that the row was trained on are not at hand any more.")
    yield tables.tuning(study, analyses)
    rows = {row.name: row for row in study.rows}
    for name in study.figures.filters:
        caption = (
            f"{tables.label(rows[name])}: weights over time, their centre magnified, and their spectra. Out of the half"
            " of all filters with the purest spectra, the purest ones of eight ranges of frequency."
        )
        yield from _picture(f"filters_{name}", caption, pictures)
    if study.figures.histogram:
        words = tables.label(rows[study.figures.histogram])
        caption = f"Frequencies of the notes trained on, and those that the filters are tuned to: {words}."
        yield from _picture(f"histogram_{study.figures.histogram}", caption, pictures)


def _settings(study: Study, results: Results) -> Iterator[Block]:
    yield Heading("Settings")
    common, own = tables.settings(study, results)
    yield from _titled("The same for all rows:", common)
    yield from _titled("Of each row:", own)
    for name, result in results.items():
        if tables.EXPERIMENT in result.settings:
            text = yaml.safe_dump(result.settings[tables.EXPERIMENT], sort_keys=False, allow_unicode=True)
            yield Code(f"The experiment of {name}", text)


def _titled(title: str, table: Table) -> Iterator[Block]:
    if table.rows:
        yield Paragraph(title)
        yield table


def _picture(name: str, caption: str, pictures: Mapping[str, bytes]) -> Iterator[Block]:
    if name in pictures:
        yield Picture(f"{FIGURES}/{name}.png", caption)


def _tau(found: tables.Tau) -> str:
    if math.isnan(found.tau):
        return f"not defined over {found.rows} rows"
    return f"{found.tau:.2f} (p = {found.p_value:.2g}, {found.rows} rows)".replace("-", "−", 1)


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value

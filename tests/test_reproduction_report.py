"""A reproduction's report: its numbers read back and computed another way, its figures, TensorBoard, hostile names."""

from __future__ import annotations

import csv
import dataclasses
import html.parser
import io
import itertools
import logging
import re
import shutil

import numpy as np
import pytest
import scipy.stats
from matplotlib import image
from test_filters import tones

from musicnet_tf import config
from musicnet_tf.filters import Correlation
from musicnet_tf.reproduction import board, document, figures, report, tables
from musicnet_tf.reproduction.document import Code, Heading, Paragraph, Picture, Table
from musicnet_tf.reproduction.result import Result
from musicnet_tf.reproduction.settings import Figures, Published, Row, Study

EVIL = '<script>alert("x")</script> & [a](b) | `c` *d* $e \\ _f_'
PIECES = ("1819", "<2303>")
PUBLISHED = {"cnn": (0.432, 0.707, 0.520), "mlp_500": (0.375, 0.575, 0.410), "linear": (0.289, 0.525, 0.302)}


def row(name, title, **more):
    scores = dict(zip(("precision", "recall", "average_precision"), PUBLISHED.get(name, ()), strict=False))
    return Row(name=name, title=title, config=f"paper/{name}.yaml", published=Published(**scores), **more)


STUDY = Study(
    name="table",
    title=f"Table 3 {EVIL}",
    source="Someone, 2017",
    test=(*PIECES, "2382"),
    order=("cnn", "wide", "mlp_500", "linear"),
    rows=(
        row("linear", "Linear", features="1024-point spectrogram", source="Table 3"),
        row("mlp_500", EVIL, features="2048 samples", published_pieces={"1819": Published(precision=0.641)}),
        row("absent", "Never trained"),
        row("cnn", "CNN", features="16384 samples", source="Table 3"),
        row("wide", "MLP, 2500 nodes"),
        row("l2", "MLP, l2", in_table=False),
    ),
    figures=Figures(curves=("cnn", "absent"), filters=("mlp_500", "linear"), histogram="mlp_500"),
)


def scores(rng, points=1000):
    precision, recall = rng.uniform(0.2, 0.9, 2)
    f1 = 2 * precision * recall / (precision + recall)
    return {
        "precision": precision,
        "recall": recall,
        "f1": f1,
        "average_precision": rng.uniform(0.2, 0.9),
        "points": points,
    }


def result(name, seed):
    rng = np.random.default_rng(seed)
    recall = np.linspace(0, 1, 5000)
    curve = {"precision": (1 - 0.7 * recall).tolist(), "recall": recall.tolist(), "threshold": (1 - recall).tolist()}
    return Result(
        row=name,
        settings={
            "seed": 3,
            "steps": 100 * seed,
            "test": list(PIECES),
            "protocol": {"convention": "midpoint"},
            "experiment": {"name": name, "comment": "```\n<b>"},
        },
        num_parameters=1_088_000 + seed,
        points_trained=5_000_000,
        seconds=3725.4,
        threshold=0.31,
        training=scores(rng),
        pooled=scores(rng, 20_000),
        pieces={id: scores(rng) for id in PIECES},
        polyphony={"0": {"false_alarms": 0.125, "points": 300}}
        | {str(n): scores(rng, 10_000 // n) for n in (1, 2, 3, 10)},
        curves={"all": curve, "one": curve, "three": curve},
    )


RESULTS = {name: result(name, seed) for seed, name in enumerate(("linear", "mlp_500", "cnn", "wide", "l2"), 1)}


@pytest.fixture(scope="module")
def filter_run(tmp_path_factory, tiny_records):
    """A run folder in which each of 24 filters is a fading tone of one of the pitches from 57 to 80."""
    import keras

    from musicnet_tf import runs, validation
    from musicnet_tf.config import Experiment

    fields = {
        "name": "mlp_500",
        "seed": 5,
        "task": {"name": "notes", "frame_loss": "square"},
        "model": {"name": "mlp", "window": 2048, "hidden": 24},
        "data": {"folder": tiny_records.parent, "train": [{"records": tiny_records.name}]},
    }
    experiment = validation.construct(Experiment, fields, where="test")
    keras.utils.set_random_seed(99)
    network = experiment.model.build()
    network.get_layer("filters").kernel.assign(tones(440 * 2 ** ((np.arange(57, 81) - 69) / 12), 2048, noise=0.01))
    output_dir = tmp_path_factory.mktemp("reproduction")
    run = output_dir / "runs/mlp_500"
    run.mkdir(parents=True)
    runs.save_weights(network, run / runs.WEIGHTS)
    runs.describe(experiment, network, {}).write(run)
    experiment.write(run)
    return run


@pytest.fixture(scope="module")
def written(filter_run):
    """The folder of a report, and what the writer says that it wrote."""
    output_dir = filter_run.parents[1]
    return output_dir, report.write(STUDY, list(RESULTS.values()), output_dir)


@pytest.fixture(scope="module")
def markdown(written):
    return (written[0] / report.MARKDOWN).read_text()


def read_tables(text):
    """Tables of a Markdown text, by the heading or sentence before each, as dicts by first cell and by column."""
    found = {}
    for block, before in zip(text.split("\n\n")[1:], text.split("\n\n"), strict=False):
        if block.startswith("| "):
            lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in block.strip().splitlines()]
            cells = [[re.sub(r"\\(.)", r"\1", cell.strip()) for cell in line] for line in lines]
            found[before.lstrip("# ")] = [dict(zip(cells[0], line, strict=True)) for line in cells[2:]]
    return found


def number(text):
    return float(text.replace("−", "-").replace(",", ""))


def table_with(text, column):
    return next(rows for rows in read_tables(text).values() if column in rows[0])


def test_the_table_holds_both_figures_of_each_row(markdown):
    rows = {line["Features"]: line for line in table_with(markdown, "AP ours − paper")}
    for name, features in (("linear", "1024-point spectrogram"), ("cnn", "16384 samples")):
        line, (precision, recall, average) = rows[features], PUBLISHED[name]
        ours = RESULTS[name].pooled
        assert [number(line[f"{c} paper"]) for c in ("P", "R", "AP")] == pytest.approx(
            [100 * precision, 100 * recall, 100 * average]
        )
        assert [number(line[f"{c} ours"]) for c in ("P", "R", "AP", "F1")] == pytest.approx(
            [100 * ours[c] for c in ("precision", "recall", "average_precision", "f1")], abs=0.051
        )
        assert number(line["AP ours − paper"]) == pytest.approx(100 * (ours["average_precision"] - average), abs=0.051)
        assert number(line["F1 paper"]) == pytest.approx(100 / np.mean([1 / precision, 1 / recall]), abs=0.051)
        assert number(line["parameters"]) == RESULTS[name].num_parameters
        assert (line["points trained"], line["training time"]) == ("5,000,000", "1:02:05")


def test_what_is_missing_is_told_as_missing(markdown):
    lines = {line["Model"]: line for line in table_with(markdown, "AP ours − paper")}
    assert lines["Never trained"]["AP ours"] == lines["Never trained"]["parameters"] == "missing"
    assert lines["MLP, 2500 nodes"]["AP paper"] == lines["MLP, 2500 nodes"]["AP ours − paper"] == document.DASH
    assert "Missing, as not trained or not evaluated yet: Never trained." in markdown
    assert "test recordings 2382 were not at hand" in markdown
    assert "MLP, l2" not in lines
    extra = read_tables(markdown)["Trained for the figures alone:"]
    assert [line["Model"] for line in extra] == ["MLP, l2"]


def test_the_order_is_examined(markdown):
    average = {name: RESULTS[name].pooled["average_precision"] for name in STUDY.order}
    examined = table_with(markdown, "holds")
    for line, (better, worse) in zip(examined, itertools.pairwise(STUDY.order), strict=True):
        assert line["holds"] == ("yes" if average[better] > average[worse] else "no")
        assert number(line["AP apart, ours"]) == pytest.approx(100 * (average[better] - average[worse]), abs=0.051)
    assert {line["holds"] for line in examined} == {"yes", "no"}
    assert [line["AP apart, paper"] for line in examined] == [document.DASH, document.DASH, "+10.8"]
    pairs = list(itertools.combinations(STUDY.order, 2))
    tau = np.mean([np.sign(average[a] - average[b]) for a, b in pairs])
    assert f"the order examined: {tau:.2f}".replace("-", "−") in markdown
    held = sum(line["holds"] == "yes" for line in examined)
    assert f"{held} of 3 neighbouring pairs" in markdown


def test_tau_over_published_rows_takes_ties_into_account():
    paper = [PUBLISHED[name][2] for name in ("linear", "mlp_500", "cnn")]
    ours = [RESULTS[name].pooled["average_precision"] for name in ("linear", "mlp_500", "cnn")]
    found = tables.published_tau(STUDY, RESULTS)
    assert found.rows == 3
    assert found.tau == pytest.approx(scipy.stats.weightedtau(paper, ours, weigher=lambda _: 1, rank=None).statistic)
    alone = tables.order_tau(STUDY, {"cnn": RESULTS["cnn"]})
    assert alone.rows == 1
    assert np.isnan(alone.tau)


def test_recordings_polyphony_and_training_are_told(markdown):
    found = read_tables(markdown)
    first = {line["Features"]: line for line in found["Recording 1819"]}
    ours = RESULTS["mlp_500"].pieces["1819"]
    assert first["2048 samples"]["P paper"] == "64.1"
    assert number(first["2048 samples"]["AP ours"]) == pytest.approx(100 * ours["average_precision"], abs=0.051)
    assert "P paper" not in found["Recording &lt;2303&gt;"][0]
    by_notes = {line["Model"]: line for line in table_with(markdown, "10")}
    assert list(by_notes["CNN"]) == ["Model", "Features", "0: false alarms", "1", "2", "3", "10"]
    assert [number(by_notes["Points"][n]) for n in ("0: false alarms", "2", "10")] == [300, 5000, 1000]
    average = RESULTS["cnn"].polyphony["10"]["average_precision"]
    assert number(by_notes["CNN"]["10"]) == pytest.approx(100 * average, abs=0.051)
    assert by_notes["CNN"]["0: false alarms"] == "12.5"
    fit = {line["Model"]: line for line in table_with(markdown, "AP training − test")}
    training, test = (part["average_precision"] for part in (RESULTS["cnn"].training, RESULTS["cnn"].pooled))
    assert number(fit["CNN"]["AP training − test"]) == pytest.approx(100 * (training - test), abs=0.051)


def test_settings_are_told_once_where_they_agree(markdown):
    found = read_tables(markdown)
    common = {line["Setting"]: line["value"] for line in found["The same for all rows:"]}
    assert common == {"seed": "3", "test": "1819, &lt;2303&gt;", "protocol.convention": "midpoint"}
    own = {line["Row"]: line for line in found["Of each row:"]}
    assert own["cnn"]["steps"] == "300"
    assert own["cnn"]["config"] == "cnn.yaml"
    assert own["cnn"]["threshold c"] == "0.31"


def test_rows_of_calls_with_other_flags_are_told_apart(markdown):
    assert "Rows differ in" not in markdown
    other = dataclasses.replace(RESULTS["cnn"], settings={**RESULTS["cnn"].settings, "scale": 0.5, "test": ["1819"]})
    assert tables.differing({**RESULTS, "cnn": other}) == ["scale", "test"]
    assert tables.differing({"cnn": other}) == tables.differing({}) == []
    blocks = report._blocks(STUDY, {"linear": RESULTS["linear"], "cnn": other}, {}, {})
    assert "Rows differ in scale, test: see the settings" in document.to_markdown(blocks)


def test_points_are_counted_where_all_rows_have_as_many():
    polyphony = {**RESULTS["cnn"].polyphony, "2": {**RESULTS["cnn"].polyphony["2"], "points": 4999}}
    del polyphony["10"]
    found = tables.polyphony(STUDY, {**RESULTS, "cnn": dataclasses.replace(RESULTS["cnn"], polyphony=polyphony)})
    assert found.rows[0] == ("Points", document.DASH, "300", "10,000", document.DASH, "3,333", document.DASH)


def test_filters_are_compared_with_those_before_training_and_with_the_notes(markdown, tiny_corpus):
    (line,) = table_with(markdown, "quotient")
    assert line["filters"] == line["tuned to a MIDI pitch"] == "24"
    trained, initial = number(line["peak / median, trained"]), number(line["at initialisation"])
    assert trained > 100
    assert initial == pytest.approx(np.sqrt(np.log(2048) / np.log(2)), rel=0.15)
    assert number(line["quotient"]) == pytest.approx(trained / initial, rel=0.05)
    seconds = np.zeros(128)
    for path in sorted((tiny_corpus / "train_labels").glob("10*.csv")):  # 20* are for validation
        for note in csv.DictReader(io.StringIO(path.read_text())):
            seconds[int(note["note"])] += (int(note["end_time"]) - int(note["start_time"])) / 44100
    tuned = np.isin(np.arange(128), np.arange(57, 81)).astype(float)
    either = (seconds > 0) | (tuned > 0)
    assert number(line["r with the notes"]) == pytest.approx(
        np.corrcoef(seconds[either], tuned[either])[0, 1], abs=1e-3
    )
    assert int(line["semitones"]) == either.sum()


def test_figures_are_there_and_small(written, markdown):
    output_dir, paths = written
    names = ["average_precision", "curves_cnn", "filters_mlp_500", "histogram_mlp_500"]
    drawn = [output_dir / "figures" / f"{name}.png" for name in names]
    assert [path for path in paths if path.suffix == ".png"] == drawn
    assert re.findall(r"!\[.*\]\((.*)\)", markdown) == [f"figures/{name}.png" for name in names]
    for path in drawn:
        assert path.stat().st_size < 200_000
        assert image.imread(path)[..., :3].std() > 0.02
    assert all(path.exists() for path in paths)


class Page(html.parser.HTMLParser):
    """Tags, sources of pictures, and the cells of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.pictures, self.cells, self._open = [], [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self._open = tag in ("td", "th")
        if self._open:
            self.cells.append("")
        if tag == "img":
            self.pictures.append(dict(attributes)["src"])

    def handle_endtag(self, tag):
        self._open = self._open and tag not in ("td", "th")

    def handle_data(self, data):
        if self._open:
            self.cells[-1] += data


def test_the_page_says_the_same_and_runs_nothing(written, markdown):
    page = Page((written[0] / report.PAGE).read_text())
    assert not {"script", "b", "a"} & set(page.tags)
    assert EVIL in page.cells
    assert page.pictures == re.findall(r"!\[.*\]\((.*)\)", markdown)
    cells = [html.unescape(cell) for rows in read_tables(markdown).values() for line in rows for cell in line.values()]
    assert [cell for cell in cells if cell not in page.cells] == []


def test_markup_in_names_stays_text_in_markdown(markdown):
    assert "<script>" not in markdown
    assert EVIL in [html.unescape(line["Model"]) for line in table_with(markdown, "AP ours − paper")]
    # What TensorBoard renders with must see no markup either.
    from markdown import markdown as render

    cells = Page(render(markdown, extensions=["tables"])).cells
    assert EVIL in [cell.strip() for cell in cells]


def test_code_is_fenced_by_more_than_it_holds():
    text = document.to_markdown([Code("of <x>", "a\n````\nb")])
    assert "<summary>of &lt;x&gt;</summary>\n\n`````\na\n````\nb\n`````\n" in text
    assert "<pre>&lt;b&gt;</pre>" in document.to_html("t", [Code("s", "<b>")])


def test_each_block_is_written_both_ways():
    blocks = [
        Heading("A & B", 1),
        Paragraph("one\n two"),
        Picture("a b/c.png", "c"),
        Table(("x", "y"), (("1|2", "3"),)),
    ]
    assert document.to_markdown(blocks) == (
        "# A &amp; B\n\none two\n\n![c](a%20b/c.png)\n\nc\n\n| x | y |\n| --- | ---: |\n| 1\\|2 | 3 |\n"
    )
    page = document.to_html("A & B", blocks)
    assert "<h1>A &amp; B</h1>" in page
    assert '<img src="a%20b/c.png" alt="c">' in page
    assert '<tr><td>1|2</td><td class="number">3</td></tr>' in page


def test_tensorboard_holds_figures_text_and_scores(written):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    output_dir, paths = written
    folder = output_dir / board.FOLDER
    whole = EventAccumulator(str(folder / board.REPORT), size_guidance={"tensors": 0}).Reload()
    tags = whole.Tags()["tensors"]
    assert {"report", "average_precision", "curves_cnn", "filters_mlp_500", "histogram_mlp_500"} == set(tags)
    (text,) = whole.Tensors("report")[0].tensor_proto.string_val
    assert "Whether the paper's order comes out" in text.decode()
    width, height, png = whole.Tensors("curves_cnn")[0].tensor_proto.string_val
    drawn = image.imread(io.BytesIO(png))
    assert drawn.shape[:2] == (int(height), int(width))
    np.testing.assert_array_equal(drawn, image.imread(output_dir / "figures/curves_cnn.png")[..., :3])
    of_row = EventAccumulator(str(folder / board.ROWS / "cnn")).Reload()
    for part, wanted in (("test", RESULTS["cnn"].pooled), ("training", RESULTS["cnn"].training)):
        from tensorboard.util.tensor_util import make_ndarray

        value = make_ndarray(of_row.Tensors(f"{part}/average_precision")[0].tensor_proto)
        assert value == pytest.approx(wanted["average_precision"])
    session = of_row.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    assert b"steps" in session
    assert b"1819" not in session
    assert len([path for path in paths if "tfevents" in path.name]) == 1 + len(RESULTS)


def test_a_later_report_replaces_an_earlier_one(tmp_path, caplog):
    small = STUDY.model_copy(update={"figures": Figures(filters=("mlp_500",))})
    with caplog.at_level(logging.WARNING):
        report.write(small, RESULTS, tmp_path)
    assert "filters of mlp_500 are left out" in caplog.text  # there is no run folder
    paths = report.write(small, [RESULTS["cnn"]], tmp_path)
    assert len(list(tmp_path.rglob("*tfevents*"))) == 2
    assert "Missing" in (tmp_path / report.MARKDOWN).read_text()
    assert (tmp_path / report.PAGE) in paths


def test_a_run_that_cannot_be_read_costs_its_filters_and_not_the_report(filter_run, tmp_path, caplog):
    run = shutil.copytree(filter_run, tmp_path / "runs/mlp_500")
    (run / config.FILENAME).write_text("name: [")
    with caplog.at_level(logging.WARNING):
        report.write(STUDY, RESULTS, tmp_path)
    assert "filters of mlp_500 are left out" in caplog.text and config.FILENAME in caplog.text
    assert (tmp_path / report.PAGE).exists()


def test_a_report_of_nothing_tells_that_all_is_missing(tmp_path):
    report.write(STUDY, [], tmp_path)
    text = (tmp_path / report.MARKDOWN).read_text()
    assert {line["AP ours"] for line in table_with(text, "AP ours − paper")} == {"missing"}
    assert "Whether the paper's order" not in text


def test_curves_pass_through_their_points_and_mark_the_paper():
    figure = figures.precision_recall(RESULTS["cnn"].curves, "CNN", STUDY.rows[3].published)
    ax = figure.axes[0]
    whole, *_, cross = ax.get_lines()
    np.testing.assert_allclose(whole.get_ydata(), 1 - 0.7 * np.asarray(whole.get_xdata()), atol=1e-9)
    assert (cross.get_xdata()[0], cross.get_ydata()[0]) == (0.707, 0.432)
    assert [text.get_text() for text in ax.get_legend().get_texts()][:2] == ["all points", "exactly one label"]


def test_weights_are_drawn_with_the_peak_of_their_spectrum():
    wanted = 440 * 2 ** (np.arange(-2, 2.1, 0.5))
    figure = figures.weights(tones(wanted, 2048, noise=0.01), 44100, "MLP")
    shown = [ax.texts[0].get_text() for ax in figure.axes[2::3]]
    assert len(shown) == 8
    assert [int(text.replace(",", "").split(" Hz")[0]) for text in shown] == sorted(
        {int(text.replace(",", "").split(" Hz")[0]) for text in shown}
    )
    assert all(any(f"{hz:.0f} Hz" in text.replace(",", "") for hz in wanted) for text in shown)
    over_time, centre = (ax.get_lines()[0].get_xdata() for ax in figure.axes[:2])
    assert np.ptp(over_time) == pytest.approx(2047 / 44.1)
    assert np.ptp(centre) == pytest.approx(10, abs=0.05)


def test_histograms_are_shares_on_one_axis():
    notes, tuned = np.zeros(128), np.zeros(128, int)
    notes[[60, 64]], tuned[[60, 72]] = [3, 1], [1, 4]
    left, right = figures.histograms(notes, tuned, Correlation(0.5, 3), "MLP").axes
    heights = [{round(bar.get_x() + 0.45): bar.get_height() for bar in ax.patches} for ax in (left, right)]
    assert (heights[0][60], heights[0][64], heights[1][72]) == (75, 25, 80)
    assert left.get_xlim() == right.get_xlim()
    assert "r = 0.50 over 3 semitones" in right.get_title(loc="right")


@pytest.mark.slow
def test_filters_before_training_are_those_that_training_began_with(filter_run, tmp_path):
    from musicnet_tf import trainer
    from musicnet_tf.reproduction import analysis

    experiment = config.load(filter_run / config.FILENAME, ["train.learning_rate=1e-12", "train.steps=1"])
    experiment = experiment.model_copy(update={"model": experiment.model.model_copy(update={"sample_rate": 16000})})
    experiment = experiment.model_copy(
        update={"train": experiment.train.model_copy(update={"steps_per_epoch": 1, "validation_steps": 1})}
    )
    trainer.train(experiment, tmp_path / "run", devices=["CPU:0"])
    found = analysis.analyse("mlp_500", tmp_path / "run")
    np.testing.assert_allclose(found.trained.ratios, found.initial.ratios, rtol=1e-5)
    np.testing.assert_allclose(found.trained.frequencies, found.initial.frequencies, rtol=1e-5)


def test_a_run_whose_records_are_gone_is_analysed_without_notes(filter_run, tmp_path):
    from musicnet_tf.reproduction import analysis

    run = shutil.copytree(filter_run, tmp_path / "mlp_500")
    config.load(run / config.FILENAME, [f"data.folder={tmp_path}"]).write(run)
    found = analysis.analyse("mlp_500", run)
    assert found.notes is None
    assert found.correlation(found.trained) is None
    table = tables.tuning(STUDY, {"mlp_500": found})
    assert table.rows[0][table.head.index("r with the notes")] == document.DASH

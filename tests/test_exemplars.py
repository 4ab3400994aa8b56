"""The table of exemplars: that all hear as much, of the same records, none of it validated on; and what is told."""

from __future__ import annotations

import csv
import dataclasses
import io
from pathlib import Path

import pytest
import synthetic
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import _exemplars as exemplars
from benchmarks import exemplars as benchmark
from benchmarks._exemplars import Row, Trained
from benchmarks.peers import table
from benchmarks.peers.pieces import Piece
from musicnet_tf import evaluation, inference
from musicnet_tf.config import Source, Train
from musicnet_tf.datasets.musicnet import MusicNet
from musicnet_tf.errors import ConfigError, ModelError
from musicnet_tf.models import ModelSpec
from musicnet_tf.timebase import FrameClock

RECORDS = Path("anywhere")
FOUND = [Source(records=Path("maps"), weight=5.0), Source(records=Path("clean/quartets"))]


@pytest.mark.parametrize("row", exemplars.ROWS, ids=lambda row: row.name)
def test_every_row_hears_as_much_of_the_same(row):
    chosen = exemplars.experiment(row, RECORDS, FOUND, 3200)
    spec, how = chosen.model.spec(), chosen.train
    heard = how.steps * how.batch_size * spec.window_length / spec.clock.sample_rate
    assert heard == pytest.approx(3200 * 32, rel=0.005)
    assert how.epochs == 32
    assert how.steps == how.epochs * how.steps_per_epoch
    assert how.warmup_steps == pytest.approx(200, rel=0.1)
    assert how.keep == "last"
    assert chosen.data.validation == ()
    ending = "_22050" if row.name == "basic_pitch" else ""
    assert [str(chosen.data.path(source)) for source in chosen.data.train] == [
        f"anywhere/maps{ending}",
        f"anywhere/clean/quartets{ending}",
    ]
    assert [source.weight for source in chosen.data.train] == [5.0, 1.0]


def test_ours_comes_in_three_sizes_with_all_heads():
    models = [
        exemplars.experiment(row, RECORDS, FOUND, 10).model for row in exemplars.ROWS if row.config == exemplars.OURS
    ]
    assert [(model.channels, model.offset) for model in models] == [(20, True), (32, True), (64, True)]


@given(
    steps=st.integers(1, 20000),
    batch_size=st.integers(1, 16),
    hops=st.integers(1, 200),
)
def test_no_budget_is_missed_by_more_than_half_a_batch_an_epoch(steps, batch_size, hops):
    spec = ModelSpec(FrameClock(16000, 160), hops * 160, hops, 0, {})
    train = exemplars.budgeted(Train(batch_size=batch_size, steps=1000, warmup_steps=100), spec, steps)
    batch = batch_size * hops / 100
    assert train.steps == train.epochs * train.steps_per_epoch
    assert abs(train.steps * batch - steps * 32) <= train.epochs * batch / 2 + 1e-6
    assert abs(train.warmup_steps - train.steps / 10) <= 0.5


def test_record_sets_are_told_with_their_weights():
    told = exemplars.sources(["maps:5", "rec/quartets:0.5", "bach10"])
    assert [(str(one.records), one.weight) for one in told] == [("maps", 5.0), ("rec/quartets", 0.5), ("bach10", 1.0)]
    assert [str(one.records) for one in exemplars.at_rate(told, 16000)] == ["maps", "rec/quartets", "bach10"]
    assert [str(one.records) for one in exemplars.at_rate(told, 8000)] == [
        "maps_8000",
        "rec/quartets_8000",
        "bach10_8000",
    ]
    assert "maps" in [str(one.records) for one in exemplars.sources([])], "those of the config"
    for wrong in ("maps:many", "maps:0", "maps:-1"):
        with pytest.raises(ConfigError, match=f"--train {wrong}: give a record set and a number"):
            exemplars.sources([wrong])


def test_rows_keep_the_order_of_the_table():
    assert [row.name for row in exemplars.select(["high_resolution", "basic_pitch"])] == [
        "basic_pitch",
        "high_resolution",
    ]
    with pytest.raises(ConfigError, match=r"no row 'basic_pich', did you mean 'basic_pitch'\?"):
        exemplars.select(["basic_pich"])


def test_records_with_a_validation_piece_are_refused(tiny_corpus, tiny_records):
    recordings = {r.id: r for r in MusicNet(root=tiny_corpus, validation=tuple(synthetic.VALIDATION)).recordings()}
    rows, found = exemplars.select(["harmonic_cnn_20", "basic_pitch"]), exemplars.sources([tiny_records.name])
    kept = [recordings[name] for name in synthetic.VALIDATION]
    exemplars.refuse_heard(
        rows, tiny_records.parent, found, kept
    )  # there are no sets at 22,050 Hz, which is told later
    with pytest.raises(ConfigError, match="tiny: its training split holds 1002"):
        exemplars.refuse_heard(rows, tiny_records.parent, found, [*kept, recordings["1002"]])


def piece_of(corpus: MusicNet, name: str) -> Piece:
    (recording,) = evaluation.select(corpus, "validation", [name])
    length = synthetic.VALIDATION[name]
    return Piece("musicnet", name, corpus.root / f"train_data/{name}.wav", length, name, corpus.load_notes(recording))


def trained(name: str, steps: int, seconds: float) -> Trained:
    return Trained(name, steps, 8, 4.0, steps * 32.0, seconds, {})


def result(name: str, parameters: int, onset: float) -> table.Result:
    def row(corpus: str, piece: str, onset: float) -> table.Row:
        return table.Row(name, corpus, piece, onset, 0.5, 0.75, 9, 10.0, 0.1, 2.0, 3.0, 0.1)

    rows = [row("maps", "a", onset), row("maps", "b", onset + 0.1), row("bach10", "04", 0.9)]
    return table.Result(name, True, "", 1.0, 1.0, rows, parameters)


def test_the_table_by_hand():
    done = [
        (trained("large", 100, 640.0), result("large", 22_600_568, 0.6)),
        (trained("small", 100, 160.0), result("small", 16_782, 0.5)),
    ]
    told = benchmark.markdown(done, {"gone": "no records"}, ["two cores"]).splitlines()
    assert told[0].endswith("| maps | bach10 |")
    cells = "{} | 100 × 8 × 4.00 s | 3,200 s | {} s a second | 0.2000 | 0.3000 | {} / 0.500 / 0.750 |"
    cells += " 0.900 / 0.500 / 0.750 |"
    assert told[2] == "| small | " + cells.format("16,782", "20.0", "0.550")
    assert told[3] == "| large | " + cells.format("22,600,568", "5.0", "0.650")
    assert told[-2:] == ["- two cores", "- left out: gone: no records"]
    lines = list(csv.DictReader(io.StringIO(benchmark.as_csv(done))))
    assert [(line["row"], line["corpus"]) for line in lines] == [
        ("large", "maps"),
        ("large", "bach10"),
        ("small", "maps"),
        ("small", "bach10"),
    ]
    assert float(lines[2]["onset"]) == pytest.approx(0.55)
    assert (lines[2]["heard"], lines[2]["seconds"], lines[2]["parameters"]) == ("3200.0", "160.0", "16782")


def test_a_damaged_result_is_told(tmp_path):
    assert Trained.read(tmp_path) is None
    (tmp_path / exemplars.FILENAME).write_text('{"row": "a"}')
    with pytest.raises(ModelError, match=r"exemplar\.json: damaged .*; remove it"):
        Trained.read(tmp_path)


@pytest.mark.slow
def test_a_row_is_trained_once_and_its_run_is_a_model(tiny_corpus, tiny_records, tmp_path):
    corpus = MusicNet(root=tiny_corpus, validation=tuple(synthetic.VALIDATION))
    heard = [piece_of(corpus, name) for name in synthetic.VALIDATION]
    row = Row("tiny", "tiny", ("train.batch_size=8",))
    chosen = exemplars.experiment(row, tiny_records.parent, [Source(records=Path(tiny_records.name))], 2)
    first = exemplars.train(row.name, chosen, tmp_path, heard)
    assert (first.steps, first.heard) == (8, 64.0)  # of eight windows of a second
    predictor = inference.load(tmp_path)
    expected = evaluation.choose_thresholds(predictor, [corpus])
    found = exemplars.choose_thresholds(predictor, heard)
    assert (found.decoder, found.posteriorgram, found.scores) == (
        expected.decoder,
        expected.posteriorgram,
        expected.scores,
    )
    manifest = predictor.manifest
    assert (manifest.decoder, manifest.posteriorgram_threshold) == (
        found.decoder.model_dump(mode="json"),
        found.posteriorgram,
    )
    weights = (tmp_path / "model.weights.h5").stat().st_mtime_ns
    assert exemplars.train(row.name, chosen, tmp_path, heard) == first
    others = [dataclasses.replace(piece, notes=piece.notes.shift(0.01)) for piece in heard]
    again = exemplars.train(row.name, chosen, tmp_path, others)
    assert again.settings != first.settings
    assert (tmp_path / "model.weights.h5").stat().st_mtime_ns == weights, "thresholds are chosen anew, and no more"
    with pytest.raises(ConfigError, match="this run has another config"):
        exemplars.train(
            row.name, exemplars.experiment(row, tiny_records.parent, [Source(records=Path("tiny"))], 3), tmp_path, heard
        )

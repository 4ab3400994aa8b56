"""The models that ship: whole, licensed, and as good as their cards say."""

import re
from pathlib import Path

import numpy as np
import pytest

from musicnet_tf import audio, inference, scores, windowing
from musicnet_tf.decode import decoding_of
from musicnet_tf.decode.notes import decode
from musicnet_tf.metrics import notes as note_metrics
from musicnet_tf.thresholds import Thresholds

ROOT = Path(__file__).parents[1]
SHIPPED = inference.shipped()
EXAMPLE = ROOT / "examples/bach_bwv866_fugue.ogg"


@pytest.mark.parametrize("task", inference.DEFAULT_MODELS)
def test_what_is_taken_where_nobody_names_a_model_ships_does_the_task_and_needs_no_tensorflow(task):
    name = inference.DEFAULT_MODELS[task]
    assert name in SHIPPED
    assert inference.read_manifest(name).task == task
    assert (SHIPPED[name] / inference.LITE_MODEL).is_file()


def test_all_are_small():
    sizes = [path.stat().st_size for path in inference.PRETRAINED.rglob("*") if path.is_file()]
    assert sum(sizes) < 60e6


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_model_is_whole_and_names_its_licences(name):
    folder, manifest = SHIPPED[name], inference.load(name).manifest
    assert manifest.name == name
    assert manifest.licence and manifest.scores and manifest.training_data
    assert all(corpus["licence"] for corpus in manifest.training_data)
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "## Licence" in card and f"{manifest.num_parameters:,}" in card
    for text in (card, (folder / "manifest.json").read_text(), (folder / "config.yaml").read_text()):
        assert not re.search(r"(?<![\w.:/<])/(?:home|root|tmp|work|mnt|Users)\b", text), "a path of some machine"


# Of each task: the means that a card tells, and by what words in a row of its table they are found.
TOLD = {
    "notes": (
        ("onset/f1", "onset_offset/f1", "frame/f1", "posteriorgram/average_precision"),
        {"maps/validation": "MAPS, mean", "musicnet/validation": "MusicNet, mean"},
    ),
    "beats": (
        ("beat/f1", "beat/cmlt", "beat/amlt", "downbeat/f1"),
        {"rendered_asap/test": "ASAP, mean"},
    ),
    "tags": (
        ("frame/macro/pr_auc", "frame/macro/roc_auc", "frame/macro/f1", "recording/macro/pr_auc", "recording/macro/f1"),
        {
            "bach10/test": "Bach10, chorales",
            "musicnet_refined/validation": "MusicNet, validation",
            "rendered_parts/validation": "Rendered, validation",
        },
    ),
}


@pytest.mark.parametrize("name", SHIPPED)
def test_the_card_says_what_the_manifest_says(name):
    card = (SHIPPED[name] / "README.md").read_text(encoding="utf-8")
    manifest = inference.load(name).manifest
    keys, rows = TOLD[manifest.task]
    for corpus, row in rows.items():
        line = next(line for line in card.splitlines() if row in line)
        told = [float(figure) for figure in re.findall(r"\d\.\d{3}", line)]
        assert told == pytest.approx([manifest.scores[corpus][key] for key in keys], abs=6e-4)


@pytest.fixture(scope="module")
def heard():
    predictor = inference.load()
    spec = predictor.manifest.geometry
    samples = audio.load(EXAMPLE, spec.clock.sample_rate)
    return predictor, spec, windowing.posteriorgram(samples, spec, predictor)


def test_the_example_is_heard(heard):
    predictor, spec, heads = heard
    clock = windowing.recording_clock(spec)
    notes = decode(heads, clock, decoding_of(predictor.manifest), spec.heads["frame"].first_pitch)
    result = note_metrics.score(scores.read(EXAMPLE.with_suffix(".csv")), notes)
    assert result["onset/f1"] > 0.75  # against labels that are themselves some hundredths of a second off
    # A golden note: the fugue's subject begins on F4 at 0.8 s (by ear and label).
    first = next(iter(notes))
    assert first.pitch == 65 and first.onset == pytest.approx(0.79, abs=0.05)
    assert np.ptp(notes.velocity) > 10


@pytest.mark.parametrize("name", SHIPPED)
def test_its_light_file_hears_what_its_weights_hear(name):
    pytest.importorskip("ai_edge_litert")
    light, whole = inference.load(name, "lite"), inference.load(name)
    assert (light.runtime, whole.runtime) == ("lite", "tensorflow")
    samples = audio.load(EXAMPLE, whole.manifest.geometry.clock.sample_rate)[:160000]
    by_light, by_whole = (windowing.posteriorgram(samples, m.manifest.geometry, m) for m in (light, whole))
    assert max(np.ptp(values) for values in by_whole.values()) > 0.5
    for head, values in by_whole.items():
        np.testing.assert_allclose(by_light[head], values, atol=1e-4)


def test_silence_has_no_notes(heard):
    predictor, spec, _ = heard
    heads = windowing.posteriorgram(np.zeros(5 * spec.clock.sample_rate, np.float32), spec, predictor)
    notes = decode(heads, windowing.recording_clock(spec), decoding_of(predictor.manifest), 21)
    assert len(notes) == 0


def test_instruments_of_recordings_that_were_never_heard_are_told(shared_data):
    """Stems and mixes of a chorale, by the model that a light client runs."""
    pytest.importorskip("ai_edge_litert")
    from musicnet_tf import evaluation
    from musicnet_tf.registry import DATASETS

    bach10 = DATASETS.get("bach10")(root=shared_data / "bach10", validation=("03",))
    report = evaluation.evaluate_model(inference.load("tags_instruments", "lite"), bach10, "validation")
    assert len(report.pieces) == 4  # the saxophone alone bears none of the tags
    assert report.pooled["frame/macro/pr_auc"] == pytest.approx(0.806, abs=0.02)


def test_scores_of_a_real_recording_come_out_again(shared_data):
    """The card's figure for one validation piece of MAPS, from audio to notes."""
    from musicnet_tf import evaluation
    from musicnet_tf.registry import DATASETS

    maps = DATASETS.get("maps")(root=shared_data / "maps")
    name = "MAPS_MUS-scn15_12_ENSTDkCl"
    report = evaluation.evaluate_model(inference.load(), maps, "validation", [name])
    assert report.pieces[name]["onset/f1"] == pytest.approx(0.740, abs=0.01)
    assert report.settings["thresholds"]["decoder"] == Thresholds.of(inference.load().manifest).decoder.model_dump()

"""Several models hear a recording: which is believed, what is written by it, and which cannot be compared."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click_tracks
import numpy as np
import pytest
import stand_in_models
from click_tracks import FRAMES, HOP, SPEC, TRUTH

from musicnet_tf import audio, model_selection, windowing
from musicnet_tf.errors import ConfigError, ModelError
from musicnet_tf.events import Beats
from musicnet_tf.manifest import Manifest
from musicnet_tf.models import HeadSpec, ModelSpec
from musicnet_tf.timebase import FrameClock

pytest_plugins = ["tiny_models"]


class Ear:
    """A frame with a click in it is a beat to this degree, and any other to that; counts the windows that it heard."""

    def __init__(self, name: str, beat: float, other: float, spec: ModelSpec = SPEC) -> None:
        decoder = {"method": "peaks", "threshold": 0.3}
        self.manifest = Manifest(name=name, task="beats", spec=spec.to_dict(), decoder=decoder)
        self.beat, self.other, self.windows = beat, other, 0

    def __call__(self, windows: np.ndarray) -> dict[str, np.ndarray]:
        self.windows += len(windows)
        frames = self.manifest.geometry.num_frames
        loudest = np.abs(windows).reshape(len(windows), frames, HOP).max(axis=2)[..., np.newaxis]
        return {"beat": np.where(loudest > 0.25, self.beat, self.other), "downbeat": (loudest > 0.7) * 0.98}


class Streamed(Ear):
    """As a model that works on several batches at once."""

    def map(self, batches):
        return map(self, batches)


def ears() -> list[Ear]:
    """Their mean is 0.6 on clicks and 0.1 elsewhere: the second is the closest by far. It hears in shorter windows."""
    short = dataclasses.replace(SPEC, window_length=FRAMES // 4 * HOP, num_frames=FRAMES // 4)
    return [Ear("sure", 0.95, 0.0), Streamed("fair", 0.55, 0.1, short), Ear("deaf", 0.3, 0.2)]


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    return click_tracks.write(tmp_path / "waltz.wav", TRUTH)


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> dict[str, Ear]:
    """Puts the ears where models are loaded."""
    found = {ear.manifest.name: ear for ear in ears()}
    stand_in_models.put(monkeypatch, "beats", found)
    return found


@pytest.mark.parametrize("batch_size", [None, 1, 7])
def test_the_model_closest_to_the_mean_is_believed_and_hears_once(recording, batch_size):
    heard = ears()
    model = model_selection.believed(recording, heard, batch_size)
    assert model.manifest.name == "fair"
    counts = [ear.windows for ear in heard]
    assert counts == [5, 20, 5], "10 s in windows of 2 and of half a second"
    samples = audio.load(recording, click_tracks.RATE)
    spec = model.manifest.geometry
    recalled = windowing.posteriorgram(samples, spec, model, batch_size)
    assert [ear.windows for ear in heard] == counts
    expected = windowing.posteriorgram(samples, spec, heard[1])
    assert expected["beat"].max() == np.float32(0.55)
    for head, values in expected.items():
        np.testing.assert_array_equal(recalled[head], values)


def test_each_recording_has_a_model_of_its_own(tmp_path):
    """Of clicks the mean is 0.7, of what is silent 0.4: each of two models is the nearest to one of them."""
    found = [Ear("a", 0.7, 0.0), Ear("b", 0.95, 0.4), Ear("c", 0.45, 0.8)]
    everywhere = Beats(np.arange(0.01, 2.0, HOP / click_tracks.RATE))
    dense = click_tracks.write(tmp_path / "dense.wav", everywhere, 2.0)
    silent = click_tracks.write(tmp_path / "silent.wav", Beats.empty(), 2.0)
    assert [model_selection.believed(path, found).manifest.name for path in (dense, silent)] == ["a", "b"]


def test_the_verb_writes_what_the_believed_model_alone_writes(musicnet, models, recording, tmp_path):
    names = [f"--model={name}" for name in models]
    formats = "--formats=beats,csv,jams,npz"
    together = musicnet("beats", recording, f"--output_dir={tmp_path / 'all'}", formats, *names)
    alone = musicnet("beats", recording, f"--output_dir={tmp_path / 'one'}", formats, "--model=fair")
    assert (together.status, alone.status) == (0, 0), together.stderr + alone.stderr
    written = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert written == ["waltz.beats", "waltz.csv", "waltz.jams", "waltz.npz"]
    for name in written:
        assert (tmp_path / "all" / name).read_bytes() == (tmp_path / "one" / name).read_bytes(), name
    told, expected = together.stdout.splitlines()[0], alone.stdout.splitlines()[0]
    assert told == f"{expected}; by fair"
    assert "18 beats" in told


def test_a_recording_that_cannot_be_read_is_told_and_the_others_go_on(recording, tmp_path):
    from musicnet_tf import transcription
    from musicnet_tf.decode import decoding_of

    formats = transcription.chosen_formats("beats", ["beats"])
    paths = [tmp_path / "gone.wav", recording]
    lost, found = model_selection.transcribe_batch(paths, ears(), tmp_path / "out", formats, decoding_of)
    assert "gone.wav" in lost.error
    assert (found.error, found.events, found.details.endswith("; by fair")) == ("", 18, True)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["waltz.beats"]


def test_models_that_cannot_be_compared_are_refused_before_one_is_loaded(musicnet, models, recording, tmp_path):
    def refused(*names: str) -> str:
        args = [f"--model={name}" for name in names]
        outcome = musicnet("beats", recording, f"--output_dir={tmp_path / 'out'}", *args)
        assert (outcome.status, outcome.stdout) == (1, "")
        (line,) = outcome.stderr.splitlines()
        return line

    assert refused("sure", "fair").endswith(
        "sure and fair: two models are equally far from their mean; name one, or at least 3"
    )
    slow = dataclasses.replace(SPEC, clock=FrameClock(16000, 320), window_length=FRAMES * 320)
    models["slow"] = Ear("slow", 0.9, 0.0, slow)
    assert refused("sure", "fair", "slow").endswith(
        "models 'sure' and 'slow' cannot be compared: their frames are 160 samples apart at 8000 Hz and 320 samples"
        " apart at 16000 Hz; name models of one clock"
    )
    models["other"] = Ear("other", 0.9, 0.0)
    models["other"].manifest = models["other"].manifest.model_copy(update={"task": "notes"})
    assert "model 'other' does task 'notes'" in refused("sure", "fair", "other")
    assert all(ear.windows == 0 for ear in models.values())


def test_models_of_other_classes_are_refused():
    def manifest(name: str, *labels: str) -> Manifest:
        spec = dataclasses.replace(SPEC, heads={"beat": HeadSpec(len(labels), labels=labels)})
        return Manifest(name=name, task="beats", spec=spec.to_dict())

    same = [manifest("a", "x", "y"), manifest("b", "x", "y"), manifest("c", "x", "y")]
    model_selection.check(same)
    with pytest.raises(
        ModelError, match="models 'a' and 'd' cannot be compared: their heads 'beat' have other classes"
    ):
        model_selection.check([*same, manifest("d", "y", "x")])
    with pytest.raises(ConfigError, match=r"^a and b: two models"):
        model_selection.check(same[:2])


def test_networks_are_compared_by_what_they_give(musicnet, make_run, tmp_path):
    from musicnet_tf import inference

    shared = ("model.window_frames=200", "model.filters=[4,4]", "task.decoder={method: peaks, threshold: 0.01}")
    shapes = {"small": ("8", "[1,2]"), "wide": ("12", "[1,2]"), "deep": ("8", "[1,2,4]")}
    runs = [
        make_run(tmp_path / name, "beats_tcn", *shared, f"name={name}", f"model.channels={c}", f"model.dilations={d}")
        for name, (c, d) in shapes.items()
    ]
    path = click_tracks.write(tmp_path / "waltz.wav", TRUTH)
    heard = []
    for run in runs:
        predictor = inference.load(run)
        spec = predictor.manifest.geometry
        heard.append(windowing.posteriorgram(audio.load(path, spec.clock.sample_rate), spec, predictor)["beat"])
    mean = np.mean(heard, axis=0)
    errors = [float(((values - mean) ** 2).sum()) for values in heard]
    expected = list(shapes)[int(np.argmin(errors))]
    models = [f"--model={run}" for run in runs]
    outcome = musicnet("beats", path, f"--output_dir={tmp_path / 'out'}", "--formats=beats", *models)
    assert outcome.status == 0, outcome.stderr
    assert outcome.stdout.splitlines()[0].endswith(f"; by {expected}")
    assert sorted(errors)[1] > 1.01 * sorted(errors)[0], "a tie, and this test shows nothing"

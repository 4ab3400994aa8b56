"""Every family of taggers learns eight clips by heart, and is exported as it was trained."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from sklearn.metrics import average_precision_score
from small_taggers import SMALL, noise, small

from musicnet_tf import config, export, inference, runs, trainer, validation
from musicnet_tf.config import Experiment
from musicnet_tf.manifest import Manifest

pytestmark = pytest.mark.slow

TAGS = ("a", "b", "c", "d", "e")
HERTZ = (500, 900, 1600, 2700, 4300)
"""A tone for each tag, of which even the shortest chunk, a hundredth of a second, holds several periods."""
BORNE = np.array(
    [
        [1, 0, 0, 0, 1],
        [0, 1, 0, 1, 0],
        [1, 1, 0, 0, 0],
        [0, 0, 1, 0, 1],
        [0, 0, 1, 1, 0],
        [1, 0, 1, 1, 0],
        [0, 1, 1, 0, 1],
        [0, 1, 0, 1, 1],
    ]
)
MOST_STEPS, STEPS_A_LOOK = 600, 50


def experiment(name, **fields):
    model = small(name, **fields).model_dump(mode="json")
    task = {"name": "tags", "tags": list(TAGS)}
    train = {"learning_rate": 0.01, "schedule": "constant"}
    data = {"train": [{"records": "none"}]}
    described = {"name": name, "task": task, "model": model, "data": data, "train": train}
    return validation.construct(Experiment, described, where=name)


def undisturbed(name):
    """What takes chance out of a training."""
    fields = type(small(name)).model_fields
    quiet = {field: 0.0 for field in fields if field.endswith("dropout")}
    return {**quiet, "spec_augment": None} if "spec_augment" in fields else quiet


def clips(spec):
    """The tones of each clip's tags over a little noise, `(8, window_length)`."""
    seconds = np.arange(spec.window_length) / spec.clock.sample_rate
    tones = 0.1 * np.sin(2 * np.pi * np.outer(HERTZ, seconds))
    return (BORNE @ tones + np.random.default_rng(0).normal(0, 1e-3, (8, spec.window_length))).astype(np.float32)


@pytest.mark.parametrize("name", SMALL)
def test_eight_clips_are_learnt_by_heart(name):
    """As heard in use, with what normalisation has gathered."""
    chosen = experiment(name, **undisturbed(name))
    spec = chosen.model.spec()
    keras.utils.set_random_seed(1)
    network = chosen.model.build()
    model = trainer.compiled(network, chosen)
    audio, truth = clips(spec), np.repeat(BORNE[:, None], spec.num_frames, axis=1).astype(np.float32)
    before = average_precision_score(truth.reshape(-1, 5), heard(network, audio), average="macro")
    for _ in range(MOST_STEPS // STEPS_A_LOOK):
        model.fit(audio, {"tag": truth}, batch_size=8, epochs=STEPS_A_LOOK, verbose=0)
        reached = average_precision_score(truth.reshape(-1, 5), heard(network, audio), average="macro")
        if reached == 1:
            break
    assert before < 0.95
    assert reached == 1


def heard(network, audio):
    return np.asarray(network(audio, training=False)["tag"]).reshape(-1, len(TAGS))


@pytest.mark.parametrize("name", SMALL)
def test_an_export_tells_what_the_network_tells(name, tmp_path):
    chosen = experiment(name)
    keras.utils.set_random_seed(1)
    network = chosen.model.build()
    spec = chosen.task.served(chosen.model.spec())
    run = tmp_path / "run"
    run.mkdir()
    network.save_weights(run / runs.WEIGHTS)
    chosen.write(run)
    Manifest(
        name=chosen.name,
        task="tags",
        spec=spec.to_dict(),
        decoder=chosen.task.decoder_params(),
        experiment=chosen.model_dump(mode="json"),
    ).write(run)
    assert config.load(run / config.FILENAME) == chosen
    predictor = inference.load(export.export(run, tmp_path / "exported"))
    assert predictor.manifest.geometry == spec
    assert spec.heads["tag"].labels == TAGS
    audio = noise(chosen.model, count=2)
    told, logits = predictor(audio), network(audio, training=False)
    assert set(told) == {"tag", "embedding"}
    np.testing.assert_allclose(told["tag"], keras.ops.sigmoid(logits["tag"]), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(told["embedding"], logits["embedding"], rtol=1e-4, atol=1e-5)
    assert np.ptp(told["tag"]) > 1e-3, "constants would be equal too"

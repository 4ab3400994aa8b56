"""The folder of a trained model, be it of a run or shipped: weights, and the manifest that tells how to use them."""

from __future__ import annotations

import importlib.metadata
import math
from pathlib import Path

import keras

import musicnet_tf
from musicnet_tf import inference, record_info, validation
from musicnet_tf.config import Experiment
from musicnet_tf.errors import ConfigError, ModelError, OutputError
from musicnet_tf.manifest import Manifest

WEIGHTS = inference.WEIGHTS
"""The weights that `train.keep` asks for, without the optimiser's state."""


def describe(experiment: Experiment, network: keras.Model, scores: dict[str, dict[str, float]]) -> Manifest:
    """The manifest of a network that an experiment trained.

    It goes wherever the model goes, and so names record sets, but not where they lay. Its training data are also
    those of the model that the training began from.

    Raises:
        ModelError: where that model is not there.
    """
    infos = [record_info.read_info(experiment.data.path(source)) for source in experiment.data.train]
    before = inference.read_manifest(experiment.initial_weights).training_data if experiment.initial_weights else []
    corpora = {(data["corpus"], data["licence"]): data for data in before}
    corpora |= {(info.corpus, info.licence): {"corpus": info.corpus, "licence": info.licence} for info in infos}
    return Manifest(
        name=experiment.name,
        task=experiment.task.name,
        spec=experiment.task.served(experiment.model.spec()).to_dict(),
        decoder=experiment.task.decoder_params(),
        experiment=experiment.anywhere().model_dump(mode="json"),
        num_parameters=sum(math.prod(v.shape) for v in network.trainable_variables),
        training_data=list(corpora.values()),
        scores=scores,
        versions=versions(),
    )


def versions() -> dict[str, str]:
    """Of this library and of what it trains with, for the files that it makes."""
    packages = {package: importlib.metadata.version(package) for package in ("tensorflow", "keras")}
    return {"musicnet_tf": musicnet_tf.__version__, **packages}


def load(run: str | Path) -> tuple[Manifest, Experiment, keras.Model]:
    """The manifest, the experiment and the network, with the weights that were kept, of a run or shipped model.

    Raises:
        ModelError: where weights are missing or do not fit.
    """
    run = Path(run)
    manifest = Manifest.read(run)
    experiment = validation.construct(Experiment, manifest.experiment, where=str(run / "manifest.json"))
    network = experiment.model.build()
    try:
        network.load_weights(run / WEIGHTS)
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"{run / WEIGHTS}: missing, damaged or of another model ({reason})") from error
    return manifest, experiment, network


def begin_from(network: keras.Model, experiment: Experiment) -> None:
    """Gives a network, or a part of it, the weights of the model that its experiment begins from.

    Raises:
        ModelError: where that model is missing or damaged.
        ConfigError: where its `model` section is another, and that of no part.
    """
    _, source, trained = load(inference.locate(experiment.initial_weights))
    for name, part in experiment.model.parts().items():
        if source.model == part:
            network.get_layer(name).set_weights(trained.get_weights())
            return
    if source.model != experiment.model:
        theirs, ours = source.model.model_dump(), experiment.model.model_dump()
        other = sorted(key for key in theirs.keys() | ours.keys() if theirs.get(key) != ours.get(key))
        raise ConfigError(
            f"initial_weights: {experiment.initial_weights} has another model section ({', '.join(other) or 'name'});"
            " make them equal, or leave initial_weights out"
        )
    network.set_weights(trained.get_weights())


def save_weights(model: keras.Model, target: Path) -> None:
    """Writes a whole weights file, or none.

    Raises:
        OutputError: where it cannot be written.
    """
    part = target.with_name(f"part-{target.name}")  # Keras insists on the name's ending
    try:
        model.save_weights(part)
        part.replace(target)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OutputError(f"{target}: cannot be written ({error.strerror or error})") from error

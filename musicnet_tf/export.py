"""Trained models → versioned exports: windows or WAV files in, activations out, and the manifest with them.

An export is what any stock TensorFlow Serving runs, and what `inference.load` takes:

    DIR/1/saved_model.pb, variables/        the signatures `SIGNATURE`, `WAV_SIGNATURE` and `DESCRIBE` of `inference`,
                                            and the first by the name of the task, too
    DIR/1/assets.extra/manifest.json        the same text as `DESCRIBE` gives
    DIR/1/assets.extra/tf_serving_warmup_requests

or, for use without TensorFlow, what `musicnet_tf/lite/` runs:

    DIR/1/model.tflite, manifest.json

Two exports of one model are equal byte for byte.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from musicnet_tf import config, files, inference, validation, warmup
from musicnet_tf.errors import ConfigError, ModelError, OutputError
from musicnet_tf.manifest import Manifest

if TYPE_CHECKING:
    import keras

    from musicnet_tf.config import Experiment
    from musicnet_tf.lite.container import Precision

Format = Literal["saved_model", "tflite"]


def export(
    model: str | Path,
    output_dir: str | Path,
    version: int | None = None,
    window_frames: int | None = None,
    form: Format = "saved_model",
    precision: Precision = "float32",
) -> Path:
    """Writes a trained model for others to run: inference alone, stock operations alone.

    The version's folder appears under its name once it is whole, so that a server which watches
    `output_dir` never loads half of one.

    Args:
        model: a run folder, or the name of a shipped model.
        output_dir: the model's folder, which holds its versions.
        version: from 1; the next after those there by default.
        window_frames: frames in one window, where the family has this field; as trained by default. Longer
            windows overlap less, shorter ones take less memory; the weights are the same.
        form: what is written.
        precision: of a TFLite file; with `int8`, activations are no longer those of the trained model.

    Returns:
        The folder of the version.

    Raises:
        ModelError: where the model is missing, damaged, or itself an export.
        ConfigError: where its windows cannot have that many frames, or the format not its operations or precision.
        OutputError: where the version exists or cannot be written.
    """
    folder = inference.locate(model)
    if form == "saved_model" and precision != "float32":
        raise ConfigError(f"precision={precision}: a SavedModel is of float32; take form=tflite")
    if inference.is_export(folder):
        raise ModelError(f"{folder}: is an export already; name the run folder that it came from")
    output_dir = Path(output_dir)
    if version is not None:
        _refuse_existing(output_dir / str(version))  # before the model is loaded, which takes a while

    with _made(output_dir):
        target = output_dir / str(version or next_version(output_dir))
        with _published(target) as part, futures.ThreadPoolExecutor(1) as fresh:
            # Keras counts layers of one kind by thread: in a new one, they have the same names in every export.
            fresh.submit(_load_and_write, folder, part, window_frames, form, precision).result()
    return target


def next_version(output_dir: Path) -> int:
    """One more than the highest version in a folder; 1 in an empty one."""
    return 1 + max((int(path.name) for path in output_dir.iterdir() if path.name.isdecimal()), default=0)


def with_window_frames(
    manifest: Manifest, network: keras.Model, window_frames: int
) -> tuple[Manifest, Experiment, keras.Model]:
    """The same weights in a network whose windows have another number of frames, and its manifest.

    Raises:
        ConfigError: where the family has no field `window_frames`, or overlap would leave no frame.
    """
    fields = manifest.experiment["model"]
    if "window_frames" not in fields:
        raise ConfigError(
            f"model {fields['name']!r} of {manifest.name} has no field window_frames: its windows have one length"
        )
    changed = validation.merge(manifest.experiment, {"model": {"window_frames": window_frames}})
    experiment = validation.construct(config.Experiment, changed, where=f"window_frames={window_frames}")
    spec = experiment.task.served(experiment.model.spec())
    if spec.num_frames <= 2 * spec.margin:
        raise ConfigError(
            f"window_frames={window_frames}: {spec.margin} frames at either end are cut off where windows overlap;"
            f" take at least {2 * spec.margin + 1}"
        )
    rebuilt = experiment.model.build()
    rebuilt.set_weights(network.get_weights())
    update = {"spec": spec.to_dict(), "experiment": experiment.model_dump(mode="json")}
    return manifest.model_copy(update=update), experiment, rebuilt


def _load_and_write(run: Path, folder: Path, window_frames: int | None, form: Format, precision: Precision) -> None:
    from musicnet_tf import runs

    manifest, experiment, network = runs.load(run)
    if window_frames is not None:
        manifest, experiment, network = with_window_frames(manifest, network, window_frames)
    if form == "tflite":
        from musicnet_tf.lite import convert

        files.make_folder(folder)
        convert.write_model(folder, manifest, experiment, network, precision, run / runs.WEIGHTS)
        manifest.write(folder)
    else:
        _write_saved_model(folder, manifest, experiment, network)


def _write_saved_model(folder: Path, manifest: Manifest, experiment: Experiment, network: keras.Model) -> None:
    import tensorflow as tf

    from musicnet_tf import canonical, signatures

    served = tf.Module()
    # In the order of the layers, and without the seeds of dropout, which training alone uses and chance chooses.
    served.weights_of_network = [variable.value for variable in network.weights]
    traced = signatures.signatures(manifest, inference.forward(experiment, network))
    try:
        tf.saved_model.save(served, str(folder), signatures=traced)
        canonical.rewrite(folder)
        assets = files.make_folder(folder / inference.ASSETS)
        manifest.write(assets)
        warmup.write(assets, manifest)
    except tf.errors.OpError as error:  # a full disk, as TensorFlow tells it
        raise OSError(" ".join(error.message.split())) from error


@contextlib.contextmanager
def _made(folder: Path) -> Iterator[None]:
    """Makes a folder, and removes it again where the block fails and it was not there before."""
    known = folder.exists()
    files.make_folder(folder)
    try:
        yield
    except BaseException:
        if not known:
            with contextlib.suppress(OSError):  # another export may have come
                folder.rmdir()
        raise


@contextlib.contextmanager
def _published(target: Path) -> Iterator[Path]:
    """Gives a folder beside `target` and renames it there once the block ended without error.

    Its name is no number, so that servers do not take it for a version.
    """
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        yield part
        _refuse_existing(target)  # another export may have come first; a rename would replace an empty folder
        part.rename(target)
    except OSError as error:
        raise OutputError(f"{target}: cannot be written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _refuse_existing(target: Path) -> None:
    if target.exists():
        raise OutputError(
            f"{target}: this version exists, and servers may hold it; choose another --version, or none for the next"
        )

"""Trains a model as a config says, and goes on where an earlier training in the folder stopped.

    musicnet train --config=configs/notes_harmonic_cnn.yaml --run_dir=runs/notes --set train.steps=2000

Watch it with `tensorboard --logdir=runs`. The weights that `train.keep` asks for are in the run folder
after each epoch; `musicnet evaluate`, `export` and `transcribe` take the folder as --model.
"""

from __future__ import annotations

from pathlib import Path

from absl import flags, logging

from musicnet_tf.errors import ConfigError

_CONFIG = flags.DEFINE_string("config", None, "YAML file of the experiment.", required=True)
_SET = flags.DEFINE_multi_string("set", [], "Overrides a key, such as train.steps=200; may be given again.")
_RUN_DIR = flags.DEFINE_string("run_dir", None, "Folder of the run; runs/<name of the experiment> by default.")
_MIXED_PRECISION = flags.DEFINE_enum(
    "mixed_precision",
    None,
    ["float32", "mixed_float16", "mixed_bfloat16"],
    "Short for --set train.mixed_precision=…",
)


def main(argv: list[str]) -> int:
    """Trains from the flags; gives the exit status."""
    if len(argv) > 1:
        raise ConfigError(f"train takes flags only, got {' '.join(argv[1:])!r}")
    from musicnet_tf import config, trainer

    logging.set_verbosity(logging.INFO)
    overrides = list(_SET.value)
    if _MIXED_PRECISION.value:
        overrides.append(f"train.mixed_precision={_MIXED_PRECISION.value}")
    experiment = config.load(_CONFIG.value, overrides)
    run = Path(_RUN_DIR.value or Path("runs") / experiment.name).expanduser()
    history = trainer.train(experiment, run)
    kept = trainer.kept(history, experiment)
    validated = {name: value for name, value in kept.items() if name.startswith("val_")} or {"loss": kept["loss"]}
    figures = "  ".join(f"{name} {value:.4f}" for name, value in validated.items())
    print(f"{run}: {len(history)} epochs; {experiment.train.keep} {figures}")
    return 0

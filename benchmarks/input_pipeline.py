"""Windows a second that the input pipeline gives, against what a training step takes, on the same cores.

    python benchmarks/input_pipeline.py --config=configs/notes_harmonic_cnn.yaml --set data.folder=data/records

A ratio above 1 means that the model never waits for data.
"""

from __future__ import annotations

import time

from absl import app, flags

from musicnet_tf import config, input_pipeline, trainer

_CONFIG = flags.DEFINE_string("config", "configs/notes_harmonic_cnn.yaml", "Experiment.")
_SET = flags.DEFINE_multi_string("set", [], "Overrides a key.")
_BATCHES = flags.DEFINE_integer("batches", 40, "Batches to time.")


def main(argv: list[str]) -> None:
    """Prints both rates and their ratio."""
    experiment = config.load(_CONFIG.value, _SET.value)
    size = experiment.train.batch_size
    batches = iter(input_pipeline.training(experiment))
    audio, targets = next(batches)
    start = time.perf_counter()
    for _ in range(_BATCHES.value):
        next(batches)
    given = size * _BATCHES.value / (time.perf_counter() - start)
    del batches

    model = trainer.compiled(experiment.model.build(), experiment)
    model.train_on_batch(audio, targets)
    steps = max(3, _BATCHES.value // 8)
    start = time.perf_counter()
    for _ in range(steps):
        model.train_on_batch(audio, targets)
    taken = size * steps / (time.perf_counter() - start)
    print(f"the pipeline gives {given:.1f} windows/s, the model takes {taken:.1f}: ratio {given / taken:.2f}")


if __name__ == "__main__":
    app.run(main)

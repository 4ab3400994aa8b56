"""Records → windows → batches: one tf.data pipeline for every task and model.

Everything random is drawn from stateless seeds, so that epoch `e` of a training is the same whether the
training was interrupted or not, and cardinality is known, because Keras 3 under a distribution strategy
otherwise takes a step past the end and miscounts.
"""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import tensorflow as tf

from musicnet_tf import effects, note_changes, record_info, records
from musicnet_tf.augment import Augmentation, augment, mixup, played, transposed
from musicnet_tf.config import Experiment, Source
from musicnet_tf.datasets import Split
from musicnet_tf.errors import ConfigError, RecordError
from musicnet_tf.models import ModelSpec
from musicnet_tf.note_changes import NoteChanges
from musicnet_tf.targets import NoteTensors, sounding
from musicnet_tf.tasks import Task
from musicnet_tf.tasks.notes import Notes

_log = logging.getLogger(__name__)

_MIXUP = 2**30  # folded into the seed of an epoch, where sources fold in their number


@dataclasses.dataclass(frozen=True)
class WindowSource:
    """Draws windows from the excerpts of one record set.

    Attributes:
        folder: of the record set.
        info: its `dataset_info.json`.
        split: that is read.
        weight: share of a batch, relative to other sources.
    """

    folder: Path
    info: record_info.DatasetInfo
    split: Split
    weight: float = 1.0

    @classmethod
    def open(cls, folder: str | Path, split: Split, sample_rate: int, weight: float = 1.0) -> WindowSource:
        """Checks a record set against what the model takes.

        Raises:
            RecordError: where the set is damaged or cannot be decoded here.
            ConfigError: where it has another sample rate than the model.
        """
        info = record_info.read_info(folder)
        if info.sample_rate != sample_rate:
            raise ConfigError(
                f"{folder}: records at {info.sample_rate} Hz, and the model takes {sample_rate} Hz;"
                f" build them with --sample_rate={sample_rate}"
            )
        if info.encoding == "flac" and not records.flac_is_readable():
            raise RecordError(
                f"{folder}: FLAC records need tensorflow-io, which does not load here;"
                " install musicnet_tf[tfio], or build them with --encoding=pcm_s16le"
            )
        return cls(Path(folder), info, split, weight)

    @property
    def files(self) -> list[str]:
        """Paths of the split's shards."""
        return [str(self.folder / shard.file) for shard in self.info.shards if shard.split == self.split]

    @property
    def num_excerpts(self) -> int:
        return self.info.num_excerpts(self.split)

    def excerpts(self, shuffle: int, seed: tf.Tensor) -> tf.data.Dataset:
        """Parsed records `(fields)`, with the audio still encoded, in an order that `seed` decides."""
        files = tf.constant(self.files)
        if shuffle:
            files = tf.random.experimental.stateless_shuffle(files, seed)
        read = tf.data.Dataset.from_tensor_slices(files).interleave(tf.data.TFRecordDataset, cycle_length=4)
        if shuffle:
            read = _shuffled(read, shuffle, seed)
        return read.map(lambda data: records.parse(data, self.info), num_parallel_calls=2, deterministic=True)


def training(experiment: Experiment, first_epoch: int = 0) -> tf.data.Dataset:
    """Batches `(audio, targets)` of every epoch from `first_epoch` on; each is a function of (seed, epoch).

    Raises:
        ConfigError, RecordError: as `open_sources`; ConfigError too where `data.polyphony` leaves no window, or an
            effect of `data.augmentation` cannot be had at the model's sample rate.
    """
    config, spec = experiment.train, experiment.model.spec()
    sources = open_sources(experiment, "train")
    _tell_unlabelled(sources, experiment.task)
    _check_polyphony(sources, experiment, spec)
    _check_effects(experiment.data.augmentation, spec)

    def epoch(number: tf.Tensor) -> tf.data.Dataset:
        seed = tf.stack([experiment.seed, tf.cast(number, tf.int32)])
        windows = _mixed_windows(sources, experiment, spec, seed)
        batches = windows.batch(config.batch_size, drop_remainder=True).take(config.steps_per_epoch)
        return _mixed_up(batches, experiment.data.augmentation.mixup, seed)

    batches = tf.data.Dataset.range(first_epoch, config.epochs).flat_map(epoch)
    steps = (config.epochs - first_epoch) * config.steps_per_epoch
    return batches.apply(tf.data.experimental.assert_cardinality(steps)).prefetch(2)


def validation(experiment: Experiment) -> tf.data.Dataset:
    """The same batches each time: windows spread evenly over the validation excerpts, unchanged.

    An excerpt no longer than a window gives the same one each time that it is asked.
    """
    config, spec = experiment.train, experiment.model.spec()
    wanted = config.validation_steps * config.batch_size
    sources = open_sources(experiment, "validation")
    available = sum(source.num_excerpts for source in sources)
    per_excerpt = max(1, -(-wanted // available))
    seed = tf.constant([experiment.seed, 0])
    windows = [_windows(s, experiment, spec, seed, per_excerpt, shuffle=0) for s in sources]
    merged = windows[0]
    for more in windows[1:]:
        merged = merged.concatenate(more)
    # There are at least as many windows as wanted; those left out are spread evenly too.
    total = available * per_excerpt
    chosen = merged.enumerate().filter(lambda i, _: (i + 1) * wanted // total > i * wanted // total)
    batches = chosen.map(lambda _, window: window).batch(config.batch_size)
    return batches.apply(tf.data.experimental.assert_cardinality(config.validation_steps)).prefetch(2)


def open_sources(experiment: Experiment, split: Split) -> list[WindowSource]:
    """The record sets of one side of an experiment, checked; those without that split are left out.

    Raises:
        ConfigError: where no set has any excerpt of that split, a sample rate is not the model's, or a set does not
            tell what the task learns from.
        RecordError: where a set is damaged or cannot be decoded here.
    """
    data = experiment.data
    named: tuple[Source, ...] = data.train if split == "train" else data.validation or data.train
    rate = experiment.model.spec().clock.sample_rate
    sources = [WindowSource.open(data.path(s), split, rate, s.weight) for s in named]
    for source in sources:
        _check_annotations(source, experiment.task)
    filled = [source for source in sources if source.num_excerpts]
    if not filled:
        names = ", ".join(str(source.folder) for source in sources)
        raise ConfigError(f"data.{split}: no excerpts in the {split} split of {names}")
    return filled


def _check_annotations(source: WindowSource, task: Task) -> None:
    told = source.info.annotations
    missing = [what for what in task.annotations if what not in told]
    if missing:
        raise ConfigError(
            f"{source.folder}: its records tell {', '.join(told)} and no {missing[0]}, from which task {task.name!r}"
            " learns; build them again if the corpus tells them, or name another set"
        )


def _tell_unlabelled(sources: list[WindowSource], task: Task) -> None:
    """Warns of classes that no recording teaches. Raises ConfigError where that is so of all."""
    recordings = [(source, entry) for source in sources for entry in source.info.recordings.values()]
    missing = task.unlabelled([entry for source, entry in recordings if entry.get("split") == source.split])
    if missing:
        _log.warning(
            "data.train: no recording teaches %s; what is learnt of it is that it is never borne", ", ".join(missing)
        )


def _check_polyphony(sources: list[WindowSource], experiment: Experiment, spec: ModelSpec) -> None:
    """Raises ConfigError where `data.polyphony` cannot be had, so that no endless stream looks for it."""
    data = experiment.data
    if data.polyphony is None:
        return
    if spec.num_frames != 1 or "frame" not in spec.heads:
        raise ConfigError(
            f"data.polyphony: needs a model of one frame a window, and {experiment.model.name!r} has"
            f" {spec.num_frames} here; set model.window_frames=1, or leave data.polyphony out"
        )
    if data.augmentation.moves:
        raise ConfigError(
            "data.polyphony: windows are chosen by the labels of what was recorded; leave out"
            " data.augmentation.pitch_shift and jitter, and effects that move notes, or data.polyphony"
        )
    for source in sources:
        seed = tf.constant([experiment.seed, 0])
        one_pass = _windows(source, experiment, spec, seed, data.windows_per_excerpt, data.shuffle_excerpts, passes=1)
        if not any(True for _ in one_pass.take(1)):
            raise ConfigError(
                f"data.polyphony: of {source.num_excerpts * data.windows_per_excerpt} windows from {source.folder} none"
                f" has exactly {data.polyphony} pitches; choose another number, or raise data.windows_per_excerpt"
            )


def _check_effects(augmentation: Augmentation, spec: ModelSpec) -> None:
    try:
        effects.check(augmentation.effects, spec.clock.sample_rate)
    except ConfigError as error:
        raise ConfigError(f"data.augmentation.effects: {error}") from error


def _mixed_up(batches: tf.data.Dataset, alpha: float, seed: tf.Tensor) -> tf.data.Dataset:
    """Batches whose windows are mixed by pairs, each batch by a seed of its own."""
    if not alpha:
        return batches
    own_seed = tf.random.fold_in(seed, _MIXUP)
    return batches.enumerate().map(
        lambda number, batch: mixup(batch[0], batch[1], alpha, tf.random.fold_in(own_seed, number))
    )


def _mixed_windows(
    sources: list[WindowSource], experiment: Experiment, spec: ModelSpec, seed: tf.Tensor
) -> tf.data.Dataset:
    """An endless mix of the sources by weight."""
    data = experiment.data
    streams = [
        _windows(source, experiment, spec, tf.random.fold_in(seed, i), data.windows_per_excerpt, data.shuffle_excerpts)
        for i, source in enumerate(sources)
    ]
    if len(streams) == 1:
        mixed = streams[0]
    else:
        wanted = experiment.train.batch_size * experiment.train.steps_per_epoch + data.shuffle_windows
        logits = tf.math.log([[source.weight for source in sources]])
        choices = tf.random.stateless_categorical(logits, wanted, seed, dtype=tf.int64)[0]
        mixed = tf.data.Dataset.choose_from_datasets(
            streams, tf.data.Dataset.from_tensor_slices(choices), stop_on_empty_dataset=False
        )
    if data.shuffle_windows > 1:
        mixed = _shuffled(mixed, data.shuffle_windows, seed)
    return mixed


def _shuffled(dataset: tf.data.Dataset, size: int, seed: tf.Tensor) -> tf.data.Dataset:
    """Shuffled in blocks of `size` elements, by `seed` alone.

    `Dataset.shuffle` would mix in TensorFlow's global seed, and fails on a seed tensor where that is 0.
    """

    def permute(number: tf.Tensor, block: Any) -> Any:
        count = tf.shape(tf.nest.flatten(block)[0])[0]
        order = tf.random.experimental.stateless_shuffle(tf.range(count), tf.random.fold_in(seed, number))
        return tf.nest.map_structure(lambda column: tf.gather(column, order), block)

    return dataset.batch(size).enumerate().map(permute).prefetch(1).unbatch()


def _windows(
    source: WindowSource,
    experiment: Experiment,
    spec: ModelSpec,
    seed: tf.Tensor,
    per_excerpt: int,
    shuffle: int,
    passes: int | None = None,
) -> tf.data.Dataset:
    """Windows `(audio, targets)` of a source, in training of so many passes or without end, otherwise of one.

    The excerpt is decoded once for all its windows; their places, and the augmentation of training
    windows, follow from the seed and the excerpt's number.
    """
    task = experiment.task
    augmentation = experiment.data.augmentation if source.split == "train" else Augmentation()
    hears_notes = experiment.data.hear == "notes"
    changes = experiment.data.notes if source.split == "train" else NoteChanges()
    stretch = effects.reads(augmentation.effects, spec.window_length, spec.clock.sample_rate)
    stretch = changes.reads(spec.window_length) if hears_notes else stretch

    def window(audio: tf.Tensor, fields: dict[str, Any], start: tf.Tensor, own_seed: tf.Tensor) -> Any:
        if hears_notes:
            return _heard(fields, start, experiment, changes, own_seed)
        return _window(audio, fields, start, stretch, spec, task, augmentation, own_seed)

    def draw(number: tf.Tensor, fields: dict[str, Any]) -> tf.data.Dataset:
        if hears_notes:
            audio, samples = None, tf.reduce_max(tf.concat([fields["notes/offset"], [0]], axis=0))
        else:
            audio = records.decode_audio(fields["audio"], source.info.encoding)
            samples = tf.size(audio, tf.int64)
        own_seed = tf.random.fold_in(seed, number)
        spare = tf.maximum(samples - stretch, 0)
        if source.split == "train":
            starts = tf.random.stateless_uniform((per_excerpt,), own_seed, 0, spare + 1, tf.int64)
            if experiment.data.polyphony is not None:
                starts = _of_polyphony(starts, fields, spec, experiment.data.polyphony)
        else:
            starts = spare * tf.range(1, per_excerpt + 1, dtype=tf.int64) // (per_excerpt + 1)
        return (
            tf.data.Dataset.from_tensor_slices(starts)
            .enumerate()
            .map(lambda i, start: window(audio, fields, start, tf.random.fold_in(own_seed, i)))
        )

    excerpts = source.excerpts(shuffle, seed)
    if source.split == "train":
        excerpts = excerpts.repeat(passes)  # before they are numbered, so that each pass draws other windows
    return excerpts.enumerate().interleave(
        draw, cycle_length=4, block_length=1, num_parallel_calls=2, deterministic=True
    )


def _of_polyphony(starts: tf.Tensor, fields: dict[str, Any], spec: ModelSpec, wanted: int) -> tf.Tensor:
    """Those of the starts, moved back to whole hops, whose window's one frame has exactly `wanted` pitches."""
    notes = NoteTensors(*(fields[f"notes/{column}"] for column in ("onset", "offset", "pitch", "velocity")))
    hops = starts // spec.clock.hop_length
    pitches = sounding(notes, spec.clock, tf.reduce_max(hops) + 1, spec.heads["frame"])  # as one long window
    count = tf.gather(tf.reduce_sum(pitches, axis=1), hops)
    return tf.boolean_mask(hops, tf.equal(count, wanted)) * spec.clock.hop_length


def _window(
    audio: tf.Tensor,
    fields: dict[str, Any],
    start: tf.Tensor,
    stretch: int,
    spec: ModelSpec,
    task: Task,
    augmentation: Augmentation,
    seed: tf.Tensor,
) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """A window made of `stretch` samples of an excerpt, and its targets."""
    rate = spec.clock.sample_rate
    if augmentation.moves:
        samples, fields = transposed(audio, fields, start, stretch, augmentation, seed)
        start = tf.zeros_like(start)  # the labels now count from the stretch's own beginning
    else:
        samples = audio[start : start + stretch]
        samples = tf.pad(samples, [[0, stretch - tf.size(samples)]])  # an excerpt may be shorter
        samples = tf.ensure_shape(samples, (stretch,))
    if augmentation.effects:
        samples, fields = played(samples, fields, rate, spec.window_length, augmentation.effects, seed)
    samples = augment(samples, rate, augmentation, seed)
    return samples, task.targets(fields, start, spec)


def _heard(
    fields: dict[str, Any], start: tf.Tensor, experiment: Experiment, changes: NoteChanges, seed: tf.Tensor
) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
    """What the model's transcriber would tell of a window's notes if it erred nowhere, and the window's targets."""
    spec, ear = experiment.model.spec(), experiment.model.ear()
    assert ear is not None  # as the experiment has checked
    transcription = Notes()  # what transcribers learn from, unless a config says otherwise
    fields = note_changes.changed(fields, start, spec.clock.sample_rate, changes, seed)
    beginning = tf.constant(0, tf.int64)
    told = transcription.targets(fields, beginning, ear.spec())
    return {**told, "velocity": told["velocity"][..., 0]}, experiment.task.targets(fields, beginning, spec)

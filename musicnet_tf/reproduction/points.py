"""Labels and estimates at the protocol's points: of test recordings, and of sampled points of training records."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from musicnet_tf import export, record_info, records, runs, windowing
from musicnet_tf.datasets import Dataset, Recording
from musicnet_tf.errors import DatasetError, RecordError
from musicnet_tf.events import Notes
from musicnet_tf.manifest import Manifest
from musicnet_tf.metrics import frames, protocol
from musicnet_tf.metrics.protocol import Interpolation, Protocol
from musicnet_tf.models import ModelSpec
from musicnet_tf.timebase import FrameClock

WINDOW_FRAMES = 128
"""Points that one window of the network labels here, where its family leaves the number open: neighbouring windows
share most of their samples, and so most of the work."""

_GRID = FrameClock(protocol.SAMPLE_RATE, protocol.STRIDE)
"""Of training excerpts: from the first sample on, where the protocol's own points begin a second later."""


@dataclasses.dataclass(frozen=True)
class Points:
    """Bool labels and float32 estimates, both `(points, 128)`."""

    labels: np.ndarray
    estimates: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @classmethod
    def concatenate(cls, parts: Iterable[Points]) -> Points:
        """All points in order; none at all for no parts."""
        empty = cls(np.zeros((0, frames.NUM_PITCHES), bool), np.zeros((0, frames.NUM_PITCHES), np.float32))
        columns = [(part.labels, part.estimates) for part in (empty, *parts)]
        labels, estimates = (np.concatenate(column) for column in zip(*columns, strict=True))
        return cls(labels, estimates)


class RawNetwork:
    """A run's network whose estimates are left as they are.

    What is served clips them to [0, 1]; the paper ranks them by their raw value, and all that a linear
    regression puts above 1 would be one tie.
    """

    def __init__(self, run: Path) -> None:
        """Loads a run folder.

        Raises:
            ModelError: where it is missing, incomplete or damaged.
        """
        manifest, _, network = runs.load(run)
        trained = manifest.experiment["model"].get("window_frames", WINDOW_FRAMES)
        if trained < WINDOW_FRAMES:
            manifest, _, network = export.with_window_frames(manifest, network, WINDOW_FRAMES)
        self.manifest: Manifest = manifest
        windows = tf.TensorSpec((None, manifest.geometry.window_length), tf.float32)
        self._run = tf.function(lambda x: network(x, training=False), input_signature=[windows])

    @property
    def spec(self) -> ModelSpec:
        return self.manifest.geometry

    def __call__(self, windows: np.ndarray) -> dict[str, np.ndarray]:
        """Float32 windows → head → what the network gives, `(batch, num_frames, num_classes)`."""
        return self._run(windows)


def points_protocol(spec: ModelSpec, convention: protocol.Convention) -> Protocol:
    """The protocol for windows of a model's length, i.e. of as many samples as label one point."""
    return Protocol(convention, spec.window_length - (spec.num_frames - 1) * spec.clock.hop_length)


def of_recording(
    network: RawNetwork,
    dataset: Dataset,
    recording: Recording,
    convention: protocol.Convention,
    interpolation: Interpolation,
) -> Points:
    """The protocol's points of a test recording.

    Raises:
        AudioError, ScoreError: where it cannot be read.
        DatasetError: where it ends before the first point.
    """
    rate, where = network.spec.clock.sample_rate, points_protocol(network.spec, convention)
    notes, audio = dataset.load_notes(recording), dataset.load_audio(recording, rate)
    num_points = where.num_points(len(audio) / rate)
    if not num_points:
        raise DatasetError(f"{recording.id}: its {len(audio) / rate:.1f} s end before the protocol's first point")
    estimates = _hear(network, audio, where.clock.times(num_points), interpolation)
    return Points(where.labels(notes, num_points), estimates)


@dataclasses.dataclass(frozen=True)
class Excerpt:
    """Float32 audio `(samples,)` of a training record, and its notes in seconds from the first sample."""

    audio: np.ndarray
    notes: Notes
    sample_rate: int


def sample_excerpts(folders: Sequence[Path], seed: int, size: int = protocol.SUBSET_RECORDINGS) -> list[Excerpt]:
    """Up to `size` excerpts of the training splits of record sets, all excerpts alike, the same for the same seed.

    Raises:
        RecordError: where a set is damaged.
    """
    shards = [
        (folder / shard.file, info, shard.num_excerpts)
        for folder, info in [(folder, record_info.read_info(folder)) for folder in folders]
        for shard in info.shards
        if shard.split == "train"
    ]
    chosen = protocol.sample(sum(count for *_, count in shards), size, seed)
    found: list[Excerpt] = []
    first = 0
    for path, info, count in tqdm(shards, desc="sample training points", unit="shard", disable=None):
        wanted = {int(i) - first for i in chosen if first <= i < first + count}
        found += _read_excerpts(path, info, wanted)
        first += count
    return found


def _read_excerpts(path: Path, info: record_info.DatasetInfo, wanted: set[int]) -> Iterator[Excerpt]:
    if not wanted:
        return
    for i, record in enumerate(records.read(path, info)):
        if i in wanted:
            audio = records.decode_audio(record["audio"], info.encoding).numpy()
            yield Excerpt(audio, records.notes_of(record), info.sample_rate)


def of_training(
    network: RawNetwork,
    excerpts: Sequence[Excerpt],
    seed: int,
    interpolation: Interpolation,
    size: int = protocol.SUBSET_POINTS,
) -> Points:
    """Up to `size` points of each excerpt, side by side from a place that is drawn, whose windows lie wholly inside.

    No more of an excerpt is heard than holds them.

    Raises:
        RecordError: where no excerpt is as long as a window.
    """
    parts = []
    for i, excerpt in enumerate(tqdm(excerpts, desc="training points", unit="excerpt", disable=None)):
        inside = _inside(len(excerpt.audio), network.spec)
        if not len(inside):
            continue
        [first] = protocol.sample(max(1, len(inside) - size + 1), 1, (seed, i))
        chosen = inside[first : first + size]
        estimates = _hear(network, excerpt.audio, _GRID.frame_to_time(chosen), interpolation)
        roll = frames.piano_roll(excerpt.notes, _GRID, int(chosen[-1]) + 1)
        parts.append(Points(roll[chosen], estimates))
    if not parts:
        raise RecordError("no training excerpt is as long as a window of the model; build records of longer excerpts")
    return Points.concatenate(parts)


def _hear(network: RawNetwork, audio: np.ndarray, times: np.ndarray, interpolation: Interpolation) -> np.ndarray:
    """Estimates `(points, 128)` at times of some audio, of which only their surroundings are run through.

    It is cut so that a frame falls on the first of them: where frames are as far apart as points, each has its own.
    """
    spec = network.spec
    hop = spec.clock.hop_length
    reach = spec.window_length + (spec.margin - spec.num_frames + 1) * hop
    first = round(times[0] * spec.clock.sample_rate)
    start = first - min(first // hop, -(-reach // hop)) * hop
    stop = int(times[-1] * spec.clock.sample_rate) + reach
    heard = windowing.posteriorgram(audio[start:stop], spec, network)["frame"]
    clock = dataclasses.replace(windowing.recording_clock(spec), origin=start)
    return protocol.read(heard, clock, times, spec.heads["frame"].first_pitch, interpolation)


def _inside(num_samples: int, spec: ModelSpec) -> np.ndarray:
    """The points of `_GRID` round which a window for one frame, with its margins, lies within the samples."""
    clock, margin = spec.clock, spec.margin * spec.clock.hop_length
    before = clock.origin + margin
    after = spec.window_length - clock.origin - (spec.num_frames - 1) * clock.hop_length + margin
    scale = protocol.SAMPLE_RATE / clock.sample_rate
    first = int(np.ceil(before * scale / protocol.STRIDE))
    last = int(np.floor((num_samples - after) * scale / protocol.STRIDE))
    return np.arange(first, last + 1)

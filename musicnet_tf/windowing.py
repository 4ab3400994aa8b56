"""Long audio ↔ overlapping windows, stitched exactly and in constant memory."""

from __future__ import annotations

import collections
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from musicnet_tf.errors import AudioError, ModelError
from musicnet_tf.models import ModelSpec
from musicnet_tf.timebase import FrameClock

Predict = Callable[[np.ndarray], Mapping[str, np.ndarray]]
"""Windows, float32 `(batch, window_length)` → head → activations `(batch, num_frames, num_classes)`."""


class Mapped(Protocol):
    """A model that works on several batches at once, as one on a server does."""

    def map(self, batches: Iterable[np.ndarray]) -> Iterator[Mapping[str, np.ndarray]]:
        """Batches of windows → their activations as of `Predict`, in order, taken as it goes."""


SAMPLES_PER_BATCH = 2**20
"""Audio in one batch where the caller names no batch size: bounds memory alike for long and short windows."""


def recording_clock(spec: ModelSpec) -> FrameClock:
    """The clock of stitched posteriorgrams: frame `k` speaks for sample `k * hop_length` of the recording.

    One rule for every model: so much silence is put before the recording that the first frame that is
    kept of the first window is centred on sample 0. The origin of a model's own clock, and its margin,
    therefore never reach whoever reads a posteriorgram.

    Frames that tell of stretches, as `tells_of_stretches` says, begin with the recording instead, so that no
    chunk is half silence: frame `k` speaks for samples `k * hop_length` to `(k + 1) * hop_length`, and is
    centred between them.
    """
    origin = spec.clock.hop_length // 2 if tells_of_stretches(spec) else 0
    return FrameClock(spec.clock.sample_rate, spec.clock.hop_length, origin)


def tells_of_stretches(spec: ModelSpec) -> bool:
    """Whether frames lie side by side and each tells of all of its own, as tags do, instead of an instant."""
    return "tag" in spec.heads


def num_frames(spec: ModelSpec, num_samples: int) -> int:
    """Frames of the stitched posteriorgram of so many samples: one for each begun `hop_length` of them."""
    return -(-num_samples // spec.clock.hop_length)


def default_batch_size(spec: ModelSpec) -> int:
    """Windows in a batch of about `SAMPLES_PER_BATCH` samples, at least one."""
    return max(1, SAMPLES_PER_BATCH // spec.window_length)


def posteriorgrams(
    blocks: Iterable[np.ndarray],
    spec: ModelSpec,
    predict: Predict | Mapped,
    batch_size: int | None = None,
    kept: int | None = None,
) -> Iterator[dict[str, np.ndarray]]:
    """Runs a model over a recording of any length, window by window.

    Windows overlap so that `spec.margin` frames can be cut off at both ends of each; silence stands
    for what lies before and after the recording. Memory depends on the batch and on the longest block,
    not on the recording. Where the predictor has a method `map`, it is handed all batches as an iterator, so that
    it may work on several at once; it gives their outputs in order.

    Args:
        blocks: consecutive pieces of the recording, float32 `(samples,)` of any sizes, at the rate of
            `spec.clock`.
        spec: geometry of the model.
        predict: the model, giving activations in [0, 1].
        batch_size: windows handed over at once; by default as many as hold `SAMPLES_PER_BATCH`.
        kept: frames of each window that count, the last ones before its right margin; by default all between
            the margins. Fewer let a listener hear each frame sooner, and cost as many more windows.

    Yields:
        Head → float32 `(frames, num_classes)`: consecutive pieces of the posteriorgram. Together they
        have `num_frames(spec, samples)` frames; nothing is yielded for no samples.

    Raises:
        AudioError: where a block is not mono samples.
        ModelError: where the model does not give what its spec promises, or cannot keep so many frames.
    """
    kept = kept_frames(spec, kept)
    promised: collections.deque[tuple[int, int]] = collections.deque()

    def windows() -> Iterator[np.ndarray]:
        for batch, frames in batches(blocks, spec, batch_size, kept):
            promised.append((len(batch), frames))
            yield batch

    for outputs in outputs_of(predict, windows()):
        count, frames = promised.popleft()
        yield {name: _stitch(name, outputs, count, spec, kept)[:frames] for name in spec.heads}


def outputs_of(predict: Predict | Mapped, batches: Iterable[np.ndarray]) -> Iterator[Mapping[str, np.ndarray]]:
    """Outputs of batches of windows, in order, by the predictor's `map` where it has one."""
    run = getattr(predict, "map", None) or functools.partial(map, predict)  # type: ignore[arg-type]
    yield from run(batches)


def posteriorgram(audio: np.ndarray, spec: ModelSpec, predict: Predict, batch_size: int | None = None) -> dict:
    """The whole posteriorgram of a recording in memory: head → float32 `(frames, num_classes)`.

    As `posteriorgrams`, in one piece.
    """
    chunks = list(posteriorgrams([audio], spec, predict, batch_size))
    if not chunks:
        return {name: np.zeros((0, head.num_classes), np.float32) for name, head in spec.heads.items()}
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in spec.heads}


def batches(
    blocks: Iterable[np.ndarray], spec: ModelSpec, batch_size: int | None = None, kept: int | None = None
) -> Iterator[tuple[np.ndarray, int]]:
    """The windows of a recording, each batch as soon as its samples are there; arguments as of `posteriorgrams`.

    Yields:
        Windows, float32 `(batch, window_length)`, and how many of their kept frames speak for the recording: all
        but in the last batch, which may reach beyond its end.
    """
    batch_size, kept = batch_size or default_batch_size(spec), kept_frames(spec, kept)
    stride = kept * spec.clock.hop_length
    needed = max(spec.window_length, stride) + (batch_size - 1) * stride
    pieces: list[np.ndarray] = [np.zeros(silence_before(spec, kept), np.float32)]
    held, num_samples, given = len(pieces[0]), 0, 0

    for block in blocks:
        pieces.append(_mono(block))
        num_samples += len(block)
        held += len(block)
        if held < needed:
            continue
        audio, start = np.concatenate(pieces), 0
        while held - start >= needed:
            yield _cut(audio[start : start + needed], batch_size, stride, spec), batch_size * kept
            given += batch_size * kept
            start += batch_size * stride
        pieces, held = [audio[start:].copy()], held - start

    missing = num_frames(spec, num_samples) - given
    yield from _last(np.concatenate(pieces), missing, batch_size, kept, spec)


def _last(
    audio: np.ndarray, missing: int, batch_size: int, kept: int, spec: ModelSpec
) -> Iterator[tuple[np.ndarray, int]]:
    """Windows of the last `missing` frames, with silence after the end of the recording."""
    stride = kept * spec.clock.hop_length
    while missing > 0:
        windows = min(batch_size, -(-missing // kept))
        padded = np.zeros(spec.window_length + (windows - 1) * stride, np.float32)
        present = audio[: len(padded)]
        padded[: len(present)] = present
        yield _cut(padded, windows, stride, spec), min(missing, windows * kept)
        audio = audio[windows * stride :]
        missing -= windows * kept


def _cut(audio: np.ndarray, windows: int, stride: int, spec: ModelSpec) -> np.ndarray:
    return np.ascontiguousarray(sliding_window_view(audio, spec.window_length)[::stride][:windows])


def _stitch(name: str, outputs: Mapping[str, np.ndarray], windows: int, spec: ModelSpec, kept: int) -> np.ndarray:
    """The kept frames of a batch of windows, joined."""
    promised = (windows, spec.num_frames, spec.heads[name].num_classes)
    if name not in outputs:
        raise ModelError(f"the model gives no head {name!r}, only {', '.join(outputs)}; its manifest does not fit it")
    values = np.asarray(outputs[name], np.float32)
    if values.shape != promised:
        raise ModelError(f"head {name!r} has shape {values.shape}, its manifest promises {promised}")
    end = spec.num_frames - spec.margin
    return values[:, end - kept : end].reshape(-1, promised[2])


def kept_frames(spec: ModelSpec, wanted: int | None = None) -> int:
    """Frames of a window that count: those wanted, or all between its margins. Raises ModelError."""
    possible = spec.num_frames - 2 * spec.margin
    if possible < 1:
        raise ModelError(f"a margin of {spec.margin} frames at both ends leaves nothing of {spec.num_frames} frames")
    if wanted is not None and not 1 <= wanted <= possible:
        raise ModelError(f"cannot keep {wanted} frames of a window: between its margins there are {possible}")
    return wanted or possible


def silence_before(spec: ModelSpec, kept: int) -> int:
    """Samples put before a recording, so that the first kept frame is where `recording_clock` has it.

    Raises ModelError.
    """
    first = spec.clock.origin + (spec.num_frames - spec.margin - kept) * spec.clock.hop_length
    samples = first - recording_clock(spec).origin
    if samples < 0:
        raise ModelError(f"a clock origin of {spec.clock.origin} samples lies before the window and its margin")
    return samples


def _mono(block: np.ndarray) -> np.ndarray:
    block = np.asarray(block, np.float32)
    if block.ndim != 1:
        raise AudioError(f"expected mono samples of shape (samples,), got {block.shape}; mix the channels down")
    return block

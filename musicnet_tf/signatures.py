"""What an export answers: windows → activations, whole WAV files → posteriorgrams, and the description of itself.

Stock TensorFlow operations alone, so that a plain TensorFlow Serving runs them; the same for every task, and the one of
windows by the task's name, too.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from musicnet_tf import inference, windowing
from musicnet_tf.manifest import Manifest
from musicnet_tf.models import ModelSpec

Forward = Callable[[tf.Tensor], dict[str, tf.Tensor]]
"""Windows, float32 `(batch, window_length)` → head → activations `(batch, num_frames, num_classes)`."""


_OTHER_BYTES = 2**20
"""Of WAV files that may be other than samples."""


def signatures(manifest: Manifest, forward: Forward) -> dict[str, Any]:
    """Name → traced function of every signature; what each takes and gives is told in `inference`."""
    spec = manifest.geometry
    windows = tf.TensorSpec((None, spec.window_length), tf.float32, name=inference.WINDOWS)
    recordings = tf.TensorSpec((None,), tf.string, name=inference.WAV)
    each = tf.TensorSpec((None,), tf.int32, name=inference.EACH)

    network = tf.function(forward, input_signature=[windows], autograph=False)  # one copy in the graph, called by two

    def posteriorgrams(wav: tf.Tensor) -> dict[str, tf.Tensor]:
        return of_recordings(wav, spec, network)

    def describe(each: tf.Tensor) -> dict[str, tf.Tensor]:
        return {inference.MANIFEST: tf.fill(tf.shape(each), manifest.model_dump_json())}

    return {
        inference.SIGNATURE: network.get_concrete_function(),
        manifest.task: network.get_concrete_function(),
        inference.WAV_SIGNATURE: _traced(posteriorgrams, recordings),
        inference.DESCRIBE: _traced(describe, each),
    }


def _traced(function: Callable[..., Any], argument: tf.TensorSpec) -> Any:
    return tf.function(function, input_signature=[argument], autograph=False).get_concrete_function()


def of_recordings(wav: tf.Tensor, spec: ModelSpec, forward: Forward) -> dict[str, tf.Tensor]:
    """The stitched posteriorgrams of whole recordings: in the graph, what `windowing.posteriorgram` does of samples.

    Windows of all recordings go through the model together, so many at a time as `windowing` would hand over: memory
    holds the samples and the answer, and the network's own needs for one such batch.

    Args:
        wav: string `(batch,)`, the bytes of WAV files.
        spec: geometry of the model.
        forward: the model.

    Returns:
        Head → float32 `(batch, most_frames, num_classes)`, and `inference.NUM_FRAMES`, int32 `(batch,)`.
    """
    kept = windowing.kept_frames(spec)
    mono = _samples(wav, spec)
    num_frames = -(-mono.row_lengths() // spec.clock.hop_length)
    audio, starts = _windows(mono, -(-num_frames // kept), spec)
    heads = _kept_frames(audio, starts.flat_values, spec, forward)
    most = tf.maximum(tf.reduce_max(num_frames), 0)  # of no recordings, the maximum is the least integer
    speaks = tf.sequence_mask(num_frames, most)[..., tf.newaxis]
    stitched = {}
    for name, frames in heads.items():
        dense = tf.RaggedTensor.from_row_lengths(frames, starts.row_lengths() * kept, validate=False).to_tensor()
        stitched[name] = tf.where(speaks, dense[:, :most], 0.0)
    return {**stitched, inference.NUM_FRAMES: tf.cast(num_frames, tf.int32)}


def _samples(wav: tf.Tensor, spec: ModelSpec) -> tf.RaggedTensor:
    """The samples of each WAV, its channels averaged: float32 `(batch, None)`. Refuses what the limits exclude."""
    count = tf.size(wav)
    _require(count <= inference.MAX_BATCH, f"at most {inference.MAX_BATCH} recordings go in one request, got", count)
    rate, seconds = spec.clock.sample_rate, inference.MAX_WAV_BATCH_SECONDS
    most_bytes = 2 * inference.MAX_WAV_CHANNELS * inference.MAX_WAV_SECONDS * rate + _OTHER_BYTES
    size = tf.reduce_sum(tf.cast(tf.strings.length(wav), tf.int64))
    _require(size <= most_bytes, f"a request may hold up to {most_bytes} bytes; send fewer. It holds", size)
    ragged = tf.RaggedTensorSpec((None,), tf.float32, ragged_rank=0)
    mono = tf.map_fn(functools.partial(_decoded, spec=spec), wav, fn_output_signature=ragged)
    padded = tf.cast(count, tf.int64) * tf.reduce_max(tf.concat([mono.row_lengths(), [0]], axis=0))
    _require(
        padded <= seconds * rate,
        f"recordings of one request, each as long as the longest, may have {seconds * rate} samples together,"
        f" {seconds} seconds; send fewer, or those of like length together. They have",
        padded,
    )
    return mono


def _decoded(wav: tf.Tensor, spec: ModelSpec) -> tf.Tensor:
    # Checked here, because the decoder puts what it found instead, text or not, into its message.
    is_wav = tf.strings.regex_full_match(tf.strings.substr(wav, 0, 16), r"RIFF\C{4}WAVE(fmt |JUNK)")
    with tf.control_dependencies(
        [_require(is_wav, "not a WAV file of 16-bit PCM; its size in bytes is", tf.strings.length(wav))]
    ):
        samples, rate = tf.audio.decode_wav(wav)
    length, channels = tf.unstack(tf.shape(samples))
    wanted = spec.clock.sample_rate
    longest, most = inference.MAX_WAV_SECONDS * wanted, inference.MAX_WAV_CHANNELS
    _require(rate == wanted, f"this model takes a WAV of {wanted} samples a second; resample this one, which has", rate)
    _require(channels <= most, f"a WAV may have up to {most} channels; mix this one down, which has", channels)
    _require(
        length <= longest,
        f"a WAV may have up to {longest} samples a channel, {inference.MAX_WAV_SECONDS} seconds; cut this one, or send"
        f" windows to {inference.SIGNATURE!r}. It has",
        length,
    )
    return tf.reduce_mean(samples, axis=1)


def _require(condition: tf.Tensor, message: str, value: tf.Tensor) -> tf.Operation | None:
    return tf.debugging.Assert(condition, [message, value])


def _windows(mono: tf.RaggedTensor, num_windows: tf.Tensor, spec: ModelSpec) -> tuple[tf.Tensor, tf.RaggedTensor]:
    """Samples of all recordings in one row, silence between them, and where in it the windows of each begin."""
    kept = windowing.kept_frames(spec)
    silence, stride = windowing.silence_before(spec, kept), kept * spec.clock.hop_length
    after = tf.zeros(spec.window_length)

    def surrounded(elements: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        samples, windows = elements
        length = tf.where(windows > 0, spec.window_length + (windows - 1) * stride, 0)
        return tf.concat([tf.zeros(silence), samples, after], axis=0)[:length]

    ragged = tf.RaggedTensorSpec((None,), tf.float32, ragged_rank=0)
    rows = tf.map_fn(surrounded, (mono, num_windows), fn_output_signature=ragged)
    first = rows.row_starts()
    return rows.flat_values, tf.ragged.range(first, first + num_windows * stride, stride)


def _kept_frames(audio: tf.Tensor, starts: tf.Tensor, spec: ModelSpec, forward: Forward) -> dict[str, tf.Tensor]:
    """Head → float32 `(windows * kept, num_classes)`: of windows that begin at `starts`, without their margins."""
    size = windowing.default_batch_size(spec)
    within = tf.range(spec.window_length, dtype=tf.int64)

    def batch(begin: tf.Tensor) -> dict[str, tf.Tensor]:
        windows = tf.gather(audio, starts[begin : begin + size, tf.newaxis] + within)
        heads = forward(windows)
        return {
            name: tf.reshape(heads[name][:, spec.margin : spec.num_frames - spec.margin], (-1, head.num_classes))
            for name, head in spec.heads.items()
        }

    ragged = {
        name: tf.RaggedTensorSpec((None, head.num_classes), tf.float32, ragged_rank=0)
        for name, head in spec.heads.items()
    }
    begins = tf.range(0, tf.size(starts), size)
    frames = tf.map_fn(batch, begins, fn_output_signature=ragged, parallel_iterations=1)
    # Of no windows, the loop forgets how many classes there are.
    return {name: tf.reshape(frames[name].flat_values, (-1, head.num_classes)) for name, head in spec.heads.items()}

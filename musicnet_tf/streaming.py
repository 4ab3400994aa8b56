"""Events while the sound still comes: those of the whole recording, each within a latency that is known before.

    sound = Sound(pieces, source_rate, spec.clock.sample_rate)
    for row in Listener(sound, predictor, decoding, kept=15):
        print(row)

An instant's activations are known once the model has heard its right context and the frames that it hears together
with it. Latency is counted in seconds of audio: a machine that keeps up adds what one window takes it.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from musicnet_tf import audio, inference, transcription, windowing
from musicnet_tf.decode import Decoding
from musicnet_tf.errors import AudioError, ConfigError
from musicnet_tf.live_audio import PIECE_SECONDS, Pcm, ReadAhead
from musicnet_tf.models import ModelSpec
from musicnet_tf.writers import Format, PosteriorgramSpool, Transcript

HEARD_TOGETHER_SECONDS = 0.3
"""Frames that a model hears at once where nobody asks for a latency: more come later, fewer cost more."""
_PROBE_SECONDS = 20.0  # after which the resampler's delay has been as long as it gets
_LAG_SECONDS = 1.0  # of audio that waits, from which on it is told


class Sound:
    """Audio at the model's rate, as it comes, and how much of it has been heard. Iterate over it once.

    Args:
        pieces: mono float32 `(samples,)`, as they come.
        source_rate: of the pieces in Hz.
        sample_rate: wanted, in Hz.
        name: of the source, for messages and for files.
    """

    def __init__(self, pieces: Iterable[np.ndarray], source_rate: int, sample_rate: int, name: str = "audio") -> None:
        self.name = name
        self._pieces, self._source_rate, self._sample_rate = pieces, source_rate, sample_rate
        self._taken = self._given = 0

    @property
    def heard(self) -> float:
        """Seconds of the source that were taken so far."""
        return self._taken / self._source_rate

    @property
    def duration(self) -> float:
        """Seconds that were given so far at the wanted rate, as `transcription.Result.audio_seconds` counts them."""
        return self._given / self._sample_rate

    def __iter__(self) -> Iterator[np.ndarray]:
        """Mono float32 `(samples,)` in [-1, 1], joined equal to `audio.load`. Raises AudioError as that does."""
        for block in audio.resample_stream(self.name, self._counted(), self._source_rate, self._sample_rate):
            self._given += len(block)
            yield np.clip(block, -1.0, 1.0)

    def _counted(self) -> Iterator[np.ndarray]:
        for piece in self._pieces:
            self._taken += len(piece)
            yield piece
        if not self._taken:
            raise AudioError(f"{self.name}: no sample came")


@dataclasses.dataclass(frozen=True)
class Latency:
    """How many seconds of audio may pass between an instant and the row that tells of it, by cause.

    Attributes:
        source: audio is taken in pieces of this length.
        resampler: the most that it holds back.
        model: right context of a frame, and the frame.
        together: the other frames that are heard at once with it.
        decoder: what it must see of the activations after an instant; None where it tells at no bounded time.
    """

    source: float
    resampler: float
    model: float
    together: float
    decoder: float | None

    @property
    def total(self) -> float:
        """Of all causes that are bounded."""
        return self.source + self.resampler + self.model + self.together + (self.decoder or 0.0)

    def __str__(self) -> str:
        of = {"model": self.model, "frames heard together": self.together, "decoder": self.decoder}
        parts = [f"{name} {seconds:.2f}" for name, seconds in of.items() if seconds is not None]
        parts.append(f"resampler and source {self.resampler + self.source:.2f}")
        until = "" if self.decoder is not None else " and what the decoder waits for"
        return f"{self.total:.2f} s ({', '.join(parts)}){until}"


def look_ahead(spec: ModelSpec, kept: int) -> int:
    """Samples from a frame's instant to the last that must be heard before its activations are known.

    That is of the first of `kept` frames that are heard together; the others wait less.
    """
    hop_length = spec.clock.hop_length
    before = spec.clock.origin + (spec.num_frames - spec.margin - kept) * hop_length
    return max(spec.window_length, kept * hop_length) - before


def plan(spec: ModelSpec, decoding: Decoding, source_rate: int, wanted: float | None = None) -> tuple[int, Latency]:
    """How many frames to hear together for a latency: the fewer, the sooner, and the more windows are to be heard.

    Args:
        spec: geometry of the model.
        decoding: parameters of its decoder.
        source_rate: of the audio that comes, in Hz.
        wanted: seconds, as of `Latency.total`; by default what cannot be helped and `HEARD_TOGETHER_SECONDS`.

    Returns:
        `kept` of `windowing.posteriorgrams`, and the latency that it has.

    Raises:
        ConfigError: where the model cannot be as quick.
    """
    clock, possible = windowing.recording_clock(spec), spec.num_frames - 2 * spec.margin
    hop = clock.hop_length / clock.sample_rate
    least = Latency(
        source=PIECE_SECONDS,
        resampler=resampler_delay(source_rate, clock.sample_rate),
        model=look_ahead(spec, 1) / clock.sample_rate,
        together=0.0,
        decoder=decoding.start(spec).look_ahead,
    )
    spare = HEARD_TOGETHER_SECONDS if wanted is None else wanted - least.total
    if spare < 0:
        raise ConfigError(f"latency={wanted:g}: this model's rows take up to {least}; allow {least.total + hop:.2f} s")
    kept = max(1, min(possible, 1 + int(spare / hop + 1e-9)))
    return kept, dataclasses.replace(least, together=(kept - 1) * hop)


def resampler_delay(source_rate: int, sample_rate: int) -> float:
    """The longest audio, in seconds, that the resampler has taken and not given; found by trying it."""
    size = max(1, round(PIECE_SECONDS * source_rate))
    silence = np.zeros(size, np.float32)
    sound = Sound((silence for _ in range(round(_PROBE_SECONDS / PIECE_SECONDS))), source_rate, sample_rate)
    return max(0.0, *(sound.heard - sound.duration for _ in sound))


def load(model: str | Path, kept: int) -> inference.Predictor:
    """A model in this process, its windows as short as `kept` frames allow; imports TensorFlow.

    An export, and a family whose windows have one length, is taken as it is.

    Raises:
        ModelError: where it is missing, incomplete or damaged.
    """
    folder = inference.locate(model)
    manifest = inference.read_manifest(folder)
    if (folder / inference.SAVED_MODEL).exists() or "window_frames" not in manifest.experiment.get("model", {}):
        return inference.load(folder)
    import tensorflow as tf

    from musicnet_tf import export, runs

    manifest, _, network = runs.load(folder)
    shorter, experiment, network = export.with_window_frames(manifest, network, 2 * manifest.geometry.margin + kept)
    windows = tf.TensorSpec((None, shorter.geometry.window_length), tf.float32)
    return inference.Predictor(shorter, tf.function(inference.forward(experiment, network), input_signature=[windows]))


def cost(predictor: transcription.Predictor, kept: int, trials: int = 3) -> float:
    """The share of real time that a model takes on this machine now: 1 is too slow. The first call warms it up."""
    spec = predictor.manifest.geometry
    silence = np.zeros((1, spec.window_length), np.float32)
    seconds = []
    for _ in range(1 + trials):
        began = time.perf_counter()
        predictor(silence)
        seconds.append(time.perf_counter() - began)
    return float(np.median(seconds[1:])) * spec.clock.frame_rate / kept


class Listener:
    """Rows as a decoder decides on them. Iterate over it once; afterwards, `events` are those of the whole recording.

    A row is what `Decoder.live` gives, and `heard`: the seconds of audio that had been heard when it was told.

    Args:
        sound: what to hear.
        predictor: the model.
        decoding: parameters of its decoder.
        kept: frames that are heard together; see `plan`.
        spool: takes all activations, where a file of them is wanted.
    """

    def __init__(
        self,
        sound: Sound,
        predictor: transcription.Predictor,
        decoding: Decoding,
        kept: int,
        spool: PosteriorgramSpool | None = None,
    ) -> None:
        self.events: Any = None
        self._sound, self._predictor, self._kept, self._spool = sound, predictor, kept, spool
        self._decoding, self._decoder = decoding, decoding.start(predictor.manifest.geometry)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Raises AudioError and ModelError as transcription does."""
        # Not the predictor itself: one that works on several batches at once would wait for later ones.
        predict = self._predictor.__call__
        spec = self._predictor.manifest.geometry
        for heads in windowing.posteriorgrams(self._sound, spec, predict, batch_size=1, kept=self._kept):
            self._decoder.push(heads)
            if self._spool is not None:
                self._spool.push(heads)
            yield from self._told()
        yield from self.finish()

    def finish(self) -> list[dict[str, Any]]:
        """Ends here, once; gives the rows that were not told yet. Iterating does so where the sound ends."""
        if self.events is None:
            self.events = self._decoding.within(self._decoder.finish(), self._sound.duration)
        return list(self._told())

    def write(self, output_dir: str | Path, formats: list[Format], recording: Path | None = None) -> None:
        """Writes what was heard as `musicnet transcribe` writes a recording.

        Args:
            output_dir: folder for the files.
            formats: which.
            recording: what was heard, where it is a file that `audio.blocks` decodes.

        Raises:
            OutputError: where a file cannot be written.
        """
        source, model = Path(self._sound.name), self._predictor.manifest.name
        title = Path(transcription.Result(source).name).stem  # printable
        transcript = Transcript(self.events, self._sound.duration, title, model, self._spool, recording)
        for form, path in zip(formats, transcription.outputs(source, output_dir, formats), strict=True):
            form.write(path, transcript)

    def _told(self) -> Iterator[dict[str, Any]]:
        for row in self._decoder.live():
            yield row | {"heard": self._sound.heard}


class Lag:
    """How much sound came and waits to be heard, where it comes as it is played.

    What comes quicker than life, as out of a file, is late for nobody.
    """

    def __init__(self, ahead: ReadAhead, pcm: Pcm) -> None:
        self._ahead, self._pcm = ahead, pcm
        self._told = _LAG_SECONDS / 2

    def seconds(self, heard: float) -> float:
        """Seconds of sound that wait, after `heard` seconds of it were taken."""
        waits = self._pcm.seconds(self._ahead.waiting)
        return waits if heard + waits <= self._ahead.took + _LAG_SECONDS else 0.0

    def grew(self, heard: float) -> float:
        """The lag where it is worth telling, else 0: from a second on, and whenever it has doubled since."""
        lag = self.seconds(heard)
        if lag < _LAG_SECONDS / 2:
            self._told = _LAG_SECONDS / 2
        if lag < 2 * self._told:
            return 0.0
        self._told = lag
        return lag

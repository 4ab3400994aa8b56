"""Recordings in, files of events out: one after the other, in memory that does not grow with their length."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from tqdm import tqdm

from musicnet_tf import audio, files, windowing
from musicnet_tf.decode import Decoding, decoding_of
from musicnet_tf.errors import AudioError, ModelError, MusicNetError, VersionGoneError
from musicnet_tf.manifest import Manifest
from musicnet_tf.registry import DECODERS
from musicnet_tf.writers import Format, PosteriorgramSpool, Transcript, check_formats

MAX_SWAPS = 20
"""How often one recording begins again because a server has let the version of its model go."""


class Predictor(Protocol):
    """A model that can be run: float32 windows → head → activations, as `windowing.Predict`."""

    @property
    def manifest(self) -> Manifest: ...

    def __call__(self, windows: np.ndarray) -> dict[str, np.ndarray]: ...


@dataclasses.dataclass(frozen=True)
class Result:
    """What became of one recording.

    Attributes:
        path: the recording.
        events: how many were found.
        audio_seconds: its length.
        seconds: that it took, once the model was loaded.
        details: what else there is to tell of the events; begins with "; " unless it is empty.
        skipped: whether all outputs were there already.
        error: why there are no outputs, empty where there are.
    """

    path: Path
    events: int = 0
    audio_seconds: float = 0.0
    seconds: float = 0.0
    skipped: bool = False
    error: str = ""
    details: str = ""

    @property
    def name(self) -> str:
        """The path as text that can be printed, also where the file's name is not valid Unicode."""
        return files.printable(self.path)


def find_recordings(paths: Sequence[str | Path]) -> list[Path]:
    """Files as named, and for each folder the audio files directly in it, by name.

    Raises:
        AudioError: where a folder holds no audio, nothing was named, or two recordings would write the
            same outputs, because their names differ in folder or suffix alone.
    """
    found: dict[Path, Path] = {}
    for path in map(Path, paths):
        for recording in _of_folder(path) if path.is_dir() else [path]:
            found.setdefault(recording.resolve(), recording)
    if not found:
        raise AudioError("no recording was named; give audio files, or folders that hold some")
    by_stem: dict[str, Path] = {}
    for path in found.values():
        other = by_stem.setdefault(path.stem, path)
        if other != path:
            raise AudioError(
                f"{other} and {path} would both be written to {path.stem}.*; rename one, or run them apart"
            )
    return list(found.values())


def chosen_formats(task: str, names: Sequence[str] | None = None) -> list[Format]:
    """The kinds of files of a task, by their names; its default ones where none are given.

    Raises:
        ConfigError: where a name is unknown; lists the choices.
    """
    decoding = DECODERS.get(task)
    choices = decoding.formats()
    return [choices[name] for name in check_formats(decoding.default_formats if names is None else names, choices)]


def check_heads(formats: Sequence[Format], manifest: Manifest) -> None:
    """Raises ModelError where a kind of file needs a head that the model lacks."""
    for form in formats:
        if form.head and form.head not in manifest.geometry.heads:
            raise ModelError(
                f"model {manifest.name!r} gives no head {form.head!r}, which {form.suffix} files hold, only"
                f" {', '.join(manifest.geometry.heads)}; choose another model, or leave these files out"
            )


def triage(
    paths: Iterable[str | Path], output_dir: str | Path, formats: Sequence[Format], skip_existing: bool = False
) -> tuple[list[Path], list[Result]]:
    """What there is to do, told without a model: the recordings to transcribe, and those already settled.

    Settled are recordings that cannot be read, going by their header, and with `skip_existing` those
    whose outputs are all there.
    """
    to_do, settled = [], []
    for path in map(Path, paths):
        if skip_existing and all(output.is_file() for output in outputs(path, output_dir, formats)):
            settled.append(Result(path, skipped=True))
            continue
        try:
            audio.probe(path)
            to_do.append(path)
        except AudioError as error:
            settled.append(Result(path, error=str(error)))
    return to_do, settled


def transcribe_batch(
    paths: Iterable[str | Path],
    predictor: Predictor,
    output_dir: str | Path,
    formats: Sequence[Format],
    decode: Callable[[Manifest], Decoding] = decoding_of,
    batch_size: int | None = None,
) -> Iterator[Result]:
    """`transcribe_file` for each, with the decoding that `decode` gives for the model's manifest.

    One that fails has its reason in `Result.error`, and the next goes on. Where the model is on a server that lets
    its version go in the middle of a recording, the recording begins again with the next version.
    """
    for path in map(Path, paths):
        try:
            yield _by_one_version(path, predictor, output_dir, formats, decode, batch_size)
        except MusicNetError as error:
            yield Result(path, error=str(error))


def _by_one_version(
    path: Path,
    predictor: Predictor,
    output_dir: str | Path,
    formats: Sequence[Format],
    decode: Callable[[Manifest], Decoding],
    batch_size: int | None,
) -> Result:
    swaps = 0
    while True:
        try:
            return transcribe_file(path, predictor, output_dir, formats, decode(predictor.manifest), batch_size)
        except VersionGoneError:
            if swaps == MAX_SWAPS:
                raise
            swaps += 1
            predictor.renew()  # type: ignore[attr-defined]  # only predictors on servers raise this, and those have it


def transcribe_file(
    path: str | Path,
    predictor: Predictor,
    output_dir: str | Path,
    formats: Sequence[Format],
    decoding: Decoding | None = None,
    batch_size: int | None = None,
) -> Result:
    """Writes the events of one recording to `output_dir/<stem><suffix>` for each format.

    Args:
        path: of the recording, any audio that `audio.blocks` decodes.
        predictor: the model.
        output_dir: made if need be.
        formats: of the decoding's `formats()`.
        decoding: parameters of the decoder; by default those of the model's manifest.
        batch_size: windows a batch; see `windowing.posteriorgrams`.

    Raises:
        AudioError: where the recording cannot be read.
        OutputError: where the outputs cannot be written.
        ModelError: where the model breaks its promises.
    """
    path, began = Path(path), time.perf_counter()
    files.make_folder(output_dir)
    spec = predictor.manifest.geometry
    decoding = decoding or decoding_of(predictor.manifest)
    clock, decoder = windowing.recording_clock(spec), decoding.start(spec)
    keep = any(form.needs_posteriorgram for form in formats)
    blocks = _Counted(blocks_with_progress(path, clock.sample_rate))
    first_pitch = next(iter(spec.heads.values())).first_pitch
    with PosteriorgramSpool(output_dir, clock, first_pitch) as spool:
        for heads in windowing.posteriorgrams(blocks, spec, predictor, batch_size):
            decoder.push(heads)
            if keep:
                spool.push(heads)
        duration = blocks.samples / clock.sample_rate
        events = decoding.within(decoder.finish(), duration)
        transcript = Transcript(
            events, duration, files.printable(path.stem), predictor.manifest.name, spool if keep else None, path
        )
        for form, output in zip(formats, outputs(path, output_dir, formats), strict=True):
            form.write(output, transcript)
    seconds = time.perf_counter() - began
    return Result(path, decoding.count(events), duration, seconds, details=decoding.details(events))


def _of_folder(folder: Path) -> list[Path]:
    try:
        present = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    except OSError as error:
        raise AudioError(f"{folder}: cannot be listed ({error.strerror})") from error
    found = [path for path in present if path.suffix.lower() in audio.SUFFIXES]
    if not found:
        raise AudioError(
            f"{folder}: holds no audio file ({', '.join(sorted(audio.SUFFIXES))}); subfolders are not read"
        )
    return found


def outputs(path: Path, output_dir: str | Path, formats: Sequence[Format]) -> list[Path]:
    """The files that a recording becomes, one a format."""
    return [Path(output_dir) / f"{path.stem}{form.suffix}" for form in formats]


class _Counted:
    """Blocks of audio, and how many samples of them have passed."""

    def __init__(self, blocks: Iterable[np.ndarray]) -> None:
        self.samples = 0
        self._blocks = blocks

    def __iter__(self) -> Iterator[np.ndarray]:
        for block in self._blocks:
            self.samples += len(block)
            yield block


def blocks_with_progress(path: Path, sample_rate: int) -> Iterator[np.ndarray]:
    """The recording's blocks, as `audio.blocks` gives them, shown as seconds of audio where somebody watches."""
    total, name = audio.probe(path).duration, files.printable(path.name)
    with tqdm(total=total and round(total), desc=name, unit="s", disable=None, leave=False) as bar:
        for block in audio.blocks(path, sample_rate):
            yield block
            bar.update(len(block) / sample_rate)

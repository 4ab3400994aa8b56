"""Runs one transcriber over recordings, in whatever environment has it: `python -I driver.py JOB.json`.

It needs the standard library and the transcriber alone, and imports nothing of this project but for our own models.
Of each recording it writes the notes (`<id>.csv`: onset, offset, pitch, velocity) and, last, what hearing it took
(`<id>.json`), so that one without the other is known to be unfinished; and prints `heard <id>`. What it loads and
how long that takes goes to `system.json`. The three parts of the work are timed apart: reading (decoding of the file
and resampling), inference (samples → activations) and decoding (activations → notes).
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import sys
import time
import types
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
COLUMNS = ("onset", "offset", "pitch", "velocity")


class Listener(NamedTuple):
    """A transcriber, loaded.

    Attributes:
        parameters: of its network; 0 where it does not tell.
        told: how it runs, for the reader of the table.
        read: path of a WAV → samples at its own rate.
        infer: samples → activations.
        decode: activations → rows of onset, offset (seconds), MIDI pitch and velocity; or of what else it hears.
    """

    parameters: int
    told: str
    read: Callable[[str], Any]
    infer: Callable[[Any], Any]
    decode: Callable[[Any], Iterable[tuple[float, ...]]]


def basic_pitch(model: str) -> Listener:
    """Basic Pitch on ONNX Runtime, with its own defaults but for the threads, which it leaves to the runtime's guess.

    It reads files itself, in the midst of inference: what is read before is put in the place of that.
    """
    import functools

    import librosa
    import onnxruntime
    from basic_pitch import FilenameSuffix, build_icassp_2022_model_path, inference, note_creation
    from basic_pitch.constants import AUDIO_SAMPLE_RATE, FFT_HOP

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    inference.ort.InferenceSession = functools.partial(onnxruntime.InferenceSession, sess_options=options)
    loaded = inference.Model(build_icassp_2022_model_path(FilenameSuffix.onnx))
    read = librosa.load
    shortest = round(0.12770 * AUDIO_SAMPLE_RATE / FFT_HOP)

    def infer(samples: Any) -> Any:
        inference.librosa.load = lambda *_, **__: (samples, AUDIO_SAMPLE_RATE)
        return inference.run_inference("", loaded)

    def decode(activations: Any) -> Iterable[tuple[float, float, int, int]]:
        _, events = note_creation.model_output_to_notes(
            activations, onset_thresh=0.5, frame_thresh=0.3, min_note_len=shortest
        )
        return [(event[0], event[1], event[2], round(127 * event[3])) for event in events]

    told = f"onnxruntime {importlib.metadata.version('onnxruntime')}, float32"
    return Listener(16782, told, lambda path: read(path, sr=AUDIO_SAMPLE_RATE, mono=True)[0], infer, decode)


def harmonica(model: str) -> Listener:
    """Harmonica of a size; in bfloat16, as it comes, where the processor computes in it, else in float32."""
    import torch
    from harmonica import Harmonica
    from harmonica.data import read_audio
    from harmonica.decoding import decode as notes_of

    torch.set_num_threads(THREADS)
    if not computes_in_bfloat16():
        torch.autocast = lambda *_, **__: contextlib.nullcontext()
    loaded = Harmonica(model, device="cpu")

    def decode(heads: Any) -> Iterable[tuple[float, float, int, int]]:
        thresholds = loaded.onset_threshold, loaded.frame_threshold
        notes = notes_of(heads["onset"], heads["sustain"], loaded.frames_per_second, *thresholds, heads.get("velocity"))
        return zip(notes.onsets, notes.offsets, notes.pitches, notes.velocities, strict=True)

    told = f"torch {torch.__version__}, {'bfloat16' if computes_in_bfloat16() else 'float32'}"
    return Listener(
        sum(weights.numel() for weights in loaded.model.parameters()),
        told,
        lambda path: read_audio(path, loaded.sample_rate),
        lambda samples: loaded.activations(samples, loaded.sample_rate),
        decode,
    )


def transkun(model: str) -> Listener:
    """Transkun as its command line runs it. It decodes segment by segment, so that inference holds decoding.

    It asks torchaudio for mel filters, which its weights hold as well and then replace: zeros do in the meantime.
    """
    import moduleconf
    import soxr
    import torch
    import transkun as package
    from transkun.transcribe import readAudio

    torch.set_num_threads(THREADS)
    torch.set_grad_enabled(False)
    mel = types.SimpleNamespace(melscale_fbanks=lambda n_freqs, n_mels, **_: torch.zeros(n_freqs, n_mels))
    sys.modules["torchaudio"] = types.SimpleNamespace(functional=mel)  # type: ignore[assignment]
    folder = Path(package.__file__).parent / "pretrained"
    configured = moduleconf.parseFromFile(str(folder / f"{model}.conf"))["Model"]
    loaded = configured.module.TransKun(conf=configured.config)
    stored = torch.load(folder / f"{model}.pt", map_location="cpu", weights_only=False)
    missing, _ = loaded.load_state_dict(stored.get("best_state_dict", stored.get("state_dict")), strict=False)
    if any("freq2mels" in name for name in missing):
        raise RuntimeError("its weights hold no mel filters")
    loaded.eval()

    def read(path: str) -> Any:
        rate, samples = readAudio(path)
        return samples if rate == loaded.fs else soxr.resample(samples, rate, loaded.fs)

    def decode(notes: Any) -> Iterable[tuple[float, float, int, int]]:
        return [(note.start, note.end, note.pitch, note.velocity) for note in notes if note.pitch > 0]  # no pedals

    return Listener(
        sum(weights.numel() for weights in loaded.parameters()),
        f"torch {torch.__version__}, float32; its decoding is in its inference",
        read,
        lambda samples: loaded.transcribe(torch.from_numpy(samples), discardSecondHalf=False),
        decode,
    )


def ours(model: str) -> Listener:
    """A model of this project: a shipped one by name, or a folder."""
    from musicnet_tf import audio, inference, windowing
    from musicnet_tf.decode import decoding_of

    predictor = inference.load(model)
    manifest, spec = predictor.manifest, predictor.manifest.geometry
    decoding = decoding_of(manifest, "notes")

    def decode(heads: Any) -> Iterable[tuple[float, float, int, int]]:
        decoder = decoding.start(spec)
        decoder.push(heads)
        return [note[:4] for note in decoder.finish()]

    return Listener(
        manifest.num_parameters,
        f"musicnet_tf {importlib.metadata.version('musicnet_tf')}",
        lambda path: audio.load(path, spec.clock.sample_rate),
        lambda samples: windowing.posteriorgram(samples, spec, predictor),
        decode,
    )


LISTENERS: dict[str, Callable[[str], Listener]] = {
    "basic_pitch": basic_pitch,
    "harmonica": harmonica,
    "transkun": transkun,
    "ours": ours,
}


def computes_in_bfloat16(cpuinfo: str = "/proc/cpuinfo") -> bool:
    """Whether the processor has instructions for bfloat16; without, PyTorch imitates it, many times slower."""
    try:
        words = set(Path(cpuinfo).read_text(encoding="utf-8").split())
    except OSError:
        return False
    return bool({"avx512_bf16", "amx_bf16"} & words)


def hear(listener: Listener, path: str) -> tuple[list[tuple[float, ...]], dict[str, float]]:
    """The rows of a recording in order, and wall-clock seconds of each part; `cpu_seconds` are those of inference."""
    start = time.perf_counter()
    samples = listener.read(path)
    read, cpu = time.perf_counter(), time.process_time()
    activations = listener.infer(samples)
    inferred, cpu = time.perf_counter(), time.process_time() - cpu
    rows = sorted(tuple(row) for row in listener.decode(activations))
    ended = time.perf_counter()
    took = {"read": read - start, "inference": inferred - read, "cpu_seconds": cpu, "decoding": ended - inferred}
    return rows, {name: round(seconds, 5) for name, seconds in took.items()}


def run(
    job: dict[str, Any],
    load: Callable[[str], Listener],
    table: Callable[[Iterable[tuple[float, ...]]], str] | None = None,
) -> None:
    """Loads the transcriber, hears `warm_up` once for nothing, then every recording of the job.

    Args:
        job: as `systems.run` writes it.
        load: name of a model → what hears by it.
        table: rows → text of a file; `as_csv` by default.
    """
    folder = Path(job["folder"])
    listener = load(job["model"])
    loaded = time.time()
    hear(listener, job["warm_up"])
    system = {"parameters": listener.parameters, "told": listener.told, "threads": THREADS}
    system |= {"start_up": round(loaded - job["launched"], 3), "warm_up": round(time.time() - loaded, 3)}
    system |= {"load": round(os.getloadavg()[0], 2)}
    write(folder / "system.json", json.dumps(system, indent=2))
    for recording in job["recordings"]:
        rows, took = hear(listener, recording["audio"])
        target = folder / recording["id"]
        write(target.with_name(f"{target.name}.csv"), (table or as_csv)(rows))
        told = {**took, "seconds": recording["seconds"], "identity": recording["identity"]}
        write(target.with_name(f"{target.name}.json"), json.dumps(told, indent=2))
        print(f"heard {recording['id']}", flush=True)


def as_csv(rows: Iterable[tuple[float, ...]]) -> str:
    """Notes; times in seconds to 10 µs."""
    lines = [",".join(COLUMNS)]
    lines += [f"{float(on):.5f},{float(off):.5f},{int(pitch)},{int(loud)}" for on, off, pitch, loud in rows]
    return "\n".join(lines) + "\n"


def write(path: Path, text: str) -> None:
    """A whole file or none. As `musicnet_tf.files.write_text`, which a peer's environment does not have."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


if __name__ == "__main__":
    work = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    run(work, LISTENERS[work["kind"]])

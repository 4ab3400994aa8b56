"""Repeats found and falsely found: performances of ASAP against scores that have a repeat more or less.

    python -m benchmarks.alignment_repeats --asap=FOLDER --cache=FOLDER [--set=report]

Each performance is played on one soundfont in a room with noise, each score on another, as the aligner does. Of a
piece that the score writes a strain of twice, one of the two is taken out, of the score or of the recording in
turn; of others, a span from bar line to bar line is doubled on one side. Spans are chosen by the hash of the
piece's name.

A change is found where it alone is told, as what it is, within a bar or two seconds of where it is, in the score
and in the recording. A clean pair is flagged by any finding of a repeat or of music that is not on both sides.

A piece is left out, and the next taken, where the annotations tell that the performer skips some of the score,
since neither "clean" nor one planted change is then the truth: where its annotated beats go through 5 s of the
score in less than a fifth of the time that the tempo of the whole takes, or where, for 5 s of the score, none of
20 notes or more is in the performance. This is decided by the truth alone, never by what is found.

What is measured is the search for structure and what is told of it, without the warping that follows.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from absl import app, flags

from benchmarks import alignment_truth as truth
from musicnet_tf import audio, files, scores
from musicnet_tf.alignment import aligner, judgement, low_rate, structure
from musicnet_tf.alignment.result import Finding, Segment
from musicnet_tf.events import Notes, Score

SCORE_FONT = "MuseScore_General_Full.sf3"
MIN_BARS, MAX_BARS, MIN_SECONDS = 8, 32, 10.0
SKIPPED_SECONDS, SKIPPED_TEMPO, SKIPPED_NOTES = 5.0, 5.0, 20
FLAGS = ("repeat_added", "repeat_left_out", "passage_left_out", "passage_unmatched", "wrong_piece")


class Change(NamedTuple):
    """One side of a pair has the span twice, the other once.

    Attributes:
        side: which is changed.
        twice: whether the change doubles the span; otherwise it takes out the second of two.
        start, stop: seconds of that side.
        jump: seconds of the score, as it then is, that the player leaves and goes to.
        time: seconds of the recording, as it then is, at which that happens.
        written: whether the score itself wrote the span twice.
    """

    side: Literal["score", "recording"]
    twice: bool
    start: float
    stop: float
    jump: tuple[float, float]
    time: float
    written: bool

    @property
    def kind(self) -> structure.JumpKind:
        """What the performer does, as seen from the score."""
        return "repeat_left_out" if self.jump[1] > self.jump[0] else "repeat_added"


def _seed(text: str) -> np.random.Generator:
    return np.random.default_rng(int(hashlib.sha256(text.encode()).hexdigest()[:16], 16))


def downbeats(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Seconds of all beats in an annotation file of ASAP, and which of them are downbeats."""
    rows = [line.split("\t") for line in path.read_text().splitlines() if line.strip()]
    return np.array([float(row[0]) for row in rows]), np.array([row[2].split(",")[0] == "db" for row in rows])


def skips(score_beats: np.ndarray, beats: np.ndarray, onset: np.ndarray, played: np.ndarray) -> bool:
    """Whether the performer skips some of the score, by beats or by notes.

    Args:
        score_beats, beats: seconds of the same beats of the score and of the recording.
        onset: seconds of the score's notes, ascending.
        played: when each was played, NaN where it was not.
    """
    begins = score_beats[score_beats + SKIPPED_SECONDS <= score_beats[-1]]
    took = np.interp(begins + SKIPPED_SECONDS, score_beats, beats) - np.interp(begins, score_beats, beats)
    usual = SKIPPED_SECONDS * (beats[-1] - beats[0]) / (score_beats[-1] - score_beats[0])
    if (took * SKIPPED_TEMPO < usual).any():
        return True
    edges = np.flatnonzero(np.diff(np.isnan(played), prepend=False, append=False))
    return any(
        stop - start >= SKIPPED_NOTES and onset[stop - 1] - onset[start] >= SKIPPED_SECONDS
        for start, stop in zip(edges[::2], edges[1::2], strict=True)
    )


def _plays_it_all(entry: truth.Entry) -> bool:
    pair = truth.read_asap(entry)
    beats = truth.read_beats(entry.score_beats), truth.read_beats(entry.beats)
    return not skips(*beats, pair.score.notes.onset, pair.truth)


def written_repeats(notes: Notes, bars: np.ndarray) -> list[tuple[int, int]]:
    """Spans of bars `(first, length)` that come again at once, note for note in onset and pitch; longest first."""
    content: list[bytes] = []
    for start, stop in itertools.pairwise(bars):
        inside = (notes.onset >= start - 1e-3) & (notes.onset < stop - 1e-3)
        rows = np.stack([np.round((notes.onset[inside] - start) * 50), notes.pitch[inside]], axis=1)
        content.append(rows[np.lexsort(rows.T)].tobytes())
    found = []
    for length in range(len(content) // 2, MIN_BARS - 1, -1):
        for first in range(len(content) - 2 * length + 1):
            # The last bar may differ: a second ending.
            same = [content[first + k] == content[first + length + k] for k in range(length)]
            if all(same[:-1]) and len(set(content[first : first + length])) > length // 2:
                found.append((first, length))
    return found


def choose(entry: truth.Entry, notes: Notes, index: int) -> Change | None:
    """The change to one piece, None where it is too short; even ones leave a repeat out, odd ones add one."""
    score_beats, is_bar = downbeats(entry.score_beats)
    beats, _ = downbeats(entry.beats)
    bars, played = score_beats[is_bar], beats[is_bar]
    left_out = index % 2 == 0
    repeats = written_repeats(notes, bars)
    repeats = [r for r in repeats if played[r[0] + r[1]] - played[r[0]] >= MIN_SECONDS]
    if repeats:
        first, length = repeats[0]
        a, b, c = first, first + length, first + 2 * length
        c = min(c, len(bars) - 1)
        if left_out:
            return Change("recording", False, played[b], played[c], (bars[b], bars[c]), played[b], True)
        return Change("score", False, bars[b], bars[c], (bars[b], bars[a]), played[b], True)
    rng = _seed(entry.id)
    lengths = [n for n in range(MIN_BARS, MAX_BARS + 1, 4) if n + 4 <= len(bars)]
    for _ in range(100 if lengths else 0):
        length = int(rng.choice(lengths))
        a = int(rng.integers(0, len(bars) - length))
        b = a + length
        if played[b] - played[a] >= MIN_SECONDS and bars[b] - bars[a] >= MIN_SECONDS / 2:
            if left_out:
                end = 2 * bars[b] - bars[a]
                return Change("score", True, bars[a], bars[b], (bars[b], end), played[b], False)
            return Change("recording", True, played[a], played[b], (bars[b], bars[a]), played[b], False)
    return None


def change_score(score: Score, change: Change) -> Score:
    """The score with the span once more, or without it."""
    start, stop = change.start, change.stop
    length = stop - start
    before = score.notes[score.notes.onset < stop - 1e-3] if change.twice else _until(score.notes, start)
    after = score.notes[score.notes.onset >= (start if change.twice else stop) - 1e-3]
    shift = length if change.twice else -length
    bars = score.measures
    kept = bars[bars < (stop if change.twice else start) - 1e-3]
    later = bars[bars >= (start if change.twice else stop) - 1e-3] + shift
    return Score(Notes.concatenate([before, after.shift(shift)]), np.concatenate([kept, later]))


def _until(notes: Notes, stop: float) -> Notes:
    notes = notes[notes.onset < stop - 1e-3]
    return scores.with_columns(notes, offset=np.minimum(notes.offset, stop))


def change_recording(sound: np.ndarray, sample_rate: int, change: Change) -> np.ndarray:
    """The recording cut and joined, with a short cross-fade."""
    start, stop = round(change.start * sample_rate), round(change.stop * sample_rate)
    first, second = (sound[:stop], sound[start:]) if change.twice else (sound[:start], sound[stop:])
    fade = min(round(0.02 * sample_rate), len(first), len(second))
    ramp = np.linspace(0, 1, fade, dtype=np.float32)
    joint = first[len(first) - fade :] * (1 - ramp) + second[:fade] * ramp
    return np.concatenate([first[: len(first) - fade], joint, second[fade:]])


def features(path: Path, sound: Callable[[], tuple[np.ndarray, int]]) -> np.ndarray:
    """Low-rate features of a sound, computed once."""
    if not path.is_file():
        with files.atomic(path) as part, part.open("wb") as file:
            np.save(file, low_rate.low_rate_features(*sound()))
    return np.load(path, allow_pickle=False)


class Result(NamedTuple):
    """What was found of a pair.

    Attributes:
        jumps: that were found, in the score's own seconds.
        told: findings that say that the two sides do not hold the same music.
        bar, played_bar: usual seconds of a measure, of the score and of the recording.
        cost: of the path, against random.
        seconds: that the search took.
    """

    name: str
    change: Change | None
    jumps: tuple[structure.Jump, ...]
    told: tuple[Finding, ...]
    bar: float
    played_bar: float
    cost: float
    seconds: float

    @property
    def right(self) -> bool:
        """Whether nothing but the truth is told: no jump, or the true one."""
        if self.change is None:
            return not self.told
        if len(self.told) != 1 or len(self.jumps) != 1:
            return False
        (jump,) = self.jumps
        wanted = self.change
        far = np.abs(np.subtract((jump.start, jump.stop), wanted.jump)).max()
        late = abs(jump.time - wanted.time)
        return jump.kind == wanted.kind and far <= max(2.0, self.bar) and late <= max(2.0, self.played_bar)


def run(entry: truth.Entry, cache: Path, change_index: int | None) -> Result | None:
    """One pair, clean or changed; None where the piece is too short to be changed."""
    score = scores.read_score(entry.score)
    change = choose(entry, score.notes, change_index) if change_index is not None else None
    if change_index is not None and change is None:
        return None
    name = entry.id if change is None else f"{entry.id}.changed{change_index % 2}"  # type: ignore[operator]
    performance = truth.Pair(
        entry.id, "", "", score, scores.read_midi(entry.performance, sustain=True), np.zeros(len(score.notes))
    )

    @functools.cache
    def recording() -> np.ndarray:
        loaded = audio.load(truth.render(performance, cache), truth.SAMPLE_RATE)
        return change_recording(loaded, truth.SAMPLE_RATE, change) if change and change.side == "recording" else loaded

    heard = features(cache / f"{name}.recording.npy", lambda: (recording(), truth.SAMPLE_RATE))
    duration = (len(heard) - 1) / low_rate.FRAME_RATE
    if change is not None and change.side == "score":
        score = change_score(score, change)
    stretch = duration / score.notes.end

    def synthesised() -> tuple[np.ndarray, int]:
        rate = aligner._SYNTHESIS_RATE
        played = aligner._synthesise(score.notes, stretch, truth.soundfont(SCORE_FONT))
        return played[round(aligner.PAD_SECONDS * rate) :], rate

    written = features(cache / f"{name}.score.npy", synthesised)
    started = time.perf_counter()
    found = structure.find_segments(
        heard, written, low_rate.FRAME_RATE, barlines=score.measures * stretch, jumps=score.jumps * stretch
    )
    seconds = time.perf_counter() - started
    segments = tuple(Segment(start / stretch, stop / stretch) for start, stop in found.segments)
    told = judgement.findings(found, score, segments, stretch, recording(), truth.SAMPLE_RATE, True)
    beats, is_bar = downbeats(entry.beats)
    return Result(
        entry.id,
        change,
        tuple(jump._replace(start=jump.start / stretch, stop=jump.stop / stretch) for jump in found.jumps),
        tuple(finding for finding in told if finding.kind in FLAGS),
        float(np.median(np.diff(score.measures))) if len(score.measures) > 1 else 2.0,
        float(np.median(np.diff(beats[is_bar]))) if is_bar.sum() > 1 else 2.0,
        judgement.contrast(found, duration),
        seconds,
    )


def show(result: Result) -> None:
    """One line, and one for each thing told."""
    truly = "clean"
    if (change := result.change) is not None:
        origin = "written" if change.written else "made"
        truly = f"{change.kind} {change.jump[0]:.1f}->{change.jump[1]:.1f} at {change.time:.1f} ({origin})"
    print(
        f"{'ok ' if result.right else 'BAD'} {result.name}: {truly};"
        f" contrast {result.cost:.2f}, {result.seconds:.1f} s",
        flush=True,
    )
    for jump in result.jumps:
        print(
            f"      {jump.kind} {jump.start:.1f}->{jump.stop:.1f} at {jump.time:.1f}, gain {jump.gain:.1f}", flush=True
        )
    for finding in result.told:
        print(f"      {finding.message}", flush=True)


def define_flags() -> None:
    """The command line. Importing the module defines no flag: one process has a single set of them."""
    flags.DEFINE_string("asap", None, "Folder of ASAP.", required=True)
    flags.DEFINE_string("cache", None, "Folder for what is rendered and computed.", required=True)
    flags.DEFINE_enum("set", "report", ["report", "development"], "Which pieces.")
    flags.DEFINE_integer("clean", 40, "Clean pairs.")
    flags.DEFINE_integer("changed", 20, "Pairs with a repeat taken out or put in.")


def main(argv: list[str]) -> None:
    """Prints each pair and the two counts."""
    cache = Path(flags.FLAGS.cache)
    cache.mkdir(parents=True, exist_ok=True)
    entries = truth.select(truth.asap_entries(Path(flags.FLAGS.asap)))[flags.FLAGS.set]
    entries = sorted(entries, key=lambda entry: hashlib.sha256(entry.id.encode()).hexdigest())
    usable = [entry for entry in entries if _plays_it_all(entry)]
    print(f"left out, since the performer skips some of the score: {len(entries) - len(usable)} of {len(entries)}")
    clean = []
    for entry in usable[: flags.FLAGS.clean]:
        clean.append(run(entry, cache, None))
        show(clean[-1])  # type: ignore[arg-type]
    changed: list[Result] = []
    for entry in usable:
        if len(changed) >= flags.FLAGS.changed:
            break
        result = run(entry, cache, len(changed))
        if result is not None:
            changed.append(result)
            show(result)
    print(f"repeats found: {sum(r.right for r in changed)} of {len(changed)}")
    print(f"clean pairs flagged: {sum(not r.right for r in clean if r)} of {len(clean)}")


if __name__ == "__main__":
    define_flags()
    app.run(main)

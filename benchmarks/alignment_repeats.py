"""Repeats found and falsely found: performances of ASAP against scores that have a repeat more or less.

    python -m benchmarks.alignment_repeats --asap=FOLDER --cache=FOLDER [--set=report]

Each performance is played on one soundfont in a room with noise, each score on another. Of a piece that the
score writes a strain of twice, one of the two is taken out, of the score or of the recording in turn; of
others, a span from bar line to bar line is doubled on one side. Spans are chosen by the hash of the piece's name.
"""

from __future__ import annotations

import hashlib
import itertools
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from absl import app, flags

from benchmarks import alignment_truth as truth
from musicnet_tf import audio, scores, synthesis
from musicnet_tf.alignment import low_rate, structure
from musicnet_tf.events import Notes, Score

SCORE_FONT = "MuseScore_General_Full.sf3"
MIN_BARS, MAX_BARS, MIN_SECONDS = 8, 32, 10.0


class Change(NamedTuple):
    """One side of a pair has the span twice, the other once.

    Attributes:
        side: which is changed.
        twice: whether the change doubles the span; otherwise it takes out the second of two.
        start, stop: seconds of that side.
        jump: seconds of the score, as it then is, that the player leaves and goes to.
        written: whether the score itself wrote the span twice.
    """

    side: Literal["score", "recording"]
    twice: bool
    start: float
    stop: float
    jump: tuple[float, float]
    written: bool


def _seed(text: str) -> np.random.Generator:
    return np.random.default_rng(int(hashlib.sha256(text.encode()).hexdigest()[:16], 16))


def downbeats(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Seconds of all beats in an annotation file of ASAP, and which of them are downbeats."""
    rows = [line.split("\t") for line in path.read_text().splitlines() if line.strip()]
    return np.array([float(row[0]) for row in rows]), np.array([row[2].split(",")[0] == "db" for row in rows])


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
            return Change("recording", False, played[b], played[c], (bars[b], bars[c]), True)
        return Change("score", False, bars[b], bars[c], (bars[b], bars[a]), True)
    rng = _seed(entry.id)
    lengths = [n for n in range(MIN_BARS, MAX_BARS + 1, 4) if n + 4 <= len(bars)]
    for _ in range(100 if lengths else 0):
        length = int(rng.choice(lengths))
        a = int(rng.integers(0, len(bars) - length))
        b = a + length
        if played[b] - played[a] >= MIN_SECONDS and bars[b] - bars[a] >= MIN_SECONDS / 2:
            if left_out:
                end = 2 * bars[b] - bars[a]
                return Change("score", True, bars[a], bars[b], (bars[b], end), False)
            return Change("recording", True, played[a], played[b], (bars[b], bars[a]), False)
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


def features(cache: Path, name: str, sound) -> np.ndarray:  # type: ignore[no-untyped-def]
    """Low-rate features of a sound, computed once."""
    path = cache / f"{name}.features.npy"
    if not path.is_file():
        np.save(path, low_rate.low_rate_features(sound(), truth.SAMPLE_RATE))
    return np.load(path)


def play(cache: Path, name: str, score: Score) -> np.ndarray:
    """The score played, from a file where it was rendered before."""
    path = cache / f"{name}.flac"
    if not path.is_file():
        sound = synthesis.render(score.notes, truth.soundfont(SCORE_FONT), truth.SAMPLE_RATE)
        sound = sound * (0.7 / max(1e-9, float(np.abs(sound).max())))
        path.write_bytes(audio.encode(sound, truth.SAMPLE_RATE, "flac"))
    return audio.load(path)


class Result(NamedTuple):
    """What was found of a pair."""

    name: str
    change: Change | None
    found: structure.Structure
    bar: float

    @property
    def right(self) -> bool:
        """Whether the one jump is the true one, within a bar or two seconds at both ends."""
        if self.change is None:
            return not self.found.jumps
        wanted = np.array(self.change.jump)
        return len(self.found.jumps) == 1 and bool(
            np.abs(np.array(self.found.jumps[0][1:3]) - wanted).max() <= max(2.0, self.bar)
        )


def run(entry: truth.Entry, cache: Path, change_index: int | None) -> Result | None:
    """One pair, clean or changed."""
    score = scores.read_score(entry.score)
    change = choose(entry, score.notes, change_index) if change_index is not None else None
    if change_index is not None and change is None:
        return None
    recording_name = score_name = entry.id

    def sound() -> np.ndarray:
        pair = truth.Pair(
            entry.id, "", "", score, scores.read_midi(entry.performance, sustain=True), np.zeros(len(score.notes))
        )
        loaded = audio.load(truth.render(pair, cache), truth.SAMPLE_RATE)
        return change_recording(loaded, truth.SAMPLE_RATE, change) if change and change.side == "recording" else loaded

    if change is not None and change.side == "recording":
        recording_name = f"{entry.id}.changed{change_index % 2}"  # type: ignore[operator]
    if change is not None and change.side == "score":
        score, score_name = change_score(score, change), f"{entry.id}.changed{change_index % 2}"  # type: ignore[operator]
    recording = features(cache, recording_name, sound)
    played = features(cache, f"{score_name}.score", lambda: play(cache, f"{score_name}.score", score))
    found = structure.find_segments(recording, played, low_rate.FRAME_RATE, barlines=score.measures)
    bar = float(np.median(np.diff(score.measures))) if len(score.measures) > 1 else 2.0
    return Result(entry.id, change, found, bar)


def show(result: Result) -> None:
    """One line, and one for each jump."""
    found, change = result.found, result.change
    told = (
        "clean"
        if change is None
        else (
            f"{'left out' if change.jump[1] > change.jump[0] else 'added'} {change.jump[0]:.1f}->{change.jump[1]:.1f}"
            f" ({'written' if change.written else 'made'})"
        )
    )
    print(
        f"{'ok ' if result.right else 'BAD'} {result.name}: {told};"
        f" cost {found.cost / found.random_cost:.2f} of random, tempo {found.tempo:.2f},"
        f" music {found.music[0]:.1f}-{found.music[1]:.1f}"
        f", score {found.segments[0].start:.1f}-{found.segments[-1].stop:.1f}",
        flush=True,
    )
    for jump in found.jumps:
        print(
            f"      {jump.kind} {jump.start:.1f}->{jump.stop:.1f} at {jump.time:.1f} gain {jump.gain:.1f}", flush=True
        )


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
    clean = []
    for entry in entries[: flags.FLAGS.clean]:
        clean.append(run(entry, cache, None))
        show(clean[-1])  # type: ignore[arg-type]
    changed: list[Result] = []
    for entry in entries:
        if len(changed) >= flags.FLAGS.changed:
            break
        result = run(entry, cache, len(changed))
        if result is not None:
            changed.append(result)
            show(result)
    print(f"repeats found at the right bars: {sum(r.right for r in changed)} of {len(changed)}")
    print(f"clean pairs flagged: {sum(not r.right for r in clean if r)} of {len(clean)}")


if __name__ == "__main__":
    define_flags()
    app.run(main)

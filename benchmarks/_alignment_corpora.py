"""Pairs with known truth beside ASAP: Vienna 4x22, and real recordings of Bach10, MusicNet and MAPS."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks import _alignment_matching as matching
from benchmarks.alignment_truth import Entry, Pair, asap_entries
from musicnet_tf import scores
from musicnet_tf.errors import ScoreError
from musicnet_tf.events import Notes, Score
from musicnet_tf.works import read_metadata

_STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_ALTERATIONS = {"n": 0, "#": 1, "##": 2, "x": 2, "b": -1, "bb": -2}
_SCORE_NOTE = re.compile(
    r"snote\([^,]+,\[([A-G]),([^\]]*)\],(-?\d+),\d+:\d+,[^,]*,[^,]*,(-?[\d.]+),(-?[\d.]+),\[([^\]]*)\]\)"
    r"-(?:note\([^,]+,(\d+),(\d+),|deletion)"
)
_QUARTER_SECONDS = 0.5
_GRACE_SECONDS = 0.1

VIENNA_WORKS = {
    "Chopin_op10_no3": ("Chopin", "Etudes_op_10_3"),
    "Chopin_op38": ("Chopin", "Ballades_2"),
    "Mozart_K331_1st-mov": ("Mozart", "Piano_Sonatas_11-1"),
    "Schubert_D783_no15": ("Schubert", "German_Dances_D.783_15"),
}

MAPS_SCORES = {
    "chpn_op25_e4": "Chopin-Etudes_op_25-4",
    "pathetique_3": "Beethoven-Piano_Sonatas-8-3",
    "schub_d760_3": "Schubert-Wanderer_fantasie",
    "scn16_3": "Schumann-Kreisleriana-3",
}
"""Pieces of MAPS of which ASAP has the score; of D 760 MAPS has the third movement alone."""

MUSICNET_SCORES = {
    "musicnet-2195": "Bach-Fugue-bwv_848",
    "musicnet-2196": "Bach-Prelude-bwv_848",
    "musicnet-2212": "Bach-Prelude-bwv_857",
    "musicnet-2215": "Bach-Fugue-bwv_846",
    "musicnet-2231": "Bach-Fugue-bwv_866",
    "musicnet-2247": "Bach-Fugue-bwv_854",
}
"""Training recordings of MusicNet of which ASAP has the score."""

_MIN_MATCHED = 0.8
_EPSILON = 1e-6
_TAP_SECONDS = 0.02


def read_match(path: Path) -> tuple[Notes, np.ndarray]:
    """The score of a match file at 120 quarter notes a minute, and seconds at which each note was played or NaN.

    The notes of the score are in quarter notes from its first; a grace note stands at the beat of its main note and
    lasts a tenth of a second.

    Raises:
        ScoreError: naming the line that is no note of a match file of version 1.0.
    """
    text = path.read_text(encoding="utf-8")
    clock = [re.search(rf"info\({name},(\d+)\)", text) for name in ("midiClockUnits", "midiClockRate")]
    signature = re.search(r"timeSignature,\d+/(\d+)", text)
    if not all(clock) or signature is None:
        raise ScoreError(f"{path}: not a match file of version 1.0 (no midiClockUnits or no timeSignature)")
    tick = int(clock[1][1]) / int(clock[0][1]) * 1e-6  # type: ignore[index]
    quarters = 4 / int(signature[1])
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("snote"):
            found = _SCORE_NOTE.match(line)
            if found is None or found[2] not in _ALTERATIONS:
                raise ScoreError(f"{path}, line {number}: not a note of a match file: {line[:80]!r}")
            step, alteration, octave, first, last, _, _, onset = found.groups()
            pitch = _STEPS[step] + _ALTERATIONS[alteration] + 12 * (int(octave) + 1)
            seconds = np.nan if onset is None else int(onset) * tick
            rows.append((float(first) * quarters, float(last) * quarters, pitch, seconds))
    start, stop, pitch, truth = np.array(rows).T
    start, stop = start - start.min(), stop - start.min()
    order = np.lexsort((pitch, start))
    start, stop, pitch = start[order], stop[order], pitch[order].astype(np.int64)
    onset = start * _QUARTER_SECONDS
    offset = np.maximum(stop * _QUARTER_SECONDS, onset + _GRACE_SECONDS * (stop <= start))
    zero = np.zeros(len(onset), np.int64)
    return Notes(onset, offset, pitch, None, zero, start, stop - start), truth[order]  # type: ignore[arg-type]


def vienna(root: Path, performances: int = 22) -> list[Pair]:
    """The first performances of each of the four pieces; truth is that of the match files."""
    pairs = []
    for piece, (composer, work) in VIENNA_WORKS.items():
        for number in range(1, performances + 1):
            name = f"{piece}_p{number:02d}"
            notes, truth = read_match(root / "match" / f"{name}.match")
            performance = scores.read_midi(root / "midi" / f"{name}.mid", sustain=True)
            pairs.append(Pair(f"vienna-{name}", composer, work, Score(notes), performance, truth))
    return pairs


class Check(NamedTuple):
    """How well notes are matched about beats: of `notes` that were played, `wrong` by more than 20 ms, `missed`."""

    notes: int
    wrong: int
    missed: int


def check_matching(root: Path) -> Check:
    """The method by which the truth of ASAP is found, against the published matches of Vienna 4x22.

    Beats are the mean of what was played on each quarter note of the score, with a deviation of 20 ms, as of a
    person who taps. Grace notes, which have no length in the score, are left out: beats tell little of them.
    """
    rng = np.random.default_rng(0)
    counts = np.zeros(3, np.int64)
    for path in sorted((root / "match").glob("*.match")):
        notes, played = read_match(path)
        known = np.isfinite(played)
        plain = notes.end_beat > 0
        on_beat = known & plain & (np.abs(notes.start_beat - np.round(notes.start_beat)) < _EPSILON)
        written = np.unique(notes.onset[on_beat])
        beats = np.array([played[on_beat & (notes.onset == second)].mean() for second in written])
        beats += rng.normal(0, _TAP_SECONDS, len(beats))
        found = matching.match(notes.onset, notes.pitch, played[known], notes.pitch[known], written, beats)
        told = np.where(found >= 0, played[known][found], np.nan)
        with np.errstate(invalid="ignore"):
            wrong = np.abs(told - played) > _TAP_SECONDS
        counts += [np.sum(part & known & plain) for part in (True, wrong, found < 0)]
    return Check(*counts.tolist())


def bach10(root: Path) -> list[Pair]:
    """The chorales; the score is the MIDI file. Its text file gives the beats, as tapped, the CSV file the notes."""
    pairs = []
    for path in sorted(root.glob("??-*.mid")):
        score = scores.read_score(path)
        tapped, written = np.loadtxt(path.with_suffix(".txt"), dtype=np.float64, ndmin=2)[:, :2].T / 1000
        labels = scores.read_musicnet_csv(path.with_suffix(".musicnet.csv"))
        truth = _truth(score.notes, labels, np.sort(written), np.sort(tapped))
        pairs.append(Pair(f"bach10-{path.stem}", "Bach", path.stem, score, labels, truth, path.with_suffix(".ogg")))
    return pairs


def musicnet(root: Path) -> list[Pair]:
    """Training recordings; the score is that inside their labels, which are themselves aligned, not played."""
    metadata = read_metadata(root)
    pairs = []
    for path in sorted((root / "train_labels").glob("*.csv")):
        sound = next((root / "train_data").glob(f"{path.stem}.*"), None)
        if sound is None:
            continue
        labels = scores.read_musicnet_csv(path)
        score = scores.read_score(path)
        order = np.lexsort((labels.instrument, labels.pitch, labels.start_beat))
        row = metadata.get(path.stem, {})
        work = f"{row.get('composition', '')}: {row.get('movement', '')}"
        pairs.append(
            Pair(f"musicnet-{path.stem}", row.get("composer", ""), work, score, labels, labels.onset[order], sound)
        )
    return pairs


def musicnet_scores(root: Path, asap: Path) -> list[Pair]:
    """Training recordings whose score is in ASAP too, and so does not come from the labels; as `maps`."""
    entries = {entry.id: entry for entry in asap_entries(asap)}
    pairs = []
    for pair in musicnet(root):
        id = MUSICNET_SCORES.get(pair.id)
        if id is not None:
            pairs.append(_known_by_notes(f"{pair.id}-asap", pair.performance, entries[id], pair.recording))
    return pairs


def maps(root: Path, asap: Path) -> list[Pair]:
    """Recordings whose score is in ASAP; which note is which is found by aligning the two lists of notes.

    Raises:
        ScoreError: where fewer than 80% of the notes of either are in the other.
    """
    entries = {entry.id: entry for entry in asap_entries(asap)}
    return [
        _known_by_notes(path.stem, scores.read_maps_tsv(path), entries[id], path.with_suffix(".ogg"))
        for title, id in MAPS_SCORES.items()
        for path in sorted(root.glob(f"MAPS_MUS-{title}_*.tsv"))
    ]


def _known_by_notes(id: str, labels: Notes, entry: Entry, recording: Path | None) -> Pair:
    whole = scores.read_score(entry.score).notes
    written, played = matching.anchors(whole.onset, whole.pitch, labels.onset, labels.pitch)
    notes = whole[(whole.onset >= written[0] - _EPSILON) & (whole.onset <= written[-1] + _EPSILON)]
    first = notes.onset[0]
    notes = notes.shift(-first)
    truth = _truth(notes, labels, written - first, played)
    known = float(np.isfinite(truth).mean())
    if min(known, len(notes) / len(labels)) < _MIN_MATCHED:
        raise ScoreError(
            f"{entry.score}: only {known:.0%} of {len(notes)} notes are among the {len(labels)} of {id};"
            " that is another piece, or it plays other repeats"
        )
    return Pair(id, entry.composer, entry.work, Score(notes), labels, truth, recording)


def _truth(notes: Notes, labels: Notes, written: np.ndarray, played: np.ndarray) -> np.ndarray:
    found = matching.match(notes.onset, notes.pitch, labels.onset, labels.pitch, written, played)
    return np.where(found >= 0, labels.onset[found], np.nan)

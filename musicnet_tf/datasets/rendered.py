"""Scores without audio, rendered by a synthesiser: exact labels for as many instruments as wanted."""

from __future__ import annotations

import functools
import hashlib
import re
from pathlib import Path
from typing import ClassVar

import numpy as np
import pydantic

from musicnet_tf import scores, synthesis, works
from musicnet_tf.datasets import Dataset, Recording, stable_split
from musicnet_tf.errors import DatasetError, ScoreError
from musicnet_tf.events import UNKNOWN, Notes
from musicnet_tf.registry import DATASETS

_SUFFIXES = (".csv", ".mid", ".midi")
_KEYBOARDS = range(8)
_VELOCITY_RANGE = (45, 105)
_PEAK_RANGE = (0.1, 0.9)


@DATASETS.register("rendered")
class Rendered(Dataset):
    """Excerpts of scores, each played on one soundfont at one level.

    `root` is searched for MusicNet label files (`.csv`) and MIDI files. Where a `musicnet_metadata.csv`
    lies in a folder above a label file, it gives composer, work and ensemble; else the composer is
    looked for in the path. Works that are tested or validated on are always left out (`works`). Every
    choice follows from a recording's id and `seed` alone, so that it does not depend on which other
    scores are there, or on the machine.

    An excerpt holds the notes that begin in it; what sounds into it from before is not played, and what
    sounds out of it is cut. Where the score tells no velocity, one is drawn that wanders as a phrase
    does. Notes that a MIDI channel cannot hold at once are resolved as `scores.without_overlaps` does.
    The notes returned are the notes played.

    Attributes:
        soundfonts: files to choose from; all that are installed where none is named.
        excerpt_seconds: length of an excerpt, or None for whole scores.
        excerpts_per_score: how many, at independent places.
        seed: changes every choice.
        ensembles: keep only these, as the metadata spells them; all where empty.
        exclude_piano: leave out scores for keyboard alone.
        hold_out_maps: leave out all solo piano by the composers of MAPS; needless for what is never scored on MAPS.
        max_scores: keep only so many scores, chosen by hash of the id.
        validation_fraction: share of works that go to validation.
    """

    description: ClassVar[str] = "label and MIDI files rendered with soundfonts, test and validation works left out"
    licence: ClassVar[str] = "that of the scores and soundfonts; MusicNet's labels are CC BY 4.0, FluidR3 is MIT"
    source: ClassVar[str] = "FluidSynth over scores of your own"

    soundfonts: tuple[Path, ...] = ()
    excerpt_seconds: float | None = pydantic.Field(60.0, gt=0)
    excerpts_per_score: int = pydantic.Field(1, ge=1)
    seed: int = 0
    ensembles: tuple[str, ...] = ()
    exclude_piano: bool = False
    hold_out_maps: bool = True
    max_scores: int | None = pydantic.Field(None, ge=1)
    validation_fraction: float = pydantic.Field(0.1, ge=0, le=1)

    def recordings(self) -> list[Recording]:
        chosen = [found for found in self._scores() if self._wanted(found)]
        if self.max_scores is not None:
            chosen = sorted(chosen, key=lambda found: _unit(self.seed, found["id"], "keep"))[: self.max_scores]
        fonts = list(self._fonts())
        recordings = [self._recording(found, k, fonts) for found in chosen for k in range(self.excerpts_per_score)]
        return sorted(recordings, key=lambda recording: recording.id)

    def load_audio(self, recording: Recording, sample_rate: int) -> np.ndarray:
        notes = self.load_notes(recording)
        audio = synthesis.render(
            notes,
            self._fonts()[recording.metadata["soundfont"]],
            sample_rate,
            duration=self.excerpt_seconds,
            reverb=_unit(self.seed, recording.id, "reverb") < 0.5,
        )
        low, high = np.log(_PEAK_RANGE)
        peak = np.exp(low + (high - low) * _unit(self.seed, recording.id, "peak"))
        return (audio * (peak / max(np.abs(audio).max(initial=0.0), 1e-9))).astype(np.float32)

    def load_notes(self, recording: Recording) -> Notes:
        notes = _read(self.root / recording.metadata["score"])
        if self.excerpt_seconds is not None:
            start = _unit(self.seed, recording.id, "start") * max(0.0, notes.end - self.excerpt_seconds)
            notes = notes[notes.onset >= start].shift(-start)
            notes = notes[notes.onset < self.excerpt_seconds]
            notes = scores.with_columns(notes, offset=np.minimum(notes.offset, self.excerpt_seconds))
        notes = scores.without_overlaps(notes)
        velocity = np.where(notes.velocity == UNKNOWN, self._velocities(notes, recording.id), notes.velocity)
        instrument = np.where(notes.instrument == UNKNOWN, 0, notes.instrument)
        return scores.with_columns(notes, velocity=velocity, instrument=instrument)

    def _fonts(self) -> dict[str, Path]:
        """Name → file. Records hold the name, so that they are the same wherever the file lies."""
        fonts = self.soundfonts or tuple(synthesis.find_soundfonts())
        if not fonts:
            raise DatasetError(
                "rendered: no soundfont is installed; on Debian: apt install fluid-soundfont-gm,"
                f" or name one in {synthesis.SOUNDFONT_VARIABLE}"
            )
        return {font.name: font for font in fonts}

    def _scores(self) -> list[dict[str, str]]:
        if not self.root.is_dir():
            raise DatasetError(f"{self.root}: not a folder; root must hold .csv label files or .mid files")
        paths = sorted(p for p in self.root.rglob("*") if p.suffix.lower() in _SUFFIXES and _is_score(p))
        if not paths:
            raise DatasetError(f"{self.root}: holds no MusicNet label file (.csv) and no MIDI file (.mid)")
        return [self._describe(path) for path in paths]

    def _describe(self, path: Path) -> dict[str, str]:
        relative = path.relative_to(self.root)
        name = str(relative.with_suffix(""))
        found = {"id": _identifier(name), "score": str(relative)}
        above = [folder for folder in path.parents if folder == self.root or self.root in folder.parents]
        for folder in above:
            row = works.read_metadata(folder).get(path.stem)
            if row:
                return {**found, **row}
        named = next((text for text in (path.stem, str(relative.parent)) if works.composer_in(text)), name)
        return {**found, "composer": works.composer_in(named), "composition": named}

    def _wanted(self, found: dict[str, str]) -> bool:
        if self.ensembles and found.get("ensemble") not in self.ensembles:
            return False
        title = " ".join(found.get(key, "") for key in ("composition", "catalog_name", "score"))
        if works.is_held_out(found["composer"], title, found.get("movement", ""), solo_piano=False):
            return False
        barred = self.exclude_piano or (
            self.hold_out_maps and works.is_held_out(found["composer"], title, solo_piano=True)
        )
        return not (barred and self._keyboard_alone(found))

    def _keyboard_alone(self, found: dict[str, str]) -> bool:
        if "ensemble" in found:
            return found["ensemble"].lower() in ("solo piano", "solo harpsichord")
        try:
            programs = _read(self.root / found["score"]).instrument
        except ScoreError:  # left in, so that it is counted where it is loaded
            return False
        return bool(np.isin(programs, [UNKNOWN, *_KEYBOARDS]).all())

    def _recording(self, found: dict[str, str], k: int, fonts: list[str]) -> Recording:
        id = f"{found['id']}-{k}"
        if "movement" in found:  # of the metadata
            work = ": ".join(found.get(key, "") for key in ("composer", "composition", "movement")).rstrip(": ")
        else:
            work = works.work_name(found["composer"], found["composition"])
        font = fonts[int(_unit(self.seed, id, "soundfont") * len(fonts))]
        metadata = {key: value for key, value in found.items() if key != "id"} | {"soundfont": font}
        return Recording(id, stable_split(work, self.validation_fraction), work, metadata)

    def _velocities(self, notes: Notes, id: str) -> np.ndarray:
        """A slow random walk an instrument, reflected into the range, with a little play from note to note."""
        low, high = _VELOCITY_RANGE
        velocity = np.zeros(len(notes), np.int64)
        for program in np.unique(notes.instrument).tolist():
            rng = np.random.default_rng(_digest(self.seed, id, f"velocity {program}"))
            index = np.flatnonzero(notes.instrument == program)
            steps = rng.normal(0.0, 6.0, len(index)) * np.sqrt(
                np.diff(notes.onset[index], prepend=notes.onset[index[0]])
            )
            walk = rng.uniform(0, high - low) + np.cumsum(steps)
            reflected = np.abs((walk + (high - low)) % (2 * (high - low)) - (high - low))
            velocity[index] = np.clip(np.round(low + reflected + rng.normal(0.0, 4.0, len(index))), low, high)
        return velocity


@functools.lru_cache(maxsize=4)
def _read(path: Path) -> Notes:
    return scores.read(path)


def _is_score(path: Path) -> bool:
    return path.suffix.lower() != ".csv" or scores.is_musicnet_csv(path)


def _identifier(name: str) -> str:
    """Safe as a file name, and different for different paths."""
    safe = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")
    return safe if safe == name.replace("/", "_") else f"{safe[:80]}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _digest(*parts: object) -> int:
    return int.from_bytes(hashlib.sha256(":".join(map(str, parts)).encode()).digest()[:8], "big")


def _unit(*parts: object) -> float:
    """A number in [0, 1) that depends on nothing but the parts."""
    return _digest(*parts) / 2**64

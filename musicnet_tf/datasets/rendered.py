"""Scores without audio, rendered by a synthesiser: exact labels for as many instruments as wanted."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import re
from pathlib import Path
from typing import ClassVar

import numpy as np
import pydantic

from musicnet_tf import effects, scores, synthesis, works
from musicnet_tf.datasets import Dataset, Recording, _performance, stable_split
from musicnet_tf.datasets._draws import generator, pick, unit
from musicnet_tf.datasets._tagged import tags_of_music
from musicnet_tf.effects import Effects
from musicnet_tf.errors import DatasetError, ScoreError
from musicnet_tf.events import UNKNOWN, Beats, Notes, TagSpans
from musicnet_tf.registry import DATASETS

_WRITTEN = (".mxl", ".musicxml")
_SUFFIXES = (".csv", ".mid", ".midi", *_WRITTEN)
_KEYBOARDS = range(8)
_PEAK_RANGE = (0.1, 0.9)
_TAIL_SECONDS = 1.0
_VARIANT = "-v"


@DATASETS.register("rendered")
class Rendered(Dataset):
    """Excerpts of scores, each played on soundfonts, and then treated as recordings are.

    `root` is searched for MusicNet label files (`.csv`), MIDI files and MusicXML (`.mxl`, `.musicxml`). Where a
    `musicnet_metadata.csv` lies in a folder above a label file, it gives composer, work and ensemble; else the
    composer is looked for in the path. Works that are tested or validated on are always left out (`works`). Every
    choice follows from a recording's id and `seed` alone, so that it does not depend on which other
    scores are there, or on the machine.

    An excerpt holds the notes that begin in it; what sounds into it from before is not played, and what
    sounds out of it is cut. Where the score tells no velocity, one is drawn that wanders as a phrase
    does. Notes that a MIDI channel cannot hold at once are resolved as `scores.without_overlaps` does.
    The notes returned are the notes played, at concert pitch: `tune_cents` and `voice_tune_cents` are not told.
    Beats are those of `scores.beats_of_score`, moved and cut as the notes are.

    Attributes:
        soundfonts: files to choose from; all that are installed where none is named.
        excerpt_seconds: length of an excerpt, or None for whole scores.
        excerpts_per_score: how many, at independent places.
        variants: of each excerpt, in other sound: soundfonts, tuning, balance, touch, tempo, effects.
        seed: changes every choice.
        exclude: scores to leave out, as patterns of their paths in `root`: `*/midi_score.mid`.
        ensembles: keep only these, as the metadata spells them; all where empty.
        exclude_piano: leave out scores for keyboard alone.
        only_piano: leave out all others.
        hold_out_maps: leave out solo piano that MAPS tests or validates on, or that may be; needless for what is
            never scored on MAPS.
        max_scores: keep only so many scores, chosen by hash of the id.
        validation_fraction: share of works that go to validation.
        test_fraction: and to the test split.
        sustain: of MIDI files, notes last as long as the pedal holds them.
        font_per_voice: each instrument of a recording has a soundfont of its own.
        substitutes: program → programs, one of which plays it; labels keep the first.
        recast: program → programs, one of which takes its part, in the labels too: more of what is rarely written for.
        fewer: share of recordings in which just some of their instruments play, any number from one on.
        tune_cents: the recording is out of tune by up to so many hundredths of a semitone.
        voice_tune_cents: and each of its instruments by up to so many more.
        balance_db: instruments are softer by up to so many decibels.
        velocity_curve: velocities are raised to a power of up to 2 to this, or its inverse.
        tempo: the tempo is changed by up to this share either way.
        rubato: standard deviation of the logarithm of a drifting tempo, of MusicXML alone: it is as written.
        asynchrony: standard deviation in seconds of onsets and offsets, of MusicXML alone.
        attack_db: notes are played early by the time in which their instrument comes within so many decibels of its
            loudest (`synthesis.attack`), so that they are heard at their onset; as written where it is None.
        silent: nothing is played: notes and beats for networks that learn from those alone (`data.hear: notes`).
        reverb: share of recordings with FluidSynth's own reverberation.
        effects: what recordings go through afterwards, see `effects.Effects`.
    """

    description: ClassVar[str] = "scores and MIDI rendered with soundfonts, test and validation works left out"
    licence: ClassVar[str] = "that of the scores and soundfonts; MusicNet's labels are CC BY 4.0, FluidR3 is MIT"
    source: ClassVar[str] = "FluidSynth over scores of your own"

    soundfonts: tuple[Path, ...] = ()
    excerpt_seconds: float | None = pydantic.Field(60.0, gt=0)
    excerpts_per_score: int = pydantic.Field(1, ge=1)
    variants: int = pydantic.Field(1, ge=1)
    seed: int = 0
    exclude: tuple[str, ...] = ()
    ensembles: tuple[str, ...] = ()
    exclude_piano: bool = False
    only_piano: bool = False
    hold_out_maps: bool = True
    max_scores: int | None = pydantic.Field(None, ge=1)
    validation_fraction: float = pydantic.Field(0.1, ge=0, le=1)
    test_fraction: float = pydantic.Field(0.0, ge=0, le=1)
    sustain: bool = False
    font_per_voice: bool = False
    substitutes: dict[int, tuple[int, ...]] = pydantic.Field({})
    recast: dict[int, tuple[int, ...]] = pydantic.Field({})
    fewer: float = pydantic.Field(0.0, ge=0, le=1)
    tune_cents: float = pydantic.Field(0.0, ge=0, le=100)
    voice_tune_cents: float = pydantic.Field(0.0, ge=0, le=100)
    balance_db: float = pydantic.Field(0.0, ge=0, le=40)
    velocity_curve: float = pydantic.Field(0.0, ge=0, le=2)
    tempo: float = pydantic.Field(0.0, ge=0, lt=1)
    rubato: float = pydantic.Field(0.0, ge=0, le=0.5)
    asynchrony: float = pydantic.Field(0.0, ge=0, le=0.1)
    attack_db: float | None = pydantic.Field(None, lt=0)
    silent: bool = False
    reverb: float = pydantic.Field(0.5, ge=0, le=1)
    effects: Effects = Effects()

    def recordings(self) -> list[Recording]:
        found_scores = self._scores()
        if self.max_scores is not None:
            found_scores.sort(key=lambda found: unit(self.seed, found["id"], "keep"))
        chosen = list(
            itertools.islice(filter(self._wanted, found_scores), self.max_scores)
        )  # reads no more than needed
        fonts = list(self._fonts())
        recordings = [
            self._recording(found, k, variant, fonts)
            for found in chosen
            for k in range(self.excerpts_per_score)
            for variant in range(self.variants)
        ]
        return sorted(recordings, key=lambda recording: recording.id)

    def load_audio(self, recording: Recording, sample_rate: int) -> np.ndarray:
        notes = self.load_notes(recording)
        if self.silent:
            return np.zeros(round(self._seconds(notes) * sample_rate), np.float32)
        audio = self._play(notes, recording, sample_rate)
        low, high = np.log(_PEAK_RANGE)
        peak = np.exp(low + (high - low) * unit(self.seed, recording.id, "peak"))
        audio = (audio * (peak / max(np.abs(audio).max(initial=0.0), 1e-9))).astype(np.float32)
        return effects.apply(audio, sample_rate, self.effects, generator(self.seed, recording.id, "effects"))

    def load_notes(self, recording: Recording) -> Notes:
        notes, id = self._performed(recording), recording.id
        if self.excerpt_seconds is not None:
            start = self._start(notes, self.excerpt_seconds, id)
            notes = notes[notes.onset >= start].shift(-start)
            notes = notes[notes.onset < self.excerpt_seconds]
            notes = scores.with_columns(notes, offset=np.minimum(notes.offset, self.excerpt_seconds))
        notes = scores.without_overlaps(notes)
        instrument = np.where(notes.instrument == UNKNOWN, 0, notes.instrument)
        velocity = np.where(notes.velocity == UNKNOWN, self._velocities(notes, id), notes.velocity)
        if self.velocity_curve:
            velocity = _performance.curved(velocity, 2.0 ** self._between(self.velocity_curve, id, "velocity curve"))
        return scores.with_columns(notes, velocity=velocity, instrument=instrument)

    def load_beats(self, recording: Recording) -> Beats | None:
        beats = _read_beats(self._path(recording))
        if beats is None:
            return None
        for pace in self._paces(recording):
            beats = dataclasses.replace(beats, time=pace(beats.time))
        if self.excerpt_seconds is None:
            return beats
        start = self._start(self._performed(recording), self.excerpt_seconds, recording.id)
        return beats.shift(-start).within(0.0, self.excerpt_seconds)

    def load_tags(self, recording: Recording) -> TagSpans:
        """Instruments where they sound, `composer/…` of the whole, and `ensemble/…` where all of it is sure to play."""
        untold = {"ensemble"} if self.fewer or self.recast else set()
        told = {kind: text for kind, text in recording.metadata.items() if kind not in untold}
        return tags_of_music(self.load_notes(recording), told)

    def _path(self, recording: Recording) -> Path:
        return self.root / recording.metadata["score"]

    def _paces(self, recording: Recording) -> list[_performance.Pace]:
        """What moves all that is written in the score, one after the other."""
        paces = [_performance.at_tempo(self._tempo(recording.id))]
        path = self._path(recording)
        if path.suffix.lower() in _WRITTEN:
            end = float(paces[0](np.array(_read(path, self.sustain).end)))
            paces.append(_performance.rubato(end, self.rubato, generator(self.seed, recording.id, "rubato")))
        return paces

    def _performed(self, recording: Recording) -> Notes:
        """The notes of the whole score as played."""
        path = self._path(recording)
        notes = _read(path, self.sustain)
        for pace in self._paces(recording):
            notes = _performance.moved(notes, pace)
        if path.suffix.lower() in _WRITTEN:
            rng = generator(self.seed, recording.id, "asynchrony")
            notes = _performance.with_asynchrony(notes, self.asynchrony, rng)
        return self._cast(notes, recording.id)

    def _cast(self, notes: Notes, id: str) -> Notes:
        """The notes of the instruments that play in this recording, by those that take their parts."""
        programs = np.unique(notes.instrument)
        if len(programs) and unit(self.seed, id, "fewer") < self.fewer:
            rng = generator(self.seed, id, "players")
            programs = rng.choice(programs, int(rng.integers(len(programs))) + 1, replace=False)
            notes = notes[np.isin(notes.instrument, programs)]
        return _revoiced(notes, {p: self._one_of(self.recast, id, p, "part") for p in programs.tolist()})

    def _start(self, notes: Notes, seconds: float, id: str) -> float:
        """Where the excerpt begins; where no note would begin in it, at the first."""
        start = unit(self.seed, id.partition(_VARIANT)[0], "start") * max(0.0, notes.end - seconds)
        if len(notes) and not ((notes.onset >= start) & (notes.onset < start + seconds)).any():
            return float(notes.onset[0])
        return start

    def _seconds(self, notes: Notes) -> float:
        return notes.end + _TAIL_SECONDS if self.excerpt_seconds is None else self.excerpt_seconds

    def _play(self, notes: Notes, recording: Recording, sample_rate: int) -> np.ndarray:
        """The instruments that one soundfont plays are played at once."""
        id, fonts = recording.id, self._fonts()
        programs = np.unique(notes.instrument).tolist()
        cents = {p: self._between(self.tune_cents, id, "tune") for p in programs}
        cents = {p: c + self._between(self.voice_tune_cents, id, f"tune {p}") for p, c in cents.items()}
        level_db = {p: -self.balance_db * unit(self.seed, id, f"balance {p}") for p in programs}
        if len(programs) == 1:
            level_db = {}
        played: dict[str, list[int]] = {}
        for program in programs:
            played.setdefault(self._font(recording, program, list(fonts)), []).append(program)
        duration = self._seconds(notes)
        audio = np.zeros(round(duration * sample_rate), np.float32)
        for font, together in played.items():
            part = notes[np.isin(notes.instrument, together)]
            sound = {p: self._one_of(self.substitutes, id, p, "substitute") for p in together}
            audio += synthesis.render(
                _performance.early(_revoiced(part, sound), fonts[font], self.attack_db),
                fonts[font],
                sample_rate,
                duration=duration,
                reverb=unit(self.seed, id, "reverb") < self.reverb,
                cents={sound[p]: cents[p] for p in together},
                level_db={sound[p]: level_db.get(p, 0.0) for p in together},
            )
        return audio

    def _font(self, recording: Recording, program: int, fonts: list[str]) -> str:
        if not self.font_per_voice:
            return recording.metadata["soundfont"]
        return pick(fonts, self.seed, recording.id, f"soundfont {program}")

    def _one_of(self, others: dict[int, tuple[int, ...]], id: str, program: int, what: str) -> int:
        return pick(others.get(program, (program,)), self.seed, id, f"{what} {program}")

    def _tempo(self, id: str) -> float:
        return 1.0 + self._between(self.tempo, id, "tempo")

    def _between(self, limit: float, id: str, what: str) -> float:
        """Evenly drawn in [-limit, limit)."""
        return limit * (2.0 * unit(self.seed, id, what) - 1.0)

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
            raise DatasetError(f"{self.root}: holds no MusicNet label file (.csv), MIDI file (.mid) or MusicXML (.mxl)")
        paths = [path for path in paths if not any(path.relative_to(self.root).match(e) for e in self.exclude)]
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
        if self.only_piano:
            return not self._maps_piece(found, title) and self._keyboard_alone(found)
        barred = self.exclude_piano or self._maps_piece(found, title)
        return not (barred and self._keyboard_alone(found))

    def _maps_piece(self, found: dict[str, str], title: str) -> bool:
        movement = found.get("movement", "")
        return self.hold_out_maps and works.is_held_out(found["composer"], title, movement, solo_piano=True)

    def _keyboard_alone(self, found: dict[str, str]) -> bool:
        if "ensemble" in found:
            return found["ensemble"].lower() in ("solo piano", "solo harpsichord")
        try:
            programs = _read(self.root / found["score"], self.sustain).instrument
        except ScoreError:  # left in, so that it is counted where it is loaded
            return False
        return bool(np.isin(programs, [UNKNOWN, *_KEYBOARDS]).all())

    def _recording(self, found: dict[str, str], k: int, variant: int, fonts: list[str]) -> Recording:
        id = f"{found['id']}-{k}" + (f"{_VARIANT}{variant}" if variant else "")
        if "movement" in found:  # of the metadata
            work = ": ".join(found.get(key, "") for key in ("composer", "composition", "movement")).rstrip(": ")
        else:
            work = works.work_name(found["composer"], found["composition"])
        font = "one an instrument" if self.font_per_voice else pick(fonts, self.seed, id, "soundfont")
        metadata = {key: value for key, value in found.items() if key != "id"} | {"soundfont": font}
        return Recording(id, stable_split(work, self.validation_fraction, self.test_fraction), work, metadata)

    def _velocities(self, notes: Notes, id: str) -> np.ndarray:
        velocity = np.zeros(len(notes), np.int64)
        for program in np.unique(notes.instrument).tolist():
            index = np.flatnonzero(notes.instrument == program)
            rng = generator(self.seed, id, f"velocity {program}")
            velocity[index] = _performance.wandering(notes.onset[index], rng)
        return velocity


@functools.lru_cache(maxsize=4)
def _read(path: Path, sustain: bool) -> Notes:
    if path.suffix.lower() in _WRITTEN:
        return scores.read_score(path).notes
    if sustain and path.suffix.lower() in (".mid", ".midi"):
        return scores.read_midi(path, sustain=True)
    return scores.read(path)


@functools.lru_cache(maxsize=4)
def _read_beats(path: Path) -> Beats | None:
    return scores.beats_of_score(path)


def _revoiced(notes: Notes, sound: dict[int, int]) -> Notes:
    return scores.with_columns(notes, instrument=np.array([sound[p] for p in notes.instrument.tolist()], np.int64))


def _is_score(path: Path) -> bool:
    return path.suffix.lower() != ".csv" or scores.is_musicnet_csv(path)


def _identifier(name: str) -> str:
    """Safe as a file name, and different for different paths."""
    safe = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")
    return safe if safe == name.replace("/", "_") else f"{safe[:80]}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"

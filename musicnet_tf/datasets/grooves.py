"""Bands that were never there: kits, basses, chords and tunes in many styles, composed and played by rule."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import pydantic

from musicnet_tf import effects, scores, synthesis
from musicnet_tf.datasets import Dataset, Recording, _groove_band, _groove_form, _performance, stable_split
from musicnet_tf.datasets._draws import generator, one_of, unit
from musicnet_tf.datasets._groove_band import Event
from musicnet_tf.datasets._groove_form import Bar
from musicnet_tf.datasets._groove_style import Style
from musicnet_tf.datasets._groove_styles import STYLES
from musicnet_tf.effects import RECORDED, Effects
from musicnet_tf.errors import ConfigError
from musicnet_tf.events import Beats, Notes
from musicnet_tf.registry import DATASETS, nearest

_EARLIEST, _LATEST = 0.05, 1.5  # seconds of silence before the first beat
_WITHIN = 0.3  # share of recordings that begin in the midst of a piece
_WITHIN_SECONDS = 15.0
_ENDS = 0.35  # share of recordings in which the piece comes to its end
_KIT_DB, _BAND_DB = (-9.0, 5.0), -9.0
_SHORTEST = 0.03
_EARLY = 0.07  # seconds by which the first beat may come before the first sound, which players are late for


class Performance(NamedTuple):
    """A piece as played: pitched notes, strokes of the kit, beats."""

    notes: Notes
    drums: Notes
    beats: Beats


@DATASETS.register("grooves")
class Grooves(Dataset):
    """Pieces for a band, composed by rule in a style drawn from `_groove_styles`, with exact beats and notes.

    A piece has sections, each with patterns of its own for those who play in it, introductions, fills, breaks and
    pickups; it has one tempo, drawn evenly in octaves within what suits the style, that drifts, and in some pieces
    changes, as the metre does in some. Beats are where the players mean them, from the first sound on; each strikes
    about them. Some recordings begin in the midst of their piece, and some end before they are over. Each piece is a
    work of its own. Every choice follows from a recording's id and `seed` alone. There is no folder to read: `root`
    is not looked at.

    Attributes:
        root: not read.
        count: how many recordings.
        seconds: length of each.
        styles: names of styles, all where empty.
        soundfonts: files to choose from; all that are installed where none is named. Kit and band have one each.
        seed: changes every choice.
        validation_fraction: share of pieces that go to validation.
        test_fraction: and to the test split.
        drift: largest standard deviation of the logarithm of a drifting tempo.
        asynchrony: largest standard deviation in seconds of strokes about the beat; machines in some styles are exact.
        changes: whether tempi change and slow down, and metres change.
        attack_db: pitched notes are played early, as of `rendered`; as composed where it is None.
        tune_cents: the recording is out of tune by up to so many hundredths of a semitone.
        reverb: share of recordings with FluidSynth's own reverberation.
        effects: what recordings go through afterwards, see `effects.Effects`.
    """

    description: ClassVar[str] = "bands in many styles, composed and played by rule, with exact beats; needs no data"
    licence: ClassVar[str] = "none of its own; that of the soundfonts, of which FluidR3 is MIT"
    source: ClassVar[str] = "composed here, played by FluidSynth"

    root: Path = Path()
    count: int = pydantic.Field(100, ge=1)
    seconds: float = pydantic.Field(60.0, gt=0, le=3600)
    styles: tuple[str, ...] = ()
    soundfonts: tuple[Path, ...] = ()
    seed: int = 0
    validation_fraction: float = pydantic.Field(0.1, ge=0, le=1)
    test_fraction: float = pydantic.Field(0.0, ge=0, le=1)
    drift: float = pydantic.Field(0.03, ge=0, le=0.5)
    asynchrony: float = pydantic.Field(0.012, ge=0, le=0.1)
    changes: bool = True
    attack_db: float | None = pydantic.Field(None, lt=0)
    tune_cents: float = pydantic.Field(20.0, ge=0, le=100)
    reverb: float = pydantic.Field(0.5, ge=0, le=1)
    effects: Effects = RECORDED

    @pydantic.field_validator("styles")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in STYLES:
                raise ConfigError(f"unknown style {name!r}{nearest(name, STYLES)}; choose from: {', '.join(STYLES)}")
        return names

    def recordings(self) -> list[Recording]:
        return [self._recording(f"groove{self.seed}_{k:06d}") for k in range(self.count)]

    def load_audio(self, recording: Recording, sample_rate: int) -> np.ndarray:
        id, played = recording.id, self._performance(recording)
        rng = generator(self.seed, id, "sound")
        fonts = self.soundfonts or tuple(synthesis.find_soundfonts()) or (synthesis.default_soundfont(),)
        programs = np.unique(played.notes.instrument).tolist()
        cents = rng.uniform(-self.tune_cents, self.tune_cents)
        level_db = {program: rng.uniform(_BAND_DB, 0.0) for program in programs}
        reverb = bool(rng.random() < self.reverb)
        play = functools.partial(synthesis.render, sample_rate=sample_rate, duration=self.seconds, reverb=reverb)
        font = one_of(fonts, rng)
        notes = _performance.early(played.notes, font, self.attack_db)
        band = play(notes, font, cents=dict.fromkeys(programs, cents), level_db=level_db)
        kit = play(Notes.empty(), one_of(fonts, rng), drums=played.drums)
        audio = band + 10 ** (rng.uniform(*_KIT_DB) / 20) * kit
        audio = (audio * (0.9 / max(float(np.abs(audio).max(initial=0.0)), 1e-9))).astype(np.float32)
        return effects.apply(audio, sample_rate, self.effects, generator(self.seed, id, "effects"))

    def load_notes(self, recording: Recording) -> Notes:
        """The notes of pitched instruments: what the kit strikes is not among them."""
        return self._performance(recording).notes

    def load_beats(self, recording: Recording) -> Beats:
        return self._performance(recording).beats

    def _performance(self, recording: Recording) -> Performance:
        style, tempo = recording.metadata["style"], float(recording.metadata["tempo"])
        human = (self.drift, self.asynchrony) if STYLES[style].loose else (0.0, 0.0)
        return perform(self.seed, recording.id, style, tempo, self.seconds, *human, self.changes)

    def _recording(self, id: str) -> Recording:
        names = list(self.styles or STYLES)
        chance = np.cumsum([STYLES[name].weight for name in names])
        name = names[int(np.searchsorted(chance, unit(self.seed, id, "style") * chance[-1], side="right"))]
        low, high = STYLES[name].tempo
        tempo = low * (high / low) ** unit(self.seed, id, "tempo")
        upper, lower = STYLES[name].signature
        metadata = {"style": name, "tempo": f"{tempo:.3f}", "signature": f"{upper}/{lower}"}
        return Recording(id, stable_split(id, self.validation_fraction, self.test_fraction), id, metadata)


@functools.lru_cache(maxsize=4)
def perform(
    seed: int, id: str, style: str, tempo: float, seconds: float, drift: float, asynchrony: float, changes: bool
) -> Performance:
    """Composes a piece and plays it: what lies in `[0, seconds)` of it.

    Args:
        seed: with `id`, what all is drawn by.
        id: of the recording.
        style: name in `STYLES`.
        tempo: beats a minute.
        seconds: length of the recording.
        drift: largest standard deviation of the logarithm of the tempo's drift.
        asynchrony: largest standard deviation of the seconds between a stroke and where it is meant.
        changes: whether the tempo and the metre change.
    """
    rng = generator(seed, id, "form")
    begin = -rng.uniform(0.0, _WITHIN_SECONDS) if rng.random() < _WITHIN else rng.uniform(_EARLIEST, _LATEST)
    materials = _materials(STYLES[style], tempo, changes, rng)
    bars = _groove_form.form(materials, round((seconds - begin) * tempo / 60 * 1.4) + 4, rng)
    end = seconds * rng.uniform(0.6, 0.95) if rng.random() < _ENDS else None
    bpm = np.full(sum(bar.beats for bar in bars), tempo)
    if changes:
        bpm = _groove_form.beats_per_minute(bars, tempo, rng)
    if end is not None:
        bars, bpm = _ended(bars, bpm, end - begin, rng.uniform(0.0, 0.35) * changes)
    times = np.concatenate([[0.0], np.cumsum(60.0 / bpm)])
    pace = _performance.rubato(float(times[-1]), drift * rng.uniform(), generator(seed, id, "drift"))
    clock = _Clock(pace(times) + begin, _swings(bars, materials, rng))
    beats = Beats(clock.beats[: len(bpm)], np.concatenate([bar.position + np.arange(bar.beats) for bar in bars]))
    if end is not None:
        beats = Beats.concatenate([beats, Beats(clock.beats[-1:], np.ones(1))])
    notes, drums = _played(seed, id, bars, clock, STYLES[style], asynchrony, end is not None)
    notes, drums = (_cut(part, seconds) for part in (notes, drums))
    heard = min(part.onset[0] for part in (notes, drums) if len(part)) if len(notes) or len(drums) else seconds
    return Performance(notes, drums, beats.within(max(heard - _EARLY, 0.0), seconds))


@dataclasses.dataclass(frozen=True)
class _Clock:
    """Places in beats → seconds: when each beat is and how it is divided, `(n,)` shares and parts that swing.

    After the last of the `(n + 1,)` beats the tempo stays.
    """

    beats: np.ndarray
    swing: tuple[np.ndarray, np.ndarray]

    def seconds(self, place: np.ndarray) -> np.ndarray:
        index = np.clip(place.astype(np.int64), 0, len(self.swing[0]) - 1)
        swung = _groove_band.swung(place, self.swing[0][index], self.swing[1][index])
        after = np.maximum(swung - (len(self.beats) - 1), 0.0) * (self.beats[-1] - self.beats[-2])
        return np.interp(swung, np.arange(len(self.beats)), self.beats) + after


def _materials(style: Style, tempo: float, changes: bool, rng: np.random.Generator) -> list[_groove_form.Material]:
    tonic = int(rng.integers(12))
    materials = [_groove_form.material(style, tonic, rng) for _ in range(int(rng.integers(2, 4)))]
    if changes and rng.random() < 0.1:
        fit = [s for s in STYLES.values() if s.tempo[0] <= tempo <= s.tempo[1] and s.signature != style.signature]
        if fit:
            materials[-1] = _groove_form.material(one_of(fit, rng), tonic, rng)
    return materials


def _ended(bars: list[Bar], bpm: np.ndarray, seconds: float, depth: float) -> tuple[list[Bar], np.ndarray]:
    """The bars that end by then, at least one, the last two slowing down."""
    ends = np.cumsum(60.0 / bpm)
    kept = [bar for bar in bars if ends[bar.first + bar.beats - 1] <= seconds] or bars[:1]
    bpm = bpm[: kept[-1].first + kept[-1].beats]
    return kept, _groove_form.retarded(bpm, depth, sum(bar.beats for bar in kept[-2:]))


def _swings(
    bars: Sequence[Bar], materials: Sequence[_groove_form.Material], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    drawn = {id(m.style): rng.uniform(*m.style.swing) for m in materials}
    styles = [bar.material.style for bar in bars for _ in range(bar.beats)]
    return np.array([drawn[id(style)] for style in styles]), np.array([style.swings for style in styles])


def _played(
    seed: int, id: str, bars: list[Bar], clock: _Clock, style: Style, asynchrony: float, ends: bool
) -> tuple[Notes, Notes]:
    """What the band and the kit play, each player about the beat in a manner of their own."""
    rng = generator(seed, id, "players")
    kit_program, parts = one_of(style.kits, rng), {}
    programs = {p: one_of(getattr(style, f"{p}_programs"), rng) for p in ("bass", "chord", "lead")}
    ring = bool(rng.random() < 0.4)
    events = {
        "bass": _groove_band.bass(bars, generator(seed, id, "bass")),
        "chord": _groove_band.chords(bars, ring, generator(seed, id, "chords")),
        "lead": _groove_band.lead(bars, generator(seed, id, "lead")),
    }
    kit = _groove_band.kit(bars, generator(seed, id, "kit"))
    if ends:
        place = float(len(clock.swing[0]))
        for part, last in _groove_band.final(bars[-1], place).items():
            (kit if part == "kit" else events[part]).extend(last)
    for part, played in events.items():
        parts[part] = _notes(played, programs[part], clock, asynchrony * style.loose, generator(seed, id, part, "hand"))
    drums = _notes(kit, kit_program, clock, asynchrony * style.loose, generator(seed, id, "kit", "hand"), offset=False)
    return Notes.concatenate(list(parts.values())), drums


def _notes(
    events: Sequence[Event],
    program: int,
    clock: _Clock,
    asynchrony: float,
    rng: np.random.Generator,
    offset: bool = True,
) -> Notes:
    """Events in seconds, begun early or late; a player but the drummer is also, as a whole, before or behind."""
    if not events:
        return Notes.empty()
    place, length, pitch, velocity = (np.array(column) for column in zip(*events, strict=True))
    spread = asynchrony * rng.uniform(0.4, 1.0)
    behind = rng.normal(0.0, asynchrony / 2) * offset
    stroke = np.clip(rng.normal(0.0, 1.0, len(events)), -3.0, 3.0) * spread
    onset = clock.seconds(place) + behind + stroke
    released = clock.seconds(place + length) + behind + stroke
    velocity = np.clip(np.round(velocity + rng.normal(0.0, 5.0, len(events))), 1, 127).astype(np.int64)
    return Notes(onset, np.maximum(released, onset + _SHORTEST), pitch, velocity, np.full(len(events), program))


def _cut(notes: Notes, seconds: float) -> Notes:
    """The notes that begin in the recording, ended with it, as a MIDI channel can hold them."""
    notes = notes[(notes.onset >= 0.0) & (notes.onset < seconds - _SHORTEST)]
    return scores.without_overlaps(scores.with_columns(notes, offset=np.minimum(notes.offset, seconds)))

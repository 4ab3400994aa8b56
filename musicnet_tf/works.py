"""Which compositions are never trained on: those that a published test or our validation performs.

Another performance of a test movement, or audio rendered from its score, is the test piece in other
clothes. Held out are

* the movements of MusicNet's ten test recordings and of our validation recordings of it;
* the validation pieces of MAPS and the chorales 4–10 of Bach10;
* the pieces that MAPS tests on, those of its real pianos (ENSTDkAm, ENSTDkCl) that we do not train on, and solo
  piano music by the composers of piano-midi.de, from which MAPS comes, whose title does not tell that it is another;
* solo piano music whose composer is not known, which could be any of these.

Titles are compared without accents, case and punctuation: `Op. 64, No. 5` equals `OP64NO5`.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import re
import unicodedata
from pathlib import Path

from musicnet_tf.errors import DatasetError

METADATA = "musicnet_metadata.csv"
_REQUIRED_COLUMNS = {"id", "composer", "composition", "movement"}

PIANO_COMPOSERS: dict[str, tuple[str, ...]] = {
    "Albéniz": (),
    "Bach": (),
    "Balakirev": ("balakirew", "balakireff"),
    "Beethoven": (),
    "Borodin": (),
    "Brahms": (),
    "Burgmüller": ("burgmueller",),
    "Chopin": ("szopen",),
    "Clementi": (),
    "Debussy": (),
    "Godowsky": ("godowski",),
    "Granados": (),
    "Grieg": (),
    "Haydn": (),
    "Liszt": (),
    "Mendelssohn": (),
    "Mozart": (),
    "Mussorgsky": ("moussorgsky", "musorgsky", "mussorgski", "musorgskij"),
    "Rachmaninoff": ("rachmaninov", "rachmaninow", "rakhmaninov"),
    "Ravel": (),
    "Schubert": (),
    "Schumann": (),
    "Sinding": (),
    "Tchaikovsky": ("tschaikowsky", "tschaikowski", "chaikovsky", "tchaikovski", "tchaikowsky", "cajkovskij"),
}
"""Composers of piano-midi.de, with other spellings of their names."""

# fmt: off
OTHER_COMPOSERS = (
    "Bartok", "Cambini", "Couperin", "Czerny", "Dvorak", "Faure", "Field", "Glinka", "Handel", "Hummel",
    "Janacek", "Joplin", "Kuhlau", "Medtner", "Moszkowski", "Poulenc", "Prokofiev", "Purcell", "Rameau",
    "Rubinstein", "Satie", "Scarlatti", "Scriabin", "Shostakovich", "Smetana", "Soler", "Stravinsky",
    "Telemann", "Weber",
)
# fmt: on
"""Composers who are told from a file's name, but of whom nothing is held out for the name alone."""


@dataclasses.dataclass(frozen=True)
class Work:
    """A composition or movement that is held out.

    Attributes:
        reason: who tests or validates on it.
        composer: surname.
        keys: a title names the work if it holds all words of any of these, catalogue numbers among them.
        movement: number of the movement, or None where the whole work is held out.
        movement_name: a word by which the movement is known under another number too.
        of: how many movements there are, where a title may tell the movement: `Kinderszenen no. 6`, `K545 iii`.
    """

    reason: str
    composer: str
    keys: tuple[str, ...]
    movement: int | None = None
    movement_name: str = ""
    of: int = 0


def _sonata(number: int) -> tuple[str, ...]:
    return tuple(f"{word} {no}{number}" for word in ("sonata", "sonatas") for no in ("", "no"))


HELD_OUT = (
    Work("MusicNet test 1759", "Schubert", ("d958", *_sonata(958)), 3, "menuetto", of=4),
    Work("MusicNet test 1819", "Mozart", ("k375", "serenade no11"), 4),
    Work("MusicNet test 2106", "Haydn", ("op64 no5", "hob iii 63", "quartet no53", "lark"), 3, "menuetto"),
    Work("MusicNet test 2191", "Bach", ("bwv1006", "bwv1006a", "partita no3 e major"), 6, "bourree"),
    Work("MusicNet test 2298", "Bach", ("bwv1010", "cello suite no4", "cello suite 4"), 6, "gigue"),
    Work("MusicNet test 2303", "Bach", ("bwv850", "prelude fugue no5 d major"), 1, "prelude"),
    Work("MusicNet test 2382", "Beethoven", ("op130", "quartet no13"), 2, "presto"),
    Work("MusicNet test 2416", "Beethoven", ("op71", "sextet winds"), 3, "menuetto"),
    Work("MusicNet test 2556", "Beethoven", ("op109", *_sonata(30)), 2, "prestissimo", of=3),
    Work("MusicNet test 2628", "Beethoven", ("op96", "violin sonata no10"), 3, "scherzo"),
    Work("MusicNet validation 2227", "Bach", ("bwv851", "prelude fugue no6 d minor"), 2, "fugue"),
    Work("MusicNet validation 2231", "Bach", ("bwv866", "prelude fugue no21 b flat major"), 2, "fugue"),
    Work("MusicNet validation 2247", "Bach", ("bwv854", "prelude fugue no9 e major"), 2, "fugue"),
    Work("MAPS validation bor_ps6", "Borodin", ("petite suite", "bor ps6"), 6, "serenade", of=7),
    Work("MAPS validation deb_menu", "Debussy", ("suite bergamasque", "deb menu"), 2, "menuet", of=4),
    Work("MAPS validation mz_545_3", "Mozart", ("k545", *_sonata(16), "mz 545"), 3, "rondo", of=3),
    Work("MAPS validation scn15_12", "Schumann", ("op15", "kinderszenen", "scn15"), 12, "einschlummern", of=13),
    Work("Bach10 validation 04", "Bach", ("christe du beistand", "christedubeistand")),
    Work("Bach10 test 05", "Bach", ("die nacht", "dienacht")),
    Work("Bach10 test 06", "Bach", ("die sonne", "diesonne")),
    Work("Bach10 test 07", "Bach", ("herr gott", "herrgott")),
    Work("Bach10 test 08", "Bach", ("deinen thron", "fuerdeinenthron", "furdeinenthron")),
    Work("Bach10 test 09", "Bach", ("jesus",)),
    Work("Bach10 test 10", "Bach", ("nun bitten", "nunbitten")),
)


MAPS_TEST = (
    Work("MAPS test bk_xmas1", "Lichner", ("op269", "silent night"), 3, of=3),
    Work("MAPS test bk_xmas5", "Lange", ("op172", "christmas"), 5, of=5),
    Work("MAPS test chpn-e01", "Chopin", ("op10", "etude", "etudes"), 1, of=12),
    Work("MAPS test chpn-p15", "Chopin", ("op28", "prelude", "preludes"), 15, "raindrop", of=24),
    Work("MAPS test chpn_op35_1", "Chopin", ("op35", *_sonata(2)), 1, "grave", of=4),
    Work("MAPS test chpn_op66", "Chopin", ("op66", "fantaisie impromptu", "fantasie impromptu", "impromptu no4")),
    Work("MAPS test deb_clai", "Debussy", ("suite bergamasque", "clair lune", "deb clai"), 3, "clair", of=4),
    Work("MAPS test grieg_butterfly", "Grieg", ("op43", "butterfly", "schmetterling"), 1, "butterfly", of=6),
    Work("MAPS test liz_et6", "Liszt", ("etudes paganini", "etude paganini", "s140", "s141"), 6, "theme", of=6),
    Work("MAPS test liz_et_trans5", "Liszt", ("etudes transcendental", "etude transcendental"), 5, of=12),
    Work("MAPS test liz_et_trans5", "Liszt", ("s139", "etudes transcendante", "feux follets"), 5, "feux", of=12),
    *(
        Work(f"MAPS test liz_rhap{k:02d}", "Liszt", ("s244", "rhapsody", "rhapsodies", "rhapsodie"), k, of=19)
        for k in (2, 9, 12)
    ),
    Work("MAPS test muss_1", "Mussorgsky", ("pictures exhibition", "bilder ausstellung", "tableaux exposition")),
    Work("MAPS test muss_1", "Mussorgsky", ("promenade", "gnomus")),
    Work("MAPS test mz_331_2", "Mozart", ("k331", *_sonata(11)), 2, "menuetto", of=3),
    Work("MAPS test mz_331_3", "Mozart", ("k331", *_sonata(11), "turca"), 3, "turca", of=3),
    Work("MAPS test mz_332_2", "Mozart", ("k332", *_sonata(12)), 2, "adagio", of=3),
    Work("MAPS test mz_333_2", "Mozart", ("k333", *_sonata(13)), 2, "andante", of=3),
    Work("MAPS test mz_333_3", "Mozart", ("k333", *_sonata(13)), 3, "allegretto", of=3),
    Work("MAPS test mz_570_1", "Mozart", ("k570", *_sonata(17)), 1, of=3),
    Work("MAPS test pathetique_1", "Beethoven", ("op13", "pathetique", *_sonata(8)), 1, "grave", of=3),
    Work(
        "MAPS test pathetique_2",
        "Beethoven",
        ("op13", "pathetique", *_sonata(8)),
        2,
        "adagio",
        of=3,
    ),
    Work("MAPS test schu_143_1", "Schubert", ("d784", "op143", *_sonata(784), *_sonata(14)), 1, of=3),
    Work("MAPS test schu_143_3", "Schubert", ("d784", "op143", *_sonata(784), *_sonata(14)), 3, of=3),
    Work("MAPS test schuim-1", "Schubert", ("d899", "op90", "impromptu", "impromptus"), 1, of=4),
    Work("MAPS test schumm-1", "Schubert", ("d780", "op94", "moment musical", "moments musicaux"), 1, of=6),
    Work("MAPS test scn15_11", "Schumann", ("op15", "kinderszenen", "scn15"), 11, "furchtenmachen", of=13),
    Work("MAPS test scn16_4", "Schumann", ("op16", "kreisleriana", "scn16"), 4, of=8),
    Work("MAPS test ty_mai", "Tchaikovsky", ("op37", "seasons", "jahreszeiten", "saisons"), 5, "may", of=12),
    Work("MAPS test waldstein_1", "Beethoven", ("op53", "waldstein", *_sonata(21)), 1, of=3),
)
"""Pieces of MAPS on a real piano that are in neither our training nor our validation recordings.

The 60 recordings are those named ENSTDkAm and ENSTDkCl in the copy of MAPS in jongwook/onsets-and-frames (data/MAPS);
titles are those that the metadata of cheriell/ACPAS-dataset gives 59 of them. Of `chpn-e01`, which that leaves out,
the site's name for the Etudes and the range and number of its notes (24–101, 12 a second) tell op. 10 no. 1.
What MAPS has on sampled pianos alone is not among them: it is what is trained on where these are tested.
"""

# fmt: off
_GENRES = frozenset((
    "ballade", "ballades", "etude", "etudes", "fantasia", "fantasie", "fugue", "impromptu", "impromptus", "intermezzi",
    "intermezzo", "kinderszenen", "kreisleriana", "mazurka", "mazurkas", "moment", "moments", "nocturne", "nocturnes",
    "partita", "pelerinage", "pieces", "polonaise", "polonaises",
    "prelude", "preludes", "rhapsody", "rhapsodies", "scherzo", "scherzos", "sonata", "sonatas", "sonatina", "suite",
    "variations", "waltz", "waltzes",
))
# fmt: on
# fmt: off
_NAMES = (
    "arabeske", "arabesque", "barcarolle", "estampes", "fantasie wanderer", "gaspard nuit", "images book",
    "images livre", "islamey", "italian concerto", "jeux eau", "mephisto", "miroirs", "pavane", "pour piano",
    "reminiscences juan", "toccata",
)
# fmt: on
"""Titles without a number by composers of MAPS that no other piece of theirs could be meant by."""


def is_held_out(composer: str, title: str, movement: str = "", solo_piano: bool = True) -> bool:
    """Whether a work must not be trained on; see `held_out_reason`."""
    return held_out_reason(composer, title, movement, solo_piano) is not None


def held_out_reason(composer: str, title: str, movement: str = "", solo_piano: bool = True) -> str | None:
    """Why a work must not be trained on, or None where it may.

    Args:
        composer: name in any usual order and spelling, or empty where unknown.
        title: composition and catalogue number as far as known; a file name serves too.
        movement: such as `3. Menuetto`. Without a number here or in the title, any movement of a held-out work
            is refused.
        solo_piano: whether it is for piano alone, and so may be a piece of MAPS. Leave it True where unknown.
    """
    names = set(normalise(composer).split())
    words = normalise(title).split()
    if solo_piano and not names:
        return "solo piano of an unknown composer"
    for work in (*HELD_OUT, *(MAPS_TEST if solo_piano else ())):
        known_composer = not names or names & _spellings(work.composer)
        if known_composer and _is_named(work, words) and _is_movement(work, words, movement):
            return work.reason
    if solo_piano and not _tells_piece(words):
        for name in PIANO_COMPOSERS:
            if names & _spellings(name):
                return f"solo piano by {name}, a composer of MAPS, whose title does not tell which piece it is"
    return None


def _is_named(work: Work, words: list[str]) -> bool:
    """Whether a title names the work and no other number of a catalogue that the work has a number of."""
    if not any(set(words).issuperset(key.split()) for key in work.keys):
        return False
    own = [match for key in work.keys for match in map(_NUMBERED.fullmatch, key.split()) if match]
    told = {match[0] for match in map(_NUMBERED.fullmatch, words) if match and match[1] in {own[1] for own in own}}
    return not told or bool(told & {match[0] for match in own})


def _tells_piece(words: list[str]) -> bool:
    """Whether a title tells one piece or opus: by a catalogue's number, a kind and its number, or a name of its own."""
    if any(_NUMBERED.fullmatch(word) or word == "hob" for word in words):
        return True
    if any(set(words).issuperset(name.split()) for name in _NAMES):
        return True
    return bool(_GENRES & set(words)) and any(re.fullmatch(r"(no)?\d{1,3}", word) for word in words)


def composer_in(text: str) -> str:
    """The composer that a file name or path names, empty where none is recognised.

    Understands `Lastname, Firstname, Title, …` and any known surname between separators; of several, a
    composer whose piano music is held out comes first.
    """
    names = set(normalise(text).split())
    for name in PIANO_COMPOSERS:
        if names & _spellings(name):
            return name
    for name in OTHER_COMPOSERS:
        if normalise(name) in names:
            return name
    parts = [part.strip() for part in text.split(",")]
    return f"{parts[1]} {parts[0]}" if len(parts) >= 3 and parts[0] and parts[1] else ""


def read_metadata(folder: Path) -> dict[str, dict[str, str]]:
    """Id → composer, composition, movement, ensemble … from a folder's `musicnet_metadata.csv`; empty without one.

    Raises:
        DatasetError: where the file is there and is something else.
    """
    path = folder / METADATA
    try:
        return _read_rows(path, path.stat().st_mtime_ns)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, UnicodeError, csv.Error, KeyError) as error:
        raise DatasetError(f"{path}: not MusicNet's metadata ({error!r}); fetch it again") from error


@functools.lru_cache(maxsize=256)
def _read_rows(path: Path, mtime_ns: int) -> dict[str, dict[str, str]]:
    """Rows by id; the time of the last change is taken so that a changed file is read anew."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        missing = _REQUIRED_COLUMNS - set(reader.fieldnames or ())
        if missing:
            raise KeyError(*sorted(missing))
        return {row["id"]: {key: row[key] or "" for key in row if key and key != "id"} for row in reader}


def work_name(composer: str, title: str) -> str:
    """One name for all files of one composition: composer and first catalogue number, or the title where it has none.

    Coarse on purpose: movements of one catalogue number share a name, so that they stay together.
    """
    words = normalise(title)
    number = _CATALOGUE.search(words)
    if composer == "Beethoven" and not number:
        sonata = re.search(r"(?<!violin )(?<!cello )\bsonatas? (?:no)?(\d+)\b", words)
        number = _CATALOGUE.search(_BEETHOVEN_SONATAS.get(int(sonata[1]), "")) if sonata else None
    return f"{composer}: {number[1]}{int(number[2])}" if composer and number else f"{composer}: {title}".strip(": ")


def normalise(text: str) -> str:
    """Words in lower case without accents or punctuation; a catalogue prefix joined to its number."""
    text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c)).lower()
    text = re.sub(r"[^a-z0-9]+", " ", text.replace("ß", "ss"))
    text = re.sub(r"\bop(?:us)?\s*(\d+)", r" op\1 ", text)
    text = re.sub(r"(?<![a-z])(?:no|nr|num|number)\s*(\d+)", r" no\1 ", text)
    text = re.sub(r"\b(?:kv|k)\s*(\d+)", r" k\1 ", text)
    text = re.sub(r"\b(bwv|d|s|hwv|woo)\s*(\d+)", r" \1\2", text)
    return " ".join(text.split())


def _spellings(name: str) -> set[str]:
    return {normalise(name), *PIANO_COMPOSERS.get(name, ())}


def _is_movement(work: Work, title: list[str], movement: str) -> bool:
    """Whether it is, or may be, the movement held out: names of movements have too many spellings to clear one."""
    number = _movement_number(movement) or _movement_in_title(work, title)
    if work.movement is None or number is None or number == work.movement:
        return True
    named = normalise(movement).split() + (title if work.of else [])
    return bool(work.movement_name) and work.movement_name in named


def _movement_in_title(work: Work, title: list[str]) -> int | None:
    """The one movement that a title tells, right after what names the work or as `no. 6`; None where it tells
    none, several, or a number that no movement has, such as the sonata's own.
    """
    keys = {word for key in work.keys for word in key.split()} | {"mov", "movement", "satz"}
    told = set()
    for before, word in zip(["", *title], title, strict=False):
        if word in keys:
            continue
        number = word.removeprefix("no") if word.startswith("no") else ""
        told.add(_movement_number(number or (word if before in keys else "")))
    told = {number for number in told if number and number <= work.of}
    return told.pop() if len(told) == 1 else None


# fmt: off
_BEETHOVEN_SONATAS = dict(enumerate((
    "op2", "op2", "op2", "op7", "op10", "op10", "op10", "op13", "op14", "op14", "op22", "op26", "op27", "op27", "op28",
    "op31", "op31", "op31", "op49", "op49", "op53", "op54", "op57", "op78", "op79", "op81", "op90", "op101", "op106",
    "op109", "op110", "op111",
), start=1))
# fmt: on
"""Number of a piano sonata → its opus."""

_NUMBERED = re.compile(r"(op|k|bwv|d|s|hwv|woo)\d+")
_CATALOGUE = re.compile(r"\b(op|k|bwv|d|s|hwv|woo)(\d+)\b")
_ROMAN = ("i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x")


def _movement_number(movement: str) -> int | None:
    """The number that a movement's name begins with, Arabic or Roman."""
    first = (normalise(movement).split() or [""])[0]
    if first in _ROMAN:
        return _ROMAN.index(first) + 1
    ordinal = re.fullmatch(r"(\d+)(?:st|nd|rd|th)?", first)
    return int(ordinal[1]) if ordinal else None

"""Names of instruments, as scores write them in several languages → General MIDI programs."""

from __future__ import annotations

import re
import unicodedata

from musicnet_tf.events import UNKNOWN

_WORDS = {
    0: "piano pianoforte fortepiano klavier keyboard",
    6: "harpsichord cembalo clavecin clavicembalo",
    8: "celesta",
    19: "organ orgel organo orgue",
    24: "guitar gitarre chitarra guitare",
    40: "violin violino violine violon geige vln",
    41: "viola bratsche vla",
    42: "violoncell cello vlc",
    43: "contrabass double-bass string-bass kontrabass contrebasse violone",
    46: "harp harfe arpa harpe",
    47: "timpani pauken timbales",
    52: "voice choir chorus soprano mezzo alto tenor baritone bass singstimme gesang canto",
    56: "trumpet trompete tromba trompette cornet",
    57: "trombone posaune",
    58: "tuba",
    60: "horn corno cor waldhorn french-horn",
    64: "soprano-sax sopransax",
    65: "alto-sax altsax saxophone saxophon sax",
    66: "tenor-sax tenorsax",
    67: "baritone-sax baritonsax",
    68: "oboe hautbois hoboe oboi",
    69: "english-horn cor-anglais corno-inglese englischhorn",
    70: "bassoon fagott basson contrabassoon kontrafagott controfagotto contrebasson",
    71: "clarinet clarinett klarinette bass-clarinet basset-horn bassetthorn",
    72: "piccolo",
    73: "flute flauto flauti flote traverso alto-flute",
    74: "recorder blockflote",
}
"""Program → beginnings of names, without accents; a hyphen stands for the space between words."""

_PROGRAMS = {word.replace("-", " "): program for program, words in _WORDS.items() for word in words.split()}
_LONGEST_FIRST = sorted(_PROGRAMS, key=len, reverse=True)


def program_of(*names: str | None) -> int:
    """The General MIDI program, counted from 0, of the first name that is known; `UNKNOWN` where none is.

    Numbers, keys and plurals do not matter: `Violins 2`, `Klarinette in B♭` and `wind.flutes.flute` are known.
    """
    for name in names:
        plain = unicodedata.normalize("NFKD", name or "").encode("ascii", "ignore").decode().casefold()
        words = " " + " ".join(re.findall(r"[a-z]+", plain))
        for word in _LONGEST_FIRST:
            if " " + word in words:
                return _PROGRAMS[word]
    return UNKNOWN

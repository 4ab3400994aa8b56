"""Styles of accompaniment, as `_groove_style` reads them.

After what drummers' and arrangers' methods teach of each; the patterns are this library's own.
"""

from __future__ import annotations

from musicnet_tf.datasets._groove_style import (
    ANALOGUE,
    BRUSH,
    ELECTRONIC,
    JAZZ,
    ORCHESTRA,
    POWER,
    ROOM,
    STANDARD,
    Drums,
    Style,
)

# fmt: off
_BACKBEAT = ".... x... .... x..."
_EIGHTHS, _QUARTERS, _SIXTEENTHS = "x.x. x.x. x.x. x.x.", "X... x... X... x...", "Xgxg Xgxg Xgxg Xgxg"
_ACOUSTIC = (0, 24, 25, 48, 49)
_CLASSICAL = (0, 0, 1, 6, 24, 46, 48)
_ORCHESTRAL = (40, 42, 56, 60, 68, 71, 73)
_FOLK = (21, 22, 40, 73, 75, 105)
_HORNS = (11, 26, 56, 59, 64, 65, 66, 71, 73)

_ROCK_DRUMS: tuple[Drums, ...] = (
    {"kick": "x... ..4. x.4. ..3.", "snare": _BACKBEAT, "hat": _EIGHTHS},
    {"kick": "x... .3.. x.6. .2..", "snare": ".... x..g .g.. x...", "hat": _QUARTERS},
    {"kick": "x.5. ..x. ..x. ....", "snare": _BACKBEAT, "ride": _EIGHTHS},
    {"kick": "x..3 ..x. .x2. ....", "snare": ".... x... ...1 x..2", "hat": "x.x. x.x. x.x. x...",
    "open": ".... .... .... ..x."},
    {"kick": "x... x... x... x...", "snare": _BACKBEAT, "crash": "x... x... x... x..."},
)
_POP_LEAD = ("4.5. 5.3. 5.4. 4.2.", "x-.3 .5-- 4.5. 3...", "x--- 5-5- 4--- 3-..", "..5- 5.5. 5-.5 ..4.")
_JAZZ_LEAD = ("55 45 54 36", "x- 4x .6 .5", "36 65 43 25", ".x -5 5- 4.")
_WALTZ_LEAD = ("x- 5- 5-", "x- -- 5-", "x- 44 44", "6- -5 5-", "x- -- --")
_COMPOUND_LEAD = ("x-5 4-5 x-5 4-5", "x-- 5-4 x-- 4..", "x55 x55 x44 x..", "..5 x-- --5 4-.")

STYLES: dict[str, Style] = {
    "rock": Style(
        (4, 4), 4, (75, 185), _ROCK_DRUMS,
        ("1.1. 1.1. 1.1. 1.1.", "1... ..1. 1.5. ..8.", "1-.. ..1. 1-.. 5.a.", "1--- ---- 1--- 5-a-",
        "11.1 1.11 .1.1 1.a."),
        ("x--- ---- x--- ----", "x.x. x.x. x.x. x.x.", "x-.x .x-. x-.x .x..", "x--- ---- ---- ----",
        "1.2. 3.2. 4.2. 3.2."),
        _POP_LEAD, chord_programs=(0, 16, 18, 25, 27, 29, 30), weight=2.0,
    ),
    "pop": Style(
        (4, 4), 4, (80, 135), (*_ROCK_DRUMS[:2], {"kick": "x..x ..x. ..x. ....", "clap": _BACKBEAT,
        "hat": _SIXTEENTHS}),
        ("1... ..1. 5... ....", "1-.1 ..1. 1-.5 ..a.", "1--- ---- ---- ----"),
        ("x--- ---- ---- ----", "x... x... x... x...", "x..x ..x. x..x ..x.", "1.3. 2.3. 1.3. 2.3."),
        _POP_LEAD, loose=0.6, weight=1.5,
    ),
    "ballad": Style(
        (4, 4), 4, (52, 88),
        (
            {"kick": "x... ..3. x... ..4.", "stick": _BACKBEAT, "hat": _EIGHTHS},
            {"kick": "x... ..2. x.3. ....", "snare": _BACKBEAT, "hat": "Xgxg Xgxg Xgxg Xgxg"},
            {"kick": "x... .... x... ....", "snare": _BACKBEAT, "ride": _QUARTERS, "shaker": "gggg gggg gggg gggg"},
        ),
        ("1--- --1- 5--- ---a", "1--- ---- ---- ----", "1--- ---- 1--- 5---"),
        ("x--- x--- x--- x---", "1.2. 3.4. 3.2. 3.2.", "x--- ---- ---- ----", "b.2. 3.4. 3.2. 3.2."),
        ("x--- 4-4- 4--- 3-4-", "..4- x--- ..4- 4---", "x--3 x--- ---- ..44"), kits=(STANDARD, ROOM, BRUSH),
    ),
    "shuffle": Style(
        (4, 4), 2, (88, 170),
        (
            {"kick": "x. .2 x. .3", "snare": ".. x. .. x.", "hat": "xx xx xx xx"},
            {"kick": "x. x. x. x.", "snare": ".. x. .. x.", "ride": "xx xx xx xx"},
            {"kick": "x. .4 .x ..", "snare": "gg Xg gg Xg", "hat": "x. x. x. x."},
        ),
        ("1. 3. 5. 8.", "1- 11 5- 55", "11 33 55 33", "1. 1. 5. 5."),
        ("x. .x .. x.", ".x .x .x .x", "x- -- x- --", ".. x. .. x."), ("5. 44 5- .4", ".4 54 4. ..", "x- 5- 45 4."),
        harmony="blues", chord_programs=(0, 3, 16, 17, 26, 27), lead_programs=(0, 16, 22, 26, 27, 29, 56, 65, 66),
        swing=(0.6, 0.68), weight=1.5,
    ),
    "swing": Style(
        (4, 4), 2, (105, 220),
        (
            {"ride": "x. xx x. xx", "pedal": ".. x. .. x.", "kick": "g. g. g. g.", "snare": ".1 .2 .1 .2"},
            {"hat": ".. xx .. xx", "open": "x. .. x. ..", "stick": ".. .. .. x.", "kick": "g. .. g. .."},
            {"snare": "x. Xg x. Xg", "pedal": ".. x. .. x.", "kick": "g. g. g. g."},
        ),
        ("1. w. w. a.", "1. w. 5. w.", "w. w. w. a.", "1. .. 5. .."),
        ("x. .x .. ..", ".. .x .. .x", ".x .. .x ..", "x- -- -- --", ".. x. .. x."), _JAZZ_LEAD,
        harmony="jazz", kits=(JAZZ, JAZZ, BRUSH, STANDARD), bass_programs=(32, 32, 33), chord_programs=(0, 0, 1, 11,
        26, 26),
        lead_programs=_HORNS, swing=(0.58, 0.68), weight=2.0,
    ),
    "funk": Style(
        (4, 4), 4, (84, 122),
        (
            {"kick": "x..3 ..x. .3x. ..2.", "snare": "...g x..g .g.. x..g", "hat": "XgxgXgxgXgxgXgxg"},
            {"kick": "x.x. ...3 ..x. .3..", "snare": ".... x.gg .g.g x...", "hat": "x.x. x.x. x.x. x.x.",
            "open": ".... .... ..4. ...."},
            {"kick": "x... ..xx ...3 ....", "snare": ".g.. x..g .g.g ...x", "hat": _EIGHTHS,
            "tambourine": "..x. ..x. ..x. ..x."},
        ),
        ("1..1 ..8. .1.5 ..a.", "1... 8..1 ..3. 5.5a", "1.1. ...8 ..1. .5.a", "1... .... ...1 .5.8"),
        ("..x. ...x ..x. ...x", "x... ..x. .x.. ..x.", ".... x..x ..x. x...", "xx.x .x.x xx.x .x.."),
        ("x.4. .4.4 ..4. 4...", "..34 .4.. 4..4 .43.", ".... 4.44 .4.. ...."), harmony="minor", chord_programs=(4, 7,
        16, 27, 28, 61),
        lead_programs=(16, 27, 56, 61, 62, 65, 66), swing=(0.5, 0.57), swings=2,
    ),
    "bossa": Style(
        (4, 4), 2, (100, 165),
        (
            {"kick": "x. .x x. .x", "stick": "x..x ..x. ..x. .x..", "hat": "xx xx xx xx"},
            {"kick": "x. .x x. .x", "stick": "..x. .x.. x..x ..x.", "shaker": "Xg xg Xg xg"},
        ),
        ("1- -5 5- -1", "1- -5 5- -8", "1- .5 5- .a"),
        ("x..x ..x. .x.x ..x.", ".x.x ..x- --.x .x..", "x.x. .x.x .x.x .x.."), _JAZZ_LEAD,
        harmony="jazz", kits=(JAZZ, BRUSH, STANDARD), bass_programs=(32, 32, 33), chord_programs=(0, 4, 24, 24, 26),
        lead_programs=(*_HORNS, 24),
    ),
    "samba": Style(
        (2, 4), 4, (84, 132),
        (
            {"kick": "x..x x..x", "low tom": ".... X...", "shaker": "xggx xggx", "stick": "x.x. .x.x .x.x x.x."},
            {"kick": "g... X...", "snare": "xggx ggxg", "tambourine": "x..x x..x", "claves": "x..x ..x. ..x. x..."},
        ),
        ("1..5 5..1", "1... 5..8", "1..1 5..a"), ("x.x. .x.x .x.x x.x.", ".x.x x.x.", "x..x ..x. .x.. x.x."),
        ("4.4. 4.44", ".4.4 .4.4", "x..4 .4.."), harmony="jazz", chord_programs=(0, 24, 24, 25), lead_programs=(24,
        56, 57, 65, 73, 75),
    ),
    "salsa": Style(
        (4, 4), 2, (150, 215),
        (
            {"cowbell": "x. x. x. x.", "low conga": ".. .. .. xx", "conga": "g. x. g. ..",
            "claves": "x..x ..x. ..x. x..."},
            {"bell": "x. xx .x xx", "kick": "..   .x .. ..", "low conga": ".. .. .. xx",
            "claves": "..x. x... x..x ..x."},
        ),
        ("...5 ..1-", "---5 ..8-", "1..5 ..1-"), ("x.xx .xx. .x.x .xx.", "x.x. .x.x .x.x .x.x",
        "x..x ..x. ..x. x..."),
        ("x- 4- .4 .4", ".4 .4 4- --", "x. 44 .4 .."), harmony="minor", chord_programs=(0, 0, 1, 25),
        lead_programs=(56, 57, 61, 65, 73),
        bass_programs=(32, 33, 35), weight=0.8,
    ),
    "reggae": Style(
        (4, 4), 4, (64, 96),
        (
            {"kick": ".... .... x... ....", "stick": ".... .... x... ....", "hat": _EIGHTHS},
            {"kick": "x... x... x... x...", "stick": ".... .... x... ....", "hat": "..x. ..x. ..x. ..x."},
            {"kick": "x... .... x... ....", "snare": ".... .... X... ...2", "hat": "x.xg x.xg x.xg x.xg"},
        ),
        ("1-.1 ..3. 5-.. ....", ".... 1.1. 5.3. 1...", "1-1. ..5- 8-.. 5...", "1... ..1. 5-.. ..a."),
        ("..x. ..x. ..x. ..x.", ".... x... .... x...", "..xx ..x. ..xx ..x."), _POP_LEAD,
        chord_programs=(0, 16, 17, 27, 28), lead_programs=(16, 17, 22, 27, 56, 57, 65), swing=(0.5, 0.6), swings=2,
    ),
    "waltz": Style(
        (3, 4), 2, (84, 200),
        (
            {"kick": "x. .. ..", "snare": ".. x. x.", "hat": ".. x. x."},
            {"kick": "x. .. .2", "stick": ".. x. x.", "ride": "x. x. x."},
            {"kick": "x. .. ..", "snare": ".. g. x.", "hat": "xx xx xx"},
        ),
        ("1- .. ..", "1- -- -- 5- -- --", "1. .. 5."), (".. x. x.", ".. x- x-", "x- -- --", "1. 2. 3."), _WALTZ_LEAD,
        chord_programs=_ACOUSTIC, lead_programs=(*_ORCHESTRAL, 21), weight=1.5, bass_programs=(32, 33, 43),
    ),
    "jazz_waltz": Style(
        (3, 4), 2, (100, 200),
        (
            {"ride": "x. xx x.", "pedal": ".. x. ..", "kick": "x. .. .3", "snare": ".. .2 .2"},
            {"ride": "x. xx xx", "pedal": ".. x. x.", "kick": "g. .. .2", "stick": ".. .. 4."},
        ),
        ("1. w. w.", "1- -- 5-", "1- .5 w."), ("x. .x ..", ".. .x ..", "x- -- --", ".x .. x."), ("x- 45 54",
        ".5 55 4.", "x- -- 44"),
        harmony="jazz", kits=(JAZZ, BRUSH), bass_programs=(32,), chord_programs=(0, 0, 11, 26), lead_programs=_HORNS,
        swing=(0.58, 0.67),
    ),
    "blues_6_8": Style(
        (6, 8), 3, (44, 84),
        (
            {"kick": "x.. ..3", "snare": "... x..", "hat": "xxx xxx"},
            {"kick": "x.. .2.", "snare": "... x.2", "ride": "xxx xxx"},
            {"kick": "x.. x..", "snare": "... x..", "hat": "x.x x.x"},
        ),
        ("1-- 5-a", "1-1 3-5", "1-- ---", "1.. 5.."), ("xxx xxx", "x-- x--", "1.2 3.2", "b23 423"), _COMPOUND_LEAD,
        harmony="blues", weight=1.3,
    ),
    "ballad_12_8": Style(
        (12, 8), 3, (46, 84),
        (
            {"kick": "x.. ..2 x.3 ...", "snare": "... x.. ... x..", "hat": "xxx xxx xxx xxx"},
            {"kick": "x.. ... x.. ..4", "stick": "... x.. ... x..", "ride": "x.x x.x x.x x.x"},
        ),
        ("1-- 1.. 5-- 5.a", "1-- --- 5-- ---", "1-- 3-- 5-- 3-a"), ("xxx xxx xxx xxx", "b23 423 b23 423",
        "x-- --- --- ---"), _COMPOUND_LEAD,
        weight=1.2,
    ),
    "jig": Style(
        (6, 8), 3, (88, 132),
        ({"low tom": "X.g x.g", "tambourine": "x.. x.."}, {"kick": "x.. x..", "stick": "..x ..x"}, {}),
        ("1.. 5..", "1-- 1--", "1.. .5."), ("x.x x.x", "x.. x..", "b.x b.x"), ("xxx xxx", "x-x xxx", "x.x x55",
        "x-- x.x"),
        chord_programs=(24, 25, 21, 46), lead_programs=_FOLK, bass_programs=(32, 33, 43), weight=1.2,
    ),
    "reel": Style(
        (2, 2), 4, (88, 122), ({"low tom": "X.gg x.gg", "shaker": "xgxg xgxg"}, {"kick": "x... x...",
        "stick": "..x. ..x."}, {}),
        ("1... 5...", "1--- 1---", "1.1. 5.5."), ("b.x. b.x.", "x.xx x.xx", "x... x..."), ("xxxx xxxx", "x.xx xxxx",
        "x-xx x.x."),
        chord_programs=(24, 25, 21, 46), lead_programs=_FOLK, bass_programs=(32, 33, 43),
    ),
    "polka": Style(
        (2, 4), 2, (92, 136), ({"kick": "x. x.", "snare": ".x .x"}, {"kick": "x. x.", "hat": "xx xx",
        "snare": ".. .x"}),
        ("1. 5.", "1. 5. 1. 3.", "1- 5-"), (".x .x", ".x .x"), ("55 55", "x- 45", "x. x.", "45 x."),
        chord_programs=(0, 21, 23, 25), lead_programs=(21, 21, 56, 71, 40), bass_programs=(32, 43, 58),
    ),
    "march": Style(
        (2, 4), 4, (96, 134),
        (
            {"kick": "x... x...", "snare": "x.gg x.xg", "crash": "x... ...."},
            {"kick": "x... ....", "snare": "xggg Xgxg", "crash": ".... 3..."},
            {"kick": "x... x...", "snare": "..x. ..x."},
        ),
        ("1... 5...", "1-.. 5-..", "1.1. 5.5."), ("..x. ..x.", "x... x...", "..xx ..x."), ("x--4 x-4-", "4.44 x-..",
        "x--- 4-4-", "4.44 4.44"),
        kits=(ORCHESTRA, STANDARD, POWER), chord_programs=(48, 60, 61), lead_programs=(56, 57, 60, 61, 71, 72, 73),
        bass_programs=(43, 58, 58),
    ),
    "march_6_8": Style(
        (6, 8), 3, (96, 132), ({"kick": "x.. x..", "snare": "..x x.x"}, {"kick": "x.. ...", "snare": "xgx Xgx",
        "crash": "... x.."}),
        ("1.. 5..", "1-. 5-."), ("..x ..x", "x.. x..", ".xx .xx"), ("x-5 x-5", "x-- 4-4", "xxx x.4"),
        kits=(ORCHESTRA, STANDARD), chord_programs=(48, 60, 61), lead_programs=(56, 57, 60, 61, 71, 72, 73),
        bass_programs=(43, 58),
    ),
    "five_four": Style(
        (5, 4), 2, (96, 190),
        (
            {"ride": "x. xx x. x. xx", "kick": "x. .. .x .. ..", "pedal": ".. x. .. x. .."},
            {"kick": "x. .x .. x. ..", "snare": ".. x. .. .. x.", "hat": "xx xx xx xx xx"},
            {"kick": "x. .. x. .3 ..", "snare": ".. x. .. x. x.", "ride": "x. x. x. x. x."},
        ),
        ("1- -1 -- 5- 5-", "1- -- -- 5- a-", "1. 1. 1. 5. 8."), ("x..x ..x- x-", "x- -- -- x- --", "x. x. x. x. x."),
        ("55 54 45 53 44", "x- -5 -- x- 4-", "x- -- 44 x- --"),
        harmony="minor", swing=(0.5, 0.66), weight=0.7,
    ),
    "seven_eight": Style(
        (7, 8), 2, (165, 220),
        (
            {"kick": "x. .. .. .. x. .. ..", "snare": ".. .. x. .. .. .. x.", "hat": "x. x. x. x. x. x. x."},
            {"kick": "x. .. .. x. .. x. ..", "snare": ".. .. .. x. .. x. ..", "ride": "x. .. x. x. .. x. .."},
        ),
        ("1. .. 1. .. 5. .. a.", "1- -- -- 5- -- 8- --"), ("x- -- x- -- x- -- --", "x. .x x. .x x. .x x."),
        ("x. 4. x. 4. x. 4. 4.", "x- -- -- x- 4- x- 4-"),
        harmony="minor", weight=0.5,
    ),
    "half_time": Style(
        (4, 4), 4, (104, 168),
        (
            {"kick": "x... ..3. .... ..4.", "snare": ".... .... x... ....", "hat": _QUARTERS},
            {"kick": "x... .... ..x. ..3.", "snare": ".... .... x... ....", "hat": "x.x. x.x. x.x. x.xx"},
            {"kick": "x..2 .... ...4 ..3.", "clap": ".... .... x... ....", "hat": "xxxx xxxx xxxx xxxx"},
        ),
        ("1--- ---- ---- ----", "1--- ..1. ---- ..a.", "1.1. ..1. .... 5.a."), ("x--- ---- ---- ----",
        "x... x... x... x...", "..x. ..x. ..x. ..x."),
        _POP_LEAD, kits=(STANDARD, POWER, ELECTRONIC, ANALOGUE), loose=0.6,
    ),
    "double_time": Style(
        (4, 4), 4, (62, 108),
        (
            {"kick": "x... x... x... x...", "snare": "..x. ..x. ..x. ..x.", "hat": _EIGHTHS},
            {"kick": "x..3 .x.. x..3 .x..", "snare": "..x. ..x. ..x. ..x.", "ride": _SIXTEENTHS},
        ),
        ("1.1. 1.1. 1.1. 1.1.", "1--- 5--- 1--- 5-a-"), ("x--- x--- x--- x---", "..x. ..x. ..x. ..x."), _POP_LEAD,
        weight=0.6,
    ),
    "train": Style(
        (4, 4), 4, (84, 132),
        (
            {"kick": "x... x... x... x...", "snare": "gxXg gxXg gxXg gxXg"},
            {"kick": "x... x... x... x...", "snare": "xgXx xgXg xgXx xgXg"},
            {"kick": "x... x... x... x...", "stick": "..x. ..x. ..x. ..x.", "hat": _EIGHTHS},
        ),
        ("1... 5... 1... 5...", "1... 5... 1... 3.a.", "1-.. 5-.. 1-.. 5-.."), ("..x. ..x. ..x. ..x.",
        "..xx ..xx ..xx ..xx", "b.x. b.x. b.x. b.x."),
        ("4.44 4.4. 4.44 3...", "x--- 4-4- 4.4. 4-.."), kits=(BRUSH, BRUSH, STANDARD), chord_programs=(0, 24, 25,
        25), lead_programs=(22, 25, 27, 40, 105),
        bass_programs=(32, 33),
    ),
    "disco": Style(
        (4, 4), 4, (104, 136),
        (
            {"kick": "x... x... x... x...", "snare": _BACKBEAT, "open": "..x. ..x. ..x. ..x.",
            "hat": "xx.x xx.x xx.x xx.x"},
            {"kick": "x... x... x... x...", "clap": _BACKBEAT, "open": "..x. ..x. ..x. ..x.",
            "shaker": "gggg gggg gggg gggg"},
            {"kick": "x... x... x... x...", "hat": _SIXTEENTHS, "tambourine": _BACKBEAT},
        ),
        ("1.8. 1.8. 1.8. 1.8.", "..1. ..1. ..1. ..1.", "1..1 ..8. 1..1 ..8.", "1... 1.1. 5... 8.a."),
        ("x--- ---- x--- ----", "..x. ..x. ..x. ..x.", "xx.x .xx. xx.x .x..", "x..x ..x. ..x. x..."), _POP_LEAD,
        kits=(STANDARD, ELECTRONIC, ANALOGUE, POWER), bass_programs=(33, 36, 38, 39), chord_programs=(0, 4, 27, 48,
        50, 61,
        81, 89), loose=0.3, weight=1.5,
    ),
    "techno": Style(
        (4, 4), 4, (118, 150),
        (
            {"kick": "X... X... X... X...", "hat": "..x. ..x. ..x. ..x."},
            {"kick": "X... X... X... X...", "clap": _BACKBEAT, "hat": "x.xx x.xx x.xx x.xx",
            "cowbell": "..3. .3.. 3..3 ..3."},
        ),
        ("..1. ..1. ..1. ..1.", ".111 .111 .111 .11a", "1..1 ..1. .1.. 1.8."), ("x--- ---- ---- ----",
        "1.23 .12. 3.12 .3.2", "..x. .... ..x. ...."),
        ("4..4 ..4. 4..4 ..4.", "x--- ---- 3--- ----"), harmony="minor", kits=(ELECTRONIC, ANALOGUE),
        bass_programs=(38, 39,
        81),
        chord_programs=(50, 81, 88, 89, 90), lead_programs=(80, 81, 87), loose=0.0,
    ),
    "hip_hop": Style(
        (4, 4), 4, (72, 104),
        (
            {"kick": "x..3 ..3. .3x. .3..", "snare": ".... X... .... X...", "hat": "x.x. x.xx x.x. x.x."},
            {"kick": "x.x. .... ..x. .4..", "clap": _BACKBEAT, "hat": _EIGHTHS},
            {"kick": "x... ...x ..x. ....", "snare": ".... X..g .g.. X...", "ride": _EIGHTHS},
        ),
        ("1--- ---- ..1. ....", "1--. ..1. ..5- ..a.", "1... ..3. 5... ...."), ("x--- ---- ---- ----",
        "x..x ..x. .... ....", "1.3. 2.3. 1.4. 3.2."),
        _POP_LEAD, harmony="minor", kits=(STANDARD, ROOM, ELECTRONIC, ANALOGUE), chord_programs=(0, 4, 4, 26, 48,
        89), swing=(0.5, 0.6), swings=2, loose=0.4,
    ),
    "drum_and_bass": Style(
        (4, 4), 4, (155, 182),
        (
            {"kick": "x... .... ..x. ....", "snare": ".... x... .... x...", "hat": _EIGHTHS},
            {"kick": "x.x. .... ..x. .3..", "snare": ".... x..g .g.. x...", "ride": "x.x. x.x. x.x. x.x."},
        ),
        ("1--- ---- ---- ----", "1--. ..1. ..5- ...."), ("x--- ---- ---- ----", "x--- ---- ..x- ----"),
        ("x--- ---- 4--- ----", "..4. 4... 4..4 ...."),
        harmony="minor", kits=(STANDARD, ELECTRONIC, POWER), bass_programs=(33, 38, 39), chord_programs=(4, 48, 50,
        89),
        loose=0.3, weight=0.6,
    ),
    "arpeggio": Style(
        (4, 4), 4, (50, 120), (), ("1--- ---- ---- ----", "1--- ---- 5--- ----"),
        ("1234 3234 1234 3234", "b.2. 3.4. 3.2. 3.2.", "1.2. 3.4. 1.2. 3.4.", "1234 1234 1234 1234",
        "b123 4321 b123 4321"),
        ("x--- 4--- 4--- 3---", "x--- ---- 4-4- ----", "4--4 x--- 4-4- x---"), chord_programs=_CLASSICAL,
        lead_programs=_ORCHESTRAL, bass_programs=(0, 32, 42, 43), weight=1.5,
    ),
    "alberti": Style(
        (4, 4), 2, (84, 168), (), ("1- -- -- --", "1- .. 5- .."), ("13 23 13 23", "14 34 14 34", "1. 32 1. 32"),
        ("x- 44 4- 4.", "x. 4. 44 44", "x- -4 4- --", "44 44 x- --"), chord_programs=(0, 0, 0, 6), lead_programs=(0,
        0, 6, 40, 71, 73), bass_programs=(0, 42, 43), weight=1.3,
    ),
    "chorale": Style(
        (4, 4), 2, (54, 108), (), ("1- 3- 5- w-", "1- w- w- a-", "1- -- 5- --"), ("x- x- x- x-", "x- -- x- --"),
        ("x- x- x- x-", "x- x5 x- 5-", "x- -- x- x-"),
        chord_programs=(0, 19, 20, 48, 52, 60), lead_programs=(*_ORCHESTRAL, 19, 52), bass_programs=(19, 42, 43, 58,
        70),
    ),
    "minuet": Style(
        (3, 4), 2, (84, 150), (), ("1- 3- 5-", "1- -- 5-", "1- w- a-"), ("b. x. x.", "13 23 23", "x- x- x-",
        "1- 2- 3-"), _WALTZ_LEAD,
        chord_programs=_CLASSICAL, lead_programs=_ORCHESTRAL, bass_programs=(0, 42, 43, 70), weight=1.5,
    ),
    "siciliano": Style(
        (6, 8), 3, (44, 84), (), ("1-- 5--", "1-- ---", "1-- --5"), ("1.2 3.2", "b23 423", "123 432", "x-- x--"),
        ("x-5 x--", "x-5 x-5", "x-- --5", "x55 x--"),
        chord_programs=_CLASSICAL, lead_programs=_ORCHESTRAL, bass_programs=(0, 42, 43, 70), weight=1.2,
    ),
    "stride": Style(
        (4, 4), 2, (76, 190), (), ("1. .. 5. ..", "1. .. 3. .."), ("b. x. b. x.", "b. x. b. x."), ("54 x5 .x -5",
        "x- 45 54 4.", "x4 .x -4 4."),
        harmony="jazz", chord_programs=(0, 0, 3), lead_programs=(0, 0, 3, 56, 71), bass_programs=(0, 32, 58),
        swing=(0.5,
        0.64),
    ),
    "tango": Style(
        (2, 4), 4, (54, 78), ({"stick": "x..x x.x.", "kick": "x..g x.g."}, {}), ("1..5 5.8.", "1..1 5.5.",
        "1... 5..."),
        ("x..x x.x.", "x.x. x.x.", "..x. ..x."), ("x--4 4-4-", "4444 x---", ".444 4-4-", "x--- --44"),
        harmony="minor", kits=(BRUSH, STANDARD),
        chord_programs=(0, 21, 24, 48), lead_programs=(21, 23, 40, 42, 0), bass_programs=(32, 43),
    ),
}
# fmt: on

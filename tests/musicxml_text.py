"""Small MusicXML scores as text, for tests."""

import re

DOCTYPE = (
    '<!DOCTYPE score-partwise PUBLIC "-//Recordare//DTD MusicXML 3.1 Partwise//EN"'
    ' "http://www.musicxml.org/dtds/partwise.dtd">'
)
VIOLIN = "<part-name>Violin</part-name>"


def note(pitch, duration=None, *inside):
    """`C4`, `F#5`, `Bb3`; `R` is a rest, `x` unpitched."""
    step, alter, octave = re.fullmatch(r"([A-GRx])([#b]?)(\d?)", pitch).groups()
    alter = {"#": "<alter>1</alter>", "b": "<alter>-1</alter>", "": ""}[alter]
    what = {"R": "<rest/>", "x": "<unpitched/>"}.get(
        step, f"<pitch><step>{step}</step>{alter}<octave>{octave}</octave></pitch>"
    )
    before = "".join(f"<{name}/>" for name in inside if name in ("grace", "chord", "cue"))
    after = "".join(text for text in inside if text.startswith("<"))
    length = "" if duration is None else f"<duration>{duration}</duration>"
    return f"<note>{before}{what}{length}{after}</note>"


def attributes(divisions=1, time=None, more=""):
    time = "" if time is None else "<time><beats>{}</beats><beat-type>{}</beat-type></time>".format(*time)
    return f"<attributes><divisions>{divisions}</divisions>{time}{more}</attributes>"


def document(*parts, told=(), numbers=None):
    """Each part a list of the contents of its measures."""
    told = [*told, *[VIOLIN] * (len(parts) - len(told))]
    heads = "".join(f'<score-part id="P{i}">{text}</score-part>' for i, text in enumerate(told))
    numbers = numbers or [str(k + 1) for k in range(max(len(part) for part in parts))]
    bodies = "".join(
        f'<part id="P{i}">'
        + "".join(f'<measure number="{n}">{m}</measure>' for n, m in zip(numbers, p, strict=False))
        + "</part>"
        for i, p in enumerate(parts)
    )
    head = f'<?xml version="1.0" encoding="UTF-8"?>{DOCTYPE}'
    return f"{head}<score-partwise><part-list>{heads}</part-list>{bodies}</score-partwise>"

"""The last line of verbs that turn recordings into files of events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from musicnet_tf.transcription import Result


def of(results: Sequence[Result], noun: str, seconds: float, output_dir: str) -> str:
    """How many recordings came to what, and how long it took.

    Args:
        results: of all recordings.
        noun: what their events are called, in the plural.
        seconds: that those took which were not skipped.
        output_dir: where the outputs are.
    """
    done = [r for r in results if not r.error and not r.skipped]
    audio_seconds = sum(r.audio_seconds for r in done)
    counts = {
        "transcribed": len(done),
        "skipped": sum(r.skipped for r in results),
        "failed": sum(bool(r.error) for r in results),
    }
    parts = [f"{number} {what}" for what, number in counts.items() if number or what == "transcribed"]
    text = f"{', '.join(parts)}; {counted(sum(r.events for r in done), noun)} in {audio_seconds:.1f} s of audio"
    if audio_seconds:
        text += f"; real-time factor {seconds / audio_seconds:.3f}"
    return f"{text}; outputs in {output_dir}"


def counted(number: int, noun: str) -> str:
    """`1 tag`, `2 tags`: so many of what `noun` calls in the plural."""
    return f"{number} {noun.removesuffix('s') if number == 1 else noun}"

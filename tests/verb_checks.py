"""What is asked of each verb that turns recordings into events, with a model that stands in for its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


def skips_what_exists_and_names_a_bad_file(
    musicnet: Callable[..., Any], verb: str, recording: Path, form: str, folder: Path, loaded: Sequence[Any]
) -> str:
    """Runs a verb twice on a recording and a file that is none; gives what the second run printed."""
    (folder / "text.mp3").write_bytes(b"I am no music at all\n" * 100)
    args = (recording, folder / "text.mp3", f"--output_dir={folder / 'out'}", f"--formats={form}", "--skip_existing")
    assert musicnet(verb, *args).status == 1
    outcome = musicnet(verb, *args)
    assert (outcome.status, len(loaded)) == (1, 1)  # no model was loaded for nothing
    assert f"{recording}: skipped, its outputs exist" in outcome.stdout
    (line,) = outcome.stderr.splitlines()
    assert line.startswith(f"musicnet {verb}: error: ") and "text.mp3: not audio that can be decoded" in line
    return outcome.stdout


def refuses_before_a_model_is_loaded(
    musicnet: Callable[..., Any], verb: str, recording: Path, flag: str, message: str, folder: Path, loaded: list[Any]
) -> None:
    """Runs a verb with a flag that it cannot take, and looks for the message in its one line."""
    outcome = musicnet(verb, recording, f"--output_dir={folder / 'out'}", flag)
    assert outcome.status in (1, 2) and loaded == [] and outcome.stdout == ""
    (line,) = outcome.stderr.splitlines()
    assert message in line

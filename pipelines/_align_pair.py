"""What is done with one pair of a batch, in a process of its own."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np

from musicnet_tf import audio, scores
from musicnet_tf.alignment.pairs import Pair
from musicnet_tf.alignment.result import Alignment, Finding
from musicnet_tf.alignment.settings import Settings
from musicnet_tf.errors import MusicNetError
from musicnet_tf.events import Score

MATCHES = 0.48
"""A score fits a recording where its `match_cost` is below. Of development pieces the dearest of 15 right pairs (real
Bach10 and MusicNet, rendered Haydn) cost 0.40, the cheapest of 66 wrong ones 0.57."""

_DOUBTFUL = ("wrong_piece", "low_confidence")


@dataclasses.dataclass(frozen=True)
class Job:
    """One pair and all that is needed to align it.

    Attributes:
        pair: what is aligned.
        others: pairs whose scores are tried where the recording is not of this one.
        settings: how to align.
        folder: where the files of the pair go.
        formats: what to write.
        keep_rejected: whether labels of a rejected pair are written as any others.
        timeout: seconds that the pair may take.
    """

    pair: Pair
    others: tuple[Pair, ...]
    settings: Settings
    folder: Path
    formats: tuple[str, ...]
    keep_rejected: bool
    timeout: float


def align_pair(job: Job) -> dict[str, Any]:
    """Aligns a pair and writes its files; gives what the report tells of it, in plain values.

    Raises:
        MusicNetError: where the recording or the score cannot be used, or the files not be written.
    """
    from musicnet_tf.alignment import aligner, output  # the job itself needs none of what these bring

    started = time.monotonic()
    sound = audio.load(job.pair.audio)
    sample_rate = audio.probe(job.pair.audio).sample_rate
    score = _read_score(job.pair, job.settings)
    alignment = aligner.align(sound, sample_rate, score, job.settings)
    names = {"audio": job.pair.audio.name, "score": job.pair.score.name}
    alignment = dataclasses.replace(alignment, details={**names, **alignment.details})
    if not alignment.accepted or any(finding.kind in _DOUBTFUL for finding in alignment.findings):
        deadline = started + job.timeout / 2  # of a wrong pair, half the time is enough to tell what it is
        alignment = name_score(alignment, sound, sample_rate, job, deadline)
    outputs = output.write(
        alignment,
        job.folder,
        job.pair.id,
        audio=sound,
        sample_rate=sample_rate,
        score=score,
        formats=job.formats,
        title=": ".join(filter(None, (job.pair.composer, job.pair.composition, job.pair.movement))),
        keep_rejected=job.keep_rejected,
    )
    written = [path.name for path in outputs]
    labels = [name for name in written if name.removeprefix(job.pair.id) in (output.LABELS, output.REJECTED_LABELS)]
    return {
        "status": "accepted" if alignment.accepted else "rejected",
        "confidence": alignment.confidence,
        "num_notes": len(alignment.notes),
        "duration": alignment.duration,
        "findings": [f"{finding.kind}: {finding.message}" for finding in alignment.findings],
        "outputs": written,
        "labels": "".join(labels),
    }


def name_score(alignment: Alignment, sound: np.ndarray, sample_rate: int, job: Job, deadline: float) -> Alignment:
    """The same alignment, whose finding names the pair whose score the recording matches, if there is one."""
    from musicnet_tf.alignment import aligner

    def cost(pair: Pair) -> float:
        return aligner.match_cost(sound, sample_rate, _read_score(pair, job.settings), job.settings)

    own, costs = cost(job.pair), {}
    for other in job.others if own >= MATCHES else ():
        if time.monotonic() > deadline:
            break
        with contextlib.suppress(MusicNetError):  # told where that pair itself is aligned
            costs[other.id] = cost(other)
    best = min(costs, key=costs.__getitem__, default=None)
    if best is None or costs[best] >= MATCHES:
        return alignment
    message = f"matches the score of {best} (cost {costs[best]:.2f} of random; of its own score {own:.2f})"
    rest = [finding for finding in alignment.findings if finding.kind not in _DOUBTFUL]
    return dataclasses.replace(alignment, findings=(Finding("wrong_movement", message, rejects=True), *rest))


def _read_score(pair: Pair, settings: Settings) -> Score:
    return scores.read_score(pair.score, constant_tempo=settings.tempo == "constant")

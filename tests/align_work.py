"""What tests give the job to do with a pair, in place of an alignment: importable and quick to import."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np

from musicnet_tf.errors import AudioError, OutputError


def by_score(job):
    """Does what the text of the score says; writes files as a real pair would, and tells that it was called."""
    with (job.folder / "calls.txt").open("a") as file:
        file.write(f"{job.pair.id}\n")
    words = job.pair.score.read_text().split()
    globals()[words[0]](job, *words[1:])
    accepted = words[0] == "accept"
    labels = "csv" if accepted or job.keep_rejected else "rejected.csv"
    outputs = [f"{job.pair.id}.{labels if name == 'csv' else name}" for name in job.formats]
    for name in outputs:
        (job.folder / name).write_text(" ".join(words))
    return {
        "status": "accepted" if accepted else "rejected",
        "confidence": float(words[1]),
        "num_notes": 3,
        "duration": 2.0,
        "findings": [],
        "outputs": outputs,
        "labels": f"{job.pair.id}.{labels}" if "csv" in job.formats else "",
    }


def copy_labels(job):
    """Takes the score, a file of MusicNet labels, for an alignment of confidence 0.9; rejects `*_wrong`."""
    wrong = job.pair.id.endswith("_wrong")
    labels = f"{job.pair.id}.rejected.csv" if wrong else f"{job.pair.id}.csv"
    shutil.copy(job.pair.score, job.folder / labels)
    return {
        "status": "rejected" if wrong else "accepted",
        "confidence": 0.1 if wrong else 0.9,
        "num_notes": len(job.pair.score.read_text().splitlines()) - 1,
        "duration": 2.0,
        "findings": [],
        "outputs": [labels],
        "labels": labels,
    }


def accept(job, confidence):
    """Nothing: the pair is fine."""


reject = accept


def hang(job):
    """Starts a program and waits for ever, in the midst of writing."""
    (job.folder / f".{job.pair.id}.{os.getpid()}.part.csv").write_text("half")
    with subprocess.Popen(["sleep", "600"]) as program:
        (job.folder / "program.txt").write_text(str(program.pid))
        time.sleep(600)


def crash(job):
    """Dies as a fault in a C library would."""
    os.kill(os.getpid(), signal.SIGSEGV)


def explode(job):
    """Takes more and more memory."""
    held = []
    while True:
        held.append(np.empty(1 << 27))  # 1 GiB


def leave(job):
    """Ends without an answer."""
    os._exit(3)


def refuse(job):
    """Finds its recording at fault."""
    raise AudioError(f"{job.pair.audio.name}: is silent")


def fault(job):
    """Shows a fault of ours."""
    raise KeyError("no such thing")


def full_disk(job):
    """Cannot write."""
    raise OutputError(f"{Path(job.pair.id)}.csv: cannot be written (No space left on device)")

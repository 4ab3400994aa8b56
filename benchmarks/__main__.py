"""Runs the benchmarks one after the other, each in a process of its own.

    python -m benchmarks [--corpus=FOLDER] [--records=FOLDER]

That of building records needs a corpus, a folder of MusicNet; that of the input pipeline needs records, the
folder that configs call data.folder. Without these only transcription is measured.
"""

from __future__ import annotations

import subprocess
import sys

from absl import app, flags

_CORPUS = flags.DEFINE_string("corpus", None, "Folder of MusicNet, to measure the building of records.")
_RECORDS = flags.DEFINE_string("records", None, "Folder of record sets, to measure the input pipeline.")


def main(argv: list[str]) -> int:
    """Exit status: that of the first that failed."""
    if argv[1:]:
        raise app.UsageError(f"unexpected argument {argv[1]!r}; folders are named by --corpus and --records")
    commands = [["benchmarks.transcription"]]
    if _CORPUS.value:
        commands.append(["benchmarks.records", f"--data_dir={_CORPUS.value}"])
    if _RECORDS.value:
        commands.append(["benchmarks.input_pipeline", f"--set=data.folder={_RECORDS.value}"])
    for module, *options in commands:
        print(f"== {module}", flush=True)
        status = subprocess.run([sys.executable, "-m", module, *options], check=False).returncode
        if status:
            return status
    return 0


if __name__ == "__main__":
    app.run(main)

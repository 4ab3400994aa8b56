"""Runs the benchmarks one after the other, each in a process of its own.

    python -m benchmarks [--corpus=FOLDER] [--records=FOLDER]

That of building records needs a corpus, a folder of MusicNet; that of the input pipeline needs records, the
folder that configs call data.folder. Without these only transcription is measured.
"""

from __future__ import annotations

import subprocess
import sys

from absl import app, flags


def define_flags() -> None:
    """The command line. Importing the module defines no flag: one process has a single set of them."""
    flags.DEFINE_string("corpus", None, "Folder of MusicNet, to measure the building of records.")
    flags.DEFINE_string("records", None, "Folder of record sets, to measure the input pipeline.")


def main(argv: list[str]) -> int:
    """Exit status: that of the first that failed."""
    if argv[1:]:
        raise app.UsageError(f"unexpected argument {argv[1]!r}; folders are named by --corpus and --records")
    commands = [["benchmarks.transcription"]]
    if flags.FLAGS.corpus:
        commands.append(["benchmarks.records", f"--data_dir={flags.FLAGS.corpus}"])
    if flags.FLAGS.records:
        commands.append(["benchmarks.input_pipeline", f"--set=data.folder={flags.FLAGS.records}"])
    for module, *options in commands:
        print(f"== {module}", flush=True)
        status = subprocess.run([sys.executable, "-m", module, *options], check=False).returncode
        if status:
            return status
    return 0


if __name__ == "__main__":
    define_flags()
    app.run(main)

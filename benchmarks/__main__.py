"""Runs the benchmarks one after the other, each in a process of its own.

Those of records and of the input pipeline need a corpus and its records: name them by MUSICNET_DATA (the
folder of a MusicNet corpus) and MUSICNET_RECORDS (the folder that configs call data.folder).
"""

import os
import subprocess
import sys


def main() -> int:
    """Exit status: that of the first that failed."""
    commands = [["benchmarks.transcription"]]
    corpus, built = os.environ.get("MUSICNET_DATA"), os.environ.get("MUSICNET_RECORDS")
    if corpus:
        commands.append(["benchmarks.records", "--dataset=musicnet", f"--data_dir={corpus}"])
    if built:
        commands.append(["benchmarks.input_pipeline", f"--set=data.folder={built}"])
    for module, *flags in commands:
        print(f"== {module}", flush=True)
        status = subprocess.run([sys.executable, "-m", module, *flags], check=False).returncode
        if status:
            return status
    if len(commands) < 3:
        print("set MUSICNET_DATA and MUSICNET_RECORDS to run the others as well")
    return 0


if __name__ == "__main__":
    sys.exit(main())

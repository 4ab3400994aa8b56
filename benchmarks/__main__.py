"""Runs the benchmarks one after the other, each in a process of its own.

    python -m benchmarks [--corpus=FOLDER] [--records=FOLDER] [--asap=FOLDER --cache=FOLDER] [--data=FOLDER]

That of building records needs a corpus, a folder of MusicNet; that of the input pipeline needs records, the
folder that configs call data.folder. Those of alignment need ASAP and a folder for what they render, and take
hours; those of labels, of decoders and of other people's transcribers and beat trackers need a folder with bach10/ and
maps/, which that of accuracy takes too. Exemplars, which are trained, need records and that folder; taggers, which are
trained too, records alone. Without these, transcription and its start, serving with its fault drill, the MusicNet
paper's models, the decoding of beats and transforms of sound are measured.
"""

from __future__ import annotations

import subprocess
import sys

from absl import app, flags


def define_flags() -> None:
    """The command line. Importing the module defines no flag: one process has a single set of them."""
    flags.DEFINE_string("corpus", None, "Folder of MusicNet, to measure the building of records.")
    flags.DEFINE_string("records", None, "Folder of record sets, to measure the input pipeline and taggers.")
    flags.DEFINE_string("asap", None, "Folder of ASAP, to measure alignment; needs --cache.")
    flags.DEFINE_string("cache", None, "Folder for what alignment renders and computes.")
    flags.DEFINE_string(
        "data", None, "Folder with bach10/ and maps/, to measure labels, decoders, transcribers, trackers."
    )


def commands(
    corpus: str | None = None,
    records: str | None = None,
    asap: str | None = None,
    cache: str | None = None,
    data: str | None = None,
) -> list[list[str]]:
    """The modules that can be run with these folders, each with its arguments."""
    always = ("transcription", "inference", "cold_start", "serving", "fault_drill", "paper_models", "beat_decoding")
    found = [[f"benchmarks.{name}"] for name in (*always, "augmentations")]
    if corpus:
        found.append(["benchmarks.records", f"--data_dir={corpus}"])
    if records:
        found.append(["benchmarks.input_pipeline", f"--set=data.folder={records}"])
        found.append(["benchmarks.tagging_families", f"--records={records}"])
    if asap and cache:
        folders = [f"--asap={asap}", f"--cache={cache}"]
        found.append(["benchmarks.alignment_accuracy", *folders, *([f"--data={data}"] if data else [])])
        found.append(["benchmarks.alignment_repeats", *folders])
        found.append(["benchmarks.alignment_cost", *folders, f"--output={cache}/cost"])
    if data:
        found.append(["benchmarks.label_check", f"--maps={data}/maps", f"--bach10={data}/bach10"])
        found.append(["benchmarks.label_refinement", f"--maps={data}/maps"])
        found.append(["benchmarks.decoders", f"--maps={data}/maps", f"--bach10={data}/bach10"])
        found.append(["benchmarks.transcription_peers", f"--data_dir={data}", "--corpora=maps,bach10"])
        found.append(
            [
                *("benchmarks.beat_trackers", f"--bach10={data}/bach10"),
                *([f"--musicnet={corpus}"] if corpus else []),
                *([f"--asap={asap}"] if asap else []),
            ]
        )
    if records and data:
        found.append(["benchmarks.exemplars", f"--records={records}", f"--data_dir={data}"])
    return found


def main(argv: list[str]) -> int:
    """Exit status: that of the first that failed."""
    if argv[1:]:
        raise app.UsageError(f"unexpected argument {argv[1]!r}; folders are named by flags")
    folders = {name: flags.FLAGS[name].value for name in ("corpus", "records", "asap", "cache", "data")}
    if bool(folders["asap"]) != bool(folders["cache"]):
        raise app.UsageError("name both --asap and --cache, or neither")
    for module, *options in commands(**folders):
        print(f"== {module}", flush=True)
        status = subprocess.run([sys.executable, "-m", module, *options], check=False).returncode
        if status:
            return status
    return 0


if __name__ == "__main__":
    define_flags()
    app.run(main)

"""Accuracy and speed of our models and of other people's transcribers, on the same recordings in one run.

    python -m benchmarks.transcription_peers --data_dir=FOLDER [--output_dir=out/peers] [--peers=basic_pitch,…]
        [--models=notes_harmonic_cnn,…] [--corpora=maps,bach10,bach10_stems,musicnet] [--split=validation]
        [--seconds=N] [--musicnet_labels=FOLDER] [--fresh]

`--data_dir` has a folder for each corpus (maps/, bach10/, musicnet/). Each peer is installed by pip into an environment
of its own below `--output_dir`, once, with the weights that it ships; one that cannot be installed or fails is told
in a line, and left out. All are given the same sound, mono at 44.1 kHz, and run one after the other with all cores.

Scores are F1 of notes by onset (50 ms), by onset and offset, and of 10 ms frames, as in `musicnet_tf.metrics`. The
real-time factor is the wall-clock time of inference alone, samples → activations, after a warm-up; reading of files and
decoding into notes are in the CSV. What a system has heard is kept and read again with its times, until the system, the
sound or, of ours, any code of the library changes; `--fresh` hears it anew, for times that come of one run.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from absl import app, flags

from benchmarks.peers import comparison, environments, pieces, systems, table
from benchmarks.peers.pieces import Piece
from benchmarks.peers.systems import System
from musicnet_tf import files, inference
from musicnet_tf.errors import ConfigError

REPORT, ROWS = "transcription_peers.md", "transcription_peers.csv"


def result(system: System, heard: Sequence[Piece], folder: Path) -> table.Result:
    """The scores and times of a system that has heard all pieces; prints a line for each."""
    rows = []
    for piece in heard:
        took = systems.times(piece, folder)
        estimate = pieces.read_estimate(systems.estimate_path(piece, folder))
        scores = table.score(piece.notes, estimate)
        rows.append(table.Row(system.name, piece.corpus, piece.name, **scores, notes=len(estimate), **took))
        told = " / ".join(f"{scores[name]:.3f}" for name in table.SCORES)
        print(f"{system.name} {piece.id}: {told}; {took['inference'] / took['seconds']:.4f}", flush=True)
    about = systems.about(folder)
    return table.Result(
        system.name, system.ours, about["told"], about["start_up"], about["load"], rows, about["parameters"]
    )


def define_flags() -> None:
    """The command line. Importing the module defines no flag: one process has a single set of them."""
    flags.DEFINE_string("data_dir", None, "Folder with maps/, bach10/ and musicnet/.", required=True)
    flags.DEFINE_string("output_dir", "out/peers", "Folder for environments, sound, outputs and the report.")
    flags.DEFINE_list("peers", list(environments.PEERS), "Peers to run.")
    flags.DEFINE_list("models", [inference.DEFAULT_MODEL], "Models of ours: names, or folders.")
    flags.DEFINE_list("corpora", list(pieces.CORPORA), "Corpora to hear.")
    flags.DEFINE_string("split", "validation", "Split of each corpus.")
    flags.DEFINE_float("seconds", None, "Only so much of the beginning of each recording.", lower_bound=1.0)
    flags.DEFINE_string("musicnet_labels", None, "Folder of <id>.csv, in place of MusicNet's published labels.")
    flags.DEFINE_bool("fresh", False, "Hear again what has been heard.")


def main(argv: list[str]) -> int:
    """Prints and writes the tables; exit status 1 where a system was left out."""
    return comparison.reported("transcription_peers", lambda: _run(flags.FLAGS))


def _run(values: flags.FlagValues) -> int:
    output = files.make_folder(values.output_dir)
    labels = Path(values.musicnet_labels) if values.musicnet_labels else None
    found, failed = comparison.chosen(values.peers, values.models, output / "environments")
    heard = pieces.gather(Path(values.data_dir), values.corpora, values.split, output / "audio", values.seconds, labels)
    results, notes = comparison.compare(found, heard, output / "heard", failed, result, values.fresh)
    if not results:
        raise ConfigError("no system could be run; name others by --peers and --models")
    report = table.markdown(results, failed, notes)
    files.write_text(output / REPORT, report)
    files.write_text(output / ROWS, table.as_csv(results))
    print(report)
    return 1 if failed else 0


if __name__ == "__main__":
    define_flags()
    app.run(main)

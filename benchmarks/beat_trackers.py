"""Accuracy and speed of our beat trackers and of other people's, on the same recordings in one run.

    python -m benchmarks.beat_trackers [--bach10=FOLDER] [--musicnet=FOLDER] [--asap=FOLDER] [--quartets=FOLDER]
        [--models=beats_tcn,…] [--peers=librosa,madmom_downbeats,…] [--output_dir=out/beat_trackers]
        [--soundfonts=FILE,…] [--seconds=120] [--most=N] [--fresh]

The corpora that are named are heard: mixes of Bach10, whose beats a person tapped; recordings of MusicNet, whose labels
count beats; the beginnings of the test pieces of ASAP, one performance of each, and of quartets in MusicXML that are
for validation, played by FluidSynth. Each peer but librosa is installed by pip into an environment of its own
below `--output_dir`, once, with the weights that it ships; one that cannot be installed or fails is told in a line, and
left out. All are given the same sound, mono at 44.1 kHz, and run one after the other with all cores.

Scores are those of `mir_eval.beat`: F within 70 ms, Cemgil, CMLt, AMLt, and F of downbeats. The real-time factor is the
wall-clock time from samples to beats, after a warm-up. What a system has heard is kept and read again with its times,
until the system, the sound or, of ours, any code of the library changes; `--fresh` hears it anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from absl import app, flags

from benchmarks.peers import beat_pieces, beat_table, comparison, environments, systems
from benchmarks.peers.beat_pieces import Piece
from benchmarks.peers.systems import System
from musicnet_tf import files
from musicnet_tf.errors import ConfigError

DRIVER = systems.DRIVER.with_name("beat_driver.py")
REPORT, FIGURES = "beat_trackers.md", "beat_trackers.json"


def result(system: System, heard: Sequence[Piece], folder: Path) -> beat_table.Result:
    """The scores and times of a system that has heard all pieces; prints a line for each."""
    estimates = [beat_pieces.read_estimate(systems.estimate_path(piece, folder)) for piece in heard]
    numbered = beat_table.tells_downbeats(estimates)
    rows = []
    for piece, estimate in zip(heard, estimates, strict=True):
        took = systems.times(piece, folder)
        scores = beat_table.score(piece.beats, estimate, numbered)
        counts = {"beats": len(piece.beats), "estimated": len(estimate)}
        rows.append(beat_table.Row(system.name, piece.corpus, piece.name, **scores, **counts, **took))
        told = ", ".join(
            f"{beat_table.SCORES[name]} {value:.3f}" for name, value in scores.items() if value is not None
        )
        print(f"{system.name} {piece.id}: {told}", flush=True)
    about = systems.about(folder)
    return beat_table.Result(system.name, system.ours, about["told"], about["start_up"], about["load"], rows)


def define_flags() -> None:
    """The command line. Importing the module defines no flag: one process has a single set of them."""
    flags.DEFINE_string("bach10", None, "Folder of Bach10.")
    flags.DEFINE_string("musicnet", None, "Folder of MusicNet.")
    flags.DEFINE_string("asap", None, "Folder of ASAP.")
    flags.DEFINE_string("quartets", None, "Folder of quartets in MusicXML.")
    flags.DEFINE_string("output_dir", "out/beat_trackers", "Folder for environments, sound, outputs and the report.")
    flags.DEFINE_list("peers", list(environments.TRACKERS), "Peers to run.")
    flags.DEFINE_list("models", [], "Models of ours: names, or folders.")
    flags.DEFINE_list("soundfonts", [], "Files to play scores on; all that are installed by default.")
    flags.DEFINE_float("seconds", 120.0, "Of each rendered piece, its beginning.", lower_bound=10.0)
    flags.DEFINE_integer("most", None, "Only so many recordings of each corpus.", lower_bound=1)
    flags.DEFINE_bool("fresh", False, "Hear again what has been heard.")


def main(argv: list[str]) -> int:
    """Prints and writes the tables; exit status 1 where a system was left out."""
    return comparison.reported("beat_trackers", lambda: _run(flags.FLAGS))


def _run(values: flags.FlagValues) -> int:
    output = files.make_folder(values.output_dir)
    named = {"bach10": values.bach10, "musicnet": values.musicnet, "asap": values.asap, "quartets": values.quartets}
    roots = {corpus: Path(folder) for corpus, folder in named.items() if folder}
    if not roots:
        raise ConfigError(f"nothing to hear; name a folder by {', '.join(f'--{corpus}' for corpus in named)}")
    found, failed = comparison.chosen(
        values.peers, values.models, output / "environments", environments.TRACKERS, DRIVER
    )
    fonts = [Path(font) for font in values.soundfonts]
    heard = beat_pieces.gather(roots, output / "audio", fonts, values.seconds, values.most)
    results, notes = comparison.compare(found, heard, output / "heard", failed, result, values.fresh)
    if not results:
        raise ConfigError("no system could be run; name others by --peers and --models")
    report = beat_table.markdown(results, failed, notes)
    files.write_text(output / REPORT, report)
    files.write_json(output / FIGURES, beat_table.as_document(results, failed))
    print(report)
    return 1 if failed else 0


if __name__ == "__main__":
    define_flags()
    app.run(main)

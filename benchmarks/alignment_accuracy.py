"""How far labels lie from the notes that were played: our alignment, by config, and peers', on the same sounds.

    python -m benchmarks.alignment_accuracy --asap=FOLDER --cache=FOLDER [--vienna=FOLDER] [--data=FOLDER]
        [--config=paper,best] [--peers] [--sets=asap,vienna_four] [--jobs=2]

Performances are rendered with FluidR3 in a room with noise (`alignment_truth`), scores with MuseScore General. What
was computed is kept in the cache and read again, also where the code has changed since: that is told, and `--fresh`
computes it anew. A note that a way left out, and every note of a pair that it refused, counts as wrong. Of notes
whose true onset is not known nothing is said.

`--sweep` varies the paper's setting (its appendix B) one key at a time, on the development pieces.
"""

from __future__ import annotations

import concurrent.futures
import csv
import io
import json
import multiprocessing
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags
from tqdm import tqdm

from benchmarks import _alignment_corpora as corpora
from benchmarks import _alignment_peers as ways
from benchmarks import alignment_truth
from benchmarks.alignment_truth import Pair
from musicnet_tf import files
from musicnet_tf.alignment.settings import Settings, load_settings
from musicnet_tf.errors import MusicNetError

SETS = ("asap", "vienna_four", "vienna", "bach10", "musicnet", "musicnet_scores", "maps", "development")

SWEPT: dict[str, list[Any]] = {
    "features.hop_length": [256, 512, 1024, 2048, 4096],
    "features.window_length": [1024, 2048, 4096, 8192],
    "features.cutoff": [25, 50, 100, 200, None],
    "features.log": [True, False],
    "norm": ["l1", "l2", "linf", "cosine"],
}


def load_pairs(name: str, asap: Path | None, vienna: Path | None, data: Path | None) -> list[Pair]:
    """The pairs of a set; none where its folder was not named."""
    if name in ("asap", "development") and asap:
        chosen = alignment_truth.select(alignment_truth.asap_entries(asap))
        return [alignment_truth.read_asap(entry) for entry in chosen["report" if name == "asap" else name]]
    if name.startswith("vienna") and vienna:
        return corpora.vienna(vienna, 1 if name == "vienna_four" else 22)
    if name == "bach10" and data:
        return corpora.bach10(data / "bach10")
    if name == "musicnet" and data:
        return corpora.musicnet(data / "musicnet")
    if name == "musicnet_scores" and data and asap:
        return corpora.musicnet_scores(data / "musicnet", asap)
    if name == "maps" and data and asap:
        return corpora.maps(data / "maps", asap)
    return []


def measure(way: ways.Way, pair: Pair, cache: Path, fresh: bool) -> dict[str, Any]:
    """Onsets of a pair by a way, from the cache where it has them."""
    path = cache / "results" / way.key() / f"{pair.id}.json"
    if path.is_file() and not fresh:
        return json.loads(path.read_text(encoding="utf-8"))
    start = time.perf_counter()
    try:
        onsets, details = ways.onsets(way, pair, cache)
    except MusicNetError as error:
        onsets, details = np.full(len(pair.truth), np.nan), {"error": str(error)}
    result = {
        "pair": pair.id,
        "way": way.name,
        "code": way.code(),
        "seconds": round(time.perf_counter() - start, 2),
        **details,
        "onsets": [None if np.isnan(onset) else round(onset, 5) for onset in onsets.tolist()],
    }
    files.make_folder(path.parent)
    files.write_json(path, result)
    return result


def errors(truth: np.ndarray, onsets: np.ndarray) -> np.ndarray:
    """Absolute seconds of each note whose truth is known; infinite where it was left out."""
    known = np.isfinite(truth)
    return np.nan_to_num(np.abs(onsets[known] - truth[known]), nan=np.inf)


def summary(error: np.ndarray) -> dict[str, float]:
    """Shares beyond 50 and 100 ms in percent; median and 95th percentile in ms."""
    return {
        "notes": len(error),
        "over_50": 100 * float(np.mean(error > 0.05)),
        "over_100": 100 * float(np.mean(error > 0.1)),
        "median": 1000 * float(np.quantile(error, 0.5, method="lower")),
        "p95": 1000 * float(np.quantile(error, 0.95, method="lower")),
    }


TOLD = ("seconds", "accepted", "confidence", "findings", "extra", "hop_length", "error")
"""What the table of pieces takes from a result as it is."""

HEADER = (
    "| set | way | pieces | notes | > 50 ms | > 100 ms | median | 95% | mean of pieces > 50, > 100, median | refused |"
    " worst pieces, > 100 ms |\n|---|---|---|---|---|---|---|---|---|---|---|"
)


def row(name: str, way: str, pieces: dict[str, np.ndarray], refused: int) -> str:
    """A line of the table, over all notes and as the mean over pieces."""
    pooled = summary(np.concatenate(list(pieces.values())))
    each = {id: summary(error) for id, error in pieces.items()}
    mean = {key: np.mean([one[key] for one in each.values()]) for key in pooled}
    worst = sorted(((one["over_100"], id) for id, one in each.items()), reverse=True)[:3]
    return (
        f"| {name} | {way} | {len(pieces)} | {pooled['notes']} | {pooled['over_50']:.1f}% | {pooled['over_100']:.1f}% |"
        f" {pooled['median']:.1f} ms | {pooled['p95']:.0f} ms |"
        f" {mean['over_50']:.1f}%, {mean['over_100']:.1f}%, {mean['median']:.1f} ms | {refused} |"
        f" {', '.join(f'{id} {share:.0f}%' for share, id in worst)} |"
    )


def sweep(base: Settings) -> list[ways.Way]:
    """The base, and each change of one key of it."""
    found = [ways.Way("base", base)]
    for key, values in SWEPT.items():
        for value in values:
            changed = _with(base, key, value)
            if changed != base:
                found.append(ways.Way(f"{key.split('.')[-1]}={value}", changed))
    return found


def _with(settings: Settings, key: str, value: Any) -> Settings:
    values = settings.model_dump()
    *above, last = key.split(".")
    place = values
    for part in above:
        place = place[part]
    place[last] = value
    return Settings.model_validate(values)


def _results(pairs: list[Pair], way: ways.Way, cache: Path, fresh: bool, jobs: int) -> Iterator[dict[str, Any]]:
    if jobs == 1:
        yield from (measure(way, pair, cache, fresh) for pair in pairs)
        return
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(jobs, mp_context=context) as pool:
        waiting = [pool.submit(measure, way, pair, cache, fresh) for pair in pairs]
        yield from (done.result() for done in waiting)


def report(
    name: str, pairs: list[Pair], way: ways.Way, cache: Path, fresh: bool = False, jobs: int = 1
) -> list[dict[str, Any]]:
    """Measures a way on a set, prints its line, and gives a row for each piece."""
    measured = _results(pairs, way, cache, fresh, jobs)
    bar = tqdm(measured, desc=f"{name} {way.name}", total=len(pairs), disable=None, leave=False)
    results = list(bar)
    pieces, rows = {}, []
    for pair, result in zip(pairs, results, strict=True):
        error = errors(pair.truth, np.array(result["onsets"], np.float64))
        pieces[pair.id] = error
        known = float(np.isfinite(pair.truth).mean())
        told = {key: result.get(key, "") for key in TOLD}
        rows.append({"set": name, "way": way.name, "piece": pair.id, "known": known, **summary(error), **told})
    print(row(name, way.name, pieces, sum("error" in result for result in results)), flush=True)
    stale = sum(result["code"] != way.code() for result in results)
    if stale:
        print(f"  of these, {stale} were computed by other code than the present; --fresh computes them anew")
    return rows


def _ways(cache: Path) -> list[ways.Way]:
    named = [source for source in flags.FLAGS.config if source]
    if flags.FLAGS.sweep:
        base = named[0] if flags.FLAGS["config"].present else "paper_multiscale"
        return sweep(load_settings(base, flags.FLAGS.set))
    found = [ways.Way(Path(source).stem, load_settings(source, flags.FLAGS.set)) for source in named]
    return found + (ways.peers(cache / "peers") if flags.FLAGS.peers else [])


def define_flags() -> None:
    """The command line. Importing the module defines no flag: one process has a single set of them."""
    flags.DEFINE_string("asap", None, "Folder of ASAP.")
    flags.DEFINE_string("vienna", None, "Folder of Vienna 4x22, with match/ and midi/.")
    flags.DEFINE_string("data", None, "Folder with bach10/, musicnet/ and maps/.")
    flags.DEFINE_string("cache", None, "Folder for what is rendered and computed.", required=True)
    flags.DEFINE_list("config", ["paper", "best"], "Alignment configs: names or YAML files; empty for none.")
    flags.DEFINE_multi_string("set", [], "Change of every config, as features.hop_length=512.")
    flags.DEFINE_list("sets", ["asap", "vienna_four", "bach10", "musicnet", "musicnet_scores", "maps"], f"Of {SETS}.")
    flags.DEFINE_bool("peers", False, "Measure librosa and synctoolbox too.")
    flags.DEFINE_list("only", [], "Names of ways in the table; the others are left out.")
    flags.DEFINE_bool("sweep", False, "Vary the first config (paper_multiscale by default) as appendix B does.")
    flags.DEFINE_bool("fresh", False, "Compute again what the cache holds.")
    flags.DEFINE_integer("jobs", 1, "Pairs aligned at a time.", lower_bound=1)


def main(argv: list[str]) -> int:
    """Exit status: 1 where no folder of a corpus was named."""
    if argv[1:]:
        raise app.UsageError(f"unexpected argument {argv[1]!r}; folders are named by flags")
    names = ["development"] if flags.FLAGS.sweep else flags.FLAGS.sets
    unknown = [name for name in names if name not in SETS]
    if unknown:
        raise app.UsageError(f"--sets: {unknown[0]!r} is none of {', '.join(SETS)}")
    cache = files.make_folder(flags.FLAGS.cache)
    chosen = [way for way in _ways(cache) if not flags.FLAGS.only or way.name in flags.FLAGS.only]
    print("Every choice follows from the SHA-256 of a piece's name; there is no other seed.")
    for way in chosen:
        print(f"{way.name}: {'a peer' if way.settings is None else json.dumps(way.settings.model_dump())}")
    if flags.FLAGS.vienna:
        check = corpora.check_matching(Path(flags.FLAGS.vienna))
        print(
            f"truth as found for ASAP, against Vienna's matches: of {check.notes} notes {check.wrong} wrong by"
            f" more than 20 ms, {check.missed} not found"
        )
    named = (flags.FLAGS.asap, flags.FLAGS.vienna, flags.FLAGS.data)
    folders = [None if folder is None else Path(folder) for folder in named]
    print(HEADER)
    rows = [
        line
        for name in names
        if (pairs := load_pairs(name, *folders))
        for way in chosen
        for line in report(name, pairs, way, cache, flags.FLAGS.fresh, flags.FLAGS.jobs)
    ]
    if not rows:
        print("nothing measured: name a corpus by --asap, --vienna or --data")
        return 1
    table = io.StringIO()
    writer = csv.DictWriter(table, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    target = cache / ("sweep.csv" if flags.FLAGS.sweep else "accuracy.csv")
    files.write_text(target, table.getvalue())
    print(f"each piece: {target}")
    return 0


if __name__ == "__main__":
    define_flags()
    app.run(main)

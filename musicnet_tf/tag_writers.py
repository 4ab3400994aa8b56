"""Tags → the files a musician or a researcher opens. Each is whole or absent."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from musicnet_tf import files, writers
from musicnet_tf.decode.heard_tags import HeardTags, short
from musicnet_tf.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.figure import Figure

_MOST_DRAWN = 40
_MOST_IN_ROWS = 12
"""Tags up to which long recordings are drawn in several rows."""
_MAX_COLUMNS = 4000
_FAINT = "#8d8da3"


def write_json(path: str | Path, tags: HeardTags, duration: float, model: str = "") -> None:
    """What the recording bears, and when.

    - `model`, and `duration` in seconds.
    - `tags`: the tags of the recording, that of the highest score first: `tag`, `score` in [0, 1], and `present`,
      whether the recording bears it by the model's thresholds.
    - `stretches`: what bears a tag by these thresholds: `tag`, and `start` and `stop` in seconds.
    - `timeline`: `start` and `stop`, seconds of the frames, which lie side by side, and `scores`: tag → the score of
      each frame.

    Scores have four significant digits, and no more than six decimals.
    """
    borne, spans = tags.borne(), tags.spans()
    columns = (spans.tag.tolist(), _seconds(spans.start), _seconds(spans.stop))
    stretches = [{"tag": tag, "start": start, "stop": stop} for tag, start, stop in zip(*columns, strict=True)]
    ranked = [{"tag": tag, "score": _rounded(score), "present": tag in borne} for tag, score in tags.ranked()]
    timeline = {
        "start": _seconds(tags.start),
        "stop": _seconds(tags.stop),
        "scores": {tag: list(map(_rounded, scores)) for tag, scores in zip(tags.names, tags.timeline.T, strict=True)},
    }
    told = {"model": model, "duration": round(duration, 6), "tags": ranked, "stretches": stretches}
    told["timeline"] = timeline
    files.write_text(path, f"{_json(told)}\n")


def write_csv(path: str | Path, tags: HeardTags) -> None:
    """The time line as a table: `start` and `stop` of each stretch in seconds, and its score of every tag."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["start", "stop", *tags.names])
    for start, stop, scores in zip(tags.start, tags.stop, tags.timeline, strict=True):
        writer.writerow([f"{start:.3f}", f"{stop:.3f}", *map(_rounded, scores)])
    files.write_text(path, table.getvalue())


def write_jams(path: str | Path, tags: HeardTags, duration: float, title: str = "", model: str = "") -> None:
    """A JAMS file with two annotations `tag_open`: of the whole recording, and of the stretches that bear a tag.

    The first has every tag with its score as confidence, the second the mean of the scores over a stretch.
    """
    whole = [(0.0, duration, tag, score) for tag, score in tags.ranked()]
    parts = tags.spans()
    index = {name: tag for tag, name in enumerate(tags.names)}
    stretches: list[writers.Observation] = []
    for start, stop, tag in zip(parts.start.tolist(), parts.stop.tolist(), parts.tag.tolist(), strict=True):
        inside = (tags.start >= start) & (tags.start < stop)
        stretches.append((start, stop - start, tag, float(tags.timeline[inside, index[tag]].mean())))
    annotations = [
        writers.Annotation("tag_open", whole, "of the whole recording; confidence is the score"),
        writers.Annotation("tag_open", stretches, "of stretches; confidence is the mean score"),
    ]
    writers.write_annotations(path, annotations, duration, title, model)


def write_npz(path: str | Path, tags: HeardTags) -> None:
    """All of it for programs, to be opened by `numpy.load`.

    Arrays: `names`, `scores` and `present` of the recording's tags, `(tags,)`; `start` and `stop` of the stretches in
    seconds, `(frames,)`; `timeline`, float32, and `active`, bool, `(frames, tags)`: score, and whether it is borne;
    and `embedding`, float32 `(frames, features)`, where the model tells it.
    """
    arrays = {
        "names": np.array(tags.names, str),
        "scores": tags.scores,
        "present": tags.present,
        "start": tags.start,
        "stop": tags.stop,
        "timeline": tags.timeline.astype(np.float32),
        "active": tags.active,
    }
    if tags.embedding is not None:
        arrays["embedding"] = tags.embedding
    writers.write_arrays(path, arrays)


def write_embedding(path: str | Path, tags: HeardTags) -> None:
    """What the model tells tags from: `embedding`, float32 `(frames, features)`, with `start` and `stop` in seconds.

    Raises:
        ConfigError: where the model does not tell it.
    """
    if tags.embedding is None:
        raise ConfigError(f"{path}: the model gives no head 'embedding'; choose another model, or do without")
    writers.write_arrays(path, {"embedding": tags.embedding, "start": tags.start, "stop": tags.stop})


def figure(tags: HeardTags, duration: float, title: str = "") -> Figure:
    """A strip a tag over time, that of the highest score on top; beside it the score of the recording.

    Long recordings are drawn in rows where tags are few; of many, those of the highest scores are drawn.

    Args:
        tags: to draw.
        duration: seconds to show.
        title: above the figure.
    """
    from musicnet_tf import plots  # brings matplotlib

    duration = max(duration, 1.0)
    order = np.argsort(-tags.scores, kind="stable")[:_MOST_DRAWN]
    row_seconds, num_rows = plots.rows(duration) if len(order) <= _MOST_IN_ROWS else (duration, 1)
    drawn = plots.blank_figure(12, 0.9 + num_rows * (0.45 + 0.2 * len(order)))
    axes = drawn.subplots(num_rows, 1, squeeze=False)[:, 0]
    for row, ax in enumerate(axes):
        mesh = _strips(ax, tags, order)
        plots.time_axis(ax, row * row_seconds, (row + 1) * row_seconds)
        ax.grid(False)
        plots.plain(ax)
        _name_strips(ax, tags, order)
    axes[-1].set_xlabel("time (min:s)", color=plots.INK)
    plots.heading(axes[0], title)
    bar = drawn.colorbar(mesh, ax=axes.tolist(), fraction=0.02, pad=0.01, aspect=12 * num_rows)
    bar.set_label("score", color=plots.INK, fontsize=9)
    bar.outline.set_visible(False)  # type: ignore[operator]
    plots.plain(bar.ax)
    return drawn


def _strips(ax: Axes, tags: HeardTags, order: np.ndarray) -> QuadMesh:
    """Scores as colours; where there are more frames than can be told apart, the greatest that fall together."""
    step = max(1, math.ceil(len(tags.start) / _MAX_COLUMNS))
    first = np.arange(0, len(tags.start), step)
    columns = np.maximum.reduceat(tags.timeline[:, order], first) if len(first) else np.zeros((1, len(order)))
    edges = np.append(tags.start[first], tags.stop[-1:]) if len(first) else np.array([0.0, 1.0])
    mesh = ax.pcolormesh(edges, np.arange(len(order) + 1), columns.T, cmap="Purples", vmin=0, vmax=1)
    ax.hlines(np.arange(1, len(order)), edges[0], edges[-1], color="white", linewidth=2.0)
    ax.invert_yaxis()
    return mesh


def _name_strips(ax: Axes, tags: HeardTags, order: np.ndarray) -> None:
    """Names at the left with the scores of the recording; what it does not bear is faint."""
    from musicnet_tf import plots

    labels = [f"{tags.names[tag]} {short(tags.scores[tag])}".replace("$", r"\$") for tag in order]
    ax.set_yticks(np.arange(len(order)) + 0.5, labels)
    for label, tag in zip(ax.get_yticklabels(), order, strict=True):
        label.set_color(plots.INK if tags.present[tag] else _FAINT)
        label.set_fontweight("bold" if tags.present[tag] else "normal")


def write_png(path: str | Path, tags: HeardTags, duration: float, title: str = "") -> None:
    """A picture of the time line."""
    from musicnet_tf import plots

    picture = plots.to_png_bytes(figure(tags, duration, title))
    with files.atomic(path) as part:
        part.write_bytes(picture)


FORMATS: dict[str, writers.Format] = {
    "json": writers.Format(".json", lambda path, t: write_json(path, t.events, t.duration, t.model)),
    "csv": writers.Format(".csv", lambda path, t: write_csv(path, t.events)),
    "jams": writers.Format(".jams", lambda path, t: write_jams(path, t.events, t.duration, t.title, t.model)),
    "npz": writers.Format(".npz", lambda path, t: write_npz(path, t.events)),
    "png": writers.Format(".png", lambda path, t: write_png(path, t.events, t.duration, t.title)),
    "embedding": writers.Format(".embedding.npz", lambda path, t: write_embedding(path, t.events), head="embedding"),
}


def _rounded(score: float) -> float:
    return round(float(f"{score:.4g}"), 6)


def _seconds(times: np.ndarray) -> list[float]:
    return [round(time, 6) for time in times.tolist()]


def _json(value: Any, indent: str = "") -> str:
    """JSON with a line for each entry that holds no entries itself: `json` gives each number of a list its own."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if not any(isinstance(each, dict | list) for each in inner):
        return json.dumps(value, ensure_ascii=False)
    deeper = f"{indent}  "
    if isinstance(value, dict):
        lines = [f"{deeper}{json.dumps(key, ensure_ascii=False)}: {_json(each, deeper)}" for key, each in value.items()]
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    return "[\n" + ",\n".join(f"{deeper}{_json(each, deeper)}" for each in value) + f"\n{indent}]"

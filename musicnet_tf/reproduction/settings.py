"""What a reproduction consists of: rows of a table, each an experiment with what the paper says of it."""

from __future__ import annotations

from pathlib import Path

import pydantic

from musicnet_tf.config import Section
from musicnet_tf.metrics.protocol import Convention, Interpolation
from musicnet_tf.validation import construct, read_yaml


class Published(Section):
    """Scores that a publication gives, in [0, 1]; None where it gives none."""

    precision: float | None = pydantic.Field(default=None, ge=0, le=1)
    recall: float | None = pydantic.Field(default=None, ge=0, le=1)
    average_precision: float | None = pydantic.Field(default=None, ge=0, le=1)


class Row(Section):
    """One model of the table.

    Attributes:
        name: of its run folder.
        title: in the report, such as `MLP, 500 nodes`.
        features: what it hears, such as `2048 raw samples`.
        config: its experiment; relative to the folder of the reproduction's own file.
        published: the publication's scores over its whole test set.
        published_pieces: those of single recordings, by id.
        source: where they stand, such as `Table 3`.
        in_table: whether it is a row of the table, or trained for a figure alone.
    """

    name: str = pydantic.Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    title: str
    features: str = ""
    config: Path
    published: Published = Published()
    published_pieces: dict[str, Published] = pydantic.Field(default_factory=dict)
    source: str = ""
    in_table: bool = True


class Figures(Section):
    """Which rows the figures are drawn of, by name; none where empty.

    Attributes:
        curves: precision and recall at every threshold, by number of simultaneous notes (Figure 4).
        filters: bottom weights over time, magnified, and their spectra (Figures 1 and 3), one figure a row.
        histogram: frequencies of learned filters beside those of notes (Figure 5).
    """

    curves: tuple[str, ...] = ()
    filters: tuple[str, ...] = ()
    histogram: str = ""


class Protocol(Section):
    """How rows are evaluated; every way in which the paper and the authors' public code differ has a name.

    Attributes:
        convention: where the test points lie, see `metrics.protocol.Protocol`.
        interpolation: how a posteriorgram on another clock is read at them.
        threshold_seed: of the sampled training points that the threshold `c` is searched on.
    """

    convention: Convention = "midpoint"
    interpolation: Interpolation = "nearest"
    threshold_seed: int = pydantic.Field(default=0, ge=0)


class Study(Section):
    """A reproduction.

    Attributes:
        name: of the study.
        title: of the report.
        source: the publication.
        test: ids of the recordings that are tested on and never trained on.
        order: names of rows from the best to the worst average precision, as the publication finds.
        protocol: how rows are evaluated.
        rows: in the order of the table.
        figures: what is drawn.
    """

    name: str
    title: str
    source: str
    test: tuple[str, ...]
    order: tuple[str, ...] = ()
    protocol: Protocol = Protocol()
    rows: tuple[Row, ...]
    figures: Figures = Figures()

    @pydantic.model_validator(mode="after")
    def _names_are_known(self) -> Study:
        names = [row.name for row in self.rows]
        if len({*names}) != len(names):
            raise ValueError(f"rows: each name once; got {', '.join(names)}")
        drawn = [*self.figures.curves, *self.figures.filters, *filter(None, [self.figures.histogram]), *self.order]
        for name in drawn:
            if name not in names:
                raise ValueError(f"no row {name!r} to draw or to order; there are {', '.join(names)}")
        return self


def load(path: str | Path) -> Study:
    """Reads a study; the rows' configs become paths that can be opened.

    Raises:
        ConfigError: where the file cannot be read, a key is unknown or a value is wrong.
    """
    study = construct(Study, read_yaml(path), where=str(path))
    folder = Path(path).parent
    rows = tuple(row.model_copy(update={"config": folder / row.config}) for row in study.rows)
    return study.model_copy(update={"rows": rows})

"""Figures, tables and sections of a report; each figure has its numbers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from bsm_core.report.drift import LARGE, MODERATE, words_of
from bsm_core.report.page.axes import Tick, count_text, number_text, percent_ticks, share_text
from bsm_core.report.page.charts import COLORS, histogram

_NUMBER = re.compile(r"[-–<]? ?[0-9,.e-]*( [%s])?( \([<0-9. %–]+\))?")
Badge = tuple[str, str]
"""Text of a mark beside a title, and its kind: ``good``, ``watch`` or ``bad``."""


@dataclass(frozen=True)
class Grid:
    """Table of texts.

    Attributes:
        caption: What the table shows.
        heads: Names of the columns.
        rows: Cells, row by row; the first one names the row.
        shades: For each row the shades of its cells after the first, 0 to 1; empty: none.
    """

    caption: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    shades: Sequence[Sequence[float]] = ()

    @property
    def numeric(self) -> list[bool]:
        """Whether each column holds numbers alone, and is aligned at its right end."""
        return [all(_NUMBER.fullmatch(row[i]) for row in self.rows) for i in range(len(self.heads))]


@dataclass(frozen=True)
class Figure:
    """Chart with its numbers.

    Attributes:
        title: Its title.
        chart: The chart.
        numbers: The numbers that the chart shows.
        note: A sentence below the title.
        badge: Mark beside the title.
        wide: The chart for wide screens; None: the same one.
    """

    title: str
    chart: Markup
    numbers: Grid
    note: str = ""
    badge: Badge | None = None
    wide: Markup | None = None


@dataclass(frozen=True)
class Section:
    """Part of the page.

    Attributes:
        key: Its anchor.
        title: Its title.
        text: What it shows, and how to read it.
        grids: Tables, before the figures.
        figures: Charts.
        after: Tables after the figures.
    """

    key: str
    title: str
    text: str
    grids: Sequence[Grid] = ()
    figures: Sequence[Figure] = ()
    after: Sequence[Grid] = field(default_factory=tuple)


def badge_of(index: float | None) -> Badge | None:
    """Return the mark for a population stability index."""
    if index is None:
        return None
    kind = "bad" if index > LARGE else "watch" if index > MODERATE else "good"
    return f"PSI {number_text(round(index, 3), 3)}, {words_of(index)}", kind


def histogram_figure(
    title: str,
    description: str,
    counts: Sequence[int],
    before: Sequence[int] | None,
    ticks: Sequence[Tick],
    name: str,
    numbers: Grid,
    note: str = "",
    badge: Badge | None = None,
    color: int = 0,
) -> Figure:
    """Return a histogram of counts with its numbers.

    Args:
        title, numbers, note, badge: See :class:`Figure`.
        description, ticks, color: See :func:`bsm_core.report.page.charts.histogram`.
        counts, before: Rows in each bin, and rows of training.
        name: Name of the x axis.
    """
    shares, trained = ([each / (sum(side) or 1) for each in side] for side in (counts, before or []))
    y = percent_ticks([*shares, *trained])
    drawn = histogram(
        title, description, shares, trained if before else None, ticks, y, (name, "share of the rows"), color % COLORS
    )
    return Figure(title, drawn, numbers, note, badge)


def bin_table(title: str, bins: Sequence[str], counts: Sequence[int], before: Sequence[int] | None) -> tuple[Grid, str]:
    """Return the numbers of a histogram, and a sentence about it."""
    total, heads = sum(counts), ["value", "rows", "share"] + ["share in training"] * bool(before)
    rows = [
        [name, count_text(count), share_text(count, total), *([share_text(before[i], sum(before))] if before else [])]
        for i, (name, count) in enumerate(zip(bins, counts, strict=True))
        if count or (before and before[i])
    ]
    most = max(range(len(counts)), key=counts.__getitem__)
    said = f"Most frequent: {bins[most]}, in {share_text(counts[most], total)} of the rows." if total else "No rows."
    return Grid(title, heads, rows), said


def pairs(values: Iterable[tuple[str, Any]]) -> list[list[str]]:
    """Return rows of a table from names and values, without those that are None."""
    return [[name, str(value)] for name, value in values if value is not None]

"""Sections of a report about the scores: their distribution, and their course over the input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from bsm_core.report.page.axes import (
    Tick,
    count_text,
    number_text,
    round_ticks,
    share_text,
    short_text,
    ticks_from_zero,
)
from bsm_core.report.page.charts import WIDE, ChartBar, Series, bars, lines
from bsm_core.report.page.figures import Figure, Grid, Section, histogram_figure
from bsm_core.report.statistics import MOST_PREDICTED, PROBABILITY_BINS

_MOST_BARS, _FEW, _MOST_LISTED = 15, 6, 100
"""Number of classes that are drawn, of those that keep their order, and of those in the table."""


def scores(found: Mapping[str, Any]) -> Section:
    """Return the section of the probabilities and the predicted classes."""
    names, training = found["classes"], found.get("training") or {}
    validated = training.get("scores") or [None] * len(names)
    drawn = [1] if len(names) == 2 else range(len(found["probabilities"]))
    figures = [_predicted(found)] if sum(found["predicted"]) else []
    for index in drawn if figures else ():
        before = validated[index] if index < len(validated) else None
        figures.append(_probability(names[index], index, found["probabilities"][index], before))
    text = (
        "How many rows the model puts into each class, and how sure it is: a probability near 0 or 1 is a sure "
        "answer, one in the middle an unsure one."
    )
    if len(names) == 2:
        text += f" Only the probability of {names[1]} is drawn; that of {names[0]} is its mirror image."
    elif len(names) > len(found["probabilities"]):
        text += f" The probabilities of the first {len(found['probabilities'])} classes are drawn."
    return Section("scores", "Scores", text, figures=figures)


def _predicted(found: Mapping[str, Any]) -> Figure:
    names, counts, total = found["classes"], found["predicted"], sum(found["predicted"])
    trained = (found.get("training") or {}).get("classes") or []
    named = [*names[:MOST_PREDICTED], *["all further classes"] * (len(names) > MOST_PREDICTED)]
    counts = [*counts, *[0] * (len(named) - len(counts))]
    shares = [count / total for count in counts]
    before = [count / (sum(trained) or 1) for count in trained] if len(trained) == len(named) else [None] * len(named)
    ranked = sorted(range(len(named)), key=lambda index: -counts[index])
    shown = ranked[:_MOST_BARS] if len(named) > _FEW else range(len(named))
    items = [
        ChartBar(named[i], shares[i], f"{count_text(counts[i])} · {share_text(counts[i], total)}", before[i])
        for i in shown
    ]
    heads = ["class", "rows", "share"] + ["share of the training labels"] * (before[0] is not None)
    rows = [
        [named[i], count_text(counts[i]), share_text(counts[i], total)]
        + ([share_text(before[i] or 0.0, 1)] if before[0] is not None else [])
        for i in ranked[:_MOST_LISTED]
    ]
    title = "Predicted class"
    description = f"{named[ranked[0]]} is predicted most often, for {share_text(counts[ranked[0]], total)} of the rows."
    note = "The mark is the share of the class among the training labels." if before[0] is not None else ""
    return Figure(title, bars(title, description, items, 1.0), Grid(title, heads, rows), note)


def _probability(name: str, index: int, counts: Sequence[int], before: Sequence[int] | None) -> Figure:
    total, title = sum(counts), f"Probability of {name}"
    below = next(i for i, rows in enumerate(accumulate(counts)) if 2 * rows >= total)
    description = f"Half of the rows have a probability below {(below + 1) / PROBABILITY_BINS:.2f}."
    ticks = [Tick(PROBABILITY_BINS * at / 5, number_text(at / 5)) for at in range(6)]
    heads, rows = ["probability", "rows", "share"], []
    for i, count in enumerate(counts):
        if count or (before and before[i]):
            cells = [f"{i / PROBABILITY_BINS:.2f} to {(i + 1) / PROBABILITY_BINS:.2f}", count_text(count)]
            rows.append([*cells, share_text(count, total), *([share_text(before[i], sum(before))] if before else [])])
    note = "The line is the distribution of the validation rows when the model was trained." if before else ""
    heads += ["share of the validation rows"] if before else []
    return histogram_figure(
        title, description, counts, before, ticks, "probability", Grid(title, heads, rows), note, color=index
    )


def order(found: Mapping[str, Any], rows: int) -> Section | None:
    """Return the section of the scores over the order of the rows; None if there are too few rows."""
    line = found["order"]
    if sum(count > 0 for count in line["rows"]) < 2:
        return None
    size, names = line["rows_per_bucket"], found["classes"]
    called = [f"probability of {names[i]}" if i is not None else "largest probability" for i in line["series"]]
    series = []
    for name, means in zip(called, line["means"], strict=True):
        points = [
            ((line["first"] + at + 0.5) * size, mean if count else float("nan"))
            for at, (mean, count) in enumerate(zip(means, line["rows"], strict=True))
        ]
        series.append(Series(name, points))
    end = float(rows)
    title = "Mean score over the order of the rows"
    description = " ".join(
        f"{name}: {_ends_of(means, line['rows'])}." for name, means in zip(called, line["means"], strict=True)
    )
    y = [Tick(at, number_text(at)) for at in ticks_from_zero([mean for means in line["means"] for mean in means], 0.1)]
    names_of = f"row (each point: {count_text(size)} rows)", "mean"
    small, large = (
        lines(
            title, description, series,
            [Tick(at, short_text(at)) for at in round_ticks(0.0, end, most)],
            y, names_of, ends=(0.0, end), width=width,
        )
        for most, width in ((4, 360), (10, WIDE))
    )  # fmt: skip
    heads = ["rows from", *called, "rows with a score"]
    cells = [
        [
            count_text((line["first"] + at) * size),
            *(number_text(means[at]) for means in line["means"]),
            count_text(count),
        ]
        for at, count in enumerate(line["rows"])
        if count
    ]
    text = (
        "The input from its first row to its last. A level line means that the rows are well mixed; a step or a slope "
        "means that one part of the input differs from another, such as files of other days or sources."
    )
    figure = Figure(title, small, Grid(title, heads, cells), wide=large)
    return Section("order", "Scores over the input", text, figures=[figure])


def _ends_of(means: Sequence[float], rows: Sequence[int]) -> str:
    used = [mean for mean, count in zip(means, rows, strict=True) if count]
    return f"it begins at {number_text(used[0])}, ends at {number_text(used[-1])}, and lies between " + (
        f"{number_text(min(used))} and {number_text(max(used))}"
    )

"""Sections of a report about labeled rows: metrics, curves, confusion, and metrics at thresholds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bsm_core.report.measures import CALIBRATION_BINS, THRESHOLDS, AtThreshold, Curves, Measured
from bsm_core.report.page.axes import Tick, count_text, number_text, score_text, share_text
from bsm_core.report.page.charts import Series, lines
from bsm_core.report.page.figures import Figure, Grid, Section

_MOST_LINES, _MOST_CONFUSED = 5, 20
_UNIT = tuple(Tick(at / 5, number_text(at / 5)) for at in range(6))


def labeled(found: Measured, names: Sequence[str], notes: Sequence[str]) -> Section:
    """Return the section of labeled rows.

    Args:
        found: Counts of the labeled rows.
        names: Name of each class.
        notes: What became of labels and rows that do not fit together.
    """
    text = f"{count_text(found.rows)} rows have a label. " + " ".join(
        f"{note[:1].upper()}{note[1:]}." for note in notes
    )
    if not found.rows:
        return Section("labels", "With labels", text)
    curves = {index: found.curves(index) for index in found.measured_classes}
    grids = [_metrics(found, curves)]
    if found.classes > 2:
        grids.append(_by_class(curves, names))
    drawn = sorted(curves, key=lambda index: (-curves[index].positives, index))[:_MOST_LINES]
    figures = [_roc(curves, drawn, names), _precision_recall(curves, drawn, names), _calibration(found, curves, names)]
    after = [_thresholds(found, names)]
    if 0 < len(found.confusion) <= _MOST_CONFUSED:
        after.insert(0, _confusion(found, names))
    return Section("labels", "With labels", text.strip(), grids, figures, after)


def _metrics(found: Measured, curves: dict[int, Curves]) -> Grid:
    areas = [each.auroc for each in curves.values()]
    precisions = [each.average_precision for each in curves.values()]
    mean = " (mean over the classes)" if found.classes > 2 else ""
    rows = [
        ["AUROC" + mean, score_text(_mean(areas)), "1 is perfect, 0.5 is chance"],
        ["average precision" + mean, score_text(_mean(precisions)), "1 is perfect; chance is the share of the class"],
        ["log loss", score_text(found.log_loss), "0 is perfect, in nats"],
        ["Brier score", score_text(found.brier), "0 is perfect"],
        ["expected calibration error", score_text(found.calibration_error), f"0 is perfect; {CALIBRATION_BINS} bins"],
        ["accuracy", score_text(found.accuracy), "share of rows whose most probable class is right"],
    ]
    if found.classes == 2:
        best = found.best_threshold()
        half = found.at(0.5)
        rows.append(["F1 at 0.5", score_text(half.f1), "1 is perfect"])
        rows.append(
            [f"F1 at {best.threshold:.2f}", score_text(best.f1), "the best threshold in steps of 0.01, on these rows"]
        )
    return Grid("Metrics", ["metric", "value", "how to read it"], rows)


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if value == value]
    return sum(known) / len(known) if known else float("nan")


def _by_class(curves: dict[int, Curves], names: Sequence[str]) -> Grid:
    rows = [
        [names[i], count_text(c.positives), *map(score_text, (c.auroc, c.average_precision, c.calibration_error))]
        for i, c in curves.items()
    ]
    return Grid(
        "Each class against the others", ["class", "rows", "AUROC", "average precision", "calibration error"], rows
    )


def _named(names: Sequence[str], index: int, metric: str, value: float) -> str:
    return f"{names[index]}: {metric} {score_text(value)}"


def _roc(curves: dict[int, Curves], drawn: Sequence[int], names: Sequence[str]) -> Figure:
    title = "ROC curve"
    series = [Series(_named(names, i, "AUROC", curves[i].auroc), _points(curves[i].roc)) for i in drawn]
    note = "" if len(series) > 1 else series[0].name
    description = "; ".join(each.name for each in series) + ". The dashed line is chance."
    axes = "false positive rate", "true positive rate"
    chart = lines(title, description, series, _UNIT, _UNIT, axes, diagonal=True)
    return Figure(title, chart, _table(title, curves, drawn, names, "roc", axes), note)


def _precision_recall(curves: dict[int, Curves], drawn: Sequence[int], names: Sequence[str]) -> Figure:
    title = "Precision and recall"
    series = [
        Series(_named(names, i, "average precision", curves[i].average_precision), _points(curves[i].precision_recall))
        for i in drawn
    ]
    note = "" if len(series) > 1 else series[0].name
    chart = lines(title, "; ".join(each.name for each in series), series, _UNIT, _UNIT, ("recall", "precision"))
    return Figure(title, chart, _table(title, curves, drawn, names, "precision_recall", ("recall", "precision")), note)


def _points(points: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> list[tuple[float, float]]:
    return [(x, y) for x, y in points.tolist()]


def _table(
    title: str, curves: dict[int, Curves], drawn: Sequence[int], names: Sequence[str], kind: str, heads: tuple[str, str]
) -> Grid:
    """Return about 25 points of each curve."""
    rows = []
    for index in drawn:
        points = getattr(curves[index], kind)
        at = np.unique(np.linspace(0, len(points) - 1, min(25, len(points))).astype(int))
        rows += [[names[index], *map(number_text, point)] for point in points[at].tolist()]
    return Grid(title, ["class", *heads], rows)


def _calibration(found: Measured, curves: dict[int, Curves], names: Sequence[str]) -> Figure:
    title = "Calibration"
    points = curves[1].calibration if found.classes == 2 else found.confidence
    most = max(rows for _, _, rows in points)
    name = f"probability of {names[1]}" if found.classes == 2 else "largest probability"
    series = [Series(name, [(p, share) for p, share, _ in points], [(rows / most) ** 0.5 for *_, rows in points])]
    y_name = f"share that is {names[1]}" if found.classes == 2 else "share that is right"
    error = f"Expected calibration error {score_text(found.calibration_error)}"
    description = f"{error}. On the dashed line, rows with a probability of 0.8 are right in 80 % of the cases."
    chart = lines(title, description, series, _UNIT, _UNIT, (name, y_name), diagonal=True)
    rows = [[score_text(p), score_text(share), count_text(count)] for p, share, count in points]
    numbers = Grid(title, [f"mean {name}", y_name, "rows"], rows)
    note = f"{error}; a larger mark stands for more rows."
    return Figure(title, chart, numbers, note)


def _confusion(found: Measured, names: Sequence[str]) -> Grid:
    totals = found.confusion.sum(axis=1)
    rows = [
        [names[i], *(f"{count_text(count)} ({share_text(count, totals[i])})" for count in line), count_text(totals[i])]
        for i, line in enumerate(found.confusion.tolist())
    ]
    shades = [
        [*(count / max(1, total) for count in line), 0.0]
        for line, total in zip(found.confusion.tolist(), totals, strict=True)
    ]
    heads = ["label", *(f"predicted {name}" for name in names), "rows"]
    return Grid("Confusion matrix, with the share of the label's rows", heads, rows, shades)


def _thresholds(found: Measured, names: Sequence[str]) -> Grid:
    points = [found.at(threshold) for threshold in THRESHOLDS]
    if found.classes == 2:
        best = found.best_threshold()
        if best.threshold not in THRESHOLDS:
            points = sorted([*points, best])
        heads = ["threshold", "precision", "recall", "specificity", "F1", "accuracy",
                 "true positives", "false positives", "false negatives", "true negatives"]  # fmt: skip
        caption = f"If rows with a probability of {names[1]} of at least the threshold count as {names[1]}"
        return Grid(caption, heads, [_binary(point) for point in points])
    heads = ["threshold", "rows", "share of the rows", "accuracy of these rows"]
    cells = []
    for point in points:
        rows = point.true_positives + point.false_positives
        cells.append(
            [f"{point.threshold:.2f}", count_text(rows), share_text(rows, found.rows), score_text(point.precision)]
        )
    return Grid("If only rows whose largest probability is at least the threshold are used", heads, cells)


def _binary(point: AtThreshold) -> list[str]:
    metrics = (point.precision, point.recall, point.specificity, point.f1, point.accuracy)
    return [f"{point.threshold:.2f}", *map(score_text, metrics), *(count_text(count) for count in point[1:])]

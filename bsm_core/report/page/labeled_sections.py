"""Sections of a report about labeled rows: metrics, curves, confusion, and metrics at thresholds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bsm_core.metrics.bootstrap import CONFIDENCE, Estimate
from bsm_core.metrics.labeled import MOST_CURVES, MOST_IN_MATRIX, THRESHOLDS, AtThreshold, Labeled
from bsm_core.metrics.names import METRICS, title_of
from bsm_core.metrics.questions import BINS
from bsm_core.report.page.axes import Tick, count_text, number_text, score_text, share_text
from bsm_core.report.page.charts import Series, lines
from bsm_core.report.page.figures import Figure, Grid, Section

_MOST_LINES = 5
"""Number of classes whose curves are drawn: those with the most rows."""
_UNIT = tuple(Tick(at / 5, number_text(at / 5)) for at in range(6))


def labeled(found: Labeled, notes: Sequence[str]) -> Section:
    """Return the section of labeled rows.

    Args:
        found: The labeled rows.
        notes: What became of labels and rows that do not fit together.
    """
    sentences = [f"{count_text(found.rows)} rows have a label", *(f"{note[:1].upper()}{note[1:]}" for note in notes)]
    grids = [_metrics(found)]
    if found.measured.macro is not None:
        grids.append(_by_class(found))
    drawn, classes = [*found.curves][:_MOST_LINES], len(found.names)
    if classes > _MOST_LINES:
        sentences.append(f"The curves are those of the {_MOST_LINES} classes with the most rows")
    if classes > MOST_CURVES:
        sentences.append(f"Of {count_text(classes)} classes, the {MOST_CURVES} with the most rows have metrics below")
    if classes > MOST_IN_MATRIX:
        sentences.append("So many classes have no confusion matrix; the classes that are confused most are listed")
    after = [_confusion(found) if len(found.confusion) else _confused(found), _thresholds(found)]
    figures = [_roc(found, drawn), _precision_recall(found, drawn), _calibration(found)]
    return Section("labels", "With labels", " ".join(f"{each}." for each in sentences), grids, figures, after)


_READ = {
    "auroc": "1 is perfect, 0.5 is chance",
    "average_precision": "1 is perfect; chance is the share of the class",
    "log_loss": "0 is perfect, in nats",
    "brier": "0 is perfect",
    "ece": f"0 is perfect; {BINS} bins",
    "f1": "1 is perfect",
    "precision": "share of the rows predicted as the class that are of it",
    "recall": "share of the rows of the class that are predicted as it",
    "accuracy": "share of rows whose most probable class is right",
}
_OF_ALL = ("log_loss", "brier", "ece", "accuracy")
"""Metrics of more than two classes that are no mean over the classes."""


def _metrics(found: Labeled) -> Grid:
    """Return a line for each metric; with more than two classes, the mean over them where there is no other."""
    measured, rows = found.measured, []
    estimates = {**(measured.macro or {}), **measured.metrics}
    has_intervals = any(each.low is not None for each in estimates.values())
    for name in METRICS:
        each, mean = estimates[name], " (mean over the classes)" if name not in measured.metrics else ""
        interval = [_interval(each)] if has_intervals else []
        rows.append([title_of(name) + mean, _value(each), *interval, each.note or _READ[name]])
    if measured.macro is None:
        best = found.best_threshold()
        about = "the best threshold in steps of 0.01, on these rows"
        rows.append([f"F1 at {best.threshold:.2f}", score_text(best.f1), *([""] * has_intervals), about])
    heads = ["metric", "value", *([f"{CONFIDENCE:.0%} interval"] if has_intervals else []), "how to read it"]
    of_class = f" of {measured.classes[1].name}" if measured.macro is None else ""
    return Grid(f"Metrics{of_class}", heads, rows)


def _value(estimate: Estimate) -> str:
    return score_text(float("nan") if estimate.value is None else estimate.value)


def _interval(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return ""
    return f"{score_text(estimate.low)} to {score_text(estimate.high)}"


def _by_class(found: Labeled) -> Grid:
    shown = ("auroc", "average_precision", "ece", "f1", "precision", "recall")
    shown_classes = sorted(found.curves)
    rows = [
        [each.name, count_text(each.rows), *(_value(each.metrics[name]) for name in shown)]
        for each in map(found.measured.classes.__getitem__, shown_classes)
    ]
    return Grid("Each class against the others", ["class", "rows", *map(title_of, shown)], rows)


def _titled(found: Labeled, index: int, metric: str) -> str:
    """Return the name of a class with one of its metrics."""
    metrics = found.measured.classes[index].metrics or found.measured.metrics
    return f"{found.names[index]}: {title_of(metric)} {_value(metrics[metric])}"


def _roc(found: Labeled, drawn: Sequence[int]) -> Figure:
    title = "ROC curve"
    series = [Series(_titled(found, i, "auroc"), _points(found.curves[i].roc)) for i in drawn]
    note = "" if len(series) > 1 else series[0].name
    description = "; ".join(each.name for each in series) + ". The dashed line is chance."
    axes = "false positive rate", "true positive rate"
    chart = lines(title, description, series, _UNIT, _UNIT, axes, diagonal=True)
    return Figure(title, chart, _table(title, found, drawn, "roc", axes), note)


def _precision_recall(found: Labeled, drawn: Sequence[int]) -> Figure:
    title = "Precision and recall"
    series = [Series(_titled(found, i, "average_precision"), _points(found.curves[i].precision_recall)) for i in drawn]
    note = "" if len(series) > 1 else series[0].name
    axes = "recall", "precision"
    chart = lines(title, "; ".join(each.name for each in series), series, _UNIT, _UNIT, axes)
    return Figure(title, chart, _table(title, found, drawn, "precision_recall", axes), note)


def _points(points: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> list[tuple[float, float]]:
    return [(x, y) for x, y in points.tolist()]


def _table(title: str, found: Labeled, drawn: Sequence[int], kind: str, heads: tuple[str, str]) -> Grid:
    """Return about 25 points of each curve."""
    rows = []
    for index in drawn:
        points = getattr(found.curves[index], kind)
        at = np.unique(np.linspace(0, len(points) - 1, min(25, len(points))).astype(int))
        rows += [[found.names[index], *map(number_text, point)] for point in points[at].tolist()]
    return Grid(title, ["class", *heads], rows)


def _calibration(found: Labeled) -> Figure:
    title, binary = "Calibration", len(found.names) == 2
    points = found.curves[1].calibration if binary else found.confidence
    most = max(rows for _, _, rows in points)
    name = f"probability of {found.names[1]}" if binary else "largest probability"
    series = [Series(name, [(p, share) for p, share, _ in points], [(rows / most) ** 0.5 for *_, rows in points])]
    y_name = f"share that is {found.names[1]}" if binary else "share that is right"
    error = f"{title_of('ece')} {_value(found.measured.metrics['ece'])}"
    description = f"{error}. On the dashed line, rows with a probability of 0.8 are right in 80 % of the cases."
    chart = lines(title, description, series, _UNIT, _UNIT, (name, y_name), diagonal=True)
    rows = [[score_text(p), score_text(share), count_text(count)] for p, share, count in points]
    numbers = Grid(title, [f"mean {name}", y_name, "rows"], rows)
    note = f"{error}; a larger mark stands for more rows."
    return Figure(title, chart, numbers, note)


def _confusion(found: Labeled) -> Grid:
    names = found.names
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


def _confused(found: Labeled) -> Grid:
    """Return the pairs of classes that are confused most, where there are too many classes for a matrix."""
    rows = []
    for label, predicted, count in found.confused:
        share = share_text(count, found.measured.classes[label].rows)
        rows.append([found.names[label], found.names[predicted], count_text(count), share])
    return Grid("Classes that are confused most", ["label", "predicted", "rows", "share of the label's rows"], rows)


def _thresholds(found: Labeled) -> Grid:
    points = [found.at(threshold) for threshold in THRESHOLDS]
    if len(found.names) == 2:
        best = found.best_threshold()
        if best.threshold not in THRESHOLDS:
            points = sorted([*points, best])
        name = found.names[1]
        heads = ["threshold", "precision", "recall", "specificity", "F1", "accuracy",
                 "true positives", "false positives", "false negatives", "true negatives"]  # fmt: skip
        caption = f"If rows with a probability of {name} of at least the threshold count as {name}"
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

"""Charts as inline SVG. Colors are those of the page's style sheet, so that they follow its light and dark forms.

A chart is 360 units wide, the width of a phone, so that its labels can be read there. All texts are escaped.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

from markupsafe import Markup

from bsm_core.report.page.axes import Tick, cut_to, width_of

WIDTH, HEIGHT, WIDE = 360, 232, 1_080
"""Width and height of a chart, and the width of a wide one, in units that are pixels at full size."""
_TOP, _RIGHT, _BOTTOM, _LINE = 22, 14, 40, 14
COLORS = 6
"""Number of colors of the style sheet; further series begin again with the first one, and another dash pattern."""


class Series(NamedTuple):
    """Line of a chart.

    Attributes:
        name: Its name in the legend.
        points: Its points, in units of the data; a NaN as the second number interrupts the line.
        marks: Whether each point is marked; the numbers are the sizes of the marks, 0 to 1.
    """

    name: str
    points: Sequence[tuple[float, float]]
    marks: Sequence[float] = ()


class ChartBar(NamedTuple):
    """Horizontal bar.

    Attributes:
        label: Text above it.
        value: Its length, in units of the data.
        text: Its number as text.
        before: Length of the mark that stands for training; None: no mark.
        color: Number of its color.
    """

    label: str
    value: float
    text: str
    before: float | None = None
    color: int = 0


@dataclass(frozen=True)
class Frame:
    """Place of the data in a chart.

    Attributes:
        width, height: Size of the chart.
        left, low, high: Width of the labels of the y axis, and both ends of the x axis in units of the data.
        top: Upper end of the y axis, which begins at 0.
    """

    width: float
    height: float
    left: float
    low: float
    high: float
    top: float

    def x(self, value: float) -> float:
        """Return the place of a value on the x axis."""
        share = (value - self.low) / ((self.high - self.low) or 1.0)
        return self.left + share * (self.width - self.left - _RIGHT)

    def y(self, value: float) -> float:
        """Return the place of a value on the y axis."""
        return self.height - _BOTTOM - value / (self.top or 1.0) * (self.height - _BOTTOM - _TOP)


def element(tag: str, *children: str | Markup, **attributes: Any) -> Markup:
    """Return an element. Children and values of attributes are escaped, except children that are elements.

    Args:
        tag: Name of the element.
        children: Its content.
        attributes: Its attributes; ``_`` in a name stands for ``-``, an underscore at its end is left out, and None
            leaves out the attribute.
    """
    given = Markup("").join(
        Markup(' {}="{}"').format(name.rstrip("_").replace("_", "-"), _plain(value))
        for name, value in attributes.items()
        if value is not None
    )
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(tag), given, Markup("").join(children))


def _plain(value: Any) -> Any:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else value


def picture(title: str, description: str, width: float, height: float, *content: Markup) -> Markup:
    """Return a chart with its title and description, which a screen reader reads."""
    key = f"chart-{zlib.crc32(f'{title} {description} {width}'.encode('utf-8', 'replace')):08x}"
    head = element("title", title, id=f"{key}-title"), element("desc", description, id=f"{key}-text")
    return element(
        "svg",
        *head,
        *content,
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
        aria_labelledby=f"{key}-title {key}-text",
        class_="wide" if width > WIDTH else None,
    )


def _text(value: str, x: float, y: float, kind: str = "tick", anchor: str = "middle") -> Markup:
    return element("text", value, x=x, y=y, class_=kind, text_anchor=anchor)


def _axes(frame: Frame, x: Sequence[Tick], y: Sequence[Tick], names: tuple[str, str]) -> list[Markup]:
    """Return the grid, the ticks and the names of both axes. Labels that would touch the one before are left out."""
    bottom = frame.height - _BOTTOM
    drawn = []
    for tick in y:
        at = frame.y(tick.at)
        drawn.append(element("line", x1=frame.left, x2=frame.width - _RIGHT, y1=at, y2=at, class_="grid"))
        drawn.append(_text(tick.label, frame.left - 5, at + 4, anchor="end"))
    taken: list[tuple[float, float]] = []
    for tick in [*x[:1], *x[:0:-1]]:  # the labels of both ends first
        at, half = frame.x(tick.at), width_of(tick.label) / 2
        middle = min(max(at, half + 1), frame.width - half - 1)
        drawn.append(element("line", x1=at, x2=at, y1=bottom, y2=bottom + 4, class_="axis"))
        if all(middle + half + 5 < low or middle - half - 5 > high for low, high in taken):
            drawn.append(_text(tick.label, middle, bottom + 15))
            taken.append((middle - half, middle + half))
    drawn.append(element("line", x1=frame.left, x2=frame.width - _RIGHT, y1=bottom, y2=bottom, class_="axis"))
    center = (frame.left + frame.width - _RIGHT) / 2
    drawn.append(_text(names[0], center, frame.height - 7, "name"))
    drawn.append(_text(names[1], 2, 12, "name", "start"))
    return drawn


def _left_of(ticks: Iterable[Tick]) -> float:
    return max((width_of(tick.label) for tick in ticks), default=0.0) + 12


def histogram(
    title: str,
    description: str,
    shares: Sequence[float],
    before: Sequence[float] | None,
    x: Sequence[Tick],
    y: Sequence[Tick],
    names: tuple[str, str],
    color: int = 0,
) -> Markup:
    """Return a histogram: bars of equal width, and a line that stands for training.

    Args:
        title, description: See :func:`picture`.
        shares: Height of each bar.
        before: Height of each bar in training.
        x: Ticks; the number ``i`` is the left end of bar ``i``.
        y: Ticks; the last one is the upper end of the axis.
        names: Names of the axes.
        color: Number of the color of the bars.
    """
    frame = Frame(WIDTH, HEIGHT, _left_of(y), 0.0, float(len(shares)), y[-1].at)
    gap = 0.12 if len(shares) <= 60 else 0.0
    bars = [
        element(
            "rect",
            x=frame.x(i + gap / 2),
            y=frame.y(share),
            width=frame.x(i + 1 - gap / 2) - frame.x(i + gap / 2),
            height=frame.y(0) - frame.y(share),
            class_=f"fill-{color}",
        )
        for i, share in enumerate(shares)
        if share
    ]
    line = []
    if before is not None:
        points = [(float(i + side), share) for i, share in enumerate(before) for side in (0, 1)]
        line = [element("path", d=_path(frame, [points]), class_="before")]
    return picture(title, description, WIDTH, HEIGHT, *_axes(frame, x, y, names), *bars, *line)


def lines(
    title: str,
    description: str,
    series: Sequence[Series],
    x: Sequence[Tick],
    y: Sequence[Tick],
    names: tuple[str, str],
    *,
    ends: tuple[float, float] = (0.0, 1.0),
    width: int = WIDTH,
    diagonal: bool = False,
) -> Markup:
    """Return a line chart.

    Args:
        title, description: See :func:`picture`.
        series: The lines.
        x, y: Ticks; the last one of ``y`` is the upper end of the axis.
        names: Names of the axes.
        ends: Both ends of the x axis.
        width: Width of the chart.
        diagonal: Whether a line from corner to corner is drawn for comparison.
    """
    legend = series if len(series) > 1 else []
    rows = _legend_rows([each.name for each in legend], width)
    height = HEIGHT + _LINE * len(rows)
    frame = Frame(width, HEIGHT, _left_of(y), *ends, y[-1].at)
    drawn = _axes(frame, x, y, names)
    if diagonal:
        drawn.append(element("path", d=_path(frame, [[(0.0, 0.0), (1.0, 1.0)]]), class_="before"))
    for number, each in enumerate(series):
        drawn.append(element("path", d=_path(frame, _runs(each.points)), class_=_kind(number)))
        for (at, value), size in zip(each.points, each.marks, strict=False):
            mark = element(
                "circle", cx=frame.x(at), cy=frame.y(value), r=2.5 + 4 * size, class_=f"fill-{number % COLORS}"
            )
            drawn.append(mark)
    for line, row in enumerate(rows):
        for number, at in row:
            y_of = HEIGHT + 8.0 + _LINE * line
            drawn.append(element("line", x1=at, x2=at + 18, y1=y_of - 4, y2=y_of - 4, class_=_kind(number)))
            drawn.append(_text(cut_to(series[number].name, width - 60), at + 23, y_of, anchor="start"))
    return picture(title, description, width, height, *drawn)


def _kind(number: int) -> str:
    return f"line line-{number % COLORS} dash-{number // COLORS % 3}"


def _legend_rows(names: Sequence[str], width: float) -> list[list[tuple[int, float]]]:
    """Return the entries of a legend line by line, each with its place."""
    rows: list[list[tuple[int, float]]] = []
    at = width
    for number, name in enumerate(names):
        needed = width_of(cut_to(name, width - 60)) + 36
        if at + needed > width:
            rows.append([])
            at = 10.0
        rows[-1].append((number, at))
        at += needed
    return rows


def _runs(points: Sequence[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    """Return the points between interruptions."""
    runs: list[list[tuple[float, float]]] = [[]]
    for point in points:
        if point[1] == point[1]:
            runs[-1].append(point)
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _path(frame: Frame, runs: Iterable[Sequence[tuple[float, float]]]) -> str:
    parts = []
    for run in runs:
        places = [(f"{frame.x(at):.1f}", f"{frame.y(value):.1f}") for at, value in run]
        kept = [places[0], *(after for before, after in pairwise(places) if before != after)]
        parts.append("M" + "L".join(f"{x} {y}" for x, y in kept) + ("h.1" if len(kept) == 1 else ""))
    return "".join(parts)


def bars(title: str, description: str, items: Sequence[ChartBar], top: float) -> Markup:
    """Return horizontal bars, one below the other, each with its label above it.

    Args:
        title, description: See :func:`picture`.
        items: The bars, from the top.
        top: Value of a bar that has the full length.
    """
    row, edge = 34, WIDTH - 2
    drawn = []
    for number, bar in enumerate(items):
        y = number * row
        room = edge - width_of(bar.text) - 12
        drawn.append(_text(cut_to(bar.label, room), 1, y + 12, "label", "start"))
        drawn.append(_text(bar.text, edge, y + 12, "label", "end"))
        drawn.append(element("rect", x=1, y=y + 17, width=edge - 1, height=9, class_="track"))
        length = (edge - 1) * min(1.0, bar.value / (top or 1.0))
        if bar.value:
            drawn.append(element("rect", x=1, y=y + 17, width=max(1.0, length), height=9, class_=f"fill-{bar.color}"))
        if bar.before is not None:
            at = 1 + (edge - 1) * min(1.0, bar.before / (top or 1.0))
            drawn.append(element("line", x1=at, x2=at, y1=y + 14, y2=y + 29, class_="mark"))
    return picture(title, description, WIDTH, len(items) * row + 2, *drawn)

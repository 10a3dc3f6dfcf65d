"""Scales of charts: ticks at round numbers, and numbers as people read them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_NARROW, _WIDE = 6.2, 8.6
"""Width of a character of a label, in units of a chart."""


class Tick(NamedTuple):
    """Mark of an axis.

    Attributes:
        at: Place on the axis, in units of the data.
        label: Text beside it.
    """

    at: float
    label: str


def round_ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Return round numbers from ``low`` to ``high``, at most ``most`` of them, with a step of 1, 2, 2.5 or 5."""
    if not high > low:
        return [low]
    step = _step_of((high - low) / max(most - 1, 1))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def ticks_from_zero(values: Sequence[float], least: float = 0.0) -> list[float]:
    """Return round numbers from 0 to one that no value, and not ``least``, exceeds."""
    largest = max([*values, least])
    if largest <= 0:
        return [0.0, 1.0]
    step = _step_of(largest / 4)
    return [round(number * step, 12) for number in range(math.ceil(largest / step - 1e-9) + 1)]


def _step_of(rough: float) -> float:
    """Return the smallest round step that is not below a number."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(step * power for step in (*_STEPS, 20.0) if step * power >= rough * (1 - 1e-9))


def count_text(value: float) -> str:
    """Return a whole number with commas between groups of digits."""
    return f"{value:,.0f}"


def number_text(value: float | None, digits: int = 4) -> str:
    """Return a number with some significant digits, without zeros at its end; a dash stands for no number."""
    if value is None or math.isnan(value):
        return "–"
    if value == 0:
        return "0"
    if 1e-3 <= abs(value) < 10**6:
        text = f"{value:,.{max(0, digits - 1 - math.floor(math.log10(abs(value))))}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return f"{value:.{digits - 1}e}".replace("e+0", "e").replace("e-0", "e-").replace("e+", "e")


def score_text(value: float | None) -> str:
    """Return a metric or a probability with four digits after the point; a dash stands for no number."""
    return "–" if value is None or math.isnan(value) else f"{value:.4f}"


def short_text(value: float) -> str:
    """Return a number for an axis, such as ``250``, ``1.5k`` or ``20M``."""
    size = abs(value)
    for unit, letter in _UNITS:
        if size >= unit:
            return f"{number_text(value / unit, 3)}{letter}"
    return number_text(value, 3)


def share_text(part: float, whole: float) -> str:
    """Return a share in percent; a dash stands for a share of nothing."""
    if not whole:
        return "–"
    share = 100 * part / whole
    if 0 < share < 0.1:
        return "< 0.1 %"
    return f"{share:.0f} %" if share >= 10 or share == 0 else f"{share:.1f} %"


def percent_ticks(shares: Sequence[float]) -> list[Tick]:
    """Return the ticks of an axis of shares, which begins at 0."""
    return [Tick(value, f"{number_text(100 * value, 3)} %") for value in ticks_from_zero(shares, 0.01)]


def width_of(text: str) -> float:
    """Return about the width of a label, in units of a chart."""
    return sum(_WIDE if char.isupper() or char in "mw%@" else _NARROW for char in text)


def cut_to(text: str, width: float) -> str:
    """Return a label that fits into a width; three dots stand for the rest."""
    if width_of(text) <= width:
        return text
    while text and width_of(text) + 2 * _NARROW > width:
        text = text[:-1]
    return f"{text}…"

"""Plot of the results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from table import EXACT, Result, is_rival

OURS, EXACT_RIVAL, OTHER_RIVAL = "#1f6feb", "#57606a", "#afb8c1"


def draw(results: Sequence[Result], path: Path) -> None:
    """Draw the rows a second as bars, with a panel for each model, data set and device.

    Args:
        results: Summaries of :func:`table.summary`.
        path: File of the plot; the suffix is its format, such as ``.svg``.
    """
    import matplotlib

    matplotlib.use("Agg")  # needs no display
    from matplotlib import pyplot

    cases: dict[str, list[Result]] = {}
    for r in results:
        cases.setdefault(f"{r['model']} on {r['data']}, {r['device']}", []).append(r)
    heights = [len(case) for case in cases.values()]
    figure, panels = pyplot.subplots(
        len(cases), figsize=(8, 0.28 * sum(heights) + 0.8 * len(heights)), height_ratios=heights, squeeze=False
    )
    for panel, (title, case) in zip(panels[:, 0], cases.items(), strict=True):
        case = sorted(case, key=lambda r: r["rows_per_s"])
        bars = panel.barh([r["system"] for r in case], [r["rows_per_s"] for r in case], color=[_color(r) for r in case])
        panel.bar_label(bars, [f"{r['rows_per_s']:,.0f}" for r in case], padding=3, fontsize=8)
        panel.set_title(f"{title}: rows a second", loc="left", fontsize=10)
        panel.margins(x=0.12)
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=8)
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)


def _color(result: Result) -> str:
    if not is_rival(result["system"]):
        return OURS
    return EXACT_RIVAL if result["difference"] <= EXACT else OTHER_RIVAL

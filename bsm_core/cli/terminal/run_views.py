"""The plan of a run before it, and the summary after it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from bsm_core.errors import printable
from bsm_core.runtime.profile import Event, clock
from bsm_core.scoring.run_events import Finished, Outline

_BAR = 24
_LINES = 8
"""Most lines of a list."""


def view_of(event: Event, width: int) -> RenderableType:
    """Return what a terminal shows of an event.

    Args:
        event: The event.
        width: Columns of the terminal.
    """
    if isinstance(event, Outline):
        return outline_view(event)
    if isinstance(event, Finished):
        return summary_view(event, width)
    return Text("\n".join(map(printable, event.lines())))


def outline_view(outline: Outline) -> RenderableType:
    """Return the plan: a title and a text in each line."""
    return Group(Rule("plan", align="left", style="dim"), _entries(outline.entries()), Rule(style="dim"))


def summary_view(done: Finished, width: int) -> RenderableType:
    """Return rows and seconds, the classes, what was unusual in the data, where the file is, and what to do next."""
    rows = done.rows - done.earlier
    rate = rows / max(done.seconds, 1e-9)
    seconds = f"{done.seconds:.1f} s" if done.seconds < 60 else clock(done.seconds)
    earlier = f", {done.rows:,} with those of earlier attempts" if done.earlier else ""
    asked = f" (asked for: {done.asked})" if done.asked != "auto" else ""
    found: list[RenderableType] = [Rule("done", align="left", style="green")]
    head = [("rows", f"{rows:,} in {seconds} ({rate:,.0f} rows/s){earlier}"), ("device", f"{done.devices}{asked}")]
    found.append(_entries(head))
    if sum(done.classes):
        found += [Text("\nmost probable class", "bold"), _bars(done, min(_BAR, width // 3))]
    for title, lines in unusual(done.counts):
        shown = [*lines[:_LINES], *([f"and {len(lines) - _LINES} more"] if lines[_LINES:] else [])]
        found += [Text(f"\n{title}", "bold yellow"), *(Text(f"  {printable(line)}") for line in shown)]
    found += [Text(""), _entries([*_files(done), *_next(done)]), Rule(style="green")]
    return Group(*found)


def unusual(counts: Mapping[str, float]) -> list[tuple[str, list[str]]]:
    """Return lists of what was unusual in the data, each with a title: issues by reason, unseen and missing values."""
    lists: dict[str, list[tuple[float, str]]] = {}
    titles = {"unseen": "categories that the risk tables do not have", "missing": "missing values"}
    for key, count in counts.items():
        kind, _, rest = key.partition(":")
        if kind == "reason":
            stage, reason, column = rest.split(":", 2)
            where = f"column {column!r}, {stage}" if column else stage
            lists.setdefault("row issues", []).append((count, f"{count:,.0f}  {where}: {reason}"))
        elif kind in titles:
            lists.setdefault(titles[kind], []).append((count, f"{count:,.0f}  {rest}"))
        elif kind == "ids":
            lists.setdefault("ids", []).append((count, f"{count:,.0f}  {rest}"))
        elif kind == "hook":
            lists.setdefault("failures of observers", []).append((count, f"{count:,.0f}  {rest}"))
    order = ["row issues", *titles.values(), "ids", "failures of observers"]
    return [(title, [line for _, line in sorted(lists[title], reverse=True)]) for title in order if title in lists]


def _files(done: Finished) -> list[tuple[str, str]]:
    embeddings = [] if done.embeddings is None else [("embeddings", str(done.embeddings))]
    return [("predictions", str(done.path)), *embeddings]


def _next(done: Finished) -> list[tuple[str, str]]:
    """Return where the row issues are, and what to do next."""
    found: list[tuple[str, str]] = []
    folder = shlex.quote(str(done.path.parent))
    if done.row_issues is not None:
        found.append(("row issues", str(done.row_issues)))
    elif any(key.startswith("reason:") for key in done.counts):
        found.append(("next", "run again with --row-issues issues.csv to list the rows with an issue"))
    if done.limit is not None:
        return [*found, ("next", f"this is a trial on the first {done.limit:,} rows: leave --limit out to score all")]
    if done.report is None and done.recorded:
        found.append(("next", f"draw a report of the run: bsm report {folder}"))
    return [*found, ("next", f"when the labels are known: bsm evaluate {folder} --labels FILE")]


def _entries(entries: Sequence[tuple[str, str]]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="cyan", no_wrap=True, max_width=28)
    table.add_column(overflow="fold")
    for title, text in entries:
        table.add_row(printable(title), printable(text))
    return table


def _bars(done: Finished, width: int) -> Table:
    whole, table = sum(done.classes), Table.grid(padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True, overflow="ellipsis", max_width=_BAR)
    names = done.names or range(len(done.classes))
    for name, count in zip(names, done.classes[:_LINES], strict=False):
        bar = ProgressBar(whole, count, width, complete_style="cyan", finished_style="cyan")
        title = printable(name) if isinstance(name, str) else f"class {name}"
        table.add_row(f"  {title}", bar, Text(f"{count / whole:.1%}", justify="right"), f"{count:,}")
    if len(done.classes) > _LINES:
        table.add_row("  others", "", "", f"{sum(done.classes[_LINES:]):,}")
    return table

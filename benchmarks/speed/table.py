"""Tables of the results, and ratios between systems."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

EXACT = 1e-5
"""Largest difference of probabilities that count as exact."""

Result = dict[str, Any]
Peaks = Mapping[str, Mapping[str, Any]]
"""Fastest matrix product of each precision."""

HEADS = (
    "system", "precision", "rows/s", "tokens/s", "GFLOP/s", "of peak", "needed", "peak MB", "difference", "start-up s"
)  # fmt: skip


def summary(result: Result, peaks: Peaks) -> Result:
    """Summarize the rounds of a system by the fastest one.

    Args:
        result: ``rounds``, each with ``seconds`` and ``rows``; and the :meth:`~jobs.Case.work` of those rows;
            and ``precision``.
        peaks: Of the result's device.

    Returns:
        The result with ``rows_per_s``, ``tokens_per_s``, ``gflops`` (of the distinct chunks, without padding),
        ``share`` of the matrix product in its precision and ``needed_share`` (None where there is none), and the
        largest ``peak_mb``, ``difference`` and ``start_up`` of the rounds.
    """
    rounds = result["rounds"]
    seconds = min(figures["seconds"] for figures in rounds)
    if "whole" in rounds[0]:  # a difference of two times: the round whose few rows took longest is no better for it
        seconds = min(figures["whole"] for figures in rounds) - min(figures["few"] for figures in rounds)
    gflops, peak = result["distinct_gflop"] / seconds, peaks.get(result["precision"], {}).get("gflops")
    return {
        **result,
        "rows_per_s": rounds[0]["rows"] / seconds,
        "tokens_per_s": result["tokens"] / seconds,
        "gflops": gflops,
        "share": gflops / peak if peak and gflops else None,
        "needed_share": result["needed_gflop"] / seconds / peak if peak and gflops else None,
        **{key: max(figures.get(key, 0.0) for figures in rounds) for key in ("peak_mb", "difference", "start_up")},
    }


def to_text(results: Sequence[Result]) -> str:
    """Return a Markdown table of summaries, the fastest first."""
    lines = [f"| {' | '.join(HEADS)} |", "|---|---|" + "--:|" * (len(HEADS) - 2)]
    for r in sorted(results, key=lambda r: -r["rows_per_s"]):
        cells = [
            r["system"],
            r["precision"],
            f"{r['rows_per_s']:,.0f}",
            f"{r['tokens_per_s']:,.0f}",
            f"{r['gflops']:,.0f}",
            *("" if r[key] is None else f"{r[key]:.0%}" for key in ("share", "needed_share")),
            f"{r['peak_mb']:,.0f}",
            "exact" if r["difference"] <= EXACT else f"{r['difference']:.1g}",
            f"{r['start_up']:.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def claims(results: Sequence[Result]) -> Iterator[str]:
    """Yield a line for each ratio of bsm to its rivals, from the summaries of one run."""
    cases: dict[tuple[str, str, str], dict[str, Result]] = {}
    for r in results:
        cases.setdefault((r["model"], r["data"], r["device"]), {})[r["system"]] = r
    for (model, data, device), systems in cases.items():
        for line in [*_ahead(systems), *_shares(systems), *_duplicates(systems, cases.get((model, "reviews", device)))]:
            yield f"{model}, {data}, {device}: {line}"
        if tenth := cases.get((model, f"{data}-tenth", device), {}).get("bsm"):
            ratio = systems["bsm"]["peak_mb"] / tenth["peak_mb"]
            yield f"{model}, {data}, {device}: peak memory {ratio:.2f} times that of a tenth of the rows"


def is_rival(system: str) -> bool:
    """Return whether a system is a rival of bsm."""
    return not system.startswith("bsm")


def _ahead(systems: Mapping[str, Result]) -> Iterator[str]:
    """Compare bsm with the padded loop, and in each precision with the fastest rival."""
    ours = systems.get("bsm")
    if ours and (padded := systems.get("padded loop")):
        yield f"bsm is {ours['rows_per_s'] / padded['rows_per_s']:.2f} times the padded loop"
    exact = [r for r in systems.values() if is_rival(r["system"]) and r["difference"] <= EXACT]
    if ours and exact and ours["difference"] <= EXACT:
        yield _compare(ours, exact, "exact rival")
    for precision in ("bf16", "int8"):
        rivals = [r for r in systems.values() if is_rival(r["system"]) and r["precision"] == precision]
        if (own := systems.get(f"bsm {precision}")) and rivals:
            yield _compare(own, rivals, f"{precision} rival")


def _compare(ours: Result, rivals: Sequence[Result], called: str) -> str:
    best = max(rivals, key=lambda r: r["rows_per_s"])
    return (
        f"{ours['system']} is {ours['rows_per_s'] / best['rows_per_s']:.2f} times the best {called} ({best['system']})"
    )


def _shares(systems: Mapping[str, Result]) -> Iterator[str]:
    for name, r in systems.items():
        if not is_rival(name) and r["share"] is not None:
            of = f"the {r['precision']} matrix product"
            yield f"{name} is at {r['share']:.0%} of {of}, {r['needed_share']:.0%} in what is needed"


def _duplicates(systems: Mapping[str, Result], reviews: Mapping[str, Result] | None) -> Iterator[str]:
    """Compare the time of a table with repeats with that of its distinct chunks at the rate of the reviews."""
    ours, plain = systems.get("bsm"), (reviews or {}).get("bsm")
    if ours and plain and ours["data"] == "duplicates" and ours["gflops"]:
        yield f"bsm takes {plain['gflops'] / ours['gflops']:.2f} times the time of the distinct chunks"

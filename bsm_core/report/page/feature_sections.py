"""Sections of a report about the inputs of the model: texts, numbers and categories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from bsm_core.report.drift import words_of
from bsm_core.report.page.axes import (
    Tick,
    count_text,
    number_text,
    share_text,
    short_text,
)
from bsm_core.report.page.charts import ChartBar, bars
from bsm_core.report.page.figures import Badge, Figure, Grid, Section, badge_of, bin_table, histogram_figure
from bsm_core.report.statistics import MOST_CHUNKS, NUMBER_EDGES, TOKEN_EDGES

MOST_DRAWN = 60
"""Number of features of each kind that are drawn, those that moved most; a table lists all of them."""
_MOST_BARS, _MOST_EXAMPLES = 15, 5
_OTHER = "none of the values of training"


def texts(found: Mapping[str, Any]) -> Section | None:
    """Return the section of the text columns; None if there are none."""
    if not found["texts"]:
        return None
    figures, rows, total = [], [], found["rows"]
    for column, text in found["texts"].items():
        before = text["training"] or {}
        badge = badge_of(text["stability_index"])
        figures.append(_lengths(f"{column}: tokens", text["tokens"], before.get("tokens"), _token_bins(), badge))
        chunks = [*(str(i) for i in range(MOST_CHUNKS)), f"{MOST_CHUNKS} or more"]
        if sum(text["chunks"][2:]):
            figures.append(_lengths(f"{column}: chunks", text["chunks"], before.get("chunks"), chunks, None))
        limits = text["limits"]
        reached = [
            _of(text[key], total) if limit else "no limit"
            for key, limit in (("full_chunk", limits["tokens"]), ("most_chunks", limits["chunks"]))
        ]
        named = [f"{limit:,}" if limit else "–" for limit in (limits["tokens"], limits["chunks"])]
        lost, empty = _lost(text, total), empty_in_training(text)
        before_that = "not known" if empty is None else share_text(empty, 1)
        rows.append([column, lost[0], before_that, lost[1], named[0], reached[0], named[1], reached[1]])
    heads = ["column", "empty texts", "empty in training", "unusable texts", "most tokens of a chunk",
             "rows with a full chunk", "most chunks", "rows with the most chunks"]  # fmt: skip
    text_of = (
        "How long the texts are, in tokens and in chunks that the encoder reads. A text that reaches a limit may go on "
        "after it; the model does not read the rest. An unusable text was taken as empty, or was cut."
    )
    return Section("texts", "Texts", text_of, [Grid("Texts by column", heads, rows)], figures)


def _token_bins() -> list[str]:
    last = [edge - 1 for edge in TOKEN_EDGES]
    between = [
        f"{low:,} to {high:,}" if low != high else f"{low:,}" for low, high in zip(TOKEN_EDGES, last[1:], strict=False)
    ]
    return ["0", *between, f"{TOKEN_EDGES[-1]:,} or more"]


def _lengths(
    title: str, counts: Sequence[int], before: Sequence[int] | None, bins: Sequence[str], badge: Badge | None
) -> Figure:
    before = [*before, *[0] * (len(counts) - len(before))][: len(counts)] if before else None
    last = max((i for i, pair in enumerate(zip(counts, before or counts, strict=True)) if any(pair)), default=0)
    counts, before, bins = counts[: last + 1], before and before[: last + 1], bins[: last + 1]
    step = -(-len(bins) // 6)
    ticks = [Tick(i + 0.5, bins[i].partition(" ")[0]) for i in range(0, len(bins), step)]
    numbers, description = bin_table(title, bins, counts, before)
    note = "The line is the distribution in training." if before else ""
    return histogram_figure(title, description, counts, before, ticks, title.rpartition(": ")[2], numbers, note, badge)


def numbers(found: Mapping[str, Any]) -> Section | None:
    """Return the section of the numeric features; None if there are none."""
    features = _ranked(found["numbers"])
    if not features:
        return None
    rows = [
        [name, *_psi_cells(feature), *_lost(feature, found["rows"]), _missing_before(feature)]
        for name, feature in features
    ]
    heads = ["feature", "PSI", "shift", "missing", "unusable", "missing in training"]
    figures = [_number(name, feature) for name, feature in features[:MOST_DRAWN]]
    return Section(
        "numbers", "Numeric features", _FEATURES + _left_out(len(features), "numeric features"),
        [Grid("Numeric features", heads, rows)], figures,
    )  # fmt: skip


_FEATURES = (
    "How the values of this run lie compared with those of training. The population stability index (PSI) is 0 for "
    "equal distributions; above 0.1 the shift is moderate, above 0.25 it is large, and the scores deserve a second "
    "look. A cell that is missing or unusable was replaced by the value that training chose, and is not in the chart."
)


def _left_out(count: int, what: str) -> str:
    return f" The {MOST_DRAWN} of {count:,} {what} that moved most are drawn." if count > MOST_DRAWN else ""


def _ranked(features: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return the features, those that moved most first."""
    return sorted(features.items(), key=lambda item: -(item[1]["stability_index"] or 0.0))


def _of(count: int, total: int) -> str:
    return f"{count_text(count)} ({share_text(count, total)})"


def _examples(feature: Mapping[str, Any]) -> str:
    return ", ".join([*feature["unseen_examples"]][:_MOST_EXAMPLES]) or "–"


def _psi_cells(feature: Mapping[str, Any]) -> tuple[str, str]:
    index = feature["stability_index"]
    return number_text(index if index is None else round(index, 3), 3), words_of(index) or "not known"


def _lost(feature: Mapping[str, Any], total: int) -> list[str]:
    return [_of(feature[key], total) for key in ("missing", "unusable")]


def missing_in_training(feature: Mapping[str, Any]) -> float | None:
    """Return the share of the training rows without a usable value of a number or category; None: it is not known."""
    trained = feature["training"]
    if not trained:
        return None
    counts = trained["counts"].values() if isinstance(trained["counts"], Mapping) else trained["counts"]
    total = sum(counts) + trained.get("other", 0) + trained["missing"]
    return float(trained["missing"] / (total or 1))


def empty_in_training(text: Mapping[str, Any]) -> float | None:
    """Return the share of the training rows whose text was empty; None: it is not known."""
    trained = text["training"]
    if not trained:
        return None
    return float(max(trained["missing"], trained["tokens"][0]) / (sum(trained["tokens"]) or 1))


def _missing_before(feature: Mapping[str, Any]) -> str:
    share = missing_in_training(feature)
    return "not known" if share is None else share_text(share, 1)


def _number(name: str, feature: Mapping[str, Any]) -> Figure:
    trained, counts = feature["training"], feature["counts"]
    before = trained["counts"] if trained else None
    edges = trained["edges"] if trained else NUMBER_EDGES
    values = trained["values"] if trained else None
    bins = _ranges(edges) if values is None else [*map(number_text, values), _OTHER]
    used = [i for i, pair in enumerate(zip(counts, before or counts, strict=True)) if any(pair)]
    first, last = (min(used), max(used)) if used else (0, 0)
    part = slice(first, last + 1)
    shown = range(first, last + 1)
    if values is not None:
        names = [*map(short_text, values), "other"]
        ticks = [Tick(i - first + 0.5, names[i]) for i in dict.fromkeys([*shown[:: -(-len(shown) // 6)], last])]
    else:
        inner = [i for i in shown[:-1] if i < len(edges)]
        ticks = [Tick(i - first + 1.0, short_text(edges[i])) for i in inner[:: -(-len(inner) // 5) or 1]]
        if first == 0 and edges:
            ticks.insert(0, Tick(0.5, f"< {short_text(edges[0])}"))
        if last == len(edges) and edges:
            ticks.append(Tick(last - first + 0.5, f"≥ {short_text(edges[-1])}"))
    before = before[part] if before else None
    grid, description = bin_table(name, bins[part], counts[part], before)
    note = "The line is training." if trained else "The artifact does not record how this feature lay in training."
    if values is not None and counts[-1]:
        note += " Training had no other values than those that are named."
    return histogram_figure(
        name, description, counts[part], before, ticks, "value", grid, note, badge_of(feature["stability_index"])
    )


def _ranges(edges: Sequence[float]) -> list[str]:
    named = [number_text(edge) for edge in edges]
    between = [f"{low} to {high}" for low, high in pairwise(named)]
    return [f"below {named[0]}", *between, f"{named[-1]} or more"] if named else ["any"]


def categories(found: Mapping[str, Any]) -> Section | None:
    """Return the section of the features with a risk table; None if there are none."""
    features = _ranked(found["categories"])
    if not features:
        return None
    rows = [
        [
            name,
            *_psi_cells(feature),
            _of(feature["unseen"], found["rows"]),
            *_lost(feature, found["rows"]),
            _examples(feature),
        ]
        for name, feature in features
    ]
    heads = ["feature", "PSI", "shift", "not in the risk table", "missing", "unusable", "unseen categories, such as"]
    text = (
        "How often each category occurs compared with training. A category that the risk table does not have gets the "
        "table's default value, so the model knows nothing of it."
    )
    return Section(
        "categories", "Categorical features", text + _left_out(len(features), "categorical features"),
        [Grid("Categorical features", heads, rows)],
        [_category(name, feature, found["rows"]) for name, feature in features[:MOST_DRAWN]],
    )  # fmt: skip


def _category(name: str, feature: Mapping[str, Any], total: int) -> Figure:
    trained = feature["training"]
    whole = sum(trained["counts"].values()) + trained["other"] + trained["missing"] if trained else 0
    before = trained["counts"] if trained else {}
    named = list(feature["counts"].items())
    named += [(key, 0) for key in before if key not in feature["counts"]]
    shown, rest = named[: _MOST_BARS - 3], named[_MOST_BARS - 3 :]
    others = feature["other"] + sum(count for _, count in rest)
    trained_others = trained["other"] + sum(before.get(key, 0) for key, _ in rest) if trained else 0
    entries = [(key, count, before.get(key, 0), 0) for key, count in shown]
    lost = feature["missing"] + feature["unusable"]
    for key, count, old, color in (
        ("(other categories)", others, trained_others, 0),
        ("(not in the risk table)", feature["unseen"], 0, 4),
        ("(missing or unusable)", lost, trained["missing"] if trained else 0, 5),
    ):
        entries += [(key, count, old, color)] if count or old else []
    items = [
        ChartBar(
            key,
            count / (total or 1),
            f"{count_text(count)} · {share_text(count, total)}",
            old / whole if whole else None,
            color,
        )
        for key, count, old, color in entries
    ]
    heads = ["category", "rows", "share"] + ["share in training"] * bool(whole)
    cells = [
        [key, count_text(count), share_text(count, total), *([share_text(old, whole)] if whole else [])]
        for key, count, old, _ in entries
    ]
    tops = [value for item in items for value in (item.value, item.before or 0.0)]
    most = max(entries, key=lambda entry: entry[1], default=None)
    description = f"{most[0]} occurs most often, in {share_text(most[1], total)} of the rows." if most else "No rows."
    note = (
        "The mark is training."
        if whole
        else "The artifact does not record how often each category occurred in training."
    )
    drawn = bars(name, description, items, max(tops, default=1.0))
    return Figure(name, drawn, Grid(name, heads, cells), note, badge_of(feature["stability_index"]))

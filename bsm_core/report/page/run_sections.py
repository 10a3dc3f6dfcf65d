"""Sections of a report about the run: issues, unsure rows, time, and what was used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bsm_core.preprocess.findings import ALTERED_PARTS, BAD_ROWS, LINES, MISSING_IDS, MODEL_ROWS, REPEATED_IDS
from bsm_core.report.page.axes import count_text, number_text, score_text, share_text
from bsm_core.report.page.charts import ChartBar, bars
from bsm_core.report.page.figures import Figure, Grid, Section, pairs
from bsm_core.runtime.profile import MODEL, TOTAL

_MOST_REASONS, _MOST_STAGES = 25, 15
_COUNTS = {
    BAD_ROWS: "rows with an issue, and lines that were left out",
    MODEL_ROWS: "rows for which the model failed: their probabilities are empty",
    LINES: "lines that could not be read and were left out",
    MISSING_IDS: "rows without an id",
    REPEATED_IDS: "rows with the id of an earlier row",
    ALTERED_PARTS: "parts of an earlier attempt that were computed again",
}


def issues(record: Mapping[str, Any]) -> Section:
    """Return the section of the row issues, by reason."""
    counts, rows = record.get("counts") or {}, record["rows"]
    reasons = []
    for key, count in counts.items():
        if key.startswith("reason:"):
            _, stage, kind, column = key.split(":", 3)
            reasons.append((column or "whole row", stage, kind, int(count)))
    reasons.sort(key=lambda reason: (-reason[3], reason[:3]))
    text = (
        "What was wrong with cells and rows. Each row is in the output all the same; the file of --row-issues names "
        "each of them."
    )
    totals = [
        [words, count_text(counts[key]), share_text(counts[key], rows)]
        for key, words in _COUNTS.items()
        if counts.get(key)
    ]
    grids = [Grid("Rows and lines", ["what", "number", "share of the rows"], totals)] if totals else []
    if not reasons:
        return Section("issues", "Row issues", "No cell and no row had an issue.", grids)
    title, first = "Issues by reason", reasons[0]
    description = f"The most frequent reason: {first[2]}, in column {first[0]}, {count_text(first[3])} times."
    items = [
        ChartBar(f"{kind} · {column}", count, f"{count_text(count)} · {share_text(count, rows)}", color=4)
        for column, stage, kind, count in reasons[:_MOST_REASONS]
    ]
    cells = [
        [column, stage, kind, count_text(count), share_text(count, rows)] for column, stage, kind, count in reasons
    ]
    numbers = Grid(title, ["column", "stage", "reason", "issues", "share of the rows"], cells[:500])
    figure = Figure(title, bars(title, description, items, float(first[3])), numbers)
    return Section("issues", "Row issues", text, grids, [figure])


def uncertain(found: Mapping[str, Any]) -> Section | None:
    """Return the section of the least certain rows; None if no row has probabilities."""
    if not found["least_certain"]:
        return None
    names, rows = found["classes"], []
    for row in found["least_certain"]:
        named = [f"{names[index]}: {score_text(share)}" for index, share in row["probabilities"][:2]]
        rows.append([row["id"], count_text(row["row"]), *named, *[""] * (2 - len(named))])
    text = (
        "The rows whose two most probable classes are closest: the ones that a person would look at first. Rows are "
        "counted from 0, in the order of the input."
    )
    grid = Grid("Least certain rows", ["id", "row", "most probable class", "second class"], rows)
    return Section("uncertain", "Least certain rows", text, [grid])


def stages(record: Mapping[str, Any]) -> Section | None:
    """Return the section of the time by stage; None if it is not known."""
    times = dict(record.get("profile") or {})
    total = times.pop(TOTAL, 0.0)
    if not times or not total:
        return None
    if (rest := total - sum(times.values())) > 0:
        times["the rest"] = rest
    rows = record["rows"]
    ranked = sorted(times.items(), key=lambda item: -item[1])
    whole = max(total, sum(times.values()))
    items = [
        ChartBar(name, seconds, f"{number_text(seconds, 3)} s · {share_text(seconds, whole)}", color=1)
        for name, seconds in ranked[:_MOST_STAGES]
    ]
    cells = [
        [name, number_text(seconds, 3), share_text(seconds, whole), number_text(seconds / max(rows, 1) * 1e6, 3)]
        for name, seconds in ranked
    ]
    title = "Time by stage"
    description = f"Most time, {share_text(ranked[0][1], whole)}, went into: {ranked[0][0]}."
    text = (
        f"Where the time went between the start of the model and the end, {number_text(total, 3)} seconds in all "
        "processes of this attempt together. Loader workers prepare rows while the model works, so their time can "
        "exceed the total."
    )
    if MODEL in times:
        text += f" The model itself took {share_text(times[MODEL], whole)}."
    numbers = Grid(title, ["stage", "seconds", "share", "µs per row"], cells)
    return Section(
        "time", "Time", text, figures=[Figure(title, bars(title, description, items, ranked[0][1]), numbers)]
    )


def provenance(record: Mapping[str, Any]) -> Section:
    """Return the section of what was used: data, settings, model, code and machine."""
    settings, device = record.get("settings") or {}, record.get("device") or {}
    general = pairs(
        [
            ("finished", record.get("finished")),
            ("output", record.get("output")),
            ("data", settings.get("data_dir") or record.get("data")),
            ("artifact", settings.get("model_dir") or record.get("artifact_path")),
            ("rows", count_text(record["rows"])),
            ("windows", record.get("windows")),
            ("device", device.get("used") and f"{device['used']} (asked for: {device.get('asked')})"),
            ("text encoders", _encoders(record.get("encoders"))),
            ("self-check", _self_check(record.get("self_check"))),
        ]
    )
    grids = [Grid("The run", ["what", "value"], general)]
    if attempts := record.get("attempts"):
        rows = [
            [str(each[key]) for key in ("attempt", "host", "began", "device")] + [count_text(each["rows"])]
            for each in attempts
        ]
        grids.append(Grid("Attempts", ["attempt", "host", "began", "device", "rows"], rows))
    if components := record.get("components"):
        heads = ["kind", "name", "column", "distribution", "version"]
        rows = [[str(each.get(key) or "") for key in heads] for each in components]
        grids.append(Grid("Model class, steps and hooks", heads, rows))
    versions = pairs((record.get("versions") or {}).items())
    given = pairs((name, value) for name, value in settings.items() if value not in (None, [], ""))
    files = pairs((record.get("artifact") or {}).items())
    more = [("Versions", "package", versions), ("Settings", "setting", given), ("Files of the artifact", "file", files)]
    grids += [
        Grid(caption, [head, "SHA-256" if head == "file" else "value"], rows) for caption, head, rows in more if rows
    ]
    text = "What went into these scores: the data, the artifact, the code and the machine."
    return Section("provenance", "Provenance", text, grids)


def _encoders(chosen: Mapping[str, Any] | None) -> str | None:
    if not chosen:
        return None
    backends = ", ".join(f"{name}: {backend}" for name, backend in chosen.get("backends", {}).items())
    return f"{chosen.get('precision')}{f' ({backends})' if backends else ''}"


def _self_check(found: Mapping[str, Any] | None) -> str | None:
    return (
        None if found is None else f"largest difference of a check row: {number_text(found['largest_difference'], 2)}"
    )

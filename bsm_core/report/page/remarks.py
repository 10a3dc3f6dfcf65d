"""Remarks: sentences that say where a reader of a report should look first."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from bsm_core.preprocess.findings import BAD_ROWS, LINES, MISSING_IDS, REPEATED_IDS
from bsm_core.report.drift import LARGE, MODERATE
from bsm_core.report.page.axes import count_text, number_text, share_text
from bsm_core.report.page.feature_sections import empty_in_training, missing_in_training

_SHARE, _MUCH, _RARE = 0.05, 0.25, 0.01
"""Shares of the rows: that are worth a remark, that are bad, and that are too few to be compared with training."""
_NAMED, _COLUMNS_NAMED = 5, 10
_STEP = 0.15
"""Difference of the mean score between the first and the last fifth of the input that is worth a remark."""


def remarks(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return sentences, each with its kind: ``bad``, ``watch``, or ``good`` if there is nothing else to say."""
    statistics = record["statistics"]
    found = [*_of_rows(record), *_of_scores(statistics), *_of_cells(statistics), *_of_drift(statistics)]
    found += _of_values(statistics)
    found.sort(key=lambda remark: remark[0] != "bad")
    has_inputs = any(statistics[kind] for kind in ("numbers", "categories", "texts"))
    return found or [("good", f"Nothing unusual was found{'' if has_inputs else ' in the scores'}.")]


def _of_rows(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    counts, rows, found = record.get("counts") or {}, record["rows"], record["statistics"]
    if not rows:
        yield "watch", "The input has no rows."
        return
    if unscored := found["rows"] - sum(found["predicted"]):
        yield "bad", f"{count_text(unscored)} row(s) have no probabilities."
    if rows > found["rows"]:
        why = "they were not scored, or by an earlier attempt without --report or --run-record"
        yield "watch", f"{count_text(rows - found['rows'])} row(s) are in no statistics: {why}."
    if bad := counts.get(BAD_ROWS):
        kind = "bad" if bad > _SHARE * rows else "watch"
        yield kind, f"{count_text(bad)} row(s) have an issue, {share_text(bad, rows)} of all; see Row issues."
    if lines := counts.get(LINES):
        yield "bad", f"{count_text(lines)} line(s) of the input could not be read and are not in the output."
    for key, what in ((MISSING_IDS, "have no id"), (REPEATED_IDS, "have the id of an earlier row")):
        if counts.get(key):
            yield "watch", f"{count_text(counts[key])} row(s) {what}."


def _of_scores(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    total, names = sum(found["predicted"]), found["classes"]
    if total > 1 and max(found["predicted"]) == total:
        only = found["predicted"].index(total)
        yield "watch", f"Every row is predicted to be {names[only] if only < len(names) else 'a further class'}."
    if any(max(counts) == sum(counts) > 10 for counts in found["probabilities"]):
        yield (
            "bad",
            "All rows have nearly the same probabilities: does the model get the columns that it was trained on?",
        )
    line = found["order"]
    for index, means in zip(line["series"], line["means"], strict=True):
        fifth = max(1, len(means) // 5)
        if len(means) >= 2 * fifth and (
            step := _mean(line, means, slice(-fifth, None)) - _mean(line, means, slice(fifth))
        ):
            if abs(step) < _STEP:
                continue
            name = "largest probability" if index is None else f"probability of {names[index]}"
            word = "higher" if step > 0 else "lower"
            by = number_text(abs(step), 2)
            yield "watch", f"The mean {name} is {by} {word} in the last fifth of the input than in the first."


def _mean(line: Mapping[str, Any], means: list[float], part: slice) -> float:
    rows = line["rows"][part]
    return float(sum(mean * count for mean, count in zip(means[part], rows, strict=True)) / (sum(rows) or 1))


class _Lost(NamedTuple):
    """Cells of a column that hold no value: their share of the rows, that in training, and what they are."""

    share: float
    before: float | None
    name: str
    what: str
    rows: int

    @property
    def more(self) -> float:
        return self.share - (self.before or 0.0)

    @property
    def is_unusual(self) -> bool:
        """Whether there are many such cells or, if those of training are known, clearly more than there."""
        if self.before is None:
            return self.share > _SHARE
        chance = 3 * math.sqrt(self.before / self.rows)  # three standard deviations of a rare event
        return self.more > _SHARE or (self.share > max(_RARE, 2 * self.before) and self.more > chance)

    def __str__(self) -> str:
        before = "" if self.before is None else f", in training in {share_text(self.before, 1)}"
        return f"{self.name} is {self.what} in {share_text(self.share, 1)} of the rows{before}."


def _of_cells(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the columns with many missing or unusable cells, the worst first."""
    total, lost = found["rows"] or 1, list[_Lost]()
    for name, each in {**found["numbers"], **found["categories"]}.items():
        what = "missing or unusable" if each["missing"] and each["unusable"] else "missing"
        what = what if each["missing"] else "unusable"
        lost.append(_Lost((each["missing"] + each["unusable"]) / total, missing_in_training(each), name, what, total))
    for name, each in found["texts"].items():
        before = empty_in_training(each)
        lost.append(_Lost(max(each["missing"], each["without_tokens"]) / total, before, name, "empty", total))
        lost.append(_Lost(each["unusable"] / total, None, name, "unusable, or was cut,", total))
    unusual = sorted((each for each in lost if each.is_unusual), key=lambda each: (-each.more, each.name))
    for each in unusual[:_COLUMNS_NAMED]:
        yield "bad" if each.more > _MUCH else "watch", str(each)
    if rest := len(unusual[_COLUMNS_NAMED:]):
        yield "watch", f"{rest} more columns have many missing or unusable cells; see the tables."


def _of_drift(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    features = {**found["numbers"], **found["categories"], **found["texts"]}
    indices = sorted(((each["stability_index"] or 0.0, name) for name, each in features.items()), reverse=True)
    for kind, low, high, words in (("bad", LARGE, math.inf, "far"), ("watch", MODERATE, LARGE, "somewhat")):
        moved = [(name, index) for index, name in indices if low < index <= high]
        if moved:
            named = ", ".join(f"{name} (PSI {number_text(index, 2)})" for name, index in moved[:_NAMED])
            more = f" and {len(moved) - _NAMED} more" if len(moved) > _NAMED else ""
            yield kind, f"Moved {words} from training: {named}{more}."
    if left_out := found["features_not_counted"]:
        yield "watch", f"{count_text(left_out)} feature(s) of the model are in no statistics: the model has too many."
    if features and found["rows"] and all(each["stability_index"] is None for each in features.values()):
        why = "that needs 100 rows, here and in training"
        if all(each["training"] is None for each in features.values()):
            why = "the artifact does not record how they lay"
        yield "watch", f"How far the inputs have moved from training is not known: {why}."


def _of_values(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, each in found["numbers"].items():
        if (each["training"] or {}).get("values") is not None and each["counts"][-1] > _SHARE * found["rows"]:
            share = share_text(each["counts"][-1], found["rows"])
            yield "watch", f"{share} of the rows have a value of {name} that training did not have."
    for name, each in found["categories"].items():
        if each["unseen"] > _SHARE * found["rows"]:
            share, such = share_text(each["unseen"], found["rows"]), ", ".join([*each["unseen_examples"]][:_NAMED])
            yield (
                "bad",
                f"{share} of the rows have a category of {name} that the risk table does not have, such as {such}.",
            )
    for name, each in found["texts"].items():
        for key, what in (
            ("full_chunk", "a chunk of the largest length"),
            ("most_chunks", "the largest number of chunks"),
        ):
            if each[key] > 0.25 * found["rows"]:
                share = share_text(each[key], found["rows"])
                yield "watch", f"{share} of the texts of {name} reach {what}: the rest of these texts may not be read."

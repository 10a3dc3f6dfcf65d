"""The key ``statistics`` of a run record: the sum of the statistics of all windows, as values of JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from bsm_core.artifact.training_distributions import (
    CategoryDistribution,
    NumberDistribution,
    TextDistribution,
    TrainingDistributions,
)
from bsm_core.report.binning import Binning, NumberColumn, TextLimits
from bsm_core.report.drift import stability_index
from bsm_core.report.number_bins import bins_of
from bsm_core.report.statistics import (
    CHUNKS,
    LIMITS,
    MOST_CHUNKS,
    MOST_SERIES,
    NUMBER,
    OTHER,
    PREDICTED,
    PROBABILITY,
    PROBABILITY_BINS,
    TOKEN_EDGES,
    TOKENS,
    IntArray,
    Order,
    Statistics,
    UncertainRow,
)

FORMAT = 1
"""Version of the form of this key."""
_CATEGORIES_SHOWN, _UNSEEN_SHOWN = 10, 5
_LIMITS = ("without_tokens", "full_chunk", "most_chunks")


def as_record(
    statistics: Statistics,
    binning: Binning,
    classes: Sequence[str] | Sequence[int],
    counts: Mapping[str, float],
    *,
    all_categories: bool = False,
) -> dict[str, Any]:
    """Return statistics as values of JSON, with the distributions of training and how far the rows have moved.

    Args:
        statistics: Sum of the statistics of all windows.
        binning: The bins in which they were counted.
        classes: Name or label of each class.
        counts: Counts of the run's findings, see :meth:`bsm_core.preprocess.findings.Findings.counts`.
        all_categories: Whether all categories that were counted are named, as the record of a shard does: only then the
            sum of several records is exact.
    """
    most = (None, None) if all_categories else (_CATEGORIES_SHOWN, _UNSEEN_SHOWN)
    training = binning.training
    numbers = {name: _number(name, statistics, binning, counts) for name in binning.numbers}
    return {
        "format": FORMAT,
        "rows": statistics.rows,
        "classes": [*map(_name, classes)],
        "predicted": statistics.predicted,
        "probabilities": [
            _padded(found, PROBABILITY_BINS) for _, found in sorted(statistics.of(PROBABILITY).items(), key=_number_of)
        ],
        "texts": {column: _text(column, statistics, binning, counts) for column in binning.texts},
        "numbers": numbers,
        "categories": {name: _category(name, statistics, binning, counts, most) for name in binning.categories},
        "features_not_counted": binning.uncounted,
        "order": _order(statistics.order, len(classes)),
        "least_certain": [
            {**row._asdict(), "probabilities": [list(pair) for pair in row.probabilities]}
            for row in statistics.least_certain
        ],
        "training": training and {"rows": training.rows, "classes": training.classes, "scores": training.scores},
    }


def merged_records(records: Sequence[Mapping[str, Any]], places: Sequence[Callable[[int], int]]) -> dict[str, Any]:
    """Return one record of several shards of a job, which were scored with the same artifact.

    Args:
        records: Records of :func:`as_record`.
        places: For each record, a function from the position of a row in the shard to that in the whole table.
    """
    total, first, counts = Statistics(), records[0], Counter[str]()
    for record, place in zip(records, places, strict=True):
        part = from_record(record)
        part.least_certain = [row._replace(row=place(row.row)) for row in part.least_certain]
        total.add(part)
        counts.update(_lost(record))
    binning = Binning(
        numbers=dict.fromkeys(first["numbers"], NumberColumn(0, bins_of(None), 0.0)),
        categories=tuple(first["categories"]),
        texts={column: TextLimits(**text["limits"]) for column, text in first["texts"].items()},
        training=_training_of(first),
        uncounted=first["features_not_counted"],
    )
    return as_record(total, binning, first["classes"], counts)


def _lost(record: Mapping[str, Any]) -> dict[str, int]:
    """Return the counts of missing and unusable cells, as findings count them."""
    found = dict[str, int]()
    for kind, unusable in (("texts", "text"), ("numbers", "number"), ("categories", "number")):
        for name, column in record[kind].items():
            found |= {f"missing:{name}": column["missing"], f"{unusable}:{name}": column["unusable"]}
    return found


def frame_of(record: Mapping[str, Any]) -> list[Any]:
    """Return what the records of all shards of a job have in common: classes, columns, and the bins of numbers."""
    names = [[*record[kind]] for kind in ("texts", "categories")]
    return [record["classes"], *names, {name: found["training"] for name, found in record["numbers"].items()}]


def _training_of(record: Mapping[str, Any]) -> TrainingDistributions | None:
    """Return the distributions of training in a record."""
    if not record["training"]:
        return None
    parts = {
        kind: {name: found["training"] for name, found in record[kind].items() if found["training"]}
        for kind in ("numbers", "categories", "texts")
    }
    return TrainingDistributions.model_validate({**record["training"], **parts})


def from_record(record: Mapping[str, Any]) -> Statistics:
    """Return the statistics in a record of :func:`as_record`, to add those of another one.

    Categories that the record does not name count as others, and the order of the rows is left out: rows of several
    shards do not follow each other.
    """
    bins = {PREDICTED: record["predicted"]}
    bins |= {f"{PROBABILITY}:{index}": found for index, found in enumerate(record["probabilities"])}
    for column, text in record["texts"].items():
        bins[f"{CHUNKS}:{column}"], bins[f"{TOKENS}:{column}"] = text["chunks"], text["tokens"]
        bins[f"{LIMITS}:{column}"] = [text[name] for name in _LIMITS]
    bins |= {f"{NUMBER}:{name}": found["counts"] for name, found in record["numbers"].items()}
    features = record["categories"].items()
    return Statistics(
        rows=record["rows"],
        bins={key: np.array(counts, np.int64) for key, counts in bins.items()},
        categories={name: Counter({**found["counts"], OTHER: found["other"]}) for name, found in features},
        unseen={name: Counter({**found["unseen_examples"], OTHER: found["other_unseen"]}) for name, found in features},
        least_certain=[
            UncertainRow(
                row["margin"], row["row"], row["id"], [(index, share) for index, share in row["probabilities"]]
            )
            for row in record["least_certain"]
        ],
    )


def _number_of(item: tuple[str, IntArray]) -> int:
    return int(item[0])


def _padded(counts: IntArray | None, length: int) -> list[int]:
    found = [] if counts is None else counts.tolist()
    return [*found, *[0] * (length - len(found))]


def _text(column: str, statistics: Statistics, binning: Binning, counts: Mapping[str, float]) -> dict[str, Any]:
    limits = binning.texts[column]
    trained: TextDistribution | None = binning.training.texts.get(column) if binning.training else None
    chunks = _padded(statistics.bins.get(f"{CHUNKS}:{column}"), MOST_CHUNKS + 1)
    tokens = _padded(statistics.bins.get(f"{TOKENS}:{column}"), len(TOKEN_EDGES) + 1)
    return {
        "chunks": chunks,
        "tokens": tokens,
        **dict(zip(_LIMITS, _padded(statistics.bins.get(f"{LIMITS}:{column}"), len(_LIMITS)), strict=True)),
        "missing": int(counts.get(f"missing:{column}", 0)),
        "unusable": int(counts.get(f"text:{column}", 0)),
        "limits": {"tokens": limits.tokens, "chunks": limits.chunks},
        "training": trained and trained.model_dump(),
        "stability_index": trained and _index(trained.tokens[1:], tokens[1:], (trained.tokens[0], tokens[0])),
    }


def _number(name: str, statistics: Statistics, binning: Binning, counts: Mapping[str, float]) -> dict[str, Any]:
    trained: NumberDistribution | None = binning.training.numbers.get(name) if binning.training else None
    found = _padded(statistics.bins.get(f"{NUMBER}:{name}"), len(bins_of(trained)))
    missing, unusable = (int(counts.get(f"{kind}:{name}", 0)) for kind in ("missing", "number"))
    index = None
    if trained:
        known = len(found) if trained.values is None else len(trained.values)  # other values have a bin of their own
        alone = *zip(trained.counts[known:], found[known:], strict=True), (trained.missing, missing + unusable)
        index = _index(trained.counts[:known], found[:known], *alone)
    return {
        "counts": found,
        "missing": missing,
        "unusable": unusable,
        "training": trained and trained.model_dump(),
        "stability_index": index,
    }


def _category(
    name: str,
    statistics: Statistics,
    binning: Binning,
    counts: Mapping[str, float],
    most: tuple[int | None, int | None],
) -> dict[str, Any]:
    trained: CategoryDistribution | None = binning.training.categories.get(name) if binning.training else None
    known, unseen = (found.get(name, Counter()) for found in (statistics.categories, statistics.unseen))
    missing, unusable = (int(counts.get(f"{kind}:{name}", 0)) for kind in ("missing", "number"))
    first = _first(known, most[0], trained.counts if trained else ())
    examples = _first(unseen, most[1])
    index = None
    if trained:
        now = [known[key] for key in trained.counts]
        before, now = [*trained.counts.values(), trained.other], [*now, known.total() - sum(now)]
        index = _index(before, now, (trained.missing, missing + unusable), (0, unseen.total()), ordered=False)
    return {
        "counts": first,
        "other": known.total() - sum(first.values()),
        "missing": missing,
        "unusable": unusable,
        "unseen": unseen.total(),
        "unseen_examples": examples,
        "other_unseen": unseen.total() - sum(examples.values()),
        "training": trained and trained.model_dump(),
        "stability_index": index,
    }


def _first(counts: Counter[str], most: int | None, wanted: Collection[str] = ()) -> dict[str, int]:
    """Return the counts of some categories, the most frequent first: the wanted ones, and the first of the others."""
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    ranked = [(key, count) for key, count in ranked if key != OTHER and count]
    named = {*wanted, *[key for key, _ in ranked if key not in wanted][:most]}
    return {key: count for key, count in ranked if key in named}


def _index(before: Sequence[int], now: Sequence[int], *apart: tuple[int, int], ordered: bool = True) -> float | None:
    index = stability_index(before, now, ordered=ordered, apart=apart) if len(before) == len(now) else None
    return None if index is None else round(index, 6)


def _order(order: Order, classes: int) -> dict[str, Any]:
    series: list[int | None] = [1] if classes == 2 else [*range(classes)] if classes <= MOST_SERIES else [None]
    means = order.sums / np.maximum(order.rows, 1)
    return {
        "rows_per_bucket": order.rows_per_bucket,
        "first": order.first,
        "rows": order.rows.tolist(),
        "series": series if len(order.rows) else [],
        "means": [[round(value, 6) for value in line] for line in means.tolist()],
    }


def _name(label: str | int) -> str:
    """Return the name of a class as a report shows it: a number has the word "class" before it."""
    text = str(label)
    return f"class {text}" if text.replace(".", "", 1).isdecimal() else text

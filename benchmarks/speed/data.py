"""Tables of the benchmark: real reviews, cut or joined to the lengths of a data set."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

ID, TEXT, TITLE = "review_id", "Review Text", "Title"
NUMBERS = ("Age", "Positive Feedback Count")
CATEGORIES = ("Division Name", "Department Name", "Class Name")
MOST = 512
"""Largest number of tokens of a text; the encoders have no positions for more."""
REPEATS = 20
"""Number of copies of each text in ``duplicates``."""
FEATURES = tuple(f"feature_{i}" for i in range(10))
"""Feature columns of the data set ``tabular``."""

Lengths = Callable[[np.random.Generator, int], np.ndarray]


@dataclass(frozen=True)
class DataSet:
    """Description of a table.

    Attributes:
        rows: Number of rows at scale 1, for a model of the size of MiniLM-L6.
        about: Description in the results, one line.
        lengths: Function that draws the number of tokens of each text; None to keep the texts as they are.
        kind: ``"text"``, or ``"tabular"`` for features only.
        by_default: Whether the data set is measured if the command names none.
    """

    rows: int
    about: str
    lengths: Lengths | None = None
    kind: str = "text"
    by_default: bool = True


def _uniform(least: int, most: int) -> Lengths:
    return lambda rng, rows: rng.integers(least, most + 1, rows)


def _log_normal(rng: np.random.Generator, rows: int) -> np.ndarray:
    return np.exp(rng.normal(np.log(64), 0.9, rows)).round().clip(4, MOST).astype(int)


DATA_SETS = {
    "reviews": DataSet(2048, "clothing reviews as they are"),
    "long": DataSet(384, "reviews joined to 300-512 tokens", _uniform(300, MOST)),
    "mixed": DataSet(1024, "log-normal lengths, 64 tokens in the middle", _log_normal),
    "duplicates": DataSet(4096, f"reviews, each {REPEATS} times"),
    "short": DataSet(10_000, "titles of reviews"),
    "tokens-128": DataSet(1024, "128 tokens each", _uniform(128, 128), by_default=False),
    "tokens-512": DataSet(256, "512 tokens each", _uniform(MOST, MOST), by_default=False),
    "tabular": DataSet(1_000_000, "ten features, no text", kind="tabular"),
    "tabular-tenth": DataSet(100_000, "a tenth of that, to compare peak memory", kind="tabular"),
}


def write_table(name: str, rows: int, reviews: pd.DataFrame, tokenizer: Any, path: Path) -> Path:
    """Write a data set as Parquet; equal arguments give equal tables.

    Args:
        name: The data set.
        rows: Largest number of rows; there may be fewer reviews or titles.
        reviews: The clothing reviews.
        tokenizer: Hugging Face fast tokenizer, to count tokens.
        path: The file.

    Returns:
        ``path``.
    """
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    table = _features(rows, rng) if DATA_SETS[name].kind == "tabular" else _texts(name, rows, reviews, tokenizer, rng)
    table.insert(0, ID, [f"{i:07d}" for i in range(len(table))])
    table.to_parquet(path, index=False)
    return path


def _features(rows: int, rng: np.random.Generator) -> pd.DataFrame:
    """Make numbers, of which one in fifty is missing."""
    values = rng.normal(size=(rows, len(FEATURES)))
    values[rng.random(values.shape) < 0.02] = np.nan
    return pd.DataFrame(values, columns=list(FEATURES))


def _texts(name: str, rows: int, reviews: pd.DataFrame, tokenizer: Any, rng: np.random.Generator) -> pd.DataFrame:
    """Combine texts with the features of random reviews."""
    column = TITLE if name == "short" else TEXT
    there = reviews[reviews[column].notna()]
    there = there.iloc[rng.permutation(len(there))]
    lengths = DATA_SETS[name].lengths
    if lengths is not None:
        texts = list(_of_lengths(lengths(rng, rows), there[TEXT].tolist(), tokenizer))
    elif name == "duplicates":
        distinct = there[TEXT].tolist()[: max(1, rows // REPEATS)]
        texts = [distinct[i] for i in rng.permutation(np.arange(len(distinct)).repeat(REPEATS))]
    else:
        texts = there[column].tolist()[:rows]
    drawn = there.iloc[np.arange(len(texts)) % len(there)]
    return drawn[[*NUMBERS, *CATEGORIES]].reset_index(drop=True).assign(**{TEXT: texts})


def _of_lengths(lengths: np.ndarray, texts: list[str], tokenizer: Any) -> Iterator[str]:
    """Make texts of given numbers of tokens, special tokens included, from concatenated reviews."""
    special, following = tokenizer.num_special_tokens_to_add(), 0
    for length in lengths.tolist():
        joined: list[str] = []
        offsets: list[tuple[int, int]] = []
        while len(offsets) < length - special:
            joined.append(texts[following % len(texts)])
            following += 1
            encoded = tokenizer(" ".join(joined), add_special_tokens=False, return_offsets_mapping=True, verbose=False)
            offsets = encoded["offset_mapping"]
        yield " ".join(joined)[: offsets[length - special - 1][1]]

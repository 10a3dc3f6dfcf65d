from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from data import CATEGORIES, DATA_SETS, FEATURES, ID, NUMBERS, REPEATS, TEXT, TITLE, write_table
from support.artifacts import write_tokenizer
from transformers import AutoTokenizer

REVIEWS = Path(__file__).parents[3] / "examples" / "reviews" / "reviews.csv"


@pytest.fixture(scope="module")
def reviews() -> pd.DataFrame:
    return pd.read_csv(REVIEWS)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return AutoTokenizer.from_pretrained(write_tokenizer(tmp_path_factory.mktemp("tokenizer")))


@pytest.fixture
def table(reviews, tokenizer, tmp_path):
    def written(name: str, rows: int) -> pd.DataFrame:
        return pd.read_parquet(write_table(name, rows, reviews, tokenizer, tmp_path / f"{name}.parquet"))

    return written


def tokens(tokenizer, texts: pd.Series) -> list[int]:
    return [len(ids) for ids in tokenizer(texts.tolist(), verbose=False)["input_ids"]]


@pytest.mark.parametrize("name", [name for name, data in DATA_SETS.items() if data.kind == "text"])
def test_a_table_of_texts(name, table):
    made = table(name, 40)
    assert list(made.columns) == [ID, *NUMBERS, *CATEGORIES, TEXT]
    assert made[ID].tolist() == [f"{i:07d}" for i in range(40)]
    assert made[TEXT].str.strip().str.len().min() > 0


def test_the_same_table_every_time(table):
    pd.testing.assert_frame_equal(table("mixed", 20), table("mixed", 20))


def test_long_texts_are_long(table, tokenizer):
    found = tokens(tokenizer, table("long", 30)[TEXT])
    assert min(found) >= 300
    assert max(found) <= 512
    assert len(set(found)) > 10


def test_texts_of_one_length(table, tokenizer):
    assert set(tokens(tokenizer, table("tokens-128", 10)[TEXT])) == {128}


def test_mixed_lengths_are_skewed(table, tokenizer):
    found = pd.Series(tokens(tokenizer, table("mixed", 300)[TEXT]))
    assert 50 < found.median() < 80
    assert found.mean() > 1.1 * found.median()


def test_duplicates_come_so_often(table, reviews):
    counts = table("duplicates", 4 * REPEATS)[TEXT].value_counts()
    assert counts.tolist() == [REPEATS] * 4
    assert set(counts.index) <= set(reviews[TEXT])


def test_short_texts_are_titles(table, reviews):
    assert set(table("short", 50)[TEXT]) <= set(reviews[TITLE])


def test_no_more_reviews_than_there_are(table, reviews):
    assert len(table("reviews", 10**6)) == reviews[TEXT].notna().sum()


def test_a_table_of_features(table):
    made = table("tabular", 2000)
    assert list(made.columns) == [ID, *FEATURES]
    assert 0.01 < made[list(FEATURES)].isna().to_numpy().mean() < 0.03

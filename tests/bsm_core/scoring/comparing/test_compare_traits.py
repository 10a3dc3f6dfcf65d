"""Traits of the rows that differ, in ``bsm compare``."""

import numpy as np
import pandas as pd
import pytest

from bsm_core.scoring.comparing import traits as traits_module
from bsm_core.scoring.comparing.compare import compare
from bsm_core.scoring.comparing.traits import Trait

RANDOM = np.random.default_rng(0)
AGES = RANDOM.integers(18, 90, 1000)
INCOMES = RANDOM.normal(0, 1e6, 1000)
ROWS = np.arange(1000)


def traits_of(tmp_path, differs, **columns):
    """Return the traits of rows that differ, given the columns of the old file."""
    ids = [f"r{i}" for i in range(len(differs))]
    old, new = tmp_path / "old.csv", tmp_path / "new.csv"
    pd.DataFrame({"id": ids, **columns, "prob_class_0": 0.5}).to_csv(old, index=False)
    pd.DataFrame({"id": ids, "prob_class_0": np.where(differs, 0.6, 0.5)}).to_csv(new, index=False)
    return compare(old, new).traits


@pytest.mark.parametrize(
    ("differs", "what"),
    [
        (AGES > 60, "is 61 or more"),
        (AGES <= 30, "is 30 or less"),
        ((AGES > 40) & (AGES <= 50), "is 41 to 50"),
        (AGES == 40, "is '40'"),
    ],
)
def test_a_range_of_numbers(tmp_path, differs, what):
    found = traits_of(tmp_path, differs, age=AGES, income=INCOMES)
    assert (found.found, found.search) == ([Trait("age", what, 1, 0)], "")


def test_a_range_of_most_rows_has_its_shares(tmp_path):
    differs = (AGES > 60) ^ (RANDOM.random(1000) < 0.1)
    [trait] = traits_of(tmp_path, differs, age=AGES, income=INCOMES).found
    assert (trait.column, trait.what) == ("age", "is 61 or more")
    shares = np.mean(AGES[differs] > 60), np.mean(AGES[~differs] > 60)
    assert (trait.share, trait.others) == pytest.approx(shares)


def test_a_range_of_a_sample(tmp_path, monkeypatch):
    monkeypatch.setattr(traits_module, "_MOST_NUMBERS", 50)
    [trait] = traits_of(tmp_path, AGES > 60, age=np.where(AGES > 85, np.nan, AGES)).found
    assert trait.what.startswith("is 6")
    assert trait.share == pytest.approx(np.mean(AGES[AGES > 60] <= 85), abs=0.1)
    assert trait.others == 0


@pytest.mark.parametrize("size", [6, 20, 200])
def test_chance_is_no_trait(tmp_path, size):
    columns = {f"x{i}": RANDOM.normal(size=1000) for i in range(10)} | {"y": RANDOM.integers(0, 2, 1000)}
    found = traits_of(tmp_path, size > ROWS, **columns)
    assert found.found == []
    assert found.search.startswith(f"nothing in common was found in {tmp_path / 'old.csv'}, column(s) x0, x1")


def test_a_number_is_missing_in_one_of_several_columns(tmp_path):
    missing = RANDOM.random((1000, 8)) < 0.02
    columns = {f"x{i}": np.where(missing[:, i], np.nan, RANDOM.normal(size=1000)) for i in range(8)}
    columns["text"] = np.where(RANDOM.random(1000) < 0.1, "", "abc")
    [trait] = traits_of(tmp_path, missing.any(axis=1), **columns).found
    assert trait == Trait(", ".join(f"x{i}" for i in range(8)), "a number is missing", 1, 0)


def test_a_column_without_a_name_has_traits_beside_missing_numbers(tmp_path):
    part = ROWS % 4
    numbers = {name: np.where(part == i, np.nan, INCOMES) for i, name in enumerate("ab")}
    traits = traits_of(tmp_path, part < 2, **{"": np.where(part < 2, ROWS + 5000, ROWS)}, **numbers).found
    assert {(trait.column, trait.what) for trait in traits} == {
        ("", "is 5000 or more"),
        ("a, b", "a number is missing"),
    }


def test_numbers_that_are_there_and_others_that_are_missing(tmp_path):
    differs = ROWS[:100] < 40
    traits = traits_of(tmp_path, differs, x=np.where(differs, 1.5, np.nan), y=np.where(differs, np.nan, 2.5)).found
    assert {(trait.column, trait.what) for trait in traits} == {("x", "is '1.5'"), ("y", "is missing")}


@pytest.mark.parametrize("differs", [4, 996])
def test_few_rows_have_nothing_to_say(tmp_path, differs):
    found = traits_of(tmp_path, differs > ROWS, age=np.where(differs > ROWS, 1, 2))
    assert (found.found, found.search[:12]) == ([], "too few rows")


def test_a_column_that_occurs_twice_is_not_looked_at(tmp_path):
    (tmp_path / "data.csv").write_text("\n".join(["id,x,x,y", *(f"r{i},1,{i},{i > 9}" for i in range(20)), ""]))
    traits_of(tmp_path, ROWS[:20] > 9)
    found = compare(tmp_path / "old.csv", tmp_path / "new.csv", data=tmp_path / "data.csv").traits
    assert found.found == [Trait("y", "is 'True'", 1, 0)]


def test_a_table_of_other_rows(tmp_path):
    (tmp_path / "data.csv").write_text("id,x\nz,1\n")
    traits_of(tmp_path, ROWS[:20] > 9)
    found = compare(tmp_path / "old.csv", tmp_path / "new.csv", data=tmp_path / "data.csv").traits
    assert "data.csv has too few of the ids" in found.search

"""Distributions that training records of its rows, and the report of the validation rows."""

from __future__ import annotations

import re

import numpy as np
import pytest
from support.training import CONFIG, labelled_rows

from bsm_core import train
from bsm_core.artifact import Artifact, describe, pack, unpacked
from bsm_core.training.distributions import distribution_of

pytestmark = pytest.mark.usefixtures("toy_site")


def test_training_records_its_distributions_and_writes_a_report(tmp_path, caplog):
    rows = labelled_rows(80)
    rows.loc[[1, 2], "amount"] = ["", "many"]
    rows.loc[[3, 4], "chat"] = None
    train({**CONFIG, "max_epochs": 1}, rows[:60], tmp_path / "model", validation=rows[60:])
    found = Artifact.at(tmp_path / "model").training_distributions
    assert (found.rows, found.classes) == (60, [20, 40])
    amount = found.numbers["amount"]
    assert amount.missing == 14
    assert sum(amount.counts) == 46
    assert found.categories["channel"].counts == {"mail": 20, "shop": 20, "web": 20}
    assert found.categories["channel"].other == found.categories["channel"].missing == 0
    assert found.texts["chat"].chunks[:5] == [2, 0, 19, 39, 0]
    assert sum(found.texts["chat"].tokens) == 60
    assert found.texts["chat"].missing == 2
    assert [sum(counts) for counts in found.scores] == [20, 20]
    page = (tmp_path / "model-report.html").read_text("utf-8")
    titles = re.findall(r"<h2[^>]*>(.*?)</h2>", page)
    assert titles[:3] == ["At a glance", "With labels", "Scores"]
    assert "20 rows have a label" in page
    assert "row 1 of the table" in page
    packed = pack(tmp_path / "model", tmp_path / "model.tar.gz")
    with unpacked(packed) as folder:
        assert Artifact.at(folder).training_distributions == found
    described = describe(tmp_path / "model")
    assert described.problems == []
    assert described.training == {"rows": 60, "classes": [20, 40], "features": 2, "validation_rows": 20}
    assert "  60 rows (20, 40 by class), 2 features, scores of 20 validation rows" in described.to_text().splitlines()


def test_the_report_lies_where_it_is_asked_for_and_only_with_validation_rows(tmp_path):
    rows, config = labelled_rows(20), {**CONFIG, "max_epochs": 1}
    train(config, rows, tmp_path / "a" / "model", report=tmp_path / "page.html")
    assert (tmp_path / "page.html").exists()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["model"]
    train({**config, "validation_fraction": 0}, rows, tmp_path / "b" / "model")
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["model"]
    assert Artifact.at(tmp_path / "b" / "model").training_distributions.scores == []


@pytest.mark.parametrize("values", [[], [3.0], [1.0, 2.0, 2.0, 5.0], range(20)])
def test_few_different_values_have_a_bin_each(values):
    found = distribution_of(np.sort(np.array(values, np.float32)))
    assert found.values == sorted({float(value) for value in values})
    assert found.edges == []
    assert found.counts == [*(list(values).count(value) for value in found.values), 0]


def test_the_bins_of_whole_numbers_hold_equally_many_of_them():
    found = distribution_of(np.sort(np.random.default_rng(0).normal(40, 12, 5_000).round().astype(np.float32)))
    assert found.values is None
    edges = found.edges
    assert {*np.diff(edges)} == {4.0}
    assert all(edge == round(edge) for edge in edges)


def test_the_bins_of_skewed_numbers_hold_equally_many_rows():
    values = np.sort(np.random.default_rng(0).lognormal(0, 3, 5_000).astype(np.float32))
    found = distribution_of(values)
    assert found.counts == pytest.approx([250] * 20, abs=2)  # equal widths would put nearly all into one bin
    assert np.all(np.diff(found.edges) > 0)


@pytest.mark.parametrize("often", [0.0, 7.0, 12345.678])
@pytest.mark.parametrize("share", [0.4, 0.96])
def test_a_value_that_is_frequent_has_a_bin_of_its_own(often, share):
    values = np.random.default_rng(0).geometric(0.02, 5_000).astype(np.float32)
    values[: int(share * 5_000)] = often
    found = distribution_of(np.sort(values))
    assert max(found.counts) == (values == np.float32(often)).sum()
    assert len(found.edges) <= 22
    assert sum(found.counts) == 5_000


def test_the_bins_of_even_numbers_have_equal_widths():
    edges = distribution_of(np.sort(np.random.default_rng(0).normal(0, 1, 5_000).astype(np.float32))).edges
    assert len(edges) == 20
    assert np.diff(edges) == pytest.approx(np.full(19, np.diff(edges).mean()), rel=0.01)


def test_nearly_equal_values_have_bins_too():
    values = np.sort((1e6 + np.arange(100) * 0.0625).astype(np.float32))
    assert sum(distribution_of(values).counts) == 100

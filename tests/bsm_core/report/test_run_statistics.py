"""The statistics of runs: the same from one process and from two, and after a resume."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from support.toy import toy_rows

from bsm_core.artifact.training_distributions import (
    CategoryDistribution,
    NumberDistribution,
    TextDistribution,
    TrainingDistributions,
    write_training_distributions,
)
from bsm_core.errors import CorruptArtifactError
from bsm_core.report.binning import Binning, Scored
from bsm_core.report.page.draw import draw
from bsm_core.report.run_statistics import as_record, from_record
from bsm_core.scoring.engines.callbacks import PartMaker

TRAINED = TrainingDistributions(
    rows=1_000,
    classes=[600, 400],
    numbers={"amount": NumberDistribution(edges=[1.0, 2.0, 4.0], counts=[250, 250, 250, 250], missing=0)},
    categories={"channel": CategoryDistribution(counts={"web": 500, "shop": 500}, other=0, missing=0)},
    texts={"chat": TextDistribution(chunks=[0, 1_000], tokens=[0] * 22, missing=0)},
    scores=[[10] * 100, [10] * 100],
)


@pytest.fixture
def statistics(run):
    def start(rows: pd.DataFrame | None = None, **flags):
        if rows is not None:
            rows.to_csv(run.data / "t.csv", index=False)
        run(run_record=True, **flags)
        return json.loads((run.out / "run.json").read_text())["statistics"]

    return start


def test_one_process_and_two_and_loader_workers_count_the_same(statistics, run):
    alone = statistics(toy_rows(230), window_rows=16)
    assert alone["rows"] == 230
    assert sum(alone["predicted"]) == 230
    assert alone["texts"]["chat"]["chunks"][:5] == [0, 77, 77, 76, 0]
    assert alone["numbers"]["amount"]["missing"] == 46
    assert sum(alone["numbers"]["amount"]["counts"]) == 184
    channel = alone["categories"]["channel"]
    assert (channel["counts"], channel["unseen_examples"], channel["other"]) == (
        {"web": 77, "shop": 77},
        {"mail": 76},
        0,
    )
    assert sum(alone["order"]["rows"]) == 230
    assert statistics(window_rows=16, devices=2) == alone
    assert statistics(window_rows=16, num_workers=1) == alone
    one_window = statistics(window_rows=4096)
    assert {**one_window, "order": None} == {**alone, "order": None}
    assert np.allclose(one_window["order"]["means"], alone["order"]["means"], atol=2e-6)


def test_they_agree_with_the_predictions(statistics, run):
    found = statistics(toy_rows(100), window_rows=7)
    predictions = pd.read_csv(run.out / "inference_predictions.csv", dtype={"id": str})
    ones = predictions["prob_class_1"].to_numpy()
    assert found["probabilities"][1] == np.histogram(ones, np.arange(101) / 100)[0].tolist()
    assert found["predicted"] == [int((ones < 0.5).sum()), int((ones >= 0.5).sum())]
    nearest = predictions.iloc[(ones - 0.5).__abs__().argsort(kind="stable")[:20]]
    assert [row["id"] for row in found["least_certain"]] == nearest["id"].tolist()
    size = found["order"]["rows_per_bucket"]
    means = [ones[at : at + size].mean() for at in range(0, 100, size)]
    assert np.allclose(found["order"]["means"][0], means, atol=1e-6)


def stop(run, monkeypatch, **flags):
    """Run until six windows of five rows are done."""
    made = []
    original = PartMaker.on_predict_batch_end

    def end(self, *args):
        made.append(1)
        if len(made) == 7:
            raise RuntimeError("stopped")
        original(self, *args)

    monkeypatch.setattr(PartMaker, "on_predict_batch_end", end)
    with pytest.raises(RuntimeError, match="stopped"):
        run(window_rows=5, **flags)
    monkeypatch.undo()


def test_they_survive_a_resume(statistics, run, monkeypatch):
    whole = statistics(toy_rows(60), window_rows=5)
    stop(run, monkeypatch, run_record=True)
    assert statistics(window_rows=5, resume="require") == whole


def test_nothing_is_counted_where_nobody_asks(run, monkeypatch):
    toy_rows(60).to_csv(run.data / "t.csv", index=False)
    counted = run(run_record=True, window_rows=5)
    monkeypatch.setattr(Binning, "statistics", lambda *args: pytest.fail("counted"))
    alone = run(window_rows=5)
    assert alone.classes == counted.classes
    assert alone.record["statistics"] is None
    assert {**alone.record, **dict.fromkeys(DIFFERENT)} == {**counted.record, **dict.fromkeys(DIFFERENT)}


DIFFERENT = ("statistics", "settings", "attempts", "finished", "seconds", "profile")


@pytest.mark.parametrize("counts_first", [True, False])
def test_a_resume_that_counts_after_an_attempt_that_did_not(statistics, run, monkeypatch, tmp_path, counts_first):
    rows = toy_rows(60)
    rows.to_csv(run.data / "t.csv", index=False)
    classes = run(window_rows=5).classes
    stop(run, monkeypatch, run_record=counts_first)
    if counts_first:
        assert run(window_rows=5, resume="require").classes == classes
        return
    result = run(window_rows=5, resume="require", run_record=True, report=tmp_path / "r.html")
    assert result.classes == classes
    record = json.loads((run.out / "run.json").read_text())
    assert (record["rows"], record["statistics"]["rows"], sum(record["statistics"]["predicted"])) == (60, 30, 30)
    missing = rows["amount"][30:].eq("").sum()
    assert record["statistics"]["numbers"]["amount"]["missing"] == missing == record["counts"]["missing:amount"] - 6
    page = (tmp_path / "r.html").read_text("utf-8")
    assert "30 row(s) are in no statistics: they were not scored, or by an earlier attempt" in page
    assert "30 in the statistics" in page


def test_rows_without_probabilities_and_bad_numbers(statistics):
    rows = toy_rows(50)
    rows.loc[[3, 9], "amount"] = ["many", "inf"]
    found = statistics(rows)
    assert (found["numbers"]["amount"]["missing"], found["numbers"]["amount"]["unusable"]) == (10, 2)
    assert sum(found["numbers"]["amount"]["counts"]) == 38


def test_no_rows(statistics):
    found = statistics(toy_rows(0))
    assert (found["rows"], found["least_certain"], found["order"]["rows"]) == (0, [], [])


def test_how_far_the_rows_moved_from_training(statistics, run):
    write_training_distributions(run.artifact, TRAINED)
    found = statistics(toy_rows(200))
    amount = found["numbers"]["amount"]
    assert amount["counts"] == [3, 3, 6, 148]  # quarters from 0 on; each fifth cell is empty
    assert amount["training"]["counts"] == [250] * 4
    sides = np.array([[250, 250, 250, 250, 0], [3, 3, 6, 148, 40]])  # missing cells are a bin of their own
    shares = sides / sides.sum(axis=1, keepdims=True) + 0.5 / 200
    shares /= shares.sum(axis=1, keepdims=True)
    expected = ((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum()
    assert amount["stability_index"] == pytest.approx(expected, abs=1e-6)
    assert found["categories"]["channel"]["stability_index"] > 0.25  # a third is unseen
    assert found["training"] == {"rows": 1_000, "classes": [600, 400], "scores": TRAINED.scores}
    few = statistics(toy_rows(20))
    assert few["numbers"]["amount"]["stability_index"] is None


def amounts(*values: float | str) -> pd.DataFrame:
    rows = toy_rows(200)
    rows["amount"] = [str(values[i % len(values)]) for i in range(200)]
    return rows


@pytest.mark.parametrize(
    ("values", "counts", "now", "found"),
    [
        ([0.0, 1.0], [500, 500, 0], [0, 100], [100, 0, 100]),
        ([0.0, 1.0], [500, 500, 0], [0, 0.5], [100, 0, 100]),
        ([3.0], [1000, 0], [-700_000], [0, 200]),
        ([0.0, 1.0], [960, 40, 0], [1], [0, 200, 0]),
        ([0.0, 1.0], [960, 40, 0], [0, ""], [100, 0, 0]),
    ],
)
def test_values_that_training_did_not_have_are_others(statistics, run, values, counts, now, found):
    number = NumberDistribution(edges=[], counts=counts, missing=0, values=values)
    write_training_distributions(run.artifact, TRAINED.model_copy(update={"numbers": {"amount": number}}))
    amount = statistics(amounts(*now))["numbers"]["amount"]
    assert amount["counts"] == found
    assert amount["stability_index"] > 0.25
    page = draw({"rows": 200, "statistics": json.loads((run.out / "run.json").read_text())["statistics"]})
    assert ("none of the values of training" in page) == (found[-1] > 0)


def test_values_of_training_are_stable(statistics, run):
    number = NumberDistribution(edges=[], counts=[500, 500, 0], missing=0, values=[np.float32(0.1).item(), 1.0])
    write_training_distributions(run.artifact, TRAINED.model_copy(update={"numbers": {"amount": number}}))
    amount = statistics(amounts(0.1, 1))["numbers"]["amount"]
    assert amount["counts"] == [100, 100, 0]
    assert amount["stability_index"] < 0.01


def test_unseen_categories_do_not_hide_among_rare_ones(statistics, run):
    rare = CategoryDistribution(
        counts={"web": 550, **{f"shop {i}": 45 for i in range(10)}}, other=0, missing=0
    )  # the risk table has only "shop" and "web"
    write_training_distributions(run.artifact, TRAINED.model_copy(update={"categories": {"channel": rare}}))
    rows = toy_rows(200)
    rows["channel"] = ["web"] * 110 + ["new"] * 90
    assert statistics(rows)["categories"]["channel"]["stability_index"] > 0.25
    rows["channel"] = ["web"] * 110 + [""] * 90
    assert statistics(rows)["categories"]["channel"]["stability_index"] > 0.25


def test_empty_texts_are_a_bin_of_their_own(statistics, run):
    lengths = TextDistribution(chunks=[0, 1_000], tokens=[0, 1_000, *[0] * 20], missing=0)
    write_training_distributions(run.artifact, TRAINED.model_copy(update={"texts": {"chat": lengths}}))
    rows = toy_rows(200)
    rows["chat"] = "hello"
    assert statistics(rows)["texts"]["chat"]["stability_index"] < 0.01
    rows["chat"] = ""
    assert statistics(rows)["texts"]["chat"]["stability_index"] > 0.25


def test_training_distributions_that_cannot_be_used_are_an_error_with_advice(statistics, run):
    (run.artifact / "training_distributions.json").write_text('{"format": 1, "rows": -1}')
    with pytest.raises(CorruptArtifactError, match="does not hold training distributions") as error:
        statistics(toy_rows(2))
    assert "rows" in "\n".join(error.value.details)


def test_a_record_of_many_features_stays_small(statistics):
    names = [f"a_feature_with_a_long_name_{number}" for number in range(600)]
    tables = {*names[:200]}
    trained = TRAINED.model_copy(
        update={
            "numbers": {
                name: NumberDistribution(
                    edges=[float(f"{edge * 1.2345:.5g}") for edge in range(20)], counts=[50_000] * 21, missing=0
                )
                for name in names
            },
            "categories": {
                name: CategoryDistribution(
                    counts={f"category {number}": 50_000 for number in range(20)}, other=0, missing=0
                )
                for name in tables
            },
        }
    )
    binning = Binning.of(names, tables, dict.fromkeys(names, 0.0), {}, trained)
    rng = np.random.default_rng(0)
    found = binning.statistics(
        Scored(
            0,
            rng.dirichlet([1.0] * 20, 4096),
            features=rng.normal(10, 5, (4096, 600)).astype(np.float32),
            known={name: {f"category {number}": 50_000 for number in range(40)} for name in tables},
        )
    )
    found.bins = {key: counts * 250 for key, counts in found.bins.items()}
    record = as_record(found, binning, [*range(20)], {})
    assert len(json.dumps(record, separators=(",", ":"))) < 200_000


def test_records_of_shards_add_up(statistics, run):
    write_training_distributions(run.artifact, TRAINED)
    found = statistics(toy_rows(200))
    both = from_record(found)
    both.add(from_record(found))  # exact sums of different shards: tests/bsm_core/evaluation/test_make_report.py
    assert both.rows == 400
    assert both.bins["number:amount"].tolist() == [6, 6, 12, 296]
    assert both.bins["limits:chat"].tolist() == [0, 0, 0]
    assert both.categories["channel"]["web"] == 134
    assert both.unseen["channel"].total() == 132
    nearest = [row["row"] for row in found["least_certain"]]
    assert [row.row for row in both.least_certain[:4]] == [nearest[0], nearest[0], nearest[1], nearest[1]]

"""The predictor as other Python code uses it: tables in, tables out, iterators, copies and threads."""

from __future__ import annotations

import copy
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from support.toy import toy_rows, write_toy_artifact

from bsm_core import Issue, Predictor
from bsm_core.errors import DataError, MissingColumnsError, UsageError
from bsm_core.models import micro_batches


@pytest.fixture
def predictor(toy_artifact):
    return Predictor.from_artifact(toy_artifact)


@pytest.fixture
def named(toy_site, tmp_path):
    """A predictor whose classes have names."""
    return Predictor.from_artifact(write_toy_artifact(tmp_path / "named", class_names=["good", "bad"]))


def test_what_scikit_learn_calls_classes_and_features(predictor, named):
    assert predictor.classes_.tolist() == [0, 1]
    assert named.classes_.tolist() == ["good", "bad"]
    assert predictor.feature_names_in_.tolist() == ["amount", "channel", "chat"]


def test_probabilities_as_an_array_of_ones_own(predictor):
    rows = toy_rows(7)
    found = predictor.predict_proba(rows)
    assert (found.dtype, found.shape) == (np.float64, (7, 2))
    assert np.array_equal(found, predictor.predict(rows).to_numpy())
    found[:] = 0  # it may be changed
    assert predictor.predict_proba([]).shape == (0, 2)


def test_every_kind_of_table_gives_the_same_numbers(predictor):
    rows = toy_rows(7)
    want = predictor.predict_proba(rows)
    for data in (pa.Table.from_pandas(rows), rows.to_dict("list"), rows.to_dict("records")):
        assert np.array_equal(predictor.predict_proba(data), want)


def test_a_frame_of_polars_gives_the_same_numbers(predictor):
    polars = pytest.importorskip("polars")
    rows = toy_rows(7)
    assert np.array_equal(
        predictor.predict_proba(polars.DataFrame(rows.to_dict("list"))), predictor.predict_proba(rows)
    )


def test_the_predicted_class(predictor, named):
    rows = toy_rows(23).set_index(pd.Index(range(100, 123)))
    logits = np.log(predictor.predict_proba(rows))
    for each in (predictor, named):  # so that some rows are of each class
        each.model.head.bias.data[1] -= float(np.median(logits[:, 1] - logits[:, 0]))
    numbers = predictor.predict(rows, predicted_class=True)
    assert list(numbers.columns) == ["prob_class_0", "prob_class_1", "predicted_class"]
    second = (numbers["prob_class_1"] > numbers["prob_class_0"]).tolist()
    assert set(second) == {True, False}
    assert numbers["predicted_class"].tolist() == [int(is_second) for is_second in second]
    names = named.predict(rows, predicted_class=True)
    assert names["predicted_class"].tolist() == ["bad" if is_second else "good" for is_second in second]
    assert names.index.equals(rows.index)


# Batches


def test_batches_are_scored_when_they_are_asked_for(predictor):
    asked = []

    def batches():
        for start in (0, 4, 8):
            asked.append(start)
            yield toy_rows(12).iloc[start : start + 4]

    results = predictor.predict_batches(batches())
    assert asked == []
    first = next(results)
    assert asked == [0]
    found = pd.concat([first, *results])
    pd.testing.assert_frame_equal(found, predictor.predict(toy_rows(12)), check_exact=True)


def test_issues_of_batches_count_the_rows_of_all(predictor, caplog):
    rows = toy_rows(6).assign(amount=["1", "x", "2", "3", "4", "y"])
    batches = [rows.iloc[:3], pa.Table.from_pandas(rows.iloc[3:])]
    issues: list[Issue] = []
    list(predictor.predict_batches(batches, on_issue=issues.append))
    assert [(issue.row, issue.value) for issue in issues] == [(1, "x"), (5, "y")]
    assert caplog.text == ""
    list(predictor.predict_batches(batches))
    assert "row 1: column 'amount'" in caplog.text
    assert "row 5: column 'amount'" in caplog.text
    assert caplog.text.count("column 'amount': 2 cell(s) that cannot be used") == 1


@pytest.mark.parametrize("batches", [toy_rows(2), pa.table({"a": [1]}), {"a": [1]}, "rows.csv", None], ids=type)
def test_one_table_is_no_iterable_of_tables(predictor, batches):
    with pytest.raises(UsageError, match="is no iterable of tables") as caught:
        predictor.predict_batches(batches)
    assert "or call predict" in caught.value.fix


# Files


@pytest.fixture
def rows_file(tmp_path):
    file = tmp_path / "rows.csv"
    toy_rows(23).to_csv(file, index=False)
    return file


def test_files_are_scored_window_by_window_with_id_and_kept_columns(predictor, rows_file):
    tables = list(predictor.score(rows_file, id_field="id", keep_columns=["channel"], window_rows=10))
    assert [len(table) for table in tables] == [10, 10, 3]
    found = pa.concat_tables(tables)
    assert found.schema.names == ["id", "channel", "prob_class_0", "prob_class_1"]
    assert found.schema.types == [pa.string(), pa.string(), pa.float64(), pa.float64()]
    assert found["id"].to_pylist() == toy_rows(23)["id"].tolist()
    want = predictor.predict_proba(toy_rows(23))
    assert np.abs(found.select([2, 3]).to_pandas().to_numpy() - want).max() < 2e-6


@pytest.mark.parametrize("suffix", ["tsv", "parquet", "jsonl", "csv.gz"])
def test_other_files_give_the_same_rows(predictor, rows_file, tmp_path, suffix):
    rows, other = toy_rows(23), tmp_path / "other" / f"rows.{suffix}"
    other.parent.mkdir()
    if suffix == "parquet":
        rows.to_parquet(other)
    elif suffix == "jsonl":
        other.write_text("".join(json.dumps(row) + "\n" for row in rows.to_dict("records")))
    else:
        rows.to_csv(other, sep="\t" if suffix == "tsv" else ",", index=False)
    want = pa.concat_tables(predictor.score(str(rows_file), id_field="id")).to_pydict()
    for place in (other, f"{tmp_path}/other", f"{tmp_path}/oth*/*", f"file://{other}"):
        assert pa.concat_tables(predictor.score(place, id_field="id")).to_pydict() == want


def test_files_without_an_id_and_with_all_columns(named, rows_file):
    (bare,) = named.score(rows_file, predicted_class=True)
    assert bare.schema.names == ["prob_class_0", "prob_class_1", "predicted_class"]
    assert len(bare) == 23
    (whole,) = named.score(rows_file, id_field="channel", keep_columns=["all"])
    (same,) = named.score(rows_file, id_field="channel", keep_columns="all")
    assert same.equals(whole)
    (some,) = named.score(rows_file, id_field="channel", keep_columns="id,amount")  # as bsm_core.run reads it
    assert some.column_names[:3] == ["channel", "id", "amount"]
    assert whole.schema.names == ["channel", "id", "chat", "amount", "extra", "prob_class_0", "prob_class_1"]


def test_issues_of_files_and_lines_that_are_left_out(predictor, tmp_path, caplog):
    file = tmp_path / "rows.csv"
    file.write_text("id;chat;amount;channel\n1;a;1,5;web\n2;b\n3;no!;many;web\n")
    issues: list[Issue] = []
    how = {"csv_delimiter": ";", "csv_decimal": ",", "on_bad_line": "skip"}
    tables = list(predictor.score(file, id_field="id", window_rows=1, on_issue=issues.append, **how))
    assert [table["id"].to_pylist() for table in tables] == [["1"], ["3"]]
    assert [(issue.row, issue.column, issue.stage, issue.value) for issue in issues] == [
        (1, "", "read", "2;b"),
        (1, "chat", "toy_tokens", "no!"),
        (1, "amount", "feature", "many"),
    ]
    assert "line 3" in issues[0].reason
    with pytest.raises(DataError, match="line 3"):
        list(predictor.score(file, csv_delimiter=";"))


def test_what_is_wrong_with_files_is_said_before_the_first_row(predictor, rows_file, tmp_path):
    with pytest.raises(MissingColumnsError, match="1 column") as caught:
        predictor.score(rows_file, id_field="idd")
    assert "did you mean 'id'" in str(caught.value)
    with pytest.raises(UsageError, match="score takes no argument 'csv_delimeter'; did you mean 'csv_delimiter'"):
        predictor.score(rows_file, csv_delimeter=";")
    with pytest.raises(UsageError, match="csv_decimal: should be"):
        predictor.score(rows_file, csv_decimal="x")
    for number in (0, True):
        with pytest.raises(UsageError, match=f"window_rows={number}"):
            predictor.score(rows_file, window_rows=number)
    for kept in (3, [3], {"channel": 1}, "a\nb"):
        with pytest.raises(UsageError, match="keep_columns="):
            predictor.score(rows_file, keep_columns=kept)
    with pytest.raises(UsageError, match="on_bad_line='drop'"):
        predictor.score(rows_file, on_bad_line="drop")
    toy_rows(2).assign(prob_class_1=1).to_csv(tmp_path / "taken.csv")
    with pytest.raises(DataError, match="name of a prediction column: prob_class_1"):
        predictor.score(tmp_path / "taken.csv", keep_columns=["prob_class_1"])


# Copies and threads


def test_a_deep_copy_scores_the_same(toy_artifact):
    predictor = Predictor.from_artifact(toy_artifact, batch_size=2)
    copied = copy.deepcopy(predictor)
    assert copied.model is not predictor.model
    assert np.array_equal(copied.predict_proba(toy_rows(9)), predictor.predict_proba(toy_rows(9)))
    copied.model.token_budget.halve()
    assert predictor.model.token_budget.tokens == 16


def test_a_step_is_run_by_one_thread_at_a_time(predictor, monkeypatch):
    import toy_bsm_steps

    running, most = [], []
    process_batch = toy_bsm_steps.ToyTokens.process_batch

    def counted(step, values):
        running.append(0)
        most.append(len(running))
        try:
            return process_batch(step, values)
        finally:
            running.pop()

    monkeypatch.setattr(toy_bsm_steps.ToyTokens, "process_batch", counted)
    with ThreadPoolExecutor(6) as threads:
        list(threads.map(predictor.predict, [toy_rows(50)] * 12))
    assert max(most) == 1


def test_a_new_thread_has_the_threads_that_pytorch_was_told(monkeypatch):
    """The threads of a stream have fewer, while another thread uses PyTorch for the first time."""
    before = torch.get_num_threads()
    seen = []

    def encode(start, stop):
        with ThreadPoolExecutor(1) as new:
            seen.append((torch.get_num_threads(), new.submit(settled).result()))
        return torch.zeros(stop - start, 1)

    def settled():
        micro_batches.settle_threads()
        return torch.get_num_threads()

    torch.set_num_threads(4)
    try:
        micro_batches._encode_in_streams([(0, 1), (1, 2)], encode, 2)
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)
    assert seen == [(2, 4), (2, 4)]


def test_a_budget_is_halved_once_for_threads_that_fail_at_the_same_time():
    budget = micro_batches.TokenBudget(1000)
    budget.halve(400)
    budget.halve(1000)  # of a thread that had begun before
    budget.halve(400)
    assert budget.tokens == 200
    budget.halve()
    assert budget.tokens == 100

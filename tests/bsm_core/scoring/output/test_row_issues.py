"""Row issues of whole runs: the file, the limits, rows for which the model fails, and counts of ids."""

from __future__ import annotations

import csv
import json
import logging
from contextlib import ExitStack
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.odd_times import ODD, odd_times
from support.toy import toy_rows

from bsm_core.errors import DataError, ModelFailedError, SinkError, TooManyBadRowsError, UsageError
from bsm_core.preprocess.findings import Findings, Issue
from bsm_core.scoring.output.row_issues import BadRowLimit, RowIssuesFile, issues_table

COLUMNS = ["row", "id", "column", "stage", "reason", "value"]
two = {"device": "cpu", "devices": 2}


@pytest.fixture
def ask(run, tmp_path):
    """Runs a job that lists its row issues in a file outside the output folder; gives the issues as text."""

    def start(rows=None, name="issues.csv", **flags):
        if rows is not None:
            rows.to_csv(run.data / "t.csv", index=False)
        run(row_issues=tmp_path / "lists" / name, window_rows=8, **flags)
        return read(tmp_path / "lists" / name)

    start.run, start.folder = run, tmp_path / "lists"
    return start


def read(path):
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    with path.open(newline="") as file:
        return list(csv.reader(file, delimiter="\t" if path.suffix == ".tsv" else ","))


def bad_rows(count=200):
    """Rows of which every tenth has one bad cell, of four kinds in turn; and the issues that they have."""
    rows, issues = toy_rows(count).astype(object), []
    kinds = [
        ("amount", "many", "feature", "not a number"),
        ("amount", "-inf", "feature", "infinite"),
        ("amount", "1e39", "feature", "beyond the range of float32"),
        ("chat", "no!", "toy_tokens", "ValueError: no shouting"),
    ]
    for number, row in enumerate(range(3, count, 10)):
        column, value, stage, reason = kinds[number % 4]
        rows.loc[row, column] = value
        issues.append([str(row), rows.loc[row, "id"], column, stage, reason, value])
    return rows, issues


@pytest.mark.parametrize("flags", [{}, two, {"num_workers": 1}], ids=["one process", "two", "a loader worker"])
def test_each_bad_cell_is_listed_once_in_row_order(ask, flags):
    rows, issues = bad_rows()
    assert ask(rows, **flags) == [COLUMNS, *issues]
    assert [path.name for path in ask.folder.iterdir()] == ["issues.csv"]


def test_the_formats_and_the_type_of_the_id(ask, run):
    rows, issues = bad_rows(40)
    assert ask(rows, name="issues.tsv") == [COLUMNS, *issues]
    run(row_issues=ask.folder / "issues.parquet")
    table = pq.read_table(ask.folder / "issues.parquet")
    assert table.schema.names == COLUMNS
    assert table.schema.types == [pa.int64(), *[pa.string()] * 5]
    assert [[str(cell) for cell in row.values()] for row in table.to_pylist()] == issues
    (run.data / "t.csv").unlink()
    rows.assign(id=range(40)).to_parquet(run.data / "t.parquet")
    run(row_issues=ask.folder / "issues.parquet", output_format="csv")
    assert pq.read_table(ask.folder / "issues.parquet").column("id").to_pylist() == [3, 13, 23, 33]


def test_a_run_without_issues_leaves_an_empty_list_in_the_place_of_the_last_one(ask):
    assert len(ask(bad_rows()[0])) == 21
    assert ask(toy_rows(9)) == [COLUMNS]


def test_two_issues_of_a_row_and_a_value_with_control_characters(ask, run):
    rows = toy_rows(3).astype(object)
    rows.loc[1, ["amount", "chat"]] = ["a\n\x1b[31m", "x" * 300 + "!"]
    assert ask(rows)[1:] == [
        ["1", "001", "chat", "toy_tokens", "ValueError: no shouting", "x" * 200],
        ["1", "001", "amount", "feature", "not a number", "a\n\x1b[31m"],
    ]


def test_the_file_is_checked_before_the_first_row(run, tmp_path):
    toy_rows(3).to_csv(run.data / "t.csv", index=False)
    (tmp_path / "taken.csv").mkdir()
    with pytest.raises(SinkError, match="could not be written: Is a directory"):
        run(row_issues=tmp_path / "taken.csv")
    toy_rows(3).rename(columns={"id": "row"}).to_csv(run.data / "t.csv", index=False)
    with pytest.raises(DataError, match="the id column 'row' has the name of a column of the row-issues file"):
        run(env={"ID_FIELD": "row"}, row_issues=tmp_path / "issues.csv")
    assert not (tmp_path / "issues.csv").exists()


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("data/issues.csv", "cannot be written to this folder"),
        ("model/issues.csv", "cannot be written to this folder"),
        ("out/.bsm/issues.csv", "cannot be written to this folder"),
        ("out/inference_predictions.csv", "would replace a file that the run writes"),
        ("linked.csv", "would replace or remove linked.csv, which is one of its inputs"),
    ],
)
def test_a_list_that_would_be_in_the_way_is_refused(run, tmp_path, place, words):
    toy_rows(3).to_csv(run.data / "t.csv", index=False)
    (tmp_path / "linked.csv").hardlink_to(run.data / "t.csv")
    with pytest.raises(UsageError, match=words):
        run(row_issues=run.out.parent / place if not place.startswith("model") else run.artifact / "issues.csv")


def listed(row):
    """The issues of a window of ten rows, of which one has an issue."""
    issue = Issue(row, "chat", "toy_tokens", "no shouting", "NO!")
    return issues_table(pa.table({"id": [str(i) for i in range(10)]}), 0, Findings([issue]))


def test_two_runs_that_list_their_issues_in_one_file_do_not_mix(tmp_path):
    path, id_column = tmp_path / "issues.csv", pa.field("id", pa.string())
    with ExitStack() as stack:
        one, two = (stack.enter_context(RowIssuesFile(path, id_column, "csv", tmp_path / out)) for out in ("a", "b"))
        for file, rows in ((one, [1, 2]), (two, [3]), (one, [4])):
            for row in rows:
                file.write(listed(row))
        one.publish()
        assert [row[0] for row in read(path)] == ["row", "1", "2", "4"]
        two.publish()
        assert [row[0] for row in read(path)] == ["row", "3"]
    assert [file.name for file in tmp_path.iterdir()] == ["issues.csv"]


def test_the_next_attempt_removes_what_a_killed_one_left(tmp_path):
    place = tmp_path / "issues.csv", pa.field("id", pa.string()), "csv", tmp_path / "out"
    RowIssuesFile(*place).write(listed(1))
    assert len(list(tmp_path.iterdir())) == 1
    RowIssuesFile.check(*place)
    assert not list(tmp_path.iterdir())


def test_ids_that_are_not_utf_8_are_escaped_in_parquet_and_kept_in_csv(ask, run):
    toy_rows(2).assign(amount="x").to_csv(run.data / "t.csv", index=False)
    content = (run.data / "t.csv").read_bytes().replace(b"001", b"\xff1")
    (run.data / "t.csv").write_bytes(content)
    run(row_issues=ask.folder / "issues.csv", max_bad_rows="100%")
    assert b"\n1,\xff1,amount" in (ask.folder / "issues.csv").read_bytes()
    run(row_issues=ask.folder / "issues.parquet", max_bad_rows="100%")
    assert pq.read_table(ask.folder / "issues.parquet").column("id").to_pylist() == ["000", "\\xff1"]


def test_a_run_that_failed_for_too_many_bad_rows_resumes_with_a_higher_limit(ask, run, caplog):
    rows, issues = bad_rows(40)
    rows.to_csv(run.data / "t.csv", index=False)
    with pytest.raises(TooManyBadRowsError):
        run(max_bad_rows=1, window_rows=8)
    with pytest.raises(TooManyBadRowsError):
        run(max_bad_rows="5%", window_rows=8)
    with caplog.at_level(logging.INFO, "bsm"):
        assert ask(resume="require") == [COLUMNS, *issues]
    assert "40 rows are done by an earlier attempt" in caplog.text


def test_a_number_of_bad_rows_counts_those_of_earlier_attempts(run, monkeypatch):
    rows, _ = bad_rows(40)
    rows.to_csv(run.data / "t.csv", index=False)
    for _ in range(2):
        with pytest.raises(TooManyBadRowsError):
            run(max_bad_rows=1, window_rows=8)
        more = "16 rows are done: with the same files and settings but a higher --max-bad-rows, a run goes on"
        assert more in (run.out / "_FAILURE").read_text()


def test_the_list_of_too_many_bad_rows_is_there(ask, run):
    rows, issues = bad_rows(40)
    rows.to_csv(run.data / "t.csv", index=False)
    with pytest.raises(TooManyBadRowsError) as caught:
        run(max_bad_rows="5%", row_issues=ask.folder / "issues.csv")
    listed = f"allow more with a higher --max-bad-rows: then the run goes on; {ask.folder}/issues.csv lists them"
    assert str(caught.value).endswith(listed)
    with (ask.folder / "issues.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [COLUMNS, *issues]
    assert not (run.out / "inference_predictions.csv").exists()


@pytest.mark.parametrize(
    ("limit", "file", "words"),
    [
        (0, None, "--row-issues FILE lists them with a share, such as --max-bad-rows 20%, as the limit"),
        (0, Path("i.csv"), "i.csv was not written, because the limit is a number: with a share, such as"),
        ("1%", None, "--row-issues FILE lists them"),
    ],
)
def test_the_advice_for_too_many_bad_rows_is_about_the_flags_that_were_given(limit, file, words):
    found = BadRowLimit(limit, "csv", file)
    with pytest.raises(TooManyBadRowsError) as caught:  # noqa: PT012 - a number is judged by add, a share by judge
        found.add({"bad_rows": 2}, 3)
        found.judge()
    assert words in caught.value.fix


# Lines


@pytest.mark.parametrize("flags", [{}, two, {"num_workers": 1}], ids=["one process", "two", "a loader worker"])
def test_a_line_that_cannot_be_read_is_left_out_and_listed(ask, run, caplog, flags):
    toy_rows(40).to_csv(run.data / "clean.csv", index=False)
    lines = (run.data / "clean.csv").read_text().splitlines()
    run()
    want = pd.read_csv(run.out / "inference_predictions.csv", dtype={"id": str})
    (run.data / "clean.csv").unlink()
    lines[21:21] = ["cut,off", 'open,"quote,1,web,x']
    lines[2] = lines[2].replace(",0.25,", ",x,")
    (run.data / "t.csv").write_text("\n".join([*lines, "the end"]) + "\n")
    with pytest.raises(DataError, match="line 22"):
        run()
    with caplog.at_level(logging.INFO, "bsm"):
        found = ask(on_bad_line="skip", run_record=True, **flags)
    cells, place = "wrong number of cells: expected 5, found", run.data / "t.csv"
    quote = "a quote is closed in the middle of a cell of a later line"
    assert found[1:] == [
        ["1", "001", "amount", "feature", "not a number", "x"],
        ["", "", "", "read", f"{cells} 2 ({place}, line 22)", "cut,off"],
        ["", "", "", "read", f"{quote} ({place}, line 23)", 'open,"quote,1,web,x'],
        ["", "", "", "read", f"{cells} 1 ({place}, line 44)", "the end"],
    ]
    got = pd.read_csv(run.out / "inference_predictions.csv", dtype={"id": str})
    assert got["id"].tolist() == want["id"].tolist()
    pd.testing.assert_frame_equal(got.drop(1), want.drop(1), check_exact=True)
    counts = json.loads((run.out / "run.json").read_text())["counts"]
    assert (counts["lines:left out"], counts["bad_rows"]) == (3, 4)
    assert counts["reason:read:wrong number of cells:"] == 2
    if not flags:
        assert f"{place}, line 22: {cells} 2: 'cut,off'; the line is left out" in caplog.text
        assert f"3 line(s) left out (2 wrong number of cells, 1 {quote})" in caplog.text


def test_a_table_of_lines_that_cannot_be_read_is_no_success(run):
    (run.data / "t.csv").write_text("id,chat,amount,channel\n" + "bad\n" * 9)
    with pytest.raises(TooManyBadRowsError, match="9 of 9 rows have an issue") as caught:
        run(on_bad_line="skip")
    assert f"wrong number of cells: expected 4, found 1 ({run.data / 't.csv'}, line 2): 'bad'" in caught.value.details
    assert run(on_bad_line="skip", max_bad_rows="100%").rows == 0


# Limits


@pytest.mark.parametrize("flags", [{}, two], ids=["one process", "two"])
def test_more_bad_rows_than_allowed_are_a_failure_that_names_the_first(run, flags):
    rows, _ = bad_rows()
    rows.to_csv(run.data / "t.csv", index=False)
    with pytest.raises(
        TooManyBadRowsError, match=r"20 of 200 rows have an issue, and --max-bad-rows allows 9\.5%"
    ) as caught:
        run(max_bad_rows="9.5%", **flags)
    details = caught.value.details
    assert "column 'amount', feature: infinite: 5" in details
    assert "row 3, id '003': column 'amount', feature: not a number: 'many'" in details
    assert len(details) == 14
    assert [path.name for path in run.out.glob("_*")] == ["_FAILURE"]
    assert run(max_bad_rows="10%", **flags).rows == 200
    assert run(max_bad_rows=20, **flags).rows == 200
    with pytest.raises(TooManyBadRowsError, match="rows have an issue, and --max-bad-rows allows 19"):
        run(max_bad_rows=19, **flags)


def test_a_column_in_which_more_than_half_of_all_cells_are_bad_fails_by_default(run):
    toy_rows(9).assign(chat=["no!"] * 5 + ["yes"] * 4).to_csv(run.data / "t.csv", index=False)
    with pytest.raises(TooManyBadRowsError, match="5 of 9 rows have an issue, and --max-bad-rows allows 50%"):
        run()
    assert run(max_bad_rows="100%").counts["bad_rows"] == 5


@pytest.mark.parametrize(
    ("percent", "bad", "rows"), [("29%", 29, 100), ("0.7%", 7, 1000), ("57%", 57, 100), ("58%", 58, 100)]
)
def test_a_share_is_exact(percent, bad, rows):
    limit = BadRowLimit(percent, "csv")
    limit.add({"bad_rows": bad}, rows)
    limit.judge()
    limit.add({"bad_rows": 1}, 0)
    with pytest.raises(TooManyBadRowsError):
        limit.judge()


def test_each_column_is_judged_on_its_own():
    limit = BadRowLimit("10%", "csv")
    limit.add({"bad_rows": 10, "text:a": 10, "number:a": 1}, 100, pa.table({name: [] for name in COLUMNS}))
    with pytest.raises(TooManyBadRowsError, match="11 of 100 rows have an issue in column 'a'"):
        limit.judge()
    limit.add({}, 10)
    limit.judge()


def test_no_bad_row_is_allowed(run):
    toy_rows(9).assign(amount="x").to_csv(run.data / "t.csv", index=False)
    for limit in (0, "0%"):
        with pytest.raises(TooManyBadRowsError):
            run(max_bad_rows=limit)
    toy_rows(9).to_csv(run.data / "t.csv", index=False)
    assert run(max_bad_rows=0).rows == 9


# Rows for which the model fails


@pytest.fixture
def strict_model(monkeypatch):
    import toy_bsm_model

    forward = toy_bsm_model.ToyModel.forward

    def fails(self, batch):
        if (batch.features > 1e20).any():
            raise OverflowError("too large")
        return forward(self, batch)

    monkeypatch.setattr(toy_bsm_model.ToyModel, "forward", fails)


@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_a_row_for_which_the_model_fails_has_empty_probabilities(ask, strict_model, format):
    rows = toy_rows(20).assign(amount="1")
    ask(rows, output_format=format)
    good = pd.read_csv if format == "csv" else pd.read_parquet
    path = ask.run.out / f"inference_predictions.{format}"
    want = good(path)
    rows.loc[11, "amount"] = "1e30"
    reason = "OverflowError: too large (large numbers: 'amount' 1e+30)"
    assert ask(rows, output_format=format, on_bad_row="null")[1:] == [["11", "011", "", "model", reason, ""]]
    got = good(path)
    assert got.isna().any(axis=1).tolist() == [row == 11 for row in range(20)]
    pd.testing.assert_frame_equal(got.drop(11), want.drop(11), check_exact=True)
    with pytest.raises(ModelFailedError) as caught:
        ask(rows)
    assert "rows: '011'" in caught.value.details


def test_a_run_in_which_the_model_fails_for_all_rows_is_no_success(run, strict_model, caplog):
    toy_rows(9).assign(amount="1e30").to_csv(run.data / "t.csv", index=False)
    with pytest.raises(TooManyBadRowsError, match="9 of 9 rows"):
        run(on_bad_row="null")
    with caplog.at_level(logging.WARNING, "bsm"):
        assert run(on_bad_row="null", max_bad_rows="100%").counts["model:rows"] == 9
    assert "9 row(s) without probabilities (9 OverflowError)" in caplog.text


def test_a_run_goes_on_with_empty_probabilities_and_not_without(run, strict_model, caplog):
    rows = toy_rows(20).assign(amount="1")
    rows.loc[11, "amount"] = "1e30"
    rows.to_csv(run.data / "t.csv", index=False)
    with pytest.raises(ModelFailedError):
        run(window_rows=4)
    with pytest.raises(TooManyBadRowsError):
        run(window_rows=4, on_bad_row="null", max_bad_rows=0)
    with pytest.raises(ModelFailedError):
        run(window_rows=4)
    with caplog.at_level(logging.INFO, "bsm"):
        assert run(window_rows=4, on_bad_row="null", resume="require").counts["model:rows"] == 1


# Ids


@pytest.mark.parametrize("flags", [{}, two], ids=["one process", "two"])
def test_missing_and_repeated_ids_are_counted(run, caplog, flags):
    rows = toy_rows(20)
    rows.loc[[3, 17], "id"] = ""
    rows.loc[[5, 19], "id"] = "004"
    rows.to_csv(run.data / "t.csv", index=False)
    with caplog.at_level(logging.WARNING, "bsm"):
        done = run(run_record=True, window_rows=8, **flags)
    assert (done.counts["ids:missing"], done.counts["ids:repeated"]) == (2, 2)
    assert json.loads((run.out / "run.json").read_text())["counts"] == done.counts
    if not flags:  # else another process tells it
        assert "2 row(s) have no id" in caplog.text
        assert "2 row(s) have the id of an earlier row" in caplog.text


def test_uuids_are_counted_and_written_as_their_text(ask, run):
    rows = pa.Table.from_pandas(toy_rows(3).assign(amount=["1", "x", "2"]))
    rows = rows.set_column(0, "id", pa.array([bytes([n]) * 16 for n in (1, 2, 1)], pa.uuid()))
    pq.write_table(rows, run.data / "t.parquet")
    text = "02020202-0202-0202-0202-020202020202"
    assert ask(output_format="csv", run_record=True)[1][:3] == ["1", text, "amount"]
    with (run.out / "inference_predictions.csv").open() as file:
        assert [line["id"] for line in csv.DictReader(file)] == [
            text.replace("02", "01"),
            text,
            text.replace("02", "01"),
        ]
    assert json.loads((run.out / "run.json").read_text())["counts"]["ids:repeated"] == 1
    assert ask(name="issues.parquet", output_format="parquet")


@pytest.mark.parametrize("kind", [ODD[1], ODD[4]], ids=str)
def test_ids_that_python_cannot_hold_are_named_by_their_text(run, kind):
    rows = pa.Table.from_pandas(toy_rows(3).assign(amount=["1", "x", "2"]))
    pq.write_table(rows.set_column(0, "id", odd_times(kind)), run.data / "t.parquet")
    with pytest.raises(TooManyBadRowsError, match="1 rows have an issue"):
        run(output_format="parquet", max_bad_rows=0)
    assert run(output_format="parquet").counts["ids:missing"] == 1


def test_a_text_beyond_the_limit_is_cut_and_an_issue(ask, run, caplog):
    rows = toy_rows(9).assign(chat=["hello|" * 4] * 9)
    rows.loc[4, "chat"] = "hello|" * 200_000
    with caplog.at_level(logging.WARNING, "bsm"):
        [issue] = ask(rows, max_cell_mb=1)[1:]
    assert issue[:5] == ["4", "004", "chat", "read", "text longer than 1 MB (--max-cell-mb)"]
    assert len(issue[5]) == 200
    assert "text longer than 1 MB (--max-cell-mb); its text is cut there" in caplog.text
    assert "column 'chat': 1 text(s) taken as empty or cut (1 text longer than 1 MB)" in caplog.text
    assert ask(rows) == [COLUMNS]


def test_an_error_for_too_many_rows_names_the_setting_that_reads_them():
    limit = BadRowLimit(0, "csv")
    counts = {"number:a": 2, "bad_rows": 2, "reason:feature:number with a decimal comma:a": 2, "missing:a": 5}
    with pytest.raises(TooManyBadRowsError) as caught:
        limit.add(counts, 9)
    assert "give --csv-decimal ','" in caught.value.details[-1]

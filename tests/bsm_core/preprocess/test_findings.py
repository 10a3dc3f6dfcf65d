from __future__ import annotations

import logging

import pyarrow as pa
import pytest

from bsm_core.preprocess.features import Features, Imputer, RiskTable
from bsm_core.preprocess.findings import (
    Findings,
    Issue,
    IssueWarnings,
    advice,
    note_counts,
    warn_of_advice,
    warn_of_counts,
)
from bsm_core.tables.bad_lines import BadLine
from bsm_core.tables.formats.dialect import Dialect

FINDINGS = Findings(
    [
        Issue(0, "chat", "split", "ValueError: no\x1b[31m", "hi"),
        Issue(2, "chat", "read", "not text", "[1]"),
        Issue(2, "amount", "feature", "not a number", "x\ny"),
    ],
    {"missing:amount": 3, "unseen:channel": 1},
)


@pytest.fixture
def messages(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("bsm"), "propagate", True)
    caplog.set_level(logging.INFO, "bsm")
    return lambda: [record.getMessage() for record in caplog.records]


def test_counts_are_by_column_and_reason_and_by_row():
    assert FINDINGS.counts() == {
        "text:chat": 2,
        "number:amount": 1,
        "reason:split:ValueError:chat": 1,
        "reason:read:not text:chat": 1,
        "reason:feature:not a number:amount": 1,
        "bad_rows": 2,
        "missing:amount": 3,
        "unseen:channel": 1,
    }
    assert Findings().counts() == {}


def test_a_row_with_two_issues_in_a_column_counts_once():
    cut = Issue.of(3, "chat", "read", "text longer than 16 MB", "x")
    counts = Findings([cut, Issue.of(3, "chat", "split", "ValueError: no", "x")]).counts()
    assert (counts["text:chat"], counts["bad_rows"]) == (1, 1)
    assert counts["reason:split:ValueError:chat"] == counts["reason:read:text longer than 16 MB:chat"] == 1


@pytest.mark.parametrize(
    ("ids", "names"), [(None, ["0", "2"]), ([b"a\xff", b"b", "c"], [r"'a\xff'", "'c'"])], ids=["positions", "ids"]
)
def test_a_warning_names_the_row_the_column_the_step_and_the_reason(messages, ids, names):
    IssueWarnings().add(FINDINGS, ids and (lambda rows: [ids[row] for row in rows]))
    assert messages() == [
        f"row {names[0]}: column 'chat', step 'split': ValueError: no\\x1b[31m; its text is taken as empty",
        f"row {names[1]}: column 'chat', step 'read': not text; its text is taken as empty",
        f"row {names[1]}: column 'amount': not a number: 'x\\ny'; the cell is taken as missing",
    ]


def test_after_some_warnings_only_what_is_new_is_named(messages):
    warnings = IssueWarnings(limit=1)
    for _ in range(2):
        warnings.add(FINDINGS)
    assert [(issue.column, issue.stage) for issue in FINDINGS.issues] == [
        ("chat", "split"),
        ("chat", "read"),
        ("amount", "feature"),
    ]
    assert len(messages()) == 3


def test_a_row_that_fails_comes_after_the_issues_of_its_cells(messages):
    findings = FINDINGS.with_failed_rows({1: "NaN (largest: 1e30)", 2: "NaN"})
    assert [(issue.row, issue.stage) for issue in findings.issues] == [
        (0, "split"),
        (1, "model"),
        (2, "read"),
        (2, "feature"),
        (2, "model"),
    ]
    counts = findings.counts()
    assert (counts["model:rows"], counts["reason:model:NaN:"], counts["bad_rows"]) == (2, 2, 3)
    IssueWarnings().add(Findings(findings.issues[1:2]))
    warn_of_counts({"model:rows": 2, "reason:model:NaN:": 2}, 2)
    assert messages() == [
        "row 1: NaN (largest: 1e30); its probabilities are empty",
        "2 row(s) without probabilities (2 NaN)",
    ]
    assert FINDINGS.with_failed_rows({}) is FINDINGS


def test_long_values_are_cut_and_any_value_can_be_stored():
    issue = Issue.of(0, "c", "read", "\ud800" + "r" * 900, b"\xff" * 3 + b"x" * 1000)
    assert issue.value == r"\xff" * 3 + "x" * 188
    assert len(issue.reason) == 500
    assert issue.reason.startswith(r"\ud800rrr")
    assert Issue.of(0, "c", "read", "", [1, "\udfff"]).value == r"[1, '\udfff']"


def test_counts_of_plugins_are_not_logged(messages):
    warn_of_counts(FINDINGS.counts() | {"number:a:b": 1, "reason:feature:infinite:a:b": 1, "hook:drift": 4}, 3)
    warn_of_counts({"plugin:drift:seen": 9, "bad_rows": 2}, 3)
    note_counts(FINDINGS.counts())
    assert messages() == [
        "column 'chat': 2 text(s) taken as empty or cut (1 ValueError, 1 not text)",
        "column 'amount': 1 cell(s) that cannot be used (1 not a number)",
        "column 'a:b': 1 cell(s) that cannot be used (1 infinite)",
        "observer 'drift' failed 4 time(s)",
        "missing values: 'amount' 3",
        "categories that the risk tables do not have: 'channel' 1",
    ]


def test_a_cell_that_is_no_category_is_taken_as_an_unseen_one(messages):
    _, found, _ = Features(["a"], {}, {"a": RiskTable({"nan": 0.2}, 0.5)}).transform({"a": [b"\xff"]}, 1)
    IssueWarnings().add(found)
    warn_of_counts(found.counts(), 1, "csv")
    assert messages() == [
        r"row 0: column 'a': text that is not UTF-8 is not a category: '\xff'; "
        "the cell has the default bin",
        "column 'a': 1 cell(s) that cannot be used (1 text that is not UTF-8 is not a category)",
        NOT_UTF8,
    ]


def test_cells_that_go_on_after_their_quotes_are_a_warning(messages):
    warn_of_counts({"quotes:cells": 2}, 3)
    assert messages()[0].startswith('2 quoted cell(s) go on after a quote that ends their quotes, as "a "b" c" does')


NOT_UTF8 = (
    "cells hold bytes that are not UTF-8: give the encoding of the files with --csv-encoding, or the key csv_encoding"
    " in the config"
)


def found_in(cells, **columns):
    return Features(["a", *columns], {}, {}).transform({"a": cells, **columns}, len(cells))[1]


def test_one_line_names_the_setting_for_decimal_commas_and_one_for_other_encodings(messages):
    columns = {"b": [b"1,234", b"y", b"z", b"1", b"2"], "c": [b"\xe9", b"\xe9", b"1", b"1", b"1"]}
    found = found_in([b"39,0", b"-1234,5", b"x", b"1,250", b"39"], **columns)
    IssueWarnings().add(found)
    warn_of_counts(found.counts(), 5, "csv")
    assert messages()[0] == "row 0: column 'a': number with a decimal comma: '39,0'; the cell is taken as missing"
    assert messages()[-2:] == [
        "the numbers of 'a' seem to have a decimal comma: give --csv-decimal ',', or the key csv_decimal in the config",
        NOT_UTF8,
    ]
    assert sum("--csv" in text for text in messages()) == 2


@pytest.mark.parametrize(
    "cells",
    [
        [b"1,234", b"12,500", b"999", b"87,250"],
        ["-1,234", "1,234,567", "1,234.50", "12,34,567"],
        [b"1,234", b"1,250", b"1,5", b"+3,125"],
    ],
)
def test_numbers_that_may_have_groups_of_digits_get_no_advice_that_changes_them(cells):
    """With ``--csv-decimal ,`` alone, 1,234 would be 1.234 without an issue."""
    found = found_in(cells)
    assert "number with a comma" in {issue.reason for issue in found.issues}
    assert advice(found.counts(), len(cells), "csv") == [
        "the numbers of 'a' have commas: give --csv-thousands ',' if '1,234' is 1234, or --csv-decimal ',' if it is"
        " 1.234; or the key csv_thousands or csv_decimal in the config"
    ]


@pytest.mark.parametrize(
    ("cell", "commas", "others", "given"),
    [(b"1,5", 49, 951, 0), (b"1,5", 50, 950, 1), (b"1,5", 2, 3, 1), (b"1,234", 249, 751, 0), (b"1,234", 250, 750, 1)],
)
def test_advice_is_given_of_a_share_of_the_cells_that_are_not_missing(cell, commas, others, given):
    found = found_in([cell] * commas + [b"15"] * others + [b""] * (1000 - commas - others))
    assert len(advice(found.counts(), 1000, "csv")) == given


@pytest.mark.parametrize(
    ("cells", "given"),
    [
        ([b"39,5"] + [b"40.5", b"-1.25"] * 7, 0),
        ([b"39,5"] * 7 + [b"40.5"] * 8, 0),
        ([b"39,5"] * 8 + [b"40.5"] * 7, 1),
        ([b"39,5"] + [b"40"] * 14, 1),
        ([b"1.234,50"] + [b"1.234", b"22.500"] * 3, 1),  # their points stand between groups
        ([b"1,234.50", b"1,000", b"12.5", b"13.5"], 1),
        (["39,5", 40.5, 41.5], 0),
    ],
)
def test_numbers_with_a_point_speak_against_a_decimal_comma(cells, given):
    """One typing error must not advise a setting with which all other numbers are lost."""
    assert len(advice(found_in(cells).counts(), len(cells), "csv")) == given


def test_points_of_a_union_are_those_of_the_types_with_commas():
    one, other = pa.array([b"1,5", b"2.5"]), pa.array([b"3.5", b"4.5"])
    union = pa.UnionArray.from_dense(
        pa.array([0, 0, 1, 1], pa.int8()), pa.array([0, 1, 0, 1], pa.int32()), [one, other]
    )
    assert found_in(union).seen == {"points:a": 1}


@pytest.mark.parametrize("group", [".", " ", "'", "\u202f"])
def test_advice_on_groups_of_digits_beside_a_decimal_comma_reads_the_column(group):
    cells = [cell.replace(".", group).encode() for cell in ("1.234,50", "2.500,00", "1.234", "12,5")]
    (text,) = advice(found_in(cells).counts(), 4, "csv")
    assert "give --csv-decimal ',' and --csv-thousands '.', or what stands between the groups" in text
    read = Imputer(-1.0).transform(cells, Dialect(decimal=",", thousands=group))
    assert (read.values.tolist(), read.bad) == ([1234.5, 2500.0, 1234.0, 12.5], {})


def test_a_setting_of_csv_files_is_advised_for_csv_files_alone():
    counts = found_in([b"\xe9", b"1,5"]).counts()
    assert {source: NOT_UTF8 in advice(counts, 2, source) for source in ("csv", "tsv", "jsonl", "parquet", None)} == {
        "csv": True,
        "tsv": True,
        "jsonl": False,
        "parquet": False,
        None: False,
    }
    assert all("csv_decimal" in advice(counts, 2, source)[0] for source in ("csv", "parquet", None))


@pytest.mark.parametrize("cell", ["1,5", "1.234,50", "1,234"])
def test_advice_for_callers_in_python_names_no_flag(cell):
    counts = found_in([cell]).counts()
    (text,) = advice(counts, 1, None, in_python=True)
    assert "pass numbers and not text" in text
    assert "config" in text
    assert "--" not in text


def test_lines_are_limited_after_issues_of_many_columns(messages):
    warnings = IssueWarnings(limit=3)
    warnings.add(Findings([Issue.of(0, f"c{i}", "feature", "not a number", "x") for i in range(5)]))
    warnings.add(Findings(bad_lines=[(0, BadLine("a.csv, line 2", "bytes", "x", 0, 9))] * 9))
    assert len(messages()) == 5


def test_bytes_and_control_characters_are_shown_escaped_once(messages):
    issue = Issue.of(0, "c", "feature", "not a number", b"G\xe9n\x1b[1m'\\n")
    bad = BadLine("a.csv, line 2", "bytes", issue.value, 0, 9)
    IssueWarnings().add(Findings([issue], bad_lines=[(0, bad)]), lambda rows: [b"\xe9"])
    assert messages() == [
        'a.csv, line 2: bytes: "G\\xe9n\\x1b[1m\'\\n"; the line is left out',
        "row '\\xe9': column 'c': not a number: \"G\\xe9n\\x1b[1m'\\n\"; the cell is taken as missing",
    ]


def test_what_a_summary_lists_is_not_warned_of_but_its_advice_is(caplog):
    counts = {"number:age": 9, "reason:feature:number with a decimal comma:age": 9, "bad_rows": 9}
    counts |= {"ids:missing": 1, "escapes:cells": 2, "quotes:cells": 3, "parts:altered": 4}
    with caplog.at_level(logging.WARNING, "bsm"):
        warn_of_advice(counts, 10, "csv")
    lines = [record.getMessage() for record in caplog.records]
    assert [line[:9] for line in lines] == ["2 quoted ", "3 quoted ", "4 part(s)", "the numbe"]

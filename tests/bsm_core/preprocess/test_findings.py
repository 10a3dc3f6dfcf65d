from __future__ import annotations

import logging

import pytest

from bsm_core.preprocess.findings import Findings, TextFailure, warn_of_counts, warn_of_texts

FINDINGS = Findings(
    {"chat": [TextFailure(0, "split", "no"), TextFailure(2, "reading", "not text")]}, {"amount": 3, "age": 1}
)


@pytest.fixture
def messages(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("bsm"), "propagate", True)
    return lambda: [record.getMessage() for record in caplog.records]


def test_counts_are_by_kind_and_column():
    assert FINDINGS.counts() == {"text:chat": 2, "number:amount": 3, "number:age": 1}


@pytest.mark.parametrize(
    ("ids", "names"), [(None, ["0", "2"]), ([b"a\xff", b"b", "c"], [r"'a\\xff'", "'c'"])], ids=["positions", "ids"]
)
def test_a_warning_names_the_row_the_column_the_step_and_the_reason(messages, ids, names):
    assert warn_of_texts(FINDINGS, ids) == 2
    assert messages() == [
        f"row {names[0]}: column 'chat', step 'split': no; its text is taken as empty",
        f"row {names[1]}: column 'chat', step 'reading': not text; its text is taken as empty",
    ]


def test_there_are_no_more_warnings_than_allowed(messages):
    assert warn_of_texts(FINDINGS, limit=1) == 1
    assert len(messages()) == 1


def test_counts_of_plugins_are_not_logged(messages):
    warn_of_counts({"text:chat": 2, "number:a:b": 1, "hook:drift": 4, "plugin:drift:seen": 9})
    assert messages() == [
        "column 'chat': 2 text(s) taken as empty",
        "column 'a:b': 1 cell(s) that are not finite numbers, taken as missing",
        "observer 'drift' failed 4 time(s)",
    ]

"""``--report``: a run writes its report."""

from __future__ import annotations

import logging
import re

import pytest
from support.toy import toy_rows

from bsm_core.errors import SinkError, UsageError
from bsm_core.scoring.engines import finish
from bsm_core.scoring.output.merge import merge


def titles(path):
    return re.findall(r"<h2[^>]*>(.*?)</h2>", path.read_text("utf-8"))


def test_a_run_writes_its_report(data, tmp_path):
    report = tmp_path / "new" / "report.html"
    data(report=report, window_rows=5)
    page = report.read_text("utf-8")
    assert {"Scores", "Numeric features", "Categorical features", "Texts", "Time"} <= {*titles(report)}
    assert "<strong>23</strong>" in page
    assert "30 % of the rows have a category of channel that the risk table does not have, such as mail." in page
    assert not (data.out / "run.json").exists()
    assert not list(report.parent.glob(".*"))


@pytest.mark.parametrize("report", ["report.txt", "report"])
def test_a_report_is_html(data, report):
    with pytest.raises(UsageError, match="cannot be used") as error:
        data(report=report)
    assert "--report: should end in .html" in error.value.details[0]


def test_a_report_that_cannot_be_written_fails_before_the_first_row(data, tmp_path, monkeypatch):
    (tmp_path / "r.html").mkdir()
    monkeypatch.setattr(finish, "finish", lambda scorer: pytest.fail("the run began"))
    with pytest.raises(SinkError, match="directory"):
        data(report=tmp_path / "r.html")
    with pytest.raises(UsageError, match="the report cannot be written to this folder"):
        data(report=data.data / "r.html")


def test_a_fault_of_ours_in_the_page_costs_no_predictions(data, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(finish, "page_of_run", lambda record: 1 / 0)
    with caplog.at_level(logging.ERROR, "bsm"):
        assert data(report=tmp_path / "r.html").rows == 23
    assert "the report could not be drawn" in caplog.text
    assert (data.out / "_SUCCESS").exists()


def test_shards_without_records_merge_to_none(run):
    for number in (0, 1):
        toy_rows(9).to_csv(run.data / f"{number}.csv", index=False)
    for number in (0, 1):
        run(shard=f"{number}/2")
    merge(run.out)
    assert not (run.out / "run.json").exists()

from __future__ import annotations

import json
import logging
import re
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bsm_core.scoring.output.markers import Markers


def listing(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def markers(tmp_path):
    return Markers(tmp_path)


def test_clear_removes_the_markers_and_the_record_of_an_earlier_run_and_nothing_else(markers):
    for name in ("_SUCCESS", "_HEALTH", "_FAILURE", "run.json", "notes.txt", "inference_predictions.csv"):
        (markers.folder / name).write_text(name)
    markers.clear()
    assert listing(markers.folder) == ["inference_predictions.csv", "notes.txt"]


def test_clear_removes_what_a_killed_run_left_while_it_wrote_a_marker(markers):
    for name in ("._SUCCESS.tmp", "._HEALTH.tmp", "._FAILURE.tmp", ".run.json.tmp"):
        (markers.folder / name).touch()
    markers.clear()
    assert listing(markers.folder) == []


def test_success(markers):
    before = datetime.now()
    markers.succeed()
    assert (markers.folder / "_SUCCESS").read_bytes() == b""
    found = re.fullmatch(r"healthy: (\S+)\n", (markers.folder / "_HEALTH").read_text())
    assert before <= datetime.fromisoformat(found[1]) <= datetime.now()
    assert listing(markers.folder) == ["_HEALTH", "_SUCCESS"]


def test_the_record_comes_first_and_success_last(markers, monkeypatch):
    order = []
    replace = Path.replace
    monkeypatch.setattr(Path, "replace", lambda self, to: (order.append(to.name), replace(self, to)))
    markers.succeed({"rows": 3, "where": Path("/x")})
    assert order == ["run.json", "_HEALTH", "_SUCCESS"]
    assert json.loads((markers.folder / "run.json").read_text()) == {"rows": 3, "where": "/x"}


def test_failure_after_success_leaves_the_failure_alone(markers):
    markers.succeed({"rows": 3})
    markers.fail("DataError: no good")
    assert listing(markers.folder) == ["_FAILURE"]
    assert (markers.folder / "_FAILURE").read_text() == "DataError: no good\n"


@given(st.text(st.characters(), max_size=60))
def test_a_failure_is_exactly_one_line_whatever_the_reason(tmp_path_factory, reason):
    markers = Markers(tmp_path_factory.getbasetemp())
    markers.fail(f"Error: {reason}")
    content = (markers.folder / "_FAILURE").read_bytes().decode()
    assert content.endswith("\n")
    assert len(content.splitlines()) == 1


def test_a_failure_keeps_its_words(markers):
    markers.fail("RuntimeError: one\n  two\tthree é \udcff")
    assert (markers.folder / "_FAILURE").read_text("utf-8") == "RuntimeError: one two three é \\udcff\n"


def test_a_failure_that_cannot_be_written_is_logged(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("bsm"), "propagate", True)
    (tmp_path / "file").touch()
    Markers(tmp_path / "file").fail("first error")
    assert str(tmp_path / "file" / "_FAILURE") in caplog.text
    assert "Not a directory" in caplog.text


def test_a_marker_that_cannot_be_removed_says_that_it_is_not_valid(markers, monkeypatch):
    markers.succeed()

    def fail(self, missing_ok=False):
        raise OSError(5, "Input/output error", str(self))

    monkeypatch.setattr(Path, "unlink", fail)
    with pytest.raises(OSError, match="Input/output"):
        markers.clear()
    assert (markers.folder / "_SUCCESS").read_text().startswith("not valid: of an earlier run")

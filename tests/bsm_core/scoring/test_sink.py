from __future__ import annotations

import json
import logging
import os
import re
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.plugins import run_python

from bsm_core.errors import EngineError, SinkError
from bsm_core.scoring.sink import Sink

SCHEMA = pa.schema([("id", pa.string()), ("prob_class_0", pa.float64())])
HEADER = "id,prob_class_0\n"


def rows(window, count=2):
    ids = [f"{window}-{i}" for i in range(count)]
    return pa.table([ids, [window + i / 4 for i in range(count)]], schema=SCHEMA)


def text(windows):
    return HEADER + "".join(f"{w}-{i},{w + i / 4:g}\n" for w in windows for i in range(2))


def write(sink, window, *, of=3, **counts):
    sink.write_part(window, rows(window), last=window == of - 1, counts=counts)


def listing(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def sink(tmp_path):
    begun = Sink(tmp_path / "out")
    begun.begin()
    return begun


# Parts and the commit


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 2, 0]])
def test_parts_of_several_ranks_in_any_order_are_committed_in_order(sink, order):
    ranks = [Sink(sink.folder), Sink(sink.folder)]
    for window in order:
        write(ranks[window % 2], window, seen=1, **{f"number:{window}": 2})
    assert listing(sink.folder) == [".bsm-parts"]
    done = sink.commit(SCHEMA, "csv")
    assert done.path == sink.folder / "inference_predictions.csv"
    assert done.path.read_text() == text([0, 1, 2])
    assert (done.rows, done.windows) == (6, 3)
    assert done.counts == {"seen": 3, "number:0": 2, "number:1": 2, "number:2": 2}
    assert listing(sink.folder) == ["inference_predictions.csv"]


@settings(max_examples=15)
@given(st.data())
def test_every_row_of_every_part_once_and_in_order(tmp_path_factory, data):
    sizes = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=12))
    sink = Sink(tmp_path_factory.mktemp("out"))
    sink.begin()
    for window in data.draw(st.permutations(range(len(sizes)))):
        sink.write_part(window, rows(window, sizes[window]), last=window == len(sizes) - 1, counts={})
    done = sink.commit(SCHEMA, "parquet")
    got = pq.read_table(done.path)
    assert got.schema.equals(SCHEMA)
    assert got.column("id").to_pylist() == [f"{w}-{i}" for w, size in enumerate(sizes) for i in range(size)]
    assert (done.rows, done.windows) == (sum(sizes), len(sizes))


def test_a_window_written_again_counts_once(sink):
    write(sink, 0, of=1)
    write(sink, 0, of=1)
    assert sink.commit(SCHEMA, "csv").rows == 2


def test_a_table_without_rows_is_a_header(sink):
    sink.write_part(0, SCHEMA.empty_table(), last=True, counts={})
    done = sink.commit(SCHEMA, "tsv")
    assert done.path.read_text() == "id\tprob_class_0\n"
    assert (done.rows, done.windows) == (0, 1)


def test_what_a_part_carries_is_not_in_the_file(sink):
    write(sink, 0, of=1, seen=1)
    metadata = pq.read_schema(sink.commit(SCHEMA, "parquet").path).metadata
    assert not set(metadata or {}) & {b"last", b"counts"}


@pytest.mark.parametrize(("written", "missing"), [([0, 2], 1), ([0, 1], 2), ([1, 2], 0), ([], 0)])
def test_a_missing_part_is_an_error_and_no_prediction_file(sink, written, missing):
    for window in written:
        write(sink, window)
    with pytest.raises(EngineError, match=f"window {missing} was never written"):
        sink.commit(SCHEMA, "csv")
    assert not list(sink.folder.glob("inference_predictions*"))


def test_a_part_that_was_begun_and_not_finished_is_missing(sink, monkeypatch):
    def stop(self, target):
        raise OSError(5, "no more", str(target))

    write(sink, 1, of=2)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", stop)
        with pytest.raises(SinkError):
            write(sink, 0, of=2)
    with pytest.raises(EngineError, match="window 0 was never written"):
        sink.commit(SCHEMA, "csv")


# What an earlier run left


def test_begin_removes_markers_record_and_parts_of_an_earlier_run_and_nothing_else(sink):
    write(sink, 0)
    for name in ("_SUCCESS", "_HEALTH", "_FAILURE", "run.json", "notes.txt", "inference_predictions.csv"):
        (sink.folder / name).write_text(name)
    sink.begin()
    assert listing(sink.folder) == [".bsm-parts", "inference_predictions.csv", "notes.txt"]
    assert listing(sink.folder / ".bsm-parts") == []


def test_stale_parts_do_not_reach_the_file(sink):
    for window in range(3):
        write(sink, window)
    sink.begin()
    write(sink, 0)
    with pytest.raises(EngineError, match="window 1"):
        sink.commit(SCHEMA, "csv")


def test_earlier_predictions_survive_a_failed_run_and_are_replaced_by_a_good_one(sink):
    earlier = sink.folder / "inference_predictions.csv"
    earlier.write_text("earlier\n")
    write(sink, 0)
    with pytest.raises(EngineError):
        sink.commit(SCHEMA, "csv")
    sink.fail("window 1 was never written")
    assert earlier.read_text() == "earlier\n"
    assert listing(sink.folder) == ["_FAILURE", "inference_predictions.csv"]

    sink.begin()
    write(sink, 0, of=1)
    with earlier.open() as reader:  # somebody who reads it meanwhile reads all of it
        sink.commit(SCHEMA, "csv")
        assert reader.read() == "earlier\n"
    assert earlier.read_text() == text([0])


def test_the_prediction_file_is_there_only_once_it_is_complete(sink, monkeypatch):
    write(sink, 0, of=1)
    seen = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (seen.append(listing(sink.folder)), fsync(fd)))
    sink.commit(SCHEMA, "csv")
    assert seen == [[".bsm-parts"]]


# Markers


def test_success(sink):
    before = datetime.now()
    sink.succeed()
    assert (sink.folder / "_SUCCESS").read_bytes() == b""
    found = re.fullmatch(r"healthy: (\S+)\n", (sink.folder / "_HEALTH").read_text())
    assert before <= datetime.fromisoformat(found[1]) <= datetime.now()
    assert not (sink.folder / "run.json").exists()


def test_the_record_comes_first_and_success_last(sink, monkeypatch):
    order = []
    write_text, touch = Path.write_text, Path.touch
    monkeypatch.setattr(Path, "write_text", lambda self, *a, **k: (order.append(self.name), write_text(self, *a, **k)))
    monkeypatch.setattr(Path, "touch", lambda self, *a, **k: (order.append(self.name), touch(self, *a, **k)))
    sink.succeed({"rows": 3, "where": Path("/x")})
    assert order == ["run.json", "_HEALTH", "_SUCCESS"]
    assert json.loads((sink.folder / "run.json").read_text()) == {"rows": 3, "where": "/x"}


def test_failure_after_success_leaves_the_failure_alone(sink):
    write(sink, 0)
    sink.succeed({"rows": 3})
    sink.fail("DataError: no good")
    assert listing(sink.folder) == ["_FAILURE"]
    assert (sink.folder / "_FAILURE").read_text() == "DataError: no good\n"


@given(st.text(st.characters(), max_size=60))
def test_a_failure_is_exactly_one_line_whatever_the_reason(tmp_path_factory, reason):
    sink = Sink(tmp_path_factory.getbasetemp())
    sink.fail(f"Error: {reason}")
    content = (sink.folder / "_FAILURE").read_bytes().decode()
    assert content.endswith("\n")
    assert len(content.splitlines()) == 1


def test_a_failure_keeps_its_words(sink):
    sink.fail("RuntimeError: one\n  two\tthree é \udcff")
    assert (sink.folder / "_FAILURE").read_text("utf-8") == "RuntimeError: one two three é \\udcff\n"


def test_a_failure_that_cannot_be_written_is_logged(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("bsm"), "propagate", True)
    (tmp_path / "file").touch()
    Sink(tmp_path / "file").fail("first error")
    assert caplog.messages == [f"could not write {tmp_path}/file/_FAILURE: Not a directory"]
    assert str(tmp_path / "file" / "_FAILURE") in caplog.text


# Folders and disks


def test_the_folder_is_made(tmp_path):
    Sink(tmp_path / "a/b/c").begin()
    assert listing(tmp_path / "a/b/c") == [".bsm-parts"]


@pytest.mark.parametrize("below", ["", "out", "out/further"])
def test_an_output_folder_that_is_a_file_or_below_one(tmp_path, below):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(SinkError) as caught:
        Sink(tmp_path / "file" / below).begin()
    assert str(tmp_path / "file") in caught.value.where
    assert "choose a destination" in caught.value.fix
    assert caught.value.exit_code == 1
    assert isinstance(caught.value.__cause__, OSError)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_marker_that_cannot_be_removed(sink):
    (sink.folder / "_SUCCESS").mkdir()
    with pytest.raises(SinkError, match="_SUCCESS"):
        sink.begin()


def test_a_folder_whose_name_is_not_utf8(tmp_path):
    with pytest.raises(SinkError, match="not UTF-8"):
        Sink(tmp_path / os.fsdecode(b"\xff")).begin()
    assert listing(tmp_path) == []


def test_a_folder_that_goes_away(sink):
    (sink.folder / ".bsm-parts").rmdir()
    with pytest.raises(SinkError, match="No such file or directory"):
        write(sink, 0)


FULL = """
    import resource, signal, sys
    from pathlib import Path
    import pyarrow as pa
    from bsm_core.errors import SinkError
    from bsm_core.scoring.sink import Sink

    def limit(size):  # what a full disk does, for files of one process
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    sink = Sink(Path({folder!r}))
    sink.begin()
    (sink.folder / "inference_predictions.{format}").write_text("earlier")
    table = pa.table({{"id": [f"{{i:032x}}" for i in range(1000)]}})
    def parts():
        for window in range(50):
            sink.write_part(window, table, last=window == 49, counts={{}})
    def commit():
        sink.commit(table.schema, {format!r})
    {when}
    try:
        {what}()
    except SinkError as error:
        sink.fail(error.one_line())
        print(error.one_line())
"""


@pytest.mark.parametrize("format", ["csv", "parquet"])
@pytest.mark.parametrize(("when", "what"), [("limit(8192)", "parts"), ("parts(); limit(8192)", "commit")])
def test_a_full_disk(tmp_path, format, when, what):
    printed = run_python(FULL.format(folder=str(tmp_path / "out"), format=format, when=when, what=what))
    assert "SinkError: could not be written" in printed
    assert "File too large" in printed
    assert "free space there, or choose a destination that can be written to" in printed
    assert listing(tmp_path / "out") == ["_FAILURE", f"inference_predictions.{format}"]
    assert (tmp_path / "out/_FAILURE").read_text() == printed + "\n"
    assert (tmp_path / f"out/inference_predictions.{format}").read_text() == "earlier"


def test_a_disk_that_is_full_at_the_very_end(tmp_path):
    when = "limit(5)"
    what = "lambda: sink.succeed({'rows': 1})"
    code = FULL.format(folder=str(tmp_path / "out"), format="csv", when=when, what=f"({what})")
    run_python(code.replace("sink.fail(error", "limit(10**6); sink.fail(error"))
    assert listing(tmp_path / "out") == ["_FAILURE", "inference_predictions.csv"]


def test_a_part_whose_rows_have_categories_of_several_dictionaries(tmp_path):
    pieces = [pa.table({"id": pa.array(ids).dictionary_encode()}) for ids in (["a", "b"], ["c", "b"])]
    sink = Sink(tmp_path)
    sink.begin()
    sink.write_part(0, pa.concat_tables(pieces), last=True, counts={})
    done = sink.commit(pieces[0].schema, "csv")
    assert done.path.read_text() == "id\na\nb\nc\nb\n"

from __future__ import annotations

import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.plugins import run_python

from bsm_core.errors import EngineError, NothingToResumeError, SinkError
from bsm_core.scoring.output.lock import holding
from bsm_core.scoring.output.part import Part
from bsm_core.scoring.output.sink import Sink
from bsm_core.tables.windows import Position

SCHEMA = pa.schema([("id", pa.string()), ("prob_class_0", pa.float64())])
HEADER = "id,prob_class_0\n"
PLAN = {"bsm": "1", "inputs": {"a.csv": [1, 2]}, "settings": {"id_field": "id"}}


def rows(window, count=2):
    ids = [f"{window}-{i}" for i in range(count)]
    return pa.table([ids, [window + i / 4 for i in range(count)]], schema=SCHEMA)


def text(windows):
    return HEADER + "".join(f"{w}-{i},{w + i / 4:g}\n" for w in windows for i in range(2))


def write(sink, window, *, of=3, **counts):
    last = window == of - 1
    sink.write_part(Part(window, last, Position(0, window), rows(window), counts))


def listing(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def sink(tmp_path):
    sink = Sink(tmp_path / "out")
    sink.work.path.mkdir(parents=True)
    assert sink.find(PLAN, "auto").done == {}
    sink.begin(PLAN, {})
    return sink


# Parts and the commit


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 2, 0]])
def test_parts_of_several_ranks_in_any_order_are_committed_in_order(sink, order):
    ranks = [Sink(sink.folder, hand_over=sink.add), Sink(sink.folder, hand_over=sink.add)]
    for window in order:
        write(ranks[window % 2], window, seen=1, **{f"number:{window}": 2})
    assert listing(sink.folder) == [".bsm"]
    done = sink.commit(SCHEMA, "csv")
    assert done.path == sink.folder / "inference_predictions.csv"
    assert done.path.read_text() == text([0, 1, 2])
    assert (done.rows, done.windows) == (6, 3)
    assert done.counts == {"seen": 3, "number:0": 2, "number:1": 2, "number:2": 2}


def test_a_sink_that_hands_records_over_writes_the_part_first_and_no_manifest(sink):
    handed, manifest = [], sink.work.path / "manifest.jsonl"

    def hand_over(records):
        assert all(sink.work.is_whole(record) for record in records)
        handed.extend(records)

    write(Sink(sink.folder, hand_over=hand_over), 0)
    assert manifest.read_bytes() == b""
    sink.add(handed)
    assert [(record.window, record.sha256) for record in sink.work.records().values()] == [(0, handed[0].sha256)]


def test_a_record_that_is_handed_over_is_not_added_when_the_lock_is_lost(sink):
    with holding(sink.work.lock) as lock:
        keeper, handed = Sink(sink.folder, lock=lock), []
        write(Sink(sink.folder, hand_over=handed.extend), 0)
        lock.path.write_text("another run")
        with pytest.raises(SinkError, match="another run took it over"):
            keeper.add(handed)
        assert sink.work.records() == {}


@settings(max_examples=15)
@given(st.data())
def test_every_row_of_every_part_once_and_in_order(tmp_path_factory, data):
    sizes = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=12))
    sink = Sink(tmp_path_factory.mktemp("out"))
    sink.work.path.mkdir()
    sink.begin(PLAN, {})
    for window in data.draw(st.permutations(range(len(sizes)))):
        sink.write_part(Part(window, window == len(sizes) - 1, None, rows(window, sizes[window]), {}))
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
    sink.write_part(Part(0, True, Position(1, 0), SCHEMA.empty_table(), {}))
    done = sink.commit(SCHEMA, "tsv")
    assert done.path.read_text() == "id\tprob_class_0\n"
    assert (done.rows, done.windows) == (0, 1)


@pytest.mark.parametrize(("written", "missing"), [([0, 2], 1), ([1, 2], 0), ([], 0)])
def test_a_missing_part_is_an_error_and_no_prediction_file(sink, written, missing):
    for window in written:
        write(sink, window)
    with pytest.raises(EngineError, match=f"the rows of window {missing} were never written"):
        sink.commit(SCHEMA, "csv")
    assert not list(sink.folder.glob("inference_predictions*"))


@pytest.mark.parametrize("ends", [[], [0], [0, 1], [1, 2]], ids=str)
def test_parts_that_do_not_agree_on_the_last_window_are_an_error(sink, ends):
    for window in range(3):
        sink.write_part(Part(window, window in ends, None, rows(window), {}))
    with pytest.raises(EngineError, match="do not agree"):
        sink.commit(SCHEMA, "csv")


def test_a_part_that_was_changed_after_it_was_written_is_an_error(sink):
    write(sink, 0, of=1)
    path = sink.work.part(0)
    path.write_bytes(path.read_bytes().replace(b"0-1", b"0-7"))
    with pytest.raises(EngineError, match="was changed after it was written"):
        sink.commit(SCHEMA, "csv")


def test_earlier_predictions_are_replaced_when_the_new_ones_are_whole(sink):
    earlier, other = sink.folder / "inference_predictions.csv", sink.folder / "inference_predictions.parquet"
    earlier.write_text("earlier\n")
    other.write_text("of another format")
    write(sink, 0)
    with pytest.raises(EngineError):
        sink.commit(SCHEMA, "csv")
    assert earlier.read_text() == "earlier\n"
    sink.begin(PLAN, {})
    write(sink, 0, of=1)
    with earlier.open() as reader:  # somebody who reads it meanwhile reads all of it
        sink.commit(SCHEMA, "csv")
        assert reader.read() == "earlier\n"
    assert earlier.read_text() == text([0])
    assert not other.exists()


def test_the_prediction_file_is_there_only_once_it_is_on_the_disk(sink, monkeypatch):
    write(sink, 0, of=1)
    seen = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (seen.append(listing(sink.folder)), fsync(fd)))
    sink.commit(SCHEMA, "csv")
    assert seen == [[".bsm"], [".bsm", "inference_predictions.csv"]]  # the file, then the folder


def test_a_part_counts_only_when_it_and_its_line_are_on_the_disk(sink, monkeypatch):
    seen = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (seen.append(Path(f"/proc/self/fd/{fd}").resolve().name), fsync(fd)))
    write(sink, 0)
    assert seen == ["part-00000000.arrow", "parts", "manifest.jsonl"]


# Going on


def again(sink, plan=PLAN, resume="auto"):
    attempt = Sink(sink.folder, attempt=2)
    done = attempt.find(plan, resume).done
    attempt.begin(plan, done)
    return done


def test_the_same_plan_keeps_the_parts(sink):
    for window in (0, 2):
        write(sink, window, seen=window)
    done = again(sink)
    assert {w: (r.rows, r.last, tuple(r.end), r.counts, r.attempt) for w, r in done.items()} == {
        0: (2, False, (0, 0), {"seen": 0}, 1),
        2: (2, True, (0, 2), {"seen": 2}, 1),
    }
    write(sink, 1)
    assert sink.commit(SCHEMA, "csv").path.read_text() == text([0, 1, 2])


@pytest.mark.parametrize("damage", ["torn", "altered", "gone"])
def test_a_part_that_is_not_what_the_manifest_says_is_computed_again(sink, damage):
    for window in range(3):
        write(sink, window)
    path = sink.work.part(1)
    content = path.read_bytes()
    path.write_bytes(content[:-9] if damage == "torn" else content.replace(b"1-1", b"1-7"))
    if damage == "gone":
        path.unlink()
    assert sink.find(PLAN, "auto").altered == 1
    assert sorted(again(sink)) == [0, 2]
    assert sorted(again(sink)) == [0, 2]
    write(sink, 1)
    assert sorted(again(sink)) == [0, 1, 2]


def test_a_torn_last_line_of_the_manifest_is_ignored_and_does_not_spoil_the_next(sink):
    for window in range(2):
        write(sink, window)
    manifest = sink.work.path / "manifest.jsonl"
    manifest.write_bytes(manifest.read_bytes()[:-30])
    assert sorted(again(sink)) == [0]
    write(sink, 1)
    assert sorted(again(sink)) == [0, 1]


def test_another_plan_begins_anew_and_says_why(sink):
    write(sink, 0)
    other = {**PLAN, "bsm": "2", "inputs": {"a.csv": [1, 3], "b.csv": [4, 4]}}
    changed = "; ".join(sink.find(other, "auto").changed)
    for words in ("bsm was 1, is 2", "input a.csv: it was written to again", "input b.csv: is new"):
        assert words in changed
    assert again(sink, other) == {}
    assert not list((sink.work.path / "parts").iterdir())
    assert json.loads((sink.work.path / "plan.json").read_text()) == other


def test_never_begins_anew(sink):
    write(sink, 0)
    assert again(sink, resume="never") == {}
    assert sink.work.records() == {}


def test_require_without_the_same_run_touches_nothing(sink):
    with pytest.raises(NothingToResumeError, match="nothing to resume"):
        again(sink, resume="require")
    write(sink, 0)
    with pytest.raises(NothingToResumeError, match="another one") as caught:
        again(sink, {**PLAN, "bsm": "2"}, resume="require")
    assert caught.value.details == ("bsm was 1, is 2",)
    assert sorted(again(sink, resume="require")) == [0]


@pytest.mark.parametrize("plan", ["", "[]", "{", '{"inputs": 3}', '{"inputs": {"a.csv": "\\u001b[31m"}}'])
def test_a_plan_that_anyone_wrote_is_another_plan(sink, plan):
    write(sink, 0)
    (sink.work.path / "plan.json").write_text(plan)
    assert again(sink) == {}


# Disks

FULL = """
    import resource, signal, sys
    from pathlib import Path
    import pyarrow as pa
    from bsm_core.errors import SinkError
    from bsm_core.scoring.output.lock import holding
    from bsm_core.scoring.output.part import Part
    from bsm_core.scoring.output.sink import Sink

    def limit(size):  # what a full disk does, for files of one process
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    sink = Sink(Path({folder!r}))
    sink.work.path.mkdir(parents=True)
    sink.begin({{}}, {{}})
    (sink.folder / "inference_predictions.{format}").write_text("earlier")
    table = pa.table({{"id": [f"{{i:032x}}" for i in range(1000)]}})
    def parts():
        for window in range(50):
            sink.write_part(Part(window, window == 49, None, table, {{}}))
    def commit():
        sink.commit(table.schema, {format!r})
    {when}
    try:
        {what}()
    except SinkError as error:
        print(error.one_line())
"""


@pytest.mark.parametrize("format", ["csv", "parquet"])
@pytest.mark.parametrize(("when", "what"), [("limit(8192)", "parts"), ("parts(); limit(2048)", "commit")])
def test_a_full_disk(tmp_path, format, when, what):
    printed = run_python(FULL.format(folder=str(tmp_path / "out"), format=format, when=when, what=what))
    assert "SinkError: could not be written: File too large" in printed
    assert "free space there, or choose a destination that can be written to" in printed
    assert (tmp_path / f"out/inference_predictions.{format}").read_text() == "earlier"


def test_a_folder_that_goes_away(sink):
    (sink.work.path / "parts").rmdir()
    with pytest.raises(SinkError, match=r"part-00000000\.arrow"):
        write(sink, 0)


def test_a_part_whose_rows_have_categories_of_several_dictionaries(sink):
    pieces = [pa.table({"id": pa.array(ids).dictionary_encode()}) for ids in (["a", "b"], ["c", "b"])]
    sink.write_part(Part(0, True, None, pa.concat_tables(pieces), {}))
    done = sink.commit(pieces[0].schema, "csv")
    assert done.path.read_text() == "id\na\nb\nc\nb\n"

from __future__ import annotations

from contextlib import closing

import pytest
from support.plugins import run_python

from bsm_core.tables.formats import text_stream
from bsm_core.tables.read import TableSource


def test_the_interpreter_ends_after_a_thread_has_let_go_of_its_stream():
    """A daemon thread stands for one of Arrow's: neither is waited for, and both stop where the interpreter ends."""
    code = """
        import atexit, io, threading
        from bsm_core.tables.lent_streams import lend

        ending, streams = threading.Event(), [io.BytesIO()]

        class Stream(io.RawIOBase):
            pass

        def hold(stream):
            ready.set()
            ending.wait()
            for _ in range(1000):
                print("held")

        ready, stream = threading.Event(), Stream()
        lend(stream)
        threading.Thread(target=hold, args=(stream,), daemon=True).start()
        ready.wait()
        del stream
        atexit.register(ending.set)  # called before the function that waits
    """
    assert run_python(code).splitlines() == ["held"] * 1000


def test_arrow_reads_text_files_through_streams_that_are_lent(tmp_path, monkeypatch):
    lent = []
    monkeypatch.setattr(text_stream, "lend", lent.append)
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    source = TableSource.open(tmp_path / "t.csv")
    lent.clear()
    assert [len(window.table) for window in source.windows(["a"])] == [1]
    assert lent


def test_a_reader_that_is_still_referenced_is_closed_before_the_wait(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n" + "1,2\n" * 9)
    code = f"""
        import atexit, time
        from pathlib import Path
        from bsm_core.tables import lent_streams
        from bsm_core.tables.read import TableSource

        lent_streams._MOST_S, lent_streams.time.sleep = 0.1, lambda seconds: print("waits")
        windows = TableSource.open(Path({str(tmp_path / "t.csv")!r})).windows(["a"], rows=2)
        next(windows)
        atexit.register(lambda: print(len(lent_streams._lent), "lent"))
    """
    assert run_python(code).split() == ["1", "lent"]


@pytest.mark.parametrize("place", ["readinto", "keep"])
@pytest.mark.parametrize("bad_lines", [False, True])
def test_the_garbage_collector_closes_no_reader_in_the_thread_that_reads_its_stream(tmp_path, bad_lines, place):
    """Before each bad line is left out, the thread reads another stream, which searches for the next bad line.

    The thread reads ahead: in the second half of the file, it gives the main thread time to drop the reader.
    """
    lines = ["2" if bad_lines and not row % 500 else f"1,{'x' * 90}" for row in range(200_000)]
    (tmp_path / "t.csv").write_text("a,b\n" + "\n".join(lines) + "\n")
    half = len(lines) * 47 * (2 if bad_lines and place == "readinto" else 1)  # two streams read the file, or one
    code = f"""
        import faulthandler, gc, threading
        from contextlib import closing
        from pathlib import Path
        from bsm_core.tables.bad_lines import LeftOut
        from bsm_core.tables.formats.text_stream import TextStream
        from bsm_core.tables.read import TableSource

        faulthandler.dump_traceback_later(30, exit=True)
        gc.disable()
        started, dropped, collected = threading.Event(), threading.Event(), threading.Event()
        place = {"LeftOut" if place == "keep" else "TextStream"}
        read = place.{place}

        def read_and_collect(self, block):
            kept = read(self, block) if {place == "keep"} else None
            if threading.get_ident() != threading.main_thread().ident and sum(sizes) > {half} and started.wait(1):
                dropped.wait()
                gc.collect()
                collected.set()
            kept = kept if {place == "keep"} else read(self, block)
            sizes.append(len(kept) if {place == "keep"} else kept)
            return kept

        class Cycle:
            pass

        def windows():  # closes its reader where it is collected itself
            source = TableSource.open(Path({str(tmp_path / "t.csv")!r}), {"skip" if bad_lines else "fail"!r})
            with closing(source.windows(["a"])) as reader:
                yield from reader

        sizes, cycle, place.{place} = [], Cycle(), read_and_collect
        cycle.itself, cycle.windows = cycle, windows()
        next(cycle.windows)
        started.set()
        del cycle
        dropped.set()
        print("collected" if collected.wait(20) else "waits for itself")
    """
    assert run_python(code).split() == ["collected"]


def test_a_reader_is_closed_in_a_thread_that_has_read_a_header_and_json_lines(tmp_path):
    (tmp_path / "t.jsonl").write_text('{"a": 1}\n' * 9)
    (tmp_path / "t.csv").write_text("a,b\n" + "1,2\n" * 9)
    list(TableSource.open(tmp_path / "t.jsonl").windows(["a"]))
    with closing(TableSource.open(tmp_path / "t.csv").windows(["a"], rows=2)) as windows:
        next(windows)
    assert next(windows, None) is None

from __future__ import annotations

from support.plugins import run_python

from bsm_core.tables import delimited
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
    monkeypatch.setattr(delimited, "lend", lent.append)
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    source = TableSource.open(tmp_path / "t.csv")
    lent.clear()
    assert [len(window.table) for window in source.windows(["a"])] == [1]
    assert lent

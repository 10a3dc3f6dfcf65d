from __future__ import annotations

from bsm_core.testing.audit import audited


def test_events_inside_the_context_alone_are_told(tmp_path):
    outer, inner = [], []
    path = tmp_path / "file"
    path.write_text("before")
    with audited(lambda event, arguments: outer.append((event, arguments[:1]))):
        path.read_text()
        with audited(lambda event, arguments: inner.append((event, arguments[:1]))):
            (tmp_path / "other").touch()
    path.read_text()
    assert outer.count(("open", (str(path),))) == 1
    assert ("open", (str(path),)) not in inner
    assert ("open", (str(tmp_path / "other"),)) in inner
    assert ("open", (str(tmp_path / "other"),)) in outer

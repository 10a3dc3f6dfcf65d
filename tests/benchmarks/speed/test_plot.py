from __future__ import annotations

import pytest
from plot import draw
from systems import SYSTEMS


def test_every_system_and_case_is_drawn(tmp_path):
    matplotlib = pytest.importorskip("matplotlib", reason="of the dependency group bench")
    results = [
        {"model": model, "data": "reviews", "device": "cpu", "system": system, "rows_per_s": 7.0, "difference": 0.0}
        for model in ("minilm", "tiny")
        for system in SYSTEMS
    ]
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        draw(results, tmp_path / "speed.svg")
    drawn = (tmp_path / "speed.svg").read_text()
    assert all(drawn.count(f">{system}<") == 2 for system in SYSTEMS)
    assert "tiny on reviews, cpu: rows a second" in drawn

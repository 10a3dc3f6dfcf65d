from __future__ import annotations

from types import SimpleNamespace

import pytest

from bsm_core import Settings
from bsm_core.scoring.engines.callbacks import BeforeFirstWindow


@pytest.mark.parametrize(("rank", "expected"), [(0, ["choose", "eager", "barrier"]), (1, ["barrier", "choose"])])
def test_rank_0_chooses_the_backends_before_the_others_do(rank, expected):
    order = []
    predictor = SimpleNamespace(choose_backends=lambda *asked: order.append("choose") or "eager")
    strategy = SimpleNamespace(barrier=lambda name: order.append("barrier"))
    settings = Settings(job_type="inference")
    before = BeforeFirstWindow(predictor, settings, None, lambda chosen, _: order.append(chosen), earlier={})
    before.on_predict_start(SimpleNamespace(is_global_zero=rank == 0, strategy=strategy), None)
    assert order == expected
    assert (before.chosen, before.difference) == ("eager", None)

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from bsm_core.scoring.engines import trainer
from bsm_core.scoring.engines.trainer import threads_for


@pytest.fixture(autouse=True)
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("width", "pipelines", "threads"),
    [(8, {}, 1), (8, {"chat": None}, 3), (256, {}, 3)],
    ids=["small", "text", "large"],
)
def test_a_small_model_of_features_alone_has_one_thread(width, pipelines, threads):
    predictor = SimpleNamespace(model=nn.Linear(width, width), preprocessor=SimpleNamespace(pipelines=pipelines))
    with threads_for(predictor):
        assert torch.get_num_threads() == threads
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize(
    ("variable", "cores", "processes", "threads"), [(None, 2, 1, 2), (None, 2, 2, 1), ("3", 1, 1, 3)]
)
def test_each_process_has_its_share_of_the_cores(monkeypatch, variable, cores, processes, threads):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if variable:
        monkeypatch.setenv("OMP_NUM_THREADS", variable)
    monkeypatch.setattr(trainer, "cores", lambda: cores)
    trainer.share_cores(processes)
    assert torch.get_num_threads() == threads

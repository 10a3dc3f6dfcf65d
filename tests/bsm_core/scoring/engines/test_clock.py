import time

from torch import distributed

from bsm_core.runtime.profile import MODEL, Times
from bsm_core.scoring.engines.trainer import Clock, of_all_ranks


def test_only_what_concerns_a_window_counts():
    times = Times()
    clock = Clock(times)
    began = time.perf_counter()
    with clock.profile("run_predict_evaluation"), clock.profile("[Strategy]SingleDeviceStrategy.predict_step"):
        pass
    clock.stop("[Strategy]SingleDeviceStrategy.predict_step")  # Lightning stops what it has not begun, after an error
    assert list(times) == [MODEL]
    assert 0 < times[MODEL] < time.perf_counter() - began


def test_the_times_of_all_ranks_are_summed(monkeypatch):
    def gather(into, own):
        into[:] = [own, {"a": 2.0, "b": 1.0}]

    assert of_all_ranks(Times(a=1.0), 1) == {"a": 1.0}
    monkeypatch.setattr(distributed, "all_gather_object", gather)
    assert of_all_ranks(Times(a=1.0), 2) == {"a": 3.0, "b": 1.0}

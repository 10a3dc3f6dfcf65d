"""Time that Lightning's Trainer spends on each activity, for ``--profile``."""

from __future__ import annotations

import time
from collections.abc import Mapping

from lightning.pytorch.profilers import Profiler
from torch import distributed

from bsm_core.runtime.profile import MODEL, MOVING, SELF_CHECK, WRITING, Times


class Clock(Profiler):
    """Profiler of Lightning that adds the time of the activities in :attr:`ACTIONS`.

    Args:
        times: Where the times are added.

    Attributes:
        ACTIONS: Activity by the end of Lightning's name for an action.
    """

    ACTIONS: Mapping[str, str] = {
        "BeforeFirstWindow.on_predict_start": SELF_CHECK,
        "batch_to_device": MOVING,
        "predict_step": MODEL,
        "PartWriter.on_predict_batch_end": WRITING,
    }

    def __init__(self, times: Times) -> None:
        super().__init__()
        self.times = times
        self._began: dict[str, float] = {}

    def start(self, action_name: str) -> None:
        """Note the start of an action, such as ``[Strategy]SingleDeviceStrategy.predict_step``."""
        self._began[action_name] = time.perf_counter()

    def stop(self, action_name: str) -> None:
        """Add the time of an action that ends."""
        for ending, activity in self.ACTIONS.items():
            if action_name.endswith(ending) and action_name in self._began:
                self.times.add({activity: time.perf_counter() - self._began.pop(action_name)})


def of_all_ranks(times: Times, ranks: int) -> Times:
    """Return the sums of the times of all ranks. Every rank must call this function."""
    gathered = [times] * ranks
    if ranks > 1:
        distributed.all_gather_object(gathered, times)
    total = Times()
    for rank_times in gathered:
        total.add(rank_times)
    return total

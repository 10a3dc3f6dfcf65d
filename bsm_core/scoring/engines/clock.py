"""What Lightning's Trainer spends its time on, for ``--profile``."""

from __future__ import annotations

import time
from collections.abc import Mapping

from lightning.pytorch.profilers import Profiler
from torch import distributed

from bsm_core.runtime.profile import MODEL, MOVING, SELF_CHECK, WRITING, Times


class Clock(Profiler):
    """Adds to ``times`` what Lightning does with a window."""

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
        """An action begins; the name is Lightning's, such as ``[Strategy]SingleDeviceStrategy.predict_step``."""
        self._began[action_name] = time.perf_counter()

    def stop(self, action_name: str) -> None:
        """It ends."""
        for ending, what in self.ACTIONS.items():
            if action_name.endswith(ending) and action_name in self._began:
                self.times.add({what: time.perf_counter() - self._began.pop(action_name)})


def of_all_ranks(times: Times, ranks: int) -> Times:
    """The sum of the times of all ranks; every rank must call it."""
    gathered = [times]
    if ranks > 1:
        gathered *= ranks
        distributed.all_gather_object(gathered, times)
    everybody = Times()
    for others in gathered:
        everybody.add(others)
    return everybody

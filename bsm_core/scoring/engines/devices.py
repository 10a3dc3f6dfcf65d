"""Which devices a run uses, given what was asked for and what is there."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass

from bsm_core.scoring.settings import Settings


@dataclass(frozen=True)
class DevicePlan:
    """The devices of a run; one process each.

    Attributes:
        accelerator: ``"cpu"`` or ``"gpu"``, as Lightning names them.
        ids: GPU ids; on the CPU just ``0, 1, …`` for as many processes.
        warning: Why this is less than was asked for, if it is.
    """

    accelerator: str
    ids: tuple[int, ...]
    warning: str | None = None

    @property
    def count(self) -> int:
        """Number of processes."""
        return len(self.ids)

    def __str__(self) -> str:
        return f"{self.count} CPU process(es)" if self.accelerator == "cpu" else f"GPU {list(self.ids)}"

    def single(self, warning: str) -> DevicePlan:
        """The same with its first device alone."""
        return dataclasses.replace(self, ids=self.ids[:1], warning=warning)


def plan_devices(settings: Settings, gpus: int) -> DevicePlan:
    """The contract's ``DEVICE`` table, with its fall-backs: fewer GPUs, one GPU, the CPU.

    Args:
        settings: ``device``, ``devices`` and ``accelerator`` count.
        gpus: Number of GPUs that are there.
    """
    cpu = DevicePlan("cpu", tuple(range(settings.devices or 1)))
    if settings.accelerator == "cpu":
        return cpu
    if settings.device == "cpu":
        conflict = f"device=cpu beats accelerator=gpu: using {cpu}" if settings.accelerator == "gpu" else None
        return dataclasses.replace(cpu, warning=conflict)
    if settings.device == "auto" and settings.accelerator == "auto" and not gpus:
        return cpu
    count, there = _wanted(settings, gpus)
    if len(there) == count:
        return DevicePlan("gpu", there)
    used = DevicePlan("gpu", there or (0,)) if gpus else cpu
    return dataclasses.replace(used, warning=f"{_asked(settings)} asked for, {gpus} GPU(s) there: using {used}")


def cores() -> int:
    """How many this process may use, as far as the system tells."""
    if hasattr(os, "sched_getaffinity"):  # macOS has none
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def loader_workers(plan: DevicePlan, cores: int) -> int:
    """How many processes prepare the windows of each rank where nothing was asked for.

    On the CPU the model needs every core itself. On a GPU four keep up with it, and one core is left to drive it.

    Args:
        plan: The devices.
        cores: Cores that all ranks share.
    """
    return max(1, min(4, cores // plan.count - 1)) if plan.accelerator == "gpu" else 0


def _asked(settings: Settings) -> str:
    values = {name: getattr(settings, name) for name in ("device", "devices", "accelerator")}
    return ", ".join(
        f"{name}={list(value) if isinstance(value, tuple) else value}"
        for name, value in values.items()
        if value not in (None, "auto")
    )


def _wanted(settings: Settings, gpus: int) -> tuple[int, tuple[int, ...]]:
    """How many GPUs were asked for, and the ids of those that are there."""
    device, devices = settings.device, settings.devices
    if isinstance(device, tuple):
        return len(device), tuple(i for i in device if i < gpus)
    count = device if isinstance(device, int) else devices or (1 if device == "gpu" else max(gpus, 1))
    return count, tuple(range(min(count, gpus)))

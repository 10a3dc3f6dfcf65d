"""Choice of devices: from the settings and the GPUs of the machine to a plan."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from bsm_core.errors import UsageError
from bsm_core.scoring.engines.world import World
from bsm_core.scoring.settings import Settings


@dataclass(frozen=True)
class DevicePlan:
    """Devices of a run, with one process for each.

    Attributes:
        accelerator: ``"cpu"`` or ``"gpu"``, as Lightning names them.
        ids: GPU ids; on the CPU, ``0, 1, …``, one for each process.
        warning: Message for the user if the settings cannot be met in full; else None.
        actors: Whether the processes are actors of Ray.
        cores: Number of cores of each actor.
        world: World of this process, if another program has started the processes.
    """

    accelerator: str
    ids: tuple[int, ...]
    warning: str | None = None
    actors: bool = False
    cores: int = 0
    world: World | None = None

    @property
    def count(self) -> int:
        """Number of processes."""
        return len(self.ids)

    @property
    def count_here(self) -> int:
        """Number of processes of this machine."""
        return self.world.local_size if self.world else self.count

    def __str__(self) -> str:
        if self.world:
            return f"{self.count} processes of {self.world.launcher} on {self.accelerator.upper()}"
        if self.actors:
            return f"{self.count} Ray actor(s) on {self.accelerator.upper()}"
        return f"{self.count} CPU process(es)" if self.accelerator == "cpu" else f"GPU {list(self.ids)}"

    def single(self, warning: str) -> DevicePlan:
        """Return a plan with only the first device, and a warning."""
        return dataclasses.replace(self, ids=self.ids[:1], warning=warning)


def plan_devices(settings: Settings, gpus: int) -> DevicePlan:
    """Return the devices that the inference contract prescribes for ``DEVICE``.

    If GPUs are missing, the plan falls back to fewer GPUs, then to one GPU, then to the CPU.

    Args:
        settings: Settings, of which ``device``, ``devices`` and ``accelerator`` matter.
        gpus: Number of GPUs of the machine.
    """
    cpu = DevicePlan("cpu", tuple(range(settings.devices or 1)))
    if settings.accelerator == "cpu":
        return cpu
    if settings.device == "cpu":
        conflict = f"device=cpu beats accelerator=gpu: using {cpu}" if settings.accelerator == "gpu" else None
        return dataclasses.replace(cpu, warning=conflict)
    if settings.device == "auto" and settings.accelerator == "auto" and not gpus:
        return cpu
    count, available = _requested_gpus(settings, gpus)
    if len(available) == count:
        return DevicePlan("gpu", available)
    used = DevicePlan("gpu", available or (0,)) if gpus else cpu
    return dataclasses.replace(used, warning=f"{_asked(settings)} asked for, {gpus} GPU(s) there: using {used}")


def plan_world(settings: Settings, world: World, gpus: int) -> DevicePlan:
    """Return the plan of a run in a world of processes that another program has started, each with one device.

    Args:
        settings: Settings, of which those of devices matter.
        world: The world.
        gpus: Number of GPUs that this process sees.

    Raises:
        UsageError: The settings ask for another number of processes or for certain GPUs, or this host has fewer GPUs
            than processes.
    """
    device, launcher = settings.device, world.launcher
    if settings.accelerator == "cpu":
        device = "cpu"
    if isinstance(device, tuple):
        what = f"{launcher} has started the processes, so that GPUs cannot be chosen by their ids {list(device)}"
        fix = f"set CUDA_VISIBLE_DEVICES={','.join(map(str, device))} for {launcher}, and give --device gpu"
        raise UsageError(what, fix=fix)
    asked = settings.devices or (device if isinstance(device, int) else world.size)
    if asked != world.size:
        what = f"{asked} device(s) contradict the {world.size} processes that {launcher} has started"
        raise UsageError(what, fix=f"give --device gpu or cpu and leave --devices out, or start {asked} processes")
    device = "gpu" if isinstance(device, int) else device
    one = plan_devices(settings.model_copy(update={"devices": None, "device": device}), gpus)
    if one.accelerator == "gpu" and gpus < world.local_size and not (gpus == 1 and world.has_own_gpu):
        what = f"{launcher} has started {world.local_size} processes on this host, which has {gpus} GPU(s)"
        raise UsageError(what, fix="start one process for each GPU, or give --device cpu")
    return DevicePlan(one.accelerator, tuple(range(world.size)), one.warning, world=world)


def loader_workers(plan: DevicePlan, cores: int) -> int:
    """Return the default number of loader workers for each device.

    On the CPU there are none: the model uses every core. On a GPU there are at most four, which is enough to keep it
    busy, and one core remains for the process that controls the GPU.

    Args:
        plan: The devices.
        cores: Number of cores that all processes of this machine share, if the plan has none for each.
    """
    return max(1, min(4, (plan.cores or cores // plan.count_here) - 1)) if plan.accelerator == "gpu" else 0


def _asked(settings: Settings) -> str:
    values = {name: getattr(settings, name) for name in ("device", "devices", "accelerator")}
    return ", ".join(
        f"{name}={list(value) if isinstance(value, tuple) else value}"
        for name, value in values.items()
        if value not in (None, "auto")
    )


def _requested_gpus(settings: Settings, gpus: int) -> tuple[int, tuple[int, ...]]:
    """Return the number of GPUs that the settings ask for, and the ids of those that the machine has."""
    device, devices = settings.device, settings.devices
    if isinstance(device, tuple):
        return len(device), tuple(i for i in device if i < gpus)
    count = device if isinstance(device, int) else devices or (1 if device == "gpu" else max(gpus, 1))
    return count, tuple(range(min(count, gpus)))

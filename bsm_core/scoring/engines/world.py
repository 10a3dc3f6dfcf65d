"""A world of processes that another program has started: torchrun, or SLURM's srun.

A run in such a process starts no processes of its own. The first process leads: it holds the output folder, hands out
the work and commits. The others follow: they score what they are given and write its parts, so all hosts must see the
output folder.
"""

from __future__ import annotations

import os
import pickle
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NamedTuple

from bsm_core.errors import EngineError

MEET = timedelta(minutes=10)
"""Time in which all processes of a world must have come together."""
RUN = timedelta(days=365)
"""Time that a process may wait for the others during a run: as long as one of them scores a window, or commits."""


class World(NamedTuple):
    """Place of this process among those that another program has started.

    Attributes:
        launcher: Name of the program.
        rank: Number of this process, from 0.
        size: Number of processes.
        local_rank: Number of this process on its host.
        local_size: Number of processes of its host.
    """

    launcher: str
    rank: int
    size: int
    local_rank: int
    local_size: int

    @property
    def several_hosts(self) -> bool:
        """Whether the processes run on more than one host."""
        return self.size > self.local_size

    @classmethod
    def of(cls, env: Mapping[str, str]) -> World | None:
        """Return the world that environment variables describe; None if the process has none, or is alone in it.

        SLURM sets most of its variables in a batch script too, where there is one process; only srun sets the number of
        tasks of a step.
        """
        if "TORCHELASTIC_RUN_ID" in env:
            numbers = [env.get(name, "") for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")]
            launcher = "torchrun"
        else:
            each = env.get("SLURM_STEP_TASKS_PER_NODE", "").partition("(")[0].partition(",")[0]
            names = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID")
            numbers, launcher = [*(env.get(name, "") for name in names), each or "1"], "SLURM"
        if not all(number.isdecimal() for number in numbers):
            return None
        world = cls(launcher, *map(int, numbers))
        return world if world.size > 1 else None


@contextmanager
def connected(world: World) -> Iterator[None]:
    """Connect all processes of a world, for :func:`shared` and for Lightning.

    torch has one limit for both: to come together, and to wait for each other during the run. Here, all have come
    together when each has a key in the store of the first one.

    Raises:
        EngineError: They do not come together within :data:`MEET`.
    """
    from torch import distributed
    from torch.distributed.rendezvous import rendezvous

    if world.launcher == "SLURM":
        from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

        first = SLURMEnvironment.resolve_root_node_address(os.environ.get("SLURM_STEP_NODELIST", "127.0.0.1"))
        os.environ.setdefault("MASTER_ADDR", first)
        os.environ.setdefault("MASTER_PORT", str(15_000 + int(os.environ.get("SLURM_JOB_ID", "0")) % 10_000))
    try:
        store, rank, size = next(rendezvous("env://", world.rank, world.size, timeout=MEET))
        store.set(f"bsm-{rank}", "here")
        store.wait([f"bsm-{number}" for number in range(size)], MEET)
        store.set_timeout(RUN)
        distributed.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=RUN)
    except (RuntimeError, ValueError, OSError) as error:
        what = f"the {world.size} processes of {world.launcher} could not be connected: {error}"
        raise EngineError(what, fix="look whether all of them run, and reach the host of the first one") from error
    try:
        yield
    finally:
        distributed.destroy_process_group()


def shared(value: Any = None) -> Any:
    """Return what the first process of the world gives, in each of them."""
    from torch import distributed

    values = [pickle.dumps(value)]
    distributed.broadcast_object_list(values)
    return pickle.loads(values[0])


def host_of_leader(world: World) -> str | None:
    """Return the name under which other hosts reach this one; None if there is no other host."""
    return os.environ.get("MASTER_ADDR", socket.gethostname()) if world.several_hosts else None

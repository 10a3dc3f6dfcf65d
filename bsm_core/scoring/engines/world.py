"""A world of processes that another program has started: torchrun, or SLURM's srun.

A run in such a process starts no processes of its own. The first process leads: it holds the output folder, hands out
the work, keeps the manifest and commits. The others follow: they score what they are given and write its parts, so all
hosts must see the output folder.
"""

from __future__ import annotations

import os
import pickle
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from types import TracebackType
from typing import Any, NamedTuple, Self

from bsm_core.errors import BSMError, EngineError

MEET = timedelta(minutes=10)
"""Time in which all processes of a world must have come together."""
TOLD = timedelta(minutes=1)
"""Time in which the others must have come to be told an error of the first process."""
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
        has_own_gpu: Whether the program lets each process see one GPU alone.
    """

    launcher: str
    rank: int
    size: int
    local_rank: int
    local_size: int
    has_own_gpu: bool = False

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
            numbers = [env.get(name, "") for name in ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID")]
            numbers, launcher = [*numbers, _tasks_here(env)], "SLURM"
        if not all(number.isdecimal() for number in numbers):
            return None
        gpus = env.get("CUDA_VISIBLE_DEVICES", "")
        rank, size, local_rank, local_size = map(int, numbers)
        world = cls(launcher, rank, size, local_rank, local_size, bool(gpus) and "," not in gpus)
        return world if world.size > 1 else None


def _tasks_here(env: Mapping[str, str]) -> str:
    """Return the number of tasks of a step of SLURM on this host: ``2(x3),1`` are two on three hosts, one on another.

    Without the variables, a task is alone on its host.
    """
    counts: list[str] = []
    for each in env.get("SLURM_STEP_TASKS_PER_NODE", "").split(","):
        if found := re.fullmatch(r"([0-9]+)(?:\(x([0-9]+)\))?", each):
            counts += [found[1]] * int(found[2] or 1)
    node = env.get("SLURM_NODEID", "0")
    return counts[int(node)] if node.isdecimal() and int(node) < len(counts) else "1"


@contextmanager
def connected(world: World, within: timedelta | None = None) -> Iterator[None]:
    """Connect all processes of a world, for :func:`shared` and for Lightning.

    torch has one limit for both: to come together, and to wait for each other during the run. Here, all have come
    together when each has a key in the store of the first one.

    Args:
        world: The world.
        within: Time in which all must have come together. None: :data:`MEET`.

    Raises:
        EngineError: They do not come together.
    """
    within = within or MEET
    from torch import distributed
    from torch.distributed.rendezvous import rendezvous

    if world.launcher == "SLURM":
        from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

        first = SLURMEnvironment.resolve_root_node_address(os.environ.get("SLURM_STEP_NODELIST", "127.0.0.1"))
        os.environ.setdefault("MASTER_ADDR", first)
        os.environ.setdefault("MASTER_PORT", str(port_of(os.environ)))
    try:
        store, rank, size = next(rendezvous("env://", world.rank, world.size, timeout=within))
        store.set(f"bsm-{rank}", "here")
        store.wait([f"bsm-{number}" for number in range(size)], within)
        distributed.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=within)
        store.set_timeout(RUN)
        distributed.distributed_c10d._set_pg_timeout(RUN)  # torch has no public name for it
    except (RuntimeError, ValueError, OSError) as error:
        what = f"the {world.size} processes of {world.launcher} could not be connected: {error}"
        raise EngineError(what, fix="look whether all of them run, and reach the host of the first one") from error
    try:
        yield
    finally:
        distributed.destroy_process_group()


def port_of(env: Mapping[str, str]) -> int:
    """Return a port for a step of SLURM: that of another step, which may run at the same time, is another one."""
    numbers = (env.get(name, "0") for name in ("SLURM_JOB_ID", "SLURM_STEP_ID"))
    job, step = (int(number) if number.isdecimal() else 0 for number in numbers)
    return 15_000 + (job * 31 + step) % 10_000


class Leader:
    """Context manager of the first process of a world, which tells the others what the job is.

    If the block ends with an error before that, the others are told the error: they wait for nothing else.

    Args:
        world: The world.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self._connection = ExitStack()
        self._has_tried = self._has_told = False

    def connect(self, within: timedelta | None = None) -> None:
        """Connect all processes of the world.

        Raises:
            EngineError: They do not come together.
        """
        self._has_tried = True
        self._connection.enter_context(connected(self.world, within))

    def tell(self, value: Any) -> None:
        """Tell the others what the job is, an error, or what is committed if there is nothing to score."""
        shared(value)
        self._has_told = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._connection:
            if isinstance(error, Exception) and not self._has_told:
                reason = error if isinstance(error, BSMError) else EngineError(f"{type(error).__name__}: {error}")
                with suppress(RuntimeError, ValueError):  # they have failed too, or did not come
                    if not self._has_tried:
                        self.connect(TOLD)
                    self.tell(reason)


def shared(value: Any = None) -> Any:
    """Return what the first process of the world gives, in each of them."""
    from torch import distributed

    values = [pickle.dumps(value)]
    distributed.broadcast_object_list(values)
    return pickle.loads(values[0])


def require_all(problem: BSMError | None = None) -> None:
    """Check that no process of the world has a problem; each of them calls this function.

    Raises:
        BSMError: The problem of the first process that has one, raised in all of them.
    """
    from torch import distributed

    problems: list[BSMError | None] = [None] * distributed.get_world_size()
    distributed.all_gather_object(problems, problem)
    for first in filter(None, problems):
        raise first


def host_of_leader(world: World) -> str | None:
    """Return the name under which other hosts reach this one; None if there is no other host."""
    return os.environ.get("MASTER_ADDR", socket.gethostname()) if world.several_hosts else None

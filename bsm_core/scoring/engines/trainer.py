"""Lightning's Trainer, set up to predict and to do nothing else, its profiler, and the threads of the model."""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.profilers import Profiler
from lightning.pytorch.strategies import DDPStrategy
from torch import distributed

from bsm_core.errors import EngineError
from bsm_core.predictor import Predictor
from bsm_core.runtime.cpus import cores
from bsm_core.runtime.profile import MODEL, MOVING, SELF_CHECK, WRITING, Times
from bsm_core.scoring.engines.devices import DevicePlan
from bsm_core.scoring.engines.world import RUN, World

_IRRELEVANT_WARNINGS = (
    ".*isinstance.treespec, LeafSpec.* is deprecated",  # a matter between Lightning and torch
    ".*does not have many workers",  # advice for training loops
)

_SMALL_MODEL = 1 << 16
"""Number of parameters below which a model without text fields uses one thread."""


class DistributedUnavailableError(EngineError):
    """The processes of the run cannot connect to each other."""


class _DDP(DDPStrategy):
    def setup_environment(self) -> None:
        try:
            super().setup_environment()
            self.barrier("connected")  # NCCL connects only when the first message is sent
        except (RuntimeError, ValueError, OSError) as error:  # torch.distributed raises these, depending on its backend
            raise DistributedUnavailableError(f"the processes could not be connected: {error}") from error


class _Given(LightningEnvironment):
    """Environment of a process that another program has started.

    Where a process sees only its own GPU, as with SLURM, each process is a node of its own for Lightning.
    """

    creates_processes_externally = True

    def __init__(self, world: World, gpus: int | None) -> None:
        super().__init__()
        alone = gpus is not None and gpus < world.local_size
        self._world, self._local_rank = world, 0 if alone else world.local_rank
        self.processes = 1 if alone else world.local_size
        self.nodes = world.size // self.processes

    def local_rank(self) -> int:
        """Return the number of this process on its node."""
        return self._local_rank

    def node_rank(self) -> int:
        """Return the number of the node."""
        return self._world.rank // self.processes

    def global_rank(self) -> int:
        """Return the number of this process."""
        return self._world.rank

    def world_size(self) -> int:
        """Return the number of processes."""
        return self._world.size

    def set_global_rank(self, rank: int) -> None:
        """Do nothing: the number is given."""

    def set_world_size(self, size: int) -> None:
        """Do nothing: the number is given."""


def share_cores(processes: int) -> None:
    """Limit the threads of this process to its share of the cores, unless ``OMP_NUM_THREADS`` is set.

    Args:
        processes: Number of processes that share the cores.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, min(torch.get_num_threads(), cores() // processes)))


@contextmanager
def threads_for(predictor: Predictor) -> Iterator[None]:
    """Use one thread inside the block for a small model without text fields; change nothing for other models.

    Such a model computes a window in about a millisecond. A second thread saves a third of that. But the threads wait
    for each other after every layer, so when another process holds a core, a window takes a hundred milliseconds more.
    """
    threads = torch.get_num_threads()
    parameters = sum(parameter.numel() for parameter in predictor.model.parameters())
    if not predictor.preprocessor.pipelines and parameters < _SMALL_MODEL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence warnings and log lines of Lightning that do not concern the user."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)  # bsm's own summary names the devices
    try:
        with warnings.catch_warnings():
            for message in _IRRELEVANT_WARNINGS:
                warnings.filterwarnings("ignore", message)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


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
        "PartMaker.on_predict_batch_end": WRITING,
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


def trainer(plan: DevicePlan, callbacks: list[Callback], profiler: Clock | None = None) -> Trainer:
    """Return a Trainer that predicts on the devices of a plan, without logging and without checkpoints."""
    devices: int | list[int] = plan.count if plan.accelerator == "cpu" else list(plan.ids)
    environment, nodes = (
        LightningEnvironment(),
        1,
    )  # ignores the variables of a cluster: bsm starts its processes itself
    if plan.world:
        environment = given = _Given(plan.world, torch.cuda.device_count() if plan.accelerator == "gpu" else None)
        devices, nodes = given.processes, given.nodes
    return Trainer(
        accelerator=plan.accelerator,
        devices=devices,
        num_nodes=nodes,
        strategy=_DDP(timeout=RUN) if plan.count > 1 else "auto",
        plugins=[environment],
        callbacks=callbacks,
        profiler=profiler,
        benchmark=plan.accelerator == "gpu",
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )

"""Several processes, one a device, and somebody who watches them."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import threading
import time
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from bsm_core.errors import BSMError, EngineError
from bsm_core.plugins.hookspecs import Committed
from bsm_core.runtime.log import configure
from bsm_core.runtime.processes import without_interrupts
from bsm_core.scoring.engines.devices import DevicePlan, cores
from bsm_core.scoring.engines.local import DistributedUnavailableError, Job, score

log = logging.getLogger("bsm")


def run(job: Job, plan: DevicePlan) -> tuple[Committed, DevicePlan]:
    """Score a job on all devices of a plan.

    Returns:
        What was committed, and the devices that were used in the end: where the processes cannot be connected,
        the first device alone.

    Raises:
        BSMError: What went wrong on the rank that failed first.
    """
    if plan.count > 1:
        try:
            shared = _launch(job, plan)
            if shared.windows < plan.count:
                idle = "%d window(s) for %d processes: some had nothing to do; --window-rows makes windows smaller"
                log.info(idle, shared.windows, plan.count)
            return shared, plan
        except DistributedUnavailableError as error:
            plan = plan.single(f"{error.what}: using one device")
            log.warning("%s", plan.warning)
    committed = score(job, plan)
    if committed is None:
        raise EngineError("rank 0 committed nothing")
    return committed, plan


@dataclass(frozen=True)
class _Failed:
    """Why a rank failed.

    Attributes:
        error: What becomes of the run, if this is the cause.
        consequence: It is most likely not: torch.distributed raises such errors when another rank is gone.
        traceback: Where it was raised, if it was not meant for people.
    """

    error: BSMError
    consequence: bool = False
    traceback: str = ""


_SILENT = object()
_GRACE_S = 5.0
"""How long a rank that is gone may take to be seen so, once another has complained of it."""


@dataclass
class _Watched:
    """A rank as its watcher sees it."""

    number: int
    world: int
    process: Any
    pipe: Connection
    word: Any = _SILENT
    ended: bool = False

    def look(self) -> None:
        """Take its last word, if it has spoken; a long one holds the rank up until somebody listens."""
        self.ended = self.process.exitcode is not None  # before its word is asked for: it may speak, then end
        try:
            if not self.pipe.closed and self.pipe.poll():
                self.word = self.pipe.recv()
                self.pipe.close()
        except EOFError:
            self.pipe.close()

    @property
    def failure(self) -> _Failed | None:
        """Why the run must fail, for all this rank shows."""
        if isinstance(self.word, _Failed):
            return self.word
        if self.ended and self.word is _SILENT:
            return _Failed(_died(self.number, self.world, self.process.exitcode))
        return None


def _launch(job: Job, plan: DevicePlan) -> Committed:
    """Start one process a rank, wait for all of them, and end them all when one fails."""
    # Spawned, not forked: a forked child must not touch CUDA, and can hang on threads that were not copied.
    context = multiprocessing.get_context("spawn")
    port = _free_port()
    ranks: list[_Watched] = []
    try:
        for number in range(plan.count):
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_rank, args=(job, plan, number, port, theirs), name=f"bsm-rank-{number}")
            with without_interrupts():
                process.start()
            theirs.close()
            ranks.append(_Watched(number, plan.count, process, ours))
        return _watch(ranks)
    finally:
        for rank in ranks:  # Lightning answers SIGTERM with a broadcast to ranks that may be gone
            rank.process.kill()
            rank.process.join()


def _watch(ranks: list[_Watched]) -> Committed:
    """Wait for all ranks; the first that fails ends the run, with the error that was the cause."""
    deadline: float | None = None
    while True:
        failures = sorted(filter(None, (rank.failure for rank in ranks)), key=lambda failed: failed.consequence)
        running = [rank for rank in ranks if not rank.ended]
        if failures:
            deadline = deadline or time.monotonic() + _GRACE_S
            cause = failures[0]
            if not cause.consequence or not running or time.monotonic() > deadline:
                if cause.traceback:
                    log.error("%s\n%s", cause.error.what, cause.traceback)
                raise cause.error
        if not running:
            break
        pipes = [rank.pipe for rank in running if not rank.pipe.closed]
        wait([*pipes, *(rank.process.sentinel for rank in running)], deadline and max(0, deadline - time.monotonic()))
        for rank in running:
            rank.look()
    committed = ranks[0].word
    if not isinstance(committed, Committed):
        raise EngineError("rank 0 ended without committing")
    return committed


def _died(rank: int, world: int, code: int) -> EngineError:
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"
    return EngineError(
        f"rank {rank} of {world} {how}",
        fix="SIGKILL is most often the system running out of memory: lower --batch-size or --window-rows"
        if code == -signal.SIGKILL
        else "its own log lines stand above",
    )


def _rank(job: Job, plan: DevicePlan, rank: int, port: int, pipe: Connection) -> None:
    """The main function of one process."""
    threading.Thread(target=_end_with_watcher, daemon=True).start()
    configure()
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(plan.count),
        "NODE_RANK": "0",
        "LOCAL_RANK": str(rank),
    }
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, cores() // plan.count))
    try:
        pipe.send(score(job, plan, rank))
    except BSMError as error:
        pipe.send(_Failed(error, consequence=isinstance(error, DistributedUnavailableError)))
        raise SystemExit(1) from error
    except (Exception, SystemExit) as error:  # a plugin may leave with 0, and the others would wait for it
        failed = EngineError(f"rank {rank} of {plan.count} failed: {type(error).__name__}: {error}")
        # torch.distributed raises RuntimeErrors of many kinds when the other side of a connection is gone
        pipe.send(_Failed(failed, consequence=isinstance(error, RuntimeError), traceback=traceback.format_exc()))
        raise SystemExit(1) from error


def _end_with_watcher() -> None:
    """Nobody is left to answer to: a run whose watcher was killed must not commit."""
    watcher = multiprocessing.parent_process()
    if watcher is not None:
        watcher.join()
        os._exit(1)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])

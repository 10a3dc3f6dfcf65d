"""Several processes, one a device, and somebody who watches them."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import threading
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from bsm_core.engines.devices import DevicePlan
from bsm_core.engines.local import DistributedUnavailableError, Job, score
from bsm_core.errors import BSMError, EngineError
from bsm_core.log import configure
from bsm_core.sink import Committed

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
            return _launch(job, plan), plan
        except DistributedUnavailableError as error:
            plan = plan.single(f"{error.what}: using one device")
            log.warning("%s", plan.warning)
    committed = score(job, plan)
    if committed is None:
        raise EngineError("rank 0 committed nothing")
    return committed, plan


@dataclass
class _Watched:
    """A rank as its watcher sees it."""

    number: int
    process: Any
    pipe: Connection
    word: Any = None

    def listen(self) -> None:
        """Take its last word, if it has spoken; a long one holds the rank up until somebody listens."""
        try:
            if not self.pipe.closed and self.pipe.poll():
                self.word = self.pipe.recv()
                self.pipe.close()
        except EOFError:
            self.pipe.close()


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
            process.start()
            theirs.close()
            ranks.append(_Watched(number, process, ours))
        return _watch(ranks)
    finally:
        for rank in ranks:  # Lightning answers SIGTERM with a broadcast to ranks that may be gone; nothing is lost here
            rank.process.kill()
            rank.process.join()


def _watch(ranks: list[_Watched]) -> Committed:
    running = list(ranks)
    while running:
        pipes = [rank.pipe for rank in running if not rank.pipe.closed]
        ready = wait([*pipes, *(rank.process.sentinel for rank in running)])
        for rank in running:
            rank.listen()
        ended = [rank for rank in running if rank.process.sentinel in ready]
        # a rank that died is the cause; the others then fail at the barrier
        for rank in ended:
            rank.process.join()
            if rank.word is None and rank.process.exitcode != 0:
                raise _died(rank.number, len(ranks), rank.process.exitcode)
        for rank in running:
            if isinstance(rank.word, BSMError):
                raise rank.word
        running = [rank for rank in running if rank not in ended]
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
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all of them; the watcher ends us
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
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // plan.count))
    try:
        pipe.send(score(job, plan, rank))
    except BSMError as error:
        pipe.send(error)
        raise SystemExit(1) from error
    except (Exception, SystemExit) as error:  # a plugin may leave with 0, and the others would wait for it
        pipe.send(
            EngineError(
                f"rank {rank} of {plan.count} failed: {type(error).__name__}: {error}",
                details=traceback.format_exc().splitlines(),
            )
        )
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

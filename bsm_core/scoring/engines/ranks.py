"""Several processes, one for each device, and the process that started them and watches them.

Each process has a rank, Lightning's word for its number: 0, 1, 2, … The watcher waits until every process has sent one
message, its result or its error, and has ended. The first failure ends all of them.
"""

from __future__ import annotations

import dataclasses
import logging
import multiprocessing
import os
import pickle
import signal
import socket
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from bsm_core.artifact import Artifact, unpacked
from bsm_core.artifact.pretrained_files import downloading
from bsm_core.errors import BSMError, EngineError, Interrupted
from bsm_core.runtime.handout import GRACE_S, Address, Handout, present
from bsm_core.runtime.log import Lines, Style, configure, current_style
from bsm_core.runtime.memory import explaining_memory, limit_in_words
from bsm_core.runtime.processes import call_pickled, how_it_ended, without_interrupts, without_main_module
from bsm_core.runtime.profile import Event, is_followed, is_shown, listening, pass_on
from bsm_core.runtime.signals import at_once, interruptible
from bsm_core.scoring.engines.devices import DevicePlan, plan_world
from bsm_core.scoring.engines.finish import RunResult
from bsm_core.scoring.engines.local import score
from bsm_core.scoring.engines.trainer import DistributedUnavailableError, share_cores
from bsm_core.scoring.engines.work import Job, require_same_code
from bsm_core.scoring.engines.world import Leader, World, connected, host_of_leader, require_all, shared
from bsm_core.scoring.output.sink import RUN_AGAIN
from bsm_core.scoring.plan import differences
from bsm_core.scoring.settings import Settings

log = logging.getLogger("bsm")


def run(job: Job, plan: DevicePlan) -> tuple[RunResult, DevicePlan]:
    """Score a job on all devices of a plan, in processes of its own.

    Returns:
        The prediction file with its counts, and the devices that were used: the first device alone if the processes
        could not be connected.

    Raises:
        BSMError: The error of the process that failed first.
    """
    if plan.count > 1:
        try:
            committed = _launch(job, plan)
            if committed.windows < plan.count:
                idle = "%d window(s) for %d processes: some processes had no rows; set a smaller --window-rows"
                log.warning(idle, committed.windows, plan.count)
            return committed, plan
        except DistributedUnavailableError as error:
            plan = plan.single(f"{error.what}: using one device")
            log.warning("%s", plan.warning)
    share_cores(1)
    return _committed(score(job, plan)), plan


def _committed(found: RunResult | None) -> RunResult:
    if found is None:
        raise EngineError("the process committed no predictions", fix=RUN_AGAIN)
    return found


def lead(leader: Leader, job: Job, plan: DevicePlan) -> tuple[RunResult, DevicePlan]:
    """Score a job as the first process of a world, and give the others their work.

    Returns:
        The prediction file with its counts, and the devices.

    Raises:
        BSMError: The error of the process that failed first.
    """
    world = leader.world
    share_cores(world.local_size)
    with Handout(job.work(plan), world.size, host_of_leader(world), take=job.sink.add) as handout:
        try:
            leader.tell((job, plan, handout.address))
            require_all()
            committed = score(job, plan, 0, handout.address)
        except Interrupted as error:  # by a launcher that ends all processes when one has failed
            error.__cause__ = handout.failure()
            raise
        except RuntimeError as error:  # torch.distributed raises it when the other end of a connection is gone
            own = isinstance(error, BSMError) and not isinstance(error, DistributedUnavailableError)
            if own or (failure := handout.failure(GRACE_S)) is None:
                raise
            raise failure from error
        with suppress(RuntimeError):  # a process that is lost now has done its work
            shared(committed)
    return _committed(committed), plan


def follow(settings: Settings, world: World) -> RunResult:
    """Score windows as one of the other processes of a world; return what the first one has committed.

    Args:
        settings: Settings of this process from flags and variables, which must be those of the first one.
        world: The world.

    Raises:
        BSMError: The data, the artifact, a plugin or a device is at fault; this process has other settings than the
            first one; or the first one has failed.
    """
    name = f"{_name(world.rank, world.size)}, on host {socket.gethostname()},"
    share_cores(world.local_size)
    with downloading(settings.allow_downloads), connected(world):
        try:
            told = shared()
            if isinstance(told, BSMError):
                raise told
            if isinstance(told, RunResult):  # there is nothing to score
                return told
            job, plan, address = told
            with _present(address, name), unpacked(settings.model_dir) as folder:
                job = dataclasses.replace(job, artifact=Artifact.load(folder))
                _require_same(job, plan, settings.with_artifact(job.artifact.raw_config), world)
                score(job, dataclasses.replace(plan, world=world), world.rank, address)
            return _committed(shared())
        except BSMError:
            raise
        except RuntimeError as error:  # torch.distributed raises it when the other end of a connection is gone
            what = f"{_name(world.rank, world.size)} lost its connection to the others: {error}"
            raise EngineError(what, fix="see the log of the first process") from error


@contextmanager
def _present(address: Address, name: str) -> Iterator[None]:
    """Be known to the first process by a name, or tell it why this process cannot be: it would only see it end.

    Raises:
        EngineError: This process, or another one, cannot reach the first one.
    """
    with ExitStack() as stack:
        problem = None
        try:
            stack.enter_context(present(address, name))
        except EngineError as error:
            problem = error
        require_all(problem)
        yield


def _require_same(job: Job, plan: DevicePlan, settings: Settings, world: World) -> None:
    """Check that this process would score as the first one does.

    Raises:
        EngineError: It has other settings, devices, code or another artifact; the error names the differences.
    """
    name = f"{_name(world.rank, world.size)}, on host {socket.gethostname()},"
    # The artifact may lie elsewhere: its content is compared.
    given, own = (
        {"settings": each.model_dump(mode="json", exclude={"model_dir"})} for each in (job.settings, settings)
    )
    if changed := differences(given, own):
        fix = f"give all processes of {world.launcher} the same flags and variables"
        raise EngineError(f"{name} has other settings than the first one", details=changed, fix=fix)
    if plan_world(settings, world, torch.cuda.device_count()).accelerator != plan.accelerator:
        what = (
            f"{name} has no {plan.accelerator.upper()} as the first one has"
            if plan.accelerator == "gpu"
            else (f"{name} has a GPU, and the first one has none")
        )
        raise EngineError(what, fix="start all processes on hosts of one kind, or give --device cpu")
    require_same_code(job)


@dataclass(frozen=True)
class _RankFailure:
    """Message of a rank that failed.

    Attributes:
        error: Error of the run, if this failure is the cause.
        consequence: Whether the failure most likely follows from another: torch.distributed raises such errors when
            another rank has ended.
        terminated: Whether SIGTERM ended the rank.
        traceback: Traceback of an error that is not a :class:`BSMError`; else empty.
    """

    error: BSMError
    consequence: bool = False
    terminated: bool = False
    traceback: str = ""


_NO_MESSAGE = object()
_CONNECT_S = 10.0
"""Seconds that a connection to this machine may take."""
_SIGNAL_S = 0.5
"""Seconds to wait for our own SIGTERM after that of a rank: whoever stops a run often sends it to all its processes."""


@dataclass
class _WatchedRank:
    """State of one rank, as its watcher sees it.

    Attributes:
        name: Name of the process in messages.
        process: The process.
        pipe: Receiving end of its pipe; closed once the message has been received or cannot come any more.
        message: The result of :func:`score`, a :class:`_RankFailure`, or ``_NO_MESSAGE``.
        ended: Whether the process has ended.
    """

    name: str
    process: Any
    pipe: Connection
    message: Any = _NO_MESSAGE
    ended: bool = False

    def poll(self) -> None:
        """Receive the message if it is there; a process cannot end before a long message has been received."""
        # The exit code comes first: a process may send its message and end between the two checks.
        self.ended = self.process.exitcode is not None
        try:
            while not self.pipe.closed and self.pipe.poll():
                message = self.pipe.recv()
                if isinstance(message, Event):
                    pass_on(message)
                    continue
                self.message = message
                self.pipe.close()
        except EOFError:
            self.pipe.close()

    @property
    def failure(self) -> _RankFailure | None:
        """Failure that this rank has reported, or that its end without a message implies; None if there is none."""
        if isinstance(self.message, _RankFailure):
            return self.message
        if not self.ended or self.message is not _NO_MESSAGE:
            return None
        code = self.process.exitcode
        fix = "see the log lines of that process above"
        if code in (-signal.SIGKILL, -signal.SIGBUS):
            fix = "most often memory or shared memory (/dev/shm) has run out: lower --batch-size or --window-rows"
        details = [words] if (words := limit_in_words()) else []
        error = EngineError(f"{self.name} {how_it_ended(code)}", details=details, fix=fix)
        return _RankFailure(error, terminated=_terminated(code))


def _launch(job: Job, plan: DevicePlan) -> RunResult:
    """Start one process for each device, give them work, wait for all of them, and end them all when one fails."""
    # Spawn, not fork: a forked child cannot use CUDA, and may wait for locks of threads that it does not have.
    context = multiprocessing.get_context("spawn")
    port = _free_port()
    ranks: list[_WatchedRank] = []
    with Handout(job.work(plan), ahead=plan.count, take=job.sink.add) as handout:
        try:
            for rank in range(plan.count):
                receiver, sender = context.Pipe(duplex=False)
                told = current_style(), is_shown() if is_followed() else None
                content = pickle.dumps((_main, (job, plan, rank, handout.address, port, told)))
                process = context.Process(target=call_pickled, args=(content, sender), name=f"bsm-rank-{rank}")
                # Before the process starts: a signal may end the next lines.
                watched = _WatchedRank(_name(rank, plan.count), process, receiver)
                ranks.append(watched)
                with without_interrupts(), without_main_module():
                    process.start()
                sender.close()
            return _watch(ranks)
        finally:
            for process in (watched.process for watched in ranks if watched.process.pid is not None):
                process.kill()  # not terminate(): Lightning answers SIGTERM with a broadcast to ranks that may be gone
                process.join()


def _watch(ranks: list[_WatchedRank]) -> RunResult:
    """Wait for the result of rank 0, which has committed the predictions of all, and return it.

    The other ranks have nothing left to do then, and libraries take seconds to end.

    Raises:
        BSMError: A rank failed. A cause is raised at once, a consequence only if no cause shows up: when all ranks
            have ended, or after ``GRACE_S`` seconds.
    """
    deadline: float | None = None
    while not isinstance(ranks[0].message, RunResult):
        failures = sorted(filter(None, (rank.failure for rank in ranks)), key=lambda failure: failure.consequence)
        running = [rank for rank in ranks if not rank.ended]
        if failures:
            deadline = deadline or time.monotonic() + GRACE_S
            first = failures[0]
            if not first.consequence or not running or time.monotonic() > deadline:
                if first.terminated:
                    time.sleep(_SIGNAL_S)  # ended by the exception that the handler of the signal raises
                if first.traceback:
                    log.error("%s\n%s", first.error.what, Lines(first.traceback))
                raise first.error
        if not running:
            raise EngineError("the first process ended without committing the predictions", fix=RUN_AGAIN)
        pipes = [rank.pipe for rank in running if not rank.pipe.closed]
        wait([*pipes, *(rank.process.sentinel for rank in running)], deadline and max(0, deadline - time.monotonic()))
        for rank in running:
            rank.poll()
    return ranks[0].message


def _terminated(exitcode: int) -> bool:
    return exitcode in (-signal.SIGTERM, 128 + signal.SIGTERM)


def _name(rank: int, world: int) -> str:
    return f"process {rank + 1} of {world} (rank {rank})"


def _main(
    job: Job,
    plan: DevicePlan,
    rank: int,
    address: Address,
    port: int,
    told: tuple[Style, bool | None],
    pipe: Connection,
) -> None:
    """Main function of the process of one rank: send the result of :func:`score`, or a :class:`_RankFailure`.

    ``told`` says how log lines are written, and whether the watcher shows events. None: it does not want them; else
    they are sent before the result.
    """
    configure(told[0])
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(plan.count),
        "NODE_RANK": "0",
        "LOCAL_RANK": str(rank),
    }
    share_cores(plan.count)
    try:
        # Lightning answers SIGTERM with a broadcast that the other ranks do not expect, and waits for ever.
        with interruptible(), at_once(), explaining_memory():
            with nullcontext() if told[1] is None else listening(pipe.send, shows=told[1]):
                result = score(job, plan, rank, address)
            pipe.send(result)
    except BSMError as error:
        pipe.send(_RankFailure(error, consequence=isinstance(error, DistributedUnavailableError)))
        raise SystemExit(1) from error
    except (Exception, SystemExit) as error:  # SystemExit: a plugin may call sys.exit(0), and the others would wait
        what = f"{_name(rank, plan.count)} failed: {type(error).__name__}: {error}"
        failed = EngineError(what, fix="see the traceback in the log above")
        # torch.distributed raises several kinds of RuntimeError when the other end of a connection is gone.
        consequence = isinstance(error, RuntimeError)
        pipe.send(_RankFailure(failed, consequence, traceback=traceback.format_exc()))
        raise SystemExit(1) from error


def _free_port() -> int:
    """Return a port of this machine to which a process can connect.

    Raises:
        DistributedUnavailableError: No process can: in some sandboxes there is no loopback device. torch.distributed
            would try it for ten minutes.
    """
    try:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            address = listener.getsockname()
            socket.create_connection(address, timeout=_CONNECT_S).close()
            return int(address[1])
    except OSError as error:
        raise DistributedUnavailableError(f"the processes could not be connected: 127.0.0.1: {error}") from error

"""A connection to a cluster of Ray, or a cluster of this machine alone that ends with the run; what its errors mean."""

from __future__ import annotations

import logging
import os
import re
import shutil
import signal
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from bsm_core.errors import EngineError, UsageError
from bsm_core.runtime.cpus import cores
from bsm_core.runtime.signals import ENDING
from bsm_core.scoring.engines.devices import DevicePlan, plan_devices
from bsm_core.scoring.settings import Settings

if TYPE_CHECKING:
    from ray.exceptions import RayError

log = logging.getLogger("bsm")

_JOIN_S, _PAUSE_S = 600.0, 1.0  # for the machines of a cluster to join it: `ray up` returns before they have
_ANSWER_S = 10.0  # for the address of a cluster to answer: Ray itself tries for some minutes

_MEMORY = "most often memory has run out: lower --batch-size or --window-rows, or start fewer actors"
_SAME = "install the same version of Python, of bsm with its extras, and of the plugins on all hosts of the cluster"
_COLOR, _MARKS = re.compile(r"\x1b\[[0-9;]*m"), " ^~"
_MOST_LINES = 8

_REACH = (
    "look whether the cluster runs (ray status); one with token authentication needs the variables RAY_AUTH_MODE=token "
    "and RAY_AUTH_TOKEN here, with its token"
)


@contextmanager
def connected(settings: Settings, *, waits: bool = True) -> Iterator[DevicePlan]:
    """Connect to the cluster of ``--ray-address``, or start one on this machine; disconnect or end it afterwards.

    If ``--num-actors`` is set, wait until so many machines have joined the cluster that the actors fit.

    Args:
        settings: Settings, of which ``ray_address``, ``num_actors`` and those of devices matter.
        waits: Whether to wait for machines; else those count that are there now.

    Yields:
        The devices of the actors.

    Raises:
        UsageError: Ray is not installed, or the settings contradict each other.
        EngineError: Ray cannot be started, or the cluster cannot be reached or has no room for an actor.
    """
    if find_spec("ray") is None:
        raise UsageError("--engine ray needs Ray", fix="pip install 'bsm-core[ray]'")
    if not isinstance(settings.device, str) or settings.devices:
        fix = "give --num-actors N; each actor has one device, and --device cpu or --device gpu says which"
        raise UsageError("--engine ray takes no number or list of devices", fix=fix)
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_TQDM_PATCH_PRINT": "0"}  # else Ray replaces print()
    import ray

    address = settings.ray_address
    if address:
        _require_answer(address)
    options: dict[str, Any] = {"namespace": "bsm", "log_to_driver": False, "logging_level": logging.ERROR}
    here: dict[str, Any] = {} if address else {"num_cpus": cores(), "include_dashboard": False}
    handlers = {number: signal.getsignal(number) for number in ENDING}
    try:
        context: Any = ray.init(address or "local", **options, **here)
    except Exception as error:  # Ray has no class for them: a node that does not come up is an "Exception"
        where = address or "this machine"
        fix = _REACH if address else "see the log of Ray under /tmp/ray"
        reason = " ".join(str(error).split())  # Ray's own text has several lines
        raise EngineError(f"Ray cannot be used: {reason}", where=where, fix=fix) from error
    finally:
        for number, handler in handlers.items():  # Ray sets handlers of its own
            signal.signal(number, handler)
    try:
        wait_s = _JOIN_S if waits and address and settings.num_actors else 0.0
        yield _wait_for_room(settings, time.monotonic() + wait_s)
    finally:
        ray.shutdown()
    if not address:  # Ray leaves its logs, which a run that has succeeded does not need
        shutil.rmtree(context.address_info["session_dir"], ignore_errors=True)


def _require_answer(address: str) -> None:
    """Require that something listens at ``HOST:PORT``, with or without ``ray://``; ``auto`` is left to Ray."""
    try:
        place = urlsplit(address if "://" in address else f"//{address}")
        host, port = place.hostname, place.port
    except ValueError:  # Ray says what is wrong with such an address
        return
    if host and port:
        try:
            socket.create_connection((host, port), timeout=_ANSWER_S).close()
        except OSError as error:
            raise EngineError(f"Ray's cluster does not answer: {error}", where=address, fix=_REACH) from error


def reason_of(death: RayError) -> str:
    """Return in one line why an actor has died: the exception that ended it, or what Ray has seen."""
    lines, raised = _lines(death)
    own = [line for line in lines if not line.startswith("\t")]  # the others are the actor's ids
    return own[-1] if raised else own[min(1, len(own) - 1)].partition(". ")[0]


def error_of(death: RayError, what: str, settings: Sequence[Mapping[str, str]] = ()) -> EngineError:
    """Return the error of a run that actors have ended, with the words of Ray and with advice.

    Args:
        death: What the last actor has died of.
        what: The problem, in one sentence.
        settings: Settings that help as well.
    """
    lines, raised = _lines(death)
    if raised and len(lines) > _MOST_LINES:  # the first one has the host
        lines = [lines[0], *lines[1 - _MOST_LINES :]]
    fix = _SAME if raised and not lines[-1].startswith("MemoryError") else _MEMORY
    return EngineError(what, details=lines[:_MOST_LINES], fix=fix, settings=settings)


def _lines(death: RayError) -> tuple[list[str], bool]:
    """Return the lines of an error of Ray, without colors, and whether it is an exception that Python raised."""
    from ray.exceptions import RayTaskError

    lines = [line for line in _COLOR.sub("", str(death)).splitlines() if line.strip(_MARKS)]
    raised = isinstance(death, RayTaskError) or getattr(death, "actor_init_failed", False)
    return lines or [type(death).__name__], raised


def _wait_for_room(settings: Settings, deadline: float) -> DevicePlan:
    import ray

    waits = False
    while True:
        hosts = [host["Resources"] for host in ray.nodes() if host["Alive"]]  # type: ignore[no-untyped-call]
        in_time = time.monotonic() < deadline
        try:
            plan = plan_actors(settings, [(int(host.get("CPU", 0)), int(host.get("GPU", 0))) for host in hosts])
            missing = plan.warning if plan.accelerator != plan_devices(settings, 1).accelerator else None
        except EngineError as error:
            if not in_time:
                raise
            missing = error.what
        if not (missing and in_time):
            if plan.warning:
                log.warning("%s", plan.warning)
            return plan
        if not waits:
            log.info("%s: waiting for machines to join it", missing)
            waits = True
        time.sleep(_PAUSE_S)


def plan_actors(settings: Settings, hosts: Sequence[tuple[int, int]]) -> DevicePlan:
    """Return the devices of the actors: a GPU for each, or cores. The actors of a host share its cores evenly.

    Without any GPU, a run that asks for GPUs uses cores, with a warning.

    Args:
        settings: See :func:`connected`.
        hosts: Number of cores and of GPUs of each host.

    Raises:
        EngineError: The hosts have no room for so many actors.
    """
    one = plan_devices(settings, sum(gpus for _, gpus in hosts))
    if one.accelerator == "gpu":
        with_gpus = [(cores, gpus) for cores, gpus in hosts if gpus]
        room, each = sum(gpus for _, gpus in with_gpus), min(cores // gpus for cores, gpus in with_gpus)
        count = settings.num_actors or room
    else:
        room, count = sum(cores for cores, _ in hosts), settings.num_actors or 1
        sizes = range(max((cores for cores, _ in hosts), default=0), 0, -1)
        each = next((size for size in sizes if sum(cores // size for cores, _ in hosts) >= count), 0)
    if count > room:
        what = "GPU(s)" if one.accelerator == "gpu" else "core(s)"
        fix = f"set --num-actors {max(1, room)} or less, or let more machines join the cluster"
        raise EngineError(f"{count} actors do not fit: the cluster has {room} {what}", fix=fix)
    return DevicePlan(one.accelerator, tuple(range(count)), one.warning, actors=True, cores=each)

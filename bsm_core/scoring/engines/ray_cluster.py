"""A connection to a cluster of Ray, or a cluster of this machine alone that ends with the run."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from bsm_core.errors import EngineError, UsageError
from bsm_core.runtime.cpus import cores
from bsm_core.runtime.signals import ENDING
from bsm_core.scoring.engines.devices import DevicePlan, plan_devices
from bsm_core.scoring.settings import Settings

log = logging.getLogger("bsm")

_REACH = "look whether the cluster runs (ray status); one with token authentication needs the variable RAY_AUTH_TOKEN"


@contextmanager
def connected(settings: Settings) -> Iterator[DevicePlan]:
    """Connect to the cluster of ``--ray-address``, or start one on this machine; disconnect or end it afterwards.

    Args:
        settings: Settings, of which ``ray_address``, ``num_actors`` and those of devices matter.

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
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray

    address = settings.ray_address
    here: dict[str, Any] = {} if address else {"num_cpus": cores(), "include_dashboard": False}
    handlers = {number: signal.getsignal(number) for number in ENDING}
    try:
        ray.init(address or "local", log_to_driver=False, logging_level=logging.ERROR, namespace="bsm", **here)
    except (ConnectionError, RuntimeError, ValueError, OSError, TimeoutError) as error:
        where = address or "this machine"
        fix = _REACH if address else "see the log of Ray under /tmp/ray"
        raise EngineError(f"Ray cannot be used: {error}", where=where, fix=fix) from error
    finally:
        for number, handler in handlers.items():  # Ray sets handlers of its own
            signal.signal(number, handler)
    try:
        resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        yield _plan(settings, int(resources.get("CPU", 0)), int(resources.get("GPU", 0)))
    finally:
        ray.shutdown()


def _plan(settings: Settings, cpus: int, gpus: int) -> DevicePlan:
    """Return the devices of the actors: GPUs of the cluster, or its cores, shared evenly by the actors."""
    one = plan_devices(settings, gpus)
    count = settings.num_actors or (gpus if one.accelerator == "gpu" else 1)
    if one.warning:
        log.warning("%s", one.warning)
    room = gpus if one.accelerator == "gpu" else cpus
    if count > room:
        what = (
            f"{count} actors do not fit: the cluster has {room} {'GPU(s)' if one.accelerator == 'gpu' else 'core(s)'}"
        )
        raise EngineError(what, fix=f"set --num-actors {max(1, room)} or less, or let more machines join the cluster")
    return DevicePlan(one.accelerator, tuple(range(count)), cores=max(1, cpus // count))

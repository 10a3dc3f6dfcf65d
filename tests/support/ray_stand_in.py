"""Stand-in for the functions of Ray that the driver calls. Its actors are threads, so a run takes a second.

An actor dies when one of its methods raises a :class:`ray.exceptions.RayError`. Nothing is pickled on the way.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, Future, InvalidStateError, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from types import MappingProxyType
from typing import Any
from unittest import mock

from ray.exceptions import RayError

from bsm_core.scoring.engines import ray_cluster, ray_driver
from bsm_core.scoring.engines.devices import DevicePlan


class RayStandIn:
    """The functions of the module ``ray`` that the driver calls.

    Attributes:
        actors: All actors that were started, the dead ones too.
        room: Number of actors that find a place.
        hosts: Resources of each host.
        free: Resources that are free.
    """

    def __init__(self, room: int, hosts: Sequence[Mapping[str, float]], free: Mapping[str, float]) -> None:
        self.actors: list[ThreadActor] = []
        self.room, self.hosts, self.free = room, hosts, free

    def put(self, value: Any) -> Any:
        """Return the value, in the place of a reference."""
        return value

    def remote(self, kind: type[Any]) -> _Kind:
        """Return what makes actors of a class."""
        return _Kind(self, kind)

    def wait(self, references: Sequence[Any], num_returns: int = 1, timeout: float | None = None) -> tuple[Any, Any]:
        """Return the references that are there, and the others."""
        if timeout != 0:
            wait(references, timeout, FIRST_COMPLETED if num_returns == 1 else ALL_COMPLETED)
        done = [reference for reference in references if reference.done()][:num_returns]
        return done, [reference for reference in references if reference not in done]

    def get(self, reference: Future[Any]) -> Any:
        """Return what a method has returned."""
        return reference.result()

    def kill(self, actor: ThreadActor) -> None:
        """Let an actor die."""
        actor.die(RayError("killed"))

    def nodes(self) -> list[dict[str, Any]]:
        """Return the hosts."""
        return [{"Alive": True, "Resources": host} for host in self.hosts]

    def available_resources(self) -> Mapping[str, float]:
        """Return what is free."""
        return self.free


class _Kind:
    def __init__(self, ray: RayStandIn, kind: type[Any]) -> None:
        self._ray, self._kind, self._options = ray, kind, dict[str, Any]()

    def options(self, **options: Any) -> _Kind:
        self._options = options
        return self

    def remote(self, *arguments: Any) -> ThreadActor:
        placed = len(self._ray.actors) < self._ray.room
        actor = ThreadActor(self._kind(*arguments) if placed else None, self._options["max_concurrency"])
        self._ray.actors.append(actor)
        return actor


class ThreadActor:
    """An actor with its threads.

    Args:
        instance: The object whose methods are called; None: the actor has found no place.
        threads: Number of methods that run at once.
    """

    def __init__(self, instance: Any, threads: int) -> None:
        self._instance, self._threads = instance, ThreadPoolExecutor(threads)
        self._asked: list[Future[Any]] = []
        self._death: RayError | None = None

    def __getattr__(self, name: str) -> _Method:
        return _Method(self, name)

    def call(self, name: str, *arguments: Any) -> Future[Any]:
        """Call a method; return the reference of its answer."""
        answer = Future[Any]()
        self._asked.append(answer)
        if self._death:
            answer.set_exception(self._death)
        elif self._instance is None:
            return answer
        elif name == "__ray_ready__":
            answer.set_result(None)
        else:
            self._threads.submit(self._run, getattr(self._instance, name), arguments, answer)
        return answer

    def _run(self, method: Callable[..., Any], arguments: tuple[Any, ...], answer: Future[Any]) -> None:
        try:
            value = method(*arguments)
        except RayError as error:
            self.die(error)
        except BaseException as error:  # noqa: BLE001
            answer.set_exception(error)
        else:
            with suppress(InvalidStateError):  # the actor has died
                answer.set_result(value)

    def die(self, error: RayError) -> None:
        """Answer all calls with an error, those that come too."""
        self._death = self._death or error
        for answer in self._asked:
            with suppress(InvalidStateError):
                answer.set_exception(self._death)

    def end(self) -> None:
        """End the threads; those of a dead actor still wait for work."""
        if self._instance is not None:
            self._instance.finish()
        self._threads.shutdown()


class _Method:
    def __init__(self, actor: ThreadActor, name: str) -> None:
        self._actor, self._name = actor, name

    def remote(self, *arguments: Any) -> Future[Any]:
        return self._actor.call(self._name, *arguments)


@contextmanager
def threads_for_actors(
    kind: type[Any],
    actors: int,
    room: int = sys.maxsize,
    hosts: Sequence[Mapping[str, float]] = (),
    free: Mapping[str, float] = MappingProxyType({}),
) -> Iterator[RayStandIn]:
    """Let runs with ``--engine ray`` use actors of a class that are threads, inside the block.

    Args:
        kind: Class of the actors.
        actors: Their number; each has one core.
        room, hosts, free: See :class:`RayStandIn`.
    """
    ray, plan = RayStandIn(room, hosts, free), DevicePlan("cpu", tuple(range(actors)), cores=1, actors=True)

    @contextmanager
    def connected(settings: Any, *, waits: bool = True) -> Iterator[DevicePlan]:
        yield plan

    with (
        mock.patch.object(ray_driver, "ray", ray),
        mock.patch.object(ray_driver, "WindowActor", kind),
        mock.patch.object(ray_cluster, "connected", connected),
    ):
        try:
            yield ray
        finally:
            for actor in ray.actors:
                actor.end()

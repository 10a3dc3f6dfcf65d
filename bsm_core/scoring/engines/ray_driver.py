"""Ray engine: actors score windows, and this process hands them out and writes the parts that come back.

The driver owns the output. It gives each actor two pieces of work at a time, so that an actor never waits, and writes
what has come back together. The parts of a large split come back bit by bit, and its actor has no other work meanwhile.
An actor that dies is replaced. What it had and has not returned is given again in smaller pieces, each to an actor that
has nothing else, so that a window that kills its actor is told from the others.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from typing import Any

import ray
from ray.exceptions import RayError

from bsm_core.errors import BSMError, DataError, EngineError
from bsm_core.runtime import signals
from bsm_core.runtime.log import Lines
from bsm_core.runtime.profile import Times, notify
from bsm_core.scoring.engines.callbacks import Progress
from bsm_core.scoring.engines.devices import DevicePlan
from bsm_core.scoring.engines.finish import RunResult, finish
from bsm_core.scoring.engines.ray_actor import PORTION, Answer, Readiness, WindowActor, archive_of
from bsm_core.scoring.engines.ray_cluster import error_of, reason_of
from bsm_core.scoring.engines.scorer import Scorer
from bsm_core.scoring.engines.work import Job
from bsm_core.scoring.output.part import PackedPart
from bsm_core.scoring.output.row_issues import BadRowLimit
from bsm_core.tables.splits import known_rows
from bsm_core.tables.windows import Split, Window

log = logging.getLogger("bsm")

IN_FLIGHT = 2
"""Number of pieces of work that an actor has at once."""
GIVEN_AGAIN = 3
"""How often a window is given again after an actor has died with it; more often only with more than 4,096 others."""
_PIECES = 16
"""Number of pieces in which the work of an actor that has died is given again."""
_STARTS = 3
"""How often an actor may die while it starts."""
_LOOK_S = 20.0
"""Seconds after which it is said that an actor has found no place in the cluster."""
_CLOSE_S = 0.5
"""Seconds that actors have to clean up after an error: a run ends within five seconds of a signal."""
_SIGNAL_S = 0.5
"""Seconds between two looks for a signal: Python's handlers do not run while Ray waits."""


def run(job: Job, plan: DevicePlan) -> tuple[RunResult, DevicePlan]:
    """Score a job with actors, in the cluster to which this process is connected.

    Returns:
        The prediction file with its counts, and the devices that were used.

    Raises:
        BSMError: The data, the artifact, a plugin or a device is at fault, or actors die again and again.
    """
    scorer = Scorer(job, plan)
    driver = Driver(scorer, WindowActor)
    try:
        driver.score()
    except BaseException as error:
        driver.give_up()
        if isinstance(error, DataError):
            scorer.require_unchanged()  # explains what is odd in a file that was changed while it was read
        raise
    scorer.chosen, scorer.difference = driver.readiness.chosen, driver.readiness.difference
    scorer.times.add(driver.times)
    return finish(scorer), plan


@dataclasses.dataclass
class _Piece:
    """Work that is given to an actor.

    Attributes:
        item: A split or a window; None: the actor opens the artifact, or ends.
        deaths: Number of actors that have died with it.
        done: Number of its windows whose parts have come back.
    """

    item: Split | Window | None
    deaths: int = 0
    done: int = 0

    @property
    def left(self) -> range:
        """Numbers of the windows whose parts have not come back."""
        if isinstance(self.item, Split):
            return range(self.item.first + self.done, self.item.first + self.item.windows)
        return range(self.item.index + self.done, self.item.index + 1) if self.item else range(0)


@dataclasses.dataclass(eq=False)
class _Worker:
    """An actor, as its driver sees it.

    Attributes:
        name: Name in messages.
        actor: Handle of the actor.
        placed: Reference that is there when the actor has its place in the cluster.
        busy: What it has not answered yet, by the reference of the answer.
        ready: Whether it has opened the artifact.
    """

    name: str
    actor: Any
    placed: Any
    ready: bool = False
    busy: dict[Any, _Piece] = dataclasses.field(default_factory=dict)

    def start(self, earlier: Mapping[str, str]) -> None:
        """Let the actor open the artifact."""
        self.busy[self.actor.start.remote(earlier)] = _Piece(None)

    def give(self, piece: _Piece) -> None:
        """Give the actor some work."""
        self.busy[self.actor.score.remote(piece.item)] = piece

    def take(self, piece: _Piece, answer: Answer) -> list[PackedPart]:
        """Return the parts of an answer, and ask for those that are left."""
        parts: list[PackedPart] = answer.value or []
        piece.done += len(parts)
        if piece.left and answer.error is None:
            self.busy[self.actor.more.remote(piece.item, piece.done)] = piece
        return parts

    @property
    def pieces(self) -> list[_Piece]:
        """The work that it has."""
        return [piece for piece in self.busy.values() if piece.item is not None]

    @property
    def is_full(self) -> bool:
        """Whether the actor takes no further work now."""
        enough = len(self.pieces) >= IN_FLIGHT or sum(len(piece.left) for piece in self.pieces) > PORTION
        return not self.ready or enough or any(piece.deaths for piece in self.pieces)


class Driver:
    """Loop that hands out work to actors and writes what they return.

    Args:
        scorer: The predictor, checked against the data, with the job and the devices of the actors.
        kind: Class of the actors.

    Attributes:
        readiness: What the first actor has chosen, and the largest difference that an actor has found.
        times: Times of all actors.
    """

    def __init__(self, scorer: Scorer, kind: type[Any]) -> None:
        self._job, self._plan = job, plan = scorer.job, scorer.plan
        self._scorer = scorer
        self._needs = {"CPU": plan.cores, "GPU": int(plan.accelerator == "gpu")}
        options = {"num_cpus": self._needs["CPU"], "num_gpus": self._needs["GPU"], "max_concurrency": IN_FLIGHT + 1}
        self._kind = ray.remote(kind).options(**options)
        self._looked, self._archive = time.monotonic(), ray.put(archive_of(job.artifact))
        self._workers: list[_Worker] = []
        self._again: deque[_Piece] = deque()
        self._failed_starts = Counter[int]()
        self._failure: BSMError | None = None
        self._earlier: Mapping[str, str] = job.earlier_backends(plan)
        self._rows = job.rows_done
        self._limit = BadRowLimit(job.settings.max_bad_rows, job.source.format, job.settings.row_issues)
        self._progress = Progress(job.rows_done, known_rows(job.source))
        self.readiness = Readiness(None, None)
        self.times = Times()

    def score(self) -> None:
        """Score the windows that are left, and write their parts."""
        for record in self._job.done.values():
            self._limit.add(record.counts, record.rows)
        self._start_first()
        with closing(self._job.work(self._plan)) as work:
            self._workers += [self._new(number) for number in range(1, self._plan.count)]
            self._progress.start()
            try:
                while self._hand_out(work):
                    parts = self._collect()
                    try:
                        if self._failure is None:
                            self._hand_out(work)
                    finally:  # an error in the table costs no part
                        self._keep(parts)
                    self._raise_failure()
            finally:
                self._progress.close()
        self._finish()

    def give_up(self) -> None:
        """Let the actors remove their copies of the artifact, if they do so at once: the run has failed."""
        with suppress(RayError):  # the cluster may be lost; the error of the run counts
            if closed := [worker.actor.close.remote() for worker in self._workers]:
                ray.wait(closed, num_returns=len(closed), timeout=_CLOSE_S)

    def _finish(self) -> None:
        """End the runs of the actors, and add up their times."""
        for worker in self._workers:
            worker.busy.clear()
            if worker.ready:
                worker.busy[worker.actor.finish.remote()] = _Piece(None)
        while any(worker.busy for worker in self._workers):
            self._collect(ending=True)
            self._raise_failure()

    def _start_first(self) -> None:
        """Start one actor, whose backends the others use too, and begin the attempt."""
        self._workers.append(self._new(0))
        while not self._workers[0].ready:
            self._collect()
            self._raise_failure()
        chosen = self.readiness.chosen
        self._earlier = self._earlier if chosen is None else chosen.backends
        notify(self._scorer.outline(chosen))
        self._job.begin(chosen, self._plan)

    def _new(self, number: int) -> _Worker:
        job = dataclasses.replace(self._job, done={})
        plan = DevicePlan(self._plan.accelerator, (0,), cores=self._plan.cores)
        actor = self._kind.remote(job, plan, self._archive)
        worker = _Worker(f"actor {number + 1} of {self._plan.count}", actor, actor.__ray_ready__.remote())
        worker.start(self._earlier)
        return worker

    def _hand_out(self, work: Iterator[Split | Window]) -> bool:
        """Give work to the actors that take some, and return whether any has some."""
        for worker in sorted(self._workers, key=lambda worker: len(worker.pieces)):
            if self._again and worker.ready and not worker.pieces:
                worker.give(self._again.popleft())
            while not worker.is_full and (item := next(work, None)) is not None:
                worker.give(_Piece(item))
        return bool(self._again) or any(worker.pieces for worker in self._workers)

    def _collect(self, *, ending: bool = False) -> list[PackedPart]:
        """Wait until an actor has answered, and return the parts of all answers that are there.

        An error is kept until the parts are written; see :meth:`_raise_failure`.

        Args:
            ending: Whether the actors end, so that one that dies is not replaced.
        """
        asked = {reference: worker for worker in self._workers for reference in worker.busy}
        ready: list[Any] = []
        while not ready:
            ready, _ = ray.wait([*asked], num_returns=1, timeout=_SIGNAL_S)
            signals.check()
            self._look_for_room()
        ready, _ = ray.wait([*asked], num_returns=len(asked), timeout=0)
        parts: list[PackedPart] = []
        for reference in ready:
            worker = asked[reference]
            if reference not in worker.busy or worker not in self._workers:  # replaced just now
                continue
            try:
                answer: Answer = ray.get(reference)
            except RayError as error:
                if ending:
                    log.warning("%s died when all was done: its times are not known", worker.name)
                    worker.busy.clear()
                    continue
                try:
                    parts += self._replace(worker, error)
                except BSMError as failure:
                    worker.busy.clear()
                    self._failure = self._failure or failure
                continue
            piece = worker.busy.pop(reference)
            self._hear(worker.name, answer)
            if piece.item is not None:
                parts += worker.take(piece, answer)
            elif ending:
                self.times.add(answer.value)
            elif answer.error is None:
                self._begin(worker, answer.value)
        return parts

    def _look_for_room(self) -> None:
        """Now and then, say that an actor has not started yet. Ray does not say if it waits for a place or just starts.

        Raises:
            EngineError: No host has room for an actor, even if nothing else ran on it.
        """
        if time.monotonic() - self._looked < _LOOK_S:
            return
        self._looked = time.monotonic()
        waiting = [worker for worker in self._workers if not ray.wait([worker.placed], timeout=0)[0]]
        if not waiting:
            return
        needs = ", ".join(f"{count} {name}" for name, count in self._needs.items() if count)
        hosts = [host["Resources"] for host in ray.nodes() if host["Alive"]]  # type: ignore[no-untyped-call]
        if not any(all(host.get(name, 0) >= count for name, count in self._needs.items()) for host in hosts):
            fix = "start fewer actors, or let a larger machine join the cluster"
            raise EngineError(f"no host of the cluster has what an actor needs: {needs}", fix=fix)
        free = ray.available_resources()  # type: ignore[no-untyped-call]
        if all(free.get(name, 0) >= count for name, count in self._needs.items()):  # it starts just now
            return
        has = ", ".join(f"{free.get(name, 0):g} {name}" for name, count in self._needs.items() if count)
        words = "%d of %d actors have not started yet; one that waits for a place needs %s, and %s are free"
        log.warning(words, len(waiting), self._plan.count, needs, has)

    def _begin(self, worker: _Worker, readiness: Readiness) -> None:
        """Note that an actor has opened the artifact."""
        worker.ready = True
        self._failed_starts[self._workers.index(worker)] = 0
        differences = [each.difference for each in (self.readiness, readiness) if each.difference is not None]
        chosen = self.readiness.chosen or readiness.chosen
        self.readiness = Readiness(chosen, max(differences, default=None))

    def _hear(self, who: str, answer: Answer) -> None:
        """Log the lines of an answer, and keep its error."""
        for level, window, text in answer.lines:
            log.log(level, "%s%s: %s", who, "" if window is None else f", window {window}", Lines(text))
        self._failure = self._failure or answer.error

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _keep(self, parts: Sequence[PackedPart]) -> None:
        """Write parts, and count their bad rows."""
        if not parts:
            return
        self._job.sink.write_parts(parts)
        for part in parts:
            self._limit.add(part.record.counts, part.record.rows, part.examples)
        self._rows += sum(part.record.rows for part in parts)
        newest = max(parts, key=lambda part: part.record.window)
        read = max(1, newest.record.window * self._job.settings.window_rows + newest.record.rows)
        self._progress.report(self._rows, min(1.0, self._rows * newest.fraction / read), {})

    def _replace(self, worker: _Worker, error: RayError) -> list[PackedPart]:
        """Start an actor in the place of one that died, and set its work aside for actors that have nothing else.

        Returns:
            Parts without probabilities of windows that were given up.
        """
        number = self._workers.index(worker)
        who = worker.name + _in_words(*worker.pieces)
        log.warning("%s died: %s: a new one takes its place", who, reason_of(error))
        ray.kill(worker.actor)  # it may still hold its device
        if not worker.ready:
            self._failed_starts[number] += 1
            if self._failed_starts[number] >= _STARTS:
                raise error_of(error, f"{worker.name} died again and again while it started") from error
        given_up: list[PackedPart] = []
        for piece in worker.pieces:
            for item in self._smaller(piece):
                again = _Piece(item, piece.deaths + 1)
                if piece.deaths < GIVEN_AGAIN or len(piece.left) > 1:  # it was not alone
                    self._again.append(again)
                else:
                    given_up.append(self._given_up(item, again.deaths, error))
        self._workers[number] = self._new(number)
        return given_up

    def _smaller(self, piece: _Piece) -> Sequence[Split | Window]:
        """Return what is left of some work, in smaller pieces if it is more than a window."""
        if isinstance(piece.item, Split) and piece.item.windows > 1:
            return self._job.cut(piece.item, piece.done, _PIECES)
        return [piece.item] if piece.item is not None else []

    def _given_up(self, item: Split | Window, deaths: int, error: RayError) -> PackedPart:
        """Return the part of a window that kills its actors: rows without probabilities.

        Raises:
            EngineError: ``--on-bad-row`` is ``fail``.
        """
        [window] = [item] if isinstance(item, Window) else self._job.windows_of(item)
        rows = window.table.num_rows
        if self._job.settings.on_bad_row == "fail":
            place = f"rows {window.start:,} to {window.start + rows - 1:,}"
            what = f"{deaths} actors died with window {window.index}, {place}"
            raise error_of(error, what, [{"on_bad_row": "null"}]) from error
        part = self._scorer.part_without_scores(window, "the actor died that scored the row")
        return part.packed(self._job.attempt)


def _in_words(*pieces: _Piece) -> str:
    """Return words for the windows that are left of some work, such as ``, window 3`` or ``, windows 3 to 7``."""
    left = [number for piece in pieces for number in piece.left]
    if not left:
        return ""
    return f", window {left[0]}" if len(left) == 1 else f", windows {min(left)} to {max(left)}"

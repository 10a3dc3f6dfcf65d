"""An actor of Ray that scores windows: its methods are called by the driver, in threads, and it returns parts.

This module does not import Ray; :mod:`bsm_core.scoring.engines.ray_driver` makes an actor of the class.
"""

from __future__ import annotations

import dataclasses
import io
import logging
import queue
import socket
import tarfile
import threading
import traceback
from collections.abc import Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

from lightning.pytorch.callbacks import Callback

from bsm_core.artifact import Artifact
from bsm_core.backends.choose import ChosenBackends
from bsm_core.errors import BSMError, DataError, EngineError
from bsm_core.models.batch import Batch
from bsm_core.runtime.log import Lines
from bsm_core.runtime.memory import explaining_memory
from bsm_core.runtime.profile import Times
from bsm_core.scoring.engines.devices import DevicePlan
from bsm_core.scoring.engines.scorer import Scorer
from bsm_core.scoring.engines.trainer import share_cores
from bsm_core.scoring.engines.work import Job, require_same_code
from bsm_core.scoring.output.part import PackedPart, Part
from bsm_core.scoring.output.sink import RUN_AGAIN
from bsm_core.scoring.plan import require_unchanged
from bsm_core.storage.temporary import temporary_folder
from bsm_core.tables.windows import Split, Window

PORTION = 64
"""Most windows whose parts an actor returns at once: a split may have millions of rows."""
_MOST_PARTS = 4 * PORTION
"""Parts that may wait for the driver before no further window is scored: enough for all that it asks for at once."""


class Line(NamedTuple):
    """Log line of an actor.

    Attributes:
        level: Its level.
        window: Index of the window that was scored; None outside of windows.
        text: What it says.
    """

    level: int
    window: int | None
    text: str


@dataclasses.dataclass(frozen=True)
class Answer:
    """Answer of an actor.

    Attributes:
        value: What the method returns, if there is no error.
        error: Error of the run.
        lines: Log lines since the last answer.
    """

    value: Any = None
    error: BSMError | None = None
    lines: tuple[Line, ...] = ()


@dataclasses.dataclass(frozen=True)
class Readiness:
    """State of an actor before its first window.

    Attributes:
        chosen: Chosen backends and precision.
        difference: Largest difference of a check row's probability from the stored one; None if none was scored.
    """

    chosen: ChosenBackends | None
    difference: float | None


class WindowActor:
    """Actor that has its own copy of the artifact and scores what it is given.

    Each method but :meth:`close` returns an :class:`Answer`, so that an error keeps its type and its words.

    Args:
        job: The job. Its artifact is that of the driver, and is replaced.
        plan: Device of the actor.
        archive: Files of the artifact, as :func:`archive_of` returns them.
    """

    def __init__(self, job: Job, plan: DevicePlan, archive: bytes) -> None:
        self._job, self._plan, self._archive = job, plan, archive
        self._stack, self._closed = ExitStack(), False
        self._items: queue.Queue[Split | Window | None] = queue.Queue()
        self._parts: dict[int, PackedPart] = {}
        self._change = threading.Condition()
        self._ending = False
        self._ready: Readiness | None = None
        self._scorer: Scorer | None = None
        self._run: Future[None] | None = None
        self._log = _Lines()
        logger = logging.getLogger("bsm")
        logger.addHandler(self._log)
        logger.setLevel(logging.INFO)
        logger.propagate = False

    def start(self, earlier: Mapping[str, str]) -> Answer:
        """Open the artifact, build the predictor, and check all that can be checked before the first window.

        Args:
            earlier: Backends that the run has used already, see
                :func:`bsm_core.backends.choose.choose_backends`.

        Returns:
            The answer, with a :class:`Readiness`.
        """
        with self._change:
            self._run = ThreadPoolExecutor(1, "bsm-scorer").submit(self._score_all, earlier)
        self._run.add_done_callback(lambda _: self._notify())
        with self._change:
            self._change.wait_for(lambda: self._ready or self._ended)
        return self._answer(self._ready)

    def score(self, item: Split | Window) -> Answer:
        """Score the windows of a split, or one window.

        Returns:
            The answer, with a list of :class:`bsm_core.scoring.output.sink.PackedPart`: the parts of the first
            windows. :meth:`more` returns the others.
        """
        self._items.put(item)
        return self.more(item, 0)

    def more(self, item: Split | Window, done: int) -> Answer:
        """Return the next parts of what was given before, see :meth:`score`.

        Args:
            item: What was given.
            done: Number of its parts that were returned before.
        """
        first, windows = (item.index, 1) if isinstance(item, Window) else (item.first, item.windows)
        numbers = range(first + done, first + min(windows, done + PORTION))
        with self._change:
            self._change.wait_for(lambda: self._ended or all(number in self._parts for number in numbers))
            found = [self._parts.pop(number) for number in numbers if number in self._parts]
            self._change.notify_all()
        if len(found) < len(numbers) and not self._failure:
            return self._answer(error=EngineError("the actor ended before it had scored its windows", fix=RUN_AGAIN))
        return self._answer(found)

    def finish(self) -> Answer:
        """End the run of this actor; return its times, as the answer's value."""
        self._items.put(None)
        with self._change:
            self._ending = True
            self._change.notify_all()
        if self._run is not None:
            self._run.exception()
        self._stack.close()
        return self._answer(self._scorer.times if self._scorer else Times())

    def close(self) -> None:
        """Remove this actor's copy of the artifact, also while it scores: the run has failed."""
        with self._change:  # not while the copy is made
            self._closed = True
            self._stack.close()

    def _score_all(self, earlier: Mapping[str, str]) -> None:
        """Open the artifact and score what is given, until the run ends."""
        with explaining_memory():
            require_seen(self._job)
            share_cores(1)
            with self._change:
                if self._closed:
                    return
                folder = self._stack.enter_context(_extracted(self._archive))
            self._archive = b""
            job = dataclasses.replace(self._job, artifact=Artifact.load(folder))
            require_same_code(job)
            self._scorer = Scorer(job, self._plan, first=False)
            self._scorer.predict(
                self._deliver, self._begin, work=self._work(), earlier=earlier, callbacks=[_NoteOfWindow(self._log)]
            )

    def _work(self) -> Generator[Split | Window, None, None]:
        while (item := self._items.get()) is not None:
            yield item

    def _deliver(self, part: Part) -> None:
        packed = part.packed(self._job.attempt)
        with self._change:
            self._change.wait_for(lambda: self._ending or len(self._parts) < _MOST_PARTS)
            self._parts[part.window] = packed
            self._change.notify_all()

    def _begin(self, chosen: ChosenBackends | None, difference: float | None) -> None:
        with self._change:
            self._ready = Readiness(chosen, difference)
            self._change.notify_all()

    def _notify(self) -> None:
        with self._change:
            self._change.notify_all()

    @property
    def _ended(self) -> bool:
        return self._run is not None and self._run.done()

    @property
    def _failure(self) -> BSMError | None:
        """Error that ended the run of this actor; None if there is none."""
        raised = self._run.exception() if self._run is not None and self._run.done() else None
        if raised is None or isinstance(raised, BSMError):
            return raised
        logging.getLogger("bsm").error("%s", Lines("".join(traceback.format_exception(raised))))
        what = f"the actor failed: {type(raised).__name__}: {raised}"
        return EngineError(what, fix="see the traceback in the log above")

    def _answer(self, value: Any = None, error: BSMError | None = None) -> Answer:
        failure = error or self._failure
        return Answer(value, failure, self._log.taken())


def require_seen(job: Job) -> None:
    """Check that this host sees the data files as the driver does.

    Raises:
        DataError: It does not.
    """
    try:
        require_unchanged(job.plan, job.source, job.settings.data_dir)
    except DataError as error:
        fix = "put the data where all hosts of the cluster see it: on a shared disk, or in an object store"
        raise DataError(f"{error.what}, on host {socket.gethostname()}", where=error.where, fix=fix) from error


class _Lines(logging.Handler):
    """Handler that keeps log lines until they are taken.

    Attributes:
        window: Index of the window that is scored.
    """

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.window: int | None = None
        self._kept: list[Line] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        self._kept.append(Line(record.levelno, self.window, record.getMessage()))

    def taken(self) -> tuple[Line, ...]:
        """Return the lines that were kept, and forget them."""
        with self.lock or nullcontext():
            kept, self._kept = self._kept, []
        return tuple(kept)


class _NoteOfWindow(Callback):
    """Notes which window is scored, for the log lines."""

    def __init__(self, lines: _Lines) -> None:
        self._lines = lines

    def on_predict_batch_start(
        self, trainer: Any, pl_module: Any, batch: Batch, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Note the window."""
        self._lines.window = batch.window.index

    def on_predict_end(self, trainer: Any, pl_module: Any) -> None:
        """Forget the last window."""
        self._lines.window = None


def archive_of(artifact: Artifact) -> bytes:
    """Return the files of an artifact in one piece, to send them to another host. Links become files."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", dereference=True) as archive:
        for name in artifact.hashes:
            archive.add(artifact.folder / name, arcname=name)
    return content.getvalue()


@contextmanager
def _extracted(archive: bytes) -> Iterator[Path]:
    """Provide a temporary folder with the files of :func:`archive_of`."""
    with temporary_folder() as folder:
        with tarfile.open(fileobj=io.BytesIO(archive)) as files:
            files.extractall(folder, filter="data")
        yield folder

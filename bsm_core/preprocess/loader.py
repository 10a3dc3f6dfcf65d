"""The loader that streams a table as batches, one batch for each window."""

from __future__ import annotations

import multiprocessing
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from typing import Any, TypeAlias

from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from bsm_core.errors import BSMError, EngineError
from bsm_core.models.batch import Batch
from bsm_core.preprocess.dataset import Preprocessor
from bsm_core.runtime.handout import Address, Handout, received
from bsm_core.runtime.processes import end_with_parent, how_it_ended, without_interrupts, without_main_module
from bsm_core.runtime.profile import READING, WAITING, Times
from bsm_core.runtime.signals import check
from bsm_core.tables.read import TableSource
from bsm_core.tables.splits import work_of
from bsm_core.tables.windows import Position, Split, Window

Work: TypeAlias = Address | Generator[Split | Window, None, None]
"""Work of a process that does not have the whole table."""


class _Parcel:
    """Batch on its way from a worker to the loader, where it arrives as a :class:`Batch`.

    On its own, torch sends tensors through shared memory. Containers often have only 64 MB of it, and torch loses the
    error if a batch does not fit: the batch is left out. The copy that is made here takes a few milliseconds a window.
    """

    def __init__(self, batch: Batch) -> None:
        self._bytes = pickle.dumps(batch)

    def __reduce__(self) -> tuple[Any, ...]:
        return pickle.loads, (self._bytes,)


@dataclass(eq=False)
class _WindowBatches(IterableDataset[Any]):
    """Batches of windows: of those that are given to this process or, without that, of all that are not done."""

    source: TableSource
    preprocess: Callable[[Window, Times], Batch] | bytes
    columns: Sequence[str]
    rows: int
    done: Mapping[int, Position | None]
    work: Work | None = None

    def __getstate__(self) -> dict[str, Any]:
        # A worker that fails while it unpickles its dataset dies without an error message. The preprocessor imports
        # steps of plugins, so it travels as bytes, which `__iter__` unpickles where it can report errors.
        return {**vars(self), "preprocess": pickle.dumps(self.preprocess)}

    def __iter__(self) -> Iterator[Batch | _Parcel | BSMError]:
        worker = get_worker_info()
        try:
            preprocess = pickle.loads(self.preprocess) if isinstance(self.preprocess, bytes) else self.preprocess
            times = Times()
            with closing(self._windows()) as windows:
                while True:
                    with times.of(READING):
                        window = next(windows, None)
                    if window is None:
                        return
                    batch = preprocess(window, times)
                    yield _Parcel(batch) if worker else batch
                    times = Times()
        except BSMError as error:
            # Yielded, and raised by WindowLoader: an error raised in a worker loses its type and its message.
            yield error

    def _windows(self) -> Generator[Window, None, None]:
        if self.work is None:
            with closing(self.source.windows(self.columns, rows=self.rows, done=self.done)) as windows:
                yield from windows
            return
        for item in received(self.work) if isinstance(self.work, Address) else self.work:
            if isinstance(item, Window):
                yield item
                continue
            with closing(self.source.windows_of(item, self.columns, rows=self.rows)) as windows:
                yield from windows


class WindowLoader:
    """Iterable over the batches of a table, one for each window, in any order.

    Args:
        source: The table.
        preprocess: The preprocessor that turns a window into a batch.
        rows: Number of rows of a window.
        done: Windows to leave out, see :meth:`bsm_core.tables.read.TableSource.windows`.
        work: What is given to this process: the address of a handout, or a generator, of what
            :func:`bsm_core.tables.splits.work_of` yields. None: all windows of the table.
        num_workers: Number of processes that prepare windows; 0 prepares them in this process.
        pin_memory: Whether batches are put into page-locked memory, for faster copies to a GPU.

    Raises:
        DataError: The table cannot be read; raised while iterating.
        EngineError: A worker process died; raised while iterating.
    """

    def __init__(
        self,
        source: TableSource,
        preprocess: Preprocessor,
        *,
        rows: int = 4096,
        done: Mapping[int, Position | None] | None = None,
        work: Work | None = None,
        num_workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        columns = list(dict.fromkeys([*preprocess.keep, *preprocess.wanted]))
        self._batches = _WindowBatches(source, preprocess, columns, rows, done or {}, work)
        self._loader: DataLoader[Any] = DataLoader(
            self._batches,
            batch_size=None,
            num_workers=num_workers,
            pin_memory=pin_memory,
            # Spawn, not fork: a forked child of a process with threads of Arrow and torch can hang.
            multiprocessing_context="spawn" if num_workers else None,
            worker_init_fn=_end_with_loader if num_workers else None,
            in_order=False,  # a worker may wait for work that comes only when that of the others is done
        )

    def __iter__(self) -> Iterator[Batch]:
        workers, batches, work = self._loader.num_workers, self._batches, self._batches.work
        if not workers or isinstance(work, Address):
            yield from self._iterate()
            return
        shared = work
        if shared is None:
            shared = work_of(batches.source, batches.columns, rows=batches.rows, done=batches.done, consumers=workers)
        with Handout(shared, ahead=workers) as handout:
            batches.work = handout.address  # for the workers that are started
            try:
                yield from self._iterate()
            finally:
                batches.work = work

    def _iterate(self) -> Iterator[Batch]:
        items: Iterator[Any] | None = None
        workers: list[BaseProcess] = []
        try:
            if self._loader.num_workers:
                items, workers = self._start()
            else:
                items = iter(self._loader)
            while True:
                waited = Times()
                with waited.of(WAITING):
                    item = next(items, None)
                check()  # a library or a plugin may have swallowed the exception
                if item is None:
                    return
                if isinstance(item, BSMError):
                    raise item
                if self._loader.num_workers:  # without workers, this time is preparation and already counted
                    item.window.times.add(waited)
                yield item
        except (RuntimeError, EOFError, ConnectionError) as error:
            if not workers or not _is_of_a_dead_worker(error):
                raise
            ended = [f"process {w.pid} {how_it_ended(w.exitcode)}" for w in workers if w.exitcode]
            raise EngineError(
                f"a worker process that prepares windows died: {', '.join(ended) or error}",
                fix="if memory or shared memory (/dev/shm) ran out, lower --num-workers or --window-rows, or set"
                " --num-workers 0, which prepares the windows without worker processes",
            ) from error
        finally:
            # Stops the workers. A reference that an error's traceback holds would keep them alive.
            items = None

    def _start(self) -> tuple[Iterator[Any], list[BaseProcess]]:
        """Start the workers; return the iterator over what they send, and their processes."""
        others = multiprocessing.active_children()
        try:
            multiprocessing.get_context("spawn").Event()  # where it fails, torch would print a traceback of its own
            with without_interrupts(), without_main_module(), _same_handler(signal.SIGCHLD):
                items = iter(self._loader)
        except OSError as error:
            raise EngineError(
                f"the worker processes that prepare windows cannot be started: {error.strerror or error}",
                fix="if memory, shared memory (/dev/shm) or process ids ran out, set --num-workers 0",
            ) from error
        return items, [child for child in multiprocessing.active_children() if child not in others]


class OnDemandLoader(WindowLoader):
    """Loader that prepares a batch only when it is asked for.

    Lightning fetches one batch ahead of a loader whose length it does not know. Where work is given only when that
    before it is done, it would wait for ever.
    """

    def __len__(self) -> int:
        """Return a number that no table reaches."""
        return sys.maxsize


def _is_of_a_dead_worker(error: Exception) -> bool:
    """Return whether an error says that a worker died: torch repeats those that are raised in a worker, too."""
    if isinstance(error, RuntimeError):
        return "DataLoader worker (pid" in str(error)
    # The pipe to the worker broke before the loader noticed that the worker died.
    return not str(error).startswith("Caught ")


def _end_with_loader(worker: int) -> None:
    end_with_parent()


@contextmanager
def _same_handler(number: signal.Signals) -> Iterator[None]:
    """Undo changes of a signal's handler.

    When a worker dies, torch's handler of SIGCHLD raises an error wherever the main thread is. In a model class, the
    model class would be blamed for it. Without the handler, the loader notices within five seconds.
    """
    handler = signal.getsignal(number)
    yield
    if threading.current_thread() is threading.main_thread():
        signal.signal(number, handler)

"""The loader that streams a table as batches, one batch for each window."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from bsm_core.errors import BSMError, EngineError
from bsm_core.models.batch import Batch
from bsm_core.preprocess.dataset import Preprocessor
from bsm_core.runtime.processes import without_interrupts
from bsm_core.runtime.profile import READING, WAITING, Times
from bsm_core.tables.read import Position, TableSource, Window


@dataclass(eq=False)
class _WindowBatches(IterableDataset[Any]):
    """Batches of the windows of one rank, shared out among the loader's workers."""

    source: TableSource
    preprocess: Callable[[Window, Times], Batch] | bytes
    columns: Sequence[str]
    rows: int
    rank: int
    world: int
    done: Mapping[int, Position | None]

    def __getstate__(self) -> dict[str, Any]:
        # A worker that fails while it unpickles its dataset dies without an error message. The preprocessor imports
        # steps of plugins, so it travels as bytes, which `__iter__` unpickles where it can report errors.
        return {**vars(self), "preprocess": pickle.dumps(self.preprocess)}

    def __iter__(self) -> Iterator[Batch | BSMError]:
        worker = get_worker_info()
        workers, number = (worker.num_workers, worker.id) if worker else (1, 0)
        try:
            preprocess = pickle.loads(self.preprocess) if isinstance(self.preprocess, bytes) else self.preprocess
            windows = self.source.windows(self.columns, rows=self.rows, done=self.done)
            times = Times()
            while True:
                with times.of(READING):
                    window = next(windows, None)
                if window is None:
                    return
                if window.index % (self.world * workers) == self.rank + number * self.world:
                    yield preprocess(window, times)
                    times = Times()
        except BSMError as error:
            # Yielded, and raised by WindowLoader: an error raised in a worker loses its type and its message.
            yield error


class WindowLoader:
    """Iterable over the batches of a table, one for each window.

    Args:
        source: The table.
        preprocess: The preprocessor that turns a window into a batch.
        rows: Number of rows of a window.
        rank: Rank of this process. Its windows are those whose index is ``rank`` modulo ``world``.
        world: Number of ranks.
        done: Windows to leave out, see :meth:`bsm_core.tables.read.TableSource.windows`.
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
        rank: int = 0,
        world: int = 1,
        done: Mapping[int, Position | None] | None = None,
        num_workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        columns = list(dict.fromkeys([*preprocess.keep, *preprocess.wanted]))
        self._loader: DataLoader[Any] = DataLoader(
            _WindowBatches(source, preprocess, columns, rows, rank, world, done or {}),
            batch_size=None,
            num_workers=num_workers,
            pin_memory=pin_memory,
            # Spawn, not fork: a forked child of a process with threads of Arrow and torch can hang.
            multiprocessing_context="spawn" if num_workers else None,
        )

    def __iter__(self) -> Iterator[Batch]:
        items: Iterator[Any] | None = None
        try:
            with without_interrupts() if self._loader.num_workers else nullcontext():
                items = iter(self._loader)
            while True:
                waited = Times()
                with waited.of(WAITING):
                    item = next(items, None)
                if item is None:
                    return
                if isinstance(item, BSMError):
                    raise item
                if self._loader.num_workers:  # without workers, this time is preparation and already counted
                    item.window.times.add(waited)
                yield item
        except (RuntimeError, EOFError, ConnectionError) as error:
            # EOFError and ConnectionError: the pipe to the worker broke before the loader noticed that the worker died.
            if isinstance(error, RuntimeError) and "DataLoader worker" not in str(error):
                raise
            raise EngineError(
                f"a worker process that prepares windows died: {error}",
                fix="if memory ran out, lower --num-workers or --window-rows, or set --num-workers 0",
            ) from error
        finally:
            # Stops the workers. A reference that an error's traceback holds would keep them alive.
            items = None

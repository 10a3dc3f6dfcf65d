"""What a model sees: ragged token chunks, the feature matrix, and padding at the last moment.

Nobody pads to ``max_sen_len``. The distinct chunks of a text field stand in order of length, longest first, so that
micro-batches of equal token budget hold chunks of about the same length, and running out of memory shows at once.
"""

from __future__ import annotations

import dataclasses
import math
from array import array
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from bsm_core.errors import BSMError

Encode = Callable[[Tensor, Tensor], Tensor]
"""``(input_ids [chunks, length], attention_mask [chunks, length]) -> vectors [chunks, size]``."""
EncodeRagged = Callable[[Tensor, Tensor], Tensor]
"""``(tokens int32 [total], lengths int64 [chunks], on the CPU) -> vectors [chunks, size]``."""


class DeviceOutOfMemoryError(BSMError, torch.OutOfMemoryError):
    """The accelerator has no room for a single chunk."""


@dataclass
class TokenBudget:
    """How many tokens, padding included, the encoder may see at once.

    It halves when the accelerator runs out of memory, and stays halved for the windows that follow.
    """

    tokens: int

    def halve(self) -> None:
        """Allow half as many tokens, at least one."""
        self.tokens = max(1, self.tokens // 2)


@dataclass(frozen=True)
class TextBatch:
    """The ragged token chunks of one text field.

    Attributes:
        tokens: int32 ``[total]``, the ids of all distinct chunks, one after the other, longest chunk first.
        chunk_offsets: int64 ``[distinct + 1]``, where each distinct chunk begins in ``tokens``; stays on the CPU.
        chunk_ids: int64 ``[chunks]``, which distinct chunk each chunk of the rows is.
        row_lengths: int64 ``[rows]``, how many chunks each row has; they stand in row order in ``chunk_ids``.
    """

    tokens: Tensor
    chunk_offsets: Tensor
    chunk_ids: Tensor
    row_lengths: Tensor

    @classmethod
    def from_rows(cls, rows: Sequence[Sequence[Sequence[int]]]) -> TextBatch:
        """Build it from token ids by row and chunk; chunks without a token do not count."""
        distinct: dict[bytes, int] = {}
        chunk_ids, row_lengths = [], []
        for row in rows:
            keys = [array("i", chunk).tobytes() for chunk in row if chunk]
            chunk_ids += [distinct.setdefault(key, len(distinct)) for key in keys]
            row_lengths.append(len(keys))
        keys = list(distinct)
        lengths = torch.tensor([len(key) // 4 for key in keys], dtype=torch.int64)
        order = torch.argsort(lengths, descending=True, stable=True)
        rank = torch.empty_like(order)
        rank[order] = torch.arange(len(keys))
        joined = b"".join([keys[i] for i in order.tolist()])
        return cls(
            tokens=torch.frombuffer(bytearray(joined), dtype=torch.int32)
            if joined
            else torch.empty(0, dtype=torch.int32),
            chunk_offsets=torch.cat([torch.zeros(1, dtype=torch.int64), lengths[order].cumsum(0)]),
            chunk_ids=rank[torch.tensor(chunk_ids, dtype=torch.int64)],
            row_lengths=torch.tensor(row_lengths, dtype=torch.int64),
        )

    def select(self, rows: Tensor) -> TextBatch:
        """Some of the rows, int64 ``[rows]``, in that order."""
        first = self.row_lengths.cumsum(0) - self.row_lengths
        lengths = self.row_lengths[rows]
        chunk_ids = self.chunk_ids[_ranges(first[rows], lengths)]
        used, chunk_ids = torch.unique(chunk_ids, return_inverse=True)  # in ascending order: still longest first
        sizes = self.chunk_offsets.diff()[used]
        return TextBatch(
            tokens=self.tokens[_ranges(self.chunk_offsets[used], sizes)],
            chunk_offsets=torch.cat([torch.zeros(1, dtype=torch.int64), sizes.cumsum(0)]),
            chunk_ids=chunk_ids,
            row_lengths=lengths,
        )

    @property
    def distinct(self) -> int:
        """Number of distinct chunks."""
        return len(self.chunk_offsets) - 1

    def length(self, chunk: int) -> int:
        """Number of tokens of a distinct chunk."""
        return int(self.chunk_offsets[chunk + 1] - self.chunk_offsets[chunk])

    def padded(self, start: int, stop: int, pad_id: int = 0, length: int | None = None) -> tuple[Tensor, Tensor]:
        """Distinct chunks ``start`` to ``stop``, padded to the longest of them, or padded or cut to ``length``.

        Returns:
            ``input_ids`` and ``attention_mask``, int64 ``[stop - start, length]``, on the device of ``tokens``.
        """
        device = self.tokens.device
        offsets = self.chunk_offsets[start : stop + 1].to(device, non_blocking=True)
        begin, lengths = offsets[:-1, None], offsets.diff()[:, None]
        position = torch.arange(length or self.length(start), device=device)
        mask = position < lengths
        last = self.tokens.numel() - 1
        ids = self.tokens[(begin + position).clamp_(max=last)].long().masked_fill_(~mask, pad_id)
        return ids, mask.long()

    def row_means(self, vectors: Tensor) -> Tensor:
        """Mean over each row's chunks.

        Args:
            vectors: ``[distinct, size]``, one vector for each distinct chunk.

        Returns:
            float32 ``[rows, size]``; zeros for a row without chunks.
        """
        device = vectors.device
        lengths = self.row_lengths.to(device)
        chunks = vectors.float()[self.chunk_ids.to(device)]
        sums = torch.segment_reduce(chunks, "sum", lengths=lengths, axis=0, initial=0.0, unsafe=True)
        return sums / lengths.clamp(min=1)[:, None]

    def to(self, device: Any, non_blocking: bool = False) -> TextBatch:
        """Move the tokens; the small index tensors stay on the CPU, where micro-batches are planned."""
        return dataclasses.replace(self, tokens=self.tokens.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> TextBatch:
        """The same, in page-locked memory."""
        return dataclasses.replace(self, tokens=self.tokens.pin_memory())


def _ranges(starts: Tensor, lengths: Tensor) -> Tensor:
    """``start, start + 1, ...`` for each start, ``length`` of them, one after the other."""
    before = lengths.cumsum(0) - lengths
    return torch.arange(int(lengths.sum())) + torch.repeat_interleave(starts - before, lengths)


def encode_rows(
    text: TextBatch, encode: Encode, budget: TokenBudget, pad_id: int = 0, length: int | None = None
) -> Tensor:
    """Encode the distinct chunks in micro-batches and average them by row.

    Args:
        text: The field's chunks.
        encode: Gives one vector for each padded chunk; its result for a chunk must not depend on the padding, unless
            ``length`` is given.
        budget: Tokens at once, padding included; halved here when the accelerator runs out of memory.
        pad_id: Id of the padding token.
        length: Pad or cut every chunk to exactly this many tokens; each micro-batch is as long as its longest chunk
            where None.

    Returns:
        float32 ``[rows, size]``.

    Raises:
        DeviceOutOfMemoryError: A single chunk does not fit.
    """

    def padded(start: int, stop: int) -> Tensor:
        return encode(*text.padded(start, stop, pad_id, length))

    def count(start: int) -> int:
        return max(1, budget.tokens // (length or text.length(start)))

    def tokens(start: int, stop: int) -> int:
        return (stop - start) * (length or text.length(start))

    parts = list(_micro_batches(text, padded, count, tokens, budget))
    return text.row_means(torch.cat(parts or [encode(*_padding(text, pad_id, length or 1))[:0]]))


def encode_ragged_rows(
    text: TextBatch, encode: EncodeRagged, budget: TokenBudget, most: int, streams: int = 1
) -> Tensor:
    """As :func:`encode_rows`, for an encoder that takes chunks as they are, without padding.

    Args:
        text: The field's chunks.
        encode: Gives one vector for each chunk; chunks come longest first.
        budget: As in :func:`encode_rows`.
        most: Tokens at once that suit the encoder, where the budget allows them.
        streams: Micro-batches at once, on a thread each; on the CPU alone, and the budget holds for all together.

    Returns:
        float32 ``[rows, size]``.

    Raises:
        DeviceOutOfMemoryError: A single chunk does not fit.
    """

    def ragged(start: int, stop: int) -> Tensor:
        offsets = text.chunk_offsets[start : stop + 1]
        return encode(text.tokens[offsets[0] : offsets[-1]], offsets.diff())

    def count(start: int) -> int:
        end = text.chunk_offsets[start] + min(budget.tokens, most)
        return max(1, int(torch.searchsorted(text.chunk_offsets, end, right=True)) - 1 - start)

    def tokens(start: int, stop: int) -> int:
        return int(text.chunk_offsets[stop] - text.chunk_offsets[start])

    bounds = _shares(text, min(budget.tokens // streams, most), streams) if streams > 1 else []
    if len(bounds) > 1:
        parts = _at_once(bounds, ragged, min(streams, len(bounds)))
    else:
        parts = list(_micro_batches(text, ragged, count, tokens, budget))
    return text.row_means(torch.cat(parts or [encode(text.tokens.new_zeros(1), torch.ones(1, dtype=torch.int64))[:0]]))


def _shares(text: TextBatch, most: int, streams: int) -> list[tuple[int, int]]:
    """Bounds of micro-batches of about equal size, as many for each stream, of ``most`` tokens or a single chunk."""
    if not text.distinct:
        return []
    total, longest = int(text.chunk_offsets[-1]), text.length(0)
    count = streams * math.ceil(total / (streams * max(1, most - longest)))
    ends = torch.arange(count + 1) * total // count
    starts = torch.searchsorted(text.chunk_offsets, ends)  # a chunk on the way is in: no more than one is too many
    return list(pairwise(torch.unique(starts).tolist()))


def _at_once(bounds: Sequence[tuple[int, int]], encode: Callable[[int, int], Tensor], streams: int) -> list[Tensor]:
    """Vectors of the distinct chunks, each micro-batch on one thread of its own share of the cores.

    Threads that share one micro-batch wait for each other after every operation; these meet once a window.
    """
    threads, inference = torch.get_num_threads(), torch.is_inference_mode_enabled()

    def work(bounds: tuple[int, int]) -> Tensor:
        with torch.inference_mode(inference):  # which is each thread's own
            return encode(*bounds)

    share = partial(torch.set_num_threads, max(1, threads // streams))
    try:
        with ThreadPoolExecutor(streams, initializer=share) as pool:
            return list(pool.map(work, bounds))
    finally:
        torch.set_num_threads(threads)


def _micro_batches(
    text: TextBatch,
    encode: Callable[[int, int], Tensor],
    count: Callable[[int], int],
    tokens: Callable[[int, int], int],
    budget: TokenBudget,
) -> Iterator[Tensor]:
    """Vectors of the distinct chunks, by micro-batch; the budget halves when the accelerator runs out of memory."""
    start = 0
    while start < text.distinct:
        stop = min(start + count(start), text.distinct)
        ran_out = False
        try:
            vectors = encode(start, stop)
        except torch.OutOfMemoryError as error:
            if stop - start == 1:
                raise DeviceOutOfMemoryError(
                    f"the accelerator has no room for one chunk of {tokens(start, stop)} tokens: {error}",
                    fix="lower max_sen_len, free the device, or score on the CPU with --device cpu",
                ) from error
            budget.tokens = tokens(start, stop)  # what was tried, which may be less than was allowed
            budget.halve()
            ran_out = True
        if ran_out:  # outside the except: the error itself holds on to what was computed
            torch.cuda.empty_cache()
            continue
        yield vectors
        start = stop


def _padding(text: TextBatch, pad_id: int, length: int) -> tuple[Tensor, Tensor]:
    """A chunk of padding alone: it tells the encoder's vector size where no row has a chunk."""
    ids = torch.full((1, length), pad_id, dtype=torch.int64, device=text.tokens.device)
    return ids, torch.ones_like(ids)


@dataclass(frozen=True)
class Batch:
    """A window as the model sees it. It needs no labels.

    Attributes:
        rows: Number of rows.
        texts: Chunks of each text field, by column.
        features: float32 ``[rows, features]``; no columns where the model has no tabular part.
        labels: int64 ``[rows]`` when training.
        window: What travels with the rows to the part they become; the model does not look at it, but for an error
            that names rows.
    """

    rows: int
    texts: dict[str, TextBatch] = field(default_factory=dict)
    features: Tensor = field(default_factory=lambda: torch.empty(0, 0))
    labels: Tensor | None = None
    window: Any = None

    def to(self, device: Any, non_blocking: bool = False) -> Batch:
        """The batch on a device; Lightning calls this."""
        return self._map(lambda value: value.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        """The batch in page-locked memory; the data loader calls this."""
        return self._map(lambda value: value.pin_memory())

    def select(self, rows: Tensor) -> Batch:
        """Some of the rows, int64 ``[rows]``, in that order; they belong to no window."""
        return Batch(
            rows=len(rows),
            texts={column: text.select(rows) for column, text in self.texts.items()},
            features=self.features[rows] if self.features.numel() else torch.empty(len(rows), 0),
            labels=None if self.labels is None else self.labels[rows],
        )

    def names(self, rows: Sequence[int]) -> list[Any]:
        """What errors call some of the rows: their ids, where the batch is a window; else their positions."""
        return list(rows) if self.window is None else self.window.names(rows)

    def _map(self, move: Callable[[Any], Any]) -> Batch:
        return dataclasses.replace(
            self,
            texts={column: move(text) for column, text in self.texts.items()},
            features=move(self.features),
            labels=None if self.labels is None else move(self.labels),
        )

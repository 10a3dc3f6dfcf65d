"""Encoding of a window's chunks in micro-batches, each within a token budget.

Distinct chunks are sorted by length, the longest first. So the chunks of a micro-batch have about the same length, and
padding stays small. The largest micro-batches come first, so memory runs out at the start or not at all.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from bsm_core.errors import BSMError
from bsm_core.models.batch import TextBatch

log = logging.getLogger("bsm")

Encode = Callable[[Tensor, Tensor], Tensor]
"""``(input_ids int64 [chunks, length], attention_mask int64 [chunks, length]) -> vectors [chunks, size]``."""
EncodeRagged = Callable[[Tensor, Tensor], Tensor]
"""``(tokens int32 [total], lengths int64 [chunks], on the CPU) -> vectors [chunks, size]``."""


class DeviceOutOfMemoryError(BSMError, torch.OutOfMemoryError):
    """Error for an accelerator whose memory is too small for a single chunk."""


@dataclass
class TokenBudget:
    """Number of tokens, padding included, that an encoder may process at once.

    The budget is halved when the accelerator runs out of memory. All later windows use the smaller budget.

    Example:
        Let an encoder process 32 chunks of 512 tokens at once::

            budget = TokenBudget(32 * 512)
    """

    tokens: int

    def halve(self, failed: int | None = None) -> None:
        """Allow half as many tokens, at least one.

        Args:
            failed: Number of tokens that did not fit into memory, of which half are allowed. A budget that another
                thread has made smaller than that meanwhile does not change. None: the whole budget.
        """
        half = max(1, (self.tokens if failed is None else failed) // 2)
        self.tokens = min(self.tokens, half)


def encode_rows(
    text: TextBatch, encode: Encode, budget: TokenBudget, pad_id: int = 0, length: int | None = None
) -> Tensor:
    """Encode the distinct chunks in padded micro-batches, and average the vectors of each row's chunks.

    Args:
        text: Chunks of a text field.
        encode: Returns a vector for each padded chunk. The vector must not depend on the padding, unless ``length`` is
            given.
        budget: Tokens at once, padding included; halved here if the accelerator runs out of memory.
        pad_id: Id of the padding token.
        length: Pad or cut each chunk to this number of tokens. Where None, each micro-batch is padded to its longest
            chunk.

    Returns:
        Means, float32 ``[rows, size]``; zeros for a row without chunks.

    Raises:
        DeviceOutOfMemoryError: Memory is too small for a single chunk.

    Example:
        Encode each row as the mean of its token ids::

            def mean(input_ids: Tensor, attention_mask: Tensor) -> Tensor:
                return (input_ids * attention_mask).sum(1, keepdim=True) / attention_mask.sum(1, keepdim=True)

            text = TextBatch.from_rows([[[5, 6, 7]], [[5], [8]], []])
            print(encode_rows(text, mean, TokenBudget(64)))
    """

    def padded(start: int, stop: int) -> Tensor:
        return encode(*text.padded(start, stop, pad_id, length))

    def plan(start: int) -> tuple[int, int]:
        longest = length or text.length(start)
        count = min(max(1, budget.tokens // longest), text.distinct - start)
        return start + count, count * longest

    vectors = list(_micro_batches(text, padded, plan, budget))
    return text.row_means(torch.cat(vectors or [encode(*_padding(text, pad_id, length or 1))[:0]]))


def encode_ragged_rows(
    text: TextBatch, encode: EncodeRagged, budget: TokenBudget, most: int, streams: int = 1
) -> Tensor:
    """Encode the distinct chunks in micro-batches without padding, and average the vectors of each row's chunks.

    Args:
        text: Chunks of a text field.
        encode: Returns a vector for each chunk; it receives the longest chunk first.
        budget: Tokens at once; halved here if the accelerator runs out of memory.
        most: Preferred number of tokens of a micro-batch; the smaller of this and the budget applies.
        streams: Number of micro-batches to encode in parallel, one thread each, on the CPU only. They share the budget.

    Returns:
        Means, float32 ``[rows, size]``; zeros for a row without chunks.

    Raises:
        DeviceOutOfMemoryError: Memory is too small for a single chunk.
    """

    def ragged(start: int, stop: int) -> Tensor:
        offsets = text.chunk_offsets[start : stop + 1]
        return encode(text.tokens[offsets[0] : offsets[-1]], offsets.diff())

    def plan(start: int) -> tuple[int, int]:
        begin = text.chunk_offsets[start]
        end = torch.searchsorted(text.chunk_offsets, begin + min(budget.tokens, most), right=True)
        stop = max(start + 1, int(end) - 1)
        return stop, int(text.chunk_offsets[stop] - begin)

    bounds = _bounds_of_streams(text, min(budget.tokens // streams, most), streams) if streams > 1 else []
    if len(bounds) > 1:
        vectors = _encode_in_streams(bounds, ragged, min(streams, len(bounds)))
    else:
        vectors = list(_micro_batches(text, ragged, plan, budget))
    vectors = vectors or [encode(text.tokens.new_zeros(1), torch.ones(1, dtype=torch.int64))[:0]]
    return text.row_means(torch.cat(vectors))


def _bounds_of_streams(text: TextBatch, most: int, streams: int) -> list[tuple[int, int]]:
    """Return the first and last chunk (exclusive) of micro-batches of about equal size, equally many for each stream.

    A micro-batch has at most ``most`` tokens, or a single chunk.
    """
    if not text.distinct:
        return []
    total, longest = int(text.chunk_offsets[-1]), text.length(0)
    count = streams * math.ceil(total / (streams * max(1, most - longest)))
    ends = torch.arange(count + 1) * total // count
    # An end inside a chunk moves to the end of the chunk: less than `longest` tokens more, hence `most - longest`.
    starts = torch.searchsorted(text.chunk_offsets, ends)
    return list(pairwise(torch.unique(starts).tolist()))


def _encode_in_streams(
    bounds: Sequence[tuple[int, int]], encode: Callable[[int, int], Tensor], streams: int
) -> list[Tensor]:
    """Encode each micro-batch on one thread, which has its own share of the cores.

    Cores that work on the same micro-batch wait for each other after every operation; streams wait once in a window.
    """
    threads, inference, started = torch.get_num_threads(), torch.is_inference_mode_enabled(), threading.Barrier(streams)

    def start(_: int) -> None:
        torch.get_num_threads()  # or the first use of PyTorch later would take over the number of all threads
        torch.set_num_threads(max(1, threads // streams))
        started.wait()  # so that every thread of the pool starts, and has its share

    def encode_one(bounds: tuple[int, int]) -> Tensor:
        with torch.inference_mode(inference):  # a new thread does not inherit the mode
            return encode(*bounds)

    with ThreadPoolExecutor(streams) as pool:
        with _SHARING:
            try:
                list(pool.map(start, range(streams)))
            except BaseException:  # where no more threads can be started, the others would wait for ever
                started.abort()
                raise
            finally:
                torch.set_num_threads(threads)
        return list(pool.map(encode_one, bounds))


_SHARING = threading.Lock()
"""Lock that is held while PyTorch's number of threads is that of a stream."""


def settle_threads() -> None:
    """Let this thread have the number of threads that PyTorch was told, and not that of a stream of another thread.

    A thread that uses PyTorch for the first time takes over the number that any thread has set last, and keeps it. With
    another number, micro-batches are cut elsewhere, and the last digits of vectors change.
    """
    with _SHARING:
        torch.get_num_threads()


def _micro_batches(
    text: TextBatch, encode: Callable[[int, int], Tensor], plan: Callable[[int], tuple[int, int]], budget: TokenBudget
) -> Iterator[Tensor]:
    """Encode one micro-batch after the other; halve the budget and repeat if the accelerator runs out of memory.

    Args:
        text: Chunks of a text field.
        encode: Encodes the chunks from the first to the second (exclusive).
        plan: Returns the end of the micro-batch that begins at a chunk, and the number of tokens of the micro-batch.
        budget: Tokens at once.
    """
    start = 0
    while start < text.distinct:
        stop, tokens = plan(start)
        vectors = None
        try:
            vectors = encode(start, stop)
        except torch.OutOfMemoryError as error:
            if stop - start == 1:
                raise DeviceOutOfMemoryError(
                    f"the accelerator's memory is too small for one chunk of {tokens} tokens: {error}",
                    fix="lower max_sen_len, or free memory of the device",
                    settings=[{"device": "cpu"}],
                ) from error
            budget.halve(tokens)  # the size that failed, which may be less than the budget
            told = "%d tokens do not fit into the accelerator's memory: from now on it gets at most %d at once"
            log.warning(told, tokens, budget.tokens)
        if vectors is None:  # after the except block, because the exception keeps the intermediate tensors alive
            torch.cuda.empty_cache()
            continue
        yield vectors
        start = stop


def _padding(text: TextBatch, pad_id: int, length: int) -> tuple[Tensor, Tensor]:
    """Return one chunk of padding tokens. Encoding it shows the size of a vector if no row has a chunk."""
    ids = torch.full((1, length), pad_id, dtype=torch.int64, device=text.tokens.device)
    return ids, torch.ones_like(ids)

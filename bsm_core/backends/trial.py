"""Trials of an encoder's backends: which are exact, and which is the fastest.

A backend is code of a plugin. If it fails, the encoder's own code can still run: see :func:`attempt`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from bsm_core.backends.trial_results import Times, is_close
from bsm_core.errors import BSMError, UnsafeArtifactError, UsageError
from bsm_core.models.batch import TextBatch
from bsm_core.models.encoder import EAGER, Backend, Encoder
from bsm_core.models.micro_batches import TokenBudget
from bsm_core.runtime.precision import EXACT, TOLERANCES, Precision

log = logging.getLogger("bsm")

_LENGTHS = (96, 80, 64, 48, 32, 16)
"""Numbers of tokens of the trial's chunks."""
_LEAST, _MOST = 3, 8
"""Numbers of measurements of each backend: as many as it takes to tell the fastest, within these bounds."""
_LONG_S = 10.0
"""Time after which a trial goes on only to the least number of measurements."""

OTHER_VECTORS = "computes different vectors than the encoder's own code"

T = TypeVar("T")


def attempt(what: str, run: Callable[[], T], *, by_name: bool) -> T | None:
    """Run code of a backend.

    Args:
        what: Name of that code in messages.
        run: The code.
        by_name: Whether the user asked for this backend. If so, its failure is an error.

    Returns:
        The result; None, with a warning, if the code fails.

    Raises:
        UsageError: The code fails, and the user asked for the backend. A BSMError is raised unchanged.
        UnsafeArtifactError, OutOfMemoryError, MemoryError: Raised by the code, whoever asked for it.
    """
    try:
        return run()
    except (UnsafeArtifactError, torch.OutOfMemoryError, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        if by_name and isinstance(error, BSMError):
            raise
        reason = error.one_line() if isinstance(error, BSMError) else f"{type(error).__name__}: {error}"
        failed = f"{what} failed: {reason}"
        if by_name:
            raise UsageError(failed, where="--backend", fix="choose another backend, or --backend auto") from error
        log.warning("%s; it is left out", failed)
        return None


def check_precision(name: str, encoder: Encoder, precision: Precision) -> None:
    """Run the encoder's own code once, and check that it does not fail because of the precision.

    Args:
        name: Name of the encoder in the model.
        encoder: The encoder, on its device.
        precision: fp32, bf16 or fp16.

    Raises:
        UsageError: The code fails in this precision, and runs in fp32.
        OutOfMemoryError, MemoryError: Raised by the code.
    """
    failed = _failure(encoder, precision)
    if failed and not _failure(encoder, Precision.FP32):
        raise UsageError(
            f"this processor cannot compute encoder {name!r} in {precision}: {type(failed).__name__}: {failed}",
            where="--precision",
            fix="choose fp32 or auto",
        ) from failed


def _failure(encoder: Encoder, precision: Precision) -> Exception | None:
    try:
        _encoded(encoder, Backend(EAGER, precision), _chunks(encoder))
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - the encoder of a plugin may raise anything
        return error
    return None


def exact(
    name: str, encoder: Encoder, eager: Backend, backends: Sequence[Backend], *, by_name: bool = False
) -> list[Backend]:
    """Return the backends that compute the same vectors as the encoder's own code, on chunks of several lengths.

    In fp32 no number may differ by more than :data:`EXACT`. In a lower precision both results are rounded, each in its
    own way, so their mean difference is compared with :data:`TOLERANCES`.

    Args:
        name: Name of the encoder in the model.
        encoder: The encoder, on its device.
        eager: The encoder's own code, in the precision of the backends.
        backends: Backends to compare with it.
        by_name: As in :func:`attempt`, which runs each backend.
    """
    chunks = _chunks(encoder)

    def encoded(backend: Backend) -> Tensor | None:
        run = partial(_encoded, encoder, backend, chunks)
        return attempt(f"backend {backend.name!r} of encoder {name!r}", run, by_name=by_name)

    if (expected := encoded(eager)) is None:
        return []
    same = []
    for backend in backends:
        vectors = encoded(backend)
        if vectors is not None and _agree(vectors, expected, eager.precision):
            same.append(backend)
        elif vectors is not None and not by_name:
            log.warning("backend %r %s: it is left out", backend.name, OTHER_VECTORS)
    return same


def measured(name: str, encoder: Encoder, backends: Sequence[Backend]) -> Times:
    """Return the times of the backends that do not fail.

    The backends take turns, so that a moment in which the machine is busy is no disadvantage of one of them.
    """
    chunks = _chunks(encoder, torch.get_num_threads())  # so that each stream has its share of the chunks
    took: dict[str, list[float]] = {backend.name: [] for backend in backends}
    began = time.perf_counter()
    times: Times = {}
    for turn in range(1, _MOST + 1):
        for backend in [backend for backend in backends if backend.name in took]:
            run = partial(_seconds, encoder, backend, chunks)
            seconds = attempt(f"backend {backend.name!r} of encoder {name!r}", run, by_name=False)
            if seconds is None:
                del took[backend.name]
            else:
                took[backend.name].append(seconds)
        if turn < _LEAST:
            continue
        times = {other: (sorted(seconds)[0], sorted(seconds)[1]) for other, seconds in took.items()}
        if len(times) < 2 or not is_close(times) or time.perf_counter() - began > _LONG_S:
            break
    return times


def _agree(vectors: Tensor, expected: Tensor, precision: str) -> bool:
    if vectors.shape != expected.shape:
        return False
    difference = (vectors - expected).abs()
    if precision == Precision.FP32:
        return bool(difference.max() <= EXACT)
    return bool(difference.mean() <= TOLERANCES[precision])


def _chunks(encoder: Encoder, times: int = 1) -> TextBatch:
    """Make chunks of each of :data:`_LENGTHS`, ``times`` as many, of token ids that the encoder has."""
    longest = encoder.length or encoder.longest or max(_LENGTHS)
    lengths = [(time, min(length, longest)) for time in range(times) for length in _LENGTHS]
    ids = [[(7 * length + 11 * time + i) % encoder.vocabulary for i in range(length)] for time, length in lengths]
    return TextBatch.from_rows([[chunk] for chunk in ids]).to(next(encoder.parameters()).device)


def _encoded(encoder: Encoder, backend: Backend, chunks: TextBatch) -> Tensor:
    encoder.backend = backend
    with torch.inference_mode():
        return encoder.encode_rows(chunks, TokenBudget(chunks.tokens.numel()))


def _seconds(encoder: Encoder, backend: Backend, chunks: TextBatch) -> float:
    """Measure a backend once; copying the result to the CPU waits for the GPU."""
    began = time.perf_counter()
    _encoded(encoder, backend, chunks).cpu()
    return time.perf_counter() - began

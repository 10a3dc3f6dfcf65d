"""Values of tokens, which explain the contribution of their text field: integrated gradients.

The method of Sundararajan et al., 2017 (arXiv:1703.01365), is applied to the Shapley value of the field as a function
of the token embeddings, along a straight line from the mean embedding of a token, or that of the padding token, to the
embeddings of the text. So the values of the tokens add up to the difference of the field's contribution between the
text and a text of as many mean tokens.

An embedding layer is any ``nn.Embedding`` that is called with the token ids of the chunks. Its output is replaced by
points of the line; nothing else of a model class has to be known.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from bsm_core.models.batch import TextBatch
from bsm_core.models.encoder import Encoder

FIRST_STEPS, MOST_STEPS = 8, 512
"""Number of points of the first try, and the largest number; each try has twice as many as the one before."""
TOLERANCE = 0.01
"""Largest error of the sum of the tokens' values, as a share of the difference that they explain."""
_SMALLEST = 1e-3
"""Difference in log-odds below which the error is a share of this number instead."""

Chunk = tuple[int, ...]


@dataclass
class _Line:
    """State of the hooks while a model is called: the point on the line, and what was found there.

    Attributes:
        chunks: Chunks of the text field, as they may occur among token ids.
        fixed: Token ids whose embeddings do not change along the line.
        start: Embedding at the start of the line, float ``[size]``. None: that of the padding token.
        at: Point of the line, 0 for the start and 1 for the text.
        seen: Ids of the chunks and their embeddings with gradients, for each call of the embedding layer.
    """

    chunks: Collection[Chunk]
    fixed: Collection[int]
    start: Tensor | None = None
    at: float = 1.0
    seen: list[tuple[Sequence[Chunk], Tensor, Tensor]] = field(default_factory=list)

    def value_at(self, at: float, value: FieldValue, text: TextBatch) -> Tensor:
        """Return the value of the field at a point of the line, float64 ``[rows, outputs]``."""
        self.at = at
        self.seen.clear()
        return value(text)

    def gradients(self, value: Tensor) -> Mapping[Chunk, Tensor]:
        """Return the gradients of a value, times the differences of the embeddings, float64 ``[tokens, outputs]``."""
        points = [point for _, point, _ in self.seen]
        found: dict[Chunk, Tensor] = {}
        outputs = value.shape[1]
        for output in range(outputs):
            total = value[:, output].sum()
            gradients = torch.autograd.grad(total, points, retain_graph=output < outputs - 1, allow_unused=True)
            for (chunks, point, difference), gradient in zip(self.seen, gradients, strict=True):
                products = torch.zeros(point.shape[:2]) if gradient is None else (gradient * difference).sum(2).cpu()
                for chunk, product in zip(chunks, products.double(), strict=True):
                    table = found.setdefault(chunk, torch.zeros(len(chunk), outputs, dtype=torch.float64))
                    table[:, output] += product[: len(chunk)]
        return found


def _found(ids: Sequence[int], chunks: Collection[Chunk]) -> Chunk | None:
    """Return the chunk that a row of a padded matrix holds, if it is one of these; None for something else."""
    for end in range(len(ids), 0, -1):
        if (chunk := tuple(ids[:end])) in chunks:
            return chunk
        if end < len(ids) and ids[end - 1] != ids[-1]:
            return None  # what was cut off is not all padding
    return None


@contextmanager
def _hooked(model: nn.Module, line: _Line) -> Iterator[None]:
    padding = {id(table): _padding_of(model, name) for name, table in _tables(model)}

    def replace_output(table: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        ids = inputs[0] if inputs else None
        if ids is None or ids.ndim != 2 or ids.is_floating_point():
            return None
        rows = [_found(row, line.chunks) for row in ids.tolist()]
        if any(row is None for row in rows):
            return None
        kept = torch.isin(ids, torch.tensor(sorted(line.fixed), device=ids.device, dtype=ids.dtype))
        whole, start = output.detach(), line.start
        if start is None:
            start = table.forward(torch.full_like(ids[:1, :1], padding[id(table)]))[0, 0].detach()  # calls no hook
        difference = torch.where(kept[..., None], torch.zeros_like(whole), whole - start)
        point = (whole - (1 - line.at) * difference).requires_grad_()
        line.seen.append(([row for row in rows if row is not None], point, difference))
        return point

    handles = [table.register_forward_hook(replace_output) for _, table in _tables(model)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _tables(model: nn.Module) -> list[tuple[str, nn.Embedding]]:
    return [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Embedding)]


def _padding_of(model: nn.Module, name: str) -> int:
    """Return the padding token of an embedding layer: that of the encoder around it, or 0."""
    parts = name.split(".")
    for end in range(len(parts), -1, -1):
        module = model.get_submodule(".".join(parts[:end]))
        if isinstance(module, Encoder):
            return module.pad_id
    return 0


FieldValue = Callable[[TextBatch], Tensor]
"""``(chunks of the field) -> what the field adds to the log-odds, float64 [rows, outputs]``, up to a constant."""


@dataclass(frozen=True)
class TokenValues:
    """Values of the tokens of one row.

    Attributes:
        chunks: Values of the tokens of each chunk, float64 ``[tokens, outputs]``.
        error: What the sum of the values lacks of the difference that they explain, float64 ``[outputs]``.
        steps: Number of points of the line.
    """

    chunks: list[Tensor]
    error: Tensor
    steps: int


def token_values(
    model: nn.Module,
    value_of: Callable[[Sequence[int]], FieldValue],
    rows: Sequence[Sequence[Sequence[int]]],
    fixed: Collection[int] = (),
    start: Tensor | None = None,
    steps: int | None = None,
) -> list[TokenValues] | None:
    """Return the values of the tokens of rows, of which no two may have an equal chunk. Gradients must be enabled.

    Args:
        model: The model, in evaluation mode.
        value_of: ``(positions of rows) -> function``: what the field adds to the log-odds of these rows. The function
            must call an embedding layer with the token ids of the chunks that it gets.
        rows: Token ids by row and chunk.
        fixed: Token ids that stand for no text, such as that of ``[CLS]``: their values are 0.
        start: Embedding at the start of the line, float ``[size]``. None: that of the padding token.
        steps: Number of points. None: as many as :data:`TOLERANCE` needs.

    Returns:
        The values of each row; None if no embedding layer was called with the chunks.
    """
    line = _Line({tuple(chunk) for row in rows for chunk in row}, {*fixed}, start)
    found: dict[int, TokenValues] = {}
    left, points = list(range(len(rows))), steps or FIRST_STEPS
    with _hooked(model, line):
        ends, text = value_of(left), TextBatch.from_rows(rows)
        full, none = (line.value_at(at, ends, text).detach().cpu() for at in (1.0, 0.0))
        if not line.seen and line.chunks:
            return None
        while left:
            sums = _integrated(line, value_of(left), [rows[row] for row in left], points)
            for row, chunks in zip(left, sums, strict=True):
                total = sum((chunk.sum(0) for chunk in chunks), torch.zeros_like(full[row]))
                found[row] = TokenValues(chunks, full[row] - none[row] - total, points)
            exact = steps is not None or points >= MOST_STEPS
            allowed = TOLERANCE * (full - none).abs().clamp(min=_SMALLEST)
            left = [] if exact else [row for row in left if (found[row].error.abs() > allowed[row]).any()]
            points *= 2
    return [found[row] for row in range(len(rows))]


def _integrated(
    line: _Line, value: FieldValue, rows: Sequence[Sequence[Sequence[int]]], points: int
) -> list[list[Tensor]]:
    """Return the values of the tokens by row and chunk, by Gauss-Legendre quadrature with so many points."""
    places, weights = np.polynomial.legendre.leggauss(points)
    sums: dict[Chunk, Tensor] = {}
    text = TextBatch.from_rows(rows)
    for at, weight in zip((places + 1) / 2, weights / 2, strict=True):
        for chunk, values in line.gradients(line.value_at(float(at), value, text)).items():
            sums[chunk] = sums.get(chunk, 0) + float(weight) * values
    times = [Counter(map(tuple, row)) for row in rows]  # an equal chunk of a row is encoded once
    return [[sums[key] / count[key] for key in map(tuple, row)] for row, count in zip(rows, times, strict=True)]


def mean_embedding(
    model: nn.Module, value: FieldValue, rows: Sequence[Sequence[Sequence[int]]], fixed: Collection[int] = ()
) -> Tensor | None:
    """Return the mean embedding of the tokens of rows, float32 ``[size]``. Gradients must be enabled.

    Args:
        model, rows, fixed: See :func:`token_values`; rows may have equal chunks. Tokens of ``fixed`` do not count.
        value: See :data:`FieldValue`; what it returns is not used.

    Returns:
        None if no embedding layer was called with the chunks, or there is no token.
    """
    times = Counter(tuple(chunk) for row in rows for chunk in row)
    line = _Line(times.keys(), {*fixed})
    with _hooked(model, line):
        line.value_at(1.0, value, TextBatch.from_rows(rows))
    sums, count = torch.zeros(()), 0
    for chunks, points, _ in line.seen:
        for chunk, point in zip(chunks, points.detach().float().cpu(), strict=True):
            real = [place for place, token in enumerate(chunk) if token not in line.fixed]
            sums = sums + times[chunk] * point[real].sum(0)
            count += times[chunk] * len(real)
    return sums / count if count else None

"""Coalitions of inputs, and the weights with which the values of coalitions become Shapley values.

The Shapley value of an input (Shapley, 1953) is a weighted sum of the values of all coalitions. Up to
:data:`MOST_EXACT` inputs, all coalitions are used. Above, coalitions are sampled, and the values are those of the
weighted regression of Kernel SHAP (Lundberg and Lee, 2017, arXiv:1705.07874). Both are linear in the values of the
coalitions, so one matrix serves all rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import comb

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

MOST_EXACT = 12
"""Largest number of inputs whose Shapley values are exact: 4,096 coalitions."""
_SAMPLED = 2048
_SEED = 0


@dataclass(frozen=True)
class Coalitions:
    """Coalitions of inputs, the first without any input, the last with all.

    Attributes:
        members: Whether an input is in a coalition, bool ``[coalitions, inputs]``.
        weights: Shapley values are ``weights @ values``, float64 ``[inputs, coalitions]``.
    """

    members: Tensor
    weights: Tensor

    @property
    def count(self) -> int:
        """Number of coalitions."""
        return len(self.members)

    def shapley_values(self, values: Tensor) -> Tensor:
        """Return the Shapley values, float64 ``[inputs, ...]``, of values of coalitions, ``[coalitions, ...]``."""
        found: Tensor = torch.tensordot(self.weights.to(values.device), values.double(), dims=1)
        return found


@lru_cache(maxsize=32)
def coalitions(inputs: int) -> Coalitions:
    """Return the coalitions for a number of inputs, 1 or more."""
    return _all(inputs) if inputs <= MOST_EXACT else _sampled(inputs)


def _all(inputs: int) -> Coalitions:
    numbers = np.arange(1 << inputs)
    members = (numbers[:, None] >> np.arange(inputs)) & 1 == 1
    sizes = members.sum(1)
    # A coalition S that has the input counts with 1 / (n * C(n-1, |S|-1)); one without it with -1 / (n * C(n-1, |S|)).
    others = [1 / (inputs * comb(inputs - 1, size)) for size in range(inputs)]
    added = np.array([0.0, *others])[sizes]
    removed = np.array([*others, 0.0])[sizes]
    weights = np.where(members, added[:, None], -removed[:, None]).T
    return Coalitions(torch.from_numpy(members), torch.from_numpy(weights.copy()))


def _sampled(inputs: int) -> Coalitions:
    """Return coalitions in pairs of a coalition and its complement, drawn with a fixed seed.

    A size is drawn with the weight that the Shapley kernel gives to all coalitions of that size, and then a coalition
    of the size; so each drawn coalition has the same weight in the regression.
    """
    drawn = _draw(inputs)
    values = np.vstack([np.zeros((1, inputs), bool), drawn, np.ones((1, inputs), bool)])
    return Coalitions(torch.from_numpy(values), torch.from_numpy(_regression(drawn)))


def _draw(inputs: int) -> npt.NDArray[np.bool_]:
    random = np.random.default_rng(_SEED)
    sizes = np.arange(1, inputs)
    chances = 1 / (sizes * (inputs - sizes))
    drawn = np.zeros((_SAMPLED // 2 + inputs, inputs), bool)
    for row, size in zip(drawn, random.choice(sizes, len(drawn), p=chances / chances.sum()), strict=True):
        row[random.permutation(inputs)[:size]] = True
    return np.stack([drawn, ~drawn], axis=1).reshape(-1, inputs)


def _regression(drawn: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Return the matrix from the values of (nothing, the drawn coalitions, everything) to the values of the inputs.

    The last input's value is what the others leave of the difference between everything and nothing; so the sum is
    exact, and the regression is one without constraint for the other inputs.
    """
    x = drawn.astype(float)
    design = x[:, :-1] - x[:, -1:]
    # The values to fit: v(S) - v(nothing) - [last input in S] * (v(everything) - v(nothing)).
    target = np.hstack([(x[:, -1:] - 1), np.eye(len(x)), -x[:, -1:]])
    first = np.linalg.pinv(design) @ target
    total = np.zeros(target.shape[1])
    total[0], total[-1] = -1, 1
    return np.vstack([first, total - first.sum(0)])

"""Limits on values that were read from a file: how deep they are nested, and how many they are."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from bsm_core.errors import short_repr

_DEEPEST = 100
_CONTAINERS = (dict, list, tuple, set, frozenset)
_MOST_CONTAINERS, _MOST_ITEMS = 500_000, 20_000_000
_MOST_DIMENSIONS, _MOST_EMPTY = 64, 1_000_000


def check_nesting(value: Any, most_containers: int = _MOST_CONTAINERS, most_items: int = _MOST_ITEMS) -> None:
    """Check that code can walk through a value: that it does not hold itself, and is neither deep nor repeated often.

    Args:
        value: The value.
        most_containers: Maximum number of dicts, lists, tuples and sets in it, each counted as often as it is found.
        most_items: Maximum number of keys and values in these.

    Raises:
        ValueError: The value exceeds a limit.
    """
    level, depth, containers, items = [value], 0, 0, 0
    while level:
        depth += 1
        if depth > _DEEPEST:
            raise ValueError(f"it is nested more than {_DEEPEST} deep")
        inner = []
        for container in level:
            if isinstance(container, dict):
                values = [*container, *container.values()]
            elif isinstance(container, _CONTAINERS):
                values = list(container)
            else:
                continue
            containers, items = containers + 1, items + len(values)
            if containers > most_containers or items > most_items:
                raise ValueError("it holds the same lists again and again, or too many of them")
            inner += [item for item in values if isinstance(item, _CONTAINERS)]
            if len(inner) > most_containers:
                raise ValueError("it holds the same lists again and again, or too many of them")
        level = inner


def leaves(value: Any) -> Iterator[Any]:
    """Yield every value in a value that :func:`check_nesting` has passed, without the containers."""
    left = [value]
    while left:
        inner = left.pop()
        if isinstance(inner, dict):
            left += [*inner, *inner.values()]
        elif isinstance(inner, list | tuple | set | frozenset):
            left += inner
        else:
            yield inner


def check_shape(shape: Sequence[int]) -> None:
    """Check the shape of an array or tensor whose size in bytes is known to be there.

    Raises:
        ValueError: There are very many dimensions, or an array without any number is large in the other dimensions: as
            a list it takes memory all the same.
    """
    if len(shape) > _MOST_DIMENSIONS:
        raise ValueError(f"it holds an array of {len(shape):,} dimensions")
    if 0 in shape and math.prod(filter(None, shape)) > _MOST_EMPTY:
        raise ValueError(f"it holds an array of shape {short_repr(tuple(shape))}")

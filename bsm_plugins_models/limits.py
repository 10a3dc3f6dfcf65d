"""Limits on the sizes in a config, which may come from anyone: a model is built before its weights are read."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

Size = Annotated[int, Field(gt=0, le=100_000)]
"""Number of values in a vector, of attention heads, of channels."""
Layers = Annotated[int, Field(gt=0, le=1_000)]
"""Number of layers."""

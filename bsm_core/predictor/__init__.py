"""An artifact and the plugins that it names, ready to score rows: the Python API."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bsm_core.runtime.lazy import lazy_names

if TYPE_CHECKING:
    from bsm_core.predictor.predictor import Predictor

_NAMES = {"predictor": ("Predictor",)}
__all__ = ["Predictor"]
__getattr__ = lazy_names(__name__, _NAMES)

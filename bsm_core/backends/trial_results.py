"""Results of earlier speed trials, in the user's cache folder: the name of the fastest backend."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from bsm_core.models.encoder import Backend, Encoder
from bsm_core.runtime.versions import installed

log = logging.getLogger("bsm")


def key(encoder: Encoder, backends: Sequence[Backend]) -> str:
    """Return a digest of what a trial depends on: machine, versions, threads, backends, and shapes of the weights."""
    shapes = [[name, *value.shape] for name, value in encoder.named_parameters()]
    names = [f"{backend.name}/{backend.precision}" for backend in backends]
    device = next(encoder.parameters()).device
    kind = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    facts = [platform.machine(), kind, installed(), torch.get_num_threads(), names, shapes]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def read() -> dict[str, str]:
    """Return the name of the fastest backend by key; nothing if the file is missing or damaged."""
    try:
        results = json.loads(_file().read_text())
    except (OSError, RuntimeError, ValueError):  # RuntimeError: the user has no home folder
        return {}
    return {k: name for k, name in results.items() if isinstance(name, str)} if isinstance(results, dict) else {}


def write(results: Mapping[str, str]) -> None:
    """Replace the file at once; if it cannot be written, the next run repeats the trial."""
    try:
        file = _file()
        file.parent.mkdir(parents=True, exist_ok=True)
        new = file.with_suffix(f".{os.getpid()}")
        new.write_text(json.dumps(results))
        new.replace(file)
    except (OSError, RuntimeError):
        log.debug("the name of the fastest backend could not be stored", exc_info=True)


def _file() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bsm" / "backends.json"

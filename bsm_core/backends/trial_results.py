"""Results of earlier speed trials, in the user's cache folder: the fastest backend, and the times it is told from.

A trial on a busy machine can come out wrong. So times have a spread: a result that lies within it is tried again, and
any result is when it is old.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from pydantic import TypeAdapter

from bsm_core.models.encoder import EAGER, Backend, Encoder
from bsm_core.runtime.versions import installed

log = logging.getLogger("bsm")

_OLD_S = 30 * 24 * 3600
_AGAIN_S = 3600
"""Age at which a close result is tried again; longer than a run takes to start, as its processes share a result."""
_TRIALS = 3
"""Number of trials after which even a close result holds until it is old."""

Times = dict[str, tuple[float, float]]
"""The two shortest times of each backend in seconds; their difference is its spread."""


@dataclass(frozen=True)
class TrialResult:
    """Result of one trial, or of several of which the first ones were close.

    Attributes:
        fastest: Name of the fastest backend.
        times: Times of the backends, from all trials.
        tried: Time of the last trial, in seconds since the epoch.
        trials: Number of trials.
    """

    fastest: str
    times: Times
    tried: float = field(default_factory=lambda: time.time())
    trials: int = 1

    def holds(self) -> bool:
        """Return whether no other trial is due."""
        longest = _AGAIN_S if is_close(self.times) and self.trials < _TRIALS else _OLD_S
        return 0 <= time.time() - self.tried < longest

    def is_old(self) -> bool:
        """Return whether the times say nothing of the machine as it is now."""
        return not 0 <= time.time() - self.tried < _OLD_S


def is_close(times: Times) -> bool:
    """Return whether more than one backend may be the fastest."""
    return len(times) < 2 or len(_leaders(times)) > 1  # of one, because the others failed


def _leaders(times: Times) -> list[str]:
    """Return the backends that may be the fastest: the lead of the fastest over them is not larger than a spread."""
    first, second = min(times.values(), default=(0.0, 0.0))
    return [name for name, own in times.items() if own[0] - first <= max(second - first, own[1] - own[0])]


def result_of(times: Times, earlier: TrialResult | None) -> TrialResult:
    """Return the result of a trial and of an earlier one. The earlier choice stays as long as it may be the fastest.

    Args:
        times: Times of the backends that did not fail.
        earlier: Result that does not hold any more; None if there is none.
    """
    trials = 1
    if earlier and not earlier.is_old():
        trials += earlier.trials
        times = {name: _two_shortest(own, earlier.times.get(name, ())) for name, own in times.items()}
    if earlier and earlier.fastest in _leaders(times):
        return TrialResult(earlier.fastest, times, trials=trials)
    return TrialResult(min(times, key=times.__getitem__, default=EAGER), times, trials=trials)


def _two_shortest(own: Sequence[float], others: Sequence[float]) -> tuple[float, float]:
    first, second = sorted([*own, *others])[:2]
    return first, second


def key(encoder: Encoder, backends: Sequence[Backend]) -> str:
    """Return a digest of what a trial depends on: machine, versions, threads, backends, and shapes of the weights."""
    shapes = [[name, *value.shape] for name, value in encoder.named_parameters()]
    names = [f"{backend.name}/{backend.precision}" for backend in backends]
    device = next(encoder.parameters()).device
    kind = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    facts = [platform.machine(), kind, installed(), torch.get_num_threads(), names, shapes]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def read() -> dict[str, TrialResult]:
    """Return the results by key; nothing if the file is missing, damaged, or of an earlier version."""
    try:
        return TypeAdapter(dict[str, TrialResult]).validate_json(_file().read_bytes())
    except (OSError, RuntimeError, ValueError):  # RuntimeError: the user has no home folder
        return {}


def write(results: Mapping[str, TrialResult]) -> None:
    """Replace the file at once, without old results; if it cannot be written, the next run repeats the trial."""
    kept = {key: result for key, result in results.items() if not result.is_old()}
    try:
        file = _file()
        file.parent.mkdir(parents=True, exist_ok=True)
        new = file.with_suffix(f".{os.getpid()}")
        new.write_bytes(TypeAdapter(dict[str, TrialResult]).dump_json(kept))
        new.replace(file)
    except (OSError, RuntimeError):
        log.debug("the name of the fastest backend could not be stored", exc_info=True)


def _file() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bsm" / "backends.json"

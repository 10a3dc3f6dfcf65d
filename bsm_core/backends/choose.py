"""Chooses what computes the encoders of a model, and in what precision, before the first row is scored.

Only the encoders change: what comes behind them stays in float32. A back end that claims to be exact is compared with
the encoder's own code before it may run, and the faster of the two is found by a short trial, whose outcome is kept.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from bsm_core.backends.onnx_runtime import ONNX, build, require_packages
from bsm_core.errors import CorruptArtifactError, ModelFailedError, UsageError
from bsm_core.models.base import ModelBase
from bsm_core.models.batch import Batch, TextBatch, TokenBudget
from bsm_core.models.encoder import EAGER, PRECISIONS, Backend, BuildBackend, Encoder
from bsm_core.runtime.versions import installed

log = logging.getLogger("bsm")

TOLERANCES = {"fp32": 1e-5, "fp16": 1e-2, "bf16": 5e-2, "int8": 0.1}
"""How far a probability may be from that of float32 on the same device, by precision."""
_TRIAL_LENGTHS = (96, 80, 64, 48, 32, 16)
_TRIALS = 2


@dataclass(frozen=True)
class Tuned:
    """What was chosen.

    Attributes:
        precision: That of the encoders.
        backends: The back end of each encoder, by its name in the model; none where the model has no encoder.
        changed: The largest change of a probability of the sample against float32; None where nothing was compared.
    """

    precision: str
    backends: dict[str, str]
    changed: float | None = None


def tune(
    model: ModelBase, *, precision: str = "auto", backend: str = "auto", sample: Batch | None = None, fp16: bool = False
) -> Tuned:
    """Give every encoder of a model its back end.

    Args:
        model: The model, on its device, in evaluation mode.
        precision: ``"auto"``, ``"fp32"``, ``"bf16"``, ``"fp16"`` or ``"int8"``. ``"auto"`` is fp32 on the CPU; on a GPU
            it is bf16 (fp16 where the artifact says so) if the sample's probabilities stay within tolerance.
        backend: ``"auto"``, or the name of a back end that each encoder must have.
        sample: A few rows to calibrate int8 with and to compare precisions on.
        fp16: What the artifact's config says of ``fp16``.

    Returns:
        What was chosen.

    Raises:
        UsageError: There is no such precision; an encoder has no such back end, none in that precision, or one that
            does not give what its own code gives.
        ArtifactError: An encoder's ONNX file cannot be used, and was asked for; or it refers to other files.
    """
    if precision not in ("auto", *TOLERANCES):
        raise UsageError(
            f"no precision is called {precision!r}", where="--precision", fix=f"one of auto, {', '.join(TOLERANCES)}"
        )
    encoders = encoders_of(model)
    wanted = precision
    if precision == "auto":
        wanted = ("fp16" if fp16 else "bf16") if model.device.type == "cuda" and sample is not None else "fp32"
    exact = _choose(model, encoders, "fp32", "auto" if wanted != "fp32" else backend, sample)
    if not encoders and (wanted != "fp32" or backend not in ("auto", EAGER)):
        log.warning("the model has no encoder whose precision or back end can be chosen: it stays float32, eager")
    if wanted == "fp32" or not encoders:
        return Tuned("fp32", exact)
    before = None if sample is None else _probabilities(model, sample)
    chosen = _choose(model, encoders, wanted, backend, sample)
    if before is None or sample is None:
        log.info("the artifact has no check rows: how far %s changes probabilities is not known", wanted)
        return Tuned(wanted, chosen)
    try:
        changes = (_probabilities(model, sample) - before).abs()
    except (ModelFailedError, torch.OutOfMemoryError) as error:  # numbers too large for the precision, as a rule
        if precision != "auto":
            raise
        changes = torch.full_like(before, torch.inf)
        log.warning("in %s the check rows fail: %s", wanted, error)
    largest = float(changes.max())
    if precision == "auto" and not largest <= TOLERANCES[wanted]:
        log.warning("%s changes the check rows by up to %.3g: using fp32", wanted, largest)
        return Tuned("fp32", _choose(model, encoders, "fp32", backend, sample))
    log.info(
        "%s changes the probabilities of the %d check rows by at most %.3g, %.3g on average",
        wanted, sample.rows, largest, float(changes.mean()),
    )  # fmt: skip
    return Tuned(wanted, chosen, largest)


def encoders_of(model: ModelBase) -> dict[str, Encoder]:
    """The encoders of a model, by their names in it."""
    return {name: module for name, module in model.named_modules() if isinstance(module, Encoder)}


def _probabilities(model: ModelBase, sample: Batch) -> Tensor:
    with torch.inference_mode():
        return model.predict_step(sample.to(model.device)).cpu()


def _choose(
    model: ModelBase, encoders: Mapping[str, Encoder], precision: str, backend: str, sample: Batch | None
) -> dict[str, str]:
    texts = _texts(model, encoders, sample) if precision == "int8" and sample is not None else {}
    for name, encoder in encoders.items():
        encoder.backend = _backend(name, encoder, precision, backend, texts.get(name))
    return {name: encoder.backend.name for name, encoder in encoders.items()}


def _texts(model: ModelBase, encoders: Mapping[str, Encoder], sample: Batch) -> dict[str, TextBatch]:
    """What each encoder is given of the sample; which text field is whose only the model knows."""
    texts: dict[str, TextBatch] = {}
    hooks = [
        encoder.register_forward_pre_hook(lambda _, given, name=name: texts.update({name: given[0]}))
        for name, encoder in encoders.items()
    ]
    try:
        _probabilities(model, sample)
    finally:
        for hook in hooks:
            hook.remove()
    return texts


def _backend(name: str, encoder: Encoder, precision: str, wanted: str, text: TextBatch | None) -> Backend:
    builders: dict[str, BuildBackend] = {**encoder.backends(), ONNX: partial(_exported, name, encoder, wanted)}
    if wanted not in ("auto", EAGER, *builders):
        raise UsageError(
            f"encoder {name!r} has no back end {wanted!r}",
            where="--backend",
            fix=f"choose one of auto, {', '.join([EAGER, *builders])}",
        )
    eager = Backend(EAGER, precision) if precision in PRECISIONS else None
    others = [build(precision, text) for other, build in builders.items() if wanted in ("auto", other)]
    there = [backend for backend in (*others, eager if wanted in ("auto", EAGER) else None) if backend]
    if not there:
        by_name = wanted != "auto"
        fix = "choose another precision" + ", or --backend auto" * by_name
        if precision == "int8" and text is None:
            fix = "int8 needs check rows: `bsm pack MODEL_DIR NEW --data TABLE` gives the artifact some"
        raise UsageError(
            f"encoder {name!r} cannot be computed in {precision} here" + f" by {wanted!r}" * by_name,
            where="--backend" if by_name else "--precision",
            fix=fix,
        )
    if wanted not in ("auto", EAGER) and precision in PRECISIONS:
        _require_exact(name, encoder, Backend(EAGER, precision), there[0])
    if eager is None or len(there) == 1:
        return there[0]
    return _fastest(encoder, eager, there)


def _require_exact(name: str, encoder: Encoder, eager: Backend, chosen: Backend) -> None:
    if _exact(encoder, eager, [chosen]):
        return
    problem = f"back end {chosen.name!r} of encoder {name!r} does not give what the encoder's own code gives"
    if chosen.name == ONNX:
        raise CorruptArtifactError(
            problem, where=f"onnx/{name}.onnx", fix="make the file anew with `bsm export MODEL_DIR NEW`"
        )
    raise UsageError(problem, where="--backend", fix="choose another, or auto")


def _exported(name: str, encoder: Encoder, wanted: str, precision: str, sample: TextBatch | None) -> Backend | None:
    """The back end of an encoder's ONNX file; what stands in its way is an error only where it was asked for."""
    if wanted == ONNX:
        require_packages("--backend")
        if encoder.exported is None:
            raise UsageError(
                f"the artifact has no ONNX file of encoder {name!r}",
                where="--backend",
                fix="`bsm export MODEL_DIR NEW` makes it; or choose another back end",
            )
    try:
        backend = build(encoder, precision)
    except CorruptArtifactError as error:
        if wanted == ONNX:
            raise
        log.warning("%s; it is left out", error.one_line())
        return None
    return backend


def _fastest(encoder: Encoder, eager: Backend, backends: list[Backend]) -> Backend:
    """The fastest of those that give what the encoder's own code gives, as a trial finds."""
    kept, key = _kept(), _key(encoder, backends)
    if kept.get(key) == EAGER:
        return eager
    others = [backend for backend in backends if backend is not eager]
    exact = _exact(encoder, eager, others)
    for other in others:
        if other not in exact:
            log.warning("back end %r does not give what the encoder's own code gives: it is left out", other.name)
    if not exact:
        return eager
    by_name = {backend.name: backend for backend in (eager, *exact)}
    if kept.get(key) not in by_name:
        trial = _trial(encoder, torch.get_num_threads())  # each stream has its share
        kept[key] = min(by_name, key=lambda name: _seconds(encoder, by_name[name], trial))
        _keep(kept)
    return by_name[kept[key]]


def _exact(encoder: Encoder, eager: Backend, others: list[Backend]) -> list[Backend]:
    """Those that give what the encoder's own code gives, on a trial."""
    trial = _trial(encoder)
    want = _encoded(encoder, eager, trial)
    tolerance, exact = TOLERANCES[eager.precision], []
    for other in others:
        try:
            got = _encoded(encoder, other, trial)
        except CorruptArtifactError as error:
            log.warning("%s", error.one_line())
            continue
        if got.shape != want.shape:
            continue
        off = (got - want).abs()
        # In a lower precision both are off, each in its own way; the check rows tell how far.
        if (off.max() if eager.precision == "fp32" else off.mean()) <= tolerance:
            exact.append(other)
    return exact


def _trial(encoder: Encoder, times: int = 1) -> TextBatch:
    """Chunks of several lengths, and so many times as many."""
    longest = encoder.length or encoder.longest or max(_TRIAL_LENGTHS)
    lengths = [(time, min(length, longest)) for time in range(times) for length in _TRIAL_LENGTHS]
    ids = [[(7 * length + 11 * time + i) % encoder.vocabulary for i in range(length)] for time, length in lengths]
    return TextBatch.from_rows([[chunk] for chunk in ids]).to(next(encoder.parameters()).device)


def _encoded(encoder: Encoder, backend: Backend, trial: TextBatch) -> Tensor:
    encoder.backend = backend
    with torch.inference_mode():
        return encoder.row_means(trial, TokenBudget(trial.tokens.numel()))


def _seconds(encoder: Encoder, backend: Backend, trial: TextBatch) -> float:
    """The shorter time of a few; moving the result to the CPU waits for it."""
    took = []
    for _ in range(_TRIALS):
        began = time.perf_counter()
        _encoded(encoder, backend, trial).cpu()
        took.append(time.perf_counter() - began)
    return min(took)


def _key(encoder: Encoder, backends: list[Backend]) -> str:
    """What the outcome of a trial depends on: machine, versions, shapes and what could be chosen."""
    shapes = [[name, *value.shape] for name, value in encoder.named_parameters()]
    names = [f"{backend.name}/{backend.precision}" for backend in backends]
    device = next(encoder.parameters()).device
    what = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    facts = [platform.machine(), what, installed(), torch.get_num_threads(), names, shapes]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _place() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bsm" / "backends.json"


def _kept() -> dict[str, str]:
    """Outcomes of earlier trials; a file that cannot be read has none."""
    try:
        kept = json.loads(_place().read_text())
    except (OSError, RuntimeError, ValueError):  # RuntimeError: a user without a home
        return {}
    return {str(key): name for key, name in kept.items() if isinstance(name, str)} if isinstance(kept, dict) else {}


def _keep(kept: Mapping[str, str]) -> None:
    """Write them in one go; where there is no place to write, the next run tries again."""
    try:
        place = _place()
        place.parent.mkdir(parents=True, exist_ok=True)
        new = place.with_suffix(f".{os.getpid()}")
        new.write_text(json.dumps(kept))
        new.replace(place)
    except (OSError, RuntimeError):
        log.debug("the fastest back end could not be kept", exc_info=True)

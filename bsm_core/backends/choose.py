"""Choice of the backend and the precision of a model's text encoders, before the first window.

Only the encoders change: all other layers stay in fp32. Each backend is compared with the encoder's own code before it
may run. A short trial finds the fastest exact backend, and its result is kept for later runs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bsm_core.backends import trial_results
from bsm_core.backends.onnx_runtime import ONNX, build, require_packages
from bsm_core.backends.trial import OTHER_VECTORS, attempt, check_precision, exact, measured
from bsm_core.errors import CorruptArtifactError, ModelFailedError, UsageError
from bsm_core.models.base import ModelBase
from bsm_core.models.batch import Batch, TextBatch
from bsm_core.models.encoder import EAGER, Backend, BuildBackend, Encoder
from bsm_core.runtime.precision import TOLERANCES, Precision

log = logging.getLogger("bsm")

AUTO = "auto"


@dataclass(frozen=True)
class ChosenBackends:
    """Backends and precision that were chosen for a model.

    Attributes:
        precision: Precision of the encoders.
        backends: Name of each encoder's backend, by the encoder's name in the model; empty if there is no encoder.
        changed: Largest change of a probability of the sample compared with fp32; None if nothing was compared.
    """

    precision: str
    backends: dict[str, str]
    changed: float | None = None


def choose_backends(
    model: ModelBase,
    *,
    precision: str = AUTO,
    backend: str = AUTO,
    sample: Batch | None = None,
    fp16: bool = False,
    earlier: Mapping[str, str] | None = None,
) -> ChosenBackends:
    """Set the backend of every encoder of a model.

    Args:
        model: The model, on its device, in evaluation mode.
        precision: A :class:`~bsm_core.runtime.precision.Precision`, or ``"auto"``: fp32 on the CPU; on a GPU bf16, or
            fp16 if ``fp16``, as long as the probabilities of the sample stay within the tolerance.
        backend: Name of a backend that each encoder must have, or ``"auto"``.
        sample: A few rows, to calibrate int8 and to compare the probabilities in a lower precision with fp32.
        fp16: Value of ``fp16`` in the artifact's config.
        earlier: Name of the backend that ``"auto"`` chose before, by the encoder's name; chosen again if it is exact.

    Raises:
        UsageError: The precision is unknown, or the processor cannot compute it. Or an encoder has no backend of that
            name, or none in that precision; or the backend that was asked for fails, or computes other vectors than the
            encoder's own code.
        ArtifactError: The ONNX file of an encoder refers to other files; or ``backend`` asks for it, and ONNX Runtime
            cannot use it.
    """
    encoders = encoders_of(model)
    _check_asked(precision, backend, encoders)
    if precision != AUTO:
        lower = Precision(precision)
    elif model.device.type == "cuda" and sample is not None:
        lower = Precision.FP16 if fp16 else Precision.BF16
    else:
        lower = Precision.FP32
    set_backends = partial(_set_backends, model, encoders, earlier=earlier or {}, sample=sample)
    chosen = set_backends(Precision.FP32, backend if lower == Precision.FP32 else AUTO)
    if not encoders and lower != Precision.FP32:
        log.warning("the model has no text encoder, so --precision changes nothing: it stays in fp32")
    if lower == Precision.FP32 or not encoders:
        return ChosenBackends(Precision.FP32, chosen)
    if sample is None:
        chosen = set_backends(lower, backend)
        log.info("the artifact has no check rows, so it is not known how much %s changes probabilities", lower)
        return ChosenBackends(lower, chosen)
    exactly = _probabilities(model, sample)
    try:
        chosen = set_backends(lower, backend)
        changes = (_probabilities(model, sample) - exactly).abs()
    # UsageError: the processor cannot compute the precision. The others: usually numbers that overflow in it.
    except (UsageError, ModelFailedError, torch.OutOfMemoryError) as error:
        if precision != AUTO:
            raise
        changes = torch.full_like(exactly, torch.inf)
        log.warning("the check rows cannot be scored in %s: %s", lower, error)
    largest = float(changes.max())
    if precision == AUTO and not largest <= TOLERANCES[lower]:
        log.warning("%s changes the probabilities of the check rows by up to %.3g: using fp32", lower, largest)
        return ChosenBackends(Precision.FP32, set_backends(Precision.FP32, backend))
    log.info(
        "%s changes the probabilities of the %d check rows by at most %.3g, %.3g on average",
        lower, sample.rows, largest, float(changes.mean()),
    )  # fmt: skip
    return ChosenBackends(lower, chosen, largest)


def _check_asked(precision: str, backend: str, encoders: Mapping[str, Encoder]) -> None:
    """Check that the precision is known, and that a model without encoders is not to have a backend for them."""
    if precision not in (AUTO, *Precision):
        raise UsageError(
            f"unknown precision {precision!r}", where="--precision", fix=f"choose one of auto, {', '.join(Precision)}"
        )
    if not encoders and backend not in (AUTO, EAGER):
        what = f"no backend {backend!r}: the model has no text encoder that a backend could compute"
        raise UsageError(what, where="--backend", fix="leave --backend out")


def restore_backends(model: ModelBase) -> None:
    """Build the backends of a model again that was pickled, which leaves them out.

    If a backend does not run here, or its ONNX file is gone, the encoder's own code computes the vectors.
    """
    for name, encoder in encoders_of(model).items():
        old = encoder.backend
        if old.name == EAGER or old.encode is not None:
            continue
        build, what = _builders(name, encoder, AUTO, by_name=False).get(old.name), f"backend {old.name!r} of {name!r}"
        new = build and attempt(what, partial(_built, build, old.precision, old.sample), by_name=False)
        if new is None:
            new = Backend(EAGER, Precision.FP32 if old.precision == Precision.INT8 else old.precision)
            log.warning("%s cannot be built again: the encoder's own code is used, in %s", what, new.precision)
        encoder.backend = new


def encoders_of(model: ModelBase) -> dict[str, Encoder]:
    """Return the encoders of a model, by their names in the model."""
    return {name: module for name, module in model.named_modules() if isinstance(module, Encoder)}


def _probabilities(model: ModelBase, sample: Batch) -> Tensor:
    with torch.inference_mode():
        return model.predict_step(sample.to(model.device)).cpu()


def _set_backends(
    model: ModelBase,
    encoders: Mapping[str, Encoder],
    precision: Precision,
    backend: str,
    earlier: Mapping[str, str],
    sample: Batch | None,
) -> dict[str, str]:
    texts = _texts(model, encoders, sample) if precision == Precision.INT8 and sample is not None else {}
    for name, encoder in encoders.items():
        encoder.backend = _backend(name, encoder, precision, backend, earlier.get(name), texts.get(name))
    return {name: encoder.backend.name for name, encoder in encoders.items()}


def _texts(model: ModelBase, encoders: Mapping[str, Encoder], sample: Batch) -> dict[str, TextBatch]:
    """Return the chunks of the sample that each encoder receives, of all text fields together.

    Only the model knows which text fields an encoder reads, so calls are observed while the model scores the sample.
    """
    received: dict[str, list[list[list[int]]]] = {}

    def observe(name: str, _: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        for value in (*arguments, *keywords.values()):
            if isinstance(value, TextBatch):
                received.setdefault(name, []).extend(value.to_rows())

    with ExitStack() as hooks:
        for name, encoder in encoders.items():
            hooks.enter_context(encoder.register_forward_pre_hook(partial(observe, name), with_kwargs=True))
        _probabilities(model, sample)
    return {name: TextBatch.from_rows(rows).to(model.device) for name, rows in received.items()}


def _backend(
    name: str, encoder: Encoder, precision: Precision, asked: str, earlier: str | None, text: TextBatch | None
) -> Backend:
    by_name = asked not in (AUTO, EAGER)
    if precision not in (Precision.FP32, Precision.INT8):
        check_precision(name, encoder, precision)
    builders = _builders(name, encoder, asked, by_name=by_name)
    if asked not in (AUTO, EAGER, *builders):
        raise UsageError(
            f"encoder {name!r} has no backend {asked!r}",
            where="--backend",
            fix=f"choose one of auto, {', '.join([EAGER, *builders])}",
        )
    built = [
        attempt(f"backend {other!r} of encoder {name!r}", partial(_built, build, precision, text), by_name=by_name)
        for other, build in builders.items()
        if asked in (AUTO, other)
    ]
    backends = [backend for backend in built if backend]
    eager = None if precision == Precision.INT8 else Backend(EAGER, precision)
    if eager and not by_name:
        return _fastest(name, encoder, eager, backends, earlier) if backends else eager
    if not backends:
        raise _unavailable(name, precision, asked, text)
    if eager and not exact(name, encoder, eager, backends, by_name=True):
        raise _inexact(name, backends[0])
    return backends[0]


def _builders(name: str, encoder: Encoder, asked: str, *, by_name: bool) -> dict[str, BuildBackend]:
    """Return the functions that build the backends of an encoder, by name."""
    offered = attempt(f"backends() of encoder {name!r}", partial(_offered, encoder), by_name=by_name) or {}
    return {**offered, ONNX: partial(_exported, name, encoder, asked)}


def _offered(encoder: Encoder) -> Mapping[str, BuildBackend]:
    offered: Any = encoder.backends()
    if isinstance(offered, Mapping):
        return offered
    raise TypeError(f"it returned a {type(offered).__name__}, expected a mapping of names to functions")


def _built(build: Callable[[str, TextBatch | None], Any], precision: str, text: TextBatch | None) -> Backend | None:
    backend = build(precision, text)
    if backend is None:
        return None
    if isinstance(backend, Backend):
        return replace(backend, sample=text) if precision == Precision.INT8 else backend
    raise TypeError(f"its builder returned a {type(backend).__name__}, expected a Backend or None")


def _unavailable(name: str, precision: Precision, asked: str, text: TextBatch | None) -> UsageError:
    named = asked != AUTO
    fix = "choose another precision" + ", or --backend auto" * named
    if precision == Precision.INT8 and text is None:
        fix = "int8 needs check rows: `bsm pack MODEL_DIR NEW --data TABLE` adds them to the artifact"
    return UsageError(
        f"encoder {name!r} cannot be computed in {precision} here" + f" by {asked!r}" * named,
        where="--backend" if named else "--precision",
        fix=fix,
    )


def _inexact(name: str, backend: Backend) -> UsageError | CorruptArtifactError:
    problem = f"backend {backend.name!r} of encoder {name!r} {OTHER_VECTORS}"
    if backend.name == ONNX:
        fix = "write the file again with `bsm export MODEL_DIR NEW`"
        return CorruptArtifactError(problem, where=f"onnx/{name}.onnx", fix=fix)
    return UsageError(problem, where="--backend", fix="choose another backend, or --backend auto")


def _exported(name: str, encoder: Encoder, asked: str, precision: str, sample: TextBatch | None) -> Backend | None:
    """Build the backend of an encoder's ONNX file; if the user asked for it, anything missing is an error."""
    if asked == ONNX:
        require_packages("--backend")
        if encoder.exported is None:
            raise UsageError(
                f"the artifact has no ONNX file of encoder {name!r}",
                where="--backend",
                fix="write it with `bsm export MODEL_DIR NEW`, or choose another backend",
            )
    return build(encoder, precision)


def _fastest(name: str, encoder: Encoder, eager: Backend, backends: list[Backend], earlier: str | None) -> Backend:
    """Return the earlier backend if it is exact here, else the fastest exact one.

    The result of an earlier trial on this machine spares the measurement, while it holds.
    """
    results, key = trial_results.read(), trial_results.key(encoder, [*backends, eager])
    known = results.get(key)
    names = [earlier] if earlier else []
    if known and known.holds():
        names.append(known.fastest)
    if names[:1] == [EAGER]:
        return eager
    candidates = {backend.name: backend for backend in (eager, *exact(name, encoder, eager, backends))}
    if len(candidates) == 1:
        return eager
    for found in names:
        if found in candidates:
            return candidates[found]
    result = trial_results.result_of(measured(name, encoder, list(candidates.values())), known)
    trial_results.write({**results, key: result})
    return candidates[result.fastest]

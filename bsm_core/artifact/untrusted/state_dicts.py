"""State dicts as other people's training saves them: finding one in a checkpoint, and fitting its names to a model."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate, takewhile
from typing import Any

import torch
from torch import Tensor

from bsm_core.artifact.files import corrupt
from bsm_core.artifact.untrusted.foreign_forms import in_command
from bsm_core.errors import CorruptArtifactError, WeightsMismatchError, short_repr

log = logging.getLogger("bsm")

_WRAPPERS = "_orig_mod|_forward_module|_fsdp_wrapped_module|_checkpoint_wrapped_module"
_LEADING = re.compile(rf"^(?:(?:module|{_WRAPPERS})\.)+")
_INNER = re.compile(rf"(?<=\.)(?:{_WRAPPERS})\.")
_CONTAINERS = ("state_dict", "model_state_dict", "model")
_FLAT = re.compile(r"(?:^|\.)_?flat_param(?:$|\.|_)")

_OTHER_NAMES = (
    (re.compile(r"\.weight$"), ".gamma"),  # of LayerNorm, in checkpoints that came from TensorFlow
    (re.compile(r"\.bias$"), ".beta"),
    (re.compile(r"(^|\.)parametrizations\.(\w+)\.original0$"), r"\1\2_g"),  # weight_norm, before and since torch 2.0
    (re.compile(r"(^|\.)parametrizations\.(\w+)\.original1$"), r"\1\2_v"),
    (re.compile(r"(^|\.)(\w+)_g$"), r"\1parametrizations.\2.original0"),
    (re.compile(r"(^|\.)(\w+)_v$"), r"\1parametrizations.\2.original1"),
)
"""Names of a parameter of the model, and its name in other versions of torch and transformers."""
_BUFFER_OF_POSITIONS = re.compile(
    r"(?:^|\.)(?:embeddings\.(?:position_ids|token_type_ids)|rotary_embeddings\.inv_freq)$"
)
"""Buffers that transformers saved in some versions, and that follow from the config."""
_NOT_OF_THE_MODEL = re.compile(
    r"(?:^|[._])(?:"
    r"criterion|loss|losses|loss_fn|loss_func|metrics?|metric_collection"
    r"|(?:average_)?precision|recall|accuracy|acc|auroc|auc|f1|f1_?score|confmat|confusion_matrix|specificity|kappa|mcc"
    r"|(?:binary|multiclass|multilabel)(?:auroc|accuracy|averageprecision|precision|recall|f1score|confusionmatrix"
    r"|specificity|statscores|calibrationerror)|meanmetric|summetric"
    r"|ema|ema_model|model_ema|averaged_model|swa_model|teacher)\d*\.",
    re.IGNORECASE,
)
"""Modules of a training that score nothing: losses, metrics of torchmetrics, averaged copies of the weights."""
_NUMBERS_OF_TRAINING = ("n_averaged", "num_updates", "ema_decay", "pos_weight", "class_weights", "label_smoothing")

_OF_QUANTIZATION = re.compile(
    r"(?:^|[._])(?:SCB|scales?|scale_inv|qweight|qzeros|zero_points?|absmax|quant_map|g_idx)$"
)
"""Numbers without which quantized weights have no meaning."""
_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)

_MOST_PREFIXES, _MOST_ENDS = 8, 30


def strip_prefixes(key: str) -> str:
    """Return a weight's name without the prefixes of wrappers.

    ``module.`` is stripped at the beginning only, because a model may have a submodule of that name.
    """
    return _LEADING.sub("", _INNER.sub("", key))


def find_state_dict(value: Any, file: str) -> Mapping[str, Any]:
    """Return the state dict in the content of a file: all of it, or the value of ``state_dict`` and the like.

    Args:
        value: Content of the file.
        file: Name of the file, for errors.

    Raises:
        CorruptArtifactError: There is no state dict, or more than one.
    """
    if not isinstance(value, Mapping):
        raise _no_state_dict(file, [f"it holds a {type(value).__name__}"])
    found = [name for name in _CONTAINERS if _is_state_dict(value.get(name))]
    if len(found) > 1:
        raise corrupt(
            file,
            "holds more than one state dict",
            f"save the one to score with alone: torch.save(checkpoint[{found[0]!r}], {file!r})",
            details=[f"found: {name}" for name in found],
        )
    state = value[found[0]] if found else value
    if found and (others := [str(name) for name, inner in value.items() if name != found[0] and _is_state_dict(inner)]):
        log.warning(
            "%s: the weights of %r are used, not those of %s", file, found[0], ", ".join(map(short_repr, others))
        )
    state = {key: inner for key, inner in state.items() if not (str(key).endswith("_extra_state") and inner is None)}
    wrong = [short_repr(key) for key, inner in state.items() if not isinstance(inner, Tensor)]
    if wrong:
        named = [str(name) for name, inner in state.items() if _is_state_dict(inner)]
        raise _no_state_dict(file, [f"not a tensor: {', '.join(wrong[:10])}"], named)
    if any(_FLAT.search(str(key)) for key in state):
        problem = "holds flat parameters of FSDP, which are the weights of one process"
        fix = "save a full state dict in the training job (FullStateDictConfig, or state_dict_type='full' in Lightning)"
        raise corrupt(file, problem, fix)
    return state


def _is_state_dict(value: Any) -> bool:
    return isinstance(value, Mapping) and bool(value) and any(isinstance(inner, Tensor) for inner in value.values())


def _no_state_dict(file: str, details: list[str], named: Iterable[str] = ()) -> CorruptArtifactError:
    fix = "save model.state_dict()"
    if name := next(iter(named), None):
        key = in_command(name, "NAME")
        fix = (
            f'save the state dict alone; if it is that of {short_repr(name)}: `python -c "import torch;'
            f" torch.save(torch.load('{file}', map_location='cpu')['{key}'], 'weights.pth')\"`"
        )
    return corrupt(file, "is neither a state dict nor a Lightning checkpoint", fix, details=details)


@dataclass(frozen=True)
class _Fit:
    """Weights of a state dict under the names of a model, and how they were found.

    Attributes:
        prefix: What the names in the state dict begin with.
        keys: Name in the state dict, by the name in the model.
        missing: Names of the model that the state dict lacks.
        unexpected: Names of the state dict that the model lacks.
        passed_over: Names of the state dict that belong to the training.
        shapes: Names of the model whose weights have another shape.
    """

    prefix: str
    keys: Mapping[str, str]
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    passed_over: list[str] = field(default_factory=list)
    shapes: list[str] = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        return [*self.missing, *self.unexpected, *self.shapes]

    @property
    def fits(self) -> bool:
        return not self.problems


def fit_weights(
    weights: Mapping[str, Tensor],
    expected: Mapping[str, torch.Size],
    optional: Collection[str] = (),
    tied: Iterable[Collection[str]] = (),
    *,
    surplus: bool = False,
) -> dict[str, Tensor]:
    """Return the weights for a model, under the names of the model.

    Names may begin with one more prefix, or lack the prefix of all names of the model, and parameters may have the
    names of other versions of the libraries. State of losses and metrics, and averaged copies of the weights, are
    passed over with a warning if nothing else is lacking.

    Args:
        weights: A state dict.
        expected: Shape by key, of ``model.state_dict()``.
        optional: Keys that the model or the state dict may lack, such as those of a loss.
        tied: Groups of keys that are one parameter; a state dict may have only one of them.
        surplus: Whether all weights that the model lacks are passed over with a warning, as transformers does, except
            scales of quantized weights.

    Raises:
        WeightsMismatchError: Keys are missing or unexpected, or shapes differ; the error lists all of them.
    """
    groups = [set(group) for group in tied]
    own, fit = "", _fit("", weights, expected, optional, groups, surplus)
    nearest = own, fit
    for own in () if fit.fits else _own_prefixes(expected, optional):
        inner = {name.removeprefix(own): shape for name, shape in expected.items() if name.startswith(own)}
        fit = _fit_under_prefix(weights, inner, optional, [_without(own, group) for group in groups], surplus)
        if fit.fits:
            break
        nearest = min(nearest, (own, fit), key=lambda found: len(found[1].problems))
    if not fit.fits:
        raise _mismatch(*nearest, weights, expected)
    if own and fit.prefix:
        told = "the names of all weights begin with %r where those of the model class begin with %r"
        log.info(told, fit.prefix, own)
    elif own:
        log.info("the names of all weights lack %r, with which those of the model class begin", own)
    elif fit.prefix:
        log.info("the names of all weights begin with %r, which is left out", fit.prefix)
    if fit.passed_over:
        named = ", ".join(map(short_repr, fit.passed_over[:5]))
        more = f" and {len(fit.passed_over) - 5} more" if len(fit.passed_over) > 5 else ""
        what = "the model has no place for" if surplus else "belong to the training, not to the model,"
        log.warning("weights that %s are passed over: %s%s", what, named, more)
    return {own + name: weights[key] for name, key in fit.keys.items()}


def _fit_under_prefix(
    weights: Mapping[str, Tensor],
    expected: Mapping[str, torch.Size],
    optional: Collection[str],
    groups: list[set[str]],
    surplus: bool,
) -> _Fit:
    """Return the fit under the prefix that the weights have; if there is none, one under the most frequent prefix."""
    prefixes = {"", *_prefixes(weights, expected, optional, groups)}
    frequent = Counter(key.removesuffix(end) for key in weights for end in _ends(key) if end in expected)
    prefixes |= {prefix for prefix, _ in frequent.most_common(1)}
    fits = [_fit(prefix, weights, expected, optional, groups, surplus) for prefix in sorted(prefixes)]
    whole = [other for other in fits if other.fits]
    scored = [other for other in whole if not _NOT_OF_THE_MODEL.search(other.prefix)] or whole
    if len(scored) > 1:
        raise WeightsMismatchError(
            "the weights fit the model class under more than one prefix",
            where="model weights",
            details=[f"found: {other.prefix}*" for other in scored],
            fix="save the weights to score with alone",
        )
    return scored[0] if scored else min(fits, key=lambda fit: len(fit.problems))


def _ends(key: str) -> list[str]:
    parts = key.rsplit(".", _MOST_ENDS)
    return [".".join(parts[start:]) for start in range(len(parts))]


def _own_prefixes(expected: Mapping[str, torch.Size], optional: Collection[str]) -> list[str]:
    """Return what all names of a model that are not optional begin with, from nothing to the longest."""
    needed = [name.split(".")[:-1] for name in expected if name not in optional]
    shared = takewhile(lambda parts: len(set(parts)) == 1, zip(*needed, strict=False))
    return ["", *accumulate(f"{parts[0]}." for parts in shared)]


def _without(prefix: str, names: Iterable[str]) -> set[str]:
    return {name.removeprefix(prefix) for name in names if name.startswith(prefix)}


def check_dtypes(weights: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    """Check that the weights of a model are floats of 16 bits or more: quantized weights need their scales.

    Args:
        weights: The weights.
        state: ``model.state_dict()``.

    Raises:
        WeightsMismatchError: Weights are integers, or floats of 8 bits; the error lists all of them.
    """
    wrong = [
        f"{name} is {str(value.dtype).removeprefix('torch.')}"
        for name, value in weights.items()
        if state[name].is_floating_point() and value.dtype not in _FLOATS
    ]
    if wrong:
        raise WeightsMismatchError(
            "the weights are not floats of 16 bits or more, as those of a quantized model, which is not read",
            where="model weights",
            details=wrong,
            fix="save the weights in float32, bfloat16 or float16; `--precision int8` quantizes them for a run",
        )


def _fit(
    prefix: str,
    weights: Mapping[str, Tensor],
    expected: Mapping[str, torch.Size],
    optional: Collection[str],
    tied: list[set[str]],
    surplus: bool,
) -> _Fit:
    keys: dict[str, str] = {}
    for name in expected:
        others = (other for other in _other_names(name) if other not in expected)
        if key := next((prefix + n for n in (name, *others) if prefix + n in weights), None):
            keys[name] = key
    used = set(keys.values())

    def is_free(name: str) -> bool:
        return name in optional or bool(_BUFFER_OF_POSITIONS.search(name))

    held = keys.keys() | {name for group in tied if group & keys.keys() for name in group}
    missing = [name for name in expected if name not in held and not is_free(name)]
    left = [key for key in weights if key not in used and not is_free(key.removeprefix(prefix))]
    known = [key for key in left if _is_of_training(key) or (surplus and not _OF_QUANTIZATION.search(key))]
    passed_over = [] if missing else known
    unexpected = left if missing else [key for key in left if key not in {*known}]
    shapes = [name for name, key in keys.items() if weights[key].shape != expected[name]]
    return _Fit(prefix, keys, missing, unexpected, passed_over, shapes)


def _other_names(name: str) -> list[str]:
    return [pattern.sub(other, name) for pattern, other in _OTHER_NAMES if pattern.search(name)]


def _is_of_training(key: str) -> bool:
    return bool(_NOT_OF_THE_MODEL.search(key)) or key.rpartition(".")[2] in _NUMBERS_OF_TRAINING


def _prefixes(
    weights: Mapping[str, Tensor], expected: Mapping[str, torch.Size], optional: Collection[str], tied: list[set[str]]
) -> list[str]:
    """Return what the names in a state dict may begin with: each place where all that the model needs follows.

    Checking a prefix ends at the first name that does not follow, so many prefixes take no time. Only a few are
    returned, those outside of the training first, because fitting each takes time. No other one could fit: two prefixes
    outside of the training leave each other's weights over.
    """
    needed = [name for name in expected if not (name in optional or _BUFFER_OF_POSITIONS.search(name))]
    needed.sort(key=len, reverse=True)
    ways = {}
    for name in needed:
        same = {name}.union(*(group for group in tied if name in group)) & expected.keys()
        ways[name] = [(key, expected[other]) for other in same for key in (other, *_other_names(other))]

    def is_held(name: str, prefix: str) -> bool:
        return any((value := weights.get(prefix + key)) is not None and value.shape == s for key, s in ways[name])

    ends = [f".{key}" for key, _ in ways[needed[0]]] if needed else []
    found = dict.fromkeys(key[: 1 - len(end)] for key in weights for end in ends if key.endswith(end))
    whole = [prefix for prefix in found if all(is_held(name, prefix) for name in needed)]
    return sorted(whole, key=lambda prefix: bool(_NOT_OF_THE_MODEL.search(prefix)))[:_MOST_PREFIXES]


def _mismatch(
    own: str, fit: _Fit, weights: Mapping[str, Tensor], expected: Mapping[str, torch.Size]
) -> WeightsMismatchError:
    problems = [f"missing: {own}{name} {list(expected[own + name])}" for name in fit.missing]
    problems += [f"unexpected: {key} {list(weights[key].shape)}" for key in fit.unexpected]
    problems += [
        f"shape: {own}{name} is {list(weights[fit.keys[name]].shape)}, the model has {list(expected[own + name])}"
        for name in fit.shapes
    ]
    return WeightsMismatchError(
        f"the weights do not fit the model class in {len(problems)} place(s)",
        where="model weights",
        details=problems,
        fix="check that model_class and the sizes in the config are those the weights were trained with",
    )

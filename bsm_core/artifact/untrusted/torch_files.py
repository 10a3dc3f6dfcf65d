"""Reading files of ``torch.save`` without running code."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from bsm_core.artifact.files import MODEL_ARTIFACTS, WEIGHTS, corrupt, refuse_pointers, require, unreadable
from bsm_core.artifact.untrusted.safe_pickle import (
    STAND_INS,
    ForbiddenGlobalError,
    PickledArray,
    PickledDtype,
    forbidden,
)
from bsm_core.artifact.untrusted.state_dicts import find_state_dict, strip_prefixes
from bsm_core.artifact.untrusted.torch_archive import check_torch_file, is_whole_object
from bsm_core.artifact.untrusted.values import check_nesting, check_shape, leaves
from bsm_core.errors import ArtifactError, CorruptArtifactError, UnsafeArtifactError, short_repr

log = logging.getLogger("bsm")
_MOST_CONFIG_NUMBERS = 1_000_000
_MOST_TENSORS = 20_000
_LARGEST_HEADER = 16 << 20
"""Bytes of the header of a file of safetensors: 20,000 names of 800 characters."""
_SLICE = 1 << 20
"""Numbers of two tensors that are compared at once."""
_FORBIDDEN = re.compile(r"GLOBAL (\S+) (?:was not an allowed|whose module)")


def load_torch(path: Path, safe_twin: str | None = None, *, mapped: bool = False) -> Any:
    """Read a file of ``torch.save`` that holds tensors, numpy arrays and plain values, or a ``.safetensors`` file.

    Args:
        path: The file.
        safe_twin: Name of the file that would be read instead if it were there; for the error.
        mapped: Whether the tensors are read from the file when they are used, if its form allows it.

    Returns:
        The value, with its tensors on the CPU. A ``TorchVersion`` is returned as ``str``, a numpy scalar as a Python
        scalar.

    Raises:
        UnsafeArtifactError: The file refers to anything else; the error names it.
        CorruptArtifactError: The file cannot be read.
    """
    allowed: list[Any] = [(stand_in, name) for name, stand_in in STAND_INS.items()]
    # The classes of the values that the stand-ins make. Their names have no dot, so no pickle can refer to them.
    allowed += [(PickledArray, "array"), (PickledDtype, "dtype")]
    allowed.append((str, "torch.torch_version.TorchVersion"))
    try:
        if path.suffix == ".safetensors":
            _check_safetensors(path)
            return safetensors.torch.load_file(path, device="cpu")
        with path.open("rb") as file, torch.serialization.safe_globals(allowed):
            size, is_zip = check_torch_file(file)
            file.seek(0)
            if mapped and is_zip:
                value = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            else:
                value = torch.load(file, map_location="cpu", weights_only=True)
        check_nesting(value)
        _check_tensors(value, size)
        return value
    except ArtifactError:
        raise
    except ForbiddenGlobalError as error:
        raise forbidden(str(error), path.name, safe_twin) from None
    except Exception as error:
        if isinstance(error, OSError) and error.errno:
            raise unreadable(path, error) from error
        if match := _FORBIDDEN.search(str(error)):
            raise _with_code(match[1], path, safe_twin) from None
        refuse_pointers(path.parent, [path])
        fix = "copy the artifact again, or have it saved again"
        raise corrupt(path.name, f"cannot be read: {_reason(error)}", fix) from error


def _with_code(name: str, path: Path, safe_twin: str | None) -> UnsafeArtifactError:
    error = forbidden(name, path.name, safe_twin)
    if safe_twin is None:
        return error
    saved = "checkpoint['state_dict']"
    if is_whole_object(path):
        error.what += ": the file is a model that was pickled whole"
        saved = "model.state_dict()"
    error.fix = (
        f"save the state dict alone, where the model was trained: `torch.save({saved}, '{path.name}')`. bsm runs no"
        f" code of an artifact, so `bsm pack` cannot read such a file either; or save {safe_twin}, which is read"
        " instead of it"
    )
    return error


def read_model_artifacts(folder: Path) -> dict[str, Any]:
    """Read ``model_artifacts.pth``.

    Raises:
        UnsafeArtifactError: The file refers to forbidden code.
        CorruptArtifactError: The file cannot be read, or does not hold a dict.
    """
    [path] = require(folder, (MODEL_ARTIFACTS,))
    value = load_torch(path)
    if not isinstance(value, dict) or not isinstance(value.get("config") or {}, dict):
        raise corrupt(path.name, "does not hold a dict with a 'config' dict", "save {'config': {...}, ...}")
    _check_config(value.get("config"))
    return value


def read_embedding(model_artifacts: Mapping[str, Any]) -> Tensor | None:
    """Return the embedding matrix ``[vocabulary, dimensions]``; None if there is none.

    Raises:
        CorruptArtifactError: The value is not a matrix of numbers.
    """
    value = model_artifacts.get("embedding_mat")
    if value is None:
        return None
    if isinstance(value, PickledArray) and value.dtype.kind in "iuf":
        value = torch.tensor(value)
    if not isinstance(value, Tensor) or value.ndim != 2:
        raise corrupt(f"{MODEL_ARTIFACTS}: embedding_mat", "is not a matrix of numbers")
    return _dense("embedding_mat", value, MODEL_ARTIFACTS)


def read_vocab(model_artifacts: Mapping[str, Any]) -> dict[Any, Any]:
    """Return the id of each token; empty if there is no vocabulary.

    Raises:
        CorruptArtifactError: The value is not a dict.
    """
    vocab = model_artifacts.get("vocab")
    if vocab is not None and not isinstance(vocab, dict):
        raise corrupt(f"{MODEL_ARTIFACTS}: vocab", f"is a {type(vocab).__name__}, not a dict", "save it as {token: id}")
    return vocab or {}


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Read ``model.safetensors``, or ``model.pth`` if that is not there. If both are there, they must agree.

    Returns:
        The state dict, without the prefixes of wrappers (``module.``, ``_orig_mod.``, ``_forward_module.``).

    Raises:
        UnsafeArtifactError: The file refers to forbidden code, or holds sparse or nested tensors.
        CorruptArtifactError: The file cannot be read, is neither a state dict nor a Lightning checkpoint, or the two
            files differ.
    """
    [path] = require(folder, WEIGHTS)
    weights, twin = read_state_dict(path, WEIGHTS[0]), folder / WEIGHTS[1]
    if path != twin and twin.is_file():
        _compare(weights, path, twin)
    return weights


def _compare(weights: dict[str, Tensor], path: Path, twin: Path) -> None:
    """Check that a pickled twin holds the same weights, if it can be read."""
    try:
        others = read_state_dict(twin, WEIGHTS[0], mapped=True)
    except ArtifactError as error:  # such as a pickle that refers to code, beside which the safe file was saved
        log.warning("%s is used, and cannot be compared with its twin: %s", path.name, error.one_line())
        return
    storages = {others[name].untyped_storage().data_ptr() for name in weights.keys() & others.keys()}
    # safetensors holds one of the names of tied weights, which are the same tensor in the other file.
    tied = {k for k, v in others.items() if k not in weights and v.untyped_storage().data_ptr() in storages}
    names = (name for name in {**weights, **others} if name not in tied)
    different = (name for name in names if not _same(weights.get(name), others.get(name)))
    if name := next(different, None):
        raise corrupt(
            f"{path.name} and {twin.name}",
            "hold different weights",
            "one of them is damaged, or of another model: copy the artifact again; or remove that file, or keep one of"
            " them with `bsm pack --prefer json|pickle`",
            details=[f"the first difference: {name}"],
        )


def _same(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None or one.shape != other.shape:
        return False
    if torch.equal(one, other):
        return True
    # In slices: as double, a tensor of bytes would take eight times its memory.
    one, other = one.reshape(-1), other.reshape(-1)
    slices = (slice(at, at + _SLICE) for at in range(0, one.numel(), _SLICE))
    return all(torch.allclose(one[s].double(), other[s].double(), rtol=1e-6, atol=0, equal_nan=True) for s in slices)


def read_state_dict(path: Path, safe_twin: str | None = None, *, mapped: bool = False) -> dict[str, Tensor]:
    """Read a file of weights; the arguments are those of :func:`load_torch`.

    Returns:
        The state dict, without the prefixes of wrappers (``module.``, ``_orig_mod.``, ``_forward_module.``).

    Raises:
        UnsafeArtifactError: The file refers to forbidden code, or holds sparse or nested tensors.
        CorruptArtifactError: The file cannot be read, or is neither a state dict nor a Lightning checkpoint.
    """
    return weights_of(load_torch(path, safe_twin, mapped=mapped), path)


def weights_of(value: Any, path: Path) -> dict[str, Tensor]:
    """Return the state dict in the content of a file, as :func:`read_state_dict` does."""
    state = find_state_dict(value, path.name)
    weights = {strip_prefixes(str(key)): _dense(str(key), value, path.name) for key, value in state.items()}
    if len(weights) < len(state):
        raise corrupt(path.name, "holds weights twice, with and without a prefix")
    return weights


def _dense(name: str, value: Tensor, file: str) -> Tensor:
    """Return a tensor detached; raise if it is not dense, because loading others from anyone is not safe in torch."""
    if value.layout is not torch.strided or value.is_nested:
        raise UnsafeArtifactError(
            f"{file}: {name!r} is a sparse or nested tensor", where=file, fix="save it as a dense tensor"
        )
    if value.is_quantized or value.is_complex():
        raise CorruptArtifactError(
            f"{file}: {name!r} is a quantized or complex tensor", where=file, fix="save it as float32"
        )
    if value.is_meta:
        raise CorruptArtifactError(f"{file}: {name!r} is a tensor without data", where=file, fix="save the weights")
    return value.detach()


def _check_safetensors(path: Path) -> None:
    """Check the header of a file of safetensors: torch takes 100 us for each tensor, even for one without numbers.

    Raises:
        ValueError: The header exceeds a limit.
    """
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > _LARGEST_HEADER:
            raise ValueError(f"its header has {size:,} bytes, more than {_LARGEST_HEADER:,}")
        header = json.loads(file.read(size))
    check_nesting(header)
    if not isinstance(header, dict) or len(header) > _MOST_TENSORS:
        raise ValueError(f"its header is no list of at most {_MOST_TENSORS:,} tensors")
    for entry in header.values():
        shape = entry.get("shape") if isinstance(entry, dict) else None
        check_shape([size for size in shape if isinstance(size, int)] if isinstance(shape, list) else [])


def _check_tensors(value: Any, size: int) -> None:
    """Check that the numbers of each tensor are in the file: one number may stand for a tensor of any shape.

    Raises:
        ValueError: A tensor has more numbers than the file.
    """
    for tensor in leaves(value):
        if isinstance(tensor, Tensor) and tensor.layout is torch.strided and not (tensor.is_nested or tensor.is_meta):
            check_shape(tensor.shape)
            held = min(size, tensor.untyped_storage().nbytes())
            if tensor.numel() * tensor.element_size() > held:
                raise ValueError(f"it holds a tensor of shape {short_repr(tuple(tensor.shape))} in {held:,} bytes")


def _check_config(config: Any) -> None:
    """Check that a config can become JSON values.

    Raises:
        UnsafeArtifactError: The config holds sparse or nested tensors.
        CorruptArtifactError: The config holds very many numbers, or a tensor without data.
    """
    numbers = 0
    for value in leaves(config):
        if isinstance(value, Tensor):
            numbers += _dense("config", value, MODEL_ARTIFACTS).numel()
        elif isinstance(value, np.ndarray):
            numbers += value.size
    if numbers > _MOST_CONFIG_NUMBERS:
        problem = f"holds arrays of {numbers:,} numbers, more than {_MOST_CONFIG_NUMBERS:,}"
        raise corrupt(f"{MODEL_ARTIFACTS}: config", problem, "store weights in model.pth")


def _reason(error: Exception) -> str:
    """Return the line of torch's message that tells the reason; the other lines advise to load the file unsafely."""
    text = str(error)
    if "weights_only" in text:
        text = text.rpartition("WeightsUnpickler error:")[2] if "WeightsUnpickler error:" in text else ""
    text = text.strip()
    return f"{type(error).__name__}: {text.splitlines()[0] if text else 'no reason given'}"

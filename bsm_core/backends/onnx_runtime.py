"""Backend ``"onnx"``: ONNX Runtime computes an encoder from the file that ``bsm export`` wrote.

The artifact contains the file, and may come from anyone. ONNX Runtime therefore receives its bytes, and the file
must contain all weights: a reference to another file could read any file of the machine. No library of custom operators
is loaded, so an unknown operator is an error.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bsm_core.errors import CorruptArtifactError, UnsafeArtifactError, UsageError
from bsm_core.models.batch import TextBatch
from bsm_core.models.encoder import Backend, Encoder
from bsm_core.models.micro_batches import TokenBudget, encode_rows
from bsm_core.runtime.precision import Precision

ONNX = "onnx"
INPUTS = ("input_ids", "attention_mask")
PACKAGES = ("onnx", "onnxruntime", "onnxscript")
"""Packages that the extra ``[onnx]`` installs."""

_TOKENS = 1024
"""Tokens at once, padding included; more tokens do not fit into the processor's cache."""
_FIX = "write the file again with `bsm export MODEL_DIR NEW`"


def require_packages(where: str) -> None:
    """Check that the packages of the extra ``[onnx]`` are installed.

    Args:
        where: Command or flag that needs them, for the error.

    Raises:
        UsageError: A package is missing.
    """
    if missing := [name for name in PACKAGES if importlib.util.find_spec(name) is None]:
        raise UsageError(f"not installed: {', '.join(missing)}", where=where, fix="pip install 'bsm-core[onnx]'")


def build(encoder: Encoder, precision: str) -> Backend | None:
    """Build the backend of an encoder.

    Args:
        encoder: The encoder, on its device.
        precision: A precision; the backend has only fp32.

    Returns:
        The backend; None in another precision or on another device than the CPU, without an ONNX file, or if a package
        of the extra ``[onnx]`` is missing.

    Raises:
        UnsafeArtifactError: The file refers to other files.
        CorruptArtifactError: ONNX Runtime cannot use the file.
    """
    if precision != Precision.FP32 or next(encoder.parameters()).device.type != "cpu":
        return None
    file = encoder.exported
    # The file of a model.tar.gz is deleted together with the folder where the archive was unpacked.
    if file is None or not file.is_file() or not all(map(importlib.util.find_spec, PACKAGES)):
        return None
    return Backend(ONNX, precision, OnnxEncoder(encoder, file), _TOKENS)


class OnnxEncoder:
    """Function that encodes chunks with ONNX Runtime on the CPU.

    Args:
        encoder: The encoder, whose ``pad_id`` and ``length`` are used.
        file: The ONNX file.

    Raises:
        UnsafeArtifactError, CorruptArtifactError: As in :func:`build`.
    """

    def __init__(self, encoder: Encoder, file: Path) -> None:
        self._file, self._pad_id, self._length = file, encoder.pad_id, encoder.length
        self._session = _session(file)
        if [given.name for given in self._session.get_inputs()] != list(INPUTS):
            raise _corrupt(file, f"its inputs are not {' and '.join(INPUTS)}")

    def __call__(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Return the vectors of chunks, float32 ``[chunks, encoded]``.

        Args:
            tokens: Token ids of all chunks, int32 ``[total]``.
            lengths: Number of tokens of each chunk, int64 ``[chunks]``.
        """
        offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
        one_chunk_per_row = TextBatch(tokens, offsets, torch.arange(len(lengths)), torch.ones_like(lengths))
        return encode_rows(one_chunk_per_row, self._padded, TokenBudget(_TOKENS), self._pad_id, self._length)

    def _padded(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        inputs = dict(zip(INPUTS, (input_ids.numpy(), attention_mask.numpy()), strict=True))
        try:
            vectors = torch.from_numpy(self._session.run(None, inputs)[0])
        except Exception as error:  # the exceptions of ONNX Runtime have no common base class
            raise _corrupt(self._file, str(error)) from error
        if vectors.dim() != 2 or len(vectors) != len(input_ids) or not vectors.is_floating_point():
            returned = f"it returns {vectors.dtype} {list(vectors.shape)}"
            raise _corrupt(self._file, f"{returned}, expected one vector for each of {len(input_ids)} chunks")
        return vectors


def _session(file: Path) -> Any:
    """Open an inference session with as many threads as PyTorch uses."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.enable_mem_pattern = False  # it would keep a memory plan for each of many shapes
    options.log_severity_level = 3  # errors only, which are raised as well
    options.add_session_config_entry("session.load_model_format", "ONNX")  # never guess another format
    content = _read(file)
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # no common base class, as above
        raise _corrupt(file, str(error)) from error


def _read(file: Path) -> bytes:
    """Read the file, and check that it refers to no other file."""
    import onnx

    content = file.read_bytes()
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # an exception of protobuf
        raise _corrupt(file, str(error)) from error
    if any(onnx.external_data_helper.uses_external_data(tensor) for tensor in _tensors(model, onnx.TensorProto)):
        raise UnsafeArtifactError(
            f"{_name(file)} keeps weights in other files, which could be any files of this machine",
            where=_name(file),
            fix=f"{_FIX}, which stores the weights inside the file",
        )
    return content


def _tensors(message: Any, kind: type) -> Iterator[Any]:
    """Yield every tensor in a protobuf message, at any depth."""
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for inner in [value] if hasattr(value, "ListFields") else value:
            if isinstance(inner, kind):
                yield inner
            yield from _tensors(inner, kind)


def _corrupt(file: Path, reason: str) -> CorruptArtifactError:
    return CorruptArtifactError(
        f"{_name(file)} cannot be used by ONNX Runtime here: {reason.strip()[:300]}", where=_name(file), fix=_FIX
    )


def _name(file: Path) -> str:
    return f"{file.parent.name}/{file.name}"

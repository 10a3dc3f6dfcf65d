"""The back end ``"onnx"``: ONNX Runtime computes an encoder from the file that ``bsm export`` wrote for it.

The file comes with the artifact, and an artifact is data from somewhere else. So it is handed over as bytes, with all
its weights inside: a file that points at others could have them read from anywhere. Operators that ONNX Runtime does
not know are an error, for no library of operators is loaded.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bsm_core.errors import CorruptArtifactError, UnsafeArtifactError, UsageError
from bsm_core.models.batch import TextBatch, TokenBudget, encode_rows
from bsm_core.models.encoder import Backend, Encoder

ONNX = "onnx"
INPUTS = ("input_ids", "attention_mask")
PACKAGES = ("onnx", "onnxruntime", "onnxscript")
"""What the extra ``[onnx]`` installs."""

_TOKENS = 1024
"""Tokens at once, padding included: more no longer fit the cache."""
_FIX = "make it anew with `bsm export MODEL_DIR NEW`"


def require_packages(where: str) -> None:
    """What the extra installs must be there.

    Raises:
        UsageError: It is not.
    """
    if missing := [name for name in PACKAGES if importlib.util.find_spec(name) is None]:
        raise UsageError(f"not installed: {', '.join(missing)}", where=where, fix="pip install 'bsm-core[onnx]'")


def build(encoder: Encoder, precision: str, sample: TextBatch | None = None) -> Backend | None:
    """The back end of an encoder; None where it was not exported, or ONNX Runtime is not there or not for this device.

    Args:
        encoder: The encoder, on its device.
        precision: Only ``"fp32"`` can be had.
        sample: Not needed.

    Raises:
        UnsafeArtifactError: The file refers to other files.
        CorruptArtifactError: ONNX Runtime cannot use it.
    """
    on_cpu = next(encoder.parameters()).device.type == "cpu"
    file = encoder.exported
    gone = file is None or not file.is_file()  # that of a model.tar.gz goes with the folder it was unpacked to
    if file is None or gone or precision != "fp32" or not on_cpu or not all(map(importlib.util.find_spec, PACKAGES)):
        return None
    return Backend(ONNX, precision, OnnxEncoder(encoder, file), _TOKENS)


class OnnxEncoder:
    """Encodes ragged chunks with ONNX Runtime on the CPU.

    Args:
        encoder: The encoder; its padding and its length hold here too.
        file: The ONNX file.

    Raises:
        UnsafeArtifactError, CorruptArtifactError: As for :func:`build`.
    """

    def __init__(self, encoder: Encoder, file: Path) -> None:
        self._file, self._pad_id, self._length = file, encoder.pad_id, encoder.length
        self._session = _session(file)
        if [given.name for given in self._session.get_inputs()] != list(INPUTS):
            raise _corrupt(file, f"its inputs are not {' and '.join(INPUTS)}")

    def __call__(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Vectors, float32 ``[chunks, encoded]``, of int32 ``[total]`` tokens and int64 ``[chunks]`` lengths."""
        offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
        one_a_row = TextBatch(tokens, offsets, torch.arange(len(lengths)), torch.ones_like(lengths))
        return encode_rows(one_a_row, self._padded, TokenBudget(_TOKENS), self._pad_id, self._length)

    def _padded(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        given = dict(zip(INPUTS, (input_ids.numpy(), attention_mask.numpy()), strict=True))
        try:
            vectors = torch.from_numpy(self._session.run(None, given)[0])
        except Exception as error:  # ONNX Runtime's own classes share no base
            raise _corrupt(self._file, str(error)) from error
        if vectors.dim() != 2 or len(vectors) != len(input_ids) or not vectors.is_floating_point():
            shape = list(vectors.shape)
            raise _corrupt(self._file, f"it gives {vectors.dtype} {shape} for {len(input_ids)} chunks, not vectors")
        return vectors


def _session(file: Path) -> Any:
    """An inference session on as many threads as PyTorch has."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.enable_mem_pattern = False  # it would keep a plan for every shape, and there are many
    options.log_severity_level = 3  # errors; they are raised as well
    options.add_session_config_entry("session.load_model_format", "ONNX")  # and no other that the bytes may look like
    content = _read(file)
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # as above
        raise _corrupt(file, str(error)) from error


def _read(file: Path) -> bytes:
    """The file, once it is known to refer to no other."""
    import onnx

    content = file.read_bytes()
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # protobuf's own
        raise _corrupt(file, str(error)) from error
    if any(onnx.external_data_helper.uses_external_data(tensor) for tensor in _tensors(model, onnx.TensorProto)):
        raise UnsafeArtifactError(
            f"{_name(file)} keeps weights in other files, which could lie anywhere",
            where=_name(file),
            fix=f"{_FIX}, which puts them inside",
        )
    return content


def _tensors(message: Any, kind: type) -> Iterator[Any]:
    """Every tensor anywhere inside, in graphs within graphs and functions too."""
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

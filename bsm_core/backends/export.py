"""Export of an artifact's encoders to ONNX files, for the backend ``"onnx"``: ``bsm export``."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from bsm_core.artifact.files import EXPORTED
from bsm_core.backends.choose import choose_backends, encoders_of
from bsm_core.backends.onnx_runtime import INPUTS, ONNX, require_packages
from bsm_core.errors import UsageError
from bsm_core.models.base import ModelBase
from bsm_core.models.encoder import Encoder
from bsm_core.runtime.precision import Precision


def export(model: ModelBase, folder: Path) -> list[Path]:
    """Write each encoder of an artifact to ``onnx/<name in the model>.onnx``, and check that the file is exact.

    Args:
        model: The artifact's model, on the CPU, in evaluation mode.
        folder: The artifact's folder; earlier files of these names are replaced.

    Returns:
        Paths of the files.

    Raises:
        UsageError: The extra ``[onnx]`` is not installed; or the model has no encoder, or one that cannot be exported.
        CorruptArtifactError: The vectors of a file differ from those of the encoder by more than 1e-5.
    """
    require_packages("bsm export")
    encoders = encoders_of(model)
    if not encoders:
        raise UsageError(
            "the model has no text encoder to export",
            where=f"model class {type(model).__name__}",
            fix="the model runs without ONNX; in your own model class, derive the text encoder from bsm_core.Encoder",
        )
    (folder / EXPORTED).mkdir(exist_ok=True)
    for name, encoder in encoders.items():
        encoder.exported = folder / EXPORTED / f"{name}.onnx"
        _write(name, encoder, encoder.exported)
    choose_backends(model, precision=Precision.FP32, backend=ONNX)  # raises if a file is not exact
    return [encoder.exported for encoder in encoders.values() if encoder.exported]


class _Vectors(nn.Module):
    """Module whose ``forward`` is an encoder's ``encode``, for the exporter."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.encoder.encode(input_ids, attention_mask)


def _write(name: str, encoder: Encoder, file: Path) -> None:
    """Export one encoder, with two chunks as the example.

    The number of chunks is free in the file. So is their length, unless the encoder has a fixed one.
    """
    length, free = encoder.length or 16, torch.export.Dim.DYNAMIC
    input_ids = (torch.arange(2 * length) % encoder.vocabulary).view(2, length)
    attention_mask = torch.ones_like(input_ids)
    attention_mask[1, length // 2 :] = 0
    axes = {0: free} if encoder.length else {0: free, 1: free}
    try:
        with _quiet():
            program = torch.onnx.export(
                _Vectors(encoder).eval(),
                (input_ids, attention_mask),
                input_names=list(INPUTS),
                output_names=["vectors"],
                dynamic_shapes=dict.fromkeys(INPUTS, axes),
                dynamo=True,
                verbose=False,
            )
            cast("torch.onnx.ONNXProgram", program).save(file, external_data=False)  # no None with dynamo=True
    except Exception as error:
        raise _refusal(name, encoder, error) from error


def _refusal(name: str, encoder: Encoder, error: Exception) -> UsageError:
    """Return the error for an encoder that PyTorch's exporter refuses, with the last line of what it says."""
    configs = (getattr(module, "config", None) for module in encoder.modules())
    kind = next((found for config in configs if isinstance(found := getattr(config, "model_type", None), str)), None)
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    said = (str(cause).strip() or type(cause).__name__).splitlines()[-1].strip()
    if kind is None:
        fix = "write its encode() so that torch.export can trace it; without ONNX the encoder runs as it is"
    else:
        fix = "score the artifact without --backend onnx, which needs no export"
    return UsageError(
        f"encoder {name!r}{f' of the type {kind!r}' if kind else ''} cannot be exported to ONNX",
        where=f"class {type(encoder).__name__}",
        details=[f"PyTorch's exporter: {said}"],
        fix=fix,
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence warnings and log lines of the exporter; its failures are exceptions."""
    logger = logging.getLogger("torch.onnx")  # warns about libraries that are not needed here
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logger.setLevel(level)

"""Check of the precision of a training job against the device that trains."""

from __future__ import annotations

import torch

from bsm_core.errors import ConfigError


def check_precision(precision: str, *, gpu: bool) -> None:
    """Check that the device can train in a precision.

    Raises:
        ConfigError: The device cannot train in this precision.
    """
    # Emulated bfloat16 is slower than float32.
    if gpu and precision == "bf16-mixed" and not torch.cuda.is_bf16_supported(including_emulation=False):
        name, other = torch.cuda.get_device_name(), "'16-mixed' or '32-true', or train with the accelerator 'cpu'"
    elif not gpu and precision == "16-mixed":  # Lightning would train in bfloat16 instead
        name, other = "a CPU", "'bf16-mixed' or '32-true', or train on a GPU"
    else:
        return
    raise ConfigError(
        f"{name} cannot train in {precision!r}", where="config.precision", fix=f"set precision to {other}"
    )

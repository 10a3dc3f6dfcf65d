"""Speed of this machine's matrix products, and a description of the machine."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

LIBRARIES = (
    "bsm",
    "torch",
    "transformers",
    "tokenizers",
    "sentence-transformers",
    "onnxruntime",
    "onnx",
    "pyarrow",
    "pandas",
)
TOKENS = {"cpu": (1024, 4096), "cuda": (8192, 32768)}
"""Rows of the left matrix: about the number of tokens that encoders process at once."""
SQUARE = {"cpu": 2048, "cuda": 8192}
SECONDS = 0.3
"""Seconds for which each product is repeated; the fastest call counts."""

Product = Callable[[], Any]
Kernel = Callable[[Tensor, Tensor], Product]
"""Function of ``x [m, k]`` and ``w [n, k]``, float32, that returns a function which computes ``x @ w.T``."""


def shapes(device: str, encoders: Sequence[dict[str, Any]]) -> list[tuple[int, int, int]]:
    """Shapes ``(m, k, n)``: those of the encoders' linear layers, and a large square."""
    found = {(SQUARE[device],) * 3}
    for encoder in encoders:
        hidden, inner = encoder["hidden_size"], encoder["intermediate_size"]
        found |= {(m, k, n) for m in TOKENS[device] for k, n in ((hidden, hidden), (hidden, inner), (inner, hidden))}
    return sorted(found)


def peaks(device: str, encoders: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Measure the rate of every kernel at every shape, in 10^9 floating-point operations a second.

    Returns:
        ``precision``, ``kernel``, ``shape`` and ``gflops`` of each; ``failed``, with the reason, in place of
        ``gflops`` if this processor or this PyTorch has no such kernel.
    """
    rates = []
    with torch.inference_mode():
        for m, k, n in shapes(device, encoders):
            x, w = torch.randn(m, k, device=device), torch.randn(n, k, device=device)
            for precision, name, kernel in _CUDA if device == "cuda" else _CPU:
                rate: dict[str, Any] = {"precision": precision, "kernel": name, "shape": [m, k, n]}
                try:
                    rate["gflops"] = 2 * m * k * n / _fastest(kernel(x, w), device) / 1e9
                except (RuntimeError, AttributeError) as error:
                    rate["failed"] = str(error).splitlines()[0]
                rates.append(rate)
    return rates


def best(rates: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the fastest product of each precision."""
    return {rate["precision"]: rate for rate in sorted(rates, key=lambda rate: rate.get("gflops", 0.0))}


def _fastest(product: Product, device: str) -> float:
    """Return the seconds of the fastest of many calls."""
    times: list[float] = []
    began = time.perf_counter()
    while not times or time.perf_counter() - began < SECONDS:
        start = time.perf_counter()
        product()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times)


def _mm(dtype: torch.dtype) -> Kernel:
    def kernel(x: Tensor, w: Tensor) -> Product:
        a, b = x.to(dtype), w.to(dtype).t()
        return lambda: torch.mm(a, b)

    return kernel


def _tf32(x: Tensor, w: Tensor) -> Product:
    def product() -> None:
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.mm(x, w.t())
        torch.backends.cuda.matmul.allow_tf32 = False

    return product


def _packed(dtype: torch.dtype) -> Kernel:
    """Product of oneDNN with packed weights."""

    def kernel(x: Tensor, w: Tensor) -> Product:
        a = x.to(dtype)
        packed = torch.ops.mkldnn._reorder_linear_weight(w.to(dtype), len(x))
        return lambda: torch.ops.mkldnn._linear_pointwise(a, packed, None, "none", [], "")

    return kernel


def _int8(x: Tensor, w: Tensor) -> Product:
    a, b = (t.mul(30).clamp(-127, 127).to(torch.int8) for t in (x, w.t()))
    return lambda: torch._int_mm(a, b)


def _onednn_int8(x: Tensor, w: Tensor) -> Product:
    """Product of oneDNN from uint8 to float32, with a scale for each output channel."""
    a = x.mul(30).add(128).clamp(0, 255).to(torch.uint8)
    b = w.mul(30).clamp(-127, 127).to(torch.int8)
    packed = torch.ops.onednn.qlinear_prepack(b, list(x.shape))
    scales, zeros = torch.full((len(w),), 1 / 30), torch.zeros(len(w), dtype=torch.int64)
    return lambda: torch.ops.onednn.qlinear_pointwise(
        a, 1 / 30, 128, packed, scales, zeros, None, 1.0, 0, torch.float32, "none", [], ""
    )


_CPU = (
    ("fp32", "torch.mm", _mm(torch.float32)),
    ("fp32", "oneDNN", _packed(torch.float32)),
    ("bf16", "torch.mm", _mm(torch.bfloat16)),
    ("bf16", "oneDNN", _packed(torch.bfloat16)),
    ("int8", "torch._int_mm", _int8),
    ("int8", "oneDNN", _onednn_int8),
)
_CUDA = (
    ("fp32", "torch.mm", _mm(torch.float32)),
    ("tf32", "torch.mm", _tf32),
    ("bf16", "torch.mm", _mm(torch.bfloat16)),
    ("fp16", "torch.mm", _mm(torch.float16)),
    ("int8", "torch._int_mm", _int8),
)


def describe() -> dict[str, Any]:
    """Return processor, memory, GPU, threads and versions, without names of hosts, users or paths."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "memory_gb": round(memory / 2**30),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "system": platform.system(),
        "versions": versions,
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())

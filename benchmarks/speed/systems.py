"""Systems of the benchmark: bsm, and other ways to score the same rows."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class System:
    """One way to score a table.

    Attributes:
        rival: Name of a rival in :mod:`rivals`; None for bsm itself.
        flags: Flags of bsm, in addition to those of every run.
        precision: Precision whose matrix product the system is compared with: ``"fp32"``, ``"bf16"`` or ``"int8"``. The
            precision in bsm's run record has priority.
        divisor: The system scores the first ``1 / divisor`` of the rows, if it is too slow for all rows.
        kind: Kind of data set that the system scores; None for any.
        devices: Devices on which the system runs.
    """

    rival: str | None = None
    flags: tuple[str, ...] = ()
    precision: str = "fp32"
    divisor: int = 1
    kind: str | None = "text"
    devices: tuple[str, ...] = ("cpu", "cuda")


SYSTEMS = {
    "bsm": System(kind=None),
    "bsm eager": System(flags=("--backend", "eager")),
    "bsm tuned": System(flags=("--backend", "tuned")),
    "bsm bf16": System(flags=("--precision", "bf16"), precision="bf16"),
    "bsm int8": System(flags=("--precision", "int8"), precision="int8", devices=("cpu",)),
    "padded loop": System("padded", divisor=8),
    "sorted": System("by_length"),
    "pipeline": System("pipeline"),
    "sentence-transformers": System("sentence_transformers"),
    "torch.compile": System("compiled"),
    "ONNX Runtime": System("onnx", devices=("cpu",)),
    "sorted bf16": System("by_length", precision="bf16"),
    "torch.compile bf16": System("compiled", precision="bf16"),
    "sentence-transformers bf16": System("sentence_transformers", precision="bf16", devices=("cuda",)),
    "ONNX Runtime int8": System("onnx", precision="int8", devices=("cpu",)),
    "pandas": System("pandas", kind="tabular"),
}

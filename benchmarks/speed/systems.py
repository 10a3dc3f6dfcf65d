"""What is measured: bsm, and each other way to score the same rows."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class System:
    """A way to score a table.

    Attributes:
        rival: A name of :mod:`rivals`; None for bsm itself.
        flags: Of bsm, beside those that every run has.
        precision: What its matrix products are compared with: ``"fp32"``, ``"bf16"`` or ``"int8"``. Of bsm, what it
            says in its run record counts, where it says so.
        part: It gets the first of so many parts of the rows, where it is too slow for all of them.
        kind: The kind of data set it scores; None for any.
        devices: Where it runs.
    """

    rival: str | None = None
    flags: tuple[str, ...] = ()
    precision: str = "fp32"
    part: int = 1
    kind: str | None = "text"
    devices: tuple[str, ...] = ("cpu", "cuda")


SYSTEMS = {
    "bsm": System(kind=None),
    "bsm eager": System(flags=("--backend", "eager")),
    "bsm tuned": System(flags=("--backend", "tuned")),
    "bsm bf16": System(flags=("--precision", "bf16"), precision="bf16"),
    "bsm int8": System(flags=("--precision", "int8"), precision="int8", devices=("cpu",)),
    "padded loop": System("padded", part=8),
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

"""Count of the operations that PyTorch runs."""

from __future__ import annotations

from collections import Counter
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode


class Operations(TorchDispatchMode):
    """Dispatch mode that counts operations by name; an inner mode may prevent some of them."""

    def __init__(self) -> None:
        super().__init__()
        self.done: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.done[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))

    @property
    def random(self) -> int:
        """Number of tensors that were filled with random numbers."""
        return self.done["normal_"] + self.done["uniform_"]

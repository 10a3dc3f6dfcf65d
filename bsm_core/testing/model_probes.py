"""Observation of a model class for the checks: files it opens, weights it makes, its forward for the exporter."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from bsm_core.models.base import ModelBase
from bsm_core.models.batch import Batch, TextBatch
from bsm_core.plugins.discovery import Component
from bsm_core.testing.audit import SOCKETS, audited
from bsm_core.testing.checks import load_again


def opened(component: Component, config: Mapping[str, Any], cls: type[ModelBase] | None = None) -> list[str]:
    """Build a model and return the files and sockets that were opened; what imports open does not count.

    A library that is imported now may look whether the machine has IPv6, for example.

    Args:
        component: The model class's component.
        config: Config of the model.
        cls: The model class; None to import it in this process.
    """
    cls = cls or load_again(component, ModelBase)
    events: list[str] = []

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if event in (*SOCKETS, "open") and not _is_import(str(arguments[0])):
            events.append(f"{event} {ascii(arguments[0])[:80]}")

    with audited(note):
        cls.from_config(config)
    return events


def _is_import(path: str) -> bool:
    """Return whether an import, or a search for installed distributions, opens a file or a socket."""
    callers = traceback.walk_stack(None)
    return path.endswith((".py", ".pyc", ".so")) or any("importlib" in f.f_code.co_filename for f, _ in callers)


@contextmanager
def weights_made() -> Iterator[list[str]]:
    """Yield a list that collects the names of the parameters that modules register inside the context.

    Parameters on the meta device have no storage and do not count.
    """
    made: list[str] = []

    def note(module: nn.Module, name: str, parameter: nn.Parameter) -> None:
        if parameter is not None and parameter.device.type != "meta":
            made.append(f"{type(module).__name__}.{name}")

    handle = nn.modules.module.register_module_parameter_registration_hook(note)
    try:
        yield made
    finally:
        handle.remove()


class Exportable(nn.Module):
    """Forward of a model as a function of tensors alone: the tokens of each text column, and the features."""

    def __init__(self, model: ModelBase, batch: Batch) -> None:
        super().__init__()
        self.model, self.rows = model, batch.rows
        self.texts: dict[str, TextBatch] = {
            column: _FixedLengths(**vars(text), sizes=text.chunk_offsets.diff().tolist())
            for column, text in batch.texts.items()
        }

    def forward(self, tokens: Mapping[str, Tensor], features: Tensor) -> Tensor:
        """Return logits, float ``[rows, num_classes]``."""
        texts = {column: replace(text, tokens=tokens[column]) for column, text in self.texts.items()}
        logits: Tensor = self.model(Batch(self.rows, texts, features))
        return logits


@dataclass(frozen=True)
class _FixedLengths(TextBatch):
    """Text batch whose chunk lengths are constants for the exporter, not values that it must trace."""

    sizes: Sequence[int]

    def length(self, chunk: int) -> int:
        return self.sizes[chunk]

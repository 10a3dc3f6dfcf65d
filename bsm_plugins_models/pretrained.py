"""Starting parts of a model from pretrained weights."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from torch import Tensor, nn

from bsm_core import ConfigError, ModelBase


class Part(Protocol):
    """A part that can start from pretrained weights."""

    def load_pretrained(self, key: str, state: Mapping[str, Tensor]) -> None:
        """Load them; ``key`` is the config key that describes the part, for errors."""

    def encoder_parameters(self) -> Iterable[nn.Parameter]:
        """What they are the weights of."""


class PretrainedParts(ModelBase):
    """A model class with parts that can start from pretrained weights."""

    @abstractmethod
    def parts(self) -> Mapping[str, Part]:
        """The parts, by the config key that describes each: ``"text_encoder"``, ``"embedding_mat"`` and the like."""

    def encoder_parameters(self) -> Iterable[nn.Parameter]:
        """The parameters that learn at ``encoder_lr``."""
        for part in self.parts().values():
            yield from part.encoder_parameters()

    def load_pretrained(self, key: str, state: Mapping[str, Tensor]) -> None:
        """Start one part from pretrained weights.

        Raises:
            ConfigError: There is no such part, or the weights do not fit it.
        """
        parts = self.parts()
        if key not in parts:
            raise ConfigError(
                f"model class {type(self).__name__} has no such part",
                where=f"config.{key}",
                fix=f"it takes pretrained weights for {', '.join(parts)}",
            )
        parts[key].load_pretrained(key, state)


def start_from(part: nn.Module, state: Mapping[str, Tensor], *, key: str, fresh: Sequence[str] = ()) -> None:
    """Load pretrained weights into a part.

    Args:
        part: The part.
        state: Its state dict; ``position_ids``, which older transformers saved, do not count.
        key: The config key that describes the part, for errors.
        fresh: Beginnings of names that keep the weights they were built with.

    Raises:
        ConfigError: Weights are missing, unexpected, or of another shape, or nothing has a name that is to be fresh; it
            names all of them.
    """
    own, skipped = part.state_dict(), tuple(fresh)
    wanted = {name: value for name, value in own.items() if not name.startswith(skipped)}
    problems = [f"missing: {name} {list(value.shape)}" for name, value in wanted.items() if name not in state]
    problems += [f"unexpected: {name}" for name in state if name not in own and not name.endswith("position_ids")]
    problems += [
        f"shape: {name} is {list(state[name].shape)}, the model has {list(value.shape)}"
        for name, value in wanted.items()
        if name in state and state[name].shape != value.shape
    ]
    problems += [f"no such part: {name}*" for name in skipped if not any(weight.startswith(name) for weight in own)]
    if problems:
        raise ConfigError(
            f"the pretrained weights do not fit the model in {len(problems)} place(s)",
            where=f"config.{key}",
            details=problems,
            fix="give weights of the sizes that the config has",
        )
    part.load_state_dict({name: state[name] for name in wanted}, strict=False)

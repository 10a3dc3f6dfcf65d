"""Pretrained weights for modules of a model."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from torch import Tensor, nn

from bsm_core import ConfigError, ModelBase


class PretrainedModule(Protocol):
    """Module that can load pretrained weights."""

    def load_pretrained(self, key: str, state: Mapping[str, Tensor]) -> None:
        """Load pretrained weights; ``key`` is the config key of the module, for errors."""

    def encoder_parameters(self) -> Iterable[nn.Parameter]:
        """Return the parameters that can be loaded."""


class PretrainedModelBase(ModelBase):
    """Base class of model classes with modules that can load pretrained weights."""

    @abstractmethod
    def pretrained_modules(self) -> Mapping[str, PretrainedModule]:
        """Return the modules by their config keys, such as ``"text_encoder"`` or ``"embedding_mat"``."""

    def encoder_parameters(self) -> Iterable[nn.Parameter]:
        """Return the parameters that are trained at ``encoder_lr``."""
        for module in self.pretrained_modules().values():
            yield from module.encoder_parameters()

    def load_pretrained(self, key: str, state: Mapping[str, Tensor]) -> None:
        """Load pretrained weights into one module.

        Args:
            key: Config key of the module.
            state: As in :meth:`bsm_core.ModelBase.load_pretrained`.

        Raises:
            ConfigError: The model has no such module, or the weights do not fit it.
        """
        modules = self.pretrained_modules()
        if key not in modules:
            raise ConfigError(
                f"model class {type(self).__name__} cannot load pretrained weights for {key!r}",
                where=f"config.{key}",
                fix=f"leave the key out; the class loads pretrained weights for {', '.join(modules)}",
            )
        modules[key].load_pretrained(key, state)


def load_weights(module: nn.Module, state: Mapping[str, Tensor], *, key: str, fresh: Sequence[str] = ()) -> None:
    """Load pretrained weights into a module.

    Args:
        module: The module.
        state: State dict for the module; ``position_ids``, which older versions of transformers saved, are ignored.
        key: Config key of the module, for errors.
        fresh: Prefixes of the names of weights that are not loaded.

    Raises:
        ConfigError: Weights are missing, unexpected, or of another shape, or a prefix matches no weight. The error
            names all of them.
    """
    own, skipped = module.state_dict(), tuple(fresh)
    needed = {name: value for name, value in own.items() if not name.startswith(skipped)}
    problems = [f"missing: {name} {list(value.shape)}" for name, value in needed.items() if name not in state]
    problems += [f"unexpected: {name}" for name in state if name not in own and not name.endswith("position_ids")]
    problems += [
        f"shape: {name} is {list(state[name].shape)}, the model has {list(value.shape)}"
        for name, value in needed.items()
        if name in state and state[name].shape != value.shape
    ]
    problems += [f"no such weights: {name}*" for name in skipped if not any(weight.startswith(name) for weight in own)]
    if problems:
        raise ConfigError(
            f"the pretrained weights do not fit the model in {len(problems)} place(s)",
            where=f"config.{key}",
            details=problems,
            fix="use weights whose sizes are those of the config",
        )
    module.load_state_dict({name: state[name] for name in needed}, strict=False)

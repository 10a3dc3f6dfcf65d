"""A plugin for tests of the core: small steps and a small model class, found like anybody's."""

from bsm_core import hookimpl


@hookimpl
def bsm_steps():
    return {
        "toy_tokens": "toy_bsm_steps:ToyTokens",
        "toy_trap": "toy_bsm_steps:ToyTrap",
        "toy_wait": "toy_bsm_steps:ToyWait",
    }


@hookimpl
def bsm_model_classes():
    return {"toy_model": "toy_bsm_model:ToyModel"}

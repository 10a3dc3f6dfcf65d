"""A plugin for tests of the core: small steps and small model classes, found like anybody's."""

from bsm_core import hookimpl


@hookimpl
def bsm_steps():
    return {
        "toy_clean": "toy_bsm_steps:ToyClean",
        "toy_encode": "toy_bsm_steps:ToyEncode",
        "toy_split": "toy_bsm_steps:ToySplit",
        "toy_tokens": "toy_bsm_steps:ToyTokens",
        "toy_trap": "toy_bsm_steps:ToyTrap",
        "toy_wait": "toy_bsm_steps:ToyWait",
    }


@hookimpl
def bsm_model_classes():
    return {
        "toy_embedding": "toy_bsm_encoders:ToyEmbedding",
        "toy_encoder": "toy_bsm_encoders:ToyEncoder",
        "toy_model": "toy_bsm_model:ToyModel",
        "toy_pair": "toy_bsm_encoders:ToyPair",
    }

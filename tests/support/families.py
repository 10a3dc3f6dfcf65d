"""Small configs of every type of encoder."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

POSITIONS = 600
_SIZES = {
    "vocab_size": 64,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": POSITIONS,
    "pad_token_id": 0,
    "initializer_range": 0.3,
}
_GROUPS = dict.fromkeys(("q_groups", "k_groups", "v_groups", "post_attention_groups", "intermediate_groups"), 2)
_OTHER: dict[str, dict[str, Any]] = {
    "albert": {"embedding_size": 8},
    "big_bird": {"block_size": 4, "num_random_blocks": 1},
    "convbert": {"embedding_size": 8},
    "deberta": {"relative_attention": True, "pos_att_type": "c2p|p2c", "position_biased_input": False},
    "deberta-v2": {
        "relative_attention": True,
        "position_buckets": 8,
        "pos_att_type": "p2c|c2p",
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "position_biased_input": False,
        "conv_kernel_size": 3,
        "conv_act": "gelu",
    },
    "electra": {"embedding_size": 8},
    "esm": {"pad_token_id": 1, "mask_token_id": 2, "position_embedding_type": "rotary"},
    "eurobert": {"bos_token_id": 1, "eos_token_id": 2, "num_key_value_heads": 1},
    "lilt": {"hidden_size": 24, "channel_shrink_ratio": 2, "max_2d_position_embeddings": 64},
    "longformer": {"attention_window": 8},
    "luke": {"entity_vocab_size": 4, "entity_emb_size": 4},
    "markuplm": {
        "max_xpath_tag_unit_embeddings": 220,
        "max_xpath_subs_unit_embeddings": 1004,
        "xpath_unit_hidden_size": 2,
    },
    "mobilebert": {"embedding_size": 8, "intra_bottleneck_size": 16, "initializer_range": 0.1},
    "modernbert": {
        "local_attention": 16,
        "global_attn_every_n_layers": 2,
        "num_hidden_layers": 4,
        "local_rope_theta": 900.0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "cls_token_id": 1,
        "sep_token_id": 2,
    },
    "openai_privacy_filter": {
        "num_key_value_heads": 1,
        "head_dim": 8,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "sliding_window": 8,
        "eos_token_id": 2,
    },
    "squeezebert": {"embedding_size": 16, "output_groups": 2, **_GROUPS},
    "ultrabert": {"num_key_value_heads": 1, "bos_token_id": 1, "eos_token_id": 2},
    "xlnet": {"d_head": 8, "d_inner": 24},
    "xmod": {"languages": ["en"], "default_language": "en"},
}


def tiny(kind: str, **other: Any) -> dict[str, Any]:
    """Return the content of a ``config.json`` of a small encoder; keys that its type does not define are ignored."""
    names = {"distilbert": {"hidden_dim": 24}}.get(kind, {})
    return {"model_type": kind, **_SIZES, **names, **_OTHER.get(kind, {}), **other}


@torch.no_grad()
def with_noise(model: nn.Module) -> Any:
    """Add noise to all parameters, as training does: vectors of padding, biases and norms are no longer 0 or 1."""
    for value in model.parameters():
        value.add_(torch.randn_like(value), alpha=0.1)
    return model

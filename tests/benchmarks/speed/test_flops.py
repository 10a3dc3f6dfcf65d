from __future__ import annotations

import torch
from flops import encoder_flop
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, BertModel

SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}


def counted(length: int) -> int:
    """What torch counts of one chunk, in the layers of a BERT."""
    model = BertModel(BertConfig(vocab_size=50, **SIZES), add_pooling_layer=False).eval()
    counter = FlopCounterMode(display=False)
    with counter, torch.inference_mode(), sdpa_kernel(SDPBackend.MATH):
        model(input_ids=torch.ones(1, length, dtype=torch.int64))
    return counter.get_total_flops()


def test_it_is_what_torch_counts():
    assert encoder_flop([7], SIZES) == counted(7)
    assert encoder_flop([7, 19], SIZES) == counted(7) + counted(19)


def test_no_encoder_is_no_work():
    assert encoder_flop([], {}) == 0

from __future__ import annotations

import torch
from flops import encoder_flop, needed_flop
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, BertModel

from bsm_plugins_models.encoders.packed.attention import ByLength
from bsm_plugins_models.encoders.packed.bert import PackedBert
from bsm_plugins_models.encoders.packed.families import parts_of
from bsm_plugins_models.encoders.packed.linear import Cast
from bsm_plugins_models.encoders.packed.products import in_dtype

SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}


def counted(length: int) -> int:
    """Return the FLOP that torch counts for one chunk, in the layers of a BERT."""
    model = BertModel(BertConfig(vocab_size=50, **SIZES), add_pooling_layer=False).eval()
    counter = FlopCounterMode(display=False)
    with counter, torch.inference_mode(), sdpa_kernel(SDPBackend.MATH):
        model(input_ids=torch.ones(1, length, dtype=torch.int64))
    return counter.get_total_flops()


def test_it_is_what_torch_counts():
    assert encoder_flop([7], SIZES) == counted(7)
    assert encoder_flop([7, 19], SIZES) == counted(7) + counted(19)


def test_what_is_needed_is_what_the_tuned_encoder_computes():
    model = BertModel(BertConfig(vocab_size=50, **SIZES)).eval()
    encode = PackedBert(model, parts_of(model), in_dtype(Cast, torch.float32), ByLength)
    counter = FlopCounterMode(display=False)
    lengths = [48, 16]  # multiples of what attention takes at once: nothing is computed in vain
    with counter, torch.inference_mode(), sdpa_kernel(SDPBackend.MATH):
        encode(torch.ones(sum(lengths), dtype=torch.int32), torch.tensor(lengths))
    hidden = SIZES["hidden_size"]
    pooler, of_first_tokens = (
        len(lengths) * 2 * hidden**2,
        4 * sum(lengths) * hidden,
    )  # torch counts no sums of products
    assert needed_flop(lengths, SIZES) == counter.get_total_flops() - pooler + of_first_tokens
    assert needed_flop(lengths, SIZES) < encoder_flop(lengths, SIZES)


def test_no_encoder_is_no_work():
    assert encoder_flop([], {}) == needed_flop([], {}) == 0

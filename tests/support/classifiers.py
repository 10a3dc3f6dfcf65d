"""Small random sequence classifiers of transformers, one of each family, saved as transformers saves them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor
from transformers import (
    CONFIG_MAPPING,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

WORDS = (
    *("good", "bad", "fine", "poor", "dress", "size", "colour", "fits", "runs", "small", "large", "love", "hate"),
    *("return", "very", "not", "the", "a", "it", "was"),
)
_TRAINED_ON = [" ".join(WORDS[i:] + WORDS[:i]) for i in range(len(WORDS))]
_SIZE = 90
_SMALL = {
    "vocab_size": _SIZE,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 512,
    "embedding_size": 8,
    "pad_token_id": 0,
    "initializer_range": 0.3,
    "initializer_cutoff_factor": 2.0,
}
_OF_ROBERTA = {"max_position_embeddings": 514, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
FAMILIES: Mapping[str, Mapping[str, Any]] = {
    "albert": {},
    "bert": {},
    "deberta-v2": {
        "relative_attention": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_biased_input": False,
        "position_buckets": 8,
        "share_att_key": True,
        "norm_rel_ebd": "layer_norm",
    },
    "distilbert": {},
    "electra": {},
    "modernbert": {
        "bos_token_id": 2,
        "cls_token_id": 2,
        "eos_token_id": 3,
        "sep_token_id": 3,
        "local_attention": 16,
        "classifier_pooling": "mean",
    },
    "mpnet": _OF_ROBERTA,
    "roberta": {**_OF_ROBERTA, "type_vocab_size": 1},
    "xlm-roberta": {**_OF_ROBERTA, "type_vocab_size": 1},
}
"""Config keys of each family beside those of all."""
MORE_FAMILIES: Mapping[str, Mapping[str, Any]] = {
    "big_bird": {"block_size": 4, "num_random_blocks": 1},
    "camembert": _OF_ROBERTA,
    "convbert": {},
    "data2vec-text": _OF_ROBERTA,
    "deberta": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False},
    "ernie": {},
    "esm": {"position_embedding_type": "rotary", "mask_token_id": 4},
    "eurobert": {"bos_token_id": 2, "eos_token_id": 3, "mask_token_id": 4, "num_key_value_heads": 1},
    "flaubert": {"pad_index": 0},
    "fnet": {},
    "gte": {},
    "ibert": _OF_ROBERTA,
    "jina_embeddings_v3": _OF_ROBERTA,
    "longformer": {**_OF_ROBERTA, "attention_window": 8},
    "megatron-bert": {},
    "mobilebert": {"intra_bottleneck_size": 16, "initializer_range": 0.1},
    "nomic_bert": {},
    "nystromformer": {},
    "rembert": {},
    "roberta-prelayernorm": _OF_ROBERTA,
    "roformer": {},
    "squeezebert": {
        "embedding_size": 16,
        **dict.fromkeys(("q_groups", "k_groups", "v_groups", "intermediate_groups", "output_groups"), 2),
    },
    "xlm": {"pad_index": 0},
    "xlm-roberta-xl": _OF_ROBERTA,
    "xmod": {**_OF_ROBERTA, "languages": ["en"], "default_language": "en"},
}
"""Config keys of the other families that are imported."""
_UNIGRAM, _BYTES = ("albert", "deberta-v2", "xlm-roberta"), ("modernbert", "roberta")
_LIKE_ROBERTA = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
_LIKE_BERT = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def save_classifier(folder: Path, family: str = "bert", labels: Sequence[str] = ("no", "yes"), **config: Any) -> Path:
    """Write the folder of a classifier with its tokenizer, and return it. The weights are the same every time."""
    values = classifier_config(family, **config)
    names = {"id2label": dict(enumerate(labels)), "label2id": {label: i for i, label in enumerate(labels)}}
    torch.manual_seed(1)
    made = AutoModelForSequenceClassification.from_config(
        CONFIG_MAPPING[family](**{key: value for key, value in values.items() if key != "model_type"}, **names)
    )
    with torch.no_grad():
        for value in made.parameters():  # so large, biases and norms too, that texts are told apart
            value.add_(torch.randn_like(value), alpha=0.25 if value.ndim > 1 else 0.1)
    made.save_pretrained(folder)
    make_tokenizer(family).save_pretrained(folder)
    return folder


def classifier_config(family: str, **config: Any) -> dict[str, Any]:
    """Return the content of ``config.json`` of a small classifier of a family."""
    kind, own = CONFIG_MAPPING[family], {**{**FAMILIES, **MORE_FAMILIES}.get(family, {}), **config}
    known = {*kind().to_dict(), *kind.attribute_map}
    return {**{key: value for key, value in _SMALL.items() if key in known}, **own, "model_type": family}


def make_tokenizer(family: str) -> PreTrainedTokenizerFast:
    """Return a small tokenizer of the kind that a family has."""
    special = _LIKE_ROBERTA if {**FAMILIES, **MORE_FAMILIES}[family].get("pad_token_id") == 1 else _LIKE_BERT
    if family in _UNIGRAM:
        backend = Tokenizer(models.Unigram())
        backend.pre_tokenizer, backend.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
        unknown = special[3] if special is _LIKE_ROBERTA else special[1]
        trainer: Any = trainers.UnigramTrainer(vocab_size=_SIZE, special_tokens=[*special], unk_token=unknown)
    elif family in _BYTES:
        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
        trainer = trainers.BpeTrainer(vocab_size=_SIZE, special_tokens=[*special], show_progress=False)
    else:
        backend = Tokenizer(models.WordPiece(unk_token=special[3] if special is _LIKE_ROBERTA else special[1]))
        backend.normalizer = normalizers.BertNormalizer(lowercase=True)
        backend.pre_tokenizer, backend.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
        trainer = trainers.WordPieceTrainer(vocab_size=_SIZE, special_tokens=[*special], show_progress=False)
    backend.train_from_iterator(_TRAINED_ON, trainer)
    if special is _LIKE_ROBERTA:
        first, pad, last, unknown, mask = special
        single, pair = f"{first} $A {last}", f"{first} $A {last} {last} $B {last}"
    else:
        pad, unknown, first, last, mask = special
        single, pair = f"{first} $A {last}", f"{first} $A {last} $B:1 {last}:1"
    ids = [(token, backend.token_to_id(token)) for token in (first, last)]
    backend.post_processor = processors.TemplateProcessing(single=single, pair=pair, special_tokens=ids)
    inputs = ["input_ids", "attention_mask"]
    if family in ("albert", "bert", "deberta-v2", "electra"):
        inputs.insert(1, "token_type_ids")
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_input_names=inputs,
        pad_token=pad,
        unk_token=unknown,
        cls_token=first,
        sep_token=last,
        mask_token=mask,
    )


def scores_of_transformers(folder: Path, texts: Sequence[str], max_length: int, batch_size: int = 100) -> Tensor:
    """Return the probabilities that transformers computes of batches of texts, float64 ``[texts, classes]``."""
    tokenizer, rows = AutoTokenizer.from_pretrained(folder), []
    full = {"attention_type": "original_full"} if (folder / "config.json").read_text().count("block_sparse") else {}
    model: PreTrainedModel = AutoModelForSequenceClassification.from_pretrained(folder, **full).eval()
    for start in range(0, len(texts), batch_size):
        batch = [*texts[start : start + batch_size]]
        inputs = tokenizer(batch, truncation=True, max_length=max_length, padding=True, return_tensors="pt")
        with torch.inference_mode():
            rows.append(model(**inputs).logits.double().softmax(1))
    return torch.cat(rows)

"""Building an encoder of transformers from a config that may come from anyone."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

TYPES = (
    *("albert", "bert", "bert-generation", "big_bird", "camembert", "convbert", "data2vec-text", "deberta"),
    *("deberta-v2", "distilbert", "electra", "ernie", "esm", "esmc", "eurobert", "flaubert", "fnet", "gte", "ibert"),
    *("jina_embeddings_v3", "layoutlm", "lilt", "longformer", "luke", "markuplm", "megatron-bert", "mobilebert"),
    *("modernbert", "mpnet", "nomic_bert", "nystromformer", "openai_privacy_filter", "rembert", "roberta"),
    *("roberta-prelayernorm", "roformer", "splinter", "squeezebert", "ultrabert", "xlm", "xlm-roberta"),
    *("xlm-roberta-xl", "xlnet", "xmod"),
)
"""Types of encoders that read text alone, return a vector for each token and load nothing: no weights, no other model,
no code.

Not among them are decoders; ``reformer`` and ``yoso``, whose random hashes let a text's vectors differ from run to run;
``mra``, which loads code from the hub; ``funnel``, whose lengths change inside; ``canine``, which takes no short texts;
``roc_bert``, which reads the shape and the sound of each token; and ``tapas``, which reads tables.
"""

PADDING_COUNTS = ("convbert", "fnet", "mobilebert", "nystromformer")
"""Types that mix tokens with the padding after them, whatever the attention mask says."""

_ROTARY = ("rope_theta", "rope_scaling", "partial_rotary_factor")
_ALSO_READ = {
    **dict.fromkeys(("esmc", "eurobert", "gte", "jina_embeddings_v3", "nomic_bert"), _ROTARY),
    "deberta": ("embedding_size", "talking_head"),
    "deberta-v2": (
        *("attention_head_size", "conv_act", "conv_groups", "conv_kernel_size", "embedding_size", "norm_rel_ebd"),
        *("position_buckets", "share_att_key"),
    ),
    "modernbert": ("global_attn_every_n_layers", "global_rope_theta", "local_rope_theta", "rope_scaling"),
    "openai_privacy_filter": _ROTARY,
    "ultrabert": ("attention_windows", "rope_theta"),
}
"""Keys that a type of encoder reads and that its config does not define, mostly names of older versions.

Without them an encoder would be another one than transformers builds from the same file.
"""
_NOT_FOR_AN_ENCODER = ("id2label", "label2id", "num_labels", "return_dict", "dtype", "torch_dtype")
_MOST_LAYERS, _MOST_MODULES, _MOST = 200, 3_000, 10_000_000
"""Limits on the number of anything of a kind, on the product of the numbers below, and on other integers."""
_COUNT = re.compile(r"^number of|layer|^n(?:um)?_|_num$|group")
_NO_COUNT = re.compile(r"^(?!number of).*(?:eps|bucket|size|embd|embed|n_inner|n_token|n_words|position)")
_MODULES = ("num_hidden_layers", "num_hidden_groups", "inner_group_num", "num_feedforward_networks", "languages")
"""Keys whose product is the number of modules: layers, and what each layer has more than one of."""


def read_encoder(encoder: Mapping[str, Any], types: Collection[str] = TYPES) -> PreTrainedConfig:
    """Return the content of a ``config.json`` as a config of transformers.

    Keys that the type of encoder does not define are left out: transformers keeps every key as an attribute, and some
    attributes lead to code of the artifact or of the hub (``auto_map``, or another name by way of ``attribute_map``).

    Args:
        encoder: Content of the file.
        types: Types that can be used.

    Raises:
        ValueError: The type is not one of ``types``, a size is very large, or transformers refuses a value.
    """
    from transformers import CONFIG_MAPPING

    kind = encoder.get("model_type")
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        raise ValueError(f"transformers has no model_type {kind!r}")
    if kind not in types:
        raise ValueError(f"bsm does not support model_type {kind!r} here; use {', '.join(types)}")
    type_of_config = CONFIG_MAPPING[kind]
    defined = {*type_of_config().to_dict(), *type_of_config.attribute_map, *_ALSO_READ.get(kind, ())}
    known = defined - {*_NOT_FOR_AN_ENCODER}
    values = {key: value for key, value in encoder.items() if key in known and not key.startswith("_")}
    for key, size in _numbers(values):
        limit = _MOST_LAYERS if _COUNT.search(key) and not _NO_COUNT.search(key) else _MOST
        if abs(size) > limit:
            raise ValueError(f"{key} is {size}, more than {limit:,}")
    try:
        config = type_of_config.from_dict(values)
    except Exception as error:
        raise ValueError(f"transformers cannot read the config of this encoder: {error}") from error
    _complete(config)
    counts = {key: getattr(config, key, 1) for key in _MODULES}
    found = {k: len(v) if isinstance(v, list | tuple) else v for k, v in counts.items() if k in known}
    modules = math.prod(max(1, count) for count in found.values() if isinstance(count, int))
    if modules > _MOST_MODULES:
        raise ValueError(f"{', '.join(found)} multiply to {modules:,} modules, more than {_MOST_MODULES:,}")
    return config


def _complete(config: PreTrainedConfig) -> None:
    """Set what a score must not depend on, and check what an encoder needs only when it computes.

    The sparse attention of BigBird draws random blocks, and a short batch replaces it for good by full attention.

    Raises:
        ValueError: A key is missing.
    """
    if config.model_type == "big_bird":
        config.attention_type = "original_full"
    if config.model_type == "xmod" and config.default_language not in config.languages:
        raise ValueError(
            f"default_language is {config.default_language!r}; name one of the languages of the encoder, which is used"
            f" for all texts: {', '.join(map(str, config.languages[:10]))}"
        )


def build_encoder(encoder: Mapping[str, Any], *, pooler: bool = True) -> PreTrainedModel:
    """Build a transformers ``AutoModel`` with new weights; nothing is downloaded, and no code of the artifact is run.

    Args:
        encoder: Content of ``config.json``.
        pooler: Whether the model keeps its pooler. Without it, it has no weights for one.

    Raises:
        ValueError: The encoder cannot be built, or has no pooler and should keep one.
    """
    from transformers import AutoModel

    # float32, whatever dtype the config names: a lower precision is chosen by --precision, not by the file.
    model: PreTrainedModel = AutoModel.from_config(  # type: ignore[no-untyped-call]
        read_encoder(encoder), dtype=torch.float32, trust_remote_code=False
    )
    has_pooler = getattr(model, "pooler", None) is not None
    if pooler and not has_pooler:
        raise ValueError(f"an encoder of type {encoder['model_type']!r} has no pooler")
    if has_pooler and not pooler:
        model.pooler = nn.Identity()  # not None, because some types call it unasked
    return model


def layers_of(bert: nn.Module, count: int) -> tuple[str, ...]:
    """Return the names of the lists of a model's layers, such as ``("encoder.layer",)``.

    XLM has several: its layers' attentions, feed-forward networks and norms stand in lists of their own.

    Args:
        bert: A transformers model.
        count: Its number of layers.

    Returns:
        Names; none if the layers share their weights, as in ALBERT.
    """
    found: list[str] = []
    for name, module in bert.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer in found)
        if isinstance(module, nn.ModuleList) and len(module) == count and not inside:
            found.append(name)
    return tuple(found)


def _numbers(value: Any, key: str = "") -> Iterator[tuple[str, int]]:
    """Yield every integer in a value, with the key that it stands under."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _numbers(inner, str(name))
    elif isinstance(value, list | tuple):
        yield f"number of {key}", len(value)
        for inner in value:
            yield from _numbers(inner, key)
    elif isinstance(value, int) and not isinstance(value, bool):
        yield key, value

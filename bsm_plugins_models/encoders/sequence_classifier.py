"""Sequence classifiers of transformers as they are: the encoder of any family, with the family's own head."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import torch
from pydantic import AfterValidator, ValidationInfo
from torch import Tensor, nn

from bsm_core import Backend, BuildBackend, ModelConfig, TextBatch
from bsm_plugins_models.encoders.bert import longest_chunk
from bsm_plugins_models.encoders.hugging_face import PADDING_COUNTS, read_encoder
from bsm_plugins_models.encoders.lengths import by_length
from bsm_plugins_models.encoders.packed import tuned
from bsm_plugins_models.encoders.pooling import Pooling
from bsm_plugins_models.encoders.text import TextEncoder
from bsm_plugins_models.pretrained import PretrainedModule, load_weights

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CLASSIFIERS = (
    *("albert", "bert", "big_bird", "camembert", "convbert", "data2vec-text", "deberta", "deberta-v2", "distilbert"),
    *("electra", "ernie", "esm", "eurobert", "flaubert", "fnet", "gte", "ibert", "jina_embeddings_v3", "longformer"),
    *("megatron-bert", "mobilebert", "modernbert", "mpnet", "nomic_bert", "nystromformer", "rembert", "roberta"),
    *("roberta-prelayernorm", "roformer", "squeezebert", "xlm", "xlm-roberta", "xlm-roberta-xl", "xmod"),
)
"""Types whose classifier transformers builds without other models or code, and whose logits depend on one text alone.

Those of ``PADDING_COUNTS`` read texts of one length at a time.
"""
_FIRST_TOKEN = (
    *(
        "big_bird",
        "camembert",
        "convbert",
        "data2vec-text",
        "deberta",
        "deberta-v2",
        "distilbert",
        "electra",
        "esm",
        "ibert",
        "mpnet",
    ),
    *("nystromformer", "roberta", "roberta-prelayernorm", "roformer", "xlm-roberta", "xlm-roberta-xl", "xmod"),
)
"""Types whose head reads the first token of a chunk alone, not what a pooler makes of it."""


def build_classifier(encoder: Mapping[str, Any], num_classes: int) -> PreTrainedModel:
    """Build an ``AutoModelForSequenceClassification`` with new weights; nothing is downloaded, no code is run.

    Args:
        encoder: Content of ``config.json``.
        num_classes: Number of logits.

    Raises:
        ValueError: The type is not one of :data:`CLASSIFIERS`, or a size is very large.
    """
    from transformers import AutoModelForSequenceClassification

    config = read_encoder(encoder, CLASSIFIERS)
    config.num_labels = num_classes
    model: PreTrainedModel = AutoModelForSequenceClassification.from_config(  # type: ignore[no-untyped-call]
        config, dtype=torch.float32, trust_remote_code=False
    )
    return model


def _longest_text(model: PreTrainedModel) -> int | None:
    base: Any = model.base_model
    return longest_chunk(base)


def _buildable(encoder: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
    try:
        with torch.device("meta"):  # takes no memory and draws no weights
            longest = _longest_text(build_classifier(encoder, info.data.get("num_classes", 2)))
    except Exception as error:
        raise ValueError(f"this classifier cannot be built: {error}") from error
    if longest is not None and (length := info.data.get("max_sen_len", 0)) > longest:
        raise ValueError(f"max_sen_len is {length}, the encoder has positions for {longest} tokens")
    return encoder


class SequenceClassifierConfig(ModelConfig):
    """Config keys of a model class that is a sequence classifier of transformers."""

    text_name: str
    text_encoder: Annotated[dict[str, Any], AfterValidator(_buildable)]


class GivenVectors(nn.Module):
    """Encoder of transformers that returns its input, vectors ``[chunks, hidden size]``: one token for each chunk."""

    def forward(self, input_ids: Tensor, *others: Any, **options: Any) -> Any:
        """Return the vectors as the last hidden state, ``[chunks, 1, hidden size]``, and as the pooler output."""
        from transformers.modeling_outputs import BaseModelOutputWithPooling

        return BaseModelOutputWithPooling(last_hidden_state=input_ids[:, None], pooler_output=input_ids)


def head_of(model: PreTrainedModel) -> Callable[[Tensor], Tensor]:
    """Return the head of a classifier alone, which shares its weights: ``vectors [chunks, size] -> logits``.

    The classifier's own code computes it, with the vectors of chunks in place of what its encoder returns.
    """
    alone: Any = copy.copy(model)
    alone._modules = {**model._modules, model.base_model_prefix: GivenVectors()}

    def head(vectors: Tensor) -> Tensor:
        mask = torch.ones(len(vectors), 1, dtype=torch.int64, device=vectors.device)
        logits: Tensor = alone(input_ids=vectors, attention_mask=mask).logits
        return logits

    return head


def _pooling_of(model: PreTrainedModel) -> Pooling | None:
    """Return how the head of a classifier pools the tokens of a chunk; None if it needs more than one vector."""
    kind, base = model.config.model_type, model.base_model
    if kind == "modernbert":
        return "mean" if model.config.classifier_pooling == "mean" else "cls"
    if kind in _FIRST_TOKEN:
        return "cls"
    return "pooler" if getattr(base, "pooler", None) is not None else None


def _tuned(model: PreTrainedModel, pooling: Pooling, precision: str, sample: TextBatch | None) -> Backend | None:
    base: Any = model.base_model
    backend = tuned.build(base, precision, sample, pooling=pooling)
    if backend is None or backend.encode is None:
        return None
    encode, head = backend.encode, head_of(model)
    return replace(backend, encode=lambda tokens, lengths: head(encode(tokens, lengths)))


class SequenceClassifier(TextEncoder):
    """Text encoder whose vector of a chunk is the logits of a sequence classifier of transformers.

    Args:
        config: Config of the model class.
    """

    def __init__(self, config: SequenceClassifierConfig) -> None:
        super().__init__()
        self.model = build_classifier(config.text_encoder, config.num_classes)
        own = self.model.config
        self.pad_id = getattr(own, "pad_token_id", None) or 0
        self.longest, self.vocabulary = _longest_text(self.model), own.vocab_size

    def encode(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the logits of chunks, float ``[chunks, num_classes]``."""
        if self.model.config.model_type in PADDING_COUNTS:
            return by_length(self._logits, input_ids, attention_mask)
        return self._logits(input_ids, attention_mask)

    def _logits(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        logits: Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask).logits
        return logits

    def backends(self) -> Mapping[str, BuildBackend]:
        """Return the backend ``"tuned"``, which computes the encoder faster, for heads that read one vector of it."""
        pooling = _pooling_of(self.model)
        return {tuned.NAME: partial(_tuned, self.model, pooling)} if pooling else {}

    def project(self, means: Tensor) -> Tensor:
        """Return the mean of a row's logits as it is."""
        return means

    def pretrained_modules(self) -> Mapping[str, PretrainedModule]:
        """Return the classifier itself."""
        return {"text_encoder": self}

    def encoder_parameters(self) -> Iterable[nn.Parameter]:
        """Return the parameters of the encoder, without the head."""
        return self.model.base_model.parameters()

    def load_pretrained(self, key: str, state: Mapping[str, Tensor]) -> None:
        """Load the state dict of a transformers encoder; the head, and a pooler that it lacks, keep their new weights.

        Raises:
            ConfigError: Weights are missing, unexpected, or of another shape.
        """
        base, pooler = self.model.base_model, "pooler."
        has = [any(name.startswith(pooler) for name in names) for names in (base.state_dict(), state)]
        if not has[0]:
            state = {name: value for name, value in state.items() if not name.startswith(pooler)}
        load_weights(base, state, key=key, fresh=[pooler] if has == [True, False] else [])

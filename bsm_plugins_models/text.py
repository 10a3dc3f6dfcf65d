"""Model classes that read one text field and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from bsm_core import Batch, encode_rows
from bsm_plugins_models.encoders.bert import BertClassifier, BertConfig
from bsm_plugins_models.encoders.cnn import EXAMPLE_CONFIG, OPTIONAL_STATE, CnnConfig, CnnTextEncoder
from bsm_plugins_models.encoders.embedding import TokenEmbedding
from bsm_plugins_models.encoders.lstm import BidirectionalLstm, LstmConfig
from bsm_plugins_models.encoders.precision import in_precision_of
from bsm_plugins_models.encoders.sequence_classifier import SequenceClassifier, SequenceClassifierConfig
from bsm_plugins_models.heads import Head
from bsm_plugins_models.pretrained import PretrainedModelBase, PretrainedModule


class Bert(PretrainedModelBase):
    """Transformers sequence classifier."""

    Config = BertConfig
    config: BertConfig
    proposed_config: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        self.bert = BertClassifier(config)

    def pretrained_modules(self) -> Mapping[str, PretrainedModule]:
        """Return the encoder."""
        return self.bert.pretrained_modules()

    def encode_texts(self, batch: Batch) -> dict[str, Tensor]:
        """Return pooled vectors, each the mean over a row's chunks, float ``[rows, hidden size]``."""
        text = batch.texts[self.config.text_name]
        return {self.config.text_name: self.bert.row_vectors(text, self.token_budget)}

    def fuse_rows(self, texts: Mapping[str, Tensor], features: Tensor) -> Tensor:
        """Return the text vectors."""
        return texts[self.config.text_name]

    def classify_rows(self, fused: Tensor) -> Tensor:
        """Return logits, float ``[rows, num_classes]``."""
        return self.bert.project(fused)


class TransformersClassifier(PretrainedModelBase):
    """Sequence classifier of transformers, of any family, with the family's own head.

    ``bsm import`` makes artifacts of this class. A row's logits are the mean over the logits of its chunks.
    """

    Config = SequenceClassifierConfig
    config: SequenceClassifierConfig

    def __init__(self, config: SequenceClassifierConfig) -> None:
        super().__init__(config)
        self.classifier = SequenceClassifier(config)

    def pretrained_modules(self) -> Mapping[str, PretrainedModule]:
        """Return the classifier, whose encoder can load pretrained weights."""
        return self.classifier.pretrained_modules()

    def forward(self, batch: Batch) -> Tensor:
        """Return logits, float ``[rows, num_classes]``."""
        logits: Tensor = self.classifier(batch.texts[self.config.text_name], self.token_budget)
        return logits


class TextCnn(PretrainedModelBase):
    """Text CNN and a head."""

    Config = CnnConfig
    config: CnnConfig
    optional_state = (*PretrainedModelBase.optional_state, *OPTIONAL_STATE)
    example_config = EXAMPLE_CONFIG

    def __init__(self, config: CnnConfig) -> None:
        super().__init__(config)
        self.text_subnetwork = CnnTextEncoder(config)
        self.final_merge_network = Head(config.hidden_common_dim, config.num_classes)

    def pretrained_modules(self) -> Mapping[str, PretrainedModule]:
        """Return the embedding matrix."""
        return self.text_subnetwork.pretrained_modules()

    def encode_texts(self, batch: Batch) -> dict[str, Tensor]:
        """Return text vectors, float ``[rows, hidden_common_dim]``."""
        text = batch.texts[self.config.text_name]
        return {self.config.text_name: self.text_subnetwork(text, self.token_budget)}

    def fuse_rows(self, texts: Mapping[str, Tensor], features: Tensor) -> Tensor:
        """Return the text vectors."""
        return texts[self.config.text_name]

    def classify_rows(self, fused: Tensor) -> Tensor:
        """Return logits, float ``[rows, num_classes]``."""
        return self.final_merge_network(fused)


class Lstm(PretrainedModelBase):
    """Bidirectional LSTM and a Linear.

    The layers are attributes of the model class itself, because this is how artifacts name their weights. Chunks are
    padded with token id 0 to ``max_sen_len``, and the padding is not masked.
    """

    Config = LstmConfig
    config: LstmConfig

    def __init__(self, config: LstmConfig) -> None:
        super().__init__(config)
        self.embeddings = TokenEmbedding(config)
        self.lstm = BidirectionalLstm(config.embedding_shape[1], config.hidden_common_dim, config.num_layers)
        self.dropout = nn.Dropout(1 - config.dropout_keep)
        self.fc = nn.Linear(2 * config.hidden_common_dim, config.num_classes)

    def pretrained_modules(self) -> Mapping[str, PretrainedModule]:
        """Return the embedding matrix."""
        return {"embedding_mat": self.embeddings}

    def encode_texts(self, batch: Batch) -> dict[str, Tensor]:
        """Return text vectors, float ``[rows, 2 * hidden_common_dim]``."""
        text = batch.texts[self.config.text_name]
        means = encode_rows(text, self.encode, self.token_budget, length=self.config.max_sen_len)
        return {self.config.text_name: in_precision_of(self, means)}

    def fuse_rows(self, texts: Mapping[str, Tensor], features: Tensor) -> Tensor:
        """Return the text vectors."""
        return texts[self.config.text_name]

    def classify_rows(self, fused: Tensor) -> Tensor:
        """Return logits, float ``[rows, num_classes]``."""
        logits: Tensor = self.fc(self.dropout(fused))
        return logits

    def encode(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return vectors of chunks, float ``[chunks, 2 * hidden_common_dim]``."""
        vectors: Tensor = self.lstm(self.embeddings(input_ids))
        return vectors

"""Valid model classes, and for each check of the kit a class that fails this check alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from bsm_core import ConfigError, ModelConfig
from bsm_core.testing.toy_model import ToyConfig, ToyMean


class Good(ToyMean):
    """Valid: the toy model."""


class Particular(ToyMean):
    """Valid: another column, other features, two classes, short chunks, a small vocabulary."""

    example_config: ClassVar = {
        "text_name": "chat",
        "tab_field_list": ["x"],
        "is_binary": True,
        "max_sen_len": 4,
        "vocab_size": 32,
    }


class NeedyConfig(ToyConfig):
    acme_size: int


class IsBuiltFromConfig(ToyMean):
    Config = NeedyConfig


class ModeConfig(ToyConfig):
    mode: Any = "mean"


class RefusesABadConfigBeforeWeights(ToyMean):
    Config = ModeConfig

    def __init__(self, config: ModeConfig) -> None:
        super().__init__(config)
        if config.mode != "mean":
            raise ConfigError("mode must be 'mean'", where="config.mode")


class NeedsNeitherFilesNorNetwork(ToyMean):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.words = Path("/dev/null").read_text().split()


class TakesAnyNumberOfRows(ToyMean):
    def forward(self, batch):
        return super().forward(batch).squeeze(0)


class GivesProbabilities(ToyMean):
    def predict_step(self, batch, batch_idx=0, dataloader_idx=0):
        return self(batch).double().sigmoid()


class DoesNotDependOnRowOrder(ToyMean):
    def forward(self, batch):
        logits = super().forward(batch)
        return logits + torch.arange(3) * (torch.arange(len(logits)) % 2)[:, None]


class DoesNotDependOnTheBatch(ToyMean):
    def forward(self, batch):
        return super().forward(batch) + 0.1 * batch.rows * torch.arange(3)


class DoesNotDependOnPadding(ToyMean):
    def _encode(self, input_ids, attention_mask):
        return self.embedding(input_ids).mean(1)


class PredictsWithoutLabels(ToyMean):
    def forward(self, batch):
        logits = super().forward(batch)
        return logits if batch.labels is None else logits + torch.arange(3) * batch.labels[:, None]


class TakesRowsWithoutText(ToyMean):
    def forward(self, batch):
        text = batch.texts[self.config.text_name]
        return super().forward(batch) / text.row_lengths[:, None]


class ComesBackFromAnArtifact(ToyMean):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.shift = torch.randn(3)

    def forward(self, batch):
        return super().forward(batch) + self.shift


class TrainsEveryParameter(ToyMean):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.old_head = nn.Linear(2, 2)


class TrainsOnAnyNumberOfRows(ToyMean):
    def training_step(self, batch, batch_idx=0):
        if batch.rows % 2:
            raise ValueError("rows come in pairs")
        return super().training_step(batch)


class OverfitsEightRows(ToyMean):
    def training_step(self, batch, batch_idx=0):
        return -super().training_step(batch)


class RunsItsPartsAgain(ToyMean):
    def encode_texts(self, batch):
        self.features = batch.features
        return super().encode_texts(batch)

    def fuse_rows(self, texts, features):
        rows = len(texts[self.config.text_name])
        return super().fuse_rows(texts, self.features[:rows])


class RunsInBf16(ToyMean):
    def forward(self, batch):
        text = batch.texts[self.config.text_name].row_lengths.float()
        return super().forward(batch) + self.head(torch.cat([text[:, None]] * self.head.in_features, 1)) * 0


class CanBeExported(ToyMean):
    def forward(self, batch):
        logits = super().forward(batch)
        return logits if logits.sum().item() < 1e9 else logits * 2


class RunsOnTwoDevices(ToyMean):
    def to(self, *args, **kwargs):
        raise RuntimeError("it stays where it was built")


# Wrong in other ways, for the checks that must see them too


class NamesTextsOddly(ToyMean):
    def encode_texts(self, batch):
        return {"chat_text": super().encode_texts(batch)[self.config.text_name]}

    def fuse_rows(self, texts, features):
        return super().fuse_rows({self.config.text_name: texts["chat_text"]}, features)


class FusesToMatrices(ToyMean):
    def fuse_rows(self, texts, features):
        return super().fuse_rows(texts, features)[:, None]

    def classify_rows(self, fused):
        return super().classify_rows(fused[:, 0])


class SizeConfig(ToyConfig):
    size: int = 4


class TakesAnySize(ToyMean):
    Config = SizeConfig

    def __init__(self, config: SizeConfig) -> None:
        super().__init__(config)
        self.register_buffer("scale", torch.ones(config.size))


class OverridesForward(ToyMean):
    """Valid, without embeddings."""

    def forward(self, batch):
        return super().forward(batch) / 2


class PadsByItself(ToyMean):
    """Pads chunks to the longest of the batch, and averages over the padding."""

    def forward(self, batch):
        text = batch.texts[self.config.text_name]
        ids, _ = text.padded(0, text.distinct)
        means = text.row_means(self.embedding(ids).mean(dim=1))
        return self.head(torch.cat([means, batch.features], dim=1))


class ReadsAFileOnce(ToyMean):
    words: ClassVar[list[str]] = []

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        if not self.words:
            self.words.extend(Path("/dev/null").read_text().split() or ["none"])


class LearnsNothing(ToyMean):
    def training_step(self, batch, batch_idx=0):
        return self(batch).sum() * 0


class SmoothsLabels(ToyMean):
    """Valid, although label smoothing keeps the loss high."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.loss_op = nn.CrossEntropyLoss(label_smoothing=0.1, weight=self.class_weights_tensor.clone())


class NormalizesBatches(ToyMean):
    """Valid: normalizes the logits over the rows of a training batch, which fails for one row."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.norm = nn.BatchNorm1d(config.num_classes)

    def forward(self, batch):
        return self.norm(super().forward(batch))


class LeavesPartsOut(ToyMean):
    """Valid: skips a layer at random in training (stochastic depth)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.extra = nn.Linear(3, 3)

    def forward(self, batch):
        logits = super().forward(batch)
        return logits + self.extra(logits) if not self.training or torch.rand(()) < 0.5 else logits

"""Text encoder of convolutions over token embeddings (Kim, 2014, arXiv:1408.5882), several layers deep."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import torch
from pydantic import Field, PositiveInt, ValidationInfo, field_validator
from torch import Tensor, nn

from bsm_plugins_models.encoders.embedding import EmbeddingConfig, TokenEmbedding
from bsm_plugins_models.encoders.text import TextEncoder
from bsm_plugins_models.pretrained import Part

_CHANNELS = 100
"""Numbers that a convolution gives where the config does not say."""
OPTIONAL_STATE = ("text_subnetwork.class_weights_tensor", "text_subnetwork.loss_op.weight")
"""What artifacts store with the text part beside its weights; nothing reads it."""


class CnnConfig(EmbeddingConfig):
    """Config keys of a model class with a text CNN."""

    num_layers: PositiveInt = 2
    num_channels: tuple[PositiveInt, ...] = Field(default=(), validate_default=True)
    kernel_size: tuple[PositiveInt, ...] = Field(default=(3, 5, 7), min_length=1, validate_default=True)

    @field_validator("num_channels")
    @classmethod
    def _one_for_each_layer(cls, channels: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        layers = info.data.get("num_layers", len(channels))
        channels = channels or (_CHANNELS,) * layers
        if len(channels) < layers:
            raise ValueError(f"{len(channels)} value(s) for num_layers = {layers}")
        return channels[:layers]

    @field_validator("kernel_size")
    @classmethod
    def _something_is_left(cls, kernels: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        if {"max_sen_len", "num_layers"} <= info.data.keys():
            length, layers = info.data["max_sen_len"], info.data["num_layers"]
            if large := [kernel for kernel in kernels if positions_left(length, kernel, layers) < 1]:
                raise ValueError(f"nothing is left of max_sen_len = {length} after {layers} layer(s) of {large}")
        return kernels


def positions_left(length: int, kernel: int, layers: int) -> int:
    """How many positions the last convolution gives; less than one where the kernel does not fit."""
    for _ in range(layers - 1):
        length = (length - kernel + 1) // kernel
    return length - kernel + 1


class CnnTextEncoder(TextEncoder):
    """For each kernel a stack of convolutions and max pooling down to one vector; mean over chunks, Dropout, a Linear.

    Ids are padded with 0 to ``max_sen_len``, and nothing masks the padding.
    """

    def __init__(self, config: CnnConfig) -> None:
        super().__init__()
        self.length = config.max_sen_len
        self.embeddings = TokenEmbedding(config)
        self.convs = nn.ModuleList(_convolutions(config, kernel) for kernel in config.kernel_size)
        size = config.num_channels[-1] * len(config.kernel_size)
        self.network = nn.Sequential(nn.Dropout(1 - config.dropout_keep), nn.Linear(size, config.hidden_common_dim))

    def encode(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """One vector for each kernel, in their order: float ``[chunks, kernels * last channels]``."""
        embedded = self.embeddings(input_ids).transpose(1, 2)
        return torch.cat([convolve(embedded).squeeze(2) for convolve in self.convs], dim=1)

    def project(self, means: Tensor) -> Tensor:
        """Vectors, float ``[rows, hidden_common_dim]``."""
        vectors: Tensor = self.network(means)
        return vectors

    def parts(self) -> Mapping[str, Part]:
        """The embedding matrix."""
        return {"embedding_mat": self.embeddings}


def _convolutions(config: CnnConfig, kernel: int) -> nn.Sequential:
    """Convolution, ReLU and max pooling, layer by layer; every layer but the last pools by the kernel's size."""
    pools = [kernel] * (config.num_layers - 1)
    pools.append(positions_left(config.max_sen_len, kernel, config.num_layers))
    layers: list[nn.Module] = []
    sizes = pairwise([config.embedding_shape[1], *config.num_channels])
    for (size, channels), pool in zip(sizes, pools, strict=True):
        layers += [nn.Conv1d(size, channels, kernel), nn.ReLU(), nn.MaxPool1d(pool)]
    return nn.Sequential(*layers)

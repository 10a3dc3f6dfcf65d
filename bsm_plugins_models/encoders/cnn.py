"""Text encoder with several layers of convolutions over token embeddings (Kim, 2014, arXiv:1408.5882)."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import torch
from pydantic import Field, ValidationInfo, field_validator
from torch import Tensor, nn

from bsm_plugins_models.encoders.embedding import EmbeddingConfig, TokenEmbedding
from bsm_plugins_models.encoders.text import TextEncoder
from bsm_plugins_models.limits import Layers, Size
from bsm_plugins_models.pretrained import PretrainedModule

_CHANNELS = 100
"""Default number of output channels of a convolution."""
OPTIONAL_STATE = ("text_subnetwork.class_weights_tensor", "text_subnetwork.loss_op.weight")
"""Keys that artifacts store beside the weights of the text encoder; they are not used."""
EXAMPLE_CONFIG = {"kernel_size": [2, 3], "num_channels": [5, 6]}
"""Config keys with which the conformance kit builds a model class with a text CNN: the kit's texts are short."""


class CnnConfig(EmbeddingConfig):
    """Config keys of a model class with a text CNN."""

    num_layers: Layers = 2
    num_channels: tuple[Size, ...] = Field(default=(), max_length=1_000, validate_default=True)
    kernel_size: tuple[Size, ...] = Field(default=(3, 5, 7), min_length=1, max_length=1_000, validate_default=True)

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
                raise ValueError(f"kernels {large} are too large for max_sen_len = {length} and {layers} layer(s)")
        return kernels


def positions_left(length: int, kernel: int, layers: int) -> int:
    """Return the number of positions after the last convolution; less than 1 if the kernel is too large."""
    for _ in range(layers - 1):
        length = (length - kernel + 1) // kernel
    return length - kernel + 1


class CnnTextEncoder(TextEncoder):
    """Text encoder with a stack of convolutions and max pooling for each kernel size, then Dropout and a Linear.

    Chunks are padded with token id 0 to ``max_sen_len``, and the padding is not masked.
    """

    def __init__(self, config: CnnConfig) -> None:
        super().__init__()
        self.length = config.max_sen_len
        self.embeddings = TokenEmbedding(config)
        self.convs = nn.ModuleList(_convolutions(config, kernel) for kernel in config.kernel_size)
        size = config.num_channels[-1] * len(config.kernel_size)
        self.network = nn.Sequential(nn.Dropout(1 - config.dropout_keep), nn.Linear(size, config.hidden_common_dim))

    def encode(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the vectors of all kernel sizes, concatenated: float ``[chunks, kernels * last channels]``."""
        embedded = self.embeddings(input_ids).transpose(1, 2)
        return torch.cat([convolve(embedded).squeeze(2) for convolve in self.convs], dim=1)

    def project(self, means: Tensor) -> Tensor:
        """Return vectors, float ``[rows, hidden_common_dim]``."""
        vectors: Tensor = self.network(means)
        return vectors

    def pretrained_modules(self) -> Mapping[str, PretrainedModule]:
        """Return the embedding matrix."""
        return {"embedding_mat": self.embeddings}


def _convolutions(config: CnnConfig, kernel: int) -> nn.Sequential:
    """Build convolution, ReLU and max pooling for each layer.

    Each layer pools over the kernel size, the last one over all positions.
    """
    pools = [kernel] * (config.num_layers - 1)
    pools.append(positions_left(config.max_sen_len, kernel, config.num_layers))
    layers: list[nn.Module] = []
    sizes = pairwise([config.embedding_shape[1], *config.num_channels])
    for (size, channels), pool in zip(sizes, pools, strict=True):
        layers += [nn.Conv1d(size, channels, kernel), nn.ReLU(), nn.MaxPool1d(pool)]
    return nn.Sequential(*layers)

"""Small text encoder, a model with it, and its ONNX file, written without the exporter."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from bsm_core import Batch, Encoder, ModelBase, ModelConfig


class MeanEncoder(Encoder):
    """Encoder whose vector is the mean embedding of a chunk's tokens, float32 ``[chunks, 4]``."""

    vocabulary = 64

    def __init__(self, length: int | None = None) -> None:
        super().__init__()
        self.length = length
        self.table = nn.Embedding(self.vocabulary, 4)

    def encode(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        vectors = self.table(input_ids) * attention_mask[..., None]
        return vectors.sum(1) / attention_mask.sum(1, keepdim=True)


class BranchingEncoder(MeanEncoder):
    """Encoder whose code branches on the values of a tensor, which no exporter can trace."""

    def encode(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        vectors = super().encode(input_ids, attention_mask)
        return vectors if vectors.sum() > 0 else -vectors


class EncoderConfig(ModelConfig):
    text_name: str


class MeanModel(ModelBase):
    """Encoder and a Linear."""

    Config = EncoderConfig
    config: EncoderConfig
    encoder_class: type[MeanEncoder] = MeanEncoder

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        self.text = self.encoder_class()
        self.head = nn.Linear(4, config.num_classes)

    def forward(self, batch: Batch) -> Tensor:
        return self.head(self.text(batch.texts[self.config.text_name], self.token_budget))


class BranchingModel(MeanModel):
    encoder_class = BranchingEncoder


def mean_model(model_class: type[MeanModel] = MeanModel) -> MeanModel:
    torch.manual_seed(0)
    return model_class.from_config({"text_name": "text", "max_sen_len": 16}).eval()


def write_onnx(encoder: MeanEncoder, file: Path, **model: str) -> Path:
    """Write the encoder's ONNX file by hand; ``model`` are fields of the ONNX model."""
    import onnx
    from onnx import TensorProto, helper

    constants = [
        onnx.numpy_helper.from_array(encoder.table.weight.detach().numpy(), "table"),
        helper.make_tensor("one", TensorProto.INT64, [1], [1]),
        helper.make_tensor("two", TensorProto.INT64, [1], [2]),
    ]
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["embedded"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "two"], ["wide"]),
        helper.make_node("Mul", ["embedded", "wide"], ["masked"]),
        helper.make_node("ReduceSum", ["masked", "one"], ["sums"], keepdims=0),
        helper.make_node("ReduceSum", ["mask", "one"], ["counts"], keepdims=1),
        helper.make_node("Div", ["sums", "counts"], ["vectors"]),
    ]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["chunks", "length"])
        for name in ("input_ids", "attention_mask")
    ]
    outputs = [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["chunks", 4])]
    graph = helper.make_graph(nodes, "encoder", inputs, outputs, constants)
    file.parent.mkdir(exist_ok=True)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10, **model)
    file.write_bytes(made.SerializeToString())
    return file

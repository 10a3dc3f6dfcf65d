"""Rivals of bsm, each used as its own documentation advises: text of chunks in, the encoder's pooled vectors out.

Rivals have the weights, the tokenizer and the head of the artifact, so that probabilities can be compared. A rival is
built from a :class:`Subject`, and then called with texts.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

Encode = Callable[[list[str]], Tensor]
"""Function of the texts of chunks that returns vectors, float ``[chunks, hidden_size]``, in the same order."""
Forward = Callable[[Tensor, Tensor], Tensor]
"""``(input_ids [chunks, length], attention_mask [chunks, length]) -> [chunks, hidden_size]``."""

PADDED_BATCH = 32
"""Chunks in a batch of the padded loop, as in the original script."""
SORTED_BATCH = {"cpu": 8, "cuda": 256}
"""Chunks in a batch sorted by length: small batches have the least padding, but a GPU needs large ones."""


@dataclass(frozen=True)
class Subject:
    """Encoder and settings with which every rival is built.

    Attributes:
        bert: The encoder, on its device, in evaluation mode.
        tokenizer: Fast tokenizer of the encoder.
        longest: Largest number of tokens of a chunk.
        device: ``"cpu"`` or ``"cuda"``.
        precision: ``"fp32"``, ``"bf16"`` or ``"int8"``.
    """

    bert: Any
    tokenizer: Any
    longest: int
    device: str
    precision: str

    @property
    def in_precision(self) -> Any:
        """Return the encoder, in bfloat16 if this is the precision."""
        return copy.deepcopy(self.bert).to(torch.bfloat16) if self.precision == "bf16" else self.bert


class Pooled(nn.Module):
    """Module that returns only the pooler output of an encoder."""

    def __init__(self, bert: nn.Module) -> None:
        super().__init__()
        self.bert = bert

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return vectors, float ``[chunks, hidden_size]``."""
        pooled: Tensor = self.bert(input_ids=input_ids, attention_mask=attention_mask).pooler_output
        return pooled


def padded(subject: Subject) -> Encode:
    """Loop of most scripts: batches in row order, each padded to the largest length."""

    def encode(texts: list[str]) -> Tensor:
        outputs = []
        for start in range(0, len(texts), PADDED_BATCH):
            batch = texts[start : start + PADDED_BATCH]
            inputs = subject.tokenizer(
                batch, padding="max_length", truncation=True, max_length=subject.longest, return_tensors="pt"
            )
            outputs.append(subject.bert(**inputs.to(subject.device)).pooler_output)
        return torch.cat(outputs)

    return encode


def by_length(subject: Subject, forward: Forward | None = None) -> Encode:
    """Batches of chunks of about the same length, each padded to its longest; runs the encoder, or ``forward``."""
    forward = Pooled(subject.in_precision) if forward is None else forward
    size = SORTED_BATCH[subject.device]

    def encode(texts: list[str]) -> Tensor:
        ids = subject.tokenizer(texts, truncation=True, max_length=subject.longest)["input_ids"]
        order = sorted(range(len(ids)), key=lambda i: -len(ids[i]))
        outputs = []
        for start in range(0, len(order), size):
            chosen = [ids[i] for i in order[start : start + size]]
            inputs = subject.tokenizer.pad({"input_ids": chosen}, return_tensors="pt").to(subject.device)
            outputs.append(forward(inputs["input_ids"], inputs["attention_mask"]))
        vectors = torch.cat(outputs)
        return vectors[torch.tensor(order, device=vectors.device).argsort()]

    return encode


def compiled(subject: Subject) -> Encode:
    """Sorted batches with an encoder compiled by ``torch.compile``, for any length, with frozen weights."""
    from torch._inductor import config

    config.freezing = True
    return by_length(subject, torch.compile(Pooled(subject.in_precision), dynamic=True))


def pipeline(subject: Subject) -> Encode:
    """Feature-extraction pipeline of transformers, fed from a generator; in batches on a GPU only."""
    from transformers import pipeline as build

    extract = build(
        "feature-extraction",
        model=subject.bert,
        tokenizer=subject.tokenizer,
        device=subject.device,
        batch_size=1 if subject.device == "cpu" else SORTED_BATCH[subject.device],
        tokenize_kwargs={"truncation": True, "max_length": subject.longest},
        return_tensors=True,
    )

    def encode(texts: list[str]) -> Tensor:
        first = [states[:, 0] for states in extract(text for text in texts)]  # the pipeline streams from a generator
        pooler = subject.bert.pooler  # the pooler reads the first token; the pipeline returns all tokens
        pooled: Tensor = pooler.activation(pooler.dense(torch.cat(first).to(subject.device)))
        return pooled

    return encode


def sentence_transformers(subject: Subject) -> Encode:
    """Rival ``SentenceTransformer.encode``, which sorts by length, with the first token as pooling."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    with tempfile.TemporaryDirectory() as folder:
        subject.bert.save_pretrained(folder)
        subject.tokenizer.save_pretrained(folder)
        transformer = Transformer(folder, max_seq_length=subject.longest)
    pooling = Pooling(subject.bert.config.hidden_size, pooling_mode="cls")
    model = SentenceTransformer(modules=[transformer, pooling], device=subject.device)
    if subject.precision == "bf16":
        model = model.to(torch.bfloat16)
    pooler = subject.bert.pooler

    def encode(texts: list[str]) -> Tensor:
        size = 32 if subject.device == "cpu" else SORTED_BATCH[subject.device]
        first = model.encode(texts, batch_size=size, convert_to_tensor=True, show_progress_bar=False)
        pooled: Tensor = pooler.activation(pooler.dense(first.float()))
        return pooled

    return encode


def onnx(subject: Subject) -> Encode:
    """ONNX Runtime with all graph optimizations, on sorted batches; int8 is its dynamic quantization."""
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        path = _exported(subject.bert, Path(folder) / "encoder.onnx")
        if subject.precision == "int8":
            path = _quantized(path)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def forward(input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        feed = {"input_ids": input_ids.numpy(), "attention_mask": attention_mask.numpy()}
        return torch.from_numpy(session.run(None, feed)[0])

    return by_length(subject, forward)


def _exported(bert: Any, path: Path) -> Path:
    """Export the encoder to ONNX in the way that ONNX Runtime runs fastest.

    The older exporter and plain attention were fastest. Graphs of the newer exporter, and graphs fused by
    ``onnxruntime.transformers.optimizer``, were 14-18 % slower on a CPU (ONNX Runtime 1.32, MiniLM-L6).
    """
    bert = copy.deepcopy(bert)
    bert.set_attn_implementation("eager")
    ids = torch.ones(2, 8, dtype=torch.int64)
    names = ["input_ids", "attention_mask"]
    axes = {name: {0: "chunks", 1: "length"} for name in names}
    torch.onnx.export(
        Pooled(bert),
        (ids, torch.ones_like(ids)),
        path,
        input_names=names,
        output_names=["pooled"],
        dynamic_axes=axes,
        dynamo=False,
    )
    return path


def _quantized(path: Path) -> Path:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    smaller = path.with_name("int8.onnx")
    quantize_dynamic(path, smaller, weight_type=QuantType.QInt8)
    return smaller


RIVALS: dict[str, Callable[[Subject], Encode]] = {
    rival.__name__: rival for rival in (padded, by_length, compiled, pipeline, sentence_transformers, onnx)
}

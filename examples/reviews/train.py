#!/usr/bin/env python3
"""Train the example artifact: is a clothing review a recommendation?

    python examples/reviews/train.py --reviews reviews.parquet

The data are the Women's E-Commerce Clothing Reviews (CC0). A WordPiece vocabulary, risk tables, medians and a small
BERT are made from scratch on four fifths of the rows; the script prints the AUROC on the held-out fifth, scored by the
packed artifact itself, and writes ``model.tar.gz`` and 1,000 held-out rows as ``reviews.csv`` beside itself. A fixed
seed and a fixed split make it repeatable.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch.utils.data import DataLoader, IterableDataset
from torchmetrics.functional.classification import binary_auroc
from transformers import PreTrainedTokenizerFast

from bsm_core import ArtifactConfig, Batch, ModelBase, Predictor, Registry, TextBatch
from bsm_core.artifact import pack, save_artifact
from bsm_core.features import Features, Imputer, RiskTable
from bsm_core.predictor import text_pipelines

HERE = Path(__file__).parent
SEED = 0
EPOCHS = 3
BATCH_ROWS = 64
TEXT, LABEL, ID = "Review Text", "Recommended IND", "review_id"
NUMBERS = ["Age", "Positive Feedback Count"]
CATEGORIES = ["Division Name", "Department Name", "Class Name"]
SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ENCODER = {
    "model_type": "bert",
    "architectures": ["BertModel"],
    "vocab_size": 4000,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "max_position_embeddings": 128,
    "hidden_dropout_prob": 0.2,
    "attention_probs_dropout_prob": 0.2,
    "pad_token_id": 0,
}
CONFIG = {
    "model_class": "bimodal_bert",
    "text_name": TEXT,
    "text_processing_steps": [
        "html_normalizer",
        "emoji_remover",
        "text_normalizer",
        {"name": "dialogue_chunker", "chunk_trancate": True},
        "tokenizer",
    ],
    "tab_field_list": [*NUMBERS, *CATEGORIES],
    "cat_field_list": CATEGORIES,
    "id_name": ID,
    "label_name": LABEL,
    "is_binary": True,
    "num_classes": 2,
    "hidden_common_dim": 32,
    "max_sen_len": 128,
    "max_total_chunks": 2,
    "batch_size": 64,
    "tokenizer": "tokenizer",
    "lr": 2e-3,
    "weight_decay": 0.05,
    "warmup_steps": 100,
    "run_scheduler": True,
}


def split(reviews: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Four fifths to train on, one to hold out; the same rows every time."""
    order = np.random.default_rng(SEED).permutation(len(reviews))
    fifth = len(reviews) // 5
    return reviews.iloc[np.sort(order[fifth:])], reviews.iloc[np.sort(order[:fifth])]


def train_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """A lower-case WordPiece tokenizer."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=ENCODER["vocab_size"], special_tokens=SPECIAL_TOKENS, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = dict(zip(["pad_token", "unk_token", "cls_token", "sep_token", "mask_token"], SPECIAL_TOKENS, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=CONFIG["max_sen_len"], **names)


def risk_table(categories: pd.Series, labels: pd.Series, smoothing: float = 20.0) -> dict[str, Any]:
    """The share of positives of each category, drawn towards the share of all by ``smoothing`` rows."""
    share = labels.mean()
    groups = labels.groupby(categories).agg(["sum", "count"])
    bins = (groups["sum"] + smoothing * share) / (groups["count"] + smoothing)
    return {"bins": bins.to_dict(), "default_bin": share}


class Batches(IterableDataset[Batch]):
    """Batches of rows of like length, in a new order every epoch."""

    def __init__(self, tokens: list[list[list[int]]], features: np.ndarray, labels: np.ndarray) -> None:
        self.tokens, self.features, self.labels = tokens, features, labels
        self.lengths = np.array([sum(map(len, chunks)) for chunks in tokens])
        self.rng = np.random.default_rng(SEED)

    def __len__(self) -> int:
        return len(self.tokens) // BATCH_ROWS

    def __iter__(self) -> Iterator[Batch]:
        order = self.rng.permutation(len(self.tokens))[: len(self) * BATCH_ROWS]
        blocks = np.array_split(order, max(1, len(self) // 16))
        rows = np.concatenate([block[np.argsort(self.lengths[block], kind="stable")] for block in blocks])
        for i in self.rng.permutation(len(self)):
            yield self.batch(rows[i * BATCH_ROWS : (i + 1) * BATCH_ROWS])

    def batch(self, rows: np.ndarray) -> Batch:
        """The batch of some rows."""
        text = TextBatch.from_rows([self.tokens[i] for i in rows])
        labels = torch.from_numpy(self.labels[rows])
        return Batch(len(rows), {TEXT: text}, torch.from_numpy(self.features[rows]), labels)


def train(reviews: pd.DataFrame, folder: Path) -> None:
    """Fit everything on ``reviews`` and save the artifact into ``folder``."""
    pl.seed_everything(SEED, verbose=False)
    tokenizer = train_tokenizer(reviews[TEXT].dropna().tolist())
    risk_tables = {name: risk_table(reviews[name], reviews[LABEL]) for name in CATEGORIES}
    impute = {name: float(reviews[name].median()) for name in NUMBERS}
    config = ArtifactConfig.from_mapping(CONFIG, where="train.py")
    tokens, _ = text_pipelines(config, lambda field: tokenizer)[TEXT](reviews[TEXT].fillna("").tolist())
    columns = {name: reviews[name].tolist() for name in config.tab_field_list}
    imputers = {name: Imputer(value) for name, value in impute.items()}
    tables = {name: RiskTable(table["bins"], table["default_bin"]) for name, table in risk_tables.items()}
    features = Features(config.tab_field_list, imputers, tables).transform(columns, len(reviews)).values

    registry = Registry.discover()
    model_class = registry.load(registry.resolve("model_class", config.model_class), ModelBase)
    model = model_class.from_config({**CONFIG, "text_encoder": ENCODER})
    loader = DataLoader(Batches(tokens, features, reviews[LABEL].to_numpy()), batch_size=None)
    trainer = pl.Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        devices=1,
        gradient_clip_val=1.0,
        deterministic=True,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    trainer.fit(model, loader)
    save_artifact(
        folder,
        config=CONFIG,
        state_dict=model.state_dict(),
        risk_tables=risk_tables,
        impute=impute,
        tokenizer=tokenizer,
        encoder_config=ENCODER,
    )


def main() -> None:
    """Train, pack, measure, and write the sample."""
    parser = argparse.ArgumentParser(description="Train the example artifact.")
    parser.add_argument("--reviews", type=Path, required=True, help="reviews.parquet")
    parser.add_argument("--output", type=Path, default=HERE, help="folder for model.tar.gz and reviews.csv")
    arguments = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")

    reviews = pd.read_parquet(arguments.reviews)
    reviews.insert(0, ID, [f"{i:05d}" for i in range(len(reviews))])
    rows, held_out = split(reviews)
    with tempfile.TemporaryDirectory() as folder:
        train(rows, Path(folder))
        archive = arguments.output / "model.tar.gz"
        archive.unlink(missing_ok=True)
        pack(Path(folder), archive)

    probabilities = Predictor.from_artifact(archive).predict(held_out)["prob_class_1"].to_numpy()
    auroc = binary_auroc(torch.from_numpy(probabilities), torch.from_numpy(held_out[LABEL].to_numpy()))
    print(f"AUROC on the {len(held_out):,} held-out reviews: {auroc:.4f}")
    print(f"{archive}: {archive.stat().st_size / 1e6:.2f} MB")

    sample = held_out.sample(1000, random_state=SEED).sort_index()
    columns = [ID, *NUMBERS, *CATEGORIES, "Title", TEXT]
    sample[columns].to_csv(arguments.output / "reviews.csv", index=False)
    print(f"{arguments.output / 'reviews.csv'}: {len(sample):,} rows")


if __name__ == "__main__":
    main()

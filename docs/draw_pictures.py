#!/usr/bin/env python3
"""Draw the diagrams of the documentation: the road of a row, an artifact, and every model class.

python docs/draw_pictures.py [--output docs/images]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from diagrams import Box, Picture, draw


def road() -> Picture:
    """Return the way of a row from the table to the predictions."""
    boxes = (
        Box("data", "Table", ("CSV, TSV, JSON lines or Parquet",), (0, 0), (1, 12)),
        Box("data", "Window", ("4,096 rows",), (1, 0), (1, 8)),
        Box("encoder", "Text steps", ("clean, split", "tokenize"), (2, 0), (1, 4)),
        Box("encoder", "Features", ("fill gaps", "map values"), (2, 4), (1, 4)),
        Box("fusion", "Model", ("encoders, fusion, head",), (3, 0), (1, 8)),
        Box("data", "Part", ("rows, issues, statistics", "on disk, with a checksum"), (4, 0), (1, 8)),
        Box(
            "head",
            "Commit",
            ("all parts become one file: a row for each", "input row, in order; then _SUCCESS"),
            (5, 0),
            (1, 12),
        ),
        Box("head", "Artifact", ("config", "tables", "tokenizer", "weights"), (2, 9), (2, 3), joined=False),
    )
    description = (
        "A table is read in windows of 4,096 rows. For each window, text steps and features make a batch, the model "
        "turns it into probabilities, and the window's rows are written to disk as a part. Steps, features and model "
        "come from the artifact. When all parts are there, the commit makes one file of them."
    )
    arrows = (((2, 9), (2, 4)), ((2, 9), (3, 0)))
    return Picture("road", "From a table to predictions", description, boxes, 12, arrows, (1, 4, 8))


def artifact() -> Picture:
    """Return the files of an artifact, and the purpose of each."""
    groups = (
        ("head", "Config keys", ("hyperparameters.json", "model_artifacts.pth", "always needed")),
        ("head", "Weights", ("model.safetensors", "or model.pth", "always needed")),
        ("encoder", "Category → number", ("risk_table_map.json", "or risk_table_map.pkl", "if a feature needs it")),
        ("encoder", "Missing → number", ("impute_dict.json", "or impute_dict.pkl", "if a feature needs it")),
        ("encoder", "Number → input", ("feature_scaling.json", "if features are scaled")),
        ("fusion", "Text → tokens", ("tokenizer/", "if there is a text")),
        ("fusion", "Layers of a BERT", ("text_encoder/config.json", "if there is one")),
        ("data", "Faster encoders", ("onnx/",)),
        ("data", "Rows to check", ("self_check.json",)),
        ("data", "What made it", ("provenance.json",)),
    )
    boxes = [
        Box(kind, title, lines, (1 + i // 2, i % 2), joined=False) for i, (kind, title, lines) in enumerate(groups)
    ]
    boxes.insert(0, Box("data", "Artifact", ("a folder, or model.tar.gz",), (0, 0), (1, 2), joined=False))
    for row, (title, name) in enumerate(
        (
            ("How the training rows lay", "training_distributions.json"),
            ("Mean row of training", "explanation_background.json"),
        )
    ):
        boxes.append(Box("data", title, (name,), (6 + row, 0), (1, 2), joined=False))
    description = "; ".join(f"{box.title}: {', '.join(box.lines)}" for box in boxes)
    return Picture("artifact", "The files of an artifact", description, tuple(boxes), 2, space=(10, 10))


def model(name: str, boxes: tuple[Box, ...], words: str, columns: int = 1, **options: Any) -> Picture:
    """Return the picture of a model class; the row of the probabilities is added."""
    last = 1 + max(box.at[0] for box in boxes)
    boxes = (*boxes, Box("data", "C probabilities", ("softmax of the logits",), (last, 0), (1, columns)))
    space = (24 if columns == 2 else 10, 22)
    return Picture(f"model-{name}", f"Model class {name}", words, boxes, columns, space=space, **options)


def source(title: str, column: int, *lines: str) -> Box:
    """Return a box of the first row: what a model class reads."""
    return Box("data", title, lines, (0, column))


def bert(column: int, module: str = "text_subnetwork") -> Box:
    """Return a BERT encoder with its last layer."""
    return Box("encoder", "BERT", ("each chunk", "mean of chunks", "Dropout, [E→H]"), (1, column), module=module)


def cnn(column: int) -> Box:
    """Return a text CNN with its last layer."""
    lines = ("embedding", "convolutions", "mean of chunks", "Dropout, [K→H]")
    return Box("encoder", "CNN", lines, (1, column), module="text_subnetwork")


def tab(column: int) -> Box:
    """Return a tabular encoder."""
    return Box("encoder", "Tabular", ("LN", "[F→H]", "ReLU"), (1, column), module="tab_subnetwork")


def fusion(title: str, lines: tuple[str, ...], row: int, columns: int, module: str = "", column: int = 0) -> Box:
    """Return a box of a fusion."""
    return Box("fusion", title, lines, (row, column), (1, columns), module)


def head(lines: tuple[str, ...], row: int, columns: int = 1, module: str = "final_merge_network") -> Box:
    """Return a head."""
    return Box("head", "Head", lines, (row, 0), (1, columns), module)


def of_one_text() -> Iterator[Picture]:
    """Yield the pictures of the classes that read features alone, or one text alone."""
    boxes = (source("Features", 0), tab(0), head(("ReLU, [H→C]",), 2))
    yield model("tabular", boxes, "Features pass the tabular encoder and a head.")
    boxes = (
        source("Text", 0, "in chunks of tokens"),
        Box(
            "encoder",
            "BERT",
            ("encoder and pooler on each chunk,", "mean of a row's chunks"),
            (1, 0),
            module="bert.bert",
        ),
        head(("Dropout, [E→C]",), 2, module="bert.classifier"),
    )
    yield model("bert", boxes, "Chunks of a text pass a BERT with pooler; the mean over the chunks passes a head.")
    boxes = (
        source("Text", 0, "in chunks of tokens"),
        Box("encoder", "Encoder", ("any family, here BERT with pooler",), (1, 0), module="classifier.model.bert"),
        head(
            ("that of the family, here Dropout, [E→C],", "mean of a row's chunks"), 2, 1, "classifier.model.classifier"
        ),
    )
    words = "Chunks of a text pass an encoder and the head of its family; the logits of a row's chunks are averaged."
    yield model("transformers_classifier", boxes, words)
    boxes = (
        source("Text", 0, "in chunks of max_sen_len tokens, padded with 0"),
        Box("encoder", "Embedding", ("token → vector of size E",), (1, 0), module="text_subnetwork.embeddings"),
        Box(
            "encoder",
            "Convolutions, for each kernel size k",
            ("convolution(k), ReLU, max of every k", "...", "convolution(k), ReLU, max of all"),
            (2, 0),
            module="text_subnetwork.convs",
        ),
        Box(
            "fusion",
            "Concatenate the outputs of all k",
            ("mean of a row's chunks, Dropout, [K→H]",),
            (3, 0),
            module="text_subnetwork.network",
        ),
        head(("ReLU, [H→C]",), 4),
    )
    words = (
        "Chunks of a text are embedded. For each kernel size, convolutions and max pooling follow. Their outputs are "
        "concatenated, averaged over a row's chunks, and pass a head."
    )
    yield model("text_cnn", boxes, words)
    boxes = (
        Box("data", "Text", ("in chunks of max_sen_len tokens, padded with 0",), (0, 0), (1, 2)),
        Box("encoder", "Embedding", ("token → vector of size E",), (1, 0), (1, 2), "embeddings"),
        Box("encoder", "LSTM, forward", ("state at the end",), (2, 0), module="lstm"),
        Box("encoder", "LSTM, backward", ("state at the start",), (2, 1), module="lstm"),
        fusion("Concatenate", ("mean of a row's chunks",), 3, 2),
        head(("Dropout, [2H→C]",), 4, 2, "fc"),
    )
    words = (
        "Chunks of a text are embedded and read by an LSTM in both directions. Its last states are concatenated, "
        "averaged over a row's chunks, and pass a head."
    )
    yield model("lstm", boxes, words, 2)


def of_text_and_features() -> Iterator[Picture]:
    """Yield the pictures of the classes that read one text and features."""
    inputs = (source("Text", 0), source("Features", 1))
    two, concatenated = (*inputs, bert(0), tab(1)), ("concatenate text and tab", "ReLU, [2H→C]")
    words = "A text encoder and the tabular encoder make two vectors"
    yield model("bimodal_bert", (*two, head(concatenated, 2, 2)), f"{words}. They are concatenated and pass a head.", 2)
    boxes = (*inputs, cnn(0), tab(1), head(concatenated, 2, 2))
    yield model("bimodal_cnn", boxes, f"{words}. They are concatenated and pass a head.", 2)

    def projected(part: str) -> tuple[Box, ...]:
        to_t = fusion("t", ("[H→D] of text",), 2, 1, f"{part}.text_proj")
        to_b = fusion("b", ("[H→D] of tab",), 2, 1, f"{part}.tab_proj", 1)
        return (*two, to_t, to_b)

    gate = fusion("Gate", ("g = sigmoid(LN([2D→D] of t, b))", "g·t + (1 - g)·b"), 3, 2, "gate_fusion.gate_net")
    boxes = (*projected("gate_fusion"), gate, head(("ReLU, [D→C]",), 4, 2))
    yield model("bimodal_gate_fusion", boxes, f"{words}. A gate weights them in each dimension; a head follows.", 2)
    router = fusion("Router", ("w = softmax([2D→2] of t, b)", "w0·t + w1·b"), 3, 2, "moe_fusion.router")
    boxes = (*projected("moe_fusion"), router, head(("ReLU, [D→C]",), 4, 2, "classifier"))
    yield model("bimodal_moe", boxes, f"{words}. A router weights them in each row; a head follows.", 2)
    boxes = (
        *two,
        fusion("text'", ("LN(text +", "attention to tab)"), 2, 1, "cross_att"),
        fusion("tab'", ("LN(tab +", "attention to text')"), 2, 1, "cross_att", 1),
        head(("concatenate text' and tab',", "[2H→H], ReLU, [H→C]"), 3, 2),
    )
    crossed = f"{words}. The text vector attends to the tabular one, then this one to the result; a head follows."
    yield model("bimodal_cross_attn", boxes, crossed, 2, arrows=(((1, 1), (2, 0)), ((2, 0), (2, 1))))


def of_two_texts() -> Iterator[Picture]:
    """Yield the pictures of the classes that read two texts and features."""
    inputs = (source("Primary", 0, "text"), source("Secondary", 1, "text"), source("Features", 2))
    encoders = (bert(0, "primary_text_subnetwork"), bert(1, "secondary_text_subnetwork"), tab(2))
    three, words = (*inputs, *encoders), "Two text encoders and the tabular encoder make three vectors"
    deep = ("ReLU, Dropout, [T→D],", "ReLU, Dropout, [D→C]")
    boxes = (*three, head(("concatenate the three vectors,", *deep), 2, 3))
    yield model("trimodal_bert", boxes, f"{words}. They are concatenated and pass a head with a hidden layer.", 3)
    boxes = (
        *three,
        *(
            fusion(letter, ("[H→D]",), 2, 1, f"gate_fusion.{part}_proj", column)
            for column, (letter, part) in enumerate([("p", "primary"), ("s", "secondary"), ("t", "tab")])
        ),
        fusion(
            "Gates",
            ("g = sigmoid(LN([3D→3D] of p, s, t))", "each of the three divided by their sum", "gp·p + gs·s + gt·t"),
            3,
            3,
            "gate_fusion.trimodal_gate",
        ),
        head(("ReLU, Dropout, [D→C]",), 4, 3),
    )
    unused = ("gate_fusion.gate_primary_secondary", "gate_fusion.gate_text_tab")
    gated = f"{words}. Gates weight them in each dimension; a head follows."
    yield model("trimodal_gate_fusion", boxes, gated, 3, unsized=unused)
    boxes = (
        *three,
        fusion("p", ("LN(primary", "+ attention", "to secondary)"), 2, 1, "cross_attention"),
        fusion("s", ("LN(secondary", "+ attention", "to primary)"), 2, 1, "cross_attention", 1),
        fusion("p'", ("LN(p + feed-", "forward of p)"), 3, 1, "cross_attention"),
        fusion("s'", ("LN(s + feed-", "forward of s)"), 3, 1, "cross_attention", 1),
        head(("concatenate p', s' and tab,", *deep), 4, 3),
    )
    crossed = f"{words}. The texts attend to each other and pass feed-forward layers; a head reads all three."
    arrows = (((1, 0), (2, 1)), ((1, 1), (2, 0)))
    yield model("trimodal_cross_attn", boxes, crossed, 3, arrows=arrows, unsized=("cross_attention.ffn",))


def pictures() -> list[Picture]:
    """Return all pictures."""
    return [road(), artifact(), *of_one_text(), *of_text_and_features(), *of_two_texts()]


def main() -> None:
    """Write the pictures."""
    parser = argparse.ArgumentParser(description="Draw the diagrams of the documentation.")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "images", help="folder of the pictures")
    output = parser.parse_args().output
    output.mkdir(exist_ok=True)
    for picture in pictures():
        (output / f"{picture.name}.svg").write_text(draw(picture), "utf-8")


if __name__ == "__main__":
    main()

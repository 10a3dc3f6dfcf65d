"""Small objects to check plugins with: a registry, a tokenizer, an artifact. They need no plugin, built-in or other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bsm_core.plugins.discovery import Component, Provider
from bsm_core.plugins.registry import Named, Registry, replaced
from bsm_core.preprocess.steps import Kind, TextStep

if TYPE_CHECKING:
    from bsm_core.models.base import ModelBase

PROVIDER = Provider("bsm-testing", "0")
"""Provider of the toys and of classes that are checked without a distribution."""
VOCABULARY = 64
"""Number of tokens of the toy tokenizer."""
ENCODER: Mapping[str, Any] = {
    "model_type": "bert",
    "vocab_size": VOCABULARY,
    "hidden_size": 12,
    "num_hidden_layers": 1,
    "num_attention_heads": 3,
    "intermediate_size": 16,
    "max_position_embeddings": 16,
    "initializer_range": 0.5,
    "pad_token_id": 0,
}
"""Hugging Face config of a small text encoder."""
CONFIG: Mapping[str, Any] = {
    "text_name": "text",
    "primary_text_name": "text",
    "secondary_text_name": "notes",
    "tab_field_list": ["a", "b", "c"],
    "hidden_common_dim": 8,
    "max_sen_len": 16,
    "batch_size": 4,
    "text_encoder": ENCODER,
    "embedding_shape": [VOCABULARY, 12],
    "vocab_size": VOCABULARY,
}
"""Config that the kit builds every model class with; :attr:`bsm_core.ModelBase.example_config` adds to it."""
ROWS: Mapping[str, Sequence[str]] = {
    "text": ["hello there", "it is late again, the order", "", "one two three"],
    "notes": ["good morning", "", "late", "hello"],
    "a": ["1", "", "2.5", "-3"],
    "b": ["0", "1", "2", "7"],
    "c": ["4", "2", "0.5", "-1"],
}
"""Rows for :func:`toy_artifact`, with cells as in a CSV file."""


class ToyTokens(TextStep):
    """Text to token ids without a tokenizer: one token for each word, up to 16 tokens in a chunk.

    A text without words becomes one chunk of one token.
    """

    gives = Kind.TOKENS
    uses = ("vocab_size",)

    def __init__(self, vocab_size: int = VOCABULARY) -> None:
        self.tokens = min(vocab_size, VOCABULARY)

    def process(self, value: str) -> list[list[int]]:
        """Return the chunks of one text."""
        ids = [1 + sum(word.encode(errors="replace")) % (self.tokens - 1) for word in value.split()] or [1]
        return [ids[start : start + 16] for start in range(0, len(ids), 16)]


def component(kind: Named, name: str, target: str | type) -> Component:
    """Return a component that no distribution provides; the target is a class, or ``"module:Class"``."""
    if isinstance(target, type):
        target = f"{target.__module__}:{target.__qualname__}"
    return Component(kind, name, target, PROVIDER)


TOYS = [
    component("step", "toy_tokens", ToyTokens),
    component("model_class", "toy_mean", "bsm_core.testing.toy_model:ToyMean"),
]
"""Components that a toy artifact names."""


def toy_registry(*components: Component) -> Registry:
    """Return a registry of the components, the toys and the built-ins; a component replaces a built-in of its name.

    Of a component that is registered in code, the registry has the plugin that registers it.
    """
    names = {(c.kind, c.name) for c in components}
    others = [c for c in (*TOYS, *Registry.discover(frozenset()).components) if (c.kind, c.name) not in names]
    return Registry([*(c.registered_by or c for c in components), *others])


@contextmanager
def isolated_registry(
    steps: Mapping[str, str | type] = {}, model_classes: Mapping[str, str | type] = {}
) -> Iterator[Registry]:
    """Use a registry of the built-ins and the given classes inside the context, whatever else is installed.

    Args:
        steps: Text steps by name: classes, or ``"module:Class"``.
        model_classes: Model classes by name: classes, or ``"module:Class"``.

    Example::

        with isolated_registry(steps={"shout": Shout}):
            Predictor.from_artifact(folder)
    """
    registry = toy_registry(
        *(component("step", name, target) for name, target in steps.items()),
        *(component("model_class", name, target) for name, target in model_classes.items()),
    )
    with replaced(registry):
        yield registry


def toy_tokenizer() -> Any:
    """Return a Hugging Face fast tokenizer that is made in memory and knows letters, digits and punctuation."""
    from transformers import BertTokenizer

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,!?'"
    words = [*special, *letters, *(f"##{letter}" for letter in "abcdefghijklmnopqr")]
    return BertTokenizer({word: i for i, word in enumerate(words)})


def toy_artifact(folder: Path, model: ModelBase | None = None, **config: Any) -> Path:
    """Write a small complete artifact, with the same weights every time.

    Args:
        folder: Folder in which the artifact's folder is created, such as pytest's ``tmp_path``.
        model: Model of the artifact; None for a small one on the column ``text`` and the features ``a``, ``b``, ``c``.
        config: Config keys to add or replace: ``text_processing_steps=["shout", "toy_tokens"]``.

    Returns:
        The artifact's folder. :func:`isolated_registry` has the names in its config.
    """
    import torch

    from bsm_core.artifact import save_artifact
    from bsm_core.testing.toy_model import ToyMean

    steps = {f"{prefix}text_processing_steps": ["toy_tokens"] for prefix in ("", "primary_", "secondary_")}
    values = {**CONFIG, "model_class": "toy_mean", **steps, **config}
    if model is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = ToyMean.from_config(values)
    known = type(model).Config.model_fields
    columns = {"text_name", "primary_text_name", "secondary_text_name", "tab_field_list"}
    values = {key: value for key, value in values.items() if key in known or key not in columns}
    encoder, shape = values.pop("text_encoder"), values.pop("embedding_shape")
    prefixes = [key.removesuffix("text_encoder") for key in known if key.endswith("text_encoder")]
    return save_artifact(
        Path(folder) / "toy-artifact",
        config=values,
        state_dict=model.state_dict(),
        risk_tables={},
        impute={"a": 1.5},
        encoder_configs=dict.fromkeys(prefixes, encoder),
        embedding_mat=torch.zeros(*shape) if "embedding_shape" in known else None,
        safe_only=True,
    )

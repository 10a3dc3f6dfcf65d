"""Fitting a WordPiece tokenizer (Schuster & Nakajima, 2012; as in BERT, arXiv:1810.04805)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import accumulate
from typing import TYPE_CHECKING

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SPECIAL_TOKENS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
_ALPHABET = 1000
"""Largest number of characters that have their own token; the default of the tokenizers library."""


def fit_wordpiece(
    texts: Iterable[str], *, vocab_size: int, min_frequency: int, max_length: int
) -> PreTrainedTokenizerBase:
    """Return a lowercase WordPiece tokenizer. The same texts return the same tokenizer.

    Args:
        texts: Texts to learn the vocabulary from.
        vocab_size: Maximum size of the vocabulary, with the special tokens.
        min_frequency: Lowest number of occurrences of a piece.
        max_length: ``model_max_length`` of the tokenizer.
    """
    from transformers import PreTrainedTokenizerFast

    vocab = _vocabulary(list(texts), vocab_size, min_frequency)
    tokenizer = _tokenizer(vocab)
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", vocab["[SEP]"]), ("[CLS]", vocab["[CLS]"]))
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, model_max_length=max_length, **SPECIAL_TOKENS
    )


def _tokenizer(vocab: dict[str, int]) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def _vocabulary(texts: list[str], vocab_size: int, min_frequency: int) -> dict[str, int]:
    # The trainer numbers the pieces inside a word ("##a") in the order of a hash map, and breaks ties by these numbers,
    # so each run would return another vocabulary. Special tokens are numbered in the order of this list.
    special = [*SPECIAL_TOKENS.values()]
    start, inner = _characters(texts, vocab_size - len(special))
    trained = _tokenizer({})
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=special + [f"##{character}" for character in inner],
        initial_alphabet=start,
        limit_alphabet=len(start),
        show_progress=False,
    )
    trained.train_from_iterator(texts, trainer)
    return {str(token): int(number) for token, number in trained.get_vocab().items()}


def _characters(texts: list[str], room: int) -> tuple[list[str], list[str]]:
    """Return the most frequent characters, and those that occur inside a word, both sorted; at most ``room`` in all."""
    counts, inner = Counter[str](), set[str]()
    bare = _tokenizer({})
    for text in texts:
        words = [word for word, _ in bare.pre_tokenizer.pre_tokenize_str(bare.normalizer.normalize_str(text))]
        counts.update("".join(words))
        inner.update(*(word[1:] for word in words))
    frequent = sorted(counts, key=lambda c: (-counts[c], c))[:_ALPHABET]
    tokens = accumulate(1 + (character in inner) for character in frequent)
    kept = sorted(character for character, total in zip(frequent, tokens, strict=True) if total <= room)
    return kept, [character for character in kept if character in inner]

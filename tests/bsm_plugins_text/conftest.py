"""Small tokenizers of the kinds that artifacts hold, trained on the spot."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

CORPUS = ["hello where is my parcel", "it is late and I want a refund", "the carrier lost it , sorry . 12 34"] * 3
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]


def _wrap(backend: Tokenizer, *, special: bool = True) -> PreTrainedTokenizerFast:
    if special:
        ids = [(token, backend.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
        backend.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ids)
    # What a tokenizer.json can carry and no step may follow.
    backend.enable_truncation(5)
    backend.enable_padding(length=7, pad_token="[PAD]", pad_id=0)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]"
    )


def _wordpiece() -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=False)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.train_from_iterator(CORPUS, trainers.WordPieceTrainer(vocab_size=90, special_tokens=SPECIAL))
    return _wrap(backend)


def _words() -> PreTrainedTokenizerFast:
    vocabulary = [*SPECIAL, *sorted({word for text in CORPUS for word in text.split()})]
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return _wrap(backend, special=False)


def _byte_bpe() -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=SPECIAL, initial_alphabet=alphabet)
    backend.train_from_iterator(CORPUS, trainer)
    return _wrap(backend)


def _unigram() -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.Unigram())
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=80, special_tokens=SPECIAL, unk_token="[UNK]")
    backend.train_from_iterator(CORPUS, trainer)
    return _wrap(backend)


def _bare_bpe() -> PreTrainedTokenizerFast:
    """No pre-tokenizer: merges run across white space."""
    backend = Tokenizer(models.BPE(unk_token="[UNK]"))
    backend.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=120, special_tokens=SPECIAL))
    return _wrap(backend)


KINDS = {"wordpiece": _wordpiece, "words": _words, "byte_bpe": _byte_bpe, "unigram": _unigram, "bare_bpe": _bare_bpe}


@pytest.fixture(scope="session", params=KINDS)
def tokenizer(request):
    """Each kind in turn."""
    return KINDS[request.param]()


@pytest.fixture(scope="session")
def wordpiece():
    """BERT's kind: 2 special tokens."""
    return _wordpiece()


@pytest.fixture(scope="session")
def words():
    """One token a word, no special tokens: sizes can be counted by eye."""
    return _words()


@pytest.fixture(scope="session")
def byte_bpe():
    """GPT-2's kind: a space is part of the word behind it, and a character can be several tokens."""
    return _byte_bpe()


def _uncased() -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.train_from_iterator(CORPUS, trainers.WordPieceTrainer(vocab_size=90, special_tokens=SPECIAL))
    return _wrap(backend)


def _trimmed_bpe() -> PreTrainedTokenizerFast:
    """RoBERTa's kind: a post-processor trims the space from the offsets of a token."""
    made = _byte_bpe()
    backend = made.backend_tokenizer
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    ends = [(token, backend.token_to_id(token)) for token in ("[SEP]", "[CLS]")]
    backend.post_processor = processors.RobertaProcessing(*ends)
    return made


def _prepending_bpe() -> PreTrainedTokenizerFast:
    """Llama's kind: the normalizer marks spaces, nothing splits words."""
    backend = Tokenizer(models.BPE(unk_token="[UNK]"))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=120, special_tokens=SPECIAL))
    return _wrap(backend)


PLACED = KINDS | {"uncased": _uncased, "trimmed_bpe": _trimmed_bpe, "prepending_bpe": _prepending_bpe}


@pytest.fixture(scope="session", params=PLACED)
def any_tokenizer(request):
    """Each kind in turn, and kinds whose offsets are particular."""
    return PLACED[request.param]()


@pytest.fixture(scope="session")
def uncased():
    """BERT's kind in lower case and without accents."""
    return _uncased()

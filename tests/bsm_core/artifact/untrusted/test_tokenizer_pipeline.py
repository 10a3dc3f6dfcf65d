from __future__ import annotations

import base64
import json

import pytest
import transformers
from tokenizers import Tokenizer, models, normalizers

from bsm_core.artifact.untrusted.tokenizer_file import check_built, check_tokenizer_config, check_tokenizer_file
from bsm_core.artifact.untrusted.tokenizer_pipeline import built_problems, pipeline_problems
from bsm_core.errors import CorruptArtifactError


def problems(**parts):
    return list(pipeline_problems(parts))


def regex(pattern):
    return problems(pre_tokenizer={"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated"})


def sequence(name, *stages):
    return {"type": "Sequence", name: list(stages)}


# Of real tokenizers


NAMES = [
    *("Albert", "Bert", "Camembert", "CLIP", "DebertaV2", "Deberta", "GPT2", "Gemma", "Llama", "MBart50", "MPNet"),
    *("Nllb", "OpenAIGPT", "Qwen2", "Roberta", "T5", "XLMRoberta", "XLNet"),
]


@pytest.mark.parametrize("name", NAMES)
def test_tokenizers_of_transformers_pass(name):
    kind = getattr(transformers, f"{name}Tokenizer", None)
    if kind is None:
        pytest.skip(f"transformers {transformers.__version__} has no such class")
    tokenizer = kind()
    assert list(built_problems(tokenizer.backend_tokenizer)) == []
    check_built(tokenizer, "tokenizer")


GPT_2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)"
)
O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
DEEPSEEK = r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+"
BLOOM = r" ?[^(\s|[.,!?…。，、।۔،])]+"
CLIP = r"<\|startoftext\|>|'s|'t|'re|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
KIMI = r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{M}&&[^\p{Han}]]+(?i:'s|'t)?"
OTHERS = [" {2,}", r"\s{2,}|[\n\r\t]", "^▁+$", r" +▁", r"(?=(\d{3})+(?!\d))", r"\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N}))"]


@pytest.mark.parametrize("pattern", [GPT_2, CL100K, O200K, DEEPSEEK, BLOOM, CLIP, KIMI, *OTHERS])
def test_regular_expressions_of_real_tokenizers_pass(pattern):
    assert regex(pattern) == []


# Regular expressions


@pytest.mark.parametrize(
    "pattern",
    [
        *(r"(?:.|.){18}\z\A", r"(.|.)" * 18 + r"\z\A", "(a+)+b", "(a*)*", "a*a*b", "a?" * 30 + "a" * 30, "a**b"),
        *("((a|b)*)+", "(?:a?){20}", "(?:a*?)+b", "(a{1,2}){10}", "(?:a+)?(?:a+)?(?:a+)?b", "(?=a*a*b)"),
        *("a{0,1000}a{0,1000}b", "a{100000}", "a" * 20_000, "(" * 30 + ")" * 30),
    ],
)
def test_regular_expressions_that_try_many_ways_are_refused(pattern):
    assert regex(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        r"(a)\1",
        r"(?<x>a)\k<x>",
        r"\g<0>",
        "(?x)#[\n(.|.){18}#]",
        "[](.|.){18}]",
        "(?~a)",
        "(",
        ")",
        "[a",
        r"[\c](a*)*]",
    ],
)
def test_regular_expressions_that_cannot_be_followed_are_refused(pattern):
    assert regex(pattern)


# Stages

BYTES = {"type": "ByteLevel"}
TABLE = {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(bytes(4) + b"a" * 1000).decode()}
SMALL_TABLE = {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(bytes(4) + b"a" * 30).decode()}
BERT = {"type": "BertNormalizer"}


@pytest.mark.parametrize(
    "parts",
    [
        {"normalizer": sequence("normalizers", *[BYTES] * 24)},
        {"pre_tokenizer": sequence("pretokenizers", *[BYTES] * 24)},
        {"normalizer": sequence("normalizers", BYTES, BYTES), "pre_tokenizer": BYTES},
        {"normalizer": sequence("normalizers", *[BERT] * 5)},
        {"normalizer": sequence("normalizers", *[{"type": "NFKD"}] * 31)},
        {"normalizer": TABLE},
        {"normalizer": sequence("normalizers", SMALL_TABLE, SMALL_TABLE)},
    ],
)
def test_stages_that_multiply_a_text_are_refused(parts):
    assert problems(**parts)


def test_a_few_stages_pass():
    stages = sequence("normalizers", {"type": "NFKC"}, BYTES, SMALL_TABLE, BERT)
    assert problems(normalizer=stages, post_processor=sequence("processors", *[BYTES] * 3)) == []


A, B, CLS = ({"Sequence": {"id": "A"}}, {"Sequence": {"id": "B"}}, {"SpecialToken": {"id": "[CLS]"}})


def template(*single, pair=(), ids=1):
    tokens = {"[CLS]": {"id": "[CLS]", "ids": [1] * ids}}
    return {"type": "TemplateProcessing", "single": [*single], "pair": [*pair], "special_tokens": tokens}


def test_a_template_with_each_text_once_passes():
    assert problems(post_processor=template(CLS, A, CLS, pair=[CLS, A, CLS, B])) == []


@pytest.mark.parametrize(
    "processor",
    [
        template(A, A),
        template(CLS),
        template(A, pair=[A, A]),
        template(A, *[CLS] * 65),
        template(CLS, A, ids=65),
        sequence("processors", template(A), template(A)),
    ],
)
def test_templates_that_multiply_a_text_are_refused(processor):
    assert problems(post_processor=processor)


# Other files


def test_a_tokenizer_from_other_files_is_checked_as_well():
    backend = Tokenizer(models.WordPiece({"[UNK]": 0}, unk_token="[UNK]", max_input_chars_per_word=5000))
    backend.normalizer = normalizers.Sequence([normalizers.Replace("a", "aa")] * 20)
    with pytest.raises(CorruptArtifactError) as caught:
        check_built(transformers.PreTrainedTokenizerFast(tokenizer_object=backend), "tokenizer")
    assert "characters of one" in str(caught.value)
    assert "max_input_chars_per_word" in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("extra_ids", 10**9),
        ("offset", 10**9),
        ("extra_ids", 1e9),
        ("n", [{"x": 10**9}]),
        ("added_tokens_decoder", {str(i): {} for i in range(10_001)}),
    ],
)
def test_large_settings_are_refused(tmp_path, key, value):
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({key: value}))
    with pytest.raises(CorruptArtifactError, match=key):
        check_tokenizer_config(tmp_path / "tokenizer_config.json")


def test_ordinary_settings_pass(tmp_path):
    settings = {"model_max_length": 10**30, "extra_ids": 100, "offset": 103, "pad_token_id": 250_000, "x": True}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    check_tokenizer_config(tmp_path / "tokenizer_config.json")


def test_many_added_tokens_are_refused_in_their_own_file(tmp_path):
    (tmp_path / "added_tokens.json").write_text(json.dumps({f"t{i}": i for i in range(10_001)}))
    with pytest.raises(CorruptArtifactError, match="added_tokens"):
        check_tokenizer_config(tmp_path / "tokenizer_config.json")


@pytest.mark.parametrize(
    "model",
    [
        {"type": "Unigram", "vocab": [["a" * 501, 0.0]]},
        {"type": "WordPiece", "vocab": {}, "continuing_subword_prefix": "#" * 101},
        {"type": "BPE", "vocab": {}, "end_of_word_suffix": "#" * 101},
        {"type": "WordPiece", "vocab": {}, "max_input_chars_per_word": 1001},
    ],
)
def test_models_that_repeat_a_long_text_are_refused(tmp_path, model):
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": model}))
    with pytest.raises(CorruptArtifactError):
        check_tokenizer_file(tmp_path / "tokenizer.json")

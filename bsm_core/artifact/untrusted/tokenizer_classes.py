"""The tokenizer classes of transformers that load the files of one folder and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bsm_core.errors import UnsafeArtifactError, short_repr

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

_NAMES = """
    AlbertTokenizer BarthezTokenizer BartphoTokenizer BartTokenizer BertGenerationTokenizer BertTokenizer
    BertTokenizerLegacy BertweetTokenizer BigBirdTokenizer BioGptTokenizer BlenderbotSmallTokenizer BlenderbotTokenizer
    ByT5Tokenizer CLIPTokenizer CTRLTokenizer CamembertTokenizer CanineTokenizer ClvpTokenizer CodeGenTokenizer
    CodeLlamaTokenizer CohereTokenizer ConvBertTokenizer CpmAntTokenizer CpmTokenizer DPRContextEncoderTokenizer
    DPRQuestionEncoderTokenizer DPRReaderTokenizer DebertaTokenizer DebertaV2Tokenizer DiaTokenizer DistilBertTokenizer
    ElectraTokenizer EsmTokenizer EsmcTokenizer FNetTokenizer FSMTTokenizer FlaubertTokenizer FunnelTokenizer
    GPT2Tokenizer GPTNeoXJapaneseTokenizer GPTNeoXTokenizer GPTSw3Tokenizer GemmaTokenizer HerbertTokenizer
    LEDTokenizer LasrTokenizer LayoutLMTokenizer LayoutLMv2Tokenizer LayoutLMv3Tokenizer LayoutXLMTokenizer
    LlamaTokenizer LongformerTokenizer LukeTokenizer LxmertTokenizer M2M100Tokenizer MBart50Tokenizer MBartTokenizer
    MLukeTokenizer MPNetTokenizer MarianTokenizer MarkupLMTokenizer MgpstrTokenizer MobileBertTokenizer MvpTokenizer
    MyT5Tokenizer NllbTokenizer NougatTokenizer OpenAIGPTTokenizer PLBartTokenizer ParakeetTokenizer PegasusTokenizer
    PerceiverTokenizer PhobertTokenizer PreTrainedTokenizer ProphetNetTokenizer PythonBackend Qwen2Tokenizer
    Qwen3_5Tokenizer ReformerTokenizer RemBertTokenizer RoCBertTokenizer RoFormerTokenizer RobertaTokenizer
    SeamlessM4TTokenizer SentencePieceBackend Siglip2Tokenizer SiglipTokenizer Speech2TextTokenizer SpeechT5Tokenizer
    SplinterTokenizer SqueezeBertTokenizer T5Tokenizer TapasTokenizer Tipsv2Tokenizer TokenizersBackend UdopTokenizer
    VideoPrismTokenizer Wav2Vec2CTCTokenizer WhisperTokenizer XGLMTokenizer XLMRobertaTokenizer XLMTokenizer
    XLNetTokenizer
"""
LOADS_ITS_FOLDER = frozenset(_NAMES.split())
"""Names of classes, without ``Fast`` at their end. A class is on the list once its code was read: ``RagTokenizer``, for
example, asks ``AutoTokenizer`` for other folders, and trusts their code."""
_READS_ONE_FILE = "MistralCommonBackend"
"""A class with a ``from_pretrained`` of its own, which reads one file of its folder. ``AutoTokenizer`` takes it only if
there is such a file."""
_ADVICE = (
    "save the tokenizer with tokenizer.save_pretrained, from a source that you trust; if tokenizer.json is complete,"
    ' "tokenizer_class": "PreTrainedTokenizerFast" in tokenizer_config.json and no config.json beside it make it count'
    " alone"
)


def loads_its_folder(found: object) -> bool:
    """Return whether an object is a tokenizer class that loads nothing but the files of its folder.

    Args:
        found: A class of transformers, also one that stands for a class whose library is missing; or a class of an
            installed package, which is trusted as a plugin is, but has to load files as transformers does.
    """
    from transformers import PreTrainedTokenizerBase

    if not isinstance(found, type):
        return False
    if found.__module__.partition(".")[0] == "transformers":
        return found.__name__ == _READS_ONE_FILE or found.__name__.removesuffix("Fast") in LOADS_ITS_FOLDER
    if not issubclass(found, PreTrainedTokenizerBase):
        return False
    return next(base for base in found.__mro__ if "from_pretrained" in vars(base)) is PreTrainedTokenizerBase


def check_class(class_name: object, where: str) -> bool:
    """Check the classes that ``AutoTokenizer`` could take for a name.

    Args:
        class_name: The name, a value of ``tokenizer_class``.
        where: The file that has the name.

    Returns:
        Whether transformers has a class of this name.

    Raises:
        UnsafeArtifactError: A class is no tokenizer, or is not known to load nothing but its folder.
    """
    from transformers.models.auto.tokenization_auto import tokenizer_class_from_name

    if not isinstance(class_name, str):
        return False
    short = class_name.removesuffix("Fast")
    found = [tokenizer_class_from_name(name) for name in dict.fromkeys((class_name, short, f"{short}Fast"))]
    known = [one for one in found if one is not None]
    if not all(map(loads_its_folder, known)):
        raise _refused(f"tokenizer_class is {short_repr(class_name)}, which", where)
    return bool(known)


def check_type(config: PreTrainedConfig) -> None:
    """Check the classes that ``AutoTokenizer`` could take for the type of a config.

    Raises:
        UnsafeArtifactError: A class is not known to load nothing but its folder.
    """
    from transformers.models.auto.tokenization_auto import (
        TOKENIZER_MAPPING,
        TOKENIZER_MAPPING_NAMES,
        tokenizer_class_from_name,
    )

    name: Any = TOKENIZER_MAPPING_NAMES.get(config.model_type)
    of_config: Any = TOKENIZER_MAPPING.get(type(config), None)
    for found in (of_config, tokenizer_class_from_name(name) if name else None):
        if not (found is None or loads_its_folder(found)):
            subject = f"model_type is {short_repr(config.model_type)}, and its tokenizer is {short_repr(found)}, which"
            raise _refused(subject, "config.json")


def _refused(subject: str, where: str) -> UnsafeArtifactError:
    problem = "is no tokenizer that is known to load nothing but its folder"
    return UnsafeArtifactError(f"{subject} {problem}", where=where, fix=_ADVICE)

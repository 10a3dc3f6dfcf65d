"""Folders of pretrained encoders and tokenizers, which a config names by path or by their name on the hub."""

from __future__ import annotations

from pathlib import Path

from bsm_core.artifact.files import read_json_object
from bsm_core.artifact.pretrained_files import ENCODER, TextAsset, find_cached

_POOLING, _FLAG = "1_Pooling/config.json", "pooling_mode_"
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")


def pretrained_folder(asset: TextAsset, given: str) -> Path | None:
    """Return the folder that a config names: a path, or a name in the local Hugging Face cache; None if it is neither.

    Args:
        asset: What the folder should hold.
        given: Value of the config key.
    """
    return Path(given) if Path(given).is_dir() else find_cached(asset, given)


def problem_of(asset: TextAsset, given: str) -> str | None:
    """Return what is wrong with the folder that a config names, and what to do; None for nothing.

    Args:
        asset: What the folder should hold.
        given: Value of the config key.
    """
    folder = pretrained_folder(asset, given)
    if folder is None:
        return (
            f"{given!r} is not a folder, and no {asset.what} of this name is in the local Hugging Face cache; bsm"
            f" downloads nothing: give a folder of save_pretrained, or run `hf download {given}` first"
        )
    if not any((folder / sign).is_file() for sign in asset.signs):
        return f"the folder {given!r} has no {asset.signs[0]}; give a folder of save_pretrained"
    if asset is ENCODER and not any(next(folder.glob(pattern), None) for pattern in _WEIGHTS):
        return f"the folder {str(folder)!r} has no weights; give a folder of save_pretrained with model.safetensors"
    return None


def trained_pooling(folder: Path) -> str | None:
    """Return how an encoder of sentence-transformers pools tokens; None for a folder that does not say it.

    Args:
        folder: Folder of the encoder, whose ``1_Pooling/config.json`` says it.

    Returns:
        ``"mean"``, ``"cls"``, or the name that sentence-transformers has for another one, such as ``"max_tokens"``.

    Raises:
        CorruptArtifactError: The file is not a JSON object.
    """
    if not (folder / _POOLING).is_file():
        return None
    values = read_json_object(folder / _POOLING, _POOLING)
    flags = [key.removeprefix(_FLAG) for key, value in values.items() if key.startswith(_FLAG) and value is True]
    named = flags or [str(values.get("pooling_mode", ""))]
    return "+".join({"mean_tokens": "mean", "cls_token": "cls"}.get(mode, mode) for mode in named) or None

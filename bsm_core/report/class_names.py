"""Names of the classes of a model, as its config has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def class_names(config: Mapping[str, Any], classes: int) -> list[str]:
    """Return the name of each class.

    The names are those of the config key ``class_names`` or, as Hugging Face writes it, ``id2label``; else the labels
    with which the model was trained (``multiclass_categories``); else ``class 0``, ``class 1`` and so on. A key that
    does not have a name for each class is passed over. A name that is a number has the word "class" before it.

    Args:
        config: The artifact's config.
        classes: Number of classes.
    """
    for key in ("class_names", "id2label", "multiclass_categories"):
        given = config.get(key)
        if isinstance(given, Mapping):
            texts = {str(index): value for index, value in given.items()}
            given = [texts.get(str(index)) for index in range(classes)]
        if isinstance(given, list | tuple) and len(given) == classes and all(map(_is_name, given)):
            return [_name(str(value)) for value in given]
    return [f"class {index}" for index in range(classes)]


def _is_name(value: Any) -> bool:
    return isinstance(value, str | int | float) and str(value).strip() != ""


def _name(text: str) -> str:
    return f"class {text}" if text.replace(".", "", 1).isdecimal() else text

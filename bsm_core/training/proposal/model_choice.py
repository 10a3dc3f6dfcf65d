"""The model class that a proposal names."""

from __future__ import annotations

from bsm_core.errors import PluginError, UsageError
from bsm_core.models.base import ModelBase
from bsm_core.plugins.registry import Registry

TEXT_KEYS: dict[int, tuple[str, ...]] = {
    0: (),
    1: ("text_name",),
    2: ("primary_text_name", "secondary_text_name"),
}
"""Keys of the text fields, by their number."""
FEATURES = "tab_field_list"


def choose_model_class(registry: Registry, texts: int, *, features: bool) -> tuple[str, type[ModelBase]]:
    """Return the model class that is proposed for some columns, and its name.

    Only classes with a :attr:`~bsm_core.ModelBase.proposed_config` are considered. The class that could read the fewest
    other columns is chosen.

    Args:
        registry: Registry in which classes are looked up.
        texts: Number of text fields.
        features: Whether there are features.

    Raises:
        UsageError: No class reads these columns.
    """
    needed = {*TEXT_KEYS[texts], *([FEATURES] if features else [])}
    columns = {key for keys in TEXT_KEYS.values() for key in keys} | {FEATURES}
    found: list[tuple[int, str, type[ModelBase]]] = []
    for component in registry.components:
        if component.kind != "model_class" or component.alias_of is not None:
            continue
        try:
            model_class = registry.load(component, ModelBase)
        except PluginError:
            continue
        fields = model_class.Config.model_fields
        read = columns & fields.keys()
        required = {key for key in read if fields[key].is_required()}
        if model_class.proposed_config is not None and required <= needed <= read:
            found.append((len(read - needed), component.name, model_class))
    if not found:
        what = f"no model class is proposed for {texts} text(s) {'and' if features else 'without'} features"
        raise UsageError(what, fix="install a plugin with a class that reads them; see `bsm plugins list`")
    _, name, model_class = min(found, key=lambda each: each[:2])
    return name, model_class

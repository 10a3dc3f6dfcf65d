import pytest
from bsm_late_fusion import LateFusion

from bsm_core import ConfigError
from bsm_core.testing import parametrize_with_checks

CONFIG = {"text_name": "text", "tab_field_list": ["a", "b"], "vocab_size": 64}


@parametrize_with_checks("bsm-late-fusion")
def test_conformance(check):
    check()


def test_training_begins_with_the_weight_of_the_config():
    model = LateFusion.from_config(CONFIG | {"text_weight": 0.7})
    assert model.weight.sigmoid().item() == pytest.approx(0.7)


def test_what_is_wrong_with_the_config_is_named():
    with pytest.raises(ConfigError, match=r"tab_field_list(.|\n)*text_weight"):
        LateFusion.from_config(CONFIG | {"tab_field_list": [], "text_weight": 1})

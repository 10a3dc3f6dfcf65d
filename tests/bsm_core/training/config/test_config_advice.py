from __future__ import annotations

import pytest

from bsm_core.errors import DataError
from bsm_core.training.config.config_advice import naming_config_keys


@naming_config_keys()
def fail(*settings):
    raise DataError("no good", settings=settings)


def test_errors_name_keys_of_the_config_and_no_flags():
    with pytest.raises(DataError) as caught:
        fail({"on_bad_line": "skip"}, {"resume": "never"})
    assert caught.value.to_fix == "set on_bad_line to skip in the config"

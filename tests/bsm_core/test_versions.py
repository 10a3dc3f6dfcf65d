from __future__ import annotations

import platform

import torch

import bsm_core
from bsm_core.versions import installed


def test_the_versions_are_those_in_use():
    versions = installed()
    assert versions["python"] == platform.python_version()
    assert versions["bsm"] == bsm_core.__version__
    assert versions["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert {"lightning", "transformers", "tokenizers", "pyarrow", "numpy"} <= set(versions)

from __future__ import annotations

import importlib.metadata
import platform

import torch

import bsm_core
from bsm_core.runtime.versions import installed


def test_the_versions_are_those_in_use():
    versions = installed()
    assert versions["python"] == platform.python_version()
    assert versions["bsm-core"] == bsm_core.__version__
    assert versions["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert {"lightning", "transformers", "tokenizers", "pyarrow", "numpy"} <= set(versions)


def test_a_frozen_program_may_have_no_metadata(monkeypatch):
    def version(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    versions = installed()
    assert (versions["torch"], versions["numpy"]) == ("unknown", "unknown")
    assert versions["bsm-core"] == bsm_core.__version__

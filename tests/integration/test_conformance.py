"""Our own plugins prove what a stranger's must, with no exemption."""

from __future__ import annotations

from bsm_core.testing import parametrize_with_checks


@parametrize_with_checks("bsm-core")
def test_conformance(check):
    check()

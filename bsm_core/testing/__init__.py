"""The conformance kit: checks that a plugin keeps the plugin contract.

In a plugin's tests::

    from bsm_core.testing import parametrize_with_checks

    @parametrize_with_checks("acme-shout")
    def test_conformance(check):
        check()

On the command line: ``bsm plugins check acme-shout``. The kit is modeled on scikit-learn's ``estimator_checks``. Only
:func:`parametrize_with_checks` imports pytest.
"""

from bsm_core.testing.checks import Check, ConformanceError, Report, Result
from bsm_core.testing.conformance import check_model_class, check_plugin, check_text_step, parametrize_with_checks
from bsm_core.testing.toys import isolated_registry, toy_artifact

__all__ = [
    "Check",
    "ConformanceError",
    "Report",
    "Result",
    "check_model_class",
    "check_plugin",
    "check_text_step",
    "isolated_registry",
    "parametrize_with_checks",
    "toy_artifact",
]

"""Runs that meet faults, and the table of what came of them, which pytest prints at its end."""

from __future__ import annotations

import pytest
from faults.harness import ALL, Harness
from support.toy import SITE, toy_rows, write_toy_artifact

from bsm_core.plugins.registry import default_registry


@pytest.fixture(scope="module", params=["csv", "parquet"] if ALL else ["csv"])
def harness(request, tmp_path_factory):
    """Runs of the toy artifact on 23 rows, in three windows."""
    folder = tmp_path_factory.mktemp("faults")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SITE))
        default_registry.cache_clear()
        model = write_toy_artifact(folder / "model")
        default_registry.cache_clear()
    data = folder / "t.csv"
    rows = toy_rows(23).astype(object)
    rows.loc[9, "amount"] = "many"
    rows.to_csv(data, index=False)
    made = Harness(model, data, folder / "work", request.param, environment={"PYTHONPATH": str(SITE)})
    yield made
    made.close()


@pytest.fixture
def record_fault(request, record_property):
    """Function that adds a line to the table of faults: the fault, what the user saw, what was left in the folder."""

    def record(fault, saw="", left=""):
        record_property("fault", (request.node.name, fault, saw, left))

    return record


def pytest_terminal_summary(terminalreporter):
    """Print the table."""
    passed = [value for report in terminalreporter.stats.get("passed", []) for _, value in report.user_properties]
    if passed:
        terminalreporter.section("faults; after each, the same command wrote the bytes of an undisturbed run")
    for test, fault, saw, left in passed:
        terminalreporter.line(f"| {test} | {fault} | {saw} | {left} |")

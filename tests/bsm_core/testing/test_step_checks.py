"""The kit against a good step, and against one broken step for every check."""

from __future__ import annotations

import pytest
from support import broken_steps

from bsm_core import TextStep
from bsm_core.testing import check_text_step
from bsm_core.testing.step_checks import CHECKS

NAMES = [check.name for check in CHECKS]


@pytest.mark.parametrize("step", [broken_steps.Good, broken_steps.GoodSplitter, broken_steps.ChatInJson])
def test_a_good_step_passes_everything(step):
    report = check_text_step(step)
    assert report.counts == {"passed": len(CHECKS), "failed": 0, "skipped": 0}, report.to_text()


@pytest.mark.parametrize("name", NAMES)
def test_a_broken_step_fails_its_check_and_no_other(name):
    step = getattr(broken_steps, name.title().replace("_", ""))
    report = check_text_step(step, on_fail=None)
    assert [r.check.name for r in report.results if r.status == "failed"] == [name], report.to_text()
    behind = {r.message for r in report.results if r.status == "skipped"}
    gate = next(check.gate for check in CHECKS if check.name == name)
    assert behind == ({f"not checked because {name} fails"} if gate else set())


@pytest.mark.parametrize(
    ("step", "name"),
    [
        ("Remembers", "batch_equals_row_by_row"),
        ("LooksAtTheWholeBatch", "batch_equals_row_by_row"),
        ("DropsRows", "takes_nul"),
    ],
)
def test_what_is_wrong_in_other_ways_fails_too(step, name):
    report = check_text_step(getattr(broken_steps, step), on_fail=None)
    assert name in [r.check.name for r in report.results if r.status == "failed"]


def test_what_no_other_process_can_find_is_skipped_and_says_so():
    class Local(TextStep):
        def process(self, value):
            return value.upper()

    report = check_text_step(Local, on_fail=None)
    skipped = {r.check.name: r.message for r in report.results if r.status == "skipped"}
    assert skipped.keys() == {"is_the_same_in_every_process", "can_be_pickled", "works_in_a_spawned_worker"}
    assert report.counts["failed"] == 0
    assert "define it at the top level of a module" in skipped["works_in_a_spawned_worker"]


@pytest.mark.parametrize(("step", "keeps"), [("Good", "keeps"), ("GoodSplitter", "keeps"), ("ChatInJson", "loses")])
def test_the_report_says_whether_places_are_kept(step, keeps):
    report = check_text_step(getattr(broken_steps, step))
    assert f"passed   MUST    takes_traced_text: it {keeps} the places of characters\n" in report.to_text()


def test_every_check_says_what_and_how():
    assert len(set(NAMES)) == len(NAMES)
    for check in CHECKS:
        assert check.what.endswith(".")
        assert check.level in ("MUST", "SHOULD")
        assert len(check.repair) > 20

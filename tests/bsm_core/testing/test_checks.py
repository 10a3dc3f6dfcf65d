from __future__ import annotations

import json

import pytest

from bsm_core.testing.checks import CheckFailedError, Checks, CheckSkippedError, Report, Result, Subject

CHECKS = Checks()


@CHECKS.add("open the gate", gate=True)
def gate(subject):
    """The gate is open."""
    subject.seen.append("gate")
    if not subject.open:
        raise CheckFailedError("it is shut")


@CHECKS.add("do better")
def good(subject):
    """All is well."""
    subject.seen.append("good")


@CHECKS.add("do better")
def bad(subject):
    """Nothing
    is wrong."""
    raise CheckFailedError("much is wrong")


@CHECKS.add("do better", level="SHOULD")
def crash(subject):
    """Nothing raises."""
    raise subject.error


@CHECKS.add("buy one")
def gpu(subject):
    """Check that needs a GPU."""
    raise CheckSkippedError("there is no GPU")


class Thing(Subject):
    checks = CHECKS
    label = "thing one"

    def __init__(self, is_open=True, error=None):
        super().__init__()
        self.open, self.error, self.seen = is_open, error or IndexError("list"), []


def report(thing) -> Report:
    return Report(tuple(thing.results()))


def statuses(thing):
    return {r.check.name: (r.status, r.message) for r in thing.results()}


def test_what_comes_of_each_check():
    assert statuses(Thing()) == {
        "gate": ("passed", ""),
        "good": ("passed", ""),
        "bad": ("failed", "much is wrong"),
        "crash": ("failed", "IndexError: list"),
        "gpu": ("skipped", "there is no GPU"),
    }


def test_a_plugin_that_exits_does_not_end_the_kit():
    assert statuses(Thing(error=SystemExit(3)))["crash"] == ("failed", "SystemExit: 3")


def test_behind_a_shut_gate_all_is_skipped_and_says_why():
    thing = Thing(is_open=False)
    found = statuses(thing)
    assert found.pop("gate") == ("failed", "it is shut")
    assert set(found.values()) == {("skipped", "not checked because gate fails")}
    assert thing.seen == ["gate"]


def test_a_gate_is_looked_at_once_whatever_is_asked_for():
    thing = Thing()
    for check in (CHECKS[1], CHECKS[1], CHECKS[0]):
        thing.result(check)
    assert thing.seen == ["gate", "good", "good"]


def test_the_report_for_people():
    assert report(Thing()).to_text() == (
        "thing one\n"
        "  passed   MUST    gate\n"
        "  passed   MUST    good\n"
        "  FAILED   MUST    bad: much is wrong\n"
        "      must hold: Nothing is wrong.\n"
        "      to repair: do better\n"
        "  FAILED   SHOULD  crash: IndexError: list\n"
        "      must hold: Nothing raises.\n"
        "      to repair: do better\n"
        "  skipped  MUST    gpu: there is no GPU\n"
        "2 passed, 2 failed, 1 skipped"
    )


def test_the_report_for_machines():
    found = report(Thing()).to_dict()
    assert json.loads(json.dumps(found)) == found
    assert (found["ok"], found["passed"], found["failed"], found["skipped"]) == (False, 2, 2, 1)
    assert found["results"][2] == {
        "subject": "thing one",
        "check": "bad",
        "level": "MUST",
        "status": "failed",
        "message": "much is wrong",
        "repair": "do better",
    }


@pytest.mark.parametrize(("failed", "ok"), [((), True), ((3,), True), ((2,), False), ((2, 3), False)])
def test_only_what_must_hold_counts(failed, ok):
    results = [Result("x", check, "failed" if i in failed else "passed") for i, check in enumerate(CHECKS)]
    assert Report(tuple(results)).ok is ok

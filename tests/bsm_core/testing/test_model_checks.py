"""The kit against a good model class, and against one broken model class for every check."""

from __future__ import annotations

import pytest
import torch
from support import broken_models

from bsm_core.testing import check_model_class, model_checks
from bsm_core.testing.model_checks import CHECKS

NAMES = [check.name for check in CHECKS]
NO_GPU = {"runs_on_two_devices": "there is no GPU here"}


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch):
    """Checks with the same results on every machine."""
    monkeypatch.setattr(model_checks, "second_device", lambda: None)


@pytest.mark.parametrize("model_class", [broken_models.Good, broken_models.Particular])
def test_a_good_model_class_passes_everything(model_class):
    report = check_model_class(model_class)
    assert report.counts == {"passed": len(CHECKS) - 1, "failed": 0, "skipped": 1}, report.to_text()
    assert {r.check.name: r.message for r in report.results if r.status == "skipped"} == NO_GPU


@pytest.mark.parametrize("name", NAMES)
def test_a_broken_model_class_fails_its_check_and_no_other(name, monkeypatch):
    if name == "runs_on_two_devices":
        monkeypatch.setattr(model_checks, "second_device", lambda: "cpu")
    model_class = getattr(broken_models, name.title().replace("_", ""))
    report = check_model_class(model_class, on_fail=None)
    assert [r.check.name for r in report.results if r.status == "failed"] == [name], report.to_text()
    assert report.ok is (next(c.level for c in CHECKS if c.name == name) == "SHOULD")


@pytest.mark.parametrize(
    "model_class", [broken_models.SmoothsLabels, broken_models.LeavesPartsOut, broken_models.NormalizesBatches]
)
def test_what_is_right_in_its_own_way_passes(model_class):
    assert check_model_class(model_class).counts["failed"] == 0


@pytest.mark.parametrize(
    ("model_class", "name", "said"),
    [
        ("TakesAnySize", "refuses_a_bad_config_before_weights", "config key 'size', -1: RuntimeError"),
        ("PadsByItself", "does_not_depend_on_padding", "probabilities differ"),
        ("ReadsAFileOnce", "needs_neither_files_nor_network", "/dev/null"),
        ("LearnsNothing", "trains_every_parameter", "all gradients are zero"),
        ("NamesTextsOddly", "runs_its_parts_again", "encode_texts names ['chat_text'], the columns are ["),
        ("FusesToMatrices", "runs_its_parts_again", "vectors of 'fuse_rows' are [8, 1, "),
        ("LearnsNothing", "overfits_eight_rows", "of 8 rows"),
    ],
)
def test_what_is_wrong_in_other_ways_fails_too(model_class, name, said):
    report = check_model_class(getattr(broken_models, model_class), on_fail=None)
    (result,) = [r for r in report.results if r.check.name == name]
    assert (result.status, said in result.message) == ("failed", True), result


def test_a_class_without_parts_is_told_that_it_has_no_embeddings():
    report = check_model_class(broken_models.OverridesForward)
    skipped = {r.check.name: r.message for r in report.results if r.status == "skipped"}
    assert "has no embeddings" in skipped["runs_its_parts_again"]


def test_the_kit_leaves_random_numbers_as_they_were():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    check_model_class(broken_models.Good)
    assert torch.equal(torch.get_rng_state(), before)


def test_two_devices_are_compared_where_there_are_two(monkeypatch):
    monkeypatch.setattr(model_checks, "second_device", lambda: "cpu")
    assert check_model_class(broken_models.Good).counts["passed"] == len(CHECKS)


def test_a_class_that_no_other_process_can_find_is_skipped_and_says_so():
    class Local(broken_models.Good):
        pass

    report = check_model_class(Local, on_fail=None)
    (skipped,) = [r for r in report.results if r.status == "skipped" and r.check.name != "runs_on_two_devices"]
    assert skipped.check.name == "comes_back_from_an_artifact"
    assert "define it at the top level of a module" in skipped.message


def test_every_check_says_what_and_how():
    assert len(set(NAMES)) == len(NAMES)
    for check in CHECKS:
        assert check.what.endswith(".")
        assert len(check.repair) > 20

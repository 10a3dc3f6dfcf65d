from __future__ import annotations

import json

import pytest

from bsm_core.backends import trial_results
from bsm_core.backends.trial_results import TrialResult, is_close, result_of

NOW, HOUR, DAY = 1_700_000_000.0, 3600, 86400
CLEAR = {"eager": (2.0, 2.1), "quick": (1.0, 1.2)}
CLOSE = {"eager": (2.0, 2.5), "quick": (1.8, 1.9)}


@pytest.fixture(autouse=True)
def clock(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(trial_results.time, "time", lambda: NOW)


def test_a_lead_within_the_spread_of_one_of_two_is_close():
    assert not is_close(CLEAR)
    assert is_close(CLOSE)
    assert is_close({"eager": (1.0, 1.0), "quick": (1.0, 1.0)})
    assert is_close({"eager": (1.0, 1.0)})  # the other one failed
    assert not is_close(CLEAR | {"slow": (9.0, 16.0)})
    assert is_close(CLEAR | {"slow": (9.0, 19.0)})
    assert is_close({"a": (1.0, 1.01), "b": (1.05, 1.06), "c": (1.06, 1.5)})


@pytest.mark.parametrize(
    ("times", "age", "trials", "holds"),
    [
        (CLEAR, 29 * DAY, 1, True),
        (CLEAR, 31 * DAY, 1, False),
        (CLEAR, -HOUR, 1, False),  # the clock was wrong
        (CLOSE, HOUR / 2, 1, True),
        (CLOSE, 2 * HOUR, 1, False),
        (CLOSE, 2 * HOUR, 2, False),
        (CLOSE, 2 * HOUR, 3, True),
        (CLOSE, 31 * DAY, 3, False),
    ],
)
def test_how_long_a_result_holds(times, age, trials, holds):
    assert TrialResult("quick", times, NOW - age, trials).holds() == holds


def test_a_close_result_and_the_next_trial_are_one():
    """On a busy machine the backend that is really slower seemed to be the faster one."""
    busy = TrialResult("eager", {"eager": (3.0, 9.0), "quick": (4.0, 8.0)}, NOW - 2 * HOUR)
    assert result_of(CLEAR, busy) == TrialResult("quick", CLEAR, NOW, 2)
    again = result_of({"eager": (4.0, 4.1), "quick": (1.0, 5.0)}, busy)
    assert again.times == {"eager": (3.0, 4.0), "quick": (1.0, 4.0)}


def test_the_earlier_choice_stays_where_the_result_is_close():
    assert result_of(CLOSE, None).fastest == "quick"
    earlier = TrialResult("eager", {"eager": (2.0, 2.5), "quick": (2.1, 2.6)}, NOW - 2 * HOUR)
    assert result_of({"eager": (2.0, 2.6), "quick": (1.9, 2.7)}, earlier).fastest == "eager"
    third = {"eager": (2.0, 2.1), "quick": (1.0, 1.2), "other": (1.1, 1.2)}
    assert result_of(third, TrialResult("eager", third, NOW - 2 * HOUR)).fastest == "quick"
    assert result_of(CLOSE, TrialResult("gone", {"gone": (1.0, 1.0)}, NOW - 2 * HOUR)).fastest == "quick"


def test_old_times_do_not_count():
    old = TrialResult("eager", {"eager": (0.1, 0.1), "quick": (3.0, 3.0)}, NOW - 31 * DAY, 3)
    assert result_of(CLEAR, old) == TrialResult("quick", CLEAR, NOW, 1)


def test_where_every_backend_failed_the_encoders_own_code_runs():
    assert result_of({}, None).fastest == "eager"


def test_results_are_kept_and_old_ones_are_not():
    results = {"a": TrialResult("quick", CLEAR, NOW - DAY), "b": TrialResult("eager", CLOSE, NOW - 40 * DAY)}
    trial_results.write(results)
    assert trial_results.read() == {"a": results["a"]}


@pytest.mark.parametrize(
    "content",
    [
        "", "[1]", '{"x":', "\x00", '{"x": "quick"}', '{"x": ["quick"]}', '{"x": {"fastest": "quick"}}',
        '{"x": {"fastest": "quick", "times": {"quick": [1]}, "tried": 1, "trials": 1}}',
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_read_holds_no_result(tmp_path, content):
    trial_results.write({"x": TrialResult("quick", CLEAR)})
    (tmp_path / "bsm/backends.json").write_text(content)
    assert trial_results.read() == {}


def test_the_file_can_be_read_by_people(tmp_path):
    trial_results.write({"x": TrialResult("quick", CLEAR)})
    written = {"fastest": "quick", "times": {"eager": [2.0, 2.1], "quick": [1.0, 1.2]}, "tried": NOW, "trials": 1}
    assert json.loads((tmp_path / "bsm/backends.json").read_text()) == {"x": written}

"""The driver of the Ray engine, with real actors that are threads: what happens when they die."""

from __future__ import annotations

import gzip
import json
import logging
import re
import sys
import tempfile
import threading
from collections import Counter
from concurrent.futures import ALL_COMPLETED
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType

import pandas as pd
import pytest
from support.toy import toy_rows

from bsm_core.errors import DataError, EngineError

if find_spec("ray") is None:
    pytest.skip("needs Ray", allow_module_level=True)

from ray.core.generated.common_pb2 import ActorDiedErrorContext
from ray.exceptions import ActorDiedError, OutOfMemoryError, RayError, RayTaskError
from support.ray_stand_in import threads_for_actors

from bsm_core.scoring.engines import ray_actor, ray_driver
from bsm_core.scoring.engines.ray_actor import WindowActor
from bsm_core.scoring.output.manifest import WorkFolder
from bsm_core.tables import splits
from bsm_core.tables.windows import Window


class MortalActor(WindowActor):
    """Actor that dies where a test says so.

    Attributes:
        deadly: How many actors each window may still kill.
        starts, ends: How many actors may still die while they start, and while they end.
        death: Error with which they die while they start.
        prompt: How many actors start when they are told to; the others start when the run has failed.
        late: Temporary folders that these found when they had started.
        given: How often each window was given to an actor.
        scored: Number of rows of each window whose part was returned.
        splits: Numbers of the windows of each split that was given, with the actor that got it.
        answers: Numbers of the windows of each answer.
    """

    deadly: Counter[int]
    starts = ends = 0
    prompt = sys.maxsize
    late: list[list[Path]]
    given: Counter[int]
    scored: dict[int, int]
    splits: list[tuple[WindowActor, range]]
    answers: list[list[int]]
    death = RayError("it died at its start")
    lock = threading.Lock()

    def __init__(self, *arguments) -> None:
        logger = logging.getLogger("bsm")
        before = logger.propagate, logger.level
        super().__init__(*arguments)
        self.closed = threading.Event()
        logger.removeHandler(self._log)  # of all actors and of the driver, which are one process here
        logger.propagate = before[0]
        logger.setLevel(before[1])

    def start(self, earlier):
        if self._counts_down("starts"):
            raise self.death
        if self._counts_down("prompt"):
            return super().start(earlier)
        self.closed.wait(60)
        answer = super().start(earlier)
        self.late.append([*Path(tempfile.gettempdir()).iterdir()])
        return answer

    def close(self):
        super().close()
        self.closed.set()

    def score(self, item):
        windows = [item.index] if isinstance(item, Window) else range(item.first, item.first + item.windows)
        with self.lock:
            self.given.update(windows)
            if isinstance(windows, range):
                self.splits.append((self, windows))
            for window in windows[: ray_actor.PORTION]:
                if self.deadly[window] > 0:
                    self.deadly[window] -= 1
                    raise RayError("it died")
        answer = super().score(item)
        self.scored.update({part.record.window: part.record.rows for part in answer.value})
        return answer

    def more(self, item, done):
        with self.lock:
            if done and self.deadly[item.first + done] > 0:
                self.deadly[item.first + done] -= 1
                raise RayError("it died")
        answer = super().more(item, done)
        self.answers.append([part.record.window for part in answer.value or []])
        return answer

    def finish(self):
        answer = super().finish()
        if self._counts_down("ends"):
            raise RayError("it died at its end")
        return answer

    @classmethod
    def _counts_down(cls, name):
        with cls.lock:
            left = getattr(cls, name)
            setattr(cls, name, max(0, left - 1))
            return left > 0


@pytest.fixture
def score(run, monkeypatch, tmp_path):
    """Runs a job on two actors that are threads; ``left`` are the temporary folders that the run leaves."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))

    def start(deadly=(), starts=0, ends=0, actors=2, room=9, hosts=(), free=MappingProxyType({}), **flags):
        monkeypatch.setattr(MortalActor, "deadly", Counter(dict(deadly)), raising=False)
        monkeypatch.setattr(MortalActor, "given", Counter(), raising=False)
        monkeypatch.setattr(MortalActor, "scored", {}, raising=False)
        monkeypatch.setattr(MortalActor, "splits", [], raising=False)
        monkeypatch.setattr(MortalActor, "answers", [], raising=False)
        monkeypatch.setattr(MortalActor, "starts", starts)
        monkeypatch.setattr(MortalActor, "ends", ends)
        with threads_for_actors(MortalActor, actors, room, hosts, free):
            try:
                return run(**{"engine": "ray", "device": "cpu", "window_rows": 3, **flags})
            finally:
                start.left = [*(tmp_path / "temporary").iterdir()]

    start.data, start.out, start.local, start.artifact = run.data, run.out, run, run.artifact
    return start


@pytest.fixture
def one(score):
    """The bytes that one process writes of 40 rows."""
    toy_rows(40).to_csv(score.data / "t.csv", index=False)
    content = score.local(device="cpu", window_rows=3).path.read_bytes()
    (score.out / "inference_predictions.csv").unlink()
    return content


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
def test_the_bytes_are_those_of_one_process(score, one, name):
    content = (score.data / "t.csv").read_bytes()
    (score.data / "t.csv").unlink()
    (score.data / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    assert score().path.read_bytes() == one
    assert sorted(MortalActor.given) == list(range(14))


def test_the_statistics_are_those_of_one_process_whoever_dies(score, one):
    found = []
    for start in (score.local, lambda **flags: score(deadly={2: 3, 9: 1}, **flags)):
        start(run_record=True, device="cpu", window_rows=3)
        found.append(json.loads((score.out / "run.json").read_text())["statistics"])
    assert found[0] == found[1]
    assert found[1]["rows"] == sum(found[1]["predicted"]) == 40


def test_files_of_the_artifact_may_be_links(score, one, tmp_path):
    """As in the cache of the Hugging Face hub, and in a volume of Kubernetes."""
    (tmp_path / "linked").mkdir()
    for file in score.artifact.iterdir():
        (tmp_path / "linked" / file.name).symlink_to(file.resolve())
    assert score(model_dir=tmp_path / "linked").path.read_bytes() == one


@pytest.mark.parametrize("prompt", [1, 2])
def test_the_copies_of_the_artifact_go_with_a_run_that_fails(score, one, monkeypatch, prompt):
    monkeypatch.setattr(MortalActor, "prompt", prompt)
    monkeypatch.setattr(MortalActor, "late", [], raising=False)
    with (score.data / "t.csv").open("a") as file:
        file.write("041,short\n")
    with pytest.raises(DataError, match="line 42"):
        score()
    assert not score.left
    assert MortalActor.late == [[]] * (2 - prompt)


@pytest.mark.parametrize("actors", [1, 2])
def test_a_window_is_given_again_three_times(score, one, actors, caplog):
    with caplog.at_level(logging.WARNING, "bsm"):
        assert score(deadly={2: 3}, actors=actors).path.read_bytes() == one
    assert MortalActor.given[2] == 4
    assert caplog.text.count("a new one takes its place") == 3
    assert "window 2" in caplog.text


def test_windows_that_were_with_a_deadly_one_are_told_from_it(score, one):
    """Each window of a dead actor is given to an actor that has nothing else."""
    assert score(deadly={0: 2, 1: 2, 5: 1, 13: 2}).path.read_bytes() == one


def test_a_window_that_kills_a_fourth_actor_is_named_and_can_be_left_empty(score):
    rows = toy_rows(12)
    rows.to_csv(score.data / "t.csv", index=False)
    issues = score.out.parent / "issues.csv"
    report = score.out.parent / "report.html"
    with pytest.raises(EngineError, match=r"4 actors died with window 2, rows 6 to 8"):
        score(deadly={2: 4}, actors=1, report=report)
    assert MortalActor.given[2] == 4
    done = score(deadly={2: 4}, actors=1, on_bad_row="null", row_issues=issues, report=report)
    assert "3 row(s) are in no statistics: they were not scored, or" in report.read_text("utf-8")
    got = pd.read_csv(done.path, dtype={"id": str})
    assert got["id"].tolist() == rows["id"].tolist()
    assert got["prob_class_0"].isna().tolist() == [6 <= i <= 8 for i in range(12)]
    issues = pd.read_csv(issues)
    assert issues["row"].tolist() == [6, 7, 8]
    assert set(issues["reason"]) == {"the actor died that scored the row"}


def test_an_error_of_one_actor_costs_no_part_of_another(score, one, monkeypatch):
    """Also where all answers come at once."""
    monkeypatch.setattr("support.ray_stand_in.FIRST_COMPLETED", ALL_COMPLETED)
    with pytest.raises(EngineError, match="4 actors died with window 3"):
        score(deadly={3: 4}, actors=3)
    assert len(MortalActor.scored) > 1
    assert WorkFolder(score.out).rows_done() == sum(MortalActor.scored.values())


@pytest.mark.parametrize("actors", [1, 2])
def test_an_actor_that_dies_at_its_start_is_replaced(score, one, actors, caplog):
    with caplog.at_level(logging.WARNING, "bsm"):
        assert score(starts=2, actors=actors).path.read_bytes() == one
    assert "it died at its start" in caplog.text


def test_actors_that_die_again_and_again_at_their_start_end_the_run(score, one):
    with pytest.raises(EngineError, match=r"(?s)actor 1 of 2 died again and again while it started.*fewer actors"):
        score(starts=9)


IMPORT = """Traceback (most recent call last):
  File "/opt/ray/function_manager.py", line 712, in _load_actor_class_from_gcs
    actor_class = pickle.loads(pickled_class)
                  ^^^^^^^^^^^^^^^^^^^^^^^^^^^
ModuleNotFoundError: No module named 'bsm_core'
"""
WORKER_DIED = "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR"
KILLED = ActorDiedErrorContext(actor_id=bytes(16), class_name="WindowActor", error_message=WORKER_DIED)


@pytest.mark.parametrize(
    ("death", "said", "fix"),
    [
        (
            ActorDiedError(RayTaskError("__init__", IMPORT, RuntimeError())),
            "No module named 'bsm_core'",
            "same version",
        ),
        (RayTaskError("start", IMPORT, ModuleNotFoundError()), "No module named 'bsm_core'", "same version"),
        (RayTaskError("start", "MemoryError", MemoryError()), "MemoryError", "--batch-size"),
        (ActorDiedError(KILLED), "its worker process has died", "--batch-size"),
        (OutOfMemoryError("Task was killed due to the node running low on memory."), "low on memory", "--batch-size"),
    ],
)
def test_the_error_of_actors_that_do_not_start_says_why(score, one, monkeypatch, caplog, death, said, fix):
    """A host without bsm has enough memory."""
    monkeypatch.setattr(MortalActor, "death", death)
    with caplog.at_level(logging.WARNING, "bsm"), pytest.raises(EngineError) as error:
        score(starts=9)
    assert re.search(rf"actor 1 of 2 died: .*{said}.*: a new one", caplog.messages[0])
    assert said in "".join(error.value.details)
    assert fix in error.value.fix
    assert ("memory" in error.value.fix) == ("--batch-size" in fix)
    assert not re.search(r"\x1b|\^", "".join([*error.value.details, *caplog.messages]))


def test_an_actor_that_dies_at_its_end_fails_no_run(score, one, caplog):
    with caplog.at_level(logging.WARNING, "bsm"):
        assert score(ends=1, run_record=True).path.read_bytes() == one
    assert "died when all was done: its times are not known" in caplog.text
    assert json.loads((score.out / "run.json").read_text())["rows"] == 40


def test_an_actor_that_no_host_can_hold_is_an_error(score, one, monkeypatch):
    monkeypatch.setattr(ray_driver, "_LOOK_S", 0.0)
    monkeypatch.setattr(ray_driver, "_SIGNAL_S", 0.01)
    words = r"no host of the cluster has what an actor needs: 1 CPU"
    with pytest.raises(EngineError, match=words):
        score(room=0, hosts=[{"CPU": 0.5}])
    assert not WorkFolder(score.out).rows_done()


@pytest.mark.parametrize(("free", "said"), [({}, True), ({"CPU": 1.0}, False)])
def test_actors_that_wait_for_others_to_end_are_said(score, one, monkeypatch, caplog, free, said):
    """The cluster may have room for them later."""
    monkeypatch.setattr(ray_driver, "_LOOK_S", 0.0)
    monkeypatch.setattr(ray_driver, "_SIGNAL_S", 0.01)
    with caplog.at_level(logging.WARNING, "bsm"):
        assert score(room=1, hosts=[{"CPU": 1}], free=free).path.read_bytes() == one
    assert (
        "1 of 2 actors have not started yet; one that waits for a place needs 1 CPU, and 0 CPU are free" in caplog.text
    ) == said


@pytest.fixture
def two_row_groups(score, monkeypatch):
    """The bytes that one process writes of two row groups of 60 rows, of which actors return two windows at once."""
    monkeypatch.setattr(splits, "_GROUP_ROWS", 10)
    for module in (ray_actor, ray_driver):
        monkeypatch.setattr(module, "PORTION", 2)
    monkeypatch.setattr(ray_actor, "_MOST_PARTS", 8)
    toy_rows(120).to_parquet(score.data / "t.parquet", index=False, row_group_size=60)
    content = score.local(device="cpu", window_rows=3).path.read_bytes()
    (score.out / "inference_predictions.parquet").unlink()
    return content


def test_the_parts_of_a_row_group_come_back_bit_by_bit(score, two_row_groups):
    assert score().path.read_bytes() == two_row_groups
    assert max(map(len, MortalActor.answers)) == 2
    (one, first), (other, second) = MortalActor.splits
    assert (len(first), len(second)) == (18, 18)
    assert one is not other  # none has two row groups while another has none
    assert set(MortalActor.given.values()) == {1}


@pytest.mark.parametrize("actors", [1, 2])
def test_what_has_come_back_of_a_row_group_is_not_given_again(score, two_row_groups, monkeypatch, actors, caplog):
    monkeypatch.setattr(ray_driver, "_PIECES", 3)
    with caplog.at_level(logging.WARNING, "bsm"):
        assert score(deadly={30: 1}, actors=actors).path.read_bytes() == two_row_groups
    begin = MortalActor.splits[1][1].start
    assert [MortalActor.given[window] for window in range(begin, 40)] == [1] * (30 - begin) + [2] * 10
    assert ", windows 30 to 39 died" in caplog.text
    assert [len(windows) for _, windows in MortalActor.splits][2:] == [4, 4, 2]


def test_a_window_in_a_row_group_that_kills_its_actors_is_named(score, two_row_groups, monkeypatch):
    monkeypatch.setattr(ray_driver, "_PIECES", 3)
    with pytest.raises(EngineError, match=r"actors died with window 20, rows 60 to 62"):
        score(deadly={20: 9}, actors=1)


def test_only_the_window_that_kills_its_actors_is_left_empty(score, two_row_groups, monkeypatch):
    """However often its row group has to be cut: a window is given up when it was alone with its actor."""
    monkeypatch.setattr(ray_driver, "_PIECES", 2)
    got = pd.read_parquet(score(deadly={28: 99}, actors=1, on_bad_row="null").path)
    assert got.index[got["prob_class_0"].isna()].tolist() == [84, 85, 86]

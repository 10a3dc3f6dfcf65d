import pytest

from bsm_core.runtime.profile import COMMIT, MODEL, READING, TOTAL, WAITING, Times, table


def test_times_add_up(monkeypatch):
    clock = iter([10.0, 12.5, 20.0, 21.0])
    monkeypatch.setattr("bsm_core.runtime.profile.time.perf_counter", lambda: next(clock))
    times = Times()
    with times.of("a"):
        pass
    with pytest.raises(ValueError, match="slow"), times.of("a"):
        raise ValueError("slow")
    times.add({"a": 0.5, "b": 2.0})
    assert times == {"a": 4.0, "b": 2.0}


def parsed(text):
    """Numbers by name; a heading has none."""
    rows = [line.split() for line in text.replace("%", "").splitlines()[1:]]
    return {
        " ".join(word for word in row if not word[0].isdigit()): [float(w) for w in row if w[0].isdigit()]
        for row in rows
    }


TIMES = Times({READING: 1.0, "chat: upper": 2.0, MODEL: 4.0, COMMIT: 1.0, TOTAL: 10.0})


def test_shares_of_the_whole_and_microseconds_a_row():
    assert parsed(table(TIMES, 1000, helped=False)) == {
        "reading": [1000, 10],
        "chat: upper": [2000, 20],
        "model": [4000, 40],
        "commit": [1000, 10],
        "the rest": [2000, 20],
        "total": [10000, 100],
    }


def test_what_loader_workers_do_is_beside_the_whole():
    times = Times(TIMES)
    times.add({WAITING: 3.0})
    assert parsed(table(times, 1000, helped=True)) == {
        "waiting for the loader": [3000, 30],
        "model": [4000, 40],
        "commit": [1000, 10],
        "the rest": [2000, 20],
        "total": [10000, 100],
        "in loader workers, meanwhile:": [],
        "reading": [1000],
        "chat: upper": [2000],
    }


def test_a_table_without_rows():
    assert "total" in table(Times({TOTAL: 1.0}), 0, helped=False)

import os

import pytest

from bsm_core.runtime import cpus


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Function that makes the control groups of a machine with 16 cores, from files by their paths."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(16), raising=False)
    monkeypatch.setattr(cpus, "_GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(cpus, "_OWN_GROUPS", tmp_path / "own")

    def make(own, **files):
        (tmp_path / "own").write_text(own)
        for path, content in files.items():
            file = tmp_path / "cgroup" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)

    return make


def version_1(group, quota):
    return {f"{group}/cpu.cfs_quota_us": quota, f"{group}/cpu.cfs_period_us": "100000"}


@pytest.mark.parametrize(
    ("own", "files", "cores"),
    [
        ("0::/\n", {"cpu.max": "250000 100000\n"}, 3),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 16),
        ("0::/\n", {"cpu.max": "5000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "3200000 100000\n"}, 16),
        ("0::/\n", {}, 16),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "400000 100000", "cpu.max": "800000 100000"}, 4),
        ("0::/host/path\n", {"cpu.max": "200000 100000"}, 2),  # the container sees its own group as the root
        ("3:cpu,cpuacct:/\n0::/\n", version_1("cpu,cpuacct", "150000"), 2),
        ("3:cpu:/x\n", version_1("cpu/x", "-1") | version_1("cpu", "700000"), 7),
        ("3:memory:/\n", version_1("memory", "100000"), 16),
        ("nonsense\n", {"cpu.max": "100000 100000"}, 16),
    ],
)  # fmt: skip
def test_the_smallest_quota_counts(machine, own, files, cores):
    machine(own, **files)
    assert cpus.cores() == cores


def test_cores_are_those_of_the_process_where_the_system_tells(monkeypatch, tmp_path):
    monkeypatch.setattr(cpus, "_OWN_GROUPS", tmp_path / "none")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 3, 5}, raising=False)
    assert cpus.cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert cpus.cores() == 7

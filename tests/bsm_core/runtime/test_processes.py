from __future__ import annotations

import signal
import subprocess
import sys

import pytest
from support.plugins import run_python

from bsm_core.runtime.processes import how_it_ended

ASKS = "import signal; print([int(s) for s in signal.pthread_sigmask(signal.SIG_BLOCK, ())])"


def test_a_process_that_is_started_never_sees_ctrl_c_and_its_starter_does():
    """Also the very first one, before which multiprocessing starts a helper of its own."""
    code = f"""
        import multiprocessing, os, signal, subprocess, sys
        signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs ignore
        from bsm_core.runtime.processes import without_interrupts

        with without_interrupts():
            multiprocessing.get_context("spawn").Process(target=print).start()
            subprocess.run([sys.executable, "-c", {ASKS!r}])
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt:
            print("interrupted")
    """
    blocked = str([int(number) for number in sorted((signal.SIGHUP, signal.SIGINT))])
    assert {blocked, "interrupted"} <= set(run_python(code).splitlines())


CHILD = """
import multiprocessing, time
from bsm_core.runtime.processes import end_with_parent

def child():
    end_with_parent()
    print("ready", flush=True)
    while True:
        time.sleep(0.01)

if __name__ == "__main__":
    multiprocessing.get_context("spawn").Process(target=child).start()
"""


def test_a_child_process_ends_with_its_parent_even_if_that_is_killed(tmp_path):
    (tmp_path / "parent.py").write_text(CHILD)
    with subprocess.Popen([sys.executable, tmp_path / "parent.py"], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        process.kill()
        assert process.stdout.read() == b""  # the end of the pipe: nobody holds it any more


SLOW = """
import multiprocessing, time

def work():
    pass

if multiprocessing.parent_process() is not None:
    print("importing", flush=True)
    while True:
        time.sleep(0.01)
"""
STARTER = """
import multiprocessing, pickle
from bsm_core.runtime.processes import call_pickled

if __name__ == "__main__":
    from slow import work
    content = pickle.dumps((work, ()))
    multiprocessing.get_context("spawn").Process(target=call_pickled, args=(content,)).start()
"""


def test_a_child_process_ends_with_its_parent_while_it_imports(tmp_path):
    (tmp_path / "slow.py").write_text(SLOW)
    (tmp_path / "parent.py").write_text(STARTER)
    with subprocess.Popen([sys.executable, tmp_path / "parent.py"], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"importing\n"
        process.kill()
        assert process.stdout.read() == b""


def test_a_process_without_a_parent_goes_on():
    run_python("from bsm_core.runtime.processes import end_with_parent; end_with_parent()")


@pytest.mark.parametrize(
    ("code", "words"),
    [(-9, "was killed by SIGKILL"), (143, "was killed by SIGTERM"), (3, "exited with 3"), (-63, "exited with -63")],
)
def test_how_a_process_ended(code, words):
    assert how_it_ended(code) == words

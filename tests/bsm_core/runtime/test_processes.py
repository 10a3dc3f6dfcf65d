from __future__ import annotations

import signal

from support.plugins import run_python

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
    assert {f"[{int(signal.SIGINT)}]", "interrupted"} <= set(run_python(code).splitlines())

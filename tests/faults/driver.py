"""Commands of bsm as forks of one process that has imported the libraries: a run takes a fraction of a second.

Started with the fault library in ``LD_PRELOAD``; the arguments are its path and the modules to import. Each line of
standard input is an order in JSON, see ``harness.Driver``; each line of standard output is the exit status of its
command.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import sys

from bsm_core.cli import main


def run(library: ctypes.CDLL, order: dict) -> int:
    """Run the command of an order in this process, which ends with it."""
    descriptor = os.open(order["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    library.arm(order["folder"].encode(), ctypes.c_long(order["nth"]), order["action"], order["log"].encode())
    return main(order["arguments"])


def serve(library: ctypes.CDLL) -> None:
    """Fork a process for each order."""
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            sys.exit(run(library, order))
        _, status = os.waitpid(child, 0)
        print(json.dumps(os.waitstatus_to_exitcode(status)), flush=True)


if __name__ == "__main__":
    for module in sys.argv[2:]:
        importlib.import_module(module)
    serve(ctypes.CDLL(sys.argv[1]))

"""One thread for each process: the models of the tests are tiny, and threads that wait for each other cost more."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

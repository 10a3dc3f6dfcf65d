"""One thread for each process: the models of the tests are tiny, and threads that wait for each other cost more."""

import os
import tempfile

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="bsm-tests-")  # what a trial of back ends found is the user's

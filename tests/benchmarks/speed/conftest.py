"""The modules of ``benchmarks/speed`` import each other by name, as scripts do."""

import sys
from pathlib import Path

SPEED = Path(__file__).parents[3] / "benchmarks" / "speed"
sys.path.append(str(SPEED))
collect_ignore_glob = [] if SPEED.is_dir() else ["test_*.py"]  # the tests of a wheel run without the checkout

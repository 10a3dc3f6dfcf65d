"""``python -m bsm_core.cli``: the same as ``bsm``."""

import sys

from bsm_core.cli import main

sys.exit(main())

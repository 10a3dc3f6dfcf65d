"""Entry point of ``python -m bsm_core.cli``, which is the same as ``bsm``."""

import sys

from bsm_core.cli import main

sys.exit(main())

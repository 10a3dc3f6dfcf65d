"""Log lines for the user, on standard error."""

from __future__ import annotations

import logging


def configure(level: int = logging.INFO) -> None:
    """Send log lines of the logger ``"bsm"`` to standard error; loggers of other libraries stay unchanged."""
    logger = logging.getLogger("bsm")
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
        logger.addHandler(handler)
        logger.propagate = False
    logger.setLevel(level)

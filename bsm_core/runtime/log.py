"""Log lines for people, on standard error."""

from __future__ import annotations

import logging


def configure(level: int = logging.INFO) -> None:
    """Send bsm's log lines to standard error; other libraries' stay as they are."""
    logger = logging.getLogger("bsm")
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
        logger.addHandler(handler)
        logger.propagate = False
    logger.setLevel(level)

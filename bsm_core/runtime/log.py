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


def printable(text: str) -> str:
    r"""Return a text in which control characters, line breaks included, are escaped as in ``\n`` and ``\x1b``."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)

import re

from bsm_core import TextStep


class HelloRemover(TextStep):
    """Drops the greeting that a text begins with, which tells a model nothing."""

    def process(self, value: str) -> str:
        return re.sub(r"^\s*(hello|hi|hey)\b[\s,.!]*", "", value, flags=re.IGNORECASE)

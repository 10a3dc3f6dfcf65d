import re

from bsm_core import TextStep


class HelloRemover(TextStep):
    """Removes the greeting at the beginning of a text."""

    def process(self, value: str) -> str:
        return re.sub(r"^\s*(hello|hi|hey)\b[\s,.!]*", "", value, flags=re.IGNORECASE)

"""A valid distribution, and for each check of the kit a distribution that fails this check alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from support.plugins import write_distribution

STEP = """
from bsm_core import TextStep

class Shout(TextStep):
    def process(self, value):
        return value.upper()
"""
HOOKS = """
from bsm_core import hookimpl

@hookimpl
def bsm_window_start(batch):
    pass
"""


@dataclass(frozen=True)
class Plugin:
    """Contents of a fake distribution ``acme``.

    Attributes:
        source: Source of the module ``acme``.
        entry_points: Entry points, by group.
        ships: Whether the list of files contains the module.
        others: Source of further modules in the same folder, by name.
    """

    source: str = STEP + HOOKS
    entry_points: dict[str, dict[str, str]] = field(
        default_factory=lambda: {"steps": {"acme_shout": "acme:Shout"}, "observers": {"acme": "acme"}}
    )
    ships: bool = True
    others: dict[str, str] = field(default_factory=dict)

    def install(self, folder: Path) -> None:
        """Write the distribution to a folder of the path."""
        info = write_distribution(folder, "acme", {"acme": self.source}, self.entry_points)
        if not self.ships:
            record = (info / "RECORD").read_text().splitlines(keepends=True)
            (info / "RECORD").write_text("".join(line for line in record if "acme.py" not in line))
        for module, source in self.others.items():
            (folder / f"{module}.py").write_text(source)


GOOD = Plugin()
_STEPS = {"steps": {"acme_shout": "acme:Shout"}}
BROKEN = {
    "declares_the_contract": Plugin(entry_points={"bsm": {"acme": "acme"}}),
    "has_valid_entry_points": Plugin(entry_points={"steps": {"acme_shout": "acme:Shout", "Shout": "acme:Shout"}}),
    "ships_its_modules": Plugin(ships=False),
    "clashes_with_nobody": Plugin(entry_points={"steps": {"tokenizer": "acme:Shout"}}),
    "is_listed_without_being_imported": Plugin(others={"sitecustomize": "import acme"}),
    "loads": Plugin(entry_points={"steps": {"acme_shout": "acme:Shuot"}}),
    "loads_twice": Plugin(
        STEP
        + "import builtins\nif hasattr(builtins, 'acme'): raise ValueError('acme is registered')\nbuiltins.acme = 1\n",
        _STEPS,
    ),
    "has_valid_hooks": Plugin(STEP + HOOKS.replace("(batch)", "(window)")),
    "prints_nothing_when_imported": Plugin(STEP + HOOKS + "print('thank you for choosing acme')\n"),
    "opens_no_socket_when_imported": Plugin(STEP + HOOKS + "import socket\nsocket.socket().close()\n"),
    "leaves_cuda_alone_when_imported": Plugin(STEP + HOOKS + "import torch\nGPU = torch.cuda.is_available()\n"),
    "leaves_random_state_alone_when_imported": Plugin(STEP + HOOKS + "import random\nrandom.seed(0)\n"),
    "leaves_warning_filters_alone_when_imported": Plugin(
        STEP + HOOKS + "import warnings\nwarnings.filterwarnings('ignore')\n"
    ),
    "leaves_the_environment_alone_when_imported": Plugin(
        STEP + HOOKS + "import os\nos.environ.setdefault('TOKENIZERS_PARALLELISM', 'false')\n"
    ),
    "starts_nothing_when_imported": Plugin(
        STEP + HOOKS + "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    ),
}

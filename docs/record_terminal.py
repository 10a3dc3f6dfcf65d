#!/usr/bin/env python3
"""Draw what a run and an error look like on a terminal, for docs/terminal.md.

    python docs/record_terminal.py [--output docs/images]

Both pictures are of real runs with the example artifact, on a terminal of 90 columns. rich writes them as SVG.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from contextlib import chdir, contextmanager
from pathlib import Path
from unittest import mock

import pandas as pd
from rich.console import Console

from bsm_core import cli
from bsm_core.cli.terminal import screen
from bsm_core.cli.terminal.bar import BarLine
from bsm_core.runtime.profile import Advance

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "reviews"
WIDTH = 90


class Terminal(io.StringIO):
    """Stream that says that it is a terminal."""

    def isatty(self) -> bool:
        """Return True."""
        return True


class StillBar:
    """Bar that is drawn once, when about half of the rows are done: a picture does not move."""

    def __init__(self, console: Console) -> None:
        self._console, self._drawn = console, False

    def update(self, event: Advance) -> None:
        """Draw the bar, if it is time for it."""
        if event.share > 0.4 and not self._drawn:
            self._console.print(BarLine(event))
            self._drawn = True

    def close(self) -> None:
        """Do nothing."""


@contextmanager
def recorded(picture: Path, title: str):
    """Write what the commands inside the block show on standard error to a picture."""
    console = Console(
        record=True, width=WIDTH, file=Terminal(), force_terminal=True, color_system="truecolor", highlight=False
    )
    with (
        mock.patch.object(screen, "console_of", return_value=console),
        mock.patch.object(screen, "is_terminal", lambda stream: stream is sys.stderr),
        mock.patch("bsm_core.cli.terminal.bar.Bar", StillBar),
        mock.patch.dict(os.environ, {"COLUMNS": str(WIDTH)}),
    ):
        yield console
    drawing = console.export_svg(title=title, unique_id=picture.stem)
    # A page asks nobody for a font: the reader's own monospaced one is as wide, because the drawing says how wide.
    drawing = re.sub(r"@font-face \{.*?\}\s*", "", drawing, flags=re.DOTALL)
    picture.write_text("".join(f"{line.rstrip()}\n" for line in drawing.splitlines()), "utf-8")
    print(picture)


def show(console: Console, words: Sequence[str]) -> None:
    """Run a command, below its own text."""
    console.print(f"[bold]$ bsm {' '.join(words)}[/bold]", markup=True)
    cli.main([*words])


def main() -> None:
    """Draw the pictures."""
    parser = argparse.ArgumentParser(description="Draw what a run and an error look like on a terminal.")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "images", help="folder of the pictures")
    output = parser.parse_args().output.resolve()
    output.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        rows = pd.read_csv(EXAMPLE / "reviews.csv", dtype=str, keep_default_na=False)
        rows.loc[[3, 9], "Age"] = ["abc", "n. a."]
        rows.loc[5, "Class Name"] = "Spacesuits"
        rows.to_parquet("reviews.parquet")
        Path("model.tar.gz").symlink_to(EXAMPLE / "model.tar.gz")
        places = ["--model-dir", "model.tar.gz", "--data-dir", "reviews.parquet", "--output-dir", "out"]
        with recorded(output / "run.svg", "bsm run") as console:
            show(console, ["run", *places, "--id-field", "review_id", "--window-rows", "256"])
        with recorded(output / "error.svg", "an error") as console:
            show(console, ["run", *places, "--id-field", "reviewid"])


if __name__ == "__main__":
    main()

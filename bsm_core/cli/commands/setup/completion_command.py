"""``bsm completion``: print the script with which a shell completes commands and flags."""

from __future__ import annotations

import argparse
from functools import partial

from bsm_core.cli.command_parser import CommandParser, Commands
from bsm_core.cli.output import say_as_it_is

SHELLS = ("bash", "zsh", "fish")
_INSTALL = """\
examples:
  bsm completion bash > ~/.local/share/bash-completion/completions/bsm
  bsm completion zsh > ~/.zfunc/_bsm        # a folder of $fpath, before compinit
  bsm completion fish > ~/.config/fish/completions/bsm.fish
"""


def add(commands: Commands, whole: CommandParser) -> None:
    """Add the command to the parser of ``bsm``, which is ``whole``."""
    parser = commands.add_parser(
        "completion",
        help="print the script that completes commands and flags in a shell",
        epilog=_INSTALL,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("shell", choices=SHELLS, help="the shell")
    parser.set_defaults(handler=partial(_completion, whole, commands))


def _completion(whole: CommandParser, commands: Commands, arguments: argparse.Namespace) -> None:
    import shtab  # here, because other commands need no shtab

    for command in commands.choices.values():
        command.filled()
    say_as_it_is(shtab.complete(whole, arguments.shell))

"""``bsm plugins``: list the installed plugins, write a new plugin, check a plugin."""

from __future__ import annotations

import argparse
import contextlib
import sys

from bsm_core.cli.arguments import FOLDER, add_path
from bsm_core.cli.command_parser import Commands
from bsm_core.cli.output import say, say_json, say_table


def add(commands: Commands) -> None:
    """Add the command to the parser of ``bsm``."""
    parser = commands.add_parser("plugins", help="list text steps, model classes and hooks, with their packages")
    forms = parser.add_mutually_exclusive_group()
    forms.add_argument("--json", action="store_true", help="print JSON")
    forms.add_argument(
        "--errors",
        action="store_true",
        help="import all plugins; print what cannot be loaded and what is registered in code",
    )
    parser.set_defaults(handler=_plugins)
    actions = parser.add_subparsers(title="for authors of plugins", metavar="ACTION")
    actions.add_parser("list", help="what bsm plugins alone prints")
    new = actions.add_parser("new", help="write a package with a new plugin and its tests")
    kinds = ["step", "model", "guard", "observer"]
    new.add_argument("kind", choices=kinds, help="a text step, a model class, or hooks that can fail a run or watch it")
    new.add_argument("name", metavar="NAME", help="name of the distribution, for example acme-shout")
    about = "folder to create for the package (default NAME)"
    add_path(new, "--output", completes=FOLDER, metavar="DIR", help=about)
    new.set_defaults(handler=_new_plugin)
    check = actions.add_parser("check", help="check that an installed plugin keeps the plugin contract")
    check.add_argument("name", metavar="NAME", help="name of the distribution")
    check.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON")
    check.set_defaults(handler=_check_plugin)


def _plugins(arguments: argparse.Namespace) -> None:
    from bsm_core.plugins.listing import errors_text, listing
    from bsm_core.plugins.registry import default_registry

    registry = default_registry()
    if arguments.errors:
        from bsm_core.models.base import ModelBase
        from bsm_core.preprocess.steps import TextStep

        say(errors_text(registry, {"step": TextStep, "model_class": ModelBase}))
    elif arguments.json:
        say_json(listing(registry))
    else:
        columns = ("name", "kind", "provider", "version", "status")
        say_table([columns, *(tuple(entry[name] for name in columns) for entry in listing(registry))])


def _new_plugin(arguments: argparse.Namespace) -> None:
    from bsm_core.plugins.registry import default_registry
    from bsm_core.plugins.scaffold import new_plugin

    files = new_plugin(arguments.kind, arguments.name, arguments.output, default_registry())
    folder = files[0].parent
    say("\n".join(map(str, files)))
    say(f"Next: pip install -e '{folder}[test]'; python -m pytest {folder}")


def _check_plugin(arguments: argparse.Namespace) -> int:
    from bsm_core.testing import check_plugin

    with contextlib.redirect_stdout(sys.stderr):  # the output of plugins must not mix with the report
        report = check_plugin(arguments.name, on_fail=None)
    if arguments.json:
        say_json(report.to_dict())
    else:
        say(report.to_text())
    return 0 if report.ok else 1

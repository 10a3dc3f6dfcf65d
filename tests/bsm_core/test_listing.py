from __future__ import annotations

import json

from support.plugins import component

from bsm_core import TextStep
from bsm_core.hookspecs import Alias, Removed
from bsm_core.listing import errors_text, listing, listing_text
from bsm_core.registry import Failure, Provider, Registry

ACME = Provider("acme", "2.0", "main")
OTHER = Provider("other", "0.1", "main")
BASES = {"step": TextStep, "model_class": object}


def only(registry):
    (entry,) = listing(registry)
    return entry


def test_a_component():
    assert only(Registry([component("step", "shout", "acme_steps:Shout", "acme", "2.0")])) == {
        "name": "shout",
        "kind": "step",
        "provider": "acme",
        "version": "2.0",
        "status": "registered",
        "target": "acme_steps:Shout",
    }


def test_an_alias_and_a_tombstone():
    names = {"net": "a:Net", "old_net": Alias("net"), "older_net": Removed("1.5", "net")}
    entries = listing(Registry(component("model_class", name, target) for name, target in names.items()))
    assert [(e["name"], e["status"], e["target"]) for e in entries] == [
        ("net", "registered", "a:Net"),
        ("old_net", "alias of net", ""),
        ("older_net", "removed in 1.5", ""),
    ]


def test_a_clash_names_the_others_and_not_itself():
    registry = Registry(component("step", "shout", "a:B", d) for d in ("acme", "other", "third"))
    assert [e["status"] for e in listing(registry)] == [
        "clashes with other 1.0, third 1.0",
        "clashes with acme 1.0, third 1.0",
        "clashes with acme 1.0, other 1.0",
    ]


def test_one_name_of_two_kinds_is_no_clash():
    registry = Registry([component("step", "both", "a:B"), component("model_class", "both", "a:C")])
    assert {e["status"] for e in listing(registry)} == {"registered"}


def test_plugins_that_failed_or_were_left_out():
    registry = Registry([], [Failure(ACME, "ImportError: no", "Traceback ...")], [OTHER])
    assert [(e["name"], e["kind"], e["provider"], e["version"], e["status"]) for e in listing(registry)] == [
        ("-", "plugin", "acme", "2.0", "failed: ImportError: no"),
        ("-", "plugin", "other", "0.1", "left out by BSM_PLUGINS"),
    ]


def test_the_order_does_not_depend_on_that_of_discovery():
    kinds = ("model_class", "step")
    components = [component(kind, name, "a:B", d) for kind in kinds for name in "ab" for d in ("x", "y")]
    entries = listing(Registry(components[::-1]))
    assert entries == listing(Registry(components))
    assert [(e["kind"], e["name"], e["provider"]) for e in entries] == [
        (c.kind, c.name, c.provider.distribution) for c in components
    ]
    assert json.loads(json.dumps(entries)) == entries


def test_the_table():
    components = [component("step", "shout", "a:B"), component("model_class", "net", "a:C", "acme", "2.0")]
    assert listing_text(Registry(components)) == (
        "name   kind         provider  version  status\n"
        "net    model_class  acme      2.0      registered\n"
        "shout  step         fake      1.0      registered"
    )
    assert listing_text(Registry([])) == "name  kind  provider  version  status"


def test_the_table_points_to_the_errors():
    text = listing_text(Registry([], [Failure(ACME, "ImportError: no")]))
    assert text.endswith("\n\n1 plugin(s) could not be loaded: bsm plugins --errors")


def test_the_errors():
    failures = [Failure(ACME, "ImportError: no", "Traceback (most recent call last):\n  ...\n"), Failure(OTHER, "bad")]
    assert errors_text(Registry([], failures), BASES) == (
        "acme 2.0: ImportError: no\nTraceback (most recent call last):\n  ...\n\nother 0.1: bad"
    )
    assert errors_text(Registry([]), BASES) == "no plugin failed to load, nor any class that one names"


def test_the_errors_of_every_class_that_cannot_be_loaded():
    targets = {"upper": "support.steps:Upper", "loud": Alias("upper"), "old": Removed("1.0")}
    targets |= {"gone": "no_such_module:Gone", "other": "support.steps:ROWS", "number": "fractions:Fraction"}
    text = errors_text(Registry(component("step", name, target) for name, target in targets.items()), BASES)
    gone, other, number = text.split("\n\n")
    heads = [part.splitlines()[0] for part in (gone, other, number)]
    assert heads[0] == (
        "fake 1.0: text step 'gone' could not be loaded: ModuleNotFoundError: No module named 'no_such_module'"
    )
    assert gone.splitlines()[1] == "Traceback (most recent call last):"
    assert heads[1].startswith("fake 1.0: text step 'other' could not be loaded: AttributeError: ")
    assert number == "fake 1.0: text step 'number' is not a subclass of TextStep"

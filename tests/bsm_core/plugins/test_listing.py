from __future__ import annotations

import json

from support.plugins import component

from bsm_core import TextStep
from bsm_core.plugins.discovery import Provider, UnusablePlugin
from bsm_core.plugins.listing import errors_text, listing
from bsm_core.plugins.registry import Registry

ACME = Provider("acme", "2.0", "/first")
OTHER = Provider("other", "0.1", "/second")
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
    names = [("model_class", "net", "a:Net"), ("model_class", "old_net", "net"), ("removed", "older_net", "a:gone")]
    entries = listing(Registry(component(*name) for name in names))
    assert [(e["name"], e["kind"], e["status"], e["target"]) for e in entries] == [
        ("net", "model_class", "registered", "a:Net"),
        ("old_net", "model_class", "alias of net", "net"),
        ("older_net", "removed", "removed", "a:gone"),
    ]


def test_hooks():
    hooks = [component("guard", "acme_vouch", "a"), component("observer", "acme_drift", "a:drift")]
    assert [(e["name"], e["kind"], e["status"], e["target"]) for e in listing(Registry(hooks))] == [
        ("acme_vouch", "guard", "registered", "a"),
        ("acme_drift", "observer", "registered", "a:drift"),
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


def test_plugins_that_cannot_be_used_are_left_out_or_hidden():
    hidden = Provider("acme", "1.0", "/third")
    registry = Registry([], [UnusablePlugin(ACME, "update acme", ("shout",))], [OTHER], [hidden])
    assert [(e["name"], e["kind"], e["provider"], e["version"], e["status"]) for e in listing(registry)] == [
        ("-", "plugin", "acme", "1.0", "hidden in /third: another comes first on the path"),
        ("-", "plugin", "acme", "2.0", "cannot be used: update acme"),
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


def test_the_errors():
    registry = Registry([], [UnusablePlugin(ACME, "update acme"), UnusablePlugin(OTHER, "bad")])
    assert errors_text(registry, BASES) == "acme 2.0: update acme\n\nother 0.1: bad"
    assert errors_text(Registry([]), BASES) == "everything that plugins name can be loaded"


def test_the_errors_of_everything_that_cannot_be_loaded():
    components = [
        *(component("step", name, f"support.steps:{name.title()}") for name in ("upper", "quiet")),
        component("step", "loud", "upper"),
        component("step", "gone", "no_such_module:Gone"),
        component("step", "other", "support.steps:ROWS"),
        component("step", "number", "fractions:Fraction"),
        component("guard", "vouch", "support.steps"),
        component("observer", "drift", "no_such_module"),
    ]
    gone, other, number, vouch, drift = errors_text(Registry(components), BASES).split("\n\n")
    heads = [part.splitlines()[0] for part in (gone, other, number, drift)]
    assert vouch.startswith("fake 1.0: guard 'vouch' cannot be used: it implements no hook (support.steps of fake 1.0)")
    missing = "could not be loaded: ModuleNotFoundError: No module named 'no_such_module'"
    assert heads[0] == f"fake 1.0: text step 'gone' {missing} (no_such_module:Gone of fake 1.0)"
    assert "\n  To fix: its metadata are in the path, its modules are not: reinstall fake" in gone
    assert gone.splitlines()[2] == "Traceback (most recent call last):"
    assert heads[1].startswith("fake 1.0: text step 'other' could not be loaded: AttributeError: ")
    assert number == (
        "fake 1.0: text step 'number' is not a subclass of TextStep (fractions:Fraction of fake 1.0)\n"
        "  To fix: derive it from TextStep, or report this to the authors of fake"
    )
    assert heads[3] == f"fake 1.0: observer 'drift' {missing} (no_such_module of fake 1.0)"

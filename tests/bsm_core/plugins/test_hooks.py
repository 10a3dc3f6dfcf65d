"""Every hook, by a guard and by an observer, in one process and in two; found as a stranger's would be."""

from __future__ import annotations

import importlib
import json
import os
import pickle
import textwrap
import types

import pluggy
import pytest
import torch
from support.plugins import forget_modules, write_distribution
from support.toy import toy_rows

from bsm_core import Predictor, hookimpl
from bsm_core.artifact import files
from bsm_core.errors import CorruptArtifactError, HookFailedError, Interrupted
from bsm_core.plugins import hooks
from bsm_core.plugins.hook_calls import RUN_HOOKS
from bsm_core.plugins.registry import default_registry

ONE, TWO = {}, {"device": "cpu", "devices": "2"}
both = pytest.mark.parametrize("devices", [ONE, TWO], ids=["one process", "two processes"])
NOTE = """
    import json, os
    from bsm_core import hookimpl

    def note(*what):
        with open(os.environ["ACME_NOTES"], "a") as notes:
            print(json.dumps(what), file=notes)

"""


@pytest.fixture
def install(tmp_path, monkeypatch, toy_site):
    """Installs a distribution ``acme`` with a hook, for this process and those it starts."""
    site = tmp_path / "site"
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), str(toy_site)]))
    monkeypatch.setenv("ACME_NOTES", str(tmp_path / "notes"))
    monkeypatch.delenv("BSM_PLUGINS", raising=False)

    def write(hook: str, body: str, kind: str = "observers") -> None:
        source = NOTE + f"    @hookimpl\n    def {hook}:\n        {body}\n"
        write_distribution(site, "acme", {"acme_hooks": source}, {kind: {"acme_drift": "acme_hooks"}}, "2.0")
        importlib.invalidate_caches()
        default_registry.cache_clear()

    write.notes = lambda: [json.loads(line) for line in (tmp_path / "notes").read_text().splitlines()]

    def write_more(name: str, source: str, kind: str = "observers") -> None:
        module = name.replace("-", "_")
        write_distribution(site, name, {module: NOTE + textwrap.indent(source, "    ")}, {kind: {module: module}})
        importlib.invalidate_caches()
        default_registry.cache_clear()

    write.more = write_more
    yield write
    forget_modules(site)
    default_registry.cache_clear()


def of_plugins(counts):
    """The counts of hooks, without those of the data."""
    return {key: count for key, count in counts.items() if key.startswith(("hook:", "plugin:"))}


def record(run):
    return json.loads((run.out / "run.json").read_text())


# Each hook


def test_hook_bsm_artifact_loaded(install, data):
    install("bsm_artifact_loaded(artifact)", "note(artifact.config.model_class, len(artifact.hashes['model.pth']))")
    data()
    assert install.notes() == [["toy_model", 64]]
    Predictor.from_artifact(data.artifact)
    assert install.notes() == [["toy_model", 64]] * 2


@both
def test_hook_bsm_window_start(install, data, devices):
    install("bsm_window_start(batch)", "note(batch.window.index, batch.rows, batch.window.kept.num_rows)")
    data(window_rows=10, **devices)
    assert sorted(install.notes()) == [[0, 10, 10], [1, 10, 10], [2, 3, 3]]


@both
def test_hook_bsm_window_end(install, data, devices):
    body = "return {'rows': len(probabilities), 'halves': batch.rows / 2}"
    install("bsm_window_end(batch, probabilities)", body)
    done = data(window_rows=10, run_record=True, **devices)
    assert of_plugins(done.counts) == {"plugin:acme_drift:rows": 23, "plugin:acme_drift:halves": 11.5}
    assert record(data)["counts"] == done.counts


@both
def test_hook_bsm_committed(install, data, devices):
    markers = "[path.name for path in committed.path.parent.glob('_SUCCESS')]"
    seen = f"committed.path.name, committed.path.exists(), committed.rows, record['rows'], {markers}"
    install("bsm_committed(committed, record)", f"note({seen}, 'model.pth' in record['artifact'])")
    data(**devices)
    assert install.notes() == [["inference_predictions.csv", True, 23, 23, [], True]]
    assert (data.out / "_SUCCESS").exists()


def test_every_hook_has_a_test():
    assert {f"test_hook_{name}" for name in RUN_HOOKS} == {n for n in globals() if n.startswith("test_hook_")}
    assert len(RUN_HOOKS) == 4


# What fails

ARGUMENTS = {
    "bsm_artifact_loaded": "artifact",
    "bsm_window_start": "batch",
    "bsm_window_end": "batch, probabilities",
    "bsm_committed": "committed, record",
}


@pytest.mark.parametrize("hook", RUN_HOOKS)
def test_a_guard_that_raises_fails_the_run_and_is_named(install, data, hook):
    install(f"{hook}({ARGUMENTS[hook]})", "raise ValueError('nobody vouched for it')", "guards")
    with pytest.raises(HookFailedError) as caught:
        data()
    assert caught.value.what == f"guard 'acme_drift' failed in {hook}: ValueError: nobody vouched for it"
    assert caught.value.where == "acme_hooks of acme 2.0"
    assert isinstance(caught.value.__cause__, ValueError)
    assert not (data.out / "_SUCCESS").exists()
    assert (data.out / "_FAILURE").read_text().startswith(caught.value.one_line())


def test_a_guard_fails_the_run_of_two_processes(install, data):
    install("bsm_window_end(batch, probabilities)", "assert batch.window.index != 1, 'odd'", "guards")
    with pytest.raises(HookFailedError, match="AssertionError: odd"):
        data(window_rows=10, **TWO)


@pytest.mark.parametrize("hook", RUN_HOOKS)
def test_an_observer_that_raises_is_a_warning_and_the_run_goes_on(install, data, hook, caplog, quiet_log):
    install(f"{hook}({ARGUMENTS[hook]})", "raise SystemExit('out of disk')")
    done = data(window_rows=10)
    assert done.rows == 23
    assert (data.out / "_SUCCESS").exists()
    said = f"observer 'acme_drift' failed in {hook}: SystemExit: out of disk (acme_hooks of acme 2.0); the run goes on"
    assert [r.message for r in caplog.records].count(said) == 1
    assert of_plugins(done.counts) == {"hook:acme_drift": 3 if "window" in hook else 1}


@both
@pytest.mark.parametrize("hook", ["bsm_artifact_loaded", "bsm_committed"])
def test_a_failure_of_every_process_counts_once(install, data, hook, devices):
    install(f"{hook}({ARGUMENTS[hook]})", "raise ValueError")
    data(window_rows=10, run_record=True, **devices)
    assert of_plugins(record(data)["counts"]) == {"hook:acme_drift": 1}


@both
def test_an_observer_that_cannot_be_loaded_counts_once(install, data, devices):
    install("bsm_windows_start(batch)", "pass")
    data(window_rows=10, run_record=True, **devices)
    assert of_plugins(record(data)["counts"]) == {"hook:acme_drift": 1}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("3", "TypeError: the result is a int, not a mapping of names to numbers"),
        ("{1: 2}", "TypeError: the result has 1: 2, which is not a name and a number"),
        ("{'a': 'b'}", "TypeError: the result has 'a': 'b', which is not a name and a number"),
        ("{'a': float('nan')}", "ValueError: the result has 'a': nan, which cannot be summed"),
    ],
)
def test_numbers_that_cannot_be_summed_have_failed(install, data, answer, said, caplog, quiet_log):
    install("bsm_window_end(batch, probabilities)", f"return {answer}")
    assert of_plugins(data().counts) == {"hook:acme_drift": 1}
    assert said in caplog.text


def test_none_is_no_number(install, data):
    install("bsm_window_end(batch, probabilities)", "return None")
    assert of_plugins(data().counts) == {}


@both
def test_a_hook_changes_no_prediction(install, data, devices):
    plain = data(**devices).path.read_bytes()
    install("bsm_window_end(batch, probabilities)", "probabilities.fill_(0.5)")
    assert data(**devices).path.read_bytes() == plain


@pytest.mark.parametrize("kind", ["guards", "observers"])
@pytest.mark.parametrize(
    ("hook", "said"),
    [
        ("bsm_window_start(window)", "window"),
        ("bsm_windows_start(batch)", "did you mean 'bsm_window_start'?"),
    ],
)
def test_a_hook_that_there_is_not(install, data, kind, hook, said, caplog, quiet_log):
    install(hook, "pass", kind)
    if kind == "observers":
        assert of_plugins(data().counts) == {"hook:acme_drift": 1}
        assert "observer 'acme_drift' failed in (loading): " in caplog.text
        return
    with pytest.raises(HookFailedError) as caught:
        data()
    assert said in str(caught.value)


@pytest.mark.parametrize("kind", ["guards", "observers"])
def test_hooks_that_cannot_be_imported(install, data, kind, caplog, quiet_log):
    install("bsm_window_start(batch)", "pass\n\n    import no_such_module", kind)
    said = "failed in (loading): observer 'acme_drift' could not be loaded: ModuleNotFoundError"
    if kind == "observers":
        assert data().rows == 23
        assert said in caplog.text
        return
    with pytest.raises(HookFailedError) as caught:
        data()
    assert said.replace("observer", "guard") in caught.value.what


@pytest.mark.parametrize(
    ("group", "name", "said"),
    [
        ("guards", "Acme-Vouch", "its name is not lower_snake"),
        ("bsm.v1.guard", "acme_vouch", "there is no such group; did you mean 'bsm.v1.guards'?"),
        ("bsm.v2.guards", "acme_vouch", "there is no such group"),
        ("bsm.guards", "acme_vouch", "declares no version of the plugin contract"),
    ],
)
@pytest.mark.parametrize("beside", [True, False], ids=["beside a good one", "alone"])
def test_a_guard_that_cannot_be_read_is_not_passed_over(install, data, tmp_path, group, name, said, beside):
    install("bsm_window_start(batch)", "pass")
    good = {"observers": {"acme_drift": "acme_hooks"}} if beside else {}
    write_distribution(tmp_path / "site", "acme-vouch", {}, {**good, group: {name: "acme_vouch"}})
    default_registry.cache_clear()
    with pytest.raises(HookFailedError) as caught:
        data()
    assert "acme-vouch 1.0 cannot be used: " in caught.value.what
    if not (beside and group == "bsm.guards") and not (group == "bsm.v2.guards" and not beside):
        assert said in caught.value.what


def test_a_guard_for_two_hosts_is_one(install, data, tmp_path):
    groups = {"guards": {"acme_vouch": "acme_vouch"}, "bsm.v2.guards": {"acme_vouch": "acme_vouch_2"}}
    code = "from bsm_core import hookimpl\n@hookimpl\ndef bsm_window_start():\n    pass\n"
    write_distribution(tmp_path / "site", "acme-vouch", {"acme_vouch": code}, groups)
    default_registry.cache_clear()
    assert data().rows == 23


@both
def test_a_hook_changes_no_batch(install, data, devices):
    plain = data(**devices).path.read_bytes()
    install("bsm_window_start(batch)", "batch.features.zero_(); [t.tokens.zero_() for t in batch.texts.values()]")
    done = data(**devices)
    assert done.path.read_bytes() == plain
    assert of_plugins(done.counts) == {}


def test_a_hook_changes_no_record(install, data):
    body = "record['components'].clear(); record['rows'] = committed.counts['a'] = 0"
    install("bsm_committed(committed, record)", body)
    assert of_plugins(data(run_record=True).counts) == {}
    assert (record(data)["rows"], len(record(data)["components"])) == (23, 4)


def test_two_plugins_of_one_name_are_counted_apart(install, data, tmp_path):
    install("bsm_window_end(batch)", "return {'rows': batch.rows}")
    other = "from bsm_core import hookimpl\n@hookimpl\ndef bsm_window_end():\n    return {'rows': 1}\n"
    entry_points = {"guards": {"acme_drift": "acme_other"}}
    write_distribution(tmp_path / "site", "acme-two", {"acme_other": other}, entry_points)
    default_registry.cache_clear()
    assert of_plugins(data().counts) == {"plugin:acme/acme_drift:rows": 23, "plugin:acme-two/acme_drift:rows": 1}


def test_a_predictor_with_hooks_travels(install, data):
    install("bsm_artifact_loaded(artifact)", "note('called')")
    predictor = pickle.loads(pickle.dumps(Predictor.from_artifact(data.artifact)))
    assert [c.name for c in predictor.hooks.components] == ["acme_drift"]
    assert install.notes() == [["called"]]


def test_without_hooks_is_the_same_registry_less_its_hooks(install):
    install("bsm_artifact_loaded(artifact)", "pass", "guards")
    registry = hooks.without_hooks(default_registry())
    assert registry.names("guard") == []
    assert registry.names("step") == default_registry().names("step")


def test_hooks_are_in_the_record_and_bsm_plugins_leaves_them_out(install, data, monkeypatch):
    install("bsm_window_start(batch)", "note('called')")
    data(run_record=True)
    *_, last = record(data)["components"]
    assert (last["kind"], last["name"], last["distribution"], last["version"], last["object"]) == (
        *("observer", "acme_drift", "acme", "2.0", "acme_hooks"),
    )
    monkeypatch.setenv("BSM_PLUGINS", "toy-bsm")
    default_registry.cache_clear()
    data(run_record=True)
    assert install.notes() == [["called"]]
    assert {c["kind"] for c in record(data)["components"]} == {"model_class", "step"}


def test_the_check_rows_are_no_window(install, data):
    from bsm_core.scoring.self_check import add_check

    add_check(data.artifact, toy_rows())
    install("bsm_window_end(batch, probabilities)", "note(batch.rows)")
    data()
    assert install.notes() == [[23]]


def test_without_plugins_hooks_are_nothing():
    none = hooks.Hooks(default_registry())
    assert none.components == []
    assert none.window_end(None, torch.zeros(1)) == {}


def test_numbers_of_numpy_and_torch_are_numbers(install, data):
    body = "import numpy; return {'a': numpy.int64(2), 'b': probabilities.sum().round(), 'c': numpy.float32(0.5)}"
    install("bsm_window_end(batch, probabilities)", body)
    counts = of_plugins(data().counts)
    assert counts == {"plugin:acme_drift:a": 2, "plugin:acme_drift:b": 23.0, "plugin:acme_drift:c": 0.5}


@pytest.mark.parametrize(
    "body",
    [
        "return {'a': 10**400}",
        "import collections; return type('M', (collections.UserDict,), {'items': lambda self: 1 / 0})(a=1)",
        "raise type('E', (Exception,), {'__str__': lambda self: 1 / 0})",
    ],
    ids=["too large", "a mapping that raises", "an error that raises"],
)
def test_an_observer_fails_no_run_whatever_it_does(install, data, body):
    install("bsm_window_end(batch, probabilities)", body)
    assert of_plugins(data().counts) == {"hook:acme_drift": 1}


@pytest.fixture
def hashed(data, monkeypatch):
    """Names of the artifact's files, each time one of them is hashed."""
    names, sha256 = [], files.sha256

    def digest(path):
        if path.is_relative_to(data.artifact):
            names.append(path.relative_to(data.artifact).as_posix())
        return sha256(path)

    monkeypatch.setattr(files, "sha256", digest)
    return names


def test_a_guard_that_reads_one_hash_has_one_file_hashed(install, data, hashed):
    install("bsm_artifact_loaded(artifact)", "note(artifact.hashes['model.pth'])", "guards")
    predictor = Predictor.open(data.artifact)
    assert hashed == ["model.pth"]
    assert [predictor.artifact.hashes["model.pth"]] == install.notes()[0]
    assert hashed == ["model.pth"]


def test_each_file_is_hashed_once_for_a_guard_and_the_run_record(install, data, hashed):
    install("bsm_artifact_loaded(artifact)", "note(artifact.hashes['model.pth'])", "guards")
    data(run_record=True)
    assert sorted(hashed) == sorted(record(data)["artifact"])


def test_a_hook_changes_no_artifact(install, data):
    plain = data().path.read_bytes()
    install(
        "bsm_artifact_loaded(artifact)",
        "artifact.impute.clear(); artifact.risk_tables.clear(); artifact.weights.clear()",
    )
    assert data().path.read_bytes() == plain


# What pluggy promises


def hook(name: str, options: str = "", kind: str = "window_start") -> str:
    return f"@hookimpl({options})\ndef bsm_{kind}():\n    note({name!r})\n"


def wrapper(name: str, options: str = "wrapper=True", body: str = "return (yield)") -> str:
    return f"@hookimpl({options})\ndef bsm_window_end():\n    note({name!r})\n{textwrap.indent(body, '    ')}\n"


def window_end(**numbers: float) -> str:
    return f"@hookimpl\ndef bsm_window_end():\n    return {numbers}\n"


def test_two_hooks_with_tryfirst_run_in_the_order_that_pluggy_promises(install, data):
    options = {"acme-a": "", "acme-b": "tryfirst=True", "acme-c": "trylast=True", "acme-d": "tryfirst=True"}
    promised = pluggy.PluginManager("bsm")
    called = []
    for name, values in options.items():
        install.more(name, hook(name, values))
    for component in [c for c in default_registry().components if c.name in {n.replace("-", "_") for n in options}]:
        name = component.provider.distribution
        module = types.ModuleType(name)
        marker = hookimpl(**eval(f"dict({options[name]})"))
        module.bsm_window_start = marker(lambda name=name: called.append(name))
        promised.register(module)
    promised.hook.bsm_window_start()
    assert set(called[:2]) == {"acme-b", "acme-d"}
    assert called[-1] == "acme-c"
    data()
    assert install.notes() == [[name] for name in called]


@pytest.mark.parametrize("failing", ["raise ValueError('no')\nyield", "yield\nraise ValueError('no')"])
@pytest.mark.parametrize("options", ["wrapper=True", "hookwrapper=True"])
def test_an_observer_that_fails_inside_a_wrapper_is_named_and_stops_nobody(
    install, data, caplog, quiet_log, options, failing
):
    install.more("acme-wraps", wrapper("outer", options, failing))
    install.more("acme-counts", window_end(rows=2))
    assert of_plugins(data().counts) == {"plugin:acme_counts:rows": 2, "hook:acme_wraps": 1}
    assert "observer 'acme_wraps' failed in bsm_window_end: ValueError: no" in caplog.text


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("if False:\n    yield", "RuntimeError: the wrapper does not yield"),
        ("yield\nyield", "RuntimeError: the wrapper yields twice"),
        ("yield", "TypeError: 'NoneType' object is not iterable"),
        ("return [*(yield), 3]", "TypeError: the result is a int"),
    ],
)
def test_a_wrapper_that_breaks_the_rules_of_pluggy_is_named(install, data, caplog, quiet_log, body, said):
    install.more("acme-wraps", wrapper("outer", body=body))
    install.more("acme-counts", window_end(rows=2))
    assert of_plugins(data().counts) == {"plugin:acme_counts:rows": 2, "hook:acme_wraps": 1}
    assert said in caplog.text


@pytest.mark.parametrize(
    ("options", "body"),
    [
        ("wrapper=True", "results = yield\nnote(results)\nreturn [*results, {'windows': 1}]"),
        (
            "hookwrapper=True",
            "outcome = yield\nnote(outcome.get_result())\n"
            "outcome.force_result([*outcome.get_result(), {'windows': 1}])",
        ),
    ],
)
def test_a_wrapper_sees_results_and_may_add_to_them(install, data, options, body):
    install.more("acme-wraps", wrapper("outer", options, body))
    install.more("acme-counts", window_end(rows=2))
    assert of_plugins(data().counts) == {"plugin:acme_counts:rows": 2, "plugin:acme_wraps:windows": 1}
    assert install.notes() == [["outer"], [[{"rows": 2}]]]


@pytest.mark.parametrize(
    ("options", "body"),
    [
        ("wrapper=True", "try:\n    return (yield)\nexcept Exception:\n    return []"),
        ("hookwrapper=True", "outcome = yield\noutcome.force_result([])"),
        (
            "wrapper=True",
            "try:\n    return (yield)\nexcept Exception:\n    raise KeyError('other')",
        ),
    ],
)
def test_no_wrapper_hides_that_a_guard_refuses(install, data, options, body):
    install.more("acme-wraps", wrapper("outer", options, body))
    install.more("acme-guards", "@hookimpl\ndef bsm_window_end():\n    raise ValueError('no')\n", "guards")
    with pytest.raises(HookFailedError, match="guard 'acme_guards' failed in bsm_window_end: ValueError: no"):
        data()
    assert not (data.out / "_SUCCESS").exists()


def test_a_guard_that_fails_inside_a_wrapper_fails_the_run(install, data):
    install.more("acme-wraps", wrapper("outer", body="yield\nraise ValueError('no')"), "guards")
    with pytest.raises(HookFailedError, match="guard 'acme_wraps' failed in bsm_window_end: ValueError: no"):
        data()


def test_an_observer_that_raises_stops_no_other_in_the_same_call(install, data):
    install.more("acme-a", window_end(a=1))
    install.more("acme-b", "@hookimpl\ndef bsm_window_end():\n    raise ValueError\n")
    install.more("acme-c", window_end(c=1))
    assert of_plugins(data().counts) == {"plugin:acme_a:a": 1, "plugin:acme_c:c": 1, "hook:acme_b": 1}


def test_one_module_may_be_a_guard_and_an_observer(install, data, tmp_path):
    entry_points = {"guards": {"acme_both": "acme_both"}, "observers": {"acme_both": "acme_both"}}
    source = "from bsm_core import hookimpl\n" + window_end(a=1)
    write_distribution(tmp_path / "site", "acme-both", {"acme_both": source}, entry_points)
    default_registry.cache_clear()
    assert of_plugins(data().counts) == {"plugin:acme-both/acme_both:a": 1}


def test_a_hook_of_another_name_is_called_by_its_specname(install, data):
    source = "@hookimpl(specname='bsm_window_end')\ndef more(batch):\n    return {'more': batch.rows}\n"
    install.more("acme-two", source + window_end(a=1))
    assert of_plugins(data().counts) == {"plugin:acme_two:a": 1, "plugin:acme_two:more": 23}


def test_every_hook_sees_the_hashes_that_the_artifact_has(install, data):
    from bsm_core import Artifact

    artifact = Artifact.load(data.artifact)
    assert artifact.detached().hashes == artifact.hashes
    assert artifact.detached().hashes is artifact.hashes


@pytest.mark.parametrize(
    ("options", "body"),
    [
        ("wrapper=True", "try:\n    return (yield)\nexcept BaseException:\n    return []"),
        ("hookwrapper=True", "outcome = yield\noutcome.force_result([])"),
    ],
)
def test_no_wrapper_catches_the_signal_that_ends_the_run(install, data, options, body):
    install.more("acme-wraps", wrapper("outer", options, body))
    stop = "@hookimpl\ndef bsm_window_end():\n    import signal\n    from bsm_core.errors import Interrupted\n"
    install.more("acme-stops", stop + "    raise Interrupted(signal.SIGTERM)\n")
    with pytest.raises(Interrupted):
        data()
    assert not (data.out / "_SUCCESS").exists()


@pytest.mark.parametrize("kind", ["guards", "observers"])
def test_a_broken_artifact_is_not_the_fault_of_a_plugin(install, data, caplog, kind):
    install("bsm_artifact_loaded(artifact)", "pass", kind)
    (data.artifact / "impute_dict.json").write_text('{"amount": "much"}')
    with pytest.raises(CorruptArtifactError, match=r"impute_dict\.json"):
        data()
    assert "acme" not in caplog.text


def test_an_observers_wrapper_that_spoils_the_numbers_of_a_guard_fails_alone(install, data):
    spoil = "results = yield\nfor numbers in results:\n    numbers['rows'] = float('nan')\nreturn results"
    install.more("acme-wraps", wrapper("outer", body=spoil))
    install.more("acme-guards", window_end(rows=2), "guards")
    assert of_plugins(data().counts) == {"plugin:acme_guards:rows": 2, "hook:acme_wraps": 1}

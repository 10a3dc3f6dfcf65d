"""Checks, their results, the report of many results, and the subjects that checks examine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import groupby
from typing import Any, ClassVar, Generic, Literal, TypeVar

from bsm_core.errors import PluginError
from bsm_core.plugins.discovery import Component
from bsm_core.plugins.registry import Registry, default_registry

Level = Literal["MUST", "SHOULD"]
Run = Callable[[Any], str | None]
T = TypeVar("T")


class ConformanceError(AssertionError):
    """A MUST of the plugin contract does not hold; the text says what was observed and how to repair it."""


class CheckFailedError(Exception):
    """Raised by a check that fails; the text says what was observed."""


class CheckSkippedError(Exception):
    """Raised by a check that cannot examine the subject; the text says why."""


@dataclass(frozen=True)
class Check:
    """One rule of the plugin contract.

    Attributes:
        name: Name of the check.
        level: ``"MUST"``, or ``"SHOULD"`` for a recommendation.
        what: The rule, in one sentence.
        repair: How to repair a plugin that fails.
        run: Examines a subject; raises :class:`CheckFailedError` or :class:`CheckSkippedError`. Returns what else there
            is to know of the subject, or None.
        gate: Whether the checks that follow are skipped where this one fails.
    """

    name: str
    level: Level
    what: str
    repair: str
    run: Run
    gate: bool = False


class Checks(list[Check]):
    """The checks of one kind of subject, in order; :meth:`add` decorates the function that examines the subject."""

    def add(self, repair: str, *, level: Level = "MUST", gate: bool = False) -> Callable[[Run], Run]:
        """Add a function as a check: the function's name is the check's name, its docstring is the rule."""

        def register(run: Run) -> Run:
            self.append(Check(run.__name__, level, " ".join((run.__doc__ or "").split()), repair, run, gate))
            return run

        return register


@dataclass(frozen=True)
class Result:
    """Result of one check of one subject.

    Attributes:
        subject: The subject, for example ``"step shout"``.
        check: The check.
        status: ``"passed"``, ``"failed"`` or ``"skipped"``.
        message: Observation of a failed check, reason of a skipped check, what a passed check returned, or an empty
            string.
    """

    subject: str
    check: Check
    status: Literal["passed", "failed", "skipped"]
    message: str = ""

    def to_text(self) -> str:
        """Return the result as one line; for a failure, also the rule and how to repair the plugin."""
        status = "FAILED" if self.status == "failed" else self.status
        line = f"{status:7}  {self.check.level:6}  {self.check.name}" + (f": {self.message}" if self.message else "")
        if self.status != "failed":
            return line
        return f"{line}\n    must hold: {self.check.what}\n    to repair: {self.check.repair}"


@dataclass(frozen=True)
class Report:
    """Results of many checks, in order."""

    results: tuple[Result, ...]

    @property
    def ok(self) -> bool:
        """Whether no MUST failed; skipped checks do not count."""
        return not any(r.status == "failed" and r.check.level == "MUST" for r in self.results)

    @property
    def counts(self) -> dict[str, int]:
        """Number of checks that passed, failed and were skipped."""
        found = Counter(r.status for r in self.results)
        return {status: found[status] for status in ("passed", "failed", "skipped")}

    def to_text(self) -> str:
        """Return the report for people."""
        lines: list[str] = []
        for subject, results in groupby(self.results, key=lambda result: result.subject):
            lines.append(subject)
            for reason, alike in groupby(results, key=lambda r: r.message if r.status == "skipped" else ""):
                group = list(alike)
                if reason and len(group) > 1:  # checks that are skipped for one reason share a line
                    lines.append(f"  skipped  {', '.join(r.check.name for r in group)}: {reason}")
                else:
                    lines += ["  " + result.to_text().replace("\n", "\n  ") for result in group]
        return "\n".join([*lines, ", ".join(f"{count} {status}" for status, count in self.counts.items())])

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        results = [
            {
                "subject": r.subject,
                "check": r.check.name,
                "level": r.check.level,
                "status": r.status,
                "message": r.message,
                "repair": r.check.repair if r.status == "failed" else "",
            }
            for r in self.results
        ]
        return {"ok": self.ok, **self.counts, "results": results}


class Subject:
    """Object that checks examine. A subclass has the checks, and caches objects that several checks use."""

    checks: ClassVar[Sequence[Check]]
    label: str

    def __init__(self) -> None:
        self._run_once = cache(self._run)

    def result(self, check: Check) -> Result:
        """Run one check, after the gates that come before it."""
        if self.unavailable is not None:
            return Result(self.label, check, "skipped", self.unavailable)
        for gate in self.checks[: self.checks.index(check)]:
            if gate.gate and self._run_once(gate).status != "passed":
                return Result(self.label, check, "skipped", f"not checked because {gate.name} fails")
        return self._run_once(check) if check.gate else self._run(check)

    @cached_property
    def unavailable(self) -> str | None:
        """Reason why the subject cannot be examined; None where it can."""
        return None

    def results(self) -> Iterable[Result]:
        """Run all checks."""
        return map(self.result, self.checks)

    def _run(self, check: Check) -> Result:
        try:
            seen = check.run(self)
        except CheckSkippedError as reason:
            return Result(self.label, check, "skipped", str(reason))
        except CheckFailedError as error:
            return Result(self.label, check, "failed", str(error))
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a plugin may raise any error
            return Result(self.label, check, "failed", f"{type(error).__name__}: {error}")
        return Result(self.label, check, "passed", seen or "")


class ClassSubject(Subject, Generic[T]):
    """A class that checks examine: a text step or a model class.

    Args:
        component: The component; other processes import the class through it.
        cls: The class; None for the class that the process's registry loads.
    """

    base: type[T]

    def __init__(self, component: Component, cls: type[T] | None) -> None:
        super().__init__()
        self.component = component
        self.label = f"{component.kind} {component.name}"
        self._cls = cls
        self._registry = default_registry()

    @cached_property
    def cls(self) -> type[T]:
        """The class."""
        return self._cls or self._registry.load(self.component, self.base)

    @cached_property
    def unavailable(self) -> str | None:
        """Reason why the class cannot be loaded; the check ``loads`` of its distribution reports it as well."""
        try:
            _ = self.cls
        except PluginError as error:
            return f"it cannot be loaded: {error.one_line()}"
        return None

    @property
    def importable(self) -> bool:
        """Whether another process can import the class."""
        target = self.component.target
        return self.component.registered_by is not None or not ("__main__:" in target or "<locals>" in target)

    def require_importable(self) -> None:
        """Skip the check where another process cannot import the class."""
        if not self.importable:
            name = self.component.target.partition(":")[2]
            raise CheckSkippedError(f"no other process can import {name}: define it at the top level of a module")


def load_again(component: Component, base: type[T]) -> type[T]:
    """Import a component's class in this process, from the component alone."""
    return Registry([component.registered_by or component]).load(component, base)

"""What a check is, what comes of one, and the report of many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any, ClassVar, Generic, Literal, TypeVar

from bsm_core.errors import PluginError

Level = Literal["MUST", "SHOULD"]
Status = Literal["passed", "failed", "skipped"]
T = TypeVar("T")


class ConformanceError(AssertionError):
    """Something that MUST hold does not; the text says what, and how to repair it."""


class CheckFailedError(Exception):
    """What a check raises when it fails: what was seen."""


class CheckSkippedError(Exception):
    """What a check raises where it cannot look: why."""


@dataclass(frozen=True)
class Check:
    """One thing that is looked at.

    Attributes:
        name: Its name.
        level: ``"MUST"``, or ``"SHOULD"`` for what is good to have.
        what: What must hold, in one sentence.
        repair: How to repair a plugin that fails.
        run: Looks at a subject; raises :class:`CheckFailedError` or :class:`CheckSkippedError`.
        gate: Whether the checks behind it have no sense where it fails.
    """

    name: str
    level: Level
    what: str
    repair: str
    run: Callable[[Any], None]
    gate: bool = False


class Checks(list[Check]):
    """The checks of one kind of subject, in order; use :meth:`add` on the function that makes the check."""

    def add(
        self, repair: str, *, level: Level = "MUST", gate: bool = False
    ) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
        """Add a function; its name is the check's, its docstring says what must hold."""

        def register(run: Callable[[Any], None]) -> Callable[[Any], None]:
            self.append(Check(run.__name__, level, " ".join((run.__doc__ or "").split()), repair, run, gate))
            return run

        return register


@dataclass(frozen=True)
class Result:
    """What came of one check.

    Attributes:
        subject: What was looked at: ``"step shout"``, say.
        check: The check.
        status: ``"passed"``, ``"failed"`` or ``"skipped"``.
        message: What was seen, or why it was skipped; empty where it passed.
    """

    subject: str
    check: Check
    status: Status
    message: str = ""

    def to_text(self) -> str:
        """One line; of a failure also what must hold, and how to repair it."""
        status = "FAILED" if self.status == "failed" else self.status
        line = f"{status:7}  {self.check.level:6}  {self.check.name}"
        if self.status == "skipped":
            return f"{line}: {self.message}"
        if self.status == "passed":
            return line
        return f"{line}: {self.message}\n    must hold: {self.check.what}\n    to repair: {self.check.repair}"


@dataclass(frozen=True)
class Report:
    """The results of many checks, in order."""

    results: tuple[Result, ...]

    @property
    def ok(self) -> bool:
        """Whether everything that MUST hold does; what was skipped is not known to fail."""
        return not any(r.status == "failed" and r.check.level == "MUST" for r in self.results)

    @property
    def counts(self) -> dict[str, int]:
        """How many checks passed, failed and were skipped."""
        found = Counter(r.status for r in self.results)
        return {status: found[status] for status in ("passed", "failed", "skipped")}

    def to_text(self) -> str:
        """The report for people."""
        lines: list[str] = []
        for subject, results in groupby(self.results, key=lambda result: result.subject):
            lines.append(subject)
            for reason, alike in groupby(results, key=lambda r: r.message if r.status == "skipped" else ""):
                group = list(alike)
                if reason and len(group) > 1:  # one reason for many is said once
                    lines.append(f"  skipped  {', '.join(r.check.name for r in group)}: {reason}")
                else:
                    lines += ["  " + result.to_text().replace("\n", "\n  ") for result in group]
        return "\n".join([*lines, ", ".join(f"{count} {status}" for status, count in self.counts.items())])

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
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
    """What checks look at. A subclass names its checks; what they build is kept for those that follow."""

    checks: ClassVar[Sequence[Check]]
    label: str

    def __init__(self) -> None:
        self._gates: dict[str, Result] = {}

    def result(self, check: Check) -> Result:
        """Run one check, and before it the gates that stand before it."""
        if self.unavailable is not None:
            return Result(self.label, check, "skipped", self.unavailable)
        for gate in self.checks:
            if gate is check:
                break
            if gate.gate and self._gate(gate).status != "passed":
                return Result(self.label, check, "skipped", f"it has no sense while {gate.name} fails")
        return self._gate(check) if check.gate else self._run(check)

    @cached_property
    def unavailable(self) -> str | None:
        """Why there is nothing to look at, where that is so."""
        return None

    def results(self) -> Iterable[Result]:
        """Run all checks."""
        return map(self.result, self.checks)

    def _gate(self, check: Check) -> Result:
        if check.name not in self._gates:
            self._gates[check.name] = self._run(check)
        return self._gates[check.name]

    def _run(self, check: Check) -> Result:
        try:
            check.run(self)
        except CheckSkippedError as reason:
            return Result(self.label, check, "skipped", str(reason))
        except CheckFailedError as seen:
            return Result(self.label, check, "failed", str(seen))
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a stranger's plugin may fail in any way
            return Result(self.label, check, "failed", f"{type(error).__name__}: {error}")
        return Result(self.label, check, "passed")


class ClassSubject(Subject, Generic[T]):
    """A class that checks look at: a text step, or a model class.

    Args:
        load: Gives the class.
        label: What the report calls it.
    """

    def __init__(self, load: Callable[[], type[T]], label: str) -> None:
        super().__init__()
        self._load = load
        self.label = label

    @cached_property
    def cls(self) -> type[T]:
        """The class."""
        return self._load()

    @cached_property
    def unavailable(self) -> str | None:
        """Why the class cannot be loaded, where that is so; the check of its distribution says it as well."""
        try:
            _ = self.cls
        except PluginError as error:
            return f"it cannot be loaded: {error.one_line()}"
        return None

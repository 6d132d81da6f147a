"""The report of a check: which rules were checked, and what was found, in plain sentences."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import attrs

__all__ = ["CheckReport", "ConformanceError", "Finding", "collect"]

SHOWN_LINES: Final = 5  #: of the log of a finding


@attrs.frozen
class Finding:
    """One violation of a rule."""

    rule: str
    """What must hold."""

    sentence: str
    """What happened instead."""

    how: str = ""
    """How to reproduce it; empty if the rule says all."""

    log: tuple[str, ...] = ()
    """What trio-jobs has logged then, WARNING and above. `str()` has the first lines."""

    def __str__(self) -> str:
        how = f"\n    reproduce: {self.how}" if self.how else ""
        log = "".join(f"\n    log: {line}" for line in self.log[:SHOWN_LINES])
        return f"{self.sentence}\n    rule: {self.rule}{how}{log}"


@attrs.frozen
class CheckReport:
    """What a check function returns. `str()` of it is meant to be printed."""

    subject: str
    """What was checked."""

    checked: tuple[str, ...]
    """The rules that were checked, one sentence each."""

    findings: tuple[Finding, ...] = ()
    """The violations, the simplest case first; empty if there are none."""

    left_out: tuple[str, ...] = ()
    """What could not be checked, and why."""

    @property
    def ok(self) -> bool:
        """There are no findings."""
        return not self.findings

    def __str__(self) -> str:
        found = f"{len(self.findings)} findings" if len(self.findings) != 1 else "1 finding"
        lines = [f"{self.subject}: {len(self.checked)} checks, {found}"]
        lines += [f"  {number}. {finding}" for number, finding in enumerate(self.findings, 1)]
        lines += [f"  not checked: {why}" for why in self.left_out]
        return "\n".join(lines)

    def check(self) -> CheckReport:
        """Return the report itself if there are no findings.

        Raises:
            ConformanceError: There are findings.
        """
        if self.findings:
            raise ConformanceError(self)
        return self


class ConformanceError(AssertionError):
    """A check has findings."""

    def __init__(self, report: CheckReport) -> None:
        self.report = report
        """The whole report."""
        super().__init__(str(report))

    def __reduce__(self) -> tuple[type[ConformanceError], tuple[CheckReport]]:
        return type(self), (self.report,)


async def collect(
    subject: str,
    checks: Iterable[tuple[str, Callable[[], Awaitable[None]]]],
    left_out: tuple[str, ...] = (),
) -> CheckReport:
    """Run the checks one by one and report what they raise.

    Args:
        subject: What is checked.
        checks: Pairs of a rule and a function that raises `AssertionError` with a sentence that says what happened
            instead. Any other exception comes from what is checked, and is a finding too.
        left_out: What is not checked, and why.
    """
    checked: list[str] = []
    findings: list[Finding] = []
    for rule, check in checks:
        checked.append(rule)
        try:
            await check()
        except AssertionError as error:
            findings.append(Finding(rule, str(error)))
        except Exception as error:
            findings.append(Finding(rule, f"{type(error).__name__} was raised: {error}"))
    return CheckReport(subject, tuple(checked), tuple(findings), left_out)

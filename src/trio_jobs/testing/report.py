"""What a check came to: which rules were looked at, and what was found, in plain sentences."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

import attrs

__all__ = ["CheckReport", "ConformanceError", "Finding", "collect"]


@attrs.frozen
class Finding:
    """rule: what should hold. sentence: what happened instead. how: what to do to see it again."""

    rule: str
    sentence: str
    how: str = ""

    def __str__(self) -> str:
        how = f"\n    to see it again: {self.how}" if self.how else ""
        return f"{self.sentence}\n    the rule: {self.rule}{how}"


@attrs.frozen
class CheckReport:
    """subject: what was checked. checked: the rules that were looked at, each in a sentence. left_out: what could not
    be looked at, and why. findings: what was found, the simplest case first; empty if all is well."""

    subject: str
    checked: tuple[str, ...]
    findings: tuple[Finding, ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.findings

    def __str__(self) -> str:
        found = f"{len(self.findings)} findings" if len(self.findings) != 1 else "1 finding"
        lines = [f"{self.subject}: {len(self.checked)} checks, {found}"]
        lines += [f"  {number}. {finding}" for number, finding in enumerate(self.findings, 1)]
        lines += [f"  not checked: {why}" for why in self.left_out]
        return "\n".join(lines)

    def check(self) -> CheckReport:
        """Raise `ConformanceError` if anything was found; else give the report back."""
        if self.findings:
            raise ConformanceError(self)
        return self


class ConformanceError(AssertionError):
    """Something was found. report: all of it."""

    def __init__(self, report: CheckReport) -> None:
        self.report = report
        super().__init__(str(report))


async def collect(
    subject: str,
    checks: Iterable[tuple[str, Callable[[], Awaitable[None]]]],
    left_out: tuple[str, ...] = (),
) -> CheckReport:
    """Run checks one by one; each raises `AssertionError` with the rule that does not hold. Whatever else it raises is
    a finding too: what is checked has raised it where it should not."""
    checked: list[str] = []
    findings: list[Finding] = []
    for name, check in checks:
        checked.append(name)
        try:
            await check()
        except AssertionError as error:
            findings.append(Finding(name, f"it does not hold that {error}", f"the check '{name}' alone"))
        except Exception as error:
            findings.append(Finding(name, f"{type(error).__name__} was raised: {error}", f"the check '{name}' alone"))
    return CheckReport(subject, tuple(checked), tuple(findings), left_out)

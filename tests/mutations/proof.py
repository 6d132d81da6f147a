"""docs/proof.md: which check finds which planted bug, and after how many examples."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from catalogue import CHECKS, MUTATIONS, SIMULATOR
from planting import Finding

__all__ = ["render", "table_names", "totals"]

_HEAD: Final = """\
# Proof: bugs planted on purpose, and what finds them

A harness that cannot fail proves nothing. So each of these bugs is planted into a copy of the real code, and the check
that is meant to find it must fail. CI does that for every row (`tests/mutations`); a row whose snippet no longer fits
the code fails at once. After: what the check looked at until it failed, schedules of the simulator or tests before the
one that failed; the numbers are those of the run that wrote this table and change with the code.

`TRIO_JOBS_MUTATIONS=write ./run campaign tests/mutations` writes this table. The campaign tries every check
on every bug (the last column), the simulator with 400 schedules where it is not meant to find it.

| bug | what goes wrong | found by | after | it says | also found by |
|---|---|---|---|---|---|
"""


def render(found: Sequence[Mapping[str, Finding]]) -> str:
    """`found`: for each mutation in order, by check."""
    rows = []
    for mutation, by in zip(MUTATIONS, found, strict=True):
        finding = by[mutation.check]
        unit = "schedules" if mutation.check == SIMULATOR else "tests"
        others = [check for check, other in by.items() if check != mutation.check and other.found]
        also = ", ".join(_name(check) for check in others) if len(by) > 1 else "not tried"
        rows.append(
            f"| {mutation.name} | {mutation.what} | {_name(mutation.check)} | {finding.examples} {unit} | "
            f"{finding.how.replace('|', '/')} | {also} |"
        )
    tried = max(len(by) for by in found)
    tail = f"\n{len(rows)} bugs, all found." + (f" Checks tried on each: {len(CHECKS)}." if tried > 1 else "")
    return _HEAD + "\n".join(rows) + "\n" + tail + "\n"


def totals(found: Sequence[Mapping[str, Finding]]) -> str:
    """How many bugs each check has found, in a line for each."""
    checks = dict.fromkeys(check for by in found for check in by)
    lines = [f"{len(found)} planted bugs; found by"]
    for check in checks:
        tried = [by[check] for by in found if check in by]
        lines.append(f"  {_name(check)}: {sum(finding.found for finding in tried)} of {len(tried)}")
    return "\n".join(lines)


def table_names(text: str) -> list[str]:
    """The names in a table, in order."""
    return [name for name in re.findall(r"^\| (.+?) \| ", text, re.MULTILINE) if name not in ("bug", "---")]


def _name(check: str) -> str:
    return check if check == SIMULATOR else check.rpartition("/")[2].removesuffix(".py")

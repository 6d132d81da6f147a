"""docs/proof.md: which check finds which planted bug, and after how many examples."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from catalogue import CHECKS, MUTATIONS, SIMULATOR
from planting import Finding

__all__ = ["missed", "read", "render", "table_names", "totals"]

NOT_TRIED: Final = "not tried"

_HEAD: Final = """\
# Proof: bugs planted on purpose, and what finds them

A harness that cannot fail proves nothing. So each of these bugs is planted into a copy of the real code, and the check
that is meant to find it must fail. CI does that for every row (`tests/mutations`); a row whose snippet no longer fits
the code fails at once. After: what the check looked at until it failed, schedules of the simulator or tests before the
one that failed; the numbers are those of the run that wrote this table and change with the code.

`TRIO_JOBS_MUTATIONS=write ./run campaign tests/mutations` writes this table, and only when every bug was found. {tried}

| bug | what goes wrong | found by | after | it says | also found by |
|---|---|---|---|---|---|
"""
_ALL_TRIED: Final = """\
Every
check has been tried on every bug (the last column), the simulator with 400 schedules where it is not meant to find it;
where a bug has since been looked for by its own check alone, the last column is of the run before."""
_ONE_TRIED: Final = """\
The
run that wrote it tried on each bug the one check that is meant to find it, so the last column knows nothing; the whole
campaign tries all checks on all bugs and fills it."""


def render(found: Sequence[Mapping[str, Finding]]) -> str:
    """`found`: for each mutation in order, by check. Raises `AssertionError` where a bug was not found by the check
    meant for it: there is no table of that."""
    assert not missed(found), f"not found: {', '.join(missed(found))}"
    rows = []
    for mutation, by in zip(MUTATIONS, found, strict=True):
        finding = by[mutation.check]
        unit = "schedules" if mutation.check == SIMULATOR else "tests"
        others = [check for check, other in by.items() if check != mutation.check and other.found]
        also = ", ".join(_name(check) for check in others) or "-" if len(by) > 1 else NOT_TRIED
        rows.append(
            f"| {mutation.name} | {mutation.what} | {_name(mutation.check)} | {finding.examples} {unit} | "
            f"{finding.how.replace('|', '/')} | {also} |"
        )
    all_tried = all(len(by) > 1 for by in found)
    tail = f"\n{len(rows)} bugs, all found." + (f" Checks tried on each: {len(CHECKS)}." if all_tried else "")
    return _HEAD.format(tried=_ALL_TRIED if all_tried else _ONE_TRIED) + "\n".join(rows) + "\n" + tail + "\n"


def missed(found: Sequence[Mapping[str, Finding]]) -> list[str]:
    """The bugs that the check meant for them has not found, or has not come to an end with."""
    wrong = []
    for mutation, by in zip(MUTATIONS, found, strict=True):
        finding = by[mutation.check]
        if not finding.found:
            wrong.append(mutation.name if finding.ended else f"{mutation.name} (not known: {finding.how})")
    return wrong


def read(text: str) -> list[dict[str, Finding]]:
    """What a table was rendered from, for those mutations that it has, in order."""
    checks = {_name(check): check for check in (*CHECKS, *(mutation.check for mutation in MUTATIONS))}
    found: list[dict[str, Finding]] = []
    for row in re.findall(r"^\| (.+) \|$", text, re.MULTILINE)[1:]:
        _, _, meant, after, how, also = row.split(" | ")
        by = dict.fromkeys(() if also == NOT_TRIED else CHECKS, Finding(False, 0, ""))
        by |= {checks[name]: Finding(True, 0, "") for name in also.split(", ") if name in checks}
        by[checks[meant]] = Finding(True, int(after.split()[0]), how)
        found.append(by)
    return found


def totals(found: Sequence[Mapping[str, Finding]]) -> str:
    """How many bugs each check has found, in a line for each."""
    checks = dict.fromkeys(check for by in found for check in by)
    lines = [f"{len(found)} planted bugs; found by"]
    for check in checks:
        tried = [by[check] for by in found if check in by]
        unknown = sum(not (finding.ended or finding.found) for finding in tried)
        more = f", {unknown} without an answer in time" if unknown else ""
        lines.append(f"  {_name(check)}: {sum(finding.found for finding in tried)} of {len(tried)}{more}")
    return "\n".join(lines)


def table_names(text: str) -> list[str]:
    """The names in a table, in order."""
    return [name for name in re.findall(r"^\| (.+?) \| ", text, re.MULTILINE) if name not in ("bug", "---")]


def _name(check: str) -> str:
    return check if check == SIMULATOR else check.rpartition("/")[2].removesuffix(".py")

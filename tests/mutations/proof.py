"""Renders docs/proof.md: which check finds which planted bug, and after how many examples."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from catalogue import CHECKS, MUTATIONS, SIMULATOR
from planting import Finding

__all__ = ["missed", "read", "render", "table_names", "totals"]

NOT_TRIED: Final = "not tried"

_HEAD: Final = """\
# Proof: bugs planted on purpose, and the checks that find them

A check that cannot fail proves nothing. Therefore each of these bugs is planted into a copy of the code, and the
check that is meant to find it must fail. CI does that for every row (`tests/mutations`): it runs the test or the
schedule that the row names, and the whole check if that one does not find the bug any more. A row whose snippet does
not occur in the code any more fails too. "After" counts the schedules of the simulator, or the tests that passed before
the first failure. The numbers and messages are those of the run that wrote this table; they change with the code.

`TRIO_JOBS_MUTATIONS=write ./run campaign tests/mutations` writes this table, but only if every bug was found;
`TRIO_JOBS_MUTATIONS=add` adds the bugs that the table does not have yet, and `TRIO_JOBS_MUTATIONS=renew` writes the
rows anew whose test or schedule does not find the bug any more. {tried}

| bug | what goes wrong | found by | after | message | also found by |
|---|---|---|---|---|---|
"""
_ALL_TRIED: Final = """\
Every
check was tried on every bug (last column), the simulator with 400 schedules if another check is meant to find the bug.
If only that check has been run since, the last column is from the run before."""
_SOME_TRIED: Final = """\
Every
check was tried on every bug (last column), the simulator with 400 schedules if another check is meant to find the bug;
but a bug with "not tried" was added later, and only the check that is meant to find it has been run."""
_ONE_TRIED: Final = """\
The
run that wrote it tried only the check that is meant to find each bug, so the last column is empty; the whole campaign
tries every check on every bug."""


def render(found: Sequence[Mapping[str, Finding]]) -> str:
    """Render the page.

    Args:
        found: The findings of each mutation in order, by check.

    Raises:
        AssertionError: A bug was not found by the check that is meant to find it.
    """
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
    tried = _ALL_TRIED if all_tried else _SOME_TRIED if any(len(by) > 1 for by in found) else _ONE_TRIED
    tail = f"\n{len(rows)} bugs, all found." + (f" Checks tried on each: {len(CHECKS)}." if all_tried else "")
    return _HEAD.format(tried=tried) + "\n".join(rows) + "\n" + tail + "\n"


def missed(found: Sequence[Mapping[str, Finding]]) -> list[str]:
    """The bugs that their check did not find, or during which it did not end."""
    wrong = []
    for mutation, by in zip(MUTATIONS, found, strict=True):
        finding = by[mutation.check]
        if not finding.found:
            wrong.append(mutation.name if finding.ended else f"{mutation.name} (unknown: {finding.how})")
    return wrong


def read(text: str) -> dict[str, dict[str, Finding]]:
    """Parse the findings from a page, by the name of the bug."""
    checks = {_name(check): check for check in (*CHECKS, *(mutation.check for mutation in MUTATIONS))}
    found: dict[str, dict[str, Finding]] = {}
    for row in re.findall(r"^\| (.+) \|$", text, re.MULTILINE)[1:]:
        name, _, meant, after, how, also = row.split(" | ")
        by = dict.fromkeys(() if also == NOT_TRIED else CHECKS, Finding(False, 0, ""))
        by |= {checks[other]: Finding(True, 0, "") for other in also.split(", ") if other in checks}
        by[checks[meant]] = Finding(True, int(after.split()[0]), how)
        found[name] = by
    return found


def totals(found: Sequence[Mapping[str, Finding]]) -> str:
    """How many bugs each check found, a line each."""
    checks = dict.fromkeys(check for by in found for check in by)
    lines = [f"{len(found)} planted bugs; found by"]
    for check in checks:
        tried = [by[check] for by in found if check in by]
        unknown = sum(not (finding.ended or finding.found) for finding in tried)
        more = f", {unknown} timed out" if unknown else ""
        lines.append(f"  {_name(check)}: {sum(finding.found for finding in tried)} of {len(tried)}{more}")
    return "\n".join(lines)


def table_names(text: str) -> list[str]:
    """The names of the bugs on a page, in order."""
    return [name for name in re.findall(r"^\| (.+?) \| ", text, re.MULTILINE) if name not in ("bug", "---")]


def _name(check: str) -> str:
    return check if check == SIMULATOR else check.rpartition("/")[2].removesuffix(".py")

"""A harness that cannot fail proves nothing: each planted bug is found by the check meant for it.

With TRIO_JOBS_MUTATIONS=write the campaign writes docs/proof.md from what it finds.
"""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from catalogue import CHECKS, MUTATIONS, SIMULATOR, Mutation
from planting import PACKAGE, ROOT, SCHEDULES, Finding, copied, plant, run_check
from proof import render, table_names, totals

TABLE = ROOT / "docs" / "proof.md"


def test_there_are_at_least_40_kinds_of_bugs() -> None:
    assert len(MUTATIONS) >= 40
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_mutation_still_fits_the_code(mutation: Mutation) -> None:
    source = (PACKAGE / mutation.file).read_text(encoding="utf-8")
    compile(mutation.apply(source), mutation.file, "exec")


def test_the_table_of_proofs_names_every_mutation() -> None:
    assert table_names(TABLE.read_text(encoding="utf-8")) == [mutation.name for mutation in MUTATIONS]


@pytest.mark.campaign
def test_the_code_as_it_is_passes_each_check_that_finds_something() -> None:
    with copied() as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
        checks = sorted({mutation.check for mutation in MUTATIONS})
        for check, finding in zip(checks, pool.map(lambda check: run_check(check, folder), checks), strict=True):
            assert not finding.found, f"{check}: {finding.how}"


@pytest.mark.campaign
def test_each_planted_bug_is_found_by_the_check_meant_for_it() -> None:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        findings = list(pool.map(lambda mutation: _found_by(mutation, mutation.check), MUTATIONS))
    missed = [m.name for m, finding in zip(MUTATIONS, findings, strict=True) if not finding.found]
    assert not missed, f"not found: {', '.join(missed)}"
    if os.environ.get("TRIO_JOBS_MUTATIONS") == "write":
        _write([{mutation.check: finding} for mutation, finding in zip(MUTATIONS, findings, strict=True)])


@pytest.mark.campaign
def test_all_checks_are_tried_on_all_mutations(capsys: pytest.CaptureFixture[str]) -> None:
    """Half an hour on two cores."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(_found_by_all, MUTATIONS))
    if os.environ.get("TRIO_JOBS_MUTATIONS") == "write":
        _write(found)
    with capsys.disabled():
        print(f"\n{totals(found)}")
    missed = [mutation.name for mutation, by in zip(MUTATIONS, found, strict=True) if not by[mutation.check].found]
    assert not missed, f"not found: {', '.join(missed)}"


def _found_by(mutation: Mutation, check: str, schedules: int = SCHEDULES) -> Finding:
    with copied() as folder:
        plant(mutation, folder)
        return run_check(check, folder, schedules=schedules)


def _found_by_all(mutation: Mutation) -> dict[str, Finding]:
    checks = dict.fromkeys((*CHECKS, mutation.check))
    return {check: _found_by(mutation, check, SCHEDULES if check == mutation.check else 400) for check in checks}


def _write(found: list[dict[str, Finding]]) -> None:
    TABLE.write_text(render(found), encoding="utf-8")


def test_a_check_that_finds_nothing_says_so() -> None:
    with copied() as folder:
        assert not run_check(SIMULATOR, folder, schedules=3).found


def test_a_mutation_is_really_what_is_run(tmp_path: Path) -> None:
    mutation = next(mutation for mutation in MUTATIONS if mutation.name == "start not awaited")
    with copied() as folder:
        plant(mutation, folder)
        finding = run_check(SIMULATOR, folder, schedules=50)
    assert finding.found
    assert re.match("P6", finding.how)

"""Rules of the mutation tests: each planted bug is found by the check that is meant to find it.

With TRIO_JOBS_MUTATIONS=write the campaign writes docs/proof.md. With TRIO_JOBS_MUTATIONS=add the test
`test_each_planted_bug_is_found_by_the_check_meant_for_it` runs the checks of the bugs that the page does not have, and
adds them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pytest
from catalogue import CHECKS, MUTATIONS, SIMULATOR, Mutation
from planting import PACKAGE, ROOT, SCHEDULES, Finding, copied, plant, run_check
from proof import missed, read, render, table_names, totals

from support import processes

T = TypeVar("T")

TABLE = ROOT / "docs" / "proof.md"
FOUND = Finding(True, 1, "P1: so it is")
UNKNOWN = Finding(False, 0, "timed out", ended=False)


def test_the_catalogue_has_at_least_40_bugs() -> None:
    assert len(MUTATIONS) >= 40
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_mutation_still_fits_the_code(mutation: Mutation) -> None:
    source = (PACKAGE.parent / mutation.package / mutation.file).read_text(encoding="utf-8")
    compile(mutation.apply(source), mutation.file, "exec")


def test_the_page_names_every_mutation() -> None:
    assert table_names(TABLE.read_text(encoding="utf-8")) == [mutation.name for mutation in MUTATIONS]


def test_the_page_is_rendered_from_its_findings() -> None:
    page = TABLE.read_text(encoding="utf-8")
    assert page == render(list(read(page).values()))


@pytest.mark.parametrize("others", [(), CHECKS], ids=["one", "all"])
def test_the_page_says_which_checks_were_tried(others: tuple[str, ...]) -> None:
    page = render([dict.fromkeys((mutation.check, *others), FOUND) for mutation in MUTATIONS])
    assert ("the last column is empty" in page) == (" | not tried |" in page) == (not others)
    assert ("tried on every bug" in page) == bool(others)
    assert render(list(read(page).values())) == page


def test_the_page_says_which_bugs_were_added() -> None:
    all_tried: list[dict[str, Finding]] = [dict.fromkeys((mutation.check, *CHECKS), FOUND) for mutation in MUTATIONS]
    page = render([*all_tried[:-1], {MUTATIONS[-1].check: FOUND}])
    assert page.count(" | not tried |") == 1
    assert 'a bug with "not tried" was added later' in page
    assert render(list(read(page).values())) == page


@pytest.mark.parametrize("finding", [Finding(False, 9, ""), Finding(False, 0, "no end", ended=False)], ids=str)
def test_no_page_is_written_if_a_bug_was_not_found(finding: Finding, tmp_path: Path) -> None:
    found = [{mutation.check: FOUND} for mutation in MUTATIONS]
    found[3] = {MUTATIONS[3].check: finding}
    table = tmp_path / "proof.md"
    with pytest.raises(AssertionError, match=f"not found: {MUTATIONS[3].name}"):
        _write(found, table)
    assert not table.exists()


def test_a_check_that_times_out_has_no_result(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def run(command: list[str], **options: Any) -> None:
        raise processes.DidNotEnd(f"{command} did not end within {options['timeout']} s")

    monkeypatch.setattr(processes, "run", run)
    assert run_check(SIMULATOR, tmp_path) == Finding(False, 0, "timed out after 150 s", ended=False)


@pytest.mark.parametrize("again", [FOUND, UNKNOWN], ids=["found", "unknown"])
def test_a_check_that_timed_out_is_repeated_alone(again: Finding) -> None:
    calls: list[str] = []

    def run(name: str) -> dict[str, Finding]:
        calls.append(name)
        first = calls.count(name) == 1
        return {"check": FOUND if name != "slow" else UNKNOWN if first else again}

    assert _in_parallel(run, ["slow", "fast", "other"]) == [{"check": again}, {"check": FOUND}, {"check": FOUND}]
    assert sorted(calls[:3]) == ["fast", "other", "slow"]
    assert calls[3:] == ["slow"]


@pytest.mark.parametrize("test", ["test_in_trio", "test_in_a_thread"])
def test_a_test_that_hangs_is_a_finding(test: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In Trio the limit of `conftest.py` ends it, elsewhere that of pytest-timeout."""
    monkeypatch.setattr("planting.DEADLINE", 0.1)
    monkeypatch.setattr("planting.LIMIT", 75.0 if test == "test_in_trio" else 0.5)
    assert run_check(f"tests/mutations/hanging.py::{test}", tmp_path) == Finding(True, 0, test)


@pytest.mark.campaign
def test_the_unmutated_code_passes_each_check() -> None:
    with copied() as folder:
        checks = sorted({*CHECKS, *(mutation.check for mutation in MUTATIONS)})
        for by in _in_parallel(lambda check: {check: run_check(check, folder)}, checks):
            for check, finding in by.items():
                assert finding.ended, f"{check}: {finding.how}"
                assert not finding.found, f"{check}: {finding.how}"


@pytest.mark.campaign
def test_each_planted_bug_is_found_by_the_check_meant_for_it() -> None:
    mode = os.environ.get("TRIO_JOBS_MUTATIONS")
    known = read(TABLE.read_text(encoding="utf-8")) if mode == "add" else {}

    def find(mutation: Mutation) -> dict[str, Finding]:
        on_page = known.get(mutation.name, {})
        return on_page if mutation.check in on_page else {mutation.check: _found_by(mutation, mutation.check)}

    found = _in_parallel(find, MUTATIONS)
    assert not missed(found), f"not found: {', '.join(missed(found))}"
    if mode in ("write", "add"):
        _write(found)


@pytest.mark.campaign
def test_all_checks_are_tried_on_all_mutations(capsys: pytest.CaptureFixture[str]) -> None:
    """Half an hour on two cores."""
    found = _in_parallel(_found_by_all, MUTATIONS)
    with capsys.disabled():
        print(f"\n{totals(found)}")
    assert not missed(found), f"not found: {', '.join(missed(found))}"
    if os.environ.get("TRIO_JOBS_MUTATIONS") == "write":
        _write(found)


def _in_parallel(run: Callable[[T], dict[str, Finding]], items: Sequence[T]) -> list[dict[str, Finding]]:
    """Run the checks of each item, as many at once as there are cores; then, one by one, those that have timed out."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(run, items))
    return [
        by if all(finding.ended for finding in by.values()) else run(item)
        for item, by in zip(items, found, strict=True)
    ]


def _found_by(mutation: Mutation, check: str, schedules: int = SCHEDULES) -> Finding:
    with copied() as folder:
        plant(mutation, folder)
        return run_check(check, folder, schedules=schedules)


def _found_by_all(mutation: Mutation) -> dict[str, Finding]:
    checks = dict.fromkeys((*CHECKS, mutation.check))
    return {check: _found_by(mutation, check, SCHEDULES if check == mutation.check else 400) for check in checks}


def _write(found: list[dict[str, Finding]], table: Path = TABLE) -> None:
    table.write_text(render(found), encoding="utf-8")


def test_a_check_of_unmutated_code_finds_nothing() -> None:
    with copied() as folder:
        assert not run_check(SIMULATOR, folder, schedules=3).found


def test_a_check_runs_the_mutated_copy(tmp_path: Path) -> None:
    mutation = next(mutation for mutation in MUTATIONS if mutation.name == "start not awaited")
    with copied() as folder:
        plant(mutation, folder)
        finding = run_check(SIMULATOR, folder, schedules=50)
    assert finding.found
    assert re.match("P6", finding.how)

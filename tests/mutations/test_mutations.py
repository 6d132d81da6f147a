"""Rules of the mutation tests: each planted bug is found by the check that is meant to find it.

Of each check, `test_each_planted_bug_is_found_by_the_check_meant_for_it` runs the test that has found the bug according
to docs/proof.md, and the whole check only if that test passes.

With TRIO_JOBS_MUTATIONS=write the campaign writes docs/proof.md. With TRIO_JOBS_MUTATIONS=add that test runs only the
checks of the bugs that the page does not have, and adds them. With TRIO_JOBS_MUTATIONS=renew it writes the rows anew
whose test or schedule does not find the bug any more.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import attrs
import pytest
from catalogue import CHECKS, MUTATIONS, SIMULATOR, Mutation
from planting import PACKAGE, ROOT, SCHEDULES, WARM, Finding, copied, originals, plant, run_check
from proof import missed, read, render, table_names, totals

from support import processes
from support.forking import Run, warm_processes

T = TypeVar("T")

TABLE = ROOT / "docs" / "proof.md"
HANGING = "tests/mutations/hanging.py"
FOUND = Finding(True, 1, "P1: so it is")
UNKNOWN = Finding(False, 0, "timed out", ended=False)


def test_the_catalogue_has_at_least_40_bugs() -> None:
    assert len(MUTATIONS) >= 40
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_mutation_still_fits_the_code(mutation: Mutation) -> None:
    source = (PACKAGE.parent / mutation.package / mutation.file).read_text(encoding="utf-8")
    mutated = mutation.apply(source)
    if mutation.file.endswith(".py"):
        compile(mutated, mutation.file, "exec")


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


@pytest.mark.campaign
def test_the_unmutated_code_passes_each_check() -> None:
    checks = sorted({*CHECKS, *(mutation.check for mutation in MUTATIONS)})
    with _planter() as planter:
        for by in _in_parallel(lambda check: {check: planter.find(None, check)}, checks):
            for check, finding in by.items():
                assert finding.ended, f"{check}: {finding.how}"
                assert not finding.found, f"{check}: {finding.how}"


@pytest.mark.campaign
def test_each_planted_bug_is_found_by_the_check_meant_for_it() -> None:
    mode = os.environ.get("TRIO_JOBS_MUTATIONS")
    known = {} if mode == "write" else read(TABLE.read_text(encoding="utf-8"))

    def find(mutation: Mutation) -> dict[str, Finding]:
        on_page = known.get(mutation.name, {})
        before = on_page.get(mutation.check)
        if before is not None and (mode == "add" or planter.find(mutation, mutation.check, known=before).found):
            return on_page
        return {**on_page, mutation.check: planter.find(mutation, mutation.check)}

    with _planter() as planter:
        found = _in_parallel(find, MUTATIONS)
    assert not missed(found), f"not found: {', '.join(missed(found))}"
    if mode is not None:
        _write(found)


@pytest.mark.campaign
def test_all_checks_are_tried_on_all_mutations(capsys: pytest.CaptureFixture[str]) -> None:
    """An hour on two cores."""

    def find(mutation: Mutation) -> dict[str, Finding]:
        few = {check: planter.find(mutation, check, schedules=400) for check in CHECKS if check != mutation.check}
        return {**few, mutation.check: planter.find(mutation, mutation.check)}

    with _planter() as planter:
        found = _in_parallel(find, MUTATIONS)
    with capsys.disabled():
        print(f"\n{totals(found)}")
    assert not missed(found), f"not found: {', '.join(missed(found))}"
    if os.environ.get("TRIO_JOBS_MUTATIONS") == "write":
        _write(found)


@attrs.frozen
class _Planter:
    originals: Path
    run: Run

    def find(
        self, mutation: Mutation | None, check: str, *, schedules: int = SCHEDULES, known: Finding | None = None
    ) -> Finding:
        """Run a check on a copy of the packages with the mutation, if there is one."""
        with copied(self.originals) as folder:
            if mutation is not None:
                plant(mutation, folder)
            return run_check(check, folder, schedules=schedules, known=known, run=self.run)


@contextmanager
def _planter() -> Iterator[_Planter]:
    with originals() as folder, warm_processes(WARM, os.cpu_count() or 1) as run:
        yield _Planter(folder, run)


def _in_parallel(run: Callable[[T], dict[str, Finding]], items: Sequence[T]) -> list[dict[str, Finding]]:
    """Run the checks of each item, as many at once as there are cores; then, one by one, those that have timed out."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(run, items))
    return [
        by if all(finding.ended for finding in by.values()) else run(item)
        for item, by in zip(items, found, strict=True)
    ]


def _write(found: list[dict[str, Finding]], table: Path = TABLE) -> None:
    table.write_text(render(found), encoding="utf-8")


@pytest.fixture(scope="module", name="planter")
def _shared_planter() -> Iterator[_Planter]:
    with _planter() as planter:
        yield planter


def test_a_check_of_unmutated_code_finds_nothing(planter: _Planter) -> None:
    assert not planter.find(None, SIMULATOR, schedules=3).found


def test_a_check_runs_the_mutated_copy(planter: _Planter) -> None:
    mutation = next(mutation for mutation in MUTATIONS if mutation.name == "start not awaited")
    finding = planter.find(mutation, SIMULATOR, schedules=50)
    assert finding.found
    assert re.match("P6", finding.how)
    again = planter.find(mutation, SIMULATOR, known=finding)
    assert (again.found, again.examples, again.how) == (True, 1, finding.how)


def test_a_known_test_that_is_gone_finds_nothing(planter: _Planter) -> None:
    assert not planter.find(None, HANGING, known=Finding(True, 0, "test_of_old")).found


@pytest.mark.parametrize("test", ["test_in_trio", "test_in_a_thread"])
def test_a_test_that_hangs_is_a_finding(test: str, planter: _Planter, monkeypatch: pytest.MonkeyPatch) -> None:
    """In Trio the limit of `conftest.py` ends it, elsewhere that of pytest-timeout."""
    monkeypatch.setattr("planting.DEADLINE", 0.1)
    monkeypatch.setattr("planting.LIMIT", 75.0 if test == "test_in_trio" else 0.5)
    known = Finding(True, 0, f"{test}[parameters of it]")
    assert planter.find(None, HANGING, known=known) == Finding(True, 0, test)

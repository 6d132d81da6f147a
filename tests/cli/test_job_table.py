"""The table of `trio-jobs watch`: the order of its rows, and its summary."""

from __future__ import annotations

import io
from datetime import UTC, datetime

import pytest
from msgspec import UNSET
from rich.console import Console

from trio_jobs import EndedBy, events
from trio_jobs._cli.watch import ROWS, JobTable, _console, _render


def submitted(seq: int, job: str, key: str | None = None) -> events.Submitted:
    return events.Submitted(seq=seq, at=0.0, job=job, kind="k", payload=UNSET, key=key)


def job_table(waiting: int, ended: int, moving: int = 1) -> JobTable:
    made = JobTable()
    seq = 0
    for state, count in (("pending", waiting), ("completed", ended), ("processing", moving)):
        for n in range(count):
            seq += 1
            job = f"{state}-{n:03}"
            made.apply(submitted(seq, job))
            if state == "completed":
                made.apply(events.Completed(seq=seq, at=0.0, job=job))
            elif state == "processing":
                made.apply(events.Started(seq=seq, at=0.0, job=job, attempt=1))
    return made


@pytest.mark.parametrize(
    ("waiting", "ended", "most", "shown"),
    [
        (100, 100, 9, "1 moving, 4 ended, 4 waiting"),
        (2, 100, 9, "1 moving, 6 ended, 2 waiting"),
        (100, 1, 9, "1 moving, 1 ended, 7 waiting"),
        (0, 0, 9, "1 moving, 0 ended, 0 waiting"),
    ],
)
def test_the_table_shows_running_jobs_first_and_as_many_waiting_as_ended_ones(
    waiting: int, ended: int, most: int, shown: str
) -> None:
    rows = [row.job.split("-")[0] for row in job_table(waiting, ended).visible(most)]
    parts = [rows.count("processing"), rows.count("completed"), rows.count("pending")]
    assert "{} moving, {} ended, {} waiting".format(*parts) == shown
    assert rows == sorted(rows, key=["processing", "completed", "pending"].index)


def test_ended_jobs_are_newest_first_and_waiting_jobs_in_queue_order() -> None:
    rows = [row.job for row in job_table(3, 3).visible(7)]
    assert rows[1:4] == ["completed-002", "completed-001", "completed-000"]
    assert rows[4:] == ["pending-000", "pending-001", "pending-002"]


def test_the_summary_counts_all_jobs_though_few_have_a_row() -> None:
    many = job_table(200, ROWS + 70)
    assert many.summary() == "200 pending, 1 processing, 100 completed so far"
    assert JobTable().summary() == "no open jobs"


@pytest.mark.parametrize("unknown", ["COLUMNS", "LINES"])
def test_a_size_of_0_in_the_environment_is_that_of_an_unknown_terminal(
    unknown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "70")
    monkeypatch.setenv("LINES", "20")
    assert _console().size == (70, 20)
    monkeypatch.setenv(unknown, "0")
    size = _console().size
    assert size.width > 0
    assert size.height > 0


@pytest.mark.parametrize(("width", "columns"), [(40, 3), (60, 4), (80, 6), (120, 7)])
def test_the_table_fits_the_terminal_and_shows_no_control_characters(width: int, columns: int) -> None:
    one = JobTable()
    one.apply(submitted(1, "j", "\x1b[31mkey"))
    one.apply(events.Failed(seq=2, at=0.0, job="j", reason="\x07bell " * 50))
    out = Console(file=io.StringIO(), width=width, height=10)
    table = _render(one, width, 10, datetime(1970, 1, 1, 0, 2, tzinfo=UTC))
    assert len(table.columns) == columns
    out.print(table)
    text = out.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, text.splitlines())) <= width
    assert "\x1b" not in text
    assert "\x07" not in text


def test_jobs_in_doubt_come_first_and_a_job_seen_late_has_its_key() -> None:
    made = job_table(2, 2)
    late = events.InDoubt(seq=90, at=60.0, job="doubt", kind="k", key="A-1", reason="crashed", attempt=1)
    made.apply(late)
    first = made.visible(3)[0]
    assert (first.job, first.key, first.state) == ("doubt", "A-1", "in_doubt")


def test_the_table_shows_for_how_long_a_job_is_in_its_state_and_what_is_wrong() -> None:
    made = JobTable()
    made.apply(submitted(1, "job-1"))
    made.apply(events.Started(seq=2, at=30.0, job="job-1", attempt=1))
    made.apply(events.Overdue(seq=3, at=50.0, job="job-1", attempt=1, limit=EndedBy.ATTEMPT_TIMEOUT))
    made.troubles = ["paused since noon by Ada: month end"]
    screen = Console(file=io.StringIO(), width=100, height=20)
    screen.print(_render(made, 100, 20, datetime(1970, 1, 1, 0, 2, tzinfo=UTC)))
    shown = screen.file.getvalue()  # type: ignore[attr-defined] # a StringIO
    assert "1.5 min" in shown, "since its start, not since its last event"
    assert "paused since noon by Ada: month end" in shown


def shown(jobs: JobTable, width: int, now: datetime) -> str:
    out = Console(file=io.StringIO(), width=width, height=30, color_system=None)
    out.print(_render(jobs, width, 30, now))
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue()


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_shows_who_works_on_a_job_until_the_claim_ends(width: int) -> None:
    jobs = job_table(2, 0, 0)
    jobs.apply(events.InDoubt(seq=4, at=0.0, job="pending-001", reason="crashed"))
    jobs.apply(events.Claimed(seq=5, at=1.0, job="pending-001", until=900.0, by="ada"))
    jobs.apply(events.Claimed(seq=6, at=1.0, job="pending-000", until=900.0))
    text = shown(jobs, width, datetime.fromtimestamp(60, UTC))
    assert "ada works on it; crashed" in text
    assert "somebody works on it" in text, "for a client that is not sent who it is"
    rows = [row.job for row in jobs.visible(9)]
    assert rows == ["pending-001", "pending-000"], "a doubt comes first, and a claim moves nothing"
    assert "works on it" not in shown(jobs, width, datetime.fromtimestamp(901, UTC))
    jobs.apply(events.Claimed(seq=7, at=2.0, job="pending-001", by="ada"))
    assert "ada" not in shown(jobs, width, datetime.fromtimestamp(60, UTC))


@pytest.mark.parametrize("width", [40, 80, 120])
def test_the_table_fits_below_long_lines_about_the_queue(width: int) -> None:
    jobs = job_table(100, 100)
    jobs.troubles = [
        "paused since 2026-11-29 12:59:07 UTC by bob until 2026-11-29 14:59:07 UTC: the end of the month"
    ] * 3
    lines = shown(jobs, width, datetime.fromtimestamp(60, UTC)).splitlines()
    assert len(lines) < 30, "the first line would be lost"


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_shows_when_a_job_is_due(width: int) -> None:
    jobs = job_table(1, 0, 0)
    jobs.apply(events.Rescheduled(seq=2, at=0.0, job="pending-000", due_at=660.0))
    assert "due in 10 min" in shown(jobs, width, datetime.fromtimestamp(60, UTC))
    jobs.apply(events.Due(seq=3, at=660.0, job="pending-000"))
    assert "due in" not in shown(jobs, width, datetime.fromtimestamp(661, UTC))

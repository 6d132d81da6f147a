"""The report of a stop: made from the projection, and logged."""

from __future__ import annotations

from typing import Final

from trio_jobs._engine.jobs import FINAL, State, escape
from trio_jobs._log import Log
from trio_jobs._runtime.event_log import EventLog
from trio_jobs._runtime.report import ShutdownReport, UnfinishedJob

__all__ = ["log_report", "make_report"]

log: Final = Log("trio_jobs.queue")


def make_report(event_log: EventLog, closed: bool, problem: str | None) -> ShutdownReport:
    """The report of a stop.

    Args:
        event_log: Has the jobs.
        closed: No session is open any more.
        problem: What closing the session raised, or why it is still open; None if there is nothing to say.
    """
    projection = event_log.projection
    unfinished = tuple(
        UnfinishedJob(r.id, r.kind, r.key, r.state, r.reason) for r in projection.jobs.values() if r.state not in FINAL
    )
    jobs = {state: projection.count(state) for state in State}
    return ShutdownReport(closed, problem, unfinished, jobs, *event_log.unstored())


def log_report(report: ShutdownReport, event_log: EventLog, commit_timeout: float) -> None:
    """Log the jobs that are not final, what may not be stored, and that the SDK is not closed.

    Args:
        report: The report.
        event_log: Has the jobs.
        commit_timeout: The seconds for which the stop has waited for the store.
    """
    if report.unfinished:
        some = ", ".join(f"{escape(job.key or job.job_id)} ({job.state})" for job in report.unfinished[:10])
        log.warning(
            "stopped with unfinished jobs (%d, %s): %s%s",
            len(report.unfinished),
            "kept in the journal" if event_log.durable else "lost",
            some,
            " ..." if report.unfinished[10:] else "",
        )
    if report.unstored_events:
        _log_unstored(report, event_log, commit_timeout)
    if not report.sdk_closed:
        log.error("sdk_not_closed: %s", report.sdk_problem)


def _log_unstored(report: ShutdownReport, event_log: EventLog, commit_timeout: float) -> None:
    log.error(
        "the last events may not be stored (%d): %s",
        report.unstored_events,
        event_log.store.trouble or f"the store did not respond within {commit_timeout:g} s",
    )
    jobs = event_log.projection.jobs
    for start in range(0, len(report.unstored_jobs), 20):
        part = (jobs[job] for job in report.unstored_jobs[start : start + 20] if job in jobs)
        named = ", ".join(f"{escape(job.key or job.id)} ({job.state} now)" for job in part)
        log.error("the next start finds these jobs in an earlier state: %s", named)

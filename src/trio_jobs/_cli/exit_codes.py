"""The exit codes, and which error has which. docs/reference/command-line.md has the same table.

Every code has one meaning. Python itself would end with 1 after an uncaught exception, which means here that a job has
failed, and with 120 if its output cannot be written; `main` lets neither happen.
"""

from __future__ import annotations

import errno
from enum import IntEnum
from typing import Final

from trio_jobs import _errors as e
from trio_jobs._cli.output import OutputFailed
from trio_jobs._lookup_errors import AmbiguousJob, JobNotFound

__all__ = ["CHECK_CODES", "MEANINGS", "ExitCode", "exit_code"]


class ExitCode(IntEnum):
    """An exit code of the command line. `trio-jobs journal check` has codes of its own."""

    DONE = 0
    NOT_COMPLETED = 1
    INVALID = 2
    NOT_FOUND = 3
    NO_CONNECTION = 4
    TRY_LATER = 5
    UNEXPECTED = 6
    SDK_NOT_CLOSED = 70
    CLOSE_FAILED = 71
    NOT_STORED = 72
    OUTPUT_FAILED = 74
    INTERRUPTED = 130


MEANINGS: Final[dict[ExitCode, str]] = {
    ExitCode.DONE: "done",
    ExitCode.NOT_COMPLETED: "the job failed, was cancelled or is in doubt; the queue is not healthy (status); the job "
    "is final (cancel)",
    ExitCode.INVALID: "invalid arguments or payload; a missing or invalid token; a service that cannot be imported; a "
    "journal, another file or an address that cannot be used",
    ExitCode.NOT_FOUND: "there is no such job, or several, or it is in another state",
    ExitCode.NO_CONNECTION: "the server cannot be reached, or the connection was lost and the request may have been "
    "done",
    ExitCode.TRY_LATER: "try again later: the queue is full or stopping, the store fails, the journal or the port is "
    "in use, the SDK cannot be opened or another process has it",
    ExitCode.UNEXPECTED: "an error without a code of its own: a fault of trio-jobs, or of the service; its traceback "
    "is printed",
    ExitCode.SDK_NOT_CLOSED: "serve ended without closing the SDK",
    ExitCode.CLOSE_FAILED: "serve closed the SDK, and the close raised; the log names the completed jobs whose work "
    "may be lost",
    ExitCode.NOT_STORED: "serve closed the SDK and could not store its last events; the log names their jobs",
    ExitCode.OUTPUT_FAILED: "standard output cannot be written; what the command has done is done",
    ExitCode.INTERRUPTED: "interrupted",
}


CHECK_CODES: Final = """exit codes of journal check:
  0   sound: a service can open it without loss
  1   damaged: a service refuses to open it
  2   the file does not exist, is not a journal, or cannot be read
  4   in use, so it was not checked: make a backup and check the backup"""


def exit_code(error: BaseException) -> ExitCode:
    """The exit code of a command that has raised this error."""
    match error:
        case KeyboardInterrupt():
            return ExitCode.INTERRUPTED
        case e.JobFailed() | e.JobCancelled() | e.JobInDoubt() | e.ResultUnavailable():
            return ExitCode.NOT_COMPLETED
        case JobNotFound() | AmbiguousJob() | e.InvalidState():
            return ExitCode.NOT_FOUND
        case e.UsageError() | e.InvalidJournalPath() | e.JournalDamaged():
            return ExitCode.INVALID
        case e.ConnectionFailed() | e.OutcomeUnknown():
            return ExitCode.NO_CONNECTION
        case e.QueueFull() | e.QueueClosed() | e.StoreError() | e.SdkOpenFailed() | e.TooManyRequests():
            return ExitCode.TRY_LATER
        case e.SdkCallStuck():
            return ExitCode.SDK_NOT_CLOSED
        case OutputFailed():
            return ExitCode.OUTPUT_FAILED
        case OSError(errno=errno.EADDRINUSE):
            return ExitCode.TRY_LATER
        case OSError():
            return ExitCode.INVALID
    return ExitCode.UNEXPECTED

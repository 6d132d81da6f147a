"""The faults of `check_handler` in words."""

from __future__ import annotations

from typing import Any, Final

from trio_jobs._engine.handlers import Handler
from trio_jobs._engine.jobs import Done, ErrorInfo, Job, NotDone, Outcome, State, Unknown
from trio_jobs.testing._instrumented import HANDLER_RETURN, CallSite, FaultPlan, VerifyRaised

__all__ = ["NO_CALLS", "error_words", "fault_sentence", "hint", "verdict_problem"]

PROXY_ERRORS: Final = ("TypeError", "ArgumentError")  #: what code in C raises for an argument of another type
FACADE: Final = (
    ". If the SDK is passed to code in C or to COM: such code does not accept the proxy that records the calls; let "
    "the session be a Python class with a method for each operation"
)

NO_CALLS: Final = (
    "faults in its calls, as none was recorded: only those through the SDK object that the handler receives are"
)
_SCOPES: Final = "Cancel scope stack corrupted"  #: how the error begins that Trio raises then
_USE_WITH: Final = ". Use `with` for a cancel scope and `async with` for a nursery"


def fault_sentence(plan: FaultPlan) -> str:
    """What happened by this plan, as the first half of a sentence."""
    at: CallSite | None = plan.at
    where = f"at checkpoint {plan.checkpoint}" if at is None else _site_phrase(at)
    match plan.fault:
        case "raise":
            return f"{where} {type(plan.error).__name__} was raised"
        case "die":
            return f"{where} the process died"
        case "cancel":
            return f"{where} the job was cancelled"
        case "slow":
            return f"{where} {plan.seconds:g} s passed, more than the limit"
        case _:
            return f"{where} the queue stopped"


def _site_phrase(site: CallSite) -> str:
    if site.name == HANDLER_RETURN:
        return "after the handler returned"
    return f"{site.side} call {site.number} ({site.name})"


def error_words(error: ErrorInfo | None) -> tuple[str, str]:
    """An error that a handler raised without a fault, in a line, and what else to do than to reproduce it."""
    if error is None:
        return "an error", ""
    if error.message.startswith(_SCOPES):
        return f"{error.type}: it has entered a cancel scope or a nursery, and not left it", _USE_WITH
    return str(error), FACADE if error.type in PROXY_ERRORS else ""


def verdict_problem(verdict: Any) -> str | None:
    """Why what verify did is no answer, as the end of a sentence. None for an answer."""
    if isinstance(verdict, VerifyRaised):
        return f"raised {verdict.error}"
    if isinstance(verdict, Done | NotDone | Unknown):
        return None
    return f"returned {verdict!r:.100}; it must return Done(result), NotDone() or Unknown()"


def hint(handler: Handler, job: Job, verdicts: list[tuple[Any, Any]]) -> str:
    """Why the queue could not prevent it, as the end of a sentence."""
    attempts = job.attempts or ()
    if len(attempts) == 1 and attempts[0].outcome is Outcome.COMPLETED:
        return "; the handler returned nevertheless, so its work counts as done: let the error or Cancelled pass"
    if handler.rules.idempotent:
        return "; the handler is declared idempotent"
    if handler.verify is None:
        return "; the handler has no verify, so the queue could not find out what the first attempt had done"
    if job.state is State.COMPLETED and verdicts and isinstance(verdicts[-1][0], Done):
        return "; verify returned Done: it must look for all that the handler does, not for a part of it"
    return ""

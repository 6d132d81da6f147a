"""The faults of `check_handler` in words."""

from __future__ import annotations

from trio_jobs.testing._instrumented import HANDLER_RETURN, CallSite, FaultPlan

__all__ = ["fault_sentence"]


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

"""The methods that change jobs, and queue.pause."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from trio_jobs._backend import Backend
from trio_jobs._backend_commands import NewSubmit
from trio_jobs._engine.handlers import NULL
from trio_jobs._engine.job_conditions import JobConditions
from trio_jobs._engine.jobs import Receipt
from trio_jobs._errors import UsageError
from trio_jobs._server.identity import Identity
from trio_jobs._server.requirements import as_moment, list_conditions, require
from trio_jobs._wire import commands as c
from trio_jobs._wire import methods as w

__all__ = ["METHODS"]


async def _submit(backend: Backend, identity: Identity, params: c.Submit) -> c.SubmitResult:
    receipt = await backend.submit(
        params.kind,
        _payload(params.payload),
        key=params.key,
        due_at=as_moment(params.due_at),
        delay=params.delay,
        deadline_at=as_moment(params.deadline_at),
        deadline_after=params.deadline_after,
        wait=params.wait,
        labels=params.labels,
        correct=params.correct,
        by=identity.name,
    )
    return _receipt(receipt)


async def _submit_many(backend: Backend, identity: Identity, params: c.SubmitMany) -> c.SubmitManyResult:
    jobs = [
        NewSubmit(
            kind=one.kind,
            payload=_payload(one.payload),
            key=one.key,
            due_at=as_moment(one.due_at),
            delay=one.delay,
            deadline_at=as_moment(one.deadline_at),
            deadline_after=one.deadline_after,
            labels=one.labels,
        )
        for one in params.jobs
    ]
    receipts = await backend.submit_many(jobs, wait=params.wait, by=identity.name)
    return c.SubmitManyResult([_receipt(receipt) for receipt in receipts])


async def _cancel(backend: Backend, identity: Identity, params: c.Cancel) -> c.CancelResult:
    job_id = _whole_id(backend, params.job)
    answer = await backend.cancel(job_id, by=identity.name, note=params.note, if_seq=params.if_seq)
    return c.CancelResult(job_id, answer, _state(backend, job_id).state)


async def _cancel_many(backend: Backend, identity: Identity, params: c.CancelMany) -> c.CancelManyResult:
    conditions = _conditions(params)
    jobs = await backend.cancel_many(conditions, dry_run=params.dry_run, by=identity.name, note=params.note)
    return c.CancelManyResult([*jobs], params.dry_run)


async def _retry(backend: Backend, identity: Identity, params: c.Retry) -> c.StateResult:
    if params.even_if_acted:
        require(identity, "control", "jobs.retry with even_if_acted")
    job_id, acted = _whole_id(backend, params.job), params.even_if_acted
    await backend.retry(job_id, even_if_acted=acted, by=identity.name, note=params.note, if_seq=params.if_seq)
    return _state(backend, job_id)


async def _retry_many(backend: Backend, identity: Identity, params: c.RetryMany) -> c.RetryManyResult:
    if params.even_if_acted:
        require(identity, "control", "jobs.retry_many with even_if_acted")
    done = await backend.retry_many(
        _conditions(params),
        even_if_acted=params.even_if_acted,
        dry_run=params.dry_run,
        by=identity.name,
        note=params.note,
    )
    return c.RetryManyResult(
        [*done.retried], [*done.refused], [*done.may_have_acted], [*done.verified_first], params.dry_run
    )


async def _resolve(backend: Backend, identity: Identity, params: c.Resolve) -> c.StateResult:
    job_id = _whole_id(backend, params.job)
    result = None if params.result is msgspec.UNSET else params.result
    await backend.resolve(
        job_id, params.resolution, result=result, by=identity.name, note=params.note, if_seq=params.if_seq
    )
    return _state(backend, job_id)


async def _correct(backend: Backend, identity: Identity, params: c.Correct) -> c.StateResult:
    job_id, payload = _whole_id(backend, params.job), _payload(params.payload)
    await backend.correct(job_id, payload, if_seq=params.if_seq, by=identity.name, note=params.note)
    return _state(backend, job_id)


async def _verify(backend: Backend, identity: Identity, params: c.Verify) -> c.VerifyResult:
    job_id = _whole_id(backend, params.job)
    answer = await backend.verify(job_id, by=identity.name, note=params.note)
    job = backend.get(job_id, brief=True)
    return c.VerifyResult(job_id, answer, job.state, job.may_have_acted)


async def _reschedule(backend: Backend, identity: Identity, params: c.Reschedule) -> c.StateResult:
    job_id, by = _whole_id(backend, params.job), identity.name
    if not params.now:
        due_at = as_moment(params.due_at)
        await backend.reschedule(
            job_id, due_at=due_at, delay=params.delay, if_seq=params.if_seq, by=by, note=params.note
        )
    elif params.due_at is not None or params.delay is not None:
        raise UsageError("give due_at, delay or now, not several of them")
    else:
        await backend.run_now(job_id, if_seq=params.if_seq, by=by, note=params.note)
    return _state(backend, job_id)


async def _claim(backend: Backend, identity: Identity, params: c.Claim) -> c.StateResult:
    job_id, by, take_over = _whole_id(backend, params.job), identity.name, params.take_over
    if params.release:
        await backend.release_claim(job_id, take_over=take_over, by=by, note=params.note)
    else:
        await backend.claim(job_id, seconds=params.seconds, take_over=take_over, by=by, note=params.note)
    return _state(backend, job_id)


async def _pause(backend: Backend, identity: Identity, params: c.Pause) -> w.Done:
    await backend.pause(params.reason, until=as_moment(params.until), by=identity.name)
    return w.Done(backend.events.seq)


METHODS: Final[dict[str, Callable[[Backend, Identity, Any], Awaitable[Any]]]] = {
    "jobs.submit": _submit,
    "jobs.submit_many": _submit_many,
    "jobs.cancel": _cancel,
    "jobs.cancel_many": _cancel_many,
    "jobs.retry": _retry,
    "jobs.retry_many": _retry_many,
    "jobs.resolve": _resolve,
    "jobs.correct": _correct,
    "jobs.verify": _verify,
    "jobs.reschedule": _reschedule,
    "jobs.claim": _claim,
    "queue.pause": _pause,
}


def _conditions(params: c.CancelMany) -> JobConditions:
    """The conditions of a bulk operation as keywords.

    Raises:
        UsageError: A condition has no meaning there.
    """
    found = list_conditions(params)
    if params.states is not None:
        raise UsageError("a bulk operation takes state, not states")
    return JobConditions(
        ids=params.ids,
        state=found["state"],
        kind=found["kind"],
        key_prefix=found["key_prefix"],
        error_type=found["error_type"],
        may_have_acted=found["may_have_acted"],
        labels=found["labels"],
        submitter=found["by"],
        since=found["since"],
        until=found["until"],
        limit=params.limit,
    )


def _payload(payload: msgspec.Raw | msgspec.UnsetType) -> msgspec.Raw:
    return NULL if payload is msgspec.UNSET else payload


def _receipt(receipt: Receipt) -> c.SubmitResult:
    return c.SubmitResult(receipt.job_id, receipt.created, receipt.position, receipt.state, receipt.expected_wait)


def _whole_id(backend: Backend, job_id: str) -> str:
    return backend.get(job_id, brief=True).id


def _state(backend: Backend, job_id: str) -> c.StateResult:
    return c.StateResult(job_id, backend.get(job_id, brief=True).state)

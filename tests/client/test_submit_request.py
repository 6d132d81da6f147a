"""The seconds of a submit count from the call on, also in a request that is sent later or again."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import trio_jobs
from trio_jobs._client.submit_request import SOON, SubmitRequest
from trio_jobs._wire.commands import Submit


def request(**times: Any) -> SubmitRequest:
    arguments: dict[str, Any] = (
        dict.fromkeys(("due_at", "delay", "deadline_at", "deadline_after", "wait", "labels")) | times
    )
    return SubmitRequest("kind", 1, None, **arguments)


def sent(submit: SubmitRequest) -> Submit:
    params = submit.make().params(30.0)
    assert isinstance(params, Submit)
    return params


async def test_a_request_that_is_sent_at_once_has_the_seconds_that_were_given(autojump_clock: MockClock) -> None:
    params = sent(request(delay=60.0, deadline_after=90.0))
    assert (params.delay, params.deadline_after, params.due_at, params.deadline_at) == (60.0, 90.0, None, None)


async def test_a_request_that_is_sent_again_has_what_is_left(autojump_clock: MockClock) -> None:
    submit = request(delay=60.0, deadline_after=90.0)
    sent(submit)
    await trio.sleep(50)
    params = sent(submit)
    assert (params.delay, params.deadline_after) == (10.0, 40.0)


async def test_a_deadline_that_passed_meanwhile_is_sent_so_that_the_job_expires(autojump_clock: MockClock) -> None:
    submit = request(deadline_after=90.0)
    await trio.sleep(100)
    assert sent(submit).deadline_after == SOON


async def test_dates_are_sent_as_they_are(autojump_clock: MockClock) -> None:
    date = datetime(2030, 1, 1, tzinfo=UTC)
    submit = request(due_at=date, deadline_at=date)
    await trio.sleep(100)
    params = sent(submit)
    assert (params.due_at, params.deadline_at, params.delay) == (date.timestamp(), date.timestamp(), None)


async def test_a_deadline_after_no_time_is_left_to_the_server_to_refuse(autojump_clock: MockClock) -> None:
    assert sent(request(deadline_after=0.0)).deadline_after == 0.0


@pytest.mark.parametrize("times", [{"delay": -1.0}, {"deadline_after": float("nan")}, {"delay": 1e12}], ids=str)
async def test_invalid_seconds_are_refused_before_anything_is_sent(times: Any) -> None:
    with pytest.raises(trio_jobs.UsageError, match=next(iter(times))):
        request(**times)

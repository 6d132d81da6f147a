"""Jobs and events as JSON types."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import attrs
import msgspec
from hypothesis import given
from hypothesis import strategies as st

from trio_jobs import Attempt, EndedBy, ErrorInfo, Job, Outcome, State, events
from trio_jobs._engine.events import ALL_EVENTS
from trio_jobs._engine.transitions import TRANSITIONS

times = st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
encoded = json_values.map(msgspec.json.encode)
errors = st.builds(ErrorInfo, texts, texts, st.none() | texts | st.integers(-(2**63), 2**63 - 1), st.none() | texts)
attempts = st.builds(
    Attempt,
    number=st.integers(1, 99),
    run=st.integers(1, 9),
    started_at=times,
    ended_at=st.none() | times,
    outcome=st.none() | st.sampled_from(Outcome),
    ended_by=st.none() | st.sampled_from(EndedBy),
    error=st.none() | errors,
)
jobs = st.builds(
    Job,
    id=texts,
    kind=texts,
    state=st.sampled_from(State),
    key=st.none() | texts,
    payload=st.none() | encoded,
    submitted_at=times,
    changed_at=times,
    due_at=st.none() | times,
    deadline_at=st.none() | times,
    by=st.none() | texts,
    claimed_by=st.none() | texts,
    claimed_until=st.none() | times,
    earlier_payloads=st.none() | st.dictionaries(st.integers(1, 9), encoded, max_size=2),
    steps=st.none() | st.lists(texts, max_size=3).map(tuple),
    open_step=st.none() | texts,
    attempts=st.none() | st.lists(attempts, max_size=3).map(tuple),
    result=st.none() | encoded,
    result_problem=st.none() | texts,
    reason=texts,
    error=st.none() | errors,
)


def is_plain(value: Any) -> bool:
    """Of JSON types alone; a subclass of str is none of them."""
    if type(value) is dict:
        return all(type(key) is str and is_plain(item) for key, item in value.items())
    if type(value) is list:
        return all(map(is_plain, value))
    return value is None or type(value) in (str, int, float, bool)


@given(jobs)
def test_a_job_as_a_dict_consists_of_json_types_and_survives_json(job: Job) -> None:
    fields = job.to_dict()
    assert is_plain(fields)
    assert json.loads(json.dumps(fields, allow_nan=False)) == fields
    names = ("payload", "steps", "attempts", "earlier_payloads", "result")
    left_out = {name for name in names if getattr(job, name) is None}
    assert fields.keys() == {field.name for field in attrs.fields(Job)} - left_out
    for name in ("submitted_at", "changed_at", "due_at", "deadline_at"):
        assert (None if fields[name] is None else datetime.fromisoformat(fields[name])) == getattr(job, name)
    for name in ("payload", "result"):
        if getattr(job, name) is not None:
            assert fields[name] == msgspec.json.decode(getattr(job, name))
    if job.attempts is not None:
        assert [attempt["outcome"] for attempt in fields["attempts"]] == [attempt.outcome for attempt in job.attempts]
    assert (None if job.error is None else ErrorInfo(**fields["error"])) == job.error


def test_times_are_iso_8601_in_utc() -> None:
    event = events.Scheduled(seq=1, at=1.5, job="j", kind="k", payload=msgspec.Raw(b'{"n": [1]}'), due_at=60)
    assert event.to_dict() == {
        "type": "scheduled",
        "seq": 1,
        "at": "1970-01-01T00:00:01.500000+00:00",
        "job": "j",
        "kind": "k",
        "payload": {"n": [1]},
        "due_at": "1970-01-01T00:01:00+00:00",
        "state": "scheduled",
    }
    assert event.occurred_at == datetime(1970, 1, 1, 0, 0, 1, 500000, UTC)
    assert (event.due, event.deadline) == (datetime(1970, 1, 1, 0, 1, tzinfo=UTC), None)


def test_every_event_as_a_dict_consists_of_json_types() -> None:
    values: dict[str, Any] = {
        "kind": "k", "payload": msgspec.Raw(b"[1]"), "result": msgspec.Raw(b"1"), "attempt": 1, "step": "s",
        "limit": EndedBy.DEADLINE, "due_at": 2.0, "session": 1, "culprit": "j", "jobs": ("j",), "problem": "p",
        "error": ErrorInfo("E"), "reason": "start",
        "outcome": Outcome.ERROR, "job": "j", "seq": 1, "at": 0.5, "until": 3.0, "answer": "unknown",
    }  # fmt: skip
    for class_ in ALL_EVENTS:
        event = class_(**{name: values[name] for name in class_.__struct_fields__ if name in values})
        fields = event.to_dict()
        assert is_plain(fields), class_
        assert (fields["type"], fields["seq"]) == (event.type, 1)
        json.dumps(fields)


def test_the_state_of_an_event_is_the_one_that_the_table_leads_to() -> None:
    for class_ in ALL_EVENTS:
        if issubclass(class_, events.JobEvent):
            after = set(TRANSITIONS[class_].values())
            assert class_.state == (after.pop() if len(after) == 1 else None), class_

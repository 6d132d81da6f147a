"""Events as subscribers get them."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from trio_jobs._engine import events as ev
from trio_jobs._engine.jobs import EndedBy, ErrorInfo, Outcome, State
from trio_jobs._engine.transitions import STATE_AFTER, TRANSITIONS
from trio_jobs._wire import jsonrpc as m
from trio_jobs._wire.conversion import WITHHELD, event_from_wire, event_to_wire
from trio_jobs._wire.event_encoding import encode_body, has_hidden, prefix
from trio_jobs._wire.field_scopes import limit_to
from trio_jobs._wire.frames import text_frame
from trio_jobs._wire.methods import EventParams
from trio_jobs._wire.schemas import WireError, WireEvent

SECRET = msgspec.Raw(b'{"card":"4111"}')


def samples() -> list[ev.Event]:
    """One of each class, with every field filled in."""
    values: dict[str, Any] = {
        "seq": 9,
        "at": 1.5,
        "job": "j1",
        "kind": "post",
        "payload": SECRET,
        "result": SECRET,
        "digest": "d1g3st",
        "key": "k",
        "deadline_at": 3.0,
        "due_at": 2.0,
        "delay": 0.5,
        "deadline_after": 1.5,
        "expired": False,
        "even_if_acted": True,
        "early": True,
        "until": 4.0,
        "answer": "not_done",
        "by": "ann",
        "note": "asked by phone",
        "labels": {"company": "acme"},
        "action": "resolve",
        "attempt": 2,
        "step": "book",
        "entered": True,
        "limit": EndedBy.DEADLINE,
        "outcome": Outcome.ERROR,
        "ended_by": EndedBy.CANCEL,
        "late": True,
        "may_have_acted": True,
        "reason": "why",
        "error": ErrorInfo("E", "message", 7, "Traceback: 4111"),
        "problem": "too large",
        "uses_retry": False,
        "retryable": False,
        "inside": True,
        "asked": True,
        "interrupted": True,
        "crashed": True,
        "verifying": True,
        "unclean": True,
        "session": 3,
        "jobs": ("j1", "j2"),
        "culprit": "j1",
    }
    missing = {name for event in ev.ALL_EVENTS for name in event.__struct_fields__} - set(values)
    assert not missing, f"say here what {missing} may hold, and in WireEvent or WITHHELD whether it is shown"
    return [event(**{name: values[name] for name in event.__struct_fields__}) for event in ev.ALL_EVENTS]


def test_every_field_of_every_event_is_on_the_wire_or_withheld_by_name() -> None:
    shown = set(WireEvent.__struct_fields__)
    for event in ev.ALL_EVENTS:
        assert set(event.__struct_fields__) <= shown | WITHHELD, event.__name__
    assert not shown & WITHHELD


@pytest.mark.parametrize("event", samples(), ids=lambda event: type(event).__name__)
def test_a_body_behind_a_prefix_is_the_notification(event: ev.Event) -> None:
    text = prefix("s-1") + encode_body(event, "post", "k")
    notification = m.read_from_server(text)
    assert isinstance(notification, m.Notification)
    assert isinstance(notification.params, EventParams)
    assert notification.params.subscription == "s-1"
    assert json.loads(text)["jsonrpc"] == "2.0"
    view = event_to_wire(event, "post", "k")
    for name in WireEvent.__struct_fields__:
        assert getattr(notification.params, name) == getattr(view, name)
    assert (view.seq, view.at, view.type) == (9, 1.5, event.__struct_config__.tag)


@pytest.mark.parametrize("event", samples(), ids=lambda event: type(event).__name__)
def test_a_token_that_watches_is_not_sent_what_people_and_handlers_have_written(event: ev.Event) -> None:
    whole = event_to_wire(event, "post", "k")
    watched = limit_to(whole, "watch")
    differing = {name for name in WireEvent.__struct_fields__ if getattr(whole, name) != getattr(watched, name)}
    written = {"by", "note", "labels", "reason", "problem", "step"} & set(event.__struct_fields__)
    assert differing - {"error"} == written
    assert watched.error == (None if whole.error is None else WireError(whole.error.type, "", whole.error.code))
    assert has_hidden(event, "watch") is bool(differing)
    assert not has_hidden(event, "operate")
    assert not has_hidden(ev.Due(seq=1, at=0.0, job="j"), "watch")
    assert encode_body(event, "post", "k", "watch") == msgspec.json.encode(watched)[1:] + b"}"


@pytest.mark.parametrize("event", samples(), ids=lambda event: type(event).__name__)
def test_no_event_carries_a_payload_a_result_a_digest_or_a_traceback(event: ev.Event) -> None:
    body = encode_body(event, "post")
    assert b"4111" not in body
    assert b"d1g3st" not in body


def test_an_event_tells_the_state_it_leads_to() -> None:
    assert event_to_wire(ev.RunRestarted(seq=1, at=0, job="j"), "k").state is State.PENDING
    assert event_to_wire(ev.Overdue(seq=1, at=0, job="j", attempt=1, limit=EndedBy.STOP), "k").state is State.PROCESSING
    assert event_to_wire(ev.SessionOpened(seq=1, at=0, session=1), None).state is None
    stateless = {event for event in ev.ALL_EVENTS if issubclass(event, ev.JobEvent)} - set(STATE_AFTER)
    for event in stateless:
        assert all(before is after for before, after in TRANSITIONS[event].items()), "then its state must be told"


def test_a_frame_is_header_prefix_and_body() -> None:
    body = encode_body(ev.Due(seq=1, at=0.0, job="j"), "k")
    assert text_frame(prefix("s") + body).endswith(prefix("s") + body)


@pytest.mark.parametrize("event", samples(), ids=lambda event: type(event).__name__)
def test_a_client_decodes_the_event_without_what_is_withheld(event: ev.Event) -> None:
    notification = m.read_from_server(prefix("s") + encode_body(event, "post", "k"))
    assert isinstance(notification, m.Notification)
    decoded = event_from_wire(notification.params)
    assert type(decoded) is type(event)
    for name in event.__struct_fields__:
        value = getattr(decoded, name)
        if name in ("payload", "result"):
            assert value is msgspec.UNSET
        elif name == "digest":
            assert value is None
        elif name == "error":
            assert value == ErrorInfo("E", "message", 7)
        else:
            assert value == getattr(event, name), name


def test_an_event_of_an_unknown_type_is_decoded_as_its_base_class() -> None:
    of_job = event_from_wire(WireEvent(seq=1, at=0.0, type="audited", job="j", kind="k"))
    assert of_job == ev.JobEvent(seq=1, at=0.0, job="j", kind="k")
    assert event_from_wire(WireEvent(seq=2, at=0.0, type="moved")) == ev.QueueEvent(seq=2, at=0.0)

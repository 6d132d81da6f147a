"""JSON-RPC as it is written and read."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_jobs import InvalidPayload
from trio_jobs._engine.handlers import encode_payload
from trio_jobs._engine.jobs import State
from trio_jobs._wire import jsonrpc as m
from trio_jobs._wire.codes import ErrorCode
from trio_jobs._wire.commands import Resolve, Submit
from trio_jobs._wire.methods import METHODS, NOTIFICATIONS, HelloResult, OneJob, Snapshot


def refused(text: str | bytes) -> m.RpcError:
    with pytest.raises(m.RpcError) as caught:
        m.decode_request(text)
    return caught.value


def request(**changes: Any) -> str:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "jobs.get", "params": {"job": "a"}, **changes})


def test_a_request_comes_back_as_it_was_written() -> None:
    text = m.encode_request("7", "jobs.submit", Submit("post", msgspec.Raw(b"[1.10]"), key="k"))
    request_id, method, params = m.decode_request(text)
    assert (request_id, method.name) == ("7", "jobs.submit")
    assert params == Submit("post", msgspec.Raw(b"[1.10]"), key="k")


def test_the_result_of_a_resolve_keeps_all_digits() -> None:
    result = msgspec.Raw(b'{"no":0.12345678901234567890}')
    text = m.encode_request("7", "jobs.resolve", Resolve("j", "done", result))
    assert m.decode_request(text)[2] == Resolve("j", "done", result)


@pytest.mark.parametrize(
    ("text", "code", "request_id"),
    [
        ("", ErrorCode.PARSE, None),
        ("{", ErrorCode.PARSE, None),
        (b'{"jsonrpc":"2.0","id":1,"method":"\xff"}', ErrorCode.PARSE, None),
        ("[" * 500_000, ErrorCode.INVALID_REQUEST, None),
        (f"[{request()}]", ErrorCode.INVALID_REQUEST, None),
        ("1", ErrorCode.INVALID_REQUEST, None),
        (request(jsonrpc="1.0"), ErrorCode.INVALID_REQUEST, None),
        (request(id=None), ErrorCode.INVALID_REQUEST, None),
        (request(id=1.5), ErrorCode.INVALID_REQUEST, None),
        (request(id="x" * 65), ErrorCode.INVALID_REQUEST, None),
        (request(more=1), ErrorCode.INVALID_REQUEST, None),
        ('{"jsonrpc":"2.0","method":"jobs.get","params":{"job":"a"}}', ErrorCode.INVALID_REQUEST, None),
        (request(method="jobs.got"), ErrorCode.UNKNOWN_METHOD, 1),
        (request(params={}), ErrorCode.INVALID_PARAMS, 1),
        (request(params=["a"]), ErrorCode.INVALID_PARAMS, 1),
        (request(params={"job": ""}), ErrorCode.INVALID_PARAMS, 1),
        (request(params={"job": "a", "jop": "b"}), ErrorCode.INVALID_PARAMS, 1),
        (request(method="jobs.submit", params={"kind": "k", "wait": 31}), ErrorCode.INVALID_PARAMS, 1),
        (request(method="jobs.subscribe", params={"subscription": "a b"}), ErrorCode.INVALID_PARAMS, 1),
    ],
)
def test_a_text_that_is_not_a_request_is_refused_with_its_code(
    text: str | bytes, code: int, request_id: int | None
) -> None:
    error = refused(text)
    assert (error.code, error.id) == (code, request_id)
    assert json.loads(m.encode_error(error))["error"]["code"] == code


@pytest.mark.parametrize("depth", [500, 900, 5000, 100_000])
def test_deep_nesting_in_a_payload_is_an_error_and_no_crash(depth: int) -> None:
    """How many levels a request can have depends on the stack: some hundreds, or since Python 3.14 some thousands."""
    deep = '{"jsonrpc":"2.0","id":1,"method":"jobs.submit","params":{"kind":"k","payload":' + "[" * depth
    assert refused(deep).code in (ErrorCode.PARSE, ErrorCode.INVALID_PARAMS)
    try:
        _, _, params = m.decode_request(deep + "]" * depth + "}}")
    except m.RpcError as error:
        assert error.code in (ErrorCode.PARSE, ErrorCode.INVALID_REQUEST, ErrorCode.INVALID_PARAMS)
    else:
        assert isinstance(params, Submit)
        with pytest.raises(InvalidPayload):
            encode_payload("k", params.payload)


@given(st.binary(max_size=200) | st.text(max_size=200))
def test_any_text_is_a_request_or_an_rpc_error(text: bytes | str) -> None:
    try:
        m.decode_request(text)
    except m.RpcError as error:
        json.loads(m.encode_error(error))


def test_an_answer_is_read_with_its_id() -> None:
    answer = m.read_from_server(m.encode_result(3, HelloResult("p", "e", 1, 1, "watch", "n")))
    assert isinstance(answer, m.Answer)
    assert answer.id == 3
    assert answer.error is None
    assert json.loads(bytes(answer.result))["epoch"] == "e"


def test_an_error_is_read_with_its_facts() -> None:
    answer = m.read_from_server(m.encode_error(m.RpcError(ErrorCode.QUEUE_FULL, "full", request_id="q")))
    assert isinstance(answer, m.Answer)
    assert answer.error is not None
    assert (answer.id, answer.error.code) == ("q", ErrorCode.QUEUE_FULL)


def test_a_notification_is_read_by_its_name() -> None:
    notification = m.read_from_server(m.encode_notification("jobs.snapshot", Snapshot("s", 4, [], True)))
    assert notification == m.Notification("jobs.snapshot", Snapshot("s", 4, [], True))


def test_a_notification_of_a_later_server_is_passed_over() -> None:
    assert m.read_from_server('{"jsonrpc":"2.0","method":"jobs.new","params":{"x":1}}') is None


def test_every_method_has_a_verb_of_one_room_and_a_sentence() -> None:
    for name, row in METHODS.items():
        assert name == row.name
        assert name.split(".")[0] in ("server", "requests", "jobs", "kinds", "queue", "tickets")
        assert row.does.endswith(".")
    assert len(METHODS) >= 20
    assert set(NOTIFICATIONS) == {"jobs.event", "jobs.progress", "jobs.position", "jobs.lagged", "jobs.snapshot"}


def test_methods_that_change_nothing_are_open_to_a_watch_token() -> None:
    watching = {name for name, row in METHODS.items() if row.scope == "watch"}
    assert watching == {
        "server.hello",
        "server.login",
        "requests.cancel",
        "jobs.get",
        "jobs.find",
        "jobs.list",
        "jobs.count",
        "jobs.history",
        "jobs.result",
        "jobs.subscribe",
        "jobs.unsubscribe",
        "kinds.list",
        "queue.health",
        "queue.statistics",
    }


def test_states_go_by_their_names() -> None:
    params = msgspec.json.decode(b'{"subscription":"s","states":["in_doubt"]}', type=METHODS["jobs.subscribe"].params)
    assert params.states == [State.IN_DOUBT]  # type: ignore[attr-defined]
    assert OneJob("x").job == "x"


@pytest.mark.parametrize("text", ["a\n", "\na", "a\r", "a b", "a\u2028", "", "a" * 101])
@pytest.mark.parametrize(
    ("method", "name"),
    [("jobs.subscribe", "subscription"), ("jobs.unsubscribe", "subscription"), ("queue.backup", "name")],
)
def test_an_id_or_a_name_with_any_other_character_is_refused(method: str, name: str, text: str) -> None:
    error = refused(request(method=method, params={name: text}))
    assert error.code == ErrorCode.INVALID_PARAMS

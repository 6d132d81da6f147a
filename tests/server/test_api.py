"""The HTTP API: which method a request stands for, and how its result and its errors are answered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_jobs
from support.http_client import Http, Response, http_site
from support.server import OWNER, WATCHER, Bench, Raw, handshake, make_service, patient
from support.waiting import deadline
from trio_jobs import Fail, NewJob, Service, Token
from trio_jobs._cli.json_source import decode_json
from trio_jobs._errors import OutcomeUnknown, QueueFull, StoreError
from trio_jobs._runtime.job_channel import JobChannel
from trio_jobs._runtime.queue import runtime_of
from trio_jobs._server.http_jobs import entity_tags, preferred_wait
from trio_jobs._server.problem_pages import problem_response
from trio_jobs._server.server import serve
from trio_jobs._wire.codes import ErrorCode
from trio_jobs._wire.http_params import DATES, idempotency_key, is_json, query_fields, read_query
from trio_jobs._wire.json_errors import what_is_wrong
from trio_jobs._wire.jsonrpc import RpcError, decode_request
from trio_jobs._wire.methods import METHODS
from trio_jobs._wire.problems import STATUSES, field_errors
from trio_jobs._wire.routes import NOT_OVER_HTTP, ROUTES, WITHIN, find_routes


@frozen
class Invoice:
    folio: str
    total_cents: int


def shop() -> Service:
    service = make_service()

    @service.handler
    async def invoice(payload: Invoice) -> str:
        return f"voucher of {payload.folio}"

    @service.handler
    async def refuse(why: str) -> None:
        raise Fail(why)

    return service


# routes


def test_each_method_has_a_path_or_belongs_to_a_connection() -> None:
    assert {route.method for route in ROUTES} | NOT_OVER_HTTP | WITHIN.keys() == set(METHODS)
    assert len({(route.verb, route.path) for route in ROUTES}) == len(ROUTES)


def test_a_get_stands_for_a_method_that_changes_nothing() -> None:
    reads = {"jobs.get", "jobs.find", "jobs.list", "jobs.count", "jobs.history", "jobs.subscribe", "kinds.list",
             "queue.activity", "queue.health", "queue.statistics"}  # fmt: skip
    assert {route.method for route in ROUTES if route.verb == "GET"} <= reads
    assert all(route.row.repeatable for route in ROUTES if route.verb == "GET")


def test_what_is_in_a_path_is_a_parameter_and_a_kind_has_letters_digits_dots_and_hyphens() -> None:
    for route in ROUTES:
        for name in route.names:
            assert name in route.row.params.__struct_fields__
    assert find_routes("/v1/kinds/a.b_c-1/jobs")[1] == {"kind": "a.b_c-1"}
    for path in ("/v1/kinds//jobs", f"/v1/kinds/{'a' * 201}/jobs", "/v1/kinds/a%2Fb/jobs", "/v1/kinds/a\n/jobs", "/v1/",
                 "/v1/jobs/", "/v1/jobs/a/b/c", "/v1/jobs/../kinds"):  # fmt: skip
        assert find_routes(path)[0] == {}, path


# submit and get


async def test_a_submit_answers_the_job_and_where_it_is() -> None:
    async with http_site(shop()) as (b, http):
        await b.queue.pause()
        answer = await http("POST", "/v1/kinds/invoice/jobs", {"folio": "A-1", "total_cents": 11600})
        job = answer.json
        assert (answer.status, job["kind"], job["state"]) == (202, "invoice", "pending")
        assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
        assert answer.headers["trio-jobs-created"] == "true"
        assert int(answer.headers["retry-after"]) >= 1
        assert (answer.headers["cache-control"], answer.headers["vary"]) == ("private, no-cache", "Authorization")
        assert job["payload"] == {"folio": "A-1", "total_cents": 11600}
        assert job["by"] == "ann"
        found = await http("GET", answer.headers["location"])
        assert (found.status, found.json) == (202, job)
        assert "trio-jobs-created" not in found.headers
        await b.queue.resume()
        done = await http("GET", f"{answer.headers['location']}?wait=30")
        assert (done.status, done.json["state"], done.json["result"]) == (200, "completed", "voucher of A-1")
        assert "retry-after" not in done.headers


async def test_a_failed_job_is_answered_with_200_and_its_error() -> None:
    async with http_site(shop()) as (_, http):
        answer = await http("POST", "/v1/kinds/refuse/jobs", "no", Prefer="respond-async, wait=30")
        assert (answer.status, answer.json["state"]) == (200, "failed")
        assert answer.headers["preference-applied"] == "wait=30"
        assert "result" not in answer.json


async def test_a_job_in_doubt_is_answered_with_202_and_not_waited_for(network_clock: MockClock) -> None:
    service = Service(async_sdk=_nothing)

    @service.handler(on_doubt="hold", attempt_timeout=1)
    async def hang(sdk: None, payload: int) -> None:
        await trio.sleep(10)

    async with http_site(service) as (_, http):
        answer = await http("POST", "/v1/kinds/hang/jobs", 1, Prefer="wait=20")
        assert (answer.status, answer.json["state"]) == (202, "in_doubt")
        assert trio.current_time() < 20


class _nothing:  # noqa: N801 - a factory
    def __init__(self) -> None: ...
    async def __aenter__(self) -> None: ...
    async def __aexit__(self, *_: object) -> None: ...


async def test_the_same_key_answers_the_same_job_and_another_payload_conflicts() -> None:
    async with http_site(shop()) as (_, http):
        first = await http("POST", "/v1/kinds/double/jobs", 3, Idempotency_Key="A-1")
        for other in (
            {"Idempotency_Key": '"A-1"'},
            {"path": "?key=A-1"},
            {"Idempotency_Key": "A-1", "path": "?key=A-1"},
        ):
            path = "/v1/kinds/double/jobs" + other.pop("path", "")
            again = await http("POST", path, 3, **other)
            assert again.headers["trio-jobs-created"] == "false"
            assert again.json["id"] == first.json["id"]
        conflict = await http("POST", "/v1/kinds/double/jobs", 4, Idempotency_Key="A-1")
        assert (conflict.status, conflict.problem) == (409, "key-conflict")
        assert (conflict.json["job"], conflict.json["key"]) == (first.json["id"], "A-1")
        both = await http("POST", "/v1/kinds/double/jobs?key=B", 3, Idempotency_Key="A")
        assert (both.status, both.problem) == (400, "invalid-params")
        greek = await http("POST", "/v1/kinds/double/jobs?key=%CE%B1%20%CE%B2", 3)
        assert greek.json["key"] == "\u03b1 \u03b2"
        assert (await http("GET", "/v1/jobs?key=A-1&kind=double")).json["jobs"][0]["id"] == first.json["id"]
        assert (await http("GET", "/v1/jobs?key=A-1&kind=wait")).json["jobs"] == []
        assert (await http("GET", "/v1/jobs?key=A-1&state=failed")).problem == "invalid-params"
        found = await http("GET", "/v1/jobs?key_prefix=%CE%B1")
        assert [job["id"] for job in found.json["jobs"]] == [greek.json["id"]]


@pytest.mark.parametrize(
    ("value", "key"),
    [("a", "a"), ('"a"', "a"), ('"a\\"b"', 'a"b'), ('"a\\\\b"', "a\\b"), ("a b", "a b"), ('""', None), ('"', None),
     ('"a', None), ('"a"b"', None), ("", None), ("a" * 501, None)],
)  # fmt: skip
def test_an_idempotency_key_is_bare_or_quoted(value: str, key: str | None) -> None:
    if key is None:
        with pytest.raises(RpcError):
            idempotency_key(value)
    else:
        assert idempotency_key(value) == key


async def test_the_other_parameters_of_a_submit_are_in_its_query() -> None:
    async with http_site(shop()) as (b, http):
        answer = await http(
            "POST", "/v1/kinds/double/jobs?delay=3600&deadline_after=7200&labels=shop=7&labels=a=b=c", 1
        )
        job = b.queue.get(answer.json["id"])
        assert (job.state, job.labels) == ("scheduled", {"shop": "7", "a": "b=c"})
        assert job.deadline_at is not None
        for query in ("delay=nan", "delay=Infinity", "delay=1&delay=2", "delay", "x=1", "kind=double", "payload=1",
                      "labels=a=1&labels=a=2", "key=%ff", "delay=-1", "delay=true", "wait=31"):  # fmt: skip
            refused = await http("POST", f"/v1/kinds/double/jobs?{query}", 1)
            assert (refused.status, refused.problem) == (400, "invalid-params"), query
        assert (await b.queue.count()).total == 1


async def test_a_payload_that_does_not_fit_names_the_field_by_a_json_pointer() -> None:
    async with http_site(shop()) as (b, http):
        answer = await http("POST", "/v1/kinds/invoice/jobs", {"folio": "A-1", "total_cents": "x"})
        assert (answer.status, answer.problem) == (422, "invalid-payload")
        assert [error["pointer"] for error in answer.json["errors"]] == ["/total_cents"]
        answer = await http("POST", "/v1/kinds/invoice/jobs", {"folio": "A-1", "total_cents": 1, "other": 2})
        assert answer.status == 422
        answer = await http("POST", "/v1/kinds/invoice/jobs", [])
        assert (answer.status, answer.json["errors"][0]["pointer"]) == (422, "")
        assert (await b.queue.count()).total == 0


async def test_a_pointer_begins_at_the_body_of_the_request_whatever_the_method() -> None:
    """RFC 9457. In a submit of one job the body is the payload."""
    async with http_site(shop()) as (b, http):
        wrong, good = {"folio": "A-1", "total_cents": "x"}, {"folio": "A-0", "total_cents": 1}
        jobs = [{"kind": "invoice", "payload": payload} for payload in (good, wrong)]
        answer = await http("POST", "/v1/bulk/submit", {"jobs": jobs})
        assert (answer.status, answer.json["errors"][0]["pointer"]) == (422, "/jobs/1/payload/total_cents")
        assert answer.json["detail"].startswith("jobs[1]: payload for 'invoice' refused: ")
        assert (await b.queue.count()).total == 0
        job = await b.queue.submit("refuse", "no")
        with pytest.raises(trio_jobs.JobFailed):
            await b.queue.result(job.job_id)
        answer = await http("POST", f"/v1/jobs/{job.job_id}/correct", {"payload": 7})
        assert (answer.status, answer.json["errors"][0]["pointer"]) == (422, "/payload")
        with pytest.raises(trio_jobs.InvalidPayload) as raised:
            await b.queue.submit_many([NewJob("invoice", good), NewJob("invoice", wrong)])
        assert raised.value.index == 1


def test_a_pointer_escapes_what_separates_its_parts() -> None:
    why = "Expected `int` - at `$.a/b[3].c~d`; Expected `str` - at `$[...]`; Expected `str` - at `key` in `$.a`; no"
    errors = field_errors(why)
    assert [error.pointer for error in errors] == ["/a~1b/3/c~0d", "/...", "/a", ""]


BAD_BODIES = {
    "nothing": b"",
    "not JSON": b"{",
    "two values": b"1 2",
    "more members": b'1, "key": "x"',
    "not UTF-8": b'"\xff"',
    "a byte order mark": b"\xef\xbb\xbf1",
    "NaN": b"NaN",
    "deep": b"[" * 100_000,
    "a lone surrogate": b'"\\ud800"',
}


@pytest.mark.parametrize("name", BAD_BODIES)
async def test_a_body_that_is_not_json_is_refused_and_the_connection_stays_open(name: str) -> None:
    async with http_site(shop()) as (b, http):
        answer = await http("POST", "/v1/kinds/double/jobs", body=BAD_BODIES[name])
        assert (answer.status, answer.problem) == (400, "parse")
        assert (await http("GET", "/v1/status")).status == 200
        assert (await b.queue.count()).total == 0


async def test_a_repeated_member_of_a_payload_means_the_last_one_as_over_the_websocket() -> None:
    async with http_site(shop()) as (b, http):
        text = b'{"folio": "A", "folio": "B", "total_cents": 1}'
        answer = await http("POST", "/v1/kinds/invoice/jobs", body=text)
        client = await b.raw()
        request = b'{"jsonrpc":"2.0","id":1,"method":"jobs.submit","params":{"kind":"invoice","payload":' + text + b"}}"
        await client.send(bytes(client.proto.send_data(request.decode())))
        told = (await client.message())["result"]["job"]
        assert b.queue.get(told).payload == b.queue.get(answer.json["id"]).payload
        await client.say_goodbye()


@pytest.mark.parametrize(
    ("content_type", "accepted"),
    [("application/json", True), ("Application/JSON; charset=UTF-8", True), ('application/json;charset="utf-8"', True),
     ("application/json; charset=latin-1", False), ("text/json", False), ("application/x-www-form-urlencoded", False),
     ("text/plain", False), ("application/jsonx", False), ("application/json, text/plain", False), (None, False),
     ("application/problem+json", False)],
)  # fmt: skip
async def test_a_body_of_another_media_type_is_refused(content_type: str | None, accepted: bool) -> None:
    assert is_json(content_type) is accepted
    async with http_site(shop()) as (b, http):
        answer = await http("POST", "/v1/kinds/double/jobs", 1, Content_Type=content_type)
        assert answer.status in ((200, 202) if accepted else (415,))
        assert (await b.queue.count()).total == accepted


async def test_a_form_without_a_body_is_refused_too() -> None:
    async with http_site(shop()) as (b, http):
        answer = await http(
            "POST", "/v1/queue/pause", Content_Type="application/x-www-form-urlencoded", Content_Length="0"
        )
        assert (answer.status, answer.problem) == (415, "unsupported-media-type")
        assert (await http("POST", "/v1/queue/pause")).status == 200
        assert runtime_of(b.queue).operations.paused is not None


# conditions


async def test_a_job_that_has_not_changed_is_answered_with_304() -> None:
    async with http_site(shop()) as (b, http):
        await b.queue.pause()
        path = (await http("POST", "/v1/kinds/double/jobs", 1)).headers["location"]
        seen = await http("GET", path)
        tag = seen.headers["etag"]
        assert tag.startswith('W/"')
        for value in (tag, tag.removeprefix("W/"), f'"x", {tag}', "*"):
            again = await http("GET", path, If_None_Match=value)
            assert (again.status, again.body, again.headers["etag"]) == (304, b"", tag)
        assert (await http("GET", path, If_None_Match='"x"')).status == 202
        assert (await http("GET", path, If_None_Match="x")).status == 400
        watcher = await Http(await b.socket(), WATCHER)("GET", path, If_None_Match=tag)
        assert watcher.status == 202
        assert watcher.headers["etag"] != tag
        await b.queue.resume()
        await b.queue.result(seen.json["id"])
        done = await http("GET", path, If_None_Match=tag)
        assert (done.status, done.json["state"]) == (200, "completed")


async def test_a_wait_with_a_tag_ends_with_the_next_change(network_clock: MockClock) -> None:
    async with http_site(shop()) as (b, http):
        await b.queue.pause()
        path = (await http("POST", "/v1/kinds/wait/jobs", 100)).headers["location"]
        tag = (await http("GET", path)).headers["etag"]
        same = await http("GET", f"{path}?wait=5", If_None_Match=tag)
        assert same.status == 304
        assert trio.current_time() == pytest.approx(5, abs=0.1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(b.queue.resume)
            other = await http("GET", f"{path}?wait=30", If_None_Match=tag)
        assert other.json["state"] == "processing"
        assert trio.current_time() < 10


@pytest.mark.parametrize("verb", ["cancel", "retry", "resolve"])
async def test_an_action_that_is_meant_for_the_job_as_it_was_is_refused(verb: str) -> None:
    async with http_site(shop()) as (b, http):
        await b.queue.pause()
        path = (await http("POST", "/v1/kinds/double/jobs", 1)).headers["location"]
        tag = (await http("GET", path)).headers["etag"]
        await b.queue.resume()
        await b.queue.result(path.rpartition("/")[2])
        body = {"resolution": "done"} if verb == "resolve" else {}
        refused = await http("POST", f"{path}/{verb}", body, If_Match=tag)
        assert (refused.status, refused.problem) == (412, "precondition-failed")
        assert (refused.json["state"], refused.headers["etag"] != tag) == ("completed", True)
        assert (await http("POST", f"{path}/{verb}", body, If_Match="*")).status == (200 if verb == "cancel" else 409)


@pytest.mark.parametrize("verb", ["correct", "reschedule"])
async def test_of_two_requests_with_the_same_tag_one_alone_is_done(verb: str, tmp_path: Path) -> None:
    """A journal commits in another thread, and in the meantime the second request is compared with the old state."""
    async with (
        shop().open(journal=tmp_path / "jobs.db") as queue,
        serve(queue, port=0, tokens=[OWNER], limits=patient()) as server,
        await trio.open_tcp_stream("127.0.0.1", server.port) as one,
        await trio.open_tcp_stream("127.0.0.1", server.port) as two,
    ):
        clients = [Http(Raw(stream), OWNER) for stream in (one, two)]
        await queue.pause()
        path = f"/v1/jobs/{(await queue.submit('invoice', Invoice('A', 1), delay=60)).job_id}"
        if verb == "correct":
            assert await queue.cancel(path.rpartition("/")[2]) == "cancelled"
        tag = (await clients[0]("GET", path)).headers["etag"]
        answers: list[Response] = []

        async def ask(client: Http, number: int) -> None:
            body = {"payload": {"folio": "A", "total_cents": number}} if verb == "correct" else {"delay": 60 * number}
            answers.append(await client("POST", f"{path}/{verb}", body, If_Match=tag))

        async with trio.open_nursery() as nursery:
            for number, client in enumerate(clients, 2):
                nursery.start_soon(ask, client, number)
        assert sorted(answer.status for answer in answers) == [200, 412]
        assert {answer.problem for answer in answers if answer.status == 412} == {"precondition-failed"}
        assert (await clients[0]("GET", path)).headers["etag"] != tag
        await queue.cancel(path.rpartition("/")[2])


@given(st.lists(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters='"'))))
def test_an_entity_tag_can_contain_commas(opaque: list[str]) -> None:
    tags = [f'{weak}"{text}"' for text in opaque for weak in ("", "W/")]
    assert entity_tags("if-match", " ,".join(tags) or None) == tags


@pytest.mark.parametrize("value", ["x", '"', '"a" "b"', '"a"x', 'w/"a"', '"a b"', '*"a"', '"a\x7f"'])
def test_other_entity_tags_are_refused(value: str) -> None:
    with pytest.raises(RpcError, match="header if-match is not a list of entity tags"):
        entity_tags("if-match", value)


# other methods


async def test_the_paths_of_the_queue_do_what_the_methods_do() -> None:
    async with http_site(shop()) as (b, http):
        assert (await http("POST", "/v1/queue/pause", {"reason": "month end"})).status == 200
        assert runtime_of(b.queue).operations.paused == "month end"
        path = (await http("POST", "/v1/kinds/double/jobs", 1)).headers["location"]
        status = (await http("GET", "/v1/status")).json
        assert status["jobs"]["pending"] == 1
        assert (await http("POST", f"{path}/cancel")).json["answer"] == "cancelled"
        assert (await http("GET", "/v1/counts?group=state")).json["groups"] == {"cancelled": 1}
        listed = await http("GET", "/v1/jobs?state=cancelled&limit=1&order=newest")
        assert [job["state"] for job in listed.json["jobs"]] == ["cancelled"]
        assert (await http("GET", "/v1/jobs?states=pending&states=failed")).json["jobs"] == []
        assert (await http("POST", f"{path}/retry", {})).json["state"] == "pending"
        assert (await http("POST", "/v1/queue/resume")).status == 200


async def test_the_kinds_are_listed_with_the_schemas_of_their_payloads() -> None:
    async with http_site(shop()) as (_, http):
        kinds = {one["kind"]: one["schema"] for one in (await http("GET", "/v1/kinds")).json["kinds"]}
        assert list(kinds) == sorted(kinds)
        assert kinds["double"] == {"type": "integer"}
        assert kinds["invoice"]["$ref"] in json.dumps(list(kinds["invoice"])) or kinds["invoice"]["$defs"]


async def test_an_error_of_a_method_is_a_problem_with_its_facts() -> None:
    async with http_site(shop()) as (b, http):
        missing = await http("GET", "/v1/jobs/0123456789abcdef")
        assert (missing.status, missing.problem, missing.json["job"]) == (404, "job-not-found", "0123456789abcdef")
        unknown = await http("POST", "/v1/kinds/nothing/jobs", 1)
        assert (unknown.status, unknown.problem) == (404, "unknown-kind")
        job = await b.queue.submit("double", 1)
        await b.queue.result(job.job_id)
        state = await http("POST", f"/v1/jobs/{job.job_id}/resolve", {"resolution": "done"})
        assert (state.status, state.problem, state.json["state"]) == (409, "invalid-state", "completed")
        assert (await http("POST", f"/v1/jobs/{job.job_id}/retry", {"job": "x"})).problem == "invalid-params"
        assert (await http("POST", f"/v1/jobs/{job.job_id}/retry", [])).problem == "invalid-params"
        watcher = Http(await b.socket(), WATCHER)
        denied = await watcher("POST", "/v1/kinds/double/jobs", 1)
        assert (denied.status, denied.problem) == (403, "permission-denied")
        path = await http("GET", "/v1/nothing")
        assert (path.status, path.problem) == (404, "no-such-path")
        method = await http("DELETE", f"/v1/jobs/{job.job_id}")
        assert (method.status, method.problem, method.headers["allow"]) == (
            405,
            "method-not-allowed",
            "GET, HEAD, OPTIONS",
        )


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        ("/v1/jobs", "GET, HEAD, OPTIONS"),
        ("/v1/kinds/double/jobs", "OPTIONS, POST"),
        ("/v1/events", "GET, HEAD, OPTIONS"),
    ],
)
async def test_options_has_the_same_methods_as_a_refusal(path: str, allow: str) -> None:
    async with http_site(shop(), origins=[ORIGIN]) as (_, http):
        refused = await http("DELETE", path)
        asked = await http("OPTIONS", path)
        flight = await http("OPTIONS", path, Origin=ORIGIN)
        assert (refused.status, asked.status, flight.status) == (405, 204, 204)
        assert refused.headers["allow"] == asked.headers["allow"] == flight.headers["allow"] == allow
        assert flight.headers["access-control-allow-methods"] == allow


WRONG_QUERIES = {
    "limit=ten": "parameter limit of the query must be a number, as in JSON",
    "since=2026-11-30": "parameter since of the query must be a number, as in JSON: seconds since 1970, UTC",
    "labels=company:acme": "parameter labels of the query must be written as labels=NAME=VALUE",
    "live=1": "there is no parameter 'live' in the query of /v1/jobs",
    "key=A&state=failed": "there is no parameter 'state' beside key in the query of /v1/jobs",
}


@pytest.mark.parametrize("query", WRONG_QUERIES)
async def test_a_wrong_query_is_refused_with_what_it_must_be(query: str) -> None:
    async with http_site(shop()) as (_, http):
        answer = await http("GET", f"/v1/jobs?{query}")
        assert (answer.status, answer.json["detail"]) == (400, WRONG_QUERIES[query])


def test_each_date_in_a_query_is_known_as_one() -> None:
    dates = {
        parameter["name"]
        for path in json.loads((Path(trio_jobs.__file__).parent / "openapi.json").read_text())["paths"].values()
        for operation in path.values()
        for parameter in operation.get("parameters", ())
        if parameter["in"] == "query" and "since the epoch" in json.dumps(parameter)
    }
    assert dates == DATES


@pytest.mark.parametrize(
    ("text", "place"),
    [(rb'"\ud800"', 1), (rb'"\ud83d\ude00 \uDBFFabcdefgh"', 14), (rb'"\udc00"', 1), (rb'"ab\ud800\u0041"', 3)],
)
def test_a_lone_surrogate_is_named(text: bytes, place: int) -> None:
    """The decoder says that the text is truncated."""
    wrong = what_is_wrong(ValueError("Input data was truncated"), text)
    assert wrong.endswith(f"; the escape at byte {place} is one half of a surrogate pair, and has no other half")
    with pytest.raises(RpcError, match=f"escape at byte {place} "):
        decode_request(text.decode())
    with pytest.raises(trio_jobs.UsageError, match=f"escape at byte {place} "):
        decode_json(text.decode(), "payload")
    assert what_is_wrong(ValueError("wrong"), rb'"\ud83d\ude00" x') == "wrong"


async def test_a_request_without_a_token_is_refused_before_its_body_is_read() -> None:
    async with http_site(shop()) as (b, _):
        http = Http(await b.socket(), None)
        head = http.encode("POST", "/v1/kinds/double/jobs", Content_Length="100", Expect="100-continue")
        await http.raw.send(head)
        answer = await http.raw.read_all()
        assert answer.startswith(b"HTTP/1.1 401 ")
        assert b"WWW-Authenticate: Bearer" in answer
        assert b"problem:unauthorized" in answer
        assert b"100 Continue" not in answer


def test_errors_that_pass_say_when_to_ask_again() -> None:
    full = problem_response("jobs.submit", QueueFull(100, 3, 2.5), submits=True)
    assert (full.status, dict(full.headers)["Retry-After"]) == (503, "3")
    store = problem_response("jobs.submit", StoreError("the disk is full"), submits=True)
    assert (store.status, dict(store.headers)["Retry-After"]) == (503, "5")
    for key, says in ((None, "may do the work twice"), ("A-1", "with the same key")):
        unknown = problem_response("jobs.submit", OutcomeUnknown("no answer"), key=key, submits=True)
        body = json.loads(unknown.body)
        assert (unknown.status, body["may_have_been_accepted"], says in body["detail"]) == (504, True, True)
        assert "Retry-After" in dict(unknown.headers)


def test_an_error_that_is_our_bug_is_not_described() -> None:
    page = problem_response("jobs.submit", ZeroDivisionError("a secret"))
    assert (page.status, b"secret" in page.body) == (500, False)


def test_each_error_of_the_protocol_has_a_status() -> None:
    client_errors = {ErrorCode.PARSE, ErrorCode.INVALID_REQUEST, ErrorCode.INVALID_PARAMS, ErrorCode.INVALID_CURSOR}
    assert set(STATUSES) | client_errors == set(ErrorCode)
    assert all(status >= 401 for status in STATUSES.values())


# limits


async def test_the_rate_limit_is_that_of_the_token_and_not_of_the_connection() -> None:
    async with http_site(limits=patient(messages=10, messages_per_second=0.001)) as (b, http):
        second = Http(await b.socket(), OWNER)
        for n in range(10):
            assert (await (http, second)[n % 2]("GET", "/v1/status")).status == 200
        for one in (http, second):
            refused = await one("GET", "/v1/status")
            assert (refused.status, refused.problem) == (429, "too-many")
            assert int(refused.headers["retry-after"]) > 1
        assert b.server.refusals["rate"] == 2
        assert (await Http(await b.socket(), WATCHER)("GET", "/v1/status")).status == 200


async def test_the_waits_of_a_token_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trio_jobs._server.accounts.MAX_IN_FLIGHT", 2)
    async with http_site(shop()) as (b, http):
        path = (await http("POST", "/v1/kinds/wait/jobs", 1000)).headers["location"]
        clients = [Http(await b.socket(), OWNER) for _ in range(2)]
        for client in clients:
            await client.raw.send(client.encode("GET", f"{path}?wait=30"))
        await wait_all_tasks_blocked(0.05)
        refused = await http("GET", f"{path}?wait=30")
        assert (refused.status, refused.json["limit"]) == (429, "in_flight")
        await clients[0].raw.stream.aclose()
        statuses: list[int] = []
        while not statuses or (statuses[-1] == 429 and len(statuses) < 100):
            await wait_all_tasks_blocked(0.01)
            statuses.append((await http("GET", f"{path}?wait=0.001")).status)
        assert statuses[-1] == 202, "a client that has gone keeps its place"
        await b.queue.cancel(path.rpartition("/")[2])


async def test_a_wait_ends_when_the_server_stops() -> None:
    async with shop().open() as queue:
        job = await queue.submit("wait", 1000)
        with deadline("the server stops"):
            async with serve(queue, port=0, tokens=[OWNER], limits=patient()) as server:
                http = Http(await Bench(queue, server).socket(), OWNER)
                await http.raw.send(http.encode("GET", f"/v1/jobs/{job.job_id}?wait=30"))
                await wait_all_tasks_blocked(0.05)
        assert (await http.raw.read_all()).startswith(b"HTTP/1.1 202 ")
        await http.raw.stream.aclose()
        await queue.cancel(job.job_id)


async def test_a_request_that_is_sent_during_a_wait_is_answered_after_it() -> None:
    async with http_site(shop()) as (b, http):
        await b.queue.pause()
        path = (await http("POST", "/v1/kinds/double/jobs", 1)).headers["location"]
        await http.raw.send(http.encode("GET", f"{path}?wait=30"))
        await wait_all_tasks_blocked(0.05)
        await http.raw.send(http.encode("GET", "/v1/status", Connection="close"))
        await wait_all_tasks_blocked(0.05)
        await b.queue.resume()
        answers = await http.raw.read_all()
        assert answers.index(b'"state":"completed"') < answers.index(b'"capacity"')


async def test_a_client_that_disconnects_at_any_byte_of_a_submit_leaves_a_job_only_at_the_last() -> None:
    async with http_site(shop(), limits=patient(messages=10_000)) as (b, http):
        data = http.encode("POST", "/v1/kinds/double/jobs", 12, Connection="close")
        for at in range(0, len(data), 7):
            client = await b.socket()
            await client.send(data[:at])
            await client.stream.send_eof()
            assert await client.read_all() == b""
            await client.stream.aclose()
        assert (await b.queue.count()).total == 0
        whole = await b.socket()
        await whole.send(data)
        assert (await whole.read_all()).startswith(b"HTTP/1.1 20")
        assert (await b.queue.count()).total == 1


# pages of other origins


ORIGIN = "https://shop.example"


async def test_a_page_of_a_listed_origin_may_use_the_api_without_credentials() -> None:
    async with http_site(shop(), origins=[ORIGIN]) as (_, http):
        answer = await http("POST", "/v1/kinds/double/jobs", 1, Origin=ORIGIN)
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        assert {"Location", "Retry-After", "ETag"} <= {*answer.headers["access-control-expose-headers"].split(", ")}
        assert "Origin" in answer.headers["vary"]
        assert "access-control-allow-credentials" not in answer.headers
        flight = await http("OPTIONS", "/v1/kinds/double/jobs", Origin=ORIGIN, Access_Control_Request_Method="POST")
        assert (flight.status, flight.headers["access-control-allow-methods"]) == (204, "OPTIONS, POST")
        assert "Idempotency-Key" in flight.headers["access-control-allow-headers"]


async def test_a_page_of_another_origin_changes_nothing() -> None:
    async with http_site(shop(), origins=[ORIGIN]) as (b, http):
        for headers in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {"Origin": f"{ORIGIN}.evil.example"},
                        {"Sec_Fetch_Site": "cross-site"}, {"Sec_Fetch_Site": "same-site"}):  # fmt: skip
            connection = Http(await b.socket(), OWNER)
            refused = await connection("POST", "/v1/kinds/double/jobs", 1, **headers)
            assert (refused.status, refused.problem) == (403, "forbidden-origin"), headers
            connection = Http(await b.socket(), OWNER)
            if "Origin" in headers:
                assert (await connection("OPTIONS", "/v1/jobs", **headers)).status == 403
        assert (await b.queue.count()).total == 0
        answer = await http("GET", "/v1/status", Origin="https://evil.example")
        assert "access-control-allow-origin" not in answer.headers
        assert (await http("POST", "/v1/queue/pause", Sec_Fetch_Site="same-origin")).status == 200


# pure rules


@given(st.text(max_size=60))
def test_any_query_is_read_or_refused(query: str) -> None:
    try:
        found = read_query(query)
    except RpcError as error:
        assert error.code == ErrorCode.INVALID_PARAMS
    else:
        assert all(values for values in found.values())


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [(["wait=5"], 5.0), (["respond-async", "Wait=7"], 7.0), (["wait=900"], 30.0), (['wait="3"; x=y'], 3.0), ([], None),
     (["wait=-1"], None), (["wait=nan"], None), (["wait"], None), (["waiting=3"], None)],
)  # fmt: skip
def test_a_preferred_wait_is_at_most_30_seconds(prefer: list[str], seconds: Any) -> None:
    assert preferred_wait(prefer) == seconds


def test_the_query_of_a_list_has_its_conditions() -> None:
    [route] = [route for route in ROUTES if route.method == "jobs.list"]
    fields = query_fields(route)
    assert (fields["states"], fields["labels"], fields["limit"], fields["key_prefix"]) == (
        "texts",
        "pairs",
        "json",
        "text",
    )


async def test_the_response_with_a_pending_job_takes_no_longer_with_more_pending_jobs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Retry-After is the estimate of the submit, or with many jobs that of the last one. To look a position up reads
    the whole channel."""
    async with http_site(shop()) as (b, http):
        await b.queue.pause()

        def position(_: object, record: object) -> int:
            raise AssertionError(record)

        monkeypatch.setattr(JobChannel, "position", position)
        for number in range(3):
            accepted = await http("POST", "/v1/kinds/double/jobs", number)
            assert (accepted.status, accepted.headers["retry-after"]) == (202, "1")
        monkeypatch.setattr("trio_jobs._server.http_jobs.MAX_LOOKED_UP", 2)
        asked = await http("GET", accepted.headers["location"])
        assert (asked.status, asked.headers["retry-after"]) == (202, "1")
        await b.queue.resume()


async def test_the_position_of_a_job_is_answered_on_request_and_without_a_tag() -> None:
    async with http_site(shop()) as (b, http):
        await b.queue.pause()
        paths = [(await http("POST", "/v1/kinds/double/jobs", n)).headers["location"] for n in range(3)]
        plain = await http("GET", paths[1])
        assert "position" not in plain.json
        for value in ("1", "true"):
            live = await http("GET", f"{paths[1]}?live={value}", If_None_Match=plain.headers["etag"])
            assert (live.status, live.json["position"], "etag" in live.headers) == (202, 2, False)
        assert (await http("GET", f"{paths[1]}?live=yes")).problem == "invalid-params"
        await b.queue.resume()


async def test_requests_without_a_token_are_limited_for_each_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trio_jobs._server.handshake.STRANGERS", 5)
    monkeypatch.setattr("trio_jobs._server.handshake.STRANGERS_PER_SECOND", 0.001)
    async with http_site(shop()) as (b, http):
        statuses = [(await Http(await b.socket(), None)("GET", "/healthz")).status for _ in range(6)]
        assert statuses == [200] * 5 + [429]
        refused = await Http(await b.socket(), None)("GET", "/v1/status")
        assert (refused.status, refused.problem, int(refused.headers["retry-after"]) > 1) == (429, "too-many", True)
        assert (await http("GET", "/v1/status")).status == 200


async def test_websocket_handshakes_without_a_token_are_limited_for_each_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the requests of HTTP, and before the handshake is answered. A client with a token is not concerned."""
    monkeypatch.setattr("trio_jobs._server.handshake.STRANGERS", 3)
    monkeypatch.setattr("trio_jobs._server.handshake.STRANGERS_PER_SECOND", 0.001)
    async with http_site(shop()) as (b, _):
        assert (await Http(await b.socket(), None)("GET", "/healthz")).status == 200
        heads: list[bytes] = []
        for _ in range(3):
            client = await b.socket()
            await client.send(handshake(Token("wrong-" + "9" * 20, "eve")))
            heads.append(await client.read_head())
            await client.stream.aclose()
        assert [head[:12] for head in heads] == [b"HTTP/1.1 101", b"HTTP/1.1 101", b"HTTP/1.1 429"]
        assert b"Retry-After: " in heads[-1]
        known = await b.raw()
        assert (await known.ask("server.hello"))["name"] == "ann"
        await known.stream.aclose()

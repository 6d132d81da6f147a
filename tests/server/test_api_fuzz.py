"""Any request of the HTTP API is answered without a server error, and a GET changes nothing."""

from __future__ import annotations

import json
from typing import Any, Final
from urllib.parse import quote

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from support.http_client import Http, http_site
from support.server import OWNER, make_service, patient
from trio_jobs._runtime.queue import runtime_of
from trio_jobs._wire.http_params import query_fields
from trio_jobs._wire.routes import ROUTES, Route

REQUESTS: Final = 15  #: of one queue
LASTING: Final = frozenset({"queue.drain", "queue.backup", "jobs.subscribe"})  #: they end the queue, or do not end

WORDS: Final = (
    *("double", "fail", "A-1", "null", "true", "0", "-1", "1e400", "NaN", "state", "pending", "in_doubt", "label:x"),
    *("a=b", "done", "\x00", ""),
)
TEXT: Final = st.one_of(st.sampled_from(WORDS), st.text(max_size=8))
JSON: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
TAGS: Final = st.sampled_from(["*", 'W/"x"', '"', "x", 'W/"a", "b"', ""])


@st.composite
def requests(draw: st.DrawFn) -> tuple[Route, str, dict[str, Any]]:
    """A route, the target, and the headers and the body of a request."""
    route = draw(st.sampled_from([route for route in ROUTES if route.method not in LASTING]))
    path = route.path
    for name in route.names:
        part = draw(st.sampled_from(["double", "fail", "JOB", "0123456789ab", "x"]))
        path = path.replace(f"{{{name}}}", part)
    names = [*query_fields(route), "key", "wait", "other"]
    given_ = draw(st.lists(st.tuples(st.sampled_from(names), TEXT), max_size=3))
    query = "&".join(f"{name}={quote(value)}" for name, value in given_ if name != "wait" or len(value) < 2)
    headers: dict[str, Any] = {}
    if route.verb == "POST":
        info = [field for field in route.row.params.__struct_fields__ if field not in route.names]
        objects = st.dictionaries(st.sampled_from([*info, "other"]), JSON, max_size=3)
        value = draw(st.one_of(JSON, objects))
        headers["body"] = draw(st.sampled_from([json.dumps(value).encode(), b"", b"{", b"\xff", b"[1,"]))
    for name in ("If_Match", "If_None_Match"):
        if draw(st.booleans()):
            headers[name] = draw(TAGS)
    if draw(st.booleans()):
        headers["Idempotency_Key"] = draw(st.sampled_from(["a", '"', '"a"', "", '"\\"']))
    return route, path + (f"?{query}" if query else ""), headers


async def check(sent: list[tuple[Route, str, dict[str, Any]]]) -> None:
    async with http_site(make_service(), limits=patient(messages=10_000, frames=20_000)) as (b, _):
        job = (await b.queue.submit("double", 1)).job_id
        await b.queue.result(job)
        for route, target, headers in sent:
            http = Http(await b.socket(), OWNER)
            await b.queue.resume()
            before = runtime_of(b.queue).feed.seq if route.verb == "GET" else None
            answer = await http(route.verb, target.replace("JOB", job), **headers)
            assert answer.status < 500, (route, target, headers, answer)
            if answer.status >= 400:
                assert answer.problem, (route, target, headers, answer)
            if before is not None and not any(
                state in b.queue.statistics().jobs for state in ("pending", "processing")
            ):
                assert runtime_of(b.queue).feed.seq == before
            http.raw.reset()


@settings(max_examples=10)
@given(st.lists(requests(), min_size=REQUESTS, max_size=REQUESTS))
def test_no_request_is_a_server_error(sent: list[tuple[Route, str, dict[str, Any]]]) -> None:
    trio.run(check, sent)


@pytest.mark.campaign
@settings(max_examples=700)
@given(st.lists(requests(), min_size=REQUESTS, max_size=REQUESTS))
def test_no_request_of_ten_thousand_is_a_server_error(sent: list[tuple[Route, str, dict[str, Any]]]) -> None:
    trio.run(check, sent)

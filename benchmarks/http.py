"""Submits over HTTP beside servers that do nothing but answer, and events over HTTP beside those over a websocket.

Ours reads, checks, submits, runs and answers a job for each request. An application of Starlette behind hypercorn (on
its Trio worker) and uvicorn reads the same request and sends a response that is made beforehand. The clients are in a
process of their own, each with one connection.
"""

from __future__ import annotations

from benchmarks.frame import Answer, Contestant, Run, Table, at_least, ratio

OURS, ACCEPTED = "trio-jobs", "trio-jobs, paused"
LIMIT, HYPERCORN = "raw Trio streams", "Starlette, hypercorn"
UVICORN, UVICORN_BEST = "Starlette, uvicorn, h11", "Starlette, uvicorn, httptools"
CLIENTS = 16
REQUESTS = 4000

SUBSCRIBERS = 100
DELIVERIES = 300_000
SOCKET, SSE = "WebSocket, one at a time", "server-sent events, one at a time"
SOCKET_TEN, SSE_TEN = "WebSocket, ten at a time", "server-sent events, ten at a time"

_MANY: dict[str, object] = {"clients": CLIENTS}
SUBMITS = (
    Contestant(LIMIT, "limit", ("http_submit", "limit"), REQUESTS, "parses nothing, sends the same bytes", _MANY),
    Contestant(OURS, "ours", ("http_submit", "ours"), REQUESTS, "as it comes: each job is run as well",
               {**_MANY, "runs": True}),
    Contestant(ACCEPTED, "ours", ("http_submit", "ours"), REQUESTS, "the queue is paused: jobs are only accepted",
               {**_MANY, "runs": False}),
    Contestant(HYPERCORN, "peer", ("http_asgi", "hypercorn"), REQUESTS, "its Trio worker; reads the JSON, and answers",
               _MANY, "peers", "hypercorn"),
    Contestant(UVICORN, "peer", ("http_asgi", "uvicorn"), REQUESTS, "asyncio; reads the JSON, and answers",
               {**_MANY, "loop": "asyncio"}, "peers", "uvicorn"),
    Contestant(UVICORN_BEST, "peer", ("http_asgi", "uvicorn"), REQUESTS, "best: uvloop",
               {**_MANY, "loop": "uvloop"}, "peers", "uvicorn"),
)  # fmt: skip


def measure(run: Run) -> Answer:
    submits = Table(
        f"Submits by {CLIENTS} clients", "requests/s", run.race(SUBMITS), against=(HYPERCORN, UVICORN),
        notes=("Only ours does something with the request.",),
    )  # fmt: skip
    updates = 20 if run.quick else DELIVERIES // SUBSCRIBERS
    fan = [
        Contestant(name, "ours", ("fan", action), 0, "to the same subscribers",
                   {"jobs": updates, "subscribers": SUBSCRIBERS, "burst": burst, **more})
        for name, action, burst, more in (
            (SOCKET, "ours", 1, {"frozen": 0}), (SSE, "sse", 1, {}),
            (SOCKET_TEN, "ours", 10, {"frozen": 0}), (SSE_TEN, "sse", 10, {}),
        )
    ]  # fmt: skip
    events = Table(f"Events to {SUBSCRIBERS} subscribers", "deliveries/s", run.race(fan), against=(SOCKET, SOCKET_TEN))
    targets = (
        at_least(
            "a submit over HTTP, of Starlette on hypercorn that only answers", ratio(submits, OURS, HYPERCORN), 0.8
        ),
        at_least("server-sent events, of the WebSocket, one at a time", ratio(events, SSE, SOCKET), 0.8),
        at_least("server-sent events, of the WebSocket, ten at a time", ratio(events, SSE_TEN, SOCKET_TEN), 0.8),
    )
    return Answer("http", "What does HTTP cost?", (submits, events), targets)


if __name__ == "__main__":
    raise SystemExit("run it as: ./run bench http")

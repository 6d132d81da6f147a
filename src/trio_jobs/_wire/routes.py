"""The paths of the HTTP API: one table, from which the server's router and the OpenAPI document are made.

Each path stands for a method of the protocol. A row whose method does not exist is left out.
"""

from __future__ import annotations

import re
from typing import Final, Literal, NamedTuple

from trio_jobs._wire.methods import METHODS, Method

__all__ = ["FIND", "NOT_OVER_HTTP", "PREFIX", "ROUTES", "SEGMENT", "WITHIN", "Route", "find_routes"]

PREFIX: Final = "/v1/"
SEGMENT: Final = re.compile(r"[A-Za-z0-9._-]{1,200}")  #: a kind or the id of a job within a path

#: Of one connection: there is nothing that they could mean in a request of its own.
NOT_OVER_HTTP: Final = frozenset({"server.hello", "server.login", "requests.cancel", "jobs.unsubscribe"})


class Route(NamedTuple):
    """A path and the method of the protocol that it stands for.

    verb: the HTTP method. path: with the names of parameters in braces. body: what the body of the request is: the
    other parameters as an object, the parameter `payload`, or nothing; the others are then in the query. answer: the
    result of the method, the job, or the events. conditional: it takes If-Match.
    """

    verb: Literal["GET", "POST"]
    path: str
    method: str
    body: Literal["none", "params", "payload"] = "none"
    answer: Literal["result", "job", "events"] = "result"
    conditional: bool = False

    @property
    def row(self) -> Method:
        """The method."""
        return METHODS[self.method]

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters that are in the path."""
        return tuple(re.findall(r"\{(\w+)\}", self.path))


def _get(path: str, method: str, answer: Literal["result", "job", "events"] = "result") -> Route:
    return Route("GET", path, method, "none", answer)


def _post(path: str, method: str, *, conditional: bool = False) -> Route:
    return Route("POST", path, method, "params", conditional=conditional)


_ALL: Final = (
    Route("POST", "/v1/kinds/{kind}/jobs", "jobs.submit", "payload", "job"),
    _get("/v1/kinds", "kinds.list"),
    _get("/v1/jobs", "jobs.list"),
    _get("/v1/counts", "jobs.count"),
    _get("/v1/jobs/{job}", "jobs.get", "job"),
    _get("/v1/jobs/{job}/history", "jobs.history"),
    _post("/v1/jobs/{job}/cancel", "jobs.cancel", conditional=True),
    _post("/v1/jobs/{job}/retry", "jobs.retry", conditional=True),
    _post("/v1/jobs/{job}/resolve", "jobs.resolve", conditional=True),
    _post("/v1/jobs/{job}/reschedule", "jobs.reschedule", conditional=True),
    _post("/v1/jobs/{job}/correct", "jobs.correct", conditional=True),
    _post("/v1/jobs/{job}/verify", "jobs.verify", conditional=True),
    _post("/v1/jobs/{job}/claim", "jobs.claim", conditional=True),
    _post("/v1/jobs/{job}/forget", "jobs.forget", conditional=True),
    _post("/v1/bulk/submit", "jobs.submit_many"),
    _post("/v1/bulk/cancel", "jobs.cancel_many"),
    _post("/v1/bulk/retry", "jobs.retry_many"),
    _post("/v1/queue/pause", "queue.pause"),
    _post("/v1/queue/resume", "queue.resume"),
    _post("/v1/queue/drain", "queue.drain"),
    _post("/v1/queue/undrain", "queue.undrain"),
    _post("/v1/queue/backup", "queue.backup"),
    _get("/v1/status", "queue.statistics"),
    _get("/v1/health", "queue.health"),
    _get("/v1/activity", "queue.activity"),
    _get("/v1/events", "jobs.subscribe", "events"),
    _post("/v1/tickets", "tickets.create"),
    _post("/v1/tickets/revoke", "tickets.revoke"),
)

#: A list with the parameter `key` is the list of the job that has this key.
FIND: Final = _get("/v1/jobs", "jobs.find")

#: What is a part of the answer of a path
WITHIN: Final = {"jobs.find": "/v1/jobs", "jobs.result": "/v1/jobs/{job}"}

ROUTES: Final = tuple(route for route in _ALL if route.method in METHODS)

_PATTERNS: Final = tuple(
    (re.compile(re.sub(r"\{(\w+)\}", rf"(?P<\1>{SEGMENT.pattern})", route.path)), route) for route in ROUTES
)


def find_routes(path: str) -> tuple[dict[str, Route], dict[str, str]]:
    """The routes of a path by their HTTP method, and the parameters in it. No route: there is no such path."""
    routes: dict[str, Route] = {}
    values: dict[str, str] = {}
    for pattern, route in _PATTERNS:
        found = pattern.fullmatch(path)
        if found is not None:
            routes[route.verb] = route
            values = found.groupdict()
    return routes, values

"""The requests of one connection that are not answered yet, and the order in which they are sent.

The server allows a number of requests in flight. Submits may wait there for a slot, and requests for a result until the
job is final. So that neither keeps the other or a brief request waiting, each lane has places of its own:
`submit` and `wait` less than half of all each, `brief` those and what the others leave free. The lanes take turns; in a
lane, requests are sent in their order.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Final, Literal

import trio

from trio_jobs._wire.jsonrpc import Answer
from trio_jobs._wire.params import Params

__all__ = ["Lane", "Outbox", "Request"]

Lane = Literal["brief", "submit", "wait"]
LANES: Final[tuple[Lane, ...]] = ("brief", "submit", "wait")


class Request:
    """A request, until it is answered.

    Args:
        method: The method.
        params: Makes the parameters when the request is sent. Its argument is the longest `wait` that is sensible.
        lane: `submit` or `wait` if the server may wait before it answers.
        bounded: The server answers within its `wait` and a time that does not depend on jobs or the size of a journal.
        until: On Trio's clock: a submit that is not sent by then moves to the lane `brief`, for it no longer waits.
        on_answer: Called with the answer before later messages are handled.
    """

    __slots__ = (
        "abandoned", "bounded", "done", "expires_at", "in_flight", "lane", "method", "on_answer", "outcome", "params",
        "refused_at", "sent_at", "size", "turn_over", "until",
    )  # fmt: skip

    def __init__(
        self,
        method: str,
        params: Callable[[float], Params],
        lane: Lane = "brief",
        *,
        bounded: bool = True,
        until: float = float("inf"),
        on_answer: Callable[[Answer], None] | None = None,
    ) -> None:
        self.method: Final = method
        self.params: Final = params
        self.lane: Lane = lane
        self.bounded: Final = bounded
        self.until: Final = until
        self.on_answer: Final = on_answer
        self.done = trio.Event()
        self.outcome: Answer | Exception | None = None
        self.abandoned = False  # nobody waits for the answer any more
        self.turn_over = False  # it was cancelled to let others wait, and is to be sent again
        self.in_flight = False
        self.refused_at: float | None = None  # when the server first refused it because of a limit
        self.sent_at = 0.0
        self.expires_at = float("inf")
        self.size = 0

    def end(self, outcome: Answer | Exception) -> None:
        """The request has come to its end. Later calls do not change the outcome."""
        if self.outcome is None:
            self.outcome = outcome
            self.done.set()
            if self.on_answer is not None and isinstance(outcome, Answer):
                self.on_answer(outcome)


class Outbox:
    """The requests that wait to be sent.

    Args:
        in_flight: How many requests the server allows in flight.
    """

    def __init__(self, in_flight: int) -> None:
        self._lanes: dict[Lane, OrderedDict[Request, None]] = {lane: OrderedDict() for lane in LANES}
        self._used: dict[Lane, int] = dict.fromkeys(LANES, 0)
        self._turn = 0
        self._in_flight = 0
        self.waiting = 0
        """The number of requests that wait."""
        self.allow(in_flight)

    def __iter__(self) -> Iterator[Request]:
        for lane in LANES:
            yield from self._lanes[lane]

    def allow(self, in_flight: int) -> None:
        """Change how many requests are allowed in flight. A few of them are left free, for answers under way."""
        self._most = max(1, in_flight - in_flight // 16)
        self._places: dict[Lane, int] = {
            "brief": self._most,
            "submit": max(1, self._most * 7 // 15),
            "wait": max(1, self._most * 7 // 15),
        }

    def add(self, request: Request, *, first: bool = False) -> None:
        """Let a request wait at the end of its lane, or at the start."""
        lane = self._lanes[request.lane]
        lane[request] = None
        self.waiting += 1
        if first:
            lane.move_to_end(request, last=False)

    def remove(self, request: Request) -> bool:
        """Remove a request. Returns False if it does not wait, such as one that is in flight."""
        lane = self._lanes[request.lane]
        if request not in lane:
            return False
        del lane[request]
        self.waiting -= 1
        return True

    def next(self) -> Request | None:
        """The request to be sent next; None if none waits that has a place."""
        if self.waiting and self._in_flight < self._most:
            for i in range(len(LANES)):
                lane = LANES[(self._turn + i) % len(LANES)]
                if self._lanes[lane] and self._used[lane] < self._places[lane]:
                    return next(iter(self._lanes[lane]))
        return None

    def take(self, request: Request) -> None:
        """Give the request a place, which `release` gives back. The next lane has the next turn."""
        self.remove(request)
        self._used[request.lane] += 1
        self._in_flight += 1
        self._turn = (LANES.index(request.lane) + 1) % len(LANES)

    def release(self, request: Request) -> None:
        self._used[request.lane] -= 1
        self._in_flight -= 1

    def crowding(self) -> int:
        """How many requests of the lane `wait` have no place because others of it wait at the server."""
        full = self._used["wait"] >= self._places["wait"]
        return len(self._lanes["wait"]) if full else 0

    def stop_waiting(self, now: float) -> None:
        """Move the submits whose wait is over to the lane `brief`."""
        for request in [r for r in self._lanes["submit"] if r.until <= now]:
            self.remove(request)
            request.lane = "brief"
            self.add(request)

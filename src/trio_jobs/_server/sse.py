"""Server-sent events: the subscription of one HTTP request, from its first block to its end.

A browser's EventSource connects again by itself after the end of a stream, but never after a response with an error.
So a refusal that passes is a stream that ends at once and names a longer time until the next attempt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NoReturn, final

import trio

from trio_jobs._backend import Backend
from trio_jobs._concurrency import WakeUp
from trio_jobs._engine.event_cursor import Filter
from trio_jobs._engine.progress import Progress
from trio_jobs._server.accounts import Account
from trio_jobs._server.followed_jobs import FollowedJobs
from trio_jobs._server.http_connection import UntilGone
from trio_jobs._server.http_context import HttpContext
from trio_jobs._server.identity import Identity
from trio_jobs._server.newest_progress import NewestProgress
from trio_jobs._server.pacing import Pacer
from trio_jobs._server.shared_events import EventsByScope, SharedEvents
from trio_jobs._server.stream import GuardedStream
from trio_jobs._server.stream_formats import SseFormat
from trio_jobs._server.subscriber import Subscriber
from trio_jobs._wire import methods as w
from trio_jobs._wire.codes import ErrorCode
from trio_jobs._wire.jsonrpc import RpcError
from trio_jobs._wire.sse import MEDIA_TYPE, encode_retry, read_id

__all__ = ["SseContext", "SseParts", "SseStream", "later", "start_of_stream"]

KEEP_ALIVE: Final = 15.0  #: seconds between two blocks; proxies commonly close a silent connection after 60 seconds
RETRY: Final = 1000  #: milliseconds after which a client connects again
JITTER: Final = 1000  #: milliseconds by which that differs between clients, which a restart disconnects together
BATCH: Final = 100  #: streams that are looked at in one step of the event loop
RETRY_LATER: Final = 15_000  #: milliseconds after a refusal that passes


#: nginx buffers a response without X-Accel-Buffering
HEADERS: Final = (
    ("Content-Type", MEDIA_TYPE),
    ("Cache-Control", "no-store, no-transform"),
    ("X-Accel-Buffering", "no"),
    ("X-Content-Type-Options", "nosniff"),
    ("Connection", "close"),
)


def head_of_stream(*more: tuple[str, str]) -> bytes:
    """The head of a response that ends with the connection."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in (*HEADERS, *more))
    return f"HTTP/1.1 200 OK\r\n{lines}\r\n".encode("ascii")


def start_of_stream(query: Mapping[str, list[str]], last_event_id: str | None) -> dict[str, list[str]]:
    """The query of a request for events as the parameters of jobs.subscribe.

    Args:
        query: The result of `read_query`.
        last_event_id: The header, which wins over the parameter `after`.

    Raises:
        RpcError: The id is malformed, or a parameter is none of this path.
    """
    params = dict(query)
    for name in ("epoch", "subscription"):
        if name in params:
            raise RpcError(ErrorCode.INVALID_PARAMS, f"there is no parameter {name!r} in the query of /v1/events")
    given = params.pop("after", None)
    after = last_event_id or (None if given is None else given[-1])
    if after is not None:
        found = read_id(after)
        if found is None:
            raise RpcError(ErrorCode.INVALID_PARAMS, "the id of an event is epoch/seq; the epoch must not be left out")
        params |= {"epoch": [found[0]], "after": [str(found[1])]}
    return {**params, "subscription": ["s"]}


@final
class SseParts:
    """What the streams of a server share.

    Args:
        backend: The queue.
        events: The encoded events.
        pacer: Runs the steps of snapshots.
        followed: Counts the jobs of filters.
        chance: Returns a number from 0 to 1.
    """

    def __init__(
        self,
        backend: Backend,
        events: EventsByScope,
        pacer: Pacer,
        followed: FollowedJobs,
        chance: Callable[[], float],
    ) -> None:
        self.backend = backend
        self.events = events
        self.pacer = pacer
        self.followed = followed
        self.chance = chance
        self.open: dict[SseStream, None] = {}

    async def close_strangers(self, problem: Callable[[Identity], object]) -> None:
        """End the streams of clients that are not accepted any more. problem: says why one is not; None if it is."""
        for number, stream in enumerate([*self.open], 1):
            if problem(stream.identity) is not None:
                stream.end()
            if number % BATCH == 0:
                await trio.lowlevel.checkpoint()

    def on_progress(self, news: Progress) -> None:
        """Send a job's progress to the streams."""
        for stream in self.open:
            stream.on_progress(news)


@final
class SseContext:
    """Conforms to `RequestContext`: a request that becomes a stream.

    Args:
        context: Of the request.
        parts: What the streams share.
        on_news: Called when something can be sent.
    """

    def __init__(self, context: HttpContext, parts: SseParts, on_news: Callable[[Subscriber, bool], None]) -> None:
        self.identity: Identity = context.identity
        self.limits = context.limits
        self._parts = parts
        self._on_news = on_news

    def cancel_request(self, request_id: object) -> bool:
        return False

    def subscribe(self, params: w.Subscribe, wanted: Filter, after: int) -> Subscriber:
        parts = self._parts
        parts.followed.add("", wanted, {})
        return Subscriber(
            "",
            parts.backend,
            parts.events.of(self.identity.scope).bodies,
            parts.pacer,
            wanted,
            after,
            self._on_news,
            format=SseFormat(parts.backend.epoch),
        )

    def unsubscribe(self, subscription: str) -> NoReturn:
        raise RpcError(ErrorCode.UNKNOWN_METHOD, "close the connection to end the stream")


@final
class SseStream:
    """The stream of one request.

    Args:
        parts: What the streams share.
        shared: The events as the client is sent them.
        account: Of the token.
        identity: The client.
    """

    def __init__(self, parts: SseParts, shared: SharedEvents, account: Account, identity: Identity) -> None:
        self.identity = identity
        self._is_ended = False
        self._parts = parts
        self._shared = shared
        self._account = account
        self._news = WakeUp()
        self._is_ready = True
        self._progress = NewestProgress()
        self._subscriber: Subscriber | None = None
        self._stream: GuardedStream | None = None
        self._gap: w.Lagged | None = None

    def begin(self, subscriber: Subscriber, gap: w.Lagged | None) -> None:
        """Set the subscription. gap: the events that are lost, which the client is sent first."""
        self._subscriber = subscriber
        self._gap = gap

    def end(self) -> None:
        """Send nothing more, and end the stream."""
        self._is_ended = True
        self._news.set()

    def on_news(self, subscriber: Subscriber, at_once: bool) -> None:
        stream = self._stream
        if stream is None or self._is_ended:
            return
        if at_once and stream.free and not self._is_ready:
            sent = subscriber.collect_nowait()
            if sent:
                stream.send_nowait(b"".join(sent))
            if sent is not None and subscriber.caught_up:
                subscriber.join(self._shared.multicasts, stream)
                return
        self._is_ready = True
        self._news.set()

    def on_progress(self, news: Progress) -> None:
        self._progress.put(news)
        self._news.set()

    async def run(self, until_gone: UntilGone, headers: tuple[tuple[str, str], ...], stream: GuardedStream) -> None:
        """Send the head and the events until the client disconnects or the server stops.

        Args:
            until_gone: See `HttpRequest`.
            headers: Further headers.
            stream: For output.

        Raises:
            trio.BrokenResourceError: The connection is lost.

        Cancelled:
            A block may have been sent in part.
        """
        subscriber, parts = self._subscriber, self._parts
        assert subscriber is not None
        self._stream = stream
        stream.on_rest = self._news.set
        retry = encode_retry(RETRY + int(JITTER * parts.chance()))
        gap = b"" if self._gap is None else subscriber.notification("jobs.lagged", self._gap)
        begin = b"" if self._gap is not None or not subscriber.can_resume else self._position(subscriber)
        parts.open[self] = None
        try:
            with self._account.wait():
                await stream.send_frames(head_of_stream(*headers) + retry + begin + gap)
                subscriber.begin()
                await until_gone(self.pump)
            if not self._is_ended:
                await self._send_rest(stream, subscriber)
        finally:
            del parts.open[self]
            subscriber.end()
            parts.followed.remove(subscriber)

    async def pump(self) -> None:
        """Send what is available, and a block every 15 seconds."""
        subscriber, stream = self._subscriber, self._stream
        assert subscriber is not None
        assert stream is not None
        self._news.set()
        while True:
            with trio.move_on_after(KEEP_ALIVE) as scope:
                await self._news.wait()
            if self._is_ended:
                return
            if scope.cancelled_caught:
                await stream.send_made(self._keep_alive)
                continue
            await stream.flush()
            while self._is_ready and not self._is_ended:
                sent = await subscriber.collect()
                if sent:
                    await stream.send_all_of(b"".join(sent))
                if subscriber.caught_up:
                    self._is_ready = False
                    subscriber.join(self._shared.multicasts, stream)
            if self._progress:
                news = [subscriber.progress(progress) for progress in self._progress.take()]
                await stream.send_frames(b"".join(block for block in news if block is not None))

    def _keep_alive(self) -> bytes:
        """The position of a stream that is up to date: a client whose filter matches few events can resume there."""
        subscriber = self._subscriber
        assert subscriber is not None
        return self._position(subscriber) if subscriber.caught_up and not self._is_ready else b":\n\n"

    def _position(self, subscriber: Subscriber) -> bytes:
        """Not for a ticket: how many events other jobs have had is not told."""
        return subscriber.position() if self.identity.ticket is None else b":\n\n"

    async def _send_rest(self, stream: GuardedStream, subscriber: Subscriber) -> None:
        """The events that were available when the server stopped; none behind a snapshot that may have lost a page."""
        if stream.dead or stream.silent:
            return
        await stream.flush()
        subscriber.leave()
        while subscriber.can_resume:
            sent = await subscriber.collect()
            if sent:
                await stream.send_frames(b"".join(sent))
            if subscriber.caught_up:
                return


async def later(headers: tuple[tuple[str, str], ...], stream: GuardedStream) -> None:
    """A refusal that passes: a stream that ends at once. Arguments: as of `SseStream.run`."""
    await stream.send_frames(head_of_stream(*headers) + encode_retry(RETRY_LATER))

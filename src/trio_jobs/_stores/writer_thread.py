"""Group commit, part two: the thread that owns the log and commits groups of events.

The thread does not wait for a group to fill. It commits what is queued; what arrives during the sync is the next group.
Between two groups it serves one read request (a page, a step of a prune or backup), so that a reader delays a commit by
one request at most. A deferred sync runs beside the next group or request, or after a short idle time.

After a failed commit the thread lets the log find out what is committed, reports the failure, and waits for a
`Replacement`: submits of the failed group are rejected, so the runtime must say what is to be written in their place.
"""

from __future__ import annotations

import contextvars
import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from queue import Empty
from typing import Any, Final, Protocol

import attrs
import outcome
import trio

from trio_jobs._engine.error_info import describe
from trio_jobs._engine.events import Event
from trio_jobs._errors import StoreError
from trio_jobs._log import Log
from trio_jobs._stores.durable_log import DurableLog, LogFailure
from trio_jobs._stores.writer_inbox import WriterInbox

__all__ = ["CLOSE", "Item", "Opened", "ReadRequest", "Replacement", "StoreListener", "WriterThread"]

log: Final = Log("trio_jobs.journal")

MAX_GROUP: Final = 2000  #: events in one group: about 20 ms
MAX_RECOVERIES: Final = 3  #: attempts to recover the log after a failure
RETRY_DELAYS: Final = (0.0, 0.1, 0.2, 0.5, 1.0, 2.0)  #: seconds before the next attempt after 1, 2, ... failures

Opened = outcome.Value[Iterable[Event]] | outcome.Error


@attrs.frozen(eq=False)
class ReadRequest:
    """A call to make between two groups."""

    run: Callable[[], Any]
    """Runs in the writer thread."""
    on_result: Callable[[outcome.Value[Any] | outcome.Error], None]
    """Receives the outcome of `run`, in Trio's thread."""


@attrs.frozen(eq=False)
class Replacement:
    """The answer to `StoreListener.on_failed`."""

    events: Sequence[Event]
    """The events to write in place of all events that were queued before and are not committed."""


class _Close:
    """Request to commit what was queued before it and end the thread."""


CLOSE: Final = _Close()
Item = Sequence[Event] | ReadRequest | Replacement | _Close


class StoreListener(Protocol):
    """What the writer thread reports to. The methods are called in Trio's thread, in order."""

    def on_opened(self, result: Opened) -> None:
        """The log is open, or could not be opened; then `on_closed` follows."""

    def on_committed(self, events: Sequence[Event]) -> None:
        """These events are committed."""

    def on_failed(self, error: StoreError) -> None:
        """A commit failed and nothing of it is committed. The thread waits for a `Replacement`."""

    def on_broken(self, error: BaseException) -> None:
        """Nothing can be committed any more."""

    def on_closed(self) -> None:
        """The thread has ended and released the log."""


class WriterThread:
    """The thread of one opened log. Everything is passed to it through `inbox`.

    Args:
        log: Used by this thread alone from now on.
        listener: Notified of everything that the thread does.
        post: Has a function called in Trio's thread, with the arguments that follow it; see `LoopCalls.post`.
    """

    def __init__(self, log: DurableLog, listener: StoreListener, post: Callable[..., None]) -> None:
        self.inbox: WriterInbox[Item] = WriterInbox()
        self._log = log
        self._listener = listener
        self._post = post
        self._retry_now = threading.Event()
        self._is_abandoned = False
        self._is_closing = False
        self._requests: deque[ReadRequest] = deque()
        self._failures = 0
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread. It opens the log first.

        Raises:
            RuntimeError: The system has no more threads. The method can be called again.
        """
        # in the caller's context, which decides where a simulated queue logs
        context = contextvars.copy_context()
        # a daemon: a sync that never returns must not keep the process from exiting
        thread = threading.Thread(target=context.run, args=(self._run,), name="trio-jobs journal", daemon=True)
        thread.start()
        self._thread = thread

    def abandon(self) -> None:
        """End the thread as soon as possible, without what cannot be committed at the first attempt."""
        self._is_abandoned = True
        self._retry_now.set()
        self.inbox.put(CLOSE)

    def join(self, timeout: float) -> None:
        """Block until the thread has ended, for at most `timeout` seconds."""
        if self._thread is not None:
            self._thread.join(timeout)

    # everything below runs in the writer thread

    def _notify(self, fn: Callable[..., None], *args: Any) -> None:
        """Have a method of the listener, or of a request, called in Trio's thread."""
        try:
            self._post(fn, *args)
        except trio.RunFinishedError:  # Trio has ended without closing the store
            self._is_abandoned = self._is_closing = True

    def _run(self) -> None:
        """Open the log, serve the inbox, close the log."""
        try:
            result = outcome.capture(self._log.open)
            self._notify(self._listener.on_opened, result)
            if isinstance(result, outcome.Value):
                self._serve()
        except BaseException as error:
            self._notify(self._listener.on_broken, error)
            log.error("%s: the writer thread has ended: %s", self._log.name, describe(error))
        finally:
            try:
                self._log.close()
            except BaseException as error:  # whoever waits for the end of the thread would wait for ever
                log.error("%s: not everything of it could be closed: %s", self._log.name, describe(error))
            self.inbox.close()
            self._notify(self._listener.on_closed)

    def _serve(self) -> None:
        """Commit groups, and serve one read request after each, until closed or abandoned."""
        group: list[Event] = []
        while True:
            if not group:
                if self._is_closing and not self._requests:
                    return
                self._collect(group, wait=not self._requests and not self._is_closing)
            if group:
                group = self._commit(group)
                if self._is_abandoned:
                    return
            if self._requests:
                self._answer(self._requests.popleft())

    def _collect(self, group: list[Event], *, wait: bool) -> None:
        """Move what is queued into `group` and `_requests`; with `wait`, at least one item."""
        inbox = self.inbox
        try:
            item = self._next_item() if wait else inbox.get_nowait()
            while True:
                if isinstance(item, ReadRequest):
                    self._requests.append(item)
                elif isinstance(item, _Close):
                    self._is_closing = True
                else:
                    assert not isinstance(item, Replacement), "a replacement without a failed commit"
                    group.extend(item)
                    if len(group) >= MAX_GROUP:
                        return
                if inbox.empty():  # cheaper than the exception
                    return
                item = inbox.get_nowait()
        except Empty:
            return

    def _next_item(self) -> Item:
        """Wait for an item; start the deferred sync if none arrives in time."""
        wait = self._log.deferred_sync_wait
        if wait is not None:
            try:
                return self.inbox.get(timeout=wait)
            except Empty:
                self._log.start_deferred_sync()
        return self.inbox.get()

    def _commit(self, group: list[Event]) -> list[Event]:
        """Commit a group. Return the events to commit next in its place: none, unless it failed."""
        try:
            self._log.write(group)
        except LogFailure as failure:
            return self._handle_failure(group, failure)
        self._failures = 0
        self._notify(self._listener.on_committed, group)
        return []

    def _handle_failure(self, group: list[Event], failure: LogFailure) -> list[Event]:
        """Find out whether the group is committed. If not, report it and wait for its replacement."""
        before = self._log.last_seq
        log.error("%s (commit of events %d to %d)", failure, group[0].seq, group[-1].seq)
        self._recover(failure)
        if self._log.last_seq > before:  # all of it: a group is one transaction
            self._notify(self._listener.on_committed, group)
            return []
        self._notify(self._listener.on_failed, StoreError(str(failure)))
        if self._is_abandoned:
            return []
        replacement = self._wait_for_replacement()
        self._retry_now.wait(RETRY_DELAYS[min(self._failures, len(RETRY_DELAYS) - 1)])
        self._failures += 1
        return replacement

    def _answer(self, request: ReadRequest) -> None:
        """Serve a read request."""
        self._log.start_deferred_sync()  # a steady stream of requests must not delay it
        result = outcome.capture(request.run)
        if isinstance(result, outcome.Error) and isinstance(result.error, LogFailure):
            failure = result.error
            result = outcome.Error(StoreError(str(failure)))
            self._recover(failure)
        self._notify(request.on_result, result)

    def _recover(self, failure: LogFailure) -> None:
        """Make the log usable after a failure. Raises `StoreError` when that is impossible."""
        for attempt in itertools.count(1):
            try:
                self._log.recover(failure)
                return
            except LogFailure as error:
                log.error("%s: recovery failed (attempt %d): %s", self._log.name, attempt, error.reason)
                if attempt == MAX_RECOVERIES or self._is_abandoned:
                    raise StoreError(f"{self._log.name} cannot be reopened: {error.reason}") from error
                self._retry_now.wait(RETRY_DELAYS[attempt])

    def _wait_for_replacement(self) -> list[Event]:
        """Drop queued events up to the next `Replacement`, which contains them; keep everything else."""
        while True:
            item = self.inbox.get()
            if isinstance(item, Replacement):
                return list(item.events)
            if isinstance(item, ReadRequest):
                self._requests.append(item)
            elif isinstance(item, _Close):
                self._is_closing = True
                if self._is_abandoned:
                    return []

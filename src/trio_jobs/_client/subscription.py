"""The reader's end of a subscription."""

from __future__ import annotations

from typing import final

from trio_jobs._client.receiver import Receiver
from trio_jobs._client.updates import Update

__all__ = ["Subscription"]


@final
class Subscription:
    """A stream of events that survives reconnects: `async for update in subscription`. Made by `Client.subscribe`.

    It yields the events of `trio_jobs.events`, in order and each once, and `Progress`, `Snapshot` and `Gap`. Only one
    task may read it.

    Raises:
        TrioJobsError: The server has rejected the subscription, such as `PermissionDenied` or `ConnectionFailed`.
        trio.BusyResourceError: Another task waits for the next update, and goes on waiting.

    Cancelled:
        Nothing is lost: the next iteration yields what this one would have yielded.
    """

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    def __repr__(self) -> str:
        return f"<Subscription after event {self.seq} of {self.epoch}, {len(self._receiver)} updates waiting>"

    @property
    def seq(self) -> int:
        """The last event that was read. A subscription with `after=seq` and `epoch=epoch` continues there."""
        return self._receiver.read.seq or 0

    @property
    def epoch(self) -> str | None:
        """The identity of the history that `seq` belongs to; None before the first update."""
        return self._receiver.read.epoch

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Update:
        return await self._receiver.next_update()

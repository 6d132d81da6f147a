"""The opening of the first session of a queue, in a task of its own.

An opening that has begun is not abandoned when the caller is cancelled or interrupted by Ctrl-C, since that could leave
the SDK running. The stop of the queue gives it `close_timeout` to return, and then closes the session.
"""

from __future__ import annotations

import outcome
import trio

from trio_jobs._errors import SdkCallStuck
from trio_jobs._ports import SdkExecutor
from trio_jobs._runtime.sdk_session import SdkSessionManager

__all__ = ["FirstOpening"]


class FirstOpening:
    """Opens the SDK once.

    Args:
        sessions: Opens the session.
        executor: What owns it.
        close_timeout: Seconds that `end` waits.
    """

    def __init__(self, sessions: SdkSessionManager, executor: SdkExecutor, close_timeout: float) -> None:
        self._sessions = sessions
        self._executor = executor
        self._close_timeout = close_timeout
        self._scope = trio.CancelScope(shield=True)
        self._result: outcome.Value[None] | outcome.Error | None = None
        self._has_begun = False
        self._ended = trio.Event()

    async def open(self, nursery: trio.Nursery) -> None:
        """Open the first session, in a task of this nursery. Raises: as `SdkSessionManager.open_sdk`.

        Cancelled:
            The opening goes on until `end`.
        """
        self._has_begun = True
        nursery.start_soon(self._run)
        await self._ended.wait()
        assert self._result is not None
        self._result.unwrap()

    @trio.lowlevel.enable_ki_protection
    async def _run(self) -> None:
        with self._scope:
            self._result = await outcome.acapture(self._sessions.open_sdk)
        self._ended.set()

    async def end(self) -> SdkCallStuck | None:
        """Wait for an opening that has begun, for `close_timeout` at most, then abandon it.

        Returns:
            The error of a queue whose opening was abandoned while it was inside the SDK; otherwise None.
        """
        if not self._has_begun or self._ended.is_set():
            return None
        with trio.move_on_after(self._close_timeout):
            await self._ended.wait()
        if self._ended.is_set():
            return None
        inside = self._executor.inside
        self._scope.cancel()
        await self._ended.wait()
        limit = self._close_timeout
        return SdkCallStuck(f"a stop: the opening of the SDK did not return within {limit:g} s") if inside else None

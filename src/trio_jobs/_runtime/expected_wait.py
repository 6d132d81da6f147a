"""When a job is expected to start: how long recent attempts of each kind have taken, for the jobs before it."""

from __future__ import annotations

from trio_jobs._engine.jobs import JobRecord
from trio_jobs._engine.projection import Projection
from trio_jobs._runtime.attempt import AttemptSlot
from trio_jobs._runtime.job_channel import JobChannel
from trio_jobs._runtime.overrun_monitor import OverrunMonitor
from trio_jobs._runtime.sdk_session import SdkSessionManager
from trio_jobs._runtime.shared_state import Estimates

__all__ = ["ExpectedWaits"]


class ExpectedWaits:
    """Estimates the waits of the jobs in the channel."""

    def __init__(
        self,
        *,
        estimates: Estimates,
        projection: Projection,
        channel: JobChannel,
        slot: AttemptSlot,
        sessions: SdkSessionManager,
        overruns: OverrunMonitor,
    ) -> None:
        self._estimates = estimates
        self._projection = projection
        self._channel = channel
        self._slot = slot
        self._sessions = sessions
        self._overruns = overruns

    def of(self, record: JobRecord, position: int) -> float | None:
        """Return the expected seconds until the job starts.

        Args:
            record: The job.
            position: Its position in the channel; 0 if it is not there.

        Returns:
            0 for a job that is not in the channel. None if nobody can know: before the first attempt of the queue has
            ended, while the queue is paused or a call is stuck, and while the SDK does not open.
        """
        estimates = self._estimates
        own = estimates.turn(record.kind)
        if own is None or self._projection.paused is not None or self._sessions.waits.failing:
            return None
        current = self._slot.current
        if current is None:  # the first job starts at once, or the SDK rests or is being opened
            wait = 0.0 if position == 1 and self._sessions.ready() else own
        elif current is self._overruns.stuck:
            return None
        else:
            kind = current.record.kind
            wait = own if kind == record.kind else estimates.turn(kind) or own
        if position == 0:
            return 0.0
        if position == 1:
            return wait
        kinds = self._channel.kinds
        if len(kinds) == 1:
            return wait + own * (position - 1)
        if position == self._channel.used:
            return wait + sum((estimates.turn(kind) or own) * count for kind, count in kinds.items()) - own
        return wait + sum(estimates.turn(kind) or own for kind in self._channel.kinds_before(position))

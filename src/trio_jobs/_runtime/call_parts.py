"""What everything that calls into the SDK needs: the attempts, `verify` and `save`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import attrs

from trio_jobs._engine.handlers import Handler
from trio_jobs._ports import Clock, SdkExecutor
from trio_jobs._runtime.attempt import AttemptSlot
from trio_jobs._runtime.event_log import EventLog
from trio_jobs._runtime.interrupter import Interrupter
from trio_jobs._runtime.overrun_monitor import OverrunMonitor
from trio_jobs._runtime.sdk_session import SdkSessionManager

__all__ = ["CallParts"]


@attrs.frozen(eq=False, kw_only=True)
class CallParts:
    """The parts of a queue that its calls into the SDK share."""

    event_log: EventLog
    executor: SdkExecutor
    """Has the session."""
    clock: Clock
    handlers: Mapping[str, Handler]
    """By kind."""
    sessions: SdkSessionManager
    slot: AttemptSlot
    """Holds the call, so that there is never a second one."""
    overruns: OverrunMonitor
    """Watches the limits."""
    interrupter: Interrupter
    """Interrupts a call that exceeds its limit."""
    chance: Callable[[], float]
    """Returns a random number, uniform in [0, 1)."""

"""Kills the process of an SDK at a step of its protocol, or changes the order of its messages. Used in that process.

A step is named "received OpenSession", or "sending StartStep", "half of StartStep", "sent StartStep". The answer to a
call is named after the call too: "sent CallReported of RunSave". The file that DIES_AT names has the next step at which
the process is killed; it is removed then. All steps are written into a file beside it, a line for each.

With INTERRUPTS_LATE, an interruption is reported after the call that it has ended: two threads send these messages.
"""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

from trio_jobs._executors import process_messages as pm
from trio_jobs._sdk_process.child import Link

__all__ = ["install"]

_last = ""
_reported = threading.Condition()
_last_reported = 0


def install() -> None:
    """Let this process be killed, if DIES_AT is set, or report interruptions late."""
    if "INTERRUPTS_LATE" in os.environ:
        Link.send = _send_late  # type: ignore[assignment, method-assign] # the only way out
    if "DIES_AT" in os.environ:
        Link.receive = _receive  # type: ignore[assignment, method-assign] # the only way in
        Link.send = _send  # type: ignore[assignment, method-assign] # the only way out


def _send_late(link: Link, message: Any, send: Any = Link.send) -> None:
    global _last_reported
    with _reported:
        if isinstance(message, pm.InterruptDone):
            number = message.number
            _reported.wait_for(lambda: _last_reported >= number, 60)
        send(link, message)
        if isinstance(message, pm.CallReported):
            _last_reported = message.number
            _reported.notify_all()


def _at(step: str) -> bool:
    path = Path(os.environ["DIES_AT"])
    with path.with_name("steps").open("a") as file:
        file.write(f"{step}\n")
    if not path.exists() or path.read_text() != step:
        return False
    path.unlink()
    return True


def _die_at(step: str) -> None:
    if _at(step):
        os.kill(os.getpid(), signal.SIGKILL)


def _receive(link: Link, receive: Any = Link.receive) -> Any:
    global _last
    message = receive(link)
    name = type(message).__name__
    if name.startswith("Run"):
        _last = name
    _die_at(f"received {name}")
    return message


def _send(link: Link, message: Any, send: Any = Link.send) -> None:
    name = type(message).__name__
    if isinstance(message, pm.CallReported):
        name += f" of {_last}"
    _die_at(f"sending {name}")
    if _at(f"half of {name}"):
        frame = pm.encode(message)
        os.write(link.outbound, frame[: len(frame) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
    send(link, message)
    _die_at(f"sent {name}")

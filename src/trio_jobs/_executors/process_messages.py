"""The messages between a queue and the process of its SDK: JSON in frames of four bytes of length and a body.

The queue writes into one pipe and reads from another. A third pipe carries signals to a thread of the process, which
can be read while a call is inside: `CANCEL` and `INTERRUPT`, each followed by eight bytes with the number of the call
that is meant, since it may have returned meanwhile. When the queue closes a pipe, the process ends.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from trio_jobs._call_report import Answer, CallReport, RaisedError
from trio_jobs._engine.jobs import ErrorInfo

__all__ = [
    "CANCEL",
    "INTERRUPT",
    "NUMBER_SIZE",
    "SAVE",
    "CallFunction",
    "CallReported",
    "CloseSession",
    "FinishStep",
    "FrameReader",
    "FromProcess",
    "InterruptDone",
    "JobFacts",
    "OpenSession",
    "ProgressReport",
    "Ready",
    "RunAlive",
    "RunHandler",
    "RunSave",
    "RunVerify",
    "SaveStep",
    "SessionClosed",
    "SessionOpened",
    "Setup",
    "StartStep",
    "StepMessage",
    "StepNotSaved",
    "StepRecorded",
    "ToProcess",
    "WasRaised",
    "decode_from_process",
    "decode_to_process",
    "encode",
]

MAX_FRAME: Final = 64 * 1024 * 1024  #: bytes

CANCEL: Final = b"c"
"""On the third pipe: this call should end."""

INTERRUPT: Final = b"i"
"""On the third pipe: interrupt this call."""

SAVE: Final = "save"
"""For CallFunction: `save` of the service, for a step of an async handler."""

NUMBER_SIZE: Final = 8  #: bytes of the number of a call on the third pipe


class Setup(msgspec.Struct, tag="setup"):
    """The first message: how the process finds the service."""

    module: str
    """The name of the module whose globals have the service; "__mp_main__" for a main program."""
    path: bytes | None
    """The file of a main program; None for a module that is imported by its name."""
    name: str | None
    """The name of the service among the globals; None with `locate`."""
    locate: str | None
    """ "module:callable" of a function that returns the service."""
    kinds: list[str]
    """The kinds of the handlers that the process must have."""
    sys_path: list[bytes]
    argv: list[bytes]
    """As the system has them: a name of a file need not be text."""
    memory_limit: int | None
    """Bytes of address space; None without a limit."""


class OpenSession(msgspec.Struct, tag="open"):
    """Open a session; the fields are those of `Opening`."""

    reason: str
    number: int
    unclean: bool | None


class JobFacts(msgspec.Struct, omit_defaults=True):
    """What a job context says of its job and attempt."""

    id: str
    kind: str
    key: str | None
    attempt: int
    run: int
    deadline_at: float | None = None
    cancel_requested: bool = False
    finished_steps: dict[str, msgspec.Raw] = {}
    open_steps: list[str] = []


class RunHandler(msgspec.Struct, tag="handler"):
    """Call a handler.

    number: Of the call, as `Interrupts` counts them.
    """

    number: int
    kind: str
    payload: msgspec.Raw
    job: JobFacts | None


class RunVerify(msgspec.Struct, tag="verify"):
    """Call a verify."""

    number: int
    kind: str
    job: JobFacts


class CallFunction(msgspec.Struct, tag="function"):
    """Call a function for an async handler."""

    number: int
    function: str
    """ "module:qualname"; SAVE for `save` of the service."""
    args: bytes
    """The arguments behind the SDK, as the msgpack of a list."""


class RunAlive(msgspec.Struct, tag="alive"):
    """Call `alive`."""

    number: int


class RunSave(msgspec.Struct, tag="save"):
    """Call `save`."""

    number: int


class CloseSession(msgspec.Struct, tag="close"):
    """Close the session; the fields are those of `Discard`."""

    discard: str | None
    by_last_call: bool


class StepRecorded(msgspec.Struct, tag="step_recorded"):
    """The answer to StartStep, SaveStep, StepNotSaved and FinishStep."""

    refused: str | None
    """Why the attempt must not continue; None if the event of the step is committed."""


class Ready(msgspec.Struct, tag="ready"):
    """The answer to Setup."""

    problem: str | None
    """Why the service is not found; None if it is."""


class WasRaised(msgspec.Struct):
    """An exception that was raised in the process, and that the queue raises again."""

    info: ErrorInfo
    mro: list[str]
    """Its class and the base classes, as "module:qualname"."""
    is_usage_error: bool = False


class SessionOpened(msgspec.Struct, tag="opened"):
    """The answer to OpenSession."""

    error: WasRaised | None


class SessionClosed(msgspec.Struct, tag="closed"):
    """The answer to CloseSession."""

    problem: str | None


class CallReported(msgspec.Struct, tag="report", omit_defaults=True):
    """The answer to a call; the other fields are those of `CallReport`."""

    number: int = 0
    """Of the call. The SDK can write into any descriptor, and a program that it has forked too."""
    result: msgspec.Raw | UnsetType = UNSET
    problem: str | None = None
    not_run: str | None = None
    answer: Answer | None = None
    error: RaisedError | None = None
    entered: bool = True
    retryable_kinds: tuple[str, ...] = ()
    interrupted: bool = False
    """`interrupt` was called during the call."""
    value: bytes | None = None
    """Of CallFunction: the msgpack of what it returned; None if it raised."""
    raised: WasRaised | None = None
    """Of CallFunction: what it raised; None if it returned."""

    @classmethod
    def of(cls, report: CallReport, number: int = 0, *, interrupted: bool = False) -> CallReported:
        result = UNSET if report.result is None else report.result
        return cls(
            number,
            result,
            report.problem,
            report.not_run,
            report.answer,
            report.error,
            report.entered,
            report.retryable_kinds,
            interrupted,
        )

    def report(self) -> CallReport:
        """What the queue gets. The result is copied, since it refers to the whole message."""
        result = None if self.result is UNSET else self.result.copy()
        return CallReport(
            result, self.problem, self.not_run, self.answer, self.error, self.entered, self.retryable_kinds
        )


class StartStep(msgspec.Struct, tag="start_step"):
    """The call begins a step, and waits for StepRecorded."""

    name: str


class SaveStep(msgspec.Struct, tag="save_step"):
    """The call is about to save the work of a step, and waits for StepRecorded."""


class StepNotSaved(msgspec.Struct, tag="step_not_saved"):
    """The save of a step has raised; the call waits for StepRecorded."""

    report: CallReported


class InterruptDone(msgspec.Struct, tag="interrupt_done"):
    """The answer to INTERRUPT; the fields are those of `Interruption`."""

    number: int
    was_inside: bool
    problem: str | None


class FinishStep(msgspec.Struct, tag="finish_step"):
    """The call has finished a step, and waits for StepRecorded."""

    name: str
    result: msgspec.Raw


class ProgressReport(msgspec.Struct, tag="progress"):
    """The call reports its progress."""

    done: float
    total: float | None
    message: str


StepMessage = StartStep | SaveStep | StepNotSaved | FinishStep
ToProcess = (
    Setup | OpenSession | RunHandler | RunVerify | RunAlive | RunSave | CallFunction | CloseSession | StepRecorded
)
FromProcess = Ready | SessionOpened | SessionClosed | CallReported | StepMessage | InterruptDone | ProgressReport

_encoder: Final = msgspec.json.Encoder()
decode_to_process: Final = msgspec.json.Decoder(ToProcess).decode
decode_from_process: Final = msgspec.json.Decoder(FromProcess).decode


def encode(message: Any) -> bytes:
    """Return the frame of a message."""
    body = _encoder.encode(message)
    return len(body).to_bytes(4, "little") + body


class FrameReader:
    """Splits what is read from a pipe into the bodies of frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Add what was read. Returns the bodies of the frames that are complete now.

        Raises:
            ValueError: What was read is no frame.
        """
        buffer = self._buffer
        if not buffer and len(data) == 4 + int.from_bytes(data[:4], "little"):
            return [data[4:]]  # what is read at once is nearly always one frame
        buffer += data
        bodies = []
        while len(buffer) >= 4:
            end = 4 + int.from_bytes(buffer[:4], "little")
            if end > MAX_FRAME:
                raise ValueError(f"a frame of {end} bytes")
            if len(buffer) < end:
                break
            bodies.append(bytes(buffer[4:end]))
            del buffer[:end]
        return bodies

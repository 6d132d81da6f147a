"""An exception of another process, which the queue raises in its own."""

from __future__ import annotations

from typing import Final

from trio_jobs._errors import TrioJobsError

__all__ = ["SdkCallError"]


class SdkCallError(TrioJobsError):
    """An exception that was raised in the process of the SDK, which cannot leave it; or the end of that process.

    `Retry(on=)` and `renew_after_error` compare classes with `mro`.
    """

    class_name: Final[str]
    """The name of its class."""

    mro: Final[tuple[str, ...]]
    """Its class and the base classes, each as "module:qualname"."""

    code: Final[str | int | None]
    """Its `code`, `hresult` or `errno`; None without one."""

    ended: Final[str | None]
    """How the process has ended during the call: "killed" by the queue, or "died" by itself; None if it raised."""

    stack: Final[str | None]
    """The stack of the call when it was killed; None without one."""

    def __init__(
        self,
        class_name: str,
        mro: tuple[str, ...],
        message: str,
        code: str | int | None = None,
        ended: str | None = None,
        stack: str | None = None,
    ) -> None:
        self.class_name = class_name
        self.mro = mro
        self.code = code
        self.ended = ended
        self.stack = stack
        super().__init__(f"{class_name}: {message}" if message else class_name)

"""Where a `Service` was made, and what that says about its seat: which lock file separates its queues."""

from __future__ import annotations

import inspect
from pathlib import Path
from types import FrameType
from typing import Any, final

import attrs

from trio_jobs._ports import BacksUp, Store
from trio_jobs._runtime.seat_lock import SeatLock, seat_in_memory
from trio_jobs._runtime.settings import Settings

__all__ = ["Origin", "caller_of_constructor", "seat_of"]


@final
@attrs.frozen
class Origin:
    """The place in a program at which a service was made."""

    globals: dict[str, Any] = attrs.field(repr=False)
    """The globals of its module."""
    function: str
    """The qualified name of the function, "<module>" outside of one."""

    @classmethod
    def of(cls, frame: FrameType | None) -> Origin:
        """The origin of a service that is made in this frame."""
        if frame is None:
            return cls({}, "<module>")
        return cls(frame.f_globals, frame.f_code.co_qualname)

    def file(self) -> str | None:
        """The file of the module; None without one, as in an interactive session."""
        file = self.globals.get("__file__")
        return file if isinstance(file, str) else None

    def name_of(self, service: object) -> str:
        """The name of the service: that of the global variable that has it, else that of the function that made it."""
        names = (name for name, value in list(self.globals.items()) if value is service)
        return next(names, self.function)


def seat_of(service: object, origin: Origin, settings: Settings, store: Store) -> SeatLock | None:
    """The lock of the seat of a service that is opened with this store. None if it is waived."""
    given = settings.seat_lock
    if given is None:
        return None
    if given is not True:
        return SeatLock(str(Path(given).absolute()))
    if isinstance(store, BacksUp) and store.path != ":memory:":
        return SeatLock(f"{store.path}-seat")
    file = origin.file()
    module = str(origin.globals.get("__name__", "")) if file is None else Path(file).stem
    return SeatLock(seat_in_memory(f"{module}:{origin.name_of(service)}", str(Path.cwd()) if file is None else file))


def caller_of_constructor() -> Origin:
    """The origin of the object whose `__init__` calls this."""
    here = inspect.currentframe()
    init = None if here is None else here.f_back
    return Origin.of(None if init is None else init.f_back)

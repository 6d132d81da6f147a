"""Where a `Service` was made."""

from __future__ import annotations

import inspect
from types import FrameType
from typing import Any, final

import attrs

__all__ = ["Origin", "caller_of_constructor"]


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


def caller_of_constructor() -> Origin:
    """The origin of the object whose `__init__` calls this."""
    here = inspect.currentframe()
    init = None if here is None else here.f_back
    return Origin.of(None if init is None else init.f_back)

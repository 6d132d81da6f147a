"""Reads the class, the groups and the traceback of an exception that other people's code has raised.

Nothing here raises or calls a method of the exception. `isinstance` reads `__class__`, which can be a property that
raises or names another class, and a group can override `split`, `subgroup` and `derive`, which Trio calls.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Final

__all__ = ["clear_frames", "contains", "holding", "is_a", "leaves", "members", "traceback_of"]

_MEMBERS: Final = BaseExceptionGroup.exceptions.__get__
_TRACEBACK: Final = BaseException.__dict__["__traceback__"].__get__
_CHAIN: Final = tuple(BaseException.__dict__[name].__get__ for name in ("__cause__", "__context__"))
_GROUPS: Final = (BaseExceptionGroup, ExceptionGroup)


def is_a(error: BaseException, class_: type[BaseException] | tuple[type[BaseException], ...]) -> bool:
    """Whether the class of the exception is `class_`, one of these classes, or a subclass of one."""
    try:
        return issubclass(type(error), class_)
    except BaseException:  # a metaclass can define `__subclasscheck__`
        return False


def members(error: BaseException) -> tuple[BaseException, ...]:
    """Return the exceptions directly within a group; none if the exception is no group."""
    return _MEMBERS(error) if is_a(error, BaseExceptionGroup) else ()


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Yield the exceptions within nested groups, in order; the exception itself if it is no group."""
    stack = [error]
    while stack:
        top = stack.pop()
        inside = members(top)
        stack.extend(reversed(inside))
        if not inside:
            yield top


def contains(error: BaseException, class_: type[BaseException]) -> bool:
    """Whether the exception, or one within nested groups, is of this class."""
    return any(is_a(leaf, class_) for leaf in leaves(error))


def holding(error: BaseException, class_: type[BaseException]) -> BaseException | None:
    """Return what must propagate if exceptions of `class_` must, and others must not.

    Returns:
        None if neither the exception nor one within its groups is of that class. A group of a class of the user's own
        is replaced with a plain one, which every caller can split.
    """
    if not contains(error, class_):
        return None
    return error if _is_plain(error) else BaseExceptionGroup("errors of the user's code", [*leaves(error)])


def _is_plain(error: BaseException) -> bool:
    """Whether all groups in it are of Python's own classes."""
    inside = members(error)
    return not inside or (type(error) in _GROUPS and all(_is_plain(member) for member in inside))


def traceback_of(error: BaseException) -> TracebackType | None:
    """Return the traceback of the exception."""
    tb: TracebackType | None = _TRACEBACK(error)
    return tb


def clear_frames(error: BaseException) -> None:
    """Clear the local variables of all frames that the exception refers to, so that what they held is destroyed now.

    Those of its causes, of the exceptions during whose handling it was raised, and of the members of groups are cleared
    too, and those of the callers of all of them, to which a frame refers. The traceback keeps its files and lines.

    Frames that are being executed are left as they are, and so are those of generators that wait in a `yield`, which
    `frame.clear` ends before Python 3.13: the context manager of the session is one.
    """
    stack = [error]
    seen: set[int] = set()
    while stack:
        top = stack.pop()
        if id(top) in seen:
            continue
        seen.add(id(top))
        stack.extend(members(top))
        stack.extend(linked for get in _CHAIN if (linked := get(top)) is not None)
        tb = traceback_of(top)
        while tb is not None:
            frame: FrameType | None = tb.tb_frame
            while frame is not None and id(frame) not in seen and _has_ended(frame):
                seen.add(id(frame))
                frame.clear()
                frame = frame.f_back
            tb = tb.tb_next


def _has_ended(frame: FrameType) -> bool:
    """Whether the function of this frame has returned or raised.

    Only then the frame object itself owns the code and the local variables, and Python's collector sees them in it.
    """
    return any(held is frame.f_code for held in gc.get_referents(frame))

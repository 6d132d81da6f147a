"""Objects of a fake SDK that must be destroyed on the thread on which they were made, as COM pointers must."""

from __future__ import annotations

import threading
from typing import final

import trio

__all__ = ["SdkObject", "SdkObjects"]


class SdkObjects:
    """Makes objects and records on which threads they are destroyed."""

    def __init__(self) -> None:
        self.made = 0
        """How many were made."""
        self.destroyed: list[bool] = []
        """For each that was destroyed, whether that was on the thread on which it was made."""
        self._changed = threading.Condition()

    def __repr__(self) -> str:
        return f"<SdkObjects {self.made} made, {self.destroyed.count(False)} destroyed on another thread>"

    def make(self) -> SdkObject:
        """Make an object on the calling thread."""
        self.made += 1
        return SdkObject(self)

    def record(self, at_home: bool) -> None:
        """An object was destroyed."""
        with self._changed:
            self.destroyed.append(at_home)
            self._changed.notify_all()

    async def check(self, timeout: float) -> None:
        """Wait until all objects are destroyed.

        Args:
            timeout: Seconds of real time.

        Raises:
            AssertionError: One was not, or was destroyed on another thread.
        """
        await trio.to_thread.run_sync(self._wait, timeout)
        left = self.made - len(self.destroyed)
        assert not left, f"objects that the SDK made and that were not destroyed: {left} of {self.made}"
        abroad = self.destroyed.count(False)
        assert not abroad, f"objects of the SDK that were destroyed on another thread: {abroad} of {self.made}"

    def _wait(self, timeout: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: len(self.destroyed) == self.made, timeout)


@final
class SdkObject:
    """An object of the SDK."""

    def __init__(self, objects: SdkObjects) -> None:
        self._objects = objects
        self.home = threading.get_ident()
        """The thread on which it was made."""

    def __del__(self) -> None:
        self._objects.record(threading.get_ident() == self.home)

"""Whether this is the process of an SDK, in which no queue can be opened."""

from __future__ import annotations

__all__ = ["check_outside", "enter_process"]

from trio_jobs._errors import UsageError

_inside = False


def enter_process() -> None:
    """This process is that of an SDK."""
    global _inside
    _inside = True


def check_outside() -> None:
    """Check that a queue can be opened here.

    Raises:
        UsageError: This is the process of an SDK, which has imported the program of the queue.
    """
    if _inside:
        raise UsageError(
            "the process of the SDK has imported this module to find its service, and the module opens a queue when it "
            "is imported; put what it runs under: if __name__ == '__main__':"
        )

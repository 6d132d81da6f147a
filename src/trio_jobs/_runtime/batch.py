"""The submissions of one `submit_many`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from trio_jobs._engine.jobs import Receipt
from trio_jobs._errors import KeyConflict
from trio_jobs._runtime.submission import Submission
from trio_jobs._validation import check_each

__all__ = ["Batch", "slots"]


class Batch:
    """Submissions that are accepted together. Of those with the same key, the first one is accepted.

    Raises:
        KeyConflict: Two submissions have the same key and different payloads. It names the second one.
    """

    def __init__(self, submissions: Sequence[Submission]) -> None:
        self._submissions = submissions
        by_key: dict[tuple[str, str], Submission] = {}

        def first_of(new: Submission) -> Submission:
            if new.key is None:
                return new
            first = by_key.setdefault((new.handler.kind, new.key), new)
            if first.digest != new.digest:
                raise KeyConflict(new.handler.kind, new.key, "(the first with this key)")
            return first

        self._firsts = check_each(first_of, submissions)
        self._known: list[Receipt | None] = []

    def look_up(self, find: Callable[[Submission], Receipt | None]) -> list[Submission]:
        """Look up the keys again, and return the submissions that are to be accepted.

        Args:
            find: Returns the receipt of the job that has the key of a submission, if there is one.

        Raises:
            UsageError: `find` raised it. It names the job.
        """
        self._known = check_each(find, self._firsts)
        fresh = {id(new): new for new, known in zip(self._firsts, self._known, strict=True) if known is None}
        return [*fresh.values()]

    def receipts(self, fresh: Sequence[Submission], accepted: Sequence[Receipt]) -> list[Receipt]:
        """Return the receipts of all submissions, in their order.

        Args:
            fresh: What `look_up` returned last.
            accepted: The receipts of these.
        """
        made = dict(zip(map(id, fresh), accepted, strict=True))
        found = []
        for new, first, known in zip(self._submissions, self._firsts, self._known, strict=True):
            receipt = known or made[id(first)]
            found.append(receipt if new is first else msgspec.structs.replace(receipt, created=False))
        return found


def slots(submissions: Sequence[Submission]) -> int:
    """How many of these jobs need a slot now."""
    return sum(new.due is None for new in submissions)

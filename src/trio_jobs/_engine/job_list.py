"""Pages of jobs, the cursors between them, and counts. Pure.

A cursor is the place at which a page has ended: the number of the submit of the last job that was looked at. This
number of a job never changes, so whatever happens between two pages, a job that matches all the time is listed exactly
once. With the number the cursor has a hash of what it belongs to, so that a cursor of another filter is refused.
"""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import Counter
from collections.abc import Iterable
from typing import Final, final

import attrs

from trio_jobs._engine.job_filter import JobFilter, Order
from trio_jobs._engine.jobs import Job
from trio_jobs._lookup_errors import InvalidCursor

__all__ = ["CURSOR", "JobCounts", "JobList", "decode_cursor", "encode_cursor"]

CURSOR: Final = "c1."  #: a cursor begins with it, and no id does
MAX_GROUPS: Final = 1000  #: groups of a count
_HASH: Final = 8  #: bytes


@final
class JobList(list[Job]):
    """A page of jobs: a list with a cursor."""

    next: str | None
    """The cursor of the next page, to be passed as `after` with the same conditions and the same order; None if no job
    follows. A page can have fewer jobs than its limit, even none, although others follow."""

    def __init__(self, jobs: Iterable[Job], cursor: str | None) -> None:
        super().__init__(jobs)
        self.next = cursor


@final
@attrs.frozen
class JobCounts:
    """How many jobs match."""

    total: int
    """The number of jobs that match."""
    groups: dict[str, int] | None = attrs.field(default=None, hash=False)
    """The number of jobs for each value of the group, the largest number first; at most 1,000 values. Jobs without a
    value, such as an error, are in none. None without a group."""
    others: int = 0
    """The number of jobs whose values are not in `groups` because there are more than 1,000."""

    @classmethod
    def of(cls, total: int, values: Counter[str] | None) -> JobCounts:
        if values is None:
            return cls(total)
        chosen = sorted(((-count, value) for value, count in values.items() if count))[:MAX_GROUPS]
        groups = {str(value): -count for count, value in chosen}
        return cls(total, groups, values.total() - sum(groups.values()))


def encode_cursor(place: int, wanted: JobFilter, order: Order, epoch: str) -> str:
    """The cursor behind a job.

    Args:
        place: The number of its submit.
        wanted: The filter of the list.
        order: The order of the list.
        epoch: The history to which the number belongs.
    """
    number = place.to_bytes(8, "big")
    return CURSOR + urlsafe_b64encode(number + _hash(number, wanted, order, epoch)).decode().rstrip("=")


def decode_cursor(cursor: str, wanted: JobFilter, order: Order, epoch: str) -> int:
    """The place of a cursor.

    Raises:
        InvalidCursor: It is not a cursor, or belongs to another filter, order or history.
    """
    text = cursor.removeprefix(CURSOR)
    try:
        content = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        content = b""
    number = content[:8]
    if not cursor.startswith(CURSOR) or content[8:] != _hash(number, wanted, order, epoch):
        raise InvalidCursor(cursor)
    return int.from_bytes(number, "big")


def _hash(number: bytes, wanted: JobFilter, order: Order, epoch: str) -> bytes:
    fields = [
        sorted(value) if isinstance(value, frozenset) else value for value in attrs.astuple(wanted, recurse=False)
    ]
    return hashlib.sha256(repr((number, [*map(_plain, fields)], order, epoch)).encode()).digest()[:_HASH]


def _plain(value: object) -> object:
    """States as texts: the `repr` of an enum is that of a Python version."""
    return [*map(str, value)] if isinstance(value, list) else value

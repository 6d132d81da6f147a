"""Indexes of jobs in the order of event numbers. Pure.

An index is appended to at its end only, since a job enters it by its newest event. It is read from any number on, and
loses jobs anywhere. So it consists of chunks, short enough for a removal to be cheap, found by bisection: 16 bytes for
each job, where a dict takes about 100. The numbers are kept beside the records, since those of a record change.

A page of one kind must not depend on the number of jobs of other kinds, so each kind has an index of its own, and an
order over all kinds is merged when it is read. The kinds are the handlers of a service: few, beside the jobs.
"""

from __future__ import annotations

import sys
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterator
from heapq import merge
from itertools import islice
from operator import itemgetter
from typing import Final

from trio_jobs._engine.jobs import JobRecord

__all__ = ["JobIndex"]

CHUNK: Final = 512  #: jobs of a chunk: a removal moves at most 4 KiB

_number = itemgetter(0)


class _Chunks:
    """The jobs of one kind, by number. There is always a last chunk, to which jobs are appended; it may be empty."""

    __slots__ = ("bounds", "newest", "newest_numbers", "numbers", "records")

    def __init__(self) -> None:
        self.newest_numbers: list[int] = []
        self.newest: list[JobRecord] = []
        self.numbers = [self.newest_numbers]
        self.records = [self.newest]
        self.bounds = [sys.maxsize]
        """An upper bound of the numbers of each chunk, below those of the next chunk."""

    def append(self, number: int, record: JobRecord) -> None:
        if len(self.newest) == CHUNK:
            self._begin_chunk()
        self.newest_numbers.append(number)
        self.newest.append(record)

    def _begin_chunk(self) -> None:
        self.bounds[-1] = self.newest_numbers[-1]
        self.bounds.append(sys.maxsize)
        self.newest_numbers, self.newest = [], []
        self.numbers.append(self.newest_numbers)
        self.records.append(self.newest)

    def remove(self, number: int) -> None:
        chunk = bisect_left(self.bounds, number) if len(self.bounds) > 1 else 0
        numbers = self.numbers[chunk]
        at = 0 if numbers[0] == number else bisect_left(numbers, number)  # most jobs leave a state in its order
        assert numbers[at] == number
        del numbers[at]
        del self.records[chunk][at]
        if not numbers and numbers is not self.newest_numbers:
            del self.bounds[chunk], self.numbers[chunk], self.records[chunk]

    def after(self, number: int) -> Iterator[tuple[int, JobRecord]]:
        chunk = bisect_right(self.bounds, number)
        begin = bisect_right(self.numbers[chunk], number)
        for numbers, records in zip(islice(self.numbers, chunk, None), islice(self.records, chunk, None), strict=True):
            yield from islice(zip(numbers, records, strict=True), begin, None)
            begin = 0


class JobIndex:
    """Jobs in the order of a number that each has in this index. It must not change during an iteration."""

    def __init__(self) -> None:
        self._kinds: dict[str, _Chunks] = {}
        self._count = 0

    def __repr__(self) -> str:
        return f"<JobIndex {self._count} jobs of {len(self._kinds)} kinds>"

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[JobRecord]:
        return self.after(0)

    def append(self, number: int, record: JobRecord) -> None:
        """Add a job with a number above all numbers that were added before."""
        chunks = self._kinds.get(record.kind)
        if chunks is None:
            chunks = self._kinds[record.kind] = _Chunks()
        chunks.append(number, record)
        self._count += 1

    def remove(self, number: int, kind: str) -> None:
        """Remove the job with this number and kind."""
        self._kinds[kind].remove(number)
        self._count -= 1

    def after(self, number: int, kinds: Collection[str] | None = None) -> Iterator[JobRecord]:
        """The jobs whose numbers are above `number`, in order.

        Args:
            number: The number; 0 for all jobs.
            kinds: Only jobs of these kinds; None for all.
        """
        if kinds is None:
            chosen = [*self._kinds.values()]
        else:
            chosen = [chunks for kind in kinds if (chunks := self._kinds.get(kind)) is not None]
        if len(chosen) == 1:
            pairs = chosen[0].after(number)
        else:
            pairs = merge(*(chunks.after(number) for chunks in chosen), key=_number)
        return (record for _, record in pairs)

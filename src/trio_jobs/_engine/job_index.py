"""The jobs of one state in the order in which they came into it. Pure.

It is appended to at its end only, since a job enters a state by its newest event, and loses jobs anywhere. So it
consists of chunks, short enough for a removal to be cheap, found by bisection: 16 bytes for each job, where a dict
takes about 100. The numbers are kept beside the records, since those of a record change.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from itertools import chain
from typing import Final

from trio_jobs._engine.jobs import JobRecord

__all__ = ["JobIndex"]

CHUNK: Final = 512  #: jobs of a chunk: a removal moves at most 4 KiB


class JobIndex:
    """Jobs in the order of a number that each has in this index. It must not change during an iteration.

    There is always a last chunk, to which jobs are appended; it may be empty.
    """

    __slots__ = ("_bounds", "_count", "_newest", "_newest_numbers", "_numbers", "_records")

    def __init__(self) -> None:
        self._newest_numbers = array("q")  # no list, of which the collector would visit each number
        self._newest: list[JobRecord] = []
        self._numbers = [self._newest_numbers]
        self._records = [self._newest]
        self._bounds = [sys.maxsize]
        """An upper bound of the numbers of each chunk, below those of the next chunk."""
        self._count = 0

    def __repr__(self) -> str:
        return f"<JobIndex {self._count} jobs>"

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[JobRecord]:
        return chain.from_iterable(self._records)

    def append(self, number: int, record: JobRecord) -> None:
        """Add a job with a number above all numbers that were added before."""
        if len(self._newest) == CHUNK:
            self._begin_chunk()
        self._newest_numbers.append(number)
        self._newest.append(record)
        self._count += 1

    def _begin_chunk(self) -> None:
        self._bounds[-1] = self._newest_numbers[-1]
        self._bounds.append(sys.maxsize)
        self._newest_numbers, self._newest = array("q"), []
        self._numbers.append(self._newest_numbers)
        self._records.append(self._newest)

    def remove(self, number: int) -> None:
        """Remove the job with this number."""
        chunk = bisect_left(self._bounds, number) if len(self._bounds) > 1 else 0
        numbers = self._numbers[chunk]
        at = 0 if numbers[0] == number else bisect_left(numbers, number)  # most jobs leave a state in its order
        assert numbers[at] == number
        del numbers[at]
        del self._records[chunk][at]
        self._count -= 1
        if not numbers and numbers is not self._newest_numbers:
            del self._bounds[chunk], self._numbers[chunk], self._records[chunk]

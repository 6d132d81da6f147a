"""The jobs of one state in the order in which they came into it. Pure.

An index is appended to at its end only, since a job enters a state by its newest event, and loses jobs anywhere. There
are two kinds, with the same methods. Every job passes through open states, and their indexes are dicts, which take the
least time. Final jobs stay, and theirs consist of chunks, short enough for a removal to be cheap, found by bisection:
16 bytes for each job, where a dict takes about 100. The numbers are kept beside the records, since those of a record
change. Full chunks are tuples until a job is removed from them: the collector visits each item of a list in every full
collection, and none of a tuple of what it does not track.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Final, Protocol

from trio_jobs._engine.jobs import JobRecord

__all__ = ["FinalJobs", "JobIndex", "JobsByNumber", "OpenJobs"]

CHUNK: Final = 512  #: jobs of a chunk: a removal moves at most 4 KiB


class JobIndex(Protocol):
    """Jobs in the order of a number that each has in this index. It must not change during an iteration."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[JobRecord]: ...


class JobsByNumber(Protocol):
    """What changes an index: `FinalJobs`, or the dict of an open state."""

    def __setitem__(self, number: int, record: JobRecord, /) -> None: ...

    def __delitem__(self, number: int, /) -> None: ...


class OpenJobs:
    """A `JobIndex` of an open state.

    Args:
        by_number: The jobs, in the order of their numbers.
    """

    __slots__ = ("_by_number",)

    def __init__(self, by_number: Mapping[int, JobRecord]) -> None:
        self._by_number: Final = by_number

    def __repr__(self) -> str:
        return f"<OpenJobs {len(self)} jobs>"

    def __len__(self) -> int:
        return len(self._by_number)

    def __iter__(self) -> Iterator[JobRecord]:
        return iter(self._by_number.values())


class FinalJobs:
    """A `JobIndex` of a final state.

    There is always a last chunk, to which jobs are appended; it may be empty.
    """

    __slots__ = ("_bounds", "_count", "_newest", "_newest_numbers", "_numbers", "_records")

    def __init__(self) -> None:
        self._newest_numbers = array("q")  # no list, of which the collector would visit each number
        self._newest: list[JobRecord] = []
        self._numbers = [self._newest_numbers]
        self._records: list[list[JobRecord] | tuple[JobRecord, ...]] = [self._newest]
        self._bounds = [sys.maxsize]
        """An upper bound of the numbers of each chunk, below those of the next chunk."""
        self._count = 0

    def __repr__(self) -> str:
        return f"<FinalJobs {self._count} jobs>"

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[JobRecord]:
        return chain.from_iterable(self._records)

    def __setitem__(self, number: int, record: JobRecord) -> None:
        """Add a job with a number above all numbers that were added before."""
        if len(self._newest) == CHUNK:
            self._begin_chunk()
        self._newest_numbers.append(number)
        self._newest.append(record)
        self._count += 1

    def _begin_chunk(self) -> None:
        self._bounds[-1] = self._newest_numbers[-1]
        self._bounds.append(sys.maxsize)
        self._records[-1] = tuple(self._newest)
        self._newest_numbers, self._newest = array("q"), []
        self._numbers.append(self._newest_numbers)
        self._records.append(self._newest)

    def __delitem__(self, number: int) -> None:
        """Remove the job with this number."""
        chunk = at = 0
        numbers = self._numbers[0]
        if not numbers or numbers[0] != number:  # most jobs are pruned in their order
            chunk = bisect_left(self._bounds, number)
            numbers = self._numbers[chunk]
            at = bisect_left(numbers, number)
            assert numbers[at] == number
        records = self._records[chunk]
        if isinstance(records, tuple):
            records = self._records[chunk] = [*records]
        del numbers[at]
        del records[at]
        self._count -= 1
        if not numbers and numbers is not self._newest_numbers:
            del self._bounds[chunk], self._numbers[chunk], self._records[chunk]

"""The jobs of each state in the order in which they came into it. Pure.

A usual job is in two open states for less than a millisecond each, and nobody asks for the jobs of these states
meanwhile. So a job that changes its state is only noted, once, and the indexes are brought up to date when they are
read, or when `MOST_CHANGED` jobs are noted.

An index is appended to at its end only, since a job enters a state by its newest event, and loses jobs anywhere. There
are two kinds, with the same methods. Those of open states are dicts, which take the least time. Final jobs stay, and
theirs consist of chunks, short enough for a removal to be cheap, found by bisection: 16 bytes for each job, where a
dict takes about 100. The numbers are kept beside the records, since those of a record change. Full chunks are tuples
until a job is removed from them: the collector visits each item of a list in every full collection, and none of a tuple
of what it does not track.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, groupby
from operator import attrgetter
from typing import Final, Protocol

from trio_jobs._engine.jobs import FINAL, JobRecord, State

__all__ = ["FinalJobs", "JobIndex", "JobsByState", "OpenJobs"]

CHUNK: Final = 512  #: jobs of a chunk: a removal moves at most 4 KiB
MOST_CHANGED: Final = 1024  #: to add them to the indexes takes 0.2 ms

_state: Final = attrgetter("state")
_state_seq: Final = attrgetter("state_seq")


class JobIndex(Protocol):
    """Jobs in the order of a number that each has in this index. It must not change during an iteration."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[JobRecord]: ...


class OpenJobs:
    """A `JobIndex` of an open state."""

    __slots__ = ("_by_number",)

    def __init__(self) -> None:
        self._by_number: dict[int, JobRecord] = {}

    def __repr__(self) -> str:
        return f"<OpenJobs {len(self)} jobs>"

    def __len__(self) -> int:
        return len(self._by_number)

    def __iter__(self) -> Iterator[JobRecord]:
        return iter(self._by_number.values())

    def extend(self, records: Sequence[JobRecord]) -> None:
        """As `FinalJobs.extend`."""
        by_number = self._by_number
        for record in records:
            by_number[record.state_seq] = record

    def __delitem__(self, number: int) -> None:
        """Remove the job with this number."""
        del self._by_number[number]


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

    def extend(self, records: Sequence[JobRecord]) -> None:
        """Add jobs in the order of their `state_seq`, which are above all that were added before."""
        while records:
            if len(self._newest) == CHUNK:
                self._begin_chunk()
            some = records[: CHUNK - len(self._newest)]
            self._newest_numbers.extend([record.state_seq for record in some])
            self._newest += some
            self._count += len(some)
            records = records[len(some) :]

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


class JobsByState:
    """The indexes of all states."""

    __slots__ = ("_indexes", "changed", "seq")

    def __init__(self) -> None:
        self._indexes = {state: FinalJobs() if state in FINAL else OpenJobs() for state in State}
        self.changed: list[JobRecord] = []
        """Jobs that are in no index: each new one is appended by the caller, the others by `leave`."""
        self.seq = 0
        """The jobs that have come into their state by a later event are in `changed`, all others in an index."""

    def indexes(self) -> Mapping[State, JobIndex]:
        """The jobs of each state. Valid until the next change."""
        if self.changed:
            self.update()
        return self._indexes

    def update(self) -> None:
        """Add the changed jobs to the index of the state of each."""
        changed = self.changed
        changed.sort(key=_state_seq)
        for state, some in groupby(changed, _state):
            self._indexes[state].extend([*some])
        self.seq = changed[-1].state_seq
        changed.clear()

    def leave(self, record: JobRecord, state: State, number: int) -> None:
        """A job that has come into a state by event `number`, at most `seq`, has left that state."""
        del self._indexes[state][number]
        self.changed.append(record)
        if len(self.changed) >= MOST_CHANGED:
            self.update()

    def remove(self, record: JobRecord) -> None:
        """Remove a job."""
        if self.changed:
            self.update()
        del self._indexes[record.state][record.state_seq]

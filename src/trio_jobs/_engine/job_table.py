"""All jobs in the order of their submits, and bitmaps from which every filter is answered. Pure.

A page of jobs must not look at the jobs that do not match, whatever the filter and wherever the page begins. So the
jobs are in blocks of 1,024, and each block has one integer for each value of each field that a filter can name: bit `n`
of it says that job `n` of the block has this value. A filter is a few `&` of integers for each block, some
microseconds, and the bits that remain are the jobs that match.

Keys and ids are different in each job, so they have no bitmaps. A block has its keys in order, from which those with a
prefix are a range, and the ends of its ids as one text, which is searched for the end of an id.

The newest jobs, at most 1,024, are the tail. They have no bitmaps and are looked at one by one, so submits, and changes
of jobs that are final soon, cost next to nothing. A full tail becomes a block.

A job that is removed from a block leaves a hole, and only its bit of `live` is cleared. Two neighbours that have become
sparse are merged, so the number of blocks follows the number of jobs. A job takes about 30 bytes here, 20 more with a
key, and 200 more for each value of a label that few jobs have.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from operator import attrgetter
from typing import Final

from trio_jobs._engine.job_block import BITS, SIZE, Block, value_of
from trio_jobs._engine.job_filter import EVERY_JOB, Group, JobFilter, Order
from trio_jobs._engine.jobs import Doubt, ErrorInfo, JobRecord, State
from trio_jobs._engine.untracked import untrack

__all__ = ["JobTable", "facts"]

SPARSE: Final = SIZE // 2  #: two neighbours with at most so many jobs together are merged
SELDOM: Final = 32  #: after so many removals from a block that is considered
LOOK: Final = 500  #: what a step of a scan may cost, in microseconds or so

_submitted_seq = attrgetter("submitted_seq")

Facts = tuple[State, ErrorInfo | None, Doubt | None, bool]


def facts(record: JobRecord) -> Facts:
    """What events change of that which a filter can name."""
    return record.state, record.error, record.doubt, record.may_have_acted


class JobTable:
    """Jobs in the order of their submits. It must not change during a scan."""

    def __init__(self) -> None:
        self._blocks: dict[int, Block] = {}
        """By number, in order."""
        self._order: list[Block] | None = []
        """The blocks in order; None if it must be made again."""
        self._firsts: list[int] = []
        """The number of the first submit of each block in `_order`."""
        self._sealed = 0
        """How many tails have become blocks."""
        self._tail: list[JobRecord] = []
        self.tail_seq = 0
        """The number of the first submit of the tail. Earlier jobs are in blocks: `update` must follow a change."""

    def __repr__(self) -> str:
        return f"<JobTable {len(self)} jobs in {len(self._blocks)} blocks>"

    def __len__(self) -> int:
        in_blocks = sum(block.live.bit_count() for block in self._blocks.values())
        return in_blocks + len(self._tail)

    def __iter__(self) -> Iterator[JobRecord]:
        return (record for _, record in self.scan(EVERY_JOB) if record is not None)

    # changes

    def append(self, record: JobRecord) -> None:
        """Add a new job, whose submit is the newest event."""
        tail = self._tail
        if len(tail) == SIZE:
            self._seal()
            tail = self._tail
            self.tail_seq = record.submitted_seq
        tail.append(record)

    def _seal(self) -> None:
        """Make a block of the tail, and begin a new tail."""
        if (last := self._blocks.get(self._sealed - 1)) is not None:
            untrack(last.records)
        self._blocks[self._sealed] = Block(self._sealed, self._tail)
        self._sealed += 1
        self._tail = []
        self._order = None

    def update(self, record: JobRecord, before: Facts) -> None:
        """The facts of a job that is in a block may have changed. before: `facts` before the change."""
        block, offset = self._place(record)
        bit = BITS[offset]
        state, error, doubt, may_have_acted = before
        if record.state is not state:
            block.states[state] ^= bit
            block.states[record.state] |= bit
        if record.error is not error:
            if error is not None:
                block.clear("error_type", error.type, bit)
            if record.error is not None:
                block.set("error_type", record.error.type, bit)
        if record.doubt is not doubt or record.may_have_acted is not may_have_acted:
            block.acted = block.acted | bit if record.has_acted else block.acted & ~bit

    def remove(self, record: JobRecord) -> None:
        """Remove a job."""
        if record.submitted_seq >= self.tail_seq:
            del self._tail[bisect_left(self._tail, record.submitted_seq, key=_submitted_seq)]
            return
        block, offset = self._place(record)
        block.remove(offset)
        if not block.live.bit_count() % SELDOM:
            self._shrink(block)

    def _place(self, record: JobRecord) -> tuple[Block, int]:
        """The block of a job that is in a block, and its offset there."""
        blocks = self._in_order()
        block = blocks[bisect_right(self._firsts, record.submitted_seq) - 1]
        return block, bisect_left(block.numbers, record.submitted_seq)

    def _shrink(self, block: Block) -> None:
        """Remove a block that has become empty; merge one that has become sparse with a neighbour."""
        if not block.live:
            del self._blocks[block.number]
            self._order = None
        elif block.live.bit_count() <= SPARSE:
            order = self._in_order()
            at = bisect_left(order, block.number, key=lambda one: one.number)
            for left, right in pairwise(order[max(at - 1, 0) : at + 2]):
                if left.live.bit_count() + right.live.bit_count() <= SPARSE:
                    records = [record for one in (left, right) for record in one.records if record is not None]
                    self._blocks[left.number] = Block(left.number, records)
                    del self._blocks[right.number]
                    self._order = None
                    return

    # queries

    def scan(
        self, wanted: JobFilter, place: int | None = None, order: Order = "oldest"
    ) -> Iterator[tuple[int, JobRecord | None]]:
        """The jobs that match, in order, each with the number of its submit.

        Args:
            wanted: The filter.
            place: Only jobs submitted after this event; with "newest", before it. None for all.
            order: Which jobs come first.

        Returns:
            Where a step of about half a millisecond has found nothing, a pair with None: no job up to this number is
            left. The caller can continue from there later.
        """
        if order == "newest":
            for record in reversed(self._tail):
                if (place is None or record.submitted_seq < place) and wanted.matches(record):
                    yield record.submitted_seq, record
        yield from self._scan_blocks(wanted, place, order)
        if order == "oldest":
            for record in self._tail:
                if (place is None or record.submitted_seq > place) and wanted.matches(record):
                    yield record.submitted_seq, record

    def _scan_blocks(
        self, wanted: JobFilter, place: int | None, order: Order
    ) -> Iterator[tuple[int, JobRecord | None]]:
        newest = order == "newest"
        blocks = self._in_order()
        at, step = (len(blocks) - 1, -1) if newest else (0, 1)
        if place is not None:  # the first block that has a job beyond it, so that each step makes progress
            if newest:
                at = bisect_left(blocks, place, key=lambda block: block.numbers[0]) - 1
            else:
                at = bisect_right(blocks, place, key=lambda block: block.numbers[-1])
        cost = 0
        while 0 <= at < len(blocks):
            block = blocks[at]
            at += step
            bits, block_cost = block.matching(wanted)
            if place is not None:
                bits &= block.beyond(place, order)
                place = None
            if bits:
                cost = 0
            records = block.records
            while bits:
                offset = (bits if newest else bits & -bits).bit_length() - 1
                bits ^= BITS[offset]
                yield block.numbers[offset], records[offset]
            cost += block_cost
            if cost >= LOOK:
                cost = 0
                yield block.numbers[0 if newest else -1], None

    def count(self, wanted: JobFilter, group: Group | None, label: str, into: Counter[str]) -> Iterator[int]:
        """Count the jobs that match.

        Args:
            wanted: The filter.
            group: Count them also by the values of this field.
            label: The name of the label, for the group "label".
            into: Gets the number of jobs of each value.

        Returns:
            The numbers of jobs found by each step, of about half a millisecond.
        """
        cost = found = 0
        blocks = [*self._in_order()]  # these and the tail of now: it may become a block between two steps
        for record in self._tail:
            if wanted.matches(record):
                found += 1
                if group is not None and (own := value_of(record, group, label)) is not None:
                    into[own] += 1
        for block in blocks:
            bits, block_cost = block.matching(wanted)
            found += bits.bit_count()
            cost += block_cost
            if bits and group is not None:
                cost += block.count_values(bits, group, label, into)
            if cost >= LOOK:
                yield found
                cost = found = 0
        yield found

    def with_id_end(self, end: str) -> list[JobRecord]:
        """The jobs whose id ends with this text, of at least 6 characters, in the order of their submits."""
        found = [record for block in self._in_order() for record in block.with_id_end(end)]
        return found + [record for record in self._tail if record.id.endswith(end)]

    def kinds(self) -> set[str]:
        """The kinds of all jobs."""
        return {kind for block in self._in_order() for kind in block.kinds}.union(record.kind for record in self._tail)

    def _in_order(self) -> list[Block]:
        if self._order is None:
            self._order = [*self._blocks.values()]
            self._firsts = [block.numbers[0] for block in self._order]
        return self._order

"""A block of `JobTable`: at most 1,024 jobs that were submitted one after another, with their bitmaps. Pure."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import compress
from math import inf
from typing import Final

from trio_jobs._engine.job_filter import Group, JobFilter, Order
from trio_jobs._engine.jobs import JobRecord, State

__all__ = ["BITS", "SIZE", "SUFFIX", "Block", "value_of"]

SIZE: Final = 1024  #: jobs of a block
STRIDE: Final = 32  #: keys between two stored bitmaps of a block
SUFFIX: Final = 8  #: characters of an id that are shown

# in microseconds or so
BLOCK_COST: Final = 3  #: the cost of a block
PREFIX_COST: Final = 6  #: the cost of a prefix in a block
VALUE_COST: Final = 4  #: the cost of counting one value of a block, in jobs that are looked at
LINEAR_COST: Final = 100  #: the cost of looking at the jobs of a block one by one

BITS: Final = tuple(1 << offset for offset in range(SIZE + 1))
_END: Final = slice(-SUFFIX, None)
_NONE: Final[dict[str, int]] = {}


class Block:
    """Jobs that were submitted one after another. Bit n of each bitmap is that of `records[n]`.

    Args:
        number: The number of the block.
        records: At most `SIZE` jobs, at least one, in the order of their submits.
    """

    __slots__ = ("acted", "bitmaps", "dates", "ends", "key_bitmaps", "key_offsets", "keys", "kinds", "live", "number",
                 "numbers", "records", "states")  # fmt: skip

    def __init__(self, number: int, records: Sequence[JobRecord]) -> None:
        self.number = number
        self.records: list[JobRecord | None] | tuple[JobRecord, ...] = tuple(records)
        """A tuple until one is removed: the collector does not visit a tuple of what it does not track."""
        self.numbers = array("q", [record.submitted_seq for record in records])
        """The numbers of the submits, also of jobs that were removed since."""
        self.live = (1 << len(records)) - 1
        self.states: dict[str, int] = dict.fromkeys(State, 0) | _bitmaps([record.state for record in records])
        self.kinds = _bitmaps([record.kind for record in records])
        self.acted = 0
        self.bitmaps: dict[str, dict[str, int]] = {}
        """By field, then by value: "by", "error_type", and "=NAME" for labels."""
        for bit, record in zip(BITS, records, strict=False):
            if record.by is not None:
                self.set("by", record.by, bit)
            if record.labels is not None:
                for name, value in record.labels.items():
                    self.set(f"={name}", value, bit)
            if record.error is not None:
                self.set("error_type", record.error.type, bit)
            if record.may_have_acted or (record.doubt is not None and record.has_acted):
                self.acted |= bit
        dates = [record.submitted_at for record in records]
        self.dates = min(dates), max(dates)
        """The first and the last date of a submit."""
        self.ends = "\n".join([*[record.id[_END].rjust(SUFFIX) for record in records], ""])
        """The last `SUFFIX` characters of each id, and a line feed after each."""
        texts = [record.key or "" for record in records]
        # sorted by a function: pairs of key and offset would be a thousand objects, so that a collection begins
        with_key = sorted(compress(range(SIZE), texts), key=texts.__getitem__)
        self.keys = tuple([texts[offset] for offset in with_key])
        """The keys in their order. As a tuple of texts, the garbage collector does not visit them."""
        self.key_offsets = array("H", with_key)
        """The offsets of their jobs."""
        self.key_bitmaps = [0]
        """The bitmap of the first 0, 32, 64 ... of them."""
        for start in range(0, len(with_key), STRIDE):
            self.key_bitmaps.append(self.key_bitmaps[-1] | self._bits_of_keys(start, start + STRIDE))

    def _bits_of_keys(self, start: int, stop: int) -> int:
        bits = 0
        for offset in self.key_offsets[start:stop]:
            bits |= BITS[offset]
        return bits

    def remove(self, offset: int) -> None:
        """Remove a job."""
        if isinstance(self.records, tuple):
            self.records = [*self.records]
        self.records[offset] = None
        self.live ^= BITS[offset]

    def set(self, field: str, value: str, bit: int) -> None:
        values = self.bitmaps.setdefault(field, {})
        values[value] = values.get(value, 0) | bit

    def clear(self, field: str, value: str, bit: int) -> None:
        values = self.bitmaps[field]
        values[value] ^= bit
        if not values[value]:
            del values[value]

    # filters

    def matching(self, wanted: JobFilter) -> tuple[int, int]:
        """The bitmap of the jobs that match, and what it has cost."""
        bits, cost = self.live, BLOCK_COST
        if wanted.states is not None:
            some = 0
            for state in wanted.states:
                some |= self.states[state]
            bits &= some
        if wanted.kinds is not None:
            some = 0
            for kind in wanted.kinds:
                some |= self.kinds.get(kind, 0)
            bits &= some
        if wanted.by is not None:
            bits &= self.values("by").get(wanted.by, 0)
        if wanted.error_type is not None:
            bits &= self.values("error_type").get(wanted.error_type, 0)
        for name, value in wanted.labels:
            bits &= self.values(f"={name}").get(value, 0)
        if wanted.may_have_acted is not None:
            bits &= self.acted if wanted.may_have_acted else ~self.acted
        if bits and wanted.key_prefix is not None:
            bits &= self._with_prefix(wanted.key_prefix)
            cost += PREFIX_COST
        if bits and (wanted.since is not None or wanted.until is not None):
            since = -inf if wanted.since is None else wanted.since
            until = inf if wanted.until is None else wanted.until
            first, last = self.dates
            if last < since or first >= until:
                bits = 0
            elif first < since or last >= until:
                # not by bisection: where the clock was set back, the dates are not in order
                bits &= _look(self.records, lambda record: since <= record.submitted_at < until)
                cost += LINEAR_COST
        return bits, cost

    def values(self, field: str) -> dict[str, int]:
        return self.bitmaps.get(field, _NONE)

    def count_values(self, bits: int, group: Group, label: str, into: Counter[str]) -> int:
        """Count these jobs by the values in a group of `JobTable.count`. Returns the cost."""
        values: Mapping[str, int]
        if group == "state":
            values = self.states
        elif group == "kind":
            values = self.kinds
        else:
            values = self.values(f"={label}" if group == "label" else group)
        jobs = bits.bit_count()
        if len(values) * VALUE_COST < jobs:
            for value, some in values.items():
                if number := (bits & some).bit_count():
                    into[value] += number
            return len(values)
        found = (value_of(record, group, label) for record in self.records_of(bits))
        into.update(value for value in found if value is not None)
        return jobs // VALUE_COST

    def records_of(self, bits: int) -> Iterator[JobRecord]:
        for offset, record in enumerate(self.records):
            if record is not None and bits & BITS[offset]:
                yield record

    def _with_prefix(self, prefix: str) -> int:
        """The bitmap of the keys with this prefix, which are a range."""
        length = len(prefix)
        begin = bisect_left(self.keys, prefix)
        end = bisect_right(self.keys, prefix, begin, key=lambda key: key[:length])
        return self._first_keys(end) & ~self._first_keys(begin)

    def _first_keys(self, count: int) -> int:
        strides = count // STRIDE
        return self.key_bitmaps[strides] | self._bits_of_keys(strides * STRIDE, count)

    # places

    def beyond(self, place: int, order: Order) -> int:
        """The bitmap of the jobs that were submitted after an event; with "newest", before it."""
        if order == "oldest":
            return -1 << bisect_right(self.numbers, place)
        return (1 << bisect_left(self.numbers, place)) - 1

    def with_id_end(self, end: str) -> Iterator[JobRecord]:
        shown = f"{end[-SUFFIX:]}\n"
        at = self.ends.find(shown)
        while at >= 0:
            record = self.records[at // (SUFFIX + 1)]
            if record is not None and record.id.endswith(end):
                yield record
            at = self.ends.find(shown, at + 1)


def _bitmaps(values: Sequence[str]) -> dict[str, int]:
    """The bitmap of each value. Neighbours mostly have the same one, so a bitmap is changed once for a run of them."""
    bitmaps: dict[str, int] = {}
    begin, current = BITS[0], values[0]
    for bit, value in zip(BITS, [*values, ""], strict=False):  # no value is empty
        if value != current:
            bitmaps[current] = bitmaps.get(current, 0) | bit - begin
            begin, current = bit, value
    return bitmaps


def _look(records: Sequence[JobRecord | None], matches: Callable[[JobRecord], bool]) -> int:
    """The bitmap of the jobs that match, which are looked at one by one."""
    found = 0
    for offset, record in enumerate(records):
        if record is not None and matches(record):
            found |= BITS[offset]
    return found


def value_of(record: JobRecord, group: Group, label: str) -> str | None:
    """The value of a job in a group of `JobTable.count`; None if it has none."""
    if group == "state":
        return record.state
    if group == "kind":
        return record.kind
    if group == "error_type":
        return None if record.error is None else record.error.type
    return None if record.labels is None else record.labels.get(label)

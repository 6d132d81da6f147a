"""Read a whole journal and verify it: each row, the number of rows, and the high-water mark."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Any

import attrs

from trio_jobs._engine.key_tombstones import KeyTombstone
from trio_jobs._errors import JournalDamaged
from trio_jobs._stores.sqlite.disk import Connection
from trio_jobs._stores.sqlite.high_water_mark import HighWaterMark
from trio_jobs._stores.sqlite.keys import read_tombstones
from trio_jobs._stores.sqlite.rows import Row, is_sound, retained_group
from trio_jobs._stores.sqlite.schema import ACTIVITY, get_meta

__all__ = ["Contents", "RowReader", "check_high_water_mark", "read_contents"]


@attrs.frozen(kw_only=True)
class Contents:
    """What a journal contains."""

    bodies: list[bytes]
    """The encoded events, in the order of `seq`."""
    tombstones: list[KeyTombstone]
    """The tombstones of pruned keys, in the order of `at`."""
    epoch: str
    """See `Store.epoch`."""
    oldest: int
    """See `Store.oldest`."""
    pruned: int
    """Number of events that were deleted so far."""
    last_of_group: dict[int, int]
    """`seq` of the last queue event of each group of `RETAINED`, by the number of the group."""
    retained: list[int]
    """`seq` of the queue events before `oldest`: the last ones, kept when the events around them were pruned."""
    newest: HighWaterMark
    """The high-water mark that belongs to these contents."""
    checksum_at_mark: int | None
    """Checksum of the row that the stored high-water mark names; None if it was pruned."""
    activity: str | None
    """See `KeepsActivity.activity`."""


class RowReader:
    """Verifies rows while they are read; its attributes are valid afterwards."""

    def __init__(self, path: str, oldest: int) -> None:
        self._path = path
        self._oldest = oldest
        self.retained: list[int] = []
        """See `Contents.retained`."""
        self.count = 0
        """Number of rows."""
        self.last: Row | None = None
        """The last row."""
        self.last_of_group: dict[int, int] = {}
        """See `Contents.last_of_group`."""
        self.watched_checksum: int | None = None
        """Checksum of the row whose `seq` was watched; None if there is none."""

    def read(self, cursor: Iterable[Any], watched_seq: int) -> Iterator[bytes]:
        """Yield the bodies. Raises `JournalDamaged`."""
        previous = 0
        for row in cursor:
            if not is_sound(row):
                raise JournalDamaged(self._path, f"the row of event {row[0]} fails its checksum")
            if row[0] <= previous:
                raise JournalDamaged(self._path, f"event {row[0]} follows event {previous}")
            previous = row[0]
            if previous == watched_seq:
                self.watched_checksum = row[3]
            if not row[1]:
                group = retained_group(row)
                if group is not None:
                    self.last_of_group[group] = previous
                if previous < self._oldest:
                    self.retained.append(previous)
            self.count += 1
            self.last = row
            yield row[2]


def read_contents(connection: Connection, path: str, stored: HighWaterMark | None) -> Contents:
    """Read and verify everything but the high-water mark. Raises `sqlite3.Error`, `JournalDamaged`."""
    meta = get_meta(connection, path)
    epoch, oldest, pruned = meta["epoch"], int(meta["oldest"]), int(meta["pruned"])
    rows = RowReader(path, oldest)
    # closed in any case: a statement that is still open keeps a closed connection, and its lock, alive
    with closing(connection.execute("SELECT seq, job, body, checksum FROM events ORDER BY seq")) as cursor:
        bodies = list(rows.read(cursor, stored.seq if stored is not None else 0))
    tombstones = list(read_tombstones(connection, path, int(meta["keys"])))
    last_seq, checksum = (rows.last[0], rows.last[3]) if rows.last is not None else (0, 0)
    if last_seq < oldest - 1:
        last_seq, checksum = oldest - 1, 0
    expected = last_seq - pruned
    if rows.count != expected:
        raise JournalDamaged(path, f"it contains {rows.count} events instead of {expected}")
    return Contents(
        bodies=bodies,
        tombstones=tombstones,
        epoch=epoch,
        oldest=oldest,
        pruned=pruned,
        last_of_group=rows.last_of_group,
        retained=rows.retained,
        newest=HighWaterMark(epoch, last_seq, checksum),
        checksum_at_mark=rows.watched_checksum,
        activity=meta.get(ACTIVITY),
    )


def check_high_water_mark(contents: Contents, stored: HighWaterMark, path: str) -> None:
    """Raise `JournalDamaged` unless the stored mark fits the contents.

    A mark that is older than the contents fits: it may be a few groups behind.
    """
    last_seq = contents.newest.seq
    if stored.epoch != contents.epoch and (stored.seq > 0 or last_seq > 0):
        raise JournalDamaged(path, "its epoch is not that of its high-water mark")
    if stored.seq > last_seq:
        found = f"it ends at event {last_seq}" if last_seq else "it has no events"
        raise JournalDamaged(path, f"{found}, but events up to {stored.seq} were committed to it")
    if contents.checksum_at_mark not in (None, stored.checksum):
        raise JournalDamaged(path, f"the checksum of event {stored.seq} is not that in its high-water mark")

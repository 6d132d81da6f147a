"""How a service is opened: its store, its seat and its queue.

`Service.open` imports this module, and with it all that a running queue consists of. A process that only declares a
service, such as that of an SDK, needs none of it.
"""

from __future__ import annotations

import random
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from trio_jobs import _export
from trio_jobs._errors import UsageError
from trio_jobs._executors.inside_process import check_outside
from trio_jobs._ports import BacksUp, Clock, Store
from trio_jobs._runtime.clock import SystemClock
from trio_jobs._runtime.queue import Queue
from trio_jobs._runtime.seat_lock import SeatLock, seat_in_memory
from trio_jobs._runtime.settings import Settings
from trio_jobs._runtime.supervisor import open_queue
from trio_jobs._service_origin import Origin
from trio_jobs._service_parts import ServiceParts
from trio_jobs._stores.memory import MemoryStore

__all__ = ["open_service", "seat_of"]


def open_service(
    service: object,
    parts: ServiceParts,
    origin: Origin,
    settings: Settings,
    *,
    journal: str | Path | None,
    allow_data_loss: bool,
    store: Store | None,
    clock: Clock | None,
    seed: int | None,
) -> AbstractAsyncContextManager[Queue]:
    """See `Service.open`."""
    check_outside()
    if journal is not None and store is not None:
        raise UsageError("give journal or store, not both")
    if clock is not None and not isinstance(clock, Clock):
        raise UsageError("clock must conform to trio_jobs.ports.Clock: now(), elapsed() and monotonic()")
    if store is None:
        store = MemoryStore(reopens=False) if journal is None else _journal_store(journal, allow_data_loss)
    return open_queue(
        handlers=dict(parts.handlers),
        settings=settings,
        store=store,
        make_executor=parts.make_executor,
        clock=SystemClock() if clock is None else clock,
        chance=random.Random(seed),
        hooks=parts.fixed_hooks(),
        seat=None if parts.sdk_kind == "none" else seat_of(service, origin, settings, store),
    )


def seat_of(service: object, origin: Origin, settings: Settings, store: Store) -> SeatLock | None:
    """The lock of the seat of a service that is opened with this store. None if it is waived."""
    given = settings.seat_lock
    if given is None:
        return None
    if given is not True:
        return SeatLock(str(Path(given).absolute()))
    if isinstance(store, BacksUp) and store.path != ":memory:":
        return SeatLock(f"{store.path}-seat")
    file = origin.file()
    module = str(origin.globals.get("__name__", "")) if file is None else Path(file).stem
    return SeatLock(seat_in_memory(f"{module}:{origin.name_of(service)}", str(Path.cwd()) if file is None else file))


def _journal_store(path: str | Path, allow_data_loss: bool) -> Store:
    """A store that keeps the jobs in a journal; see `Service.open`."""
    from trio_jobs._stores.sqlite.store import SqliteStore  # services without a journal need no SQLite

    return SqliteStore(path, allow_data_loss=allow_data_loss)


# here, since a program that opens a service need not use a public name of a running queue
_export.import_group_of("Queue")

"""The interfaces of trio-jobs to everything outside of the queue, for those who implement one.

- `Store` keeps the events of a queue: `Service.open(store=...)`. `trio_jobs.testing.check_store` tests a store.
- `SdkExecutor` owns the SDK session: `Service(executor=...)`. `trio_jobs.testing.check_executor` tests an executor.
- `Clock` is a source of times: `Service.open(clock=...)`.
- `BacksUp` is a `Store` that `Queue.backup` can copy; `Backup` is what it returns.
- `KeyTombstone` is what a store keeps of the key of a removed job.
- `Event` is the base class of the events that a store keeps. A store treats them as opaque, apart from `seq`, `at`
  and, on those that have one, `job`.
"""

# KeyTombstone's annotations are resolved in the module that it says it is from, which is this one
from trio_jobs._engine.events import Event
from trio_jobs._engine.jobs import State as State
from trio_jobs._engine.key_tombstones import KeyTombstone
from trio_jobs._ports import BacksUp, Backup, Clock, SdkExecutor, Store

__all__ = ["BacksUp", "Backup", "Clock", "Event", "KeyTombstone", "SdkExecutor", "Store"]

for _public in (BacksUp, Clock, KeyTombstone, SdkExecutor, Store):
    _public.__module__ = __name__

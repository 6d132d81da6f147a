"""The interfaces of trio-jobs to everything outside of the queue, for those who implement one.

- `Store` keeps the events of a queue: `Service.open(store=...)`. `trio_jobs.testing.check_store` tests a store.
- `SdkExecutor` owns the SDK session: `Service(executor=...)`. `trio_jobs.testing.check_executor` tests an executor.
- `RecognizesCallers` is an `SdkExecutor` that recognizes callers of the queue within its own calls.
- `Interrupts` is an `SdkExecutor` whose calls can be interrupted; `Interruption` is what came of it.
- `SdkCall` is a call that an executor makes in the SDK, and `CallEnd` what its `run` returns: the `CallReport`, with a
  `RaisedError` if it raised, goes to the queue; the exception stays where the SDK lives. `FunctionCall` is a call of
  one function.
- `CallHandle` is the base class of the SDK handles of executors that keep the exceptions of calls.
- `Kills` is an `SdkExecutor` that can end a call that does not return.
- `Discard` says why a session is discarded; `SdkExecutor.close` takes one.
- `Clock` is a source of times: `Service.open(clock=...)`.
- `BacksUp` is a `Store` that `Queue.backup` can copy; `Backup` is what it returns.
- `KeepsActivity` is a `Store` that keeps what operators did longer than the events of the jobs.
- `KeepsSecrets` is a `Store` that keeps the keys of tickets and page sessions.
- `KeyTombstone` is what a store keeps of the key of a removed job.
- `Backend` is what a server uses of a queue, and `BackendHolder` is what `serve` takes: a `Queue` is one.
- `Event` is the base class of the events that a store keeps. A store treats them as opaque, apart from `seq`, `at`
  and, on those that have one, `job`.
"""

from trio_jobs import _export
from trio_jobs._backend import Backend, BackendHolder
from trio_jobs._backup import Backup
from trio_jobs._call_report import CallReport, RaisedError
from trio_jobs._engine.events import Event
from trio_jobs._engine.key_tombstones import KeyTombstone
from trio_jobs._interruption import Interruption, Interrupts, Kills
from trio_jobs._kept_activity import KeepsActivity
from trio_jobs._kept_secrets import KeepsSecrets
from trio_jobs._ports import BacksUp, Clock, Discard, RecognizesCallers, SdkExecutor, Store
from trio_jobs._sdk_call import CallEnd, CallHandle, FunctionCall, SdkCall

__all__ = [
    "Backend",
    "BackendHolder",
    "BacksUp",
    "Backup",
    "CallEnd",
    "CallHandle",
    "CallReport",
    "Clock",
    "Discard",
    "Event",
    "FunctionCall",
    "Interruption",
    "Interrupts",
    "KeepsActivity",
    "KeepsSecrets",
    "KeyTombstone",
    "Kills",
    "RaisedError",
    "RecognizesCallers",
    "SdkCall",
    "SdkExecutor",
    "Store",
]

# Backup and Event are exported by trio_jobs and trio_jobs.events too, which are their home
_export.export(__name__, [name for name in __all__ if name not in ("Backup", "Event")], globals())

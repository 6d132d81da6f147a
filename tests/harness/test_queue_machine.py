"""Rules of `QueueMachine`: the promises hold with each storage, and planted bugs are found.

The tests run few examples, the same ones each time; `./run campaign` runs many more, different ones each time.
"""

from __future__ import annotations

import copy
import functools
import random
import types
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import attrs
import msgspec
import pytest
import trio
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RULE_MARKER
from worked_example import Invoice, Ledger, make_corrected_service, make_service

import trio_jobs
from trio_jobs import State
from trio_jobs._engine import attempt_result, decide
from trio_jobs._engine.events import Event, Started
from trio_jobs._engine.jobs import JobRecord
from trio_jobs._engine.status import Health
from trio_jobs._event_stream import EventStream
from trio_jobs._executors.thread import ThreadExecutor
from trio_jobs._ports import Discard
from trio_jobs._runtime.admission import Admission
from trio_jobs._runtime.job_channel import ChannelStatistics, JobChannel
from trio_jobs._runtime.queue import Queue
from trio_jobs.testing import FakeSdk, FakeSession, QueueMachine, Slow
from trio_jobs.testing._example_service import ExamplePayload, example_service
from trio_jobs.testing._operator_rules import COMMANDS
from trio_jobs.testing.stateful import invariant, rule, run_state_machine_as_test

BOUNDED = settings(
    max_examples=25,
    stateful_step_count=20,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
#: for machines that must fail; they need not shrink
FIND = settings(BOUNDED, max_examples=2000, phases=[Phase.generate], report_multiple_bugs=False)


class OnDisk(QueueMachine):
    storage = "disk"


class InMemory(QueueMachine):
    storage = "memory"


class OnSqlite(QueueMachine):
    storage = "sqlite"


class OnThread(QueueMachine):
    """Plain handlers on a thread."""

    payloads = {"post_invoice": st.builds(Invoice, st.sampled_from(["A-1", "A-2"]), st.integers(1, 2))}

    def make_service(self) -> trio_jobs.Service:
        self.ledger = Ledger()
        return make_corrected_service(self.ledger)

    @invariant()
    def no_invoice_is_booked_twice(self) -> None:
        references = [reference for _, reference in self.ledger.vouchers]
        assert len(references) == len(set(references)), "booked twice"


_NUMBERS = st.integers(0, 2)


class Saving(QueueMachine):
    """A service that saves groups of up to three jobs. Saves fail, take long and hang."""

    def make_service(self) -> trio_jobs.Service:
        self.sdk = FakeSdk()
        return example_service(self.sdk, save=FakeSession.asave, save_after_jobs=3, save_after=2, save_timeout=10)

    @rule(
        what=st.sampled_from([OSError("full"), Slow(3), Slow(60), Slow(3, OSError("late"))]), number=st.integers(0, 2)
    )
    async def plan_save(self, what: Any, number: int) -> None:
        self.sdk.script("save", *["saved"] * number, what)

    @invariant()
    def no_save_enters_a_session_in_which_a_save_has_failed(self) -> None:
        self.sdk.check(closed=False)


MACHINES: tuple[type[QueueMachine], ...] = (OnDisk, InMemory, OnSqlite, OnThread, Saving)


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.__name__)
def test_the_promises_hold_under_callers_and_faults(machine: type[QueueMachine]) -> None:
    few = settings(BOUNDED, max_examples=10) if machine is OnSqlite else BOUNDED
    run_state_machine_as_test(machine, settings=few)


@pytest.mark.campaign
@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.__name__)
def test_the_promises_hold_in_many_more_examples(machine: type[QueueMachine]) -> None:
    many = settings(
        BOUNDED, max_examples=500 if machine is OnSqlite else 3000, stateful_step_count=40, derandomize=False
    )
    here = seed(random.SystemRandom().getrandbits(64))(type(machine.__name__, (machine,), {}))
    run_state_machine_as_test(here, settings=many)


class Uncorrected(OnThread):
    """The handler of docs/testing.md before its correction."""

    def make_service(self) -> trio_jobs.Service:
        self.ledger = Ledger()
        return make_service(self.ledger)


def test_a_handler_that_books_before_it_checks_is_found() -> None:
    with pytest.raises(AssertionError, match="booked twice"):
        run_state_machine_as_test(Uncorrected, settings=FIND)


#: rules that end or hide what a call has done
OF_CALLERS = ("cancel", "resolve", "retry", "set_paused", "release_blocked_call", "end_process")


def found(machine: type[QueueMachine], command: str | None = None, without: Sequence[str] = ()) -> str:
    """The error with which the machine fails. Operators give this command only, or none, so that it takes few steps.

    Args:
        machine: The machine.
        command: One of `COMMANDS`.
        without: Other rules that are left out.
    """

    class Operated(machine):  # type: ignore[valid-type,misc] # a type of the caller
        @rule(job=machine.jobs, data=st.data())
        async def operate(self, job: str | None, data: st.DataObject) -> None:
            await machine.operate(self, job, command or "", data)

    tried = type(machine.__name__, (machine,), dict.fromkeys(("operate", *without))) if command is None else Operated
    with pytest.raises(BaseException) as caught:
        run_state_machine_as_test(tried, settings=FIND)
    return f"{type(caught.value).__name__}: {caught.value}"


def test_a_job_that_ends_while_the_machine_is_about_to_forget_it_is_no_gap_of_a_reader() -> None:
    forgotten: list[str | None] = []

    class Forgetting(Saving):
        async def end_and_forget(self) -> None:
            job = await self._submit("idempotent", ExamplePayload(1), key=None)
            await self.pass_time(1.5)
            await self.promises_hold()
            assert self.queue.get(job).state is State.SAVING
            await self._forget(job)
            assert job not in self.queue.job_ids()
            forgotten.append(job)

    rules = [name for name in dir(Forgetting) if hasattr(getattr(Forgetting, name), RULE_MARKER)]
    alone = type("Alone", (Forgetting,), dict.fromkeys(rules) | {"step": rule()(Forgetting.end_and_forget)})
    run_state_machine_as_test(alone, settings=settings(BOUNDED, max_examples=1, stateful_step_count=2))
    assert forgotten


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    yield monkeypatch


def test_p4_a_queue_that_treats_a_known_key_as_new_is_found(plant: pytest.MonkeyPatch) -> None:
    plant.setattr(Admission, "_receipt_of_known", lambda self, new: None)
    assert found(InMemory).startswith("AssertionError: P4")


def test_p6_a_queue_that_records_a_timeout_as_completed_is_found(plant: pytest.MonkeyPatch) -> None:
    end = attempt_result.end

    def end_as_completed(record: Any, ending: Any, *args: Any) -> Any:
        if ending.outcome == "timed_out":
            ending = msgspec.structs.replace(ending, outcome=trio_jobs.Outcome.COMPLETED)
        return end(record, ending, *args)

    plant.setattr("trio_jobs._runtime.attempt_runner.decide.end", end_as_completed)
    assert "P6" in found(InMemory, without=OF_CALLERS)


def test_p3_a_queue_that_leaves_its_sdk_open_is_found(plant: pytest.MonkeyPatch) -> None:
    close = ThreadExecutor.close

    async def skip_close(self: ThreadExecutor, discard: Discard | None = None) -> bool:
        return False if discard is None else await close(self, discard)

    plant.setattr(ThreadExecutor, "close", skip_close)
    assert "P3" in found(OnThread)


def test_p9_a_queue_that_leaks_slots_is_found(plant: pytest.MonkeyPatch) -> None:
    def keep_slot(self: JobChannel, record: JobRecord) -> None:
        self._jobs.popleft()
        self.kinds[record.kind] -= 1

    plant.setattr(JobChannel, "received", keep_slot)
    assert "P9" in found(InMemory)


def test_p9_a_queue_that_miscounts_slots_while_jobs_wait_is_found(plant: pytest.MonkeyPatch) -> None:
    count = JobChannel.statistics

    def miscount(self: JobChannel) -> ChannelStatistics:
        true = count(self)
        return attrs.evolve(true, free=max(true.free - bool(true.used), 0))

    plant.setattr(JobChannel, "statistics", miscount)
    assert "P9" in found(InMemory)


def test_p10_a_queue_that_does_not_expire_jobs_is_found(plant: pytest.MonkeyPatch) -> None:
    """Only the scheduler fails to; the consumer still does not start a job after its deadline."""
    without_expiry = types.SimpleNamespace(**(vars(decide) | {"expire": lambda *args: []}))
    plant.setattr("trio_jobs._runtime.scheduler.decide", without_expiry)
    assert "P10" in found(InMemory)


def test_p10_an_overrun_that_is_not_reported_is_found(plant: pytest.MonkeyPatch) -> None:
    plant.setattr("trio_jobs._runtime.overrun_monitor.OverrunMonitor._check", lambda self, running: float("inf"))
    assert "P10" in found(InMemory)


@pytest.mark.parametrize("problems", [(), ("store",)], ids=["never a problem", "always a problem"])
def test_p7_a_queue_with_constant_health_is_found(problems: tuple[str, ...], plant: pytest.MonkeyPatch) -> None:
    health = Queue.health
    plant.setattr(Queue, "health", lambda self: attrs.evolve(health(self), ok=not problems, problems=problems))
    assert "P7" in found(InMemory)


def test_p7_an_overdue_attempt_that_health_does_not_name_is_found(plant: pytest.MonkeyPatch) -> None:
    health = Queue.health

    def without_overdue(self: Queue) -> Health:
        true = health(self)
        return attrs.evolve(true, ok=True, problems=()) if "overdue" in true.problems else true

    plant.setattr(Queue, "health", without_overdue)
    assert "is overdue, and health has" in found(InMemory)


def test_p8_a_feed_that_skips_an_event_is_found(plant: pytest.MonkeyPatch) -> None:
    """The store has every event."""
    read = EventStream.__anext__

    async def skip(self: EventStream) -> Event:
        event = await read(self)
        return await read(self) if isinstance(event, Started) else event

    plant.setattr(EventStream, "__anext__", skip)
    assert "P8: a reader received" in found(InMemory)


def test_a_drain_that_does_not_wait_is_found(plant: pytest.MonkeyPatch) -> None:
    async def at_once(self: Queue) -> None:
        await trio.lowlevel.checkpoint()

    plant.setattr(Queue, "drain", at_once)
    assert "drain returned while there were jobs" in found(InMemory)


def test_a_drain_that_does_not_return_is_found(plant: pytest.MonkeyPatch) -> None:
    async def never(self: Queue) -> None:
        await trio.sleep(7 * 86_400)

    plant.setattr(Queue, "drain", never)
    assert "drain did not return although no job was" in found(InMemory)


def test_a_consumer_that_fails_is_found(plant: pytest.MonkeyPatch) -> None:
    async def fail(*args: Any) -> None:
        raise ZeroDivisionError

    plant.setattr("trio_jobs._runtime.verification.Verification.resolve_soon", fail)
    assert found(InMemory).startswith("QueueBroken")


def test_a_dry_run_that_changes_something_is_found(plant: pytest.MonkeyPatch) -> None:
    change = Queue.cancel_many

    async def always(self: Queue, *, dry_run: bool = False, **conditions: Any) -> Any:
        return await change(self, **conditions)

    plant.setattr(Queue, "cancel_many", always)
    assert "a dry run (cancel many) has changed something" in found(InMemory, "cancel many")


def test_a_claim_that_replaces_another_one_is_found(plant: pytest.MonkeyPatch) -> None:
    claim = Queue.claim

    async def taking_over(self: Queue, job_id: str, **arguments: Any) -> None:
        await claim(self, job_id, **{**arguments, "take_over": True})

    plant.setattr(Queue, "claim", taking_over)
    assert "eve has claimed a job" in found(InMemory, "claim")


def count_calls(machine: type[QueueMachine], name: str, calls: Counter[str]) -> None:
    """Count in `calls` how often the rule of that name returns, and each command of an operator."""
    step = getattr(machine, name)
    declared = getattr(step, RULE_MARKER)

    @functools.wraps(step)
    def counting(self: QueueMachine, /, **arguments: Any) -> Any:
        result = step(self, **arguments)
        calls[name] += 1
        calls[arguments.get("what", "")] += 1
        return result

    adapted = copy.copy(declared)
    object.__setattr__(adapted, "function", counting)
    setattr(counting, RULE_MARKER, adapted)
    setattr(machine, name, counting)


STATES = {"completed", "failed", "cancelled", "in_doubt", "scheduled", "restarted"}


def test_every_rule_runs_and_jobs_reach_every_final_state() -> None:
    """A machine whose jobs never become final would find nothing."""
    seen: set[str] = set()
    calls: Counter[str] = Counter()

    class Counting(OnDisk):
        async def _read_events(self) -> None:
            await super()._read_events()
            seen.update(str(job.state) for job in self.model.jobs.values())
            seen.update(["restarted"] if self._processes > 2 else [])

        async def _stop(self) -> None:
            await super()._stop()
            assert self.reports[-1].jobs[State.PROCESSING] == 0

        def _check_drained(self, drained: bool) -> None:
            super()._check_drained(drained)
            calls["drained"] += drained

    rules = [name for name in dir(Counting) if hasattr(getattr(Counting, name), RULE_MARKER)]
    for name in rules:
        count_calls(Counting, name, calls)
    wanted = (*rules, *COMMANDS, "drained")
    few = settings(BOUNDED, max_examples=20, phases=[Phase.generate])
    for n in range(25):  # each name of a class draws other examples; some never draw one of the commands
        run_state_machine_as_test(type(f"Counting{n}", (Counting,), {}), settings=few)
        if not any(calls[name] < 5 for name in wanted) and seen >= STATES:
            break
    assert seen >= STATES, seen
    assert len(rules) >= 9
    assert not [name for name in wanted if calls[name] < 5], calls

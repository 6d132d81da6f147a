"""The machine on our own queue, wherever jobs are kept; and that it finds what is wrong.

Bounded here, with the same examples each time; `./run campaign` takes many more, and others each time.
"""

from __future__ import annotations

import copy
import functools
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import attrs
import msgspec
import pytest
import trio
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RULE_MARKER
from worked_example import Invoice, Ledger, make_mended_service, make_service

import trio_jobs
from trio_jobs import State
from trio_jobs._engine import attempt_result
from trio_jobs._engine.events import Event, Started
from trio_jobs._event_stream import EventStream
from trio_jobs._executors.thread import ThreadExecutor
from trio_jobs._runtime.admission import Admission
from trio_jobs._runtime.job_channel import ChannelStatistics, JobChannel
from trio_jobs._runtime.queue import Queue
from trio_jobs._runtime.report import Health
from trio_jobs.testing import QueueMachine
from trio_jobs.testing.stateful import invariant, run_state_machine_as_test

BOUNDED = settings(
    max_examples=25,
    stateful_step_count=20,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
#: for machines that are to fail: how they shrink is of no interest
FIND = settings(BOUNDED, max_examples=2000, phases=[Phase.generate], report_multiple_bugs=False)


class OnDisk(QueueMachine):
    keeps = "disk"


class InMemory(QueueMachine):
    keeps = "memory"


class OnSqlite(QueueMachine):
    keeps = "sqlite"


class OnThread(QueueMachine):
    """Plain handlers on a thread, and one that is asynchronous beside it."""

    payloads = {"post_invoice": st.builds(Invoice, st.sampled_from(["A-1", "A-2"]), st.integers(1, 2))}

    def make_service(self) -> trio_jobs.Service:
        self.ledger = Ledger()
        return make_mended_service(self.ledger)

    @invariant()
    def nothing_is_booked_twice(self) -> None:
        references = [reference for _, reference in self.ledger.vouchers]
        assert len(references) == len(set(references)), "booked twice"


MACHINES: tuple[type[QueueMachine], ...] = (OnDisk, InMemory, OnSqlite, OnThread)


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.__name__)
def test_the_promises_hold_whatever_callers_and_the_sdk_do(machine: type[QueueMachine]) -> None:
    few = settings(BOUNDED, max_examples=10) if machine is OnSqlite else BOUNDED
    run_state_machine_as_test(machine, settings=few)


@pytest.mark.campaign
@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.__name__)
def test_the_promises_hold_in_many_more_days(machine: type[QueueMachine]) -> None:
    many = settings(
        BOUNDED, max_examples=500 if machine is OnSqlite else 3000, stateful_step_count=40, derandomize=False
    )
    here = seed(random.SystemRandom().getrandbits(64))(type(machine.__name__, (machine,), {}))
    run_state_machine_as_test(here, settings=many)


class Mistaken(OnThread):
    """The worked example before it was mended."""

    def make_service(self) -> trio_jobs.Service:
        self.ledger = Ledger()
        return make_service(self.ledger)


def test_a_handler_that_books_before_it_checks_is_found() -> None:
    with pytest.raises(AssertionError, match="booked twice"):
        run_state_machine_as_test(Mistaken, settings=FIND)


def found(machine: type[QueueMachine]) -> str:
    """What the machine finds, or dies of."""
    with pytest.raises(BaseException) as caught:
        run_state_machine_as_test(machine, settings=FIND)
    return f"{type(caught.value).__name__}: {caught.value}"


@pytest.fixture
def mistakes(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    yield monkeypatch


def test_p4_a_queue_that_takes_a_known_key_for_a_new_one_is_found(mistakes: pytest.MonkeyPatch) -> None:
    mistakes.setattr(Admission, "_receipt_of_known", lambda self, new: None)
    assert found(InMemory).startswith("AssertionError: P4")


def test_p6_a_queue_that_takes_a_timeout_for_a_success_is_found(mistakes: pytest.MonkeyPatch) -> None:
    end = attempt_result.end

    def hopeful(record: Any, ending: Any, *args: Any) -> Any:
        if ending.outcome == "timed_out":
            ending = msgspec.structs.replace(ending, outcome=trio_jobs.Outcome.COMPLETED)
        return end(record, ending, *args)

    mistakes.setattr("trio_jobs._runtime.attempt_runner.decide.end", hopeful)
    assert "P6" in found(InMemory)


def test_p3_a_queue_that_leaves_its_sdk_open_is_found(mistakes: pytest.MonkeyPatch) -> None:
    async def forget(self: ThreadExecutor) -> bool:
        return False

    mistakes.setattr(ThreadExecutor, "close", forget)
    assert "P3" in found(OnThread)


def test_p9_a_queue_that_loses_places_is_found(mistakes: pytest.MonkeyPatch) -> None:
    mistakes.setattr("trio_jobs._runtime.job_channel.JobChannel.release", lambda self: None)
    assert "P9" in found(InMemory)


def test_p9_a_queue_that_miscounts_places_while_jobs_wait_is_found(mistakes: pytest.MonkeyPatch) -> None:
    count = JobChannel.statistics

    def miscount(self: JobChannel) -> ChannelStatistics:
        true = count(self)
        return attrs.evolve(true, free=max(true.free - bool(true.used), 0))

    mistakes.setattr(JobChannel, "statistics", miscount)
    assert "P9" in found(InMemory)


def test_p10_a_queue_that_lets_jobs_wait_past_their_deadline_is_found(mistakes: pytest.MonkeyPatch) -> None:
    mistakes.setattr("trio_jobs._runtime.scheduler.decide.expire", lambda *args: [])
    assert "P10" in found(InMemory)


def test_p10_an_attempt_without_an_end_that_nobody_is_told_of_is_found(mistakes: pytest.MonkeyPatch) -> None:
    mistakes.setattr("trio_jobs._runtime.overrun_monitor.OverrunMonitor._check", lambda self, running: float("inf"))
    assert "P10" in found(InMemory)


@pytest.mark.parametrize("problems", [(), ("store",)], ids=["nothing ever", "something always"])
def test_p7_a_queue_whose_health_is_not_true_is_found(problems: tuple[str, ...], mistakes: pytest.MonkeyPatch) -> None:
    health = Queue.health
    mistakes.setattr(Queue, "health", lambda self: attrs.evolve(health(self), ok=not problems, problems=problems))
    assert "P7" in found(InMemory)


def test_p7_an_overdue_attempt_that_health_does_not_name_is_found(mistakes: pytest.MonkeyPatch) -> None:
    health = Queue.health

    def silent(self: Queue) -> Health:
        true = health(self)
        return attrs.evolve(true, ok=True, problems=()) if "overdue" in true.problems else true

    mistakes.setattr(Queue, "health", silent)
    assert "is overdue, and health has" in found(InMemory)


def test_p8_a_feed_that_leaves_an_event_out_is_found(mistakes: pytest.MonkeyPatch) -> None:
    """What is kept is whole."""
    give = EventStream.__anext__

    async def skip(self: EventStream) -> Event:
        event = await give(self)
        return await give(self) if isinstance(event, Started) else event

    mistakes.setattr(EventStream, "__anext__", skip)
    assert "P8: a reader is given" in found(InMemory)


def test_a_drain_that_does_not_wait_is_found(mistakes: pytest.MonkeyPatch) -> None:
    async def at_once(self: Queue) -> None:
        await trio.lowlevel.checkpoint()

    mistakes.setattr(Queue, "drain", at_once)
    assert "a drained queue has nothing to do, and there are" in found(InMemory)


def test_a_drain_that_never_says_so_is_found(mistakes: pytest.MonkeyPatch) -> None:
    async def never(self: Queue) -> None:
        await trio.sleep(7 * 86_400)

    mistakes.setattr(Queue, "drain", never)
    assert "a queue that has nothing to do is drained" in found(InMemory)


def test_a_consumer_that_dies_is_found(mistakes: pytest.MonkeyPatch) -> None:
    async def die(*args: Any) -> None:
        raise ZeroDivisionError

    mistakes.setattr("trio_jobs._runtime.verification.Verification.resolve_soon", die)
    assert found(InMemory).startswith("QueueBroken")


def counted(machine: type[QueueMachine], name: str, met: Counter[str]) -> None:
    """Count in `met` how often the rule of that name is carried out to its end by `machine`."""
    step = getattr(machine, name)
    declared = getattr(step, RULE_MARKER)

    @functools.wraps(step)
    def counting(self: QueueMachine, /, **arguments: Any) -> Any:
        result = step(self, **arguments)
        met[name] += 1
        return result

    mine = copy.copy(declared)
    object.__setattr__(mine, "function", counting)
    setattr(counting, RULE_MARKER, mine)
    setattr(machine, name, counting)


def test_each_rule_is_met_and_jobs_come_to_every_end() -> None:
    """A machine that never gets anywhere finds nothing."""
    seen: set[str] = set()
    met: Counter[str] = Counter()

    class Counting(OnDisk):
        async def _read_events(self) -> None:
            await super()._read_events()
            seen.update(str(job.state) for job in self.model.jobs.values())
            seen.update(["restarted"] if self._processes > 2 else [])

        async def _leave(self) -> None:
            await super()._leave()
            assert self.reports[-1].jobs[State.PROCESSING] == 0

        def _look_drained(self, drained: bool) -> None:
            super()._look_drained(drained)
            met["drained"] += drained

    rules = [name for name in dir(Counting) if hasattr(getattr(Counting, name), RULE_MARKER)]
    for name in rules:
        counted(Counting, name, met)
    run_state_machine_as_test(Counting, settings=settings(BOUNDED, max_examples=200, phases=[Phase.generate]))
    assert seen >= {"completed", "failed", "cancelled", "in_doubt", "scheduled", "restarted"}, seen
    assert len(rules) >= 9
    assert not [name for name in (*rules, "drained") if met[name] < 5], met

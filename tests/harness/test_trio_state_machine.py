"""Rules of `TrioStateMachine`: what its asynchronous rules can use, and how each kind of failure is reported.

The machines run with few examples, since each one shows its rule in every example or shrinks to one.
"""

from __future__ import annotations

import contextvars
import sys
import textwrap
import threading
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import hypothesis.stateful
import pytest
import trio
from hypothesis import HealthCheck, Phase, assume, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine

from support import processes
from trio_jobs.testing.stateful import (
    Bundle,
    Stuck,
    TrioStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

FEW = settings(
    max_examples=20,
    stateful_step_count=8,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
#: for machines that show their rule in one example
ONCE = settings(FEW, max_examples=1, stateful_step_count=3, phases=[Phase.generate])


class PlannedError(Exception):
    """Raised by machines on purpose."""


def run(machine: type[RuleBasedStateMachine], how: settings = FEW) -> None:
    run_state_machine_as_test(machine, settings=how)


def failing_steps(machine: type[RuleBasedStateMachine], error: type[BaseException]) -> list[str]:
    """The example that Hypothesis reports, without its first line and the teardown."""
    with pytest.raises(error) as caught:
        run(machine)
    lines = "\n".join(caught.value.__notes__).splitlines()
    return [line.removeprefix("state.") for line in lines if line.startswith("state.") and "teardown" not in line]


class Timers(TrioStateMachine):
    """Uses each feature of Hypothesis once: bundles, preconditions, plain and asynchronous rules, invariants."""

    jobs = Bundle("jobs")

    @initialize(first=st.integers(0, 3))
    async def begin(self, first: int) -> None:
        self.done: list[int] = []
        self.sent = 0
        self.time_at_start = trio.current_time()
        self.tasks = {trio.lowlevel.current_task()}

    @rule(target=jobs, n=st.integers(1, 5))
    async def send(self, n: int) -> int:
        async def work() -> None:
            await trio.sleep(n)
            self.done.append(n)

        self.nursery.start_soon(work)
        self.sent += 1
        return n

    @rule(target=jobs)
    async def send_two(self) -> Any:
        return multiple(await self.send(1), await self.send(2))

    @rule(n=jobs)
    async def wait(self, n: int) -> None:
        before = trio.current_time()
        await self.pass_time(n)
        assert trio.current_time() == before + n

    @hypothesis.stateful.rule(data=st.data())  # type: ignore[arg-type] # Hypothesis's `rule` is typed for plain rules
    async def draw(self, data: st.DataObject) -> None:
        note("drawn inside Trio")
        assume(data.draw(st.integers(0, 9)) != 3)

    @precondition(lambda self: self.sent > 1)
    @rule()
    def look(self) -> None:
        assert self.sent > 1
        assert trio.lowlevel.current_task() in self.tasks, "plain rules run in Trio too, in the same task"

    @invariant()
    async def time_moves_only_when_moved(self) -> None:
        assert len(self.done) <= self.sent
        if trio.current_time() == self.time_at_start:
            assert self.done == []


class Longer(Timers):
    @initialize()
    async def more(self) -> None:
        self.looked = 0

    @rule()
    async def look_twice(self) -> None:
        self.looked += 1


class Longest(Longer):
    @rule(n=st.integers(1, 2))
    async def look_twice(self, n: int = 1) -> None:
        await super().look_twice()
        self.looked += n


TestTimers = Timers.TestCase
TestTimers.settings = FEW
TestLongest = Longest.TestCase
TestLongest.settings = FEW


class Mixin:
    @rule()
    async def mixed_in(self) -> None:
        await trio.lowlevel.checkpoint()


def test_rules_of_mixins_are_used() -> None:
    ran: list[str] = []

    class Mixed(Mixin, TrioStateMachine):
        @invariant()
        def record_task(self) -> None:
            ran.append(trio.lowlevel.current_task().name)

    run(Mixed, ONCE)
    assert len(ran) == 4


def test_an_exception_in_a_background_task_fails_the_example_and_shrinks() -> None:
    class Machine(TrioStateMachine):
        @rule(n=st.integers(0, 100))
        async def start(self, n: int) -> None:
            async def crash() -> None:
                await trio.sleep(n)
                if n > 20:
                    raise PlannedError

            self.nursery.start_soon(crash)

        @rule(seconds=st.integers(0, 100))
        async def wait(self, seconds: int) -> None:
            await self.pass_time(seconds)

        @rule()
        async def idle(self) -> None: ...

    assert failing_steps(Machine, PlannedError) == ["start(n=21)", "wait(seconds=21)"]


def test_an_exception_in_a_background_task_ends_a_rule_that_waits() -> None:
    class Machine(TrioStateMachine):
        @rule()
        async def wait_for_ever(self) -> None:
            async def crash() -> None:
                raise PlannedError

            self.nursery.start_soon(crash)
            await trio.sleep_forever()

    assert failing_steps(Machine, PlannedError) == ["wait_for_ever()"]


def test_an_exception_in_a_nursery_of_a_rule_is_raised_without_a_group() -> None:
    class Machine(TrioStateMachine):
        @rule()
        async def go(self) -> None:
            async def crash() -> None:
                raise PlannedError

            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                nursery.start_soon(crash)

    assert failing_steps(Machine, PlannedError) == ["go()"]


def test_several_exceptions_from_the_same_line_are_one_failure() -> None:
    class Machine(TrioStateMachine):
        @rule(n=st.integers(1, 9))
        async def go(self, n: int) -> None:
            raise ExceptionGroup("", [ExceptionGroup("", [self.error()]) for _ in range(n)])

        def error(self) -> PlannedError:
            try:
                raise PlannedError
            except PlannedError as error:
                return error

    assert failing_steps(Machine, PlannedError) == ["go(n=1)"]


def test_two_different_exceptions_remain_a_group() -> None:
    class Machine(TrioStateMachine):
        @rule()
        async def go(self) -> None:
            raise ExceptionGroup("both", [PlannedError(), ExceptionGroup("", [ValueError()])])

    with pytest.raises(ExceptionGroup):
        run(Machine)


def test_assume_in_a_child_task_discards_the_example() -> None:
    seen: list[int] = []

    class Machine(TrioStateMachine):
        @rule(n=st.integers(0, 3))
        async def go(self, n: int) -> None:
            async def child() -> None:
                assume(n != 1)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(child)
            seen.append(n)

    run(Machine)
    assert seen
    assert 1 not in seen


@pytest.mark.parametrize("depth", ["in the rule", "in a task"])
def test_a_rule_that_waits_for_an_impossible_event_is_stuck_immediately(depth: str) -> None:
    class Machine(TrioStateMachine):
        timeout: ClassVar[float] = 1e9  # the test would time out

        @rule()
        async def wait(self) -> None:
            async with trio.open_nursery() as nursery:
                if depth == "in a task":
                    nursery.start_soon(self.waiter)
                else:
                    await self.waiter()

        async def waiter(self) -> None:
            await trio.Event().wait()

    before = set(threading.enumerate()) - {threading.current_thread()}
    if any(not thread.name.startswith("Trio thread") for thread in before):
        Machine.timeout = 0.05  # a thread left by another test could wake a task
    with pytest.raises(Stuck, match=r"an event that cannot arrive(?s:.)*await trio.Event\(\).wait\(\)"):
        run(Machine)


def test_a_rule_that_sleeps_is_stuck() -> None:
    class Machine(TrioStateMachine):
        timeout: ClassVar[float] = 0.05

        @rule()
        async def sleep(self) -> None:
            await trio.sleep(1)

    assert failing_steps(Machine, Stuck) == ["sleep()"]


def test_a_rule_waits_for_a_thread_for_timeout_seconds() -> None:
    go = threading.Event()

    class Returns(TrioStateMachine):
        @rule()
        async def call(self) -> None:
            assert await trio.to_thread.run_sync(lambda: 5) == 5

    class Hangs(TrioStateMachine):
        timeout: ClassVar[float] = 0.05

        @rule()
        async def call(self) -> None:
            await trio.to_thread.run_sync(go.wait, abandon_on_cancel=True)

    run(Returns, ONCE)
    try:
        with pytest.raises(Stuck):
            run(Hangs, ONCE)
    finally:
        go.set()


def test_a_task_that_stays_shielded_is_ended_and_reported() -> None:
    class Machine(TrioStateMachine):
        timeout: ClassVar[float] = 0.05

        @rule()
        async def hide(self) -> None:
            async def hidden() -> None:
                with trio.CancelScope(shield=True):
                    await trio.sleep_forever()

            self.nursery.start_soon(hidden)

    with pytest.raises(Stuck, match=r"did not end when they were cancelled:(?s:.)*hidden"):
        run(Machine, ONCE)
    run(Timers, ONCE)  # and the next run can begin


def test_virtual_time_passes_by_itself_at_the_end() -> None:
    ended: list[float] = []

    class Machine(TrioStateMachine):
        timeout: ClassVar[float] = 0.05

        @rule()
        async def begin(self) -> None:
            async def clean_up() -> None:
                try:
                    await trio.sleep_forever()
                finally:
                    with trio.CancelScope(shield=True):
                        await trio.sleep(3600)
                    ended.append(trio.current_time())

            self.nursery.start_soon(clean_up)

        async def teardown(self) -> None:
            await trio.sleep(1000)
            await super().teardown()

    run(Machine, ONCE)
    assert ended
    assert set(ended) == {4600.0}


def test_virtual_time_at_the_end_is_bounded() -> None:
    class Machine(TrioStateMachine):
        timeout: ClassVar[float] = 0.0

        @rule()
        async def begin(self) -> None:
            async def tick() -> None:
                while True:
                    await trio.sleep(1)

            self.nursery.start_soon(tick)

        async def teardown(self) -> None:
            await trio.sleep_forever()

    with pytest.raises(Stuck):
        run(Machine, settings(ONCE, stateful_step_count=1))


def test_an_exception_in_a_background_task_during_teardown_is_a_failure() -> None:
    class Machine(TrioStateMachine):
        @rule()
        async def begin(self) -> None: ...

        async def teardown(self) -> None:
            async def crash() -> None:
                raise PlannedError

            self.nursery.start_soon(crash)
            await trio.sleep_forever()

    with pytest.raises(PlannedError):
        run(Machine, ONCE)


@pytest.mark.parametrize("how", ["well", "raises", "crashes", "stuck", "assumes"])
def test_teardown_always_runs_in_trio(how: str) -> None:
    torn_down: list[bool] = []
    begun: list[bool] = []

    class Machine(TrioStateMachine):
        timeout: ClassVar[float] = 0.05

        @rule()
        async def go(self) -> None:
            begun.append(True)
            match how:
                case "raises":
                    raise PlannedError
                case "crashes":
                    self.nursery.start_soon(self.crash)
                case "stuck":
                    await trio.sleep_forever()
                case "assumes":
                    assume(len(begun) > 1)

        async def crash(self) -> None:
            raise PlannedError

        async def teardown(self) -> None:
            await trio.lowlevel.checkpoint()
            torn_down.append(trio.lowlevel.in_trio_task())

    try:
        run(Machine, settings(FEW, max_examples=3))
    except (PlannedError, Stuck):
        assert how in ("raises", "crashes", "stuck")
    else:
        assert how in ("well", "assumes")
    assert all(torn_down)
    assert len(torn_down) >= len(begun) / 8


def test_a_plain_teardown_runs() -> None:
    torn_down: list[bool] = []

    class Machine(TrioStateMachine):
        @rule()
        def go(self) -> None: ...

        def teardown(self) -> None:
            torn_down.append(True)

    run(Machine, ONCE)
    assert torn_down == [True]


def test_the_first_failure_is_raised_and_an_error_in_teardown_is_a_note() -> None:
    class Machine(TrioStateMachine):
        @rule(n=st.integers())
        async def go(self, n: int) -> None:
            if n:
                raise PlannedError

        async def teardown(self) -> None:
            if self._failure is not None:
                raise ValueError("the second thing")

    with pytest.raises(PlannedError) as caught:
        run(Machine)
    assert "and in teardown: ValueError: the second thing" in caught.value.__notes__


def test_an_error_in_teardown_alone_is_raised() -> None:
    class Machine(TrioStateMachine):
        @rule()
        async def go(self) -> None: ...

        async def teardown(self) -> None:
            raise PlannedError

    with pytest.raises(PlannedError):
        run(Machine, ONCE)


def test_an_exception_during_the_final_cancellation_is_a_failure() -> None:
    class Machine(TrioStateMachine):
        @rule()
        async def go(self) -> None:
            async def fail_when_cancelled() -> None:
                try:
                    await trio.sleep_forever()
                finally:
                    raise PlannedError

            self.nursery.start_soon(fail_when_cancelled)

    with pytest.raises(PlannedError):
        run(Machine)


def test_no_trio_run_starts_before_the_first_step() -> None:
    async def make_one() -> None:
        Timers()  # inside another run, in which none could start

    trio.run(make_one)


def test_a_machine_cannot_run_inside_trio() -> None:
    async def main() -> None:
        run(Timers, ONCE)

    with pytest.raises(RuntimeError, match=r"run\(\) from inside"):
        trio.run(main)


def test_a_machine_runs_in_any_thread() -> None:
    raised: list[BaseException] = []

    def in_thread() -> None:
        try:
            run(Longest, ONCE)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=in_thread)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
    assert not raised


def test_context_variables_are_shared_by_rules_of_one_example() -> None:
    variable = contextvars.ContextVar("variable", default=0)

    class Machine(TrioStateMachine):
        @initialize()
        async def begin(self) -> None:
            assert variable.get() == 0
            self.expected = 0

        @rule()
        async def count(self) -> None:
            assert variable.get() == self.expected
            self.expected += 1
            variable.set(self.expected)

    run(Machine)
    assert variable.get() == 0


def test_an_open_async_generator_is_closed_at_the_end() -> None:
    closed: list[str] = []

    class Machine(TrioStateMachine):
        @rule()
        async def begin(self) -> None:
            async def numbers() -> AsyncIterator[int]:
                try:
                    yield 1
                finally:
                    closed.append("closed")

            self.numbers = numbers()
            assert await anext(self.numbers) == 1

    run(Machine, settings(ONCE, stateful_step_count=1))
    assert closed == ["closed"]


def test_tasks_run_in_the_same_order_in_every_replay() -> None:
    orders: list[tuple[int, ...]] = []

    class Machine(TrioStateMachine):
        @rule()
        async def race(self) -> None:
            order: list[int] = []

            async def runner(n: int) -> None:
                await trio.lowlevel.checkpoint()
                order.append(n)

            async with trio.open_nursery() as nursery:
                for n in range(8):
                    nursery.start_soon(runner, n)
            orders.append(tuple(order))

    once = settings(ONCE, stateful_step_count=1)
    run(Machine, once)
    run(Machine, once)
    assert len(orders) == 2
    assert orders[0] == orders[1]


def test_a_keyboard_interrupt_propagates() -> None:
    class Machine(TrioStateMachine):
        @rule()
        async def go(self) -> None:
            self.nursery.start_soon(trio.sleep_forever)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(Machine)
    run(Timers, ONCE)


def test_all_tasks_are_blocked_after_a_rule() -> None:
    class Machine(TrioStateMachine):
        @initialize()
        async def begin(self) -> None:
            self.sent = self.received = 0
            send, receive = trio.open_memory_channel[int](0)
            self.channel = send
            self.nursery.start_soon(self.listen, receive)

        async def listen(self, receive: trio.MemoryReceiveChannel[int]) -> None:
            async for _ in receive:
                for _ in range(5):
                    await trio.lowlevel.checkpoint()
                self.received += 1

        @rule()
        async def send_one(self) -> None:
            await self.channel.send(1)
            self.sent += 1

        @invariant()
        def everything_is_received(self) -> None:
            assert self.sent == self.received

    run(Machine)


PROGRAM = """
    import trio
    from hypothesis import HealthCheck, settings, strategies as st
    from trio_jobs.testing.stateful import TrioStateMachine, invariant, rule, run_state_machine_as_test

    class Machine(TrioStateMachine):
        total = 0

        @rule(n=st.integers(0, 3))
        async def add(self, n):
            async def later():
                await trio.sleep(n)
                Machine.total += 1
            self.nursery.start_soon(later)
            {mistake}

        @rule()
        async def wait(self):
            await self.pass_time(2)

        @invariant()
        async def fine(self):
            pass

    few = settings(max_examples=5, database=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
    run_state_machine_as_test(Machine, settings=few)
    print("done", Machine.total > 0)
"""


def test_machines_run_without_pytest_and_with_warnings_as_errors() -> None:
    machines = [PROGRAM.format(mistake=mistake) for mistake in ("pass", "trio.sleep(1)", "await trio.sleep(1)")]
    done = processes.run([sys.executable, "-W", "error", "-c", "".join(map(textwrap.dedent, machines))])
    assert done.stdout.splitlines() == ["done True"] * 2
    _, never_awaited, stuck = done.stderr.partition("was never awaited")
    assert never_awaited, done.stderr
    assert "Stuck" in stuck, done.stderr
    assert done.returncode == 1


def test_the_testing_package_can_be_imported_without_hypothesis() -> None:
    program = """
        import sys
        sys.modules["hypothesis"] = None
        import trio_jobs.testing
        for name in ("QueueMachine", "TrioStateMachine"):
            try:
                getattr(trio_jobs.testing, name)
            except ImportError as error:
                print(error)
        try:
            import trio_jobs.testing.stateful
        except ImportError as error:
            print(error)
        print(hasattr(trio_jobs.testing, "nonsense"))
    """
    done = processes.run([sys.executable, "-W", "error", "-c", textwrap.dedent(program)], check=True)
    assert done.stdout.splitlines() == [
        *["state machines need Hypothesis: pip install trio-jobs[testing]"] * 3,
        "False",
    ]

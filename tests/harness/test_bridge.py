"""The bridge: what a state machine with asynchronous rules may do, and what becomes of what goes wrong in it.

Machines here are run on purpose with few examples: each rule of the bridge is met in every example, or shrinks to one.
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
#: where one example shows it all
ONCE = settings(FEW, max_examples=1, stateful_step_count=3, phases=[Phase.generate])


class Wrong(Exception):
    """What a machine raises on purpose."""


def run(machine: type[RuleBasedStateMachine], how: settings = FEW) -> None:
    run_state_machine_as_test(machine, settings=how)


def failing_steps(machine: type[RuleBasedStateMachine], error: type[BaseException]) -> list[str]:
    """The example that Hypothesis ends with, without its first line and the teardown."""
    with pytest.raises(error) as caught:
        run(machine)
    lines = "\n".join(caught.value.__notes__).splitlines()
    return [line.removeprefix("state.") for line in lines if line.startswith("state.") and "teardown" not in line]


class JobChannel(TrioStateMachine):
    """All that Hypothesis offers, once: bundles, preconditions, plain and asynchronous rules, invariants."""

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

    @hypothesis.stateful.rule(data=st.data())  # type: ignore[arg-type] # Hypothesis's own is typed for plain rules
    async def draw(self, data: st.DataObject) -> None:
        note("drawn inside Trio")
        assume(data.draw(st.integers(0, 9)) != 3)

    @precondition(lambda self: self.sent > 1)
    @rule()
    def look(self) -> None:
        assert self.sent > 1
        assert trio.lowlevel.current_task() in self.tasks, "a plain rule runs in Trio too, in the same task"

    @invariant()
    async def time_moves_only_when_moved(self) -> None:
        assert len(self.done) <= self.sent
        if trio.current_time() == self.time_at_start:
            assert self.done == []


class Longer(JobChannel):
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


TestLine = JobChannel.TestCase
TestLine.settings = FEW
TestLongest = Longest.TestCase
TestLongest.settings = FEW


class Mixin:
    @rule()
    async def mixed_in(self) -> None:
        await trio.lowlevel.checkpoint()


def test_rules_come_from_mixins_too() -> None:
    ran: list[str] = []

    class Mixed(Mixin, TrioStateMachine):
        @invariant()
        def noted(self) -> None:
            ran.append(trio.lowlevel.current_task().name)

    run(Mixed, ONCE)
    assert len(ran) == 4


def test_what_crashes_beside_the_steps_fails_the_example_as_itself_and_shrinks() -> None:
    class Machine(TrioStateMachine):
        @rule(n=st.integers(0, 100))
        async def start(self, n: int) -> None:
            async def crash() -> None:
                await trio.sleep(n)
                if n > 20:
                    raise Wrong

            self.nursery.start_soon(crash)

        @rule(seconds=st.integers(0, 100))
        async def wait(self, seconds: int) -> None:
            await self.pass_time(seconds)

        @rule()
        async def idle(self) -> None: ...

    assert failing_steps(Machine, Wrong) == ["start(n=21)", "wait(seconds=21)"]


def test_a_crash_while_a_rule_waits_fails_the_rule_s_example_with_the_crash() -> None:
    class Machine(TrioStateMachine):
        @rule()
        async def wait_for_ever(self) -> None:
            async def crash() -> None:
                raise Wrong

            self.nursery.start_soon(crash)
            await trio.sleep_forever()

    assert failing_steps(Machine, Wrong) == ["wait_for_ever()"]


def test_an_error_in_a_rule_s_own_nursery_comes_out_bare() -> None:
    class Machine(TrioStateMachine):
        @rule()
        async def go(self) -> None:
            async def crash() -> None:
                raise Wrong

            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                nursery.start_soon(crash)

    assert failing_steps(Machine, Wrong) == ["go()"]


def test_the_same_error_many_times_is_one_failure() -> None:
    class Machine(TrioStateMachine):
        @rule(n=st.integers(1, 9))
        async def go(self, n: int) -> None:
            raise ExceptionGroup("", [ExceptionGroup("", [self.error()]) for _ in range(n)])

        def error(self) -> Wrong:
            try:
                raise Wrong
            except Wrong as error:
                return error

    assert failing_steps(Machine, Wrong) == ["go(n=1)"]


def test_two_errors_at_once_stay_a_group() -> None:
    class Machine(TrioStateMachine):
        @rule()
        async def go(self) -> None:
            raise ExceptionGroup("both", [Wrong(), ExceptionGroup("", [ValueError()])])

    with pytest.raises(ExceptionGroup):
        run(Machine)


def test_an_assumption_that_fails_in_a_child_task_discards_the_example() -> None:
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
def test_a_rule_that_waits_for_what_cannot_come_is_stuck_at_once(depth: str) -> None:
    class Machine(TrioStateMachine):
        patience: ClassVar[float] = 1e9  # nobody would wait so long

        @rule()
        async def wait_for_nobody(self) -> None:
            async with trio.open_nursery() as nursery:
                if depth == "in a task":
                    nursery.start_soon(self.waiter)
                else:
                    await self.waiter()

        async def waiter(self) -> None:
            await trio.Event().wait()

    before = set(threading.enumerate()) - {threading.current_thread()}
    if any(not thread.name.startswith("Trio thread") for thread in before):
        Machine.patience = 0.05  # another test has left a thread, which for all one knows could call
    with pytest.raises(Stuck, match=r"time stands still(?s:.)*await trio.Event\(\).wait\(\)"):
        run(Machine)


def test_sleeping_is_waiting_for_what_cannot_come() -> None:
    class Machine(TrioStateMachine):
        patience: ClassVar[float] = 0.05

        @rule()
        async def sleep(self) -> None:
            await trio.sleep(1)

    assert failing_steps(Machine, Stuck) == ["sleep()"]


def test_a_thread_is_waited_for_and_given_up_after_patience() -> None:
    go = threading.Event()

    class Returns(TrioStateMachine):
        @rule()
        async def ask(self) -> None:
            assert await trio.to_thread.run_sync(lambda: 5) == 5

    class Hangs(TrioStateMachine):
        patience: ClassVar[float] = 0.05

        @rule()
        async def ask(self) -> None:
            await trio.to_thread.run_sync(go.wait, abandon_on_cancel=True)

    run(Returns, ONCE)
    try:
        with pytest.raises(Stuck):
            run(Hangs, ONCE)
    finally:
        go.set()


def test_what_hides_behind_a_shield_for_ever_is_thrown_out_and_told() -> None:
    class Machine(TrioStateMachine):
        patience: ClassVar[float] = 0.05

        @rule()
        async def hide(self) -> None:
            async def hidden() -> None:
                with trio.CancelScope(shield=True):
                    await trio.sleep_forever()

            self.nursery.start_soon(hidden)

    with pytest.raises(Stuck, match=r"did not end when they were cancelled:(?s:.)*hidden"):
        run(Machine, ONCE)
    run(JobChannel, ONCE)  # and the next run can begin


def test_at_the_end_time_runs_by_itself() -> None:
    ended: list[float] = []

    class Machine(TrioStateMachine):
        patience: ClassVar[float] = 0.05

        @rule()
        async def begin(self) -> None:
            async def last_words() -> None:
                try:
                    await trio.sleep_forever()
                finally:
                    with trio.CancelScope(shield=True):
                        await trio.sleep(3600)
                    ended.append(trio.current_time())

            self.nursery.start_soon(last_words)

        async def teardown(self) -> None:
            await trio.sleep(1000)
            await super().teardown()

    run(Machine, ONCE)
    assert ended
    assert set(ended) == {4600.0}


def test_at_the_end_time_does_not_run_for_ever() -> None:
    class Machine(TrioStateMachine):
        patience: ClassVar[float] = 0.0

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


def test_a_crash_during_teardown_is_a_failure() -> None:
    class Machine(TrioStateMachine):
        @rule()
        async def begin(self) -> None: ...

        async def teardown(self) -> None:
            async def crash() -> None:
                raise Wrong

            self.nursery.start_soon(crash)
            await trio.sleep_forever()

    with pytest.raises(Wrong):
        run(Machine, ONCE)


@pytest.mark.parametrize("how", ["well", "raises", "crashes", "stuck", "assumes"])
def test_teardown_runs_always_and_in_trio(how: str) -> None:
    torn_down: list[bool] = []
    begun: list[bool] = []

    class Machine(TrioStateMachine):
        patience: ClassVar[float] = 0.05

        @rule()
        async def go(self) -> None:
            begun.append(True)
            match how:
                case "raises":
                    raise Wrong
                case "crashes":
                    self.nursery.start_soon(self.crash)
                case "stuck":
                    await trio.sleep_forever()
                case "assumes":
                    assume(len(begun) > 1)

        async def crash(self) -> None:
            raise Wrong

        async def teardown(self) -> None:
            await trio.lowlevel.checkpoint()
            torn_down.append(trio.lowlevel.in_trio_task())

    try:
        run(Machine, settings(FEW, max_examples=3))
    except (Wrong, Stuck):
        assert how in ("raises", "crashes", "stuck")
    else:
        assert how in ("well", "assumes")
    assert all(torn_down)
    assert len(torn_down) >= len(begun) / 8


def test_a_plain_teardown_runs_too() -> None:
    torn_down: list[bool] = []

    class Machine(TrioStateMachine):
        @rule()
        def go(self) -> None: ...

        def teardown(self) -> None:
            torn_down.append(True)

    run(Machine, ONCE)
    assert torn_down == [True]


def test_what_fails_first_is_the_failure_and_what_goes_wrong_in_teardown_is_told_beside_it() -> None:
    class Machine(TrioStateMachine):
        @rule(n=st.integers())
        async def go(self, n: int) -> None:
            if n:
                raise Wrong

        async def teardown(self) -> None:
            if self._failure is not None:
                raise ValueError("the second thing")

    with pytest.raises(Wrong) as caught:
        run(Machine)
    assert "and in teardown: ValueError: the second thing" in caught.value.__notes__


def test_an_error_in_teardown_alone_is_the_failure() -> None:
    class Machine(TrioStateMachine):
        @rule()
        async def go(self) -> None: ...

        async def teardown(self) -> None:
            raise Wrong

    with pytest.raises(Wrong):
        run(Machine, ONCE)


def test_what_crashes_when_it_is_cancelled_at_the_end_is_a_failure() -> None:
    class Machine(TrioStateMachine):
        @rule()
        async def go(self) -> None:
            async def clumsy() -> None:
                try:
                    await trio.sleep_forever()
                finally:
                    raise Wrong

            self.nursery.start_soon(clumsy)

    with pytest.raises(Wrong):
        run(Machine)


def test_nothing_of_trio_runs_before_the_first_step() -> None:
    async def make_one() -> None:
        JobChannel()  # inside another run, where none could begin

    trio.run(make_one)


def test_a_machine_cannot_be_run_inside_trio_and_says_so() -> None:
    async def main() -> None:
        run(JobChannel, ONCE)

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


def test_context_variables_go_from_rule_to_rule_and_no_further() -> None:
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


def test_an_async_generator_that_is_left_open_is_closed_at_the_end() -> None:
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


def test_the_order_of_tasks_is_the_same_in_every_replay() -> None:
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


def test_a_keyboard_interrupt_goes_through() -> None:
    class Machine(TrioStateMachine):
        @rule()
        async def go(self) -> None:
            self.nursery.start_soon(trio.sleep_forever)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(Machine)
    run(JobChannel, ONCE)


def test_after_a_rule_everything_has_happened_that_needs_no_time() -> None:
    class Machine(TrioStateMachine):
        @initialize()
        async def begin(self) -> None:
            self.told = self.heard = 0
            send, receive = trio.open_memory_channel[int](0)
            self.send = send
            self.nursery.start_soon(self.listen, receive)

        async def listen(self, receive: trio.MemoryReceiveChannel[int]) -> None:
            async for _ in receive:
                for _ in range(5):
                    await trio.lowlevel.checkpoint()
                self.heard += 1

        @rule()
        async def tell(self) -> None:
            await self.send.send(1)
            self.told += 1

        @invariant()
        def nothing_is_under_way(self) -> None:
            assert self.told == self.heard

    run(Machine)


PROGRAM = """
    import trio
    from hypothesis import settings, strategies as st
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

    run_state_machine_as_test(Machine, settings=settings(max_examples=5, database=None, derandomize=True))
    print("done", Machine.total > 0)
"""


@pytest.mark.parametrize(
    ("mistake", "says"),
    [("pass", "done True"), ("trio.sleep(1)", "was never awaited"), ("await trio.sleep(1)", "Stuck")],
)
def test_it_runs_with_warnings_as_errors_and_without_pytest(mistake: str, says: str) -> None:
    program = textwrap.dedent(PROGRAM).format(mistake=mistake)
    done = processes.run([sys.executable, "-W", "error", "-c", program])
    assert says in done.stdout + done.stderr, done.stderr
    assert (done.returncode == 0) is (mistake == "pass" or "never" in says)


def test_the_kit_can_be_imported_without_hypothesis() -> None:
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

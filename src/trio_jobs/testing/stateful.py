"""Hypothesis state machines whose rules are asynchronous.

    from trio_jobs.testing.stateful import TrioStateMachine, rule, invariant

    class Counting(TrioStateMachine):
        @rule(n=st.integers(0, 10))
        async def send(self, n: int) -> None:
            self.nursery.start_soon(self.worker, n)

        @invariant()
        async def nothing_is_lost(self) -> None:
            ...

    TestCounting = Counting.TestCase

Each example is one Trio run, started by its first step, with a nursery and a clock of its own. Virtual time passes only
when a step advances it (`pass_time`). After each rule all tasks run until all are blocked, so the effects of a rule are
complete before Hypothesis chooses the next one. Everything runs in one thread, so `draw`, `note` and `assume` work in
rules as usual.

Needs Hypothesis: `pip install trio-jobs[testing]`.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

import trio
import trio.testing

from trio_jobs.testing._pass_time import pass_time
from trio_jobs.testing._stepped_run import SteppedRun, Stuck

try:
    import hypothesis.stateful
    from hypothesis import note
    from hypothesis import strategies as st
    from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, multiple, run_state_machine_as_test
except ImportError as error:  # pragma: no cover - covered by a subprocess without Hypothesis
    raise ImportError("state machines need Hypothesis: pip install trio-jobs[testing]") from error

__all__ = [
    "Bundle",
    "Stuck",
    "TrioStateMachine",
    "consumes",
    "initialize",
    "invariant",
    "multiple",
    "note",
    "precondition",
    "rule",
    "run_state_machine_as_test",
    "st",
]

F = TypeVar("F", bound=Callable[..., Any])

_MARKERS: Final = (
    hypothesis.stateful.RULE_MARKER,
    hypothesis.stateful.INITIALIZE_RULE_MARKER,
    hypothesis.stateful.INVARIANT_MARKER,
)
_ADAPTED: Final = "trio_jobs_adapted"


def rule(*, target: Any = None, targets: Any = (), **arguments: Any) -> Callable[[F], F]:
    """Hypothesis's `rule`, typed for `async def` too."""
    if target is not None:
        return hypothesis.stateful.rule(target=target, **arguments)
    return hypothesis.stateful.rule(targets=targets, **arguments)


def initialize(*, target: Any = None, targets: Any = (), **arguments: Any) -> Callable[[F], F]:
    """Hypothesis's `initialize`, typed for `async def` too."""
    if target is not None:
        return hypothesis.stateful.initialize(target=target, **arguments)
    return hypothesis.stateful.initialize(targets=targets, **arguments)


def invariant(*, check_during_init: bool = False) -> Callable[[F], F]:
    """Hypothesis's `invariant`, typed for `async def` too."""
    return hypothesis.stateful.invariant(check_during_init=check_during_init)


def precondition(precond: Callable[[Any], bool]) -> Callable[[F], F]:
    """Hypothesis's `precondition`, typed for `async def` too; `precond` is a plain function."""
    return hypothesis.stateful.precondition(precond)


if TYPE_CHECKING:
    # an unknown base for type checkers, since its `teardown` is plain and that of a subclass may be `async def`
    Base: Any = RuleBasedStateMachine
else:
    Base = RuleBasedStateMachine


class TrioStateMachine(Base):  # type: ignore[misc] # see Base
    """A `RuleBasedStateMachine` whose rules, initializers, invariants and `teardown` may be `async def`.

    A step that waits for an event that cannot arrive raises `Stuck`: immediately if no thread and no I/O could cause
    the event, otherwise after `timeout` seconds.

    An exception in a task of `nursery` fails the example at the next step; it is raised without a group if it is one.
    `teardown` always runs, also after a failure; then the nursery is cancelled, and virtual time passes by itself until
    all tasks have ended. Plain rules run inside Trio too. A rule can await another one: `await self.other(n)`.
    """

    timeout: ClassVar[float] = 10.0
    """Seconds of real time that a step may wait for a thread or for I/O during which nothing happens."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, member in inspect.getmembers_static(cls):
            if hasattr(member, _ADAPTED) or not inspect.isfunction(member):
                continue
            if any(hasattr(member, marker) for marker in _MARKERS):
                setattr(cls, name, _adapt(member))
            elif name == "teardown" and member is not RuleBasedStateMachine.teardown:
                setattr(cls, name, _adapt_teardown(member))

    def __init__(self) -> None:
        super().__init__()
        self.clock = trio.testing.MockClock()
        """The clock of the example. It advances only when a step advances it."""
        self._trio_run: SteppedRun | None = None
        self._failure: BaseException | None = None

    @property
    def nursery(self) -> trio.Nursery:
        """The nursery for background tasks of the example."""
        return self._running().nursery

    async def pass_time(self, seconds: float) -> None:
        """Advance virtual time by `seconds`, stopping at each deadline on the way, as real time would.

        Cancelled:
            A part of the time has passed.
        """
        await pass_time(self.clock, seconds)

    async def _teardown(self) -> None:
        """Runs at the end of each example. An override is `async def teardown` and must `await super().teardown()`."""

    async def settle(self) -> None:
        """Let all tasks run until all are blocked. Awaited after each rule; an override can wait for more.

        Cancelled:
            Nothing has changed.
        """
        await trio.testing.wait_all_tasks_blocked()

    def _running(self) -> SteppedRun:
        if self._trio_run is None:
            _make_scheduling_repeatable()
            self._trio_run = SteppedRun(self.clock, self.timeout)
        return self._trio_run

    def _step(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], *, settle: bool) -> Any:
        run = self._running()
        if run.in_step:  # from within another step: an ordinary call
            return fn(self, *args, **kwargs)
        try:
            call = functools.partial(fn, self, *args, **kwargs)
            return run.step(call, settle=self.settle if settle else None)
        except BaseException as error:
            self._failure = error
            raise

    def _end(self, fn: Callable[..., Any]) -> Any:
        run = self._trio_run
        if run is not None and run.in_step:
            return fn(self)
        if run is None and fn is _BASE_TEARDOWN:
            return None
        run = self._running()
        try:
            try:
                run.step(functools.partial(fn, self), settle=None, last=True)
            finally:
                run.end()
        except BaseException as error:
            if self._failure is None or isinstance(error, KeyboardInterrupt):
                raise
            # Hypothesis replays and shrinks the first failure; an error in teardown becomes a note of it
            self._failure.add_note(f"and in teardown: {type(error).__name__}: {error}")
        return None


_BASE_TEARDOWN: Final[Any] = TrioStateMachine._teardown


def _adapt(member: Any) -> Any:
    """Wrap a rule, initializer or invariant so that Hypothesis can call it as a plain function."""
    marker = next(marker for marker in _MARKERS if hasattr(member, marker))
    declared = getattr(member, marker)
    fn = declared.function
    settle = marker != hypothesis.stateful.INVARIANT_MARKER

    @functools.wraps(fn)
    def step(self: TrioStateMachine, /, *args: Any, **kwargs: Any) -> Any:
        return self._step(fn, args, kwargs, settle=settle)

    adapted = copy.copy(declared)
    object.__setattr__(adapted, "function", step)
    setattr(step, marker, adapted)
    setattr(step, _ADAPTED, True)
    return step


def _adapt_teardown(fn: Any) -> Any:
    @functools.wraps(fn)
    def teardown(self: TrioStateMachine) -> Any:
        return self._end(fn)

    setattr(teardown, _ADAPTED, True)
    return teardown


TrioStateMachine.teardown = _adapt_teardown(_BASE_TEARDOWN)


def _make_scheduling_repeatable() -> None:
    """Make Trio's scheduling the same in each replay, as Hypothesis needs it.

    Trio shuffles tasks that are ready at the same time. Hypothesis seeds the shuffle, and Trio sorts the tasks before
    it; pytest-trio sets the same switch.
    """
    import trio._core._run as run

    hypothesis.register_random(run._r)
    run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc] # it is Final

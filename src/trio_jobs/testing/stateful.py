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

Each example is one run of Trio, begun when its first step needs it, with one nursery and a clock of its own. Time
stands still until a step moves it (`pass_time`). After each rule all tasks go on until none can: what follows from a
rule has followed when the next one is chosen. Everything happens in one thread, so what a rule draws, notes and assumes
reaches Hypothesis as always.

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

from trio_jobs.testing._guest import Guest, Stuck
from trio_jobs.testing._time import pass_time

try:
    import hypothesis.stateful
    from hypothesis import note
    from hypothesis import strategies as st
    from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, multiple, run_state_machine_as_test
except ImportError as error:  # pragma: no cover - said in a test that runs without Hypothesis
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
    """Hypothesis's own `rule`, typed for `async def` too."""
    if target is not None:
        return hypothesis.stateful.rule(target=target, **arguments)
    return hypothesis.stateful.rule(targets=targets, **arguments)


def initialize(*, target: Any = None, targets: Any = (), **arguments: Any) -> Callable[[F], F]:
    """Hypothesis's own `initialize`, typed for `async def` too."""
    if target is not None:
        return hypothesis.stateful.initialize(target=target, **arguments)
    return hypothesis.stateful.initialize(targets=targets, **arguments)


def invariant(*, check_during_init: bool = False) -> Callable[[F], F]:
    """Hypothesis's own `invariant`, typed for `async def` too."""
    return hypothesis.stateful.invariant(check_during_init=check_during_init)


def precondition(precond: Callable[[Any], bool]) -> Callable[[F], F]:
    """Hypothesis's own `precondition`, typed for `async def` too. `precond` itself is a plain function."""
    return hypothesis.stateful.precondition(precond)


if TYPE_CHECKING:
    # for type checkers the base is unknown, since its `teardown` is plain, and each subclass may have an `async def`
    Base: Any = RuleBasedStateMachine
else:
    Base = RuleBasedStateMachine


class TrioStateMachine(Base):  # type: ignore[misc]
    """A `RuleBasedStateMachine` whose rules, initializers, invariants and `teardown` may be `async def`.

    patience: seconds of real time that a step may wait for a thread or for I/O without any sign of life. A step that
    waits for what cannot come fails as `Stuck`, at once where no thread and no I/O could bring it.

    What crashes in `nursery` fails the example at the next step, as the error itself where it is one. `teardown` runs
    always, also after that; then the nursery is cancelled, and time runs by itself until all its tasks have ended.
    Plain rules run inside Trio too. A rule may await another: `await self.other(n)`.
    """

    patience: ClassVar[float] = 10.0

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, member in inspect.getmembers_static(cls):
            if hasattr(member, _ADAPTED) or not inspect.isfunction(member):
                continue
            if any(hasattr(member, marker) for marker in _MARKERS):
                setattr(cls, name, _adapted(member))
            elif name == "teardown" and member is not RuleBasedStateMachine.teardown:
                setattr(cls, name, _adapted_teardown(member))

    def __init__(self) -> None:
        super().__init__()
        self.clock = trio.testing.MockClock()
        """The example's time. It stands still until it is moved."""
        self._guest: Guest | None = None
        self._failure: BaseException | None = None

    @property
    def nursery(self) -> trio.Nursery:
        """Where what runs beside the steps is started."""
        return self._running().nursery

    async def pass_time(self, seconds: float) -> None:
        """Let `seconds` of virtual time go by, stopping at each deadline on the way, as real time would."""
        await pass_time(self.clock, seconds)

    async def _teardown(self) -> None:
        """Called at the end of each example; subclasses write `async def teardown` and `await super().teardown()`."""

    async def settle(self) -> None:
        """Awaited after each rule: let all tasks go on until none can."""
        await trio.testing.wait_all_tasks_blocked()

    def _running(self) -> Guest:
        if self._guest is None:
            _make_scheduling_repeatable()
            self._guest = Guest(self.clock, self.patience)
        return self._guest

    def _step(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], *, settle: bool) -> Any:
        guest = self._running()
        if guest.in_step:  # from within another step: an ordinary call
            return fn(self, *args, **kwargs)
        try:
            call = functools.partial(fn, self, *args, **kwargs)
            return guest.step(call, settle=self.settle if settle else None)
        except BaseException as error:
            self._failure = error
            raise

    def _end(self, fn: Callable[..., Any]) -> Any:
        guest = self._guest
        if guest is not None and guest.in_step:
            return fn(self)
        if guest is None and fn is _BASE_TEARDOWN:
            return None
        guest = self._running()
        try:
            try:
                guest.step(functools.partial(fn, self), settle=None, last=True)
            finally:
                guest.end()
        except BaseException as error:
            if self._failure is None or isinstance(error, KeyboardInterrupt):
                raise
            # what failed first is what is to be found again and shrunk; the rest is told beside it
            self._failure.add_note(f"and in teardown: {type(error).__name__}: {error}")
        return None


_BASE_TEARDOWN: Final[Any] = TrioStateMachine._teardown


def _adapted(member: Any) -> Any:
    """A rule, initializer or invariant as Hypothesis can call it."""
    marker = next(marker for marker in _MARKERS if hasattr(member, marker))
    declared = getattr(member, marker)
    fn = declared.function
    settle = marker != hypothesis.stateful.INVARIANT_MARKER

    @functools.wraps(fn)
    def step(self: TrioStateMachine, /, *args: Any, **kwargs: Any) -> Any:
        return self._step(fn, args, kwargs, settle=settle)

    mine = copy.copy(declared)
    object.__setattr__(mine, "function", step)
    setattr(step, marker, mine)
    setattr(step, _ADAPTED, True)
    return step


def _adapted_teardown(fn: Any) -> Any:
    @functools.wraps(fn)
    def teardown(self: TrioStateMachine) -> Any:
        return self._end(fn)

    setattr(teardown, _ADAPTED, True)
    return teardown


TrioStateMachine.teardown = _adapted_teardown(_BASE_TEARDOWN)


def _make_scheduling_repeatable() -> None:
    """Trio shuffles tasks that are ready together. Hypothesis must find the same order in each replay, so the shuffling
    has to begin from a known state, and tasks must be sorted before: the switch that pytest-trio uses too."""
    import trio._core._run as run

    hypothesis.register_random(run._r)
    run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]

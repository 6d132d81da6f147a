"""Each promise is tested on each executor, or it is said here why not.

The tests of a promise have its number in their names, as `test_p3_p5_...`. One with a `kind` runs on each executor,
unless it names those on which it makes sense. Each test that does not run on all of them is listed here.
"""

from __future__ import annotations

import ast
import functools
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs

TESTS: Final = Path(__file__).parents[1]
EXECUTORS: Final = frozenset({"thread", "trio", "process"})
PROMISES: Final = range(1, 13)

#: Promises that say nothing about an executor
MEANINGLESS: Final = {
    (2, "trio"): "all of it runs on Trio's thread",
    (11, "trio"): "a call in the loop is cancelled; one on a thread can be interrupted",
}


@attrs.frozen
class Part:
    """Tests that do not run on every executor, for one reason."""

    why: str
    on: str
    """The executors on which they run; "" if no SDK takes part."""
    tests: str
    """Patterns of their names, as "module: test_p1_one, test_p2_other"."""


def test_each_promise_has_a_quick_test_on_each_executor() -> None:
    listed = _listed()
    tested = {
        (promise, executor)
        for test in _tests()
        if not test.is_long
        for promise in test.promises
        for executor in test.kinds or listed[test.name].on.split()
    }
    missing = {(promise, executor) for promise in PROMISES for executor in EXECUTORS} - tested
    assert missing == set(MEANINGLESS)


def test_a_test_of_a_promise_runs_on_each_executor_or_is_listed_with_a_reason() -> None:
    partly = {test.name: test.kinds for test in _tests() if test.kinds != EXECUTORS}
    listed = _listed()
    assert sorted(partly.keys() - listed.keys()) == [], "run it on each executor, or say here why not"
    assert sorted(listed.keys() - partly.keys()) == [], "this runs on each executor, or is gone"
    wrong = {name: sorted(kinds) for name, kinds in partly.items() if kinds and kinds != {*listed[name].on.split()}}
    assert wrong == {}, "these run on other executors than it says here"


@attrs.frozen
class _Test:
    name: str
    promises: tuple[int, ...]
    kinds: frozenset[str]
    """By its `kind`; none without one."""
    is_long: bool


@functools.cache
def _tests() -> tuple[_Test, ...]:
    return tuple(_read_tests())


def _read_tests() -> Iterator[_Test]:
    for file in sorted(TESTS.rglob("test_*.py")):
        text = file.read_text(encoding="utf-8")
        if "def test_p" not in text:
            continue
        tree = ast.parse(text)
        marks = {
            target.id: node.value
            for node in tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        is_long = "campaign" in ast.unparse(marks.get("pytestmark", ast.Constant("")))
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and re.match(r"test_p\d", node.name):
                decorators = [marks.get(d.id, d) if isinstance(d, ast.Name) else d for d in node.decorator_list]
                yield _Test(
                    f"{file.stem}: {node.name}",
                    tuple(int(number) for number in re.findall(r"(?:test|(?<=\d))_p(\d+)", node.name)),
                    _kinds(node, decorators),
                    is_long or any(ast.unparse(d) == "pytest.mark.campaign" for d in decorators),
                )


def _kinds(node: ast.FunctionDef | ast.AsyncFunctionDef, decorators: list[ast.expr]) -> frozenset[str]:
    if "kind" not in [argument.arg for argument in node.args.args]:
        return frozenset()
    for decorator in decorators:
        match decorator:
            case ast.Call(args=[ast.Constant("kind"), given]):
                found = {kind for kind in ("thread", "trio") if repr(kind) in ast.unparse(given)}
                return frozenset(found | ({"process"} if "IN_PROCESS" in ast.unparse(given) else set()))
    return EXECUTORS


def _listed() -> dict[str, Part]:
    """The part of each test that is listed. A name may stand for all that begin with it."""
    names = [test.name for test in _tests()]
    found: Counter[str] = Counter()
    parts: dict[str, Part] = {}
    for part in PARTS:
        for line in part.tests.strip().splitlines():
            module, _, tests = line.strip().partition(": ")
            for begin in tests.split(", "):
                full = f"{module}: {begin}"
                matches = [full] if full in names else [name for name in names if name.startswith(full)] or [full]
                found.update(matches)
                parts |= dict.fromkeys(matches, part)
    twice = [name for name, count in found.items() if count > 1]
    assert not twice, f"listed twice: {twice}"
    return parts


PARTS: Final = (
    Part(
        "A call on a thread cannot be ended, so nothing enters beside it. In a process it is killed "
        "(test_p11 of test_process_executor), and in the loop it is cancelled.",
        on="thread",
        tests="""
            test_promises: test_p1_nothing_enters_the_sdk_while_a_timed_out_call_is_inside
            test_promises: test_p1_a_stop_does_not_close_a_session_while_a_call_is_inside
            test_promises: test_p3_an_open_that_returns_too_late, test_p3_a_call_that_hangs_is_reported
            test_promises_with_options: test_p1_nothing_enters_while_a_call_that_outlived_its_limit_is_inside
            test_saves: test_p1_a_stop_waits_for_the_limit_of_a_save_and_abandons_it
        """,
    ),
    Part(
        "A call ends at its bound, which no call on a thread does.",
        on="trio process",
        tests="""
            test_promises: test_p3_an_open_that_hangs_is_broken_off
            test_promises: test_p6_a_job_with_an_unknown_outcome_is_in_doubt
            test_promises: test_p10_the_record_says_which_bound, test_p10_the_first_cause_of_an_end_is_recorded
            test_promises: test_p10_a_deadline_cannot_make_an_attempt_outlive_the_stop
            test_promises_with_options: test_p1_p3_p5_hold_on_a_day, test_p10_the_nearest_bound_ends_an_attempt
            test_repeated_on_purpose: test_p12_a_timeout_is_not_repeated_by_retry
            test_stopped_openings: test_p3_a_cancelled_open_waits_for_the_opening_and_closes_the_session
        """,
    ),
    Part(
        "An SDK in the loop has no thread of its own.",
        on="thread process",
        tests="""
            test_promises: test_p1_two_calls_of_one_async_handler, test_p2_open_calls_verify_and_close
            test_promises: test_p2_calls_of_async_handlers, test_p3_a_cancel_while_a_call_is_inside
            test_promises_with_options: test_p1_p2_p3_hold_on_a_thread_and_in_a_process
            test_stopped_openings: test_p3_a_cancelled_open_waits_for_another_thread
        """,
    ),
    Part(
        "Only in the loop can code shield itself, or be cancelled while it waits.",
        on="trio",
        tests="""
            test_alive: test_p1
            test_saves: test_p1_a_stop_waits_for_an_asynchronous_save_behind_a_shield
            test_stopped_openings: test_p3_an_opening_that_does_not_return_within_close_timeout
        """,
    ),
    Part(
        "Each moment and way of an end with each option: in the loop all, in a process all options at once.",
        on="trio",
        tests="test_promises_with_options: test_p3_p5_hold_however_and_whenever_the_block_ends",
    ),
    Part("The other part of that.", on="process", tests="test_promises_with_options: test_p3_p5_with_a_process"),
    Part(
        "Only a process dies, is killed, or is left behind.",
        on="process",
        tests="""
            test_left_process: test_p1
            test_process_async: test_p11
            test_process_executor: test_p11
            test_process_faults: test_p6
            test_promises: test_p10_a_job_that_comes_back_after_its_deadline
            test_gnucash: test_p11, test_p1_p6
            test_office: test_p11, test_p3
        """,
    ),
    Part(
        "The seat is taken before the executor is used, in the same way for each.",
        on="thread",
        tests="""
            test_seat_lock: test_p1
            test_gnucash: test_p1_a_second_queue
        """,
    ),
    Part(
        "Objects of an SDK in a process cannot leave it; that its frames are cleared is a rule of check_executor. "
        "In the loop there is one thread.",
        on="thread",
        tests="test_sdk_objects: test_p2",
    ),
    Part(
        "`pump` is for the message loop of an SDK's thread.", on="thread", tests="test_pump: test_p1, test_p2, test_p3"
    ),
    Part(
        "Trio raises Ctrl-C in the main task, whatever the executor is; a call on a thread is what can be abandoned.",
        on="thread",
        tests="test_ctrl_c: test_p3",
    ),
    Part(
        "A plain SDK; what is tested is what it does itself: its locks, its transactions, how its calls are freed.",
        on="thread",
        tests="""
            test_gnucash: test_p6
            test_serial: test_p11, test_p3
            test_sqlite: test_p6, test_p7
            test_visa: test_p11
        """,
    ),
    Part(
        "Steps by their three kinds of handlers, each on its executors: the parameter is called `way`.",
        on="thread trio process",
        tests="test_saved_steps: test_p6",
    ),
    Part(
        "Thousands of jobs, or a moment within a commit: what the store and the feed do does not depend on where a "
        "call is made.",
        on="trio",
        tests="""
            test_committed_view: test_p6
            test_early_admission: test_p4, test_p5
            test_event_stream: test_p8_readers_get_a_whole_burst, test_p8_a_slow_reader, test_p8_a_reader_whose_events
            test_finding: test_p6
            test_listing: test_p6
            test_failed_commits: test_p4
            test_waiting_submits: test_p4
        """,
    ),
    Part(
        "Ctrl-C reaches the process of the queue alone; test_process_executor sends it to the group of both.",
        on="thread",
        tests="test_promises: test_p3_ctrl_c",
    ),
    Part(
        "No SDK takes part: a part of the engine, of the client or of the server, or a check of the harness.",
        on="",
        tests="""
            test_over_restarts: test_p8
            test_may_have_acted: test_p12
            test_found: test_p9
            test_queue_machine: test_p
            test_callers: test_p4
            test_mistakes: test_p12
            test_promises: test_p7_a_blocked_loop_is_logged_with_its_stack
            test_methods: test_p12
            test_subscriptions: test_p8
        """,
    ),
)

"""The promises hold when the process of the SDK is killed and dies (P1, P6, P11): schedules of the simulator."""

from __future__ import annotations

import re
from collections import Counter
from typing import Final

import pytest

from sim import simulate
from sim.__main__ import main
from sim.plan import draw, draw_with_kills

ENDS: Final = re.compile(r"(call|verify|save|alive)(?: of job \w+)?: (killed|died)")


def assert_no_violation(seed: int, crash_at: int | None = None) -> None:
    schedule = simulate(seed, crash_at=crash_at, kills=True)
    assert not schedule.violations, f"seed {seed}, crash at {crash_at}\n{schedule.timeline}\n{schedule.violations}"


#: Seeds that found a fault
FOUND = {
    3316: "a call returned late, its process did not end, and the consumer looked for ever whether it can be saved",
    30001267: "the oracle took the claim of a job in doubt for the end of its doubt, and its verify for a late timer",
    30005603: "the oracle forgot that a job was to be forgotten when another command on it was refused",
    30008158: "the oracle took the claim of a job whose verify killed the process for the answer of that verify",
    33000588: "the oracle did not believe a call that was stuck, returned late, and vouched that it had done nothing",
    31035657: "a job was corrected in the instant of its deadline, and the oracle was sure that the new run has none",
    32015709: "in strict order a verify of a job in doubt took it from the channel, and nobody looked at it again",
    31032578: "the oracle did not allow for a wall clock that was set before a restart, which then shows verify_delay",
    30008204: "a job came back after its deadline when its process died, and waited for the next session to expire",
}


@pytest.mark.parametrize("seed", FOUND, ids=str)
def test_seeds_that_found_a_fault_with_kills_break_no_promise(seed: int) -> None:
    assert_no_violation(seed)


def test_every_promise_holds_in_50_schedules_with_kills() -> None:
    for seed in range(50):
        assert_no_violation(seed)


@pytest.mark.campaign
def test_every_promise_holds_in_5_000_schedules_with_kills() -> None:
    for seed in range(1_000, 6_000):
        assert_no_violation(seed)


@pytest.mark.campaign
@pytest.mark.parametrize("seed", [4, 11])
def test_every_promise_holds_with_kills_and_a_crash_at_any_step_of_the_first_life(seed: int) -> None:
    for step in range(1, 250):
        assert_no_violation(seed, step)


@pytest.mark.campaign
def test_a_process_ends_in_every_kind_of_operation() -> None:
    """Otherwise the schedules would not show much."""
    ends: Counter[str] = Counter()
    for seed in range(400):
        for moment in simulate(seed, kills=True).timeline.moments:
            if end := ENDS.fullmatch(moment.what):
                ends[f"{end[1]} {end[2]}"] += 1
            ends["stuck"] += moment.what == "its process does not end"
    for wanted in ("call killed", "call died", "verify killed", "verify died", "save killed", "save died", "stuck"):
        assert ends[wanted], ends


def test_kills_change_nothing_else_in_the_plan_of_a_seed() -> None:
    for seed in range(20):
        plan, with_kills = draw(seed), draw_with_kills(seed)
        assert with_kills.kills
        assert (plan.kinds, plan.settings, plan.crashes) == (with_kills.kinds, with_kills.settings, with_kills.crashes)


def test_a_failure_says_that_the_schedule_has_kills(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--schedules", "2", "--kills"]) == 0
    assert capsys.readouterr().out.startswith("2 schedules, ")
    assert main(["--seed", "3", "--kills"]) == 0
    assert "starts (life 1)" in capsys.readouterr().out

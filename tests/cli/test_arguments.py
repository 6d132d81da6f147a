"""Numbers on the command line are checked before anything is sent."""

from __future__ import annotations

import pytest

from trio_jobs import JobMayHaveActed
from trio_jobs._cli.arguments import parse, parser
from trio_jobs._cli.error_text import describe
from trio_jobs._cli.exit_codes import ExitCode

SUBMIT = ["submit", "work", "1"]


@pytest.mark.parametrize("bad", ["nan", "-1", "soon", "-inf", ""])
@pytest.mark.parametrize("option", ["--delay", "--deadline", "--wait", "--connect-timeout"])
def test_seconds_are_a_number_of_0_or_more(option: str, bad: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parser().parse_args([*SUBMIT, f"{option}={bad}"])
    assert caught.value.code == 2
    assert f"argument {option}: it must be a number of seconds" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--delay", "--deadline"])
@pytest.mark.parametrize("far", ["inf", "1e300", "3155760001"])
def test_a_job_is_due_within_100_years(option: str, far: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parser().parse_args([*SUBMIT, f"{option}={far}"])
    assert caught.value.code == 2
    assert f"a number of seconds from 0 to 3155760000 (100 years), not '{far}'" in capsys.readouterr().err


@pytest.mark.parametrize("bad", ["nan", "-1", "0", "31", "week", ""])
def test_a_ticket_is_valid_for_at_most_30_days(bad: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parser().parse_args(["ticket", "create", "X", f"--days={bad}"])
    assert caught.value.code == 2
    assert f"more than 0 and at most 30, not '{bad}'" in capsys.readouterr().err
    assert parser().parse_args(["ticket", "create", "X", "--days=30"]).days == 30


def test_a_wait_may_be_endless() -> None:
    arguments = parser().parse_args([*SUBMIT, "--wait=inf", "--connect-timeout=1.5", "--delay=0"])
    assert (arguments.wait, arguments.connect_timeout, arguments.delay) == (float("inf"), 1.5, 0.0)


@pytest.mark.parametrize("bad", ["-1", "1.5", "many"])
def test_a_number_of_jobs_is_0_or_more(bad: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(["list", f"--limit={bad}"])
    assert "it must be a whole number, 0 or more" in capsys.readouterr().err


def test_a_refused_retry_names_the_option_of_the_command() -> None:
    assert not parser().parse_args(["retry", "a"]).even_if_acted
    assert parser().parse_args(["retry", "a", "--even-if-acted"]).even_if_acted
    refused = JobMayHaveActed("a", "failed", "retry the job with even_if_acted=True")
    assert describe(refused) == "job a is failed: retry the job with --even-if-acted"


def test_an_unknown_argument_is_answered_with_the_usage_of_its_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert parse(["pause", "maintenance"]) is ExitCode.INVALID
    error = capsys.readouterr().err
    assert error.startswith("usage: trio-jobs pause ")
    assert "--reason" in error
    assert error.endswith("trio-jobs pause: error: unrecognized arguments: maintenance\n")

"""Every end of a command has a documented exit code, and no error ends it with the code of another."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import trio_jobs
from support.processes import run
from support.shell import Shell, serving
from trio_jobs._cli import main as main_module
from trio_jobs._cli.exit_codes import MEANINGS, ExitCode, exit_code
from trio_jobs._cli.json_source import decode_json
from trio_jobs._cli.main import main
from trio_jobs._cli.output import OutputFailed

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "command-line.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    with serving(tmp_path_factory.mktemp("cli")) as shell:
        yield shell


def test_the_page_and_the_help_have_every_exit_code_and_its_meaning(capsys: pytest.CaptureFixture[str]) -> None:
    rows = {int(code): meaning for code, meaning in re.findall(r"^\| (\d+) \| (.*) \|$", PAGE, re.MULTILINE)}
    assert {code: meaning.replace("`", "") for code, meaning in rows.items()} == {
        int(code): meaning for code, meaning in MEANINGS.items()
    }
    assert MEANINGS.keys() == set(ExitCode)
    assert main(["--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for code, meaning in MEANINGS.items():
        assert f"{code} {meaning}" in shown


def public_errors(base: type[BaseException] = trio_jobs.TrioJobsError) -> Iterator[type[BaseException]]:
    yield base
    for kind in base.__subclasses__():
        if kind.__module__.startswith("trio_jobs"):
            yield from public_errors(kind)


#: The code of each class of errors; a class that is not listed has that of its nearest base class
CODES = {
    "TrioJobsError": ExitCode.UNEXPECTED,
    "UsageError": ExitCode.INVALID,
    "JobNotFound": ExitCode.NOT_FOUND,
    "AmbiguousJob": ExitCode.NOT_FOUND,
    "InvalidState": ExitCode.NOT_FOUND,
    "JobMayHaveActed": ExitCode.NOT_FOUND,
    "JobChanged": ExitCode.NOT_FOUND,
    "JobClaimed": ExitCode.NOT_FOUND,
    "QueueFull": ExitCode.TRY_LATER,
    "TooManyRequests": ExitCode.TRY_LATER,
    "QueueClosed": ExitCode.TRY_LATER,
    "JobFailed": ExitCode.NOT_COMPLETED,
    "JobCancelled": ExitCode.NOT_COMPLETED,
    "JobInDoubt": ExitCode.NOT_COMPLETED,
    "ResultUnavailable": ExitCode.NOT_COMPLETED,
    "SdkOpenFailed": ExitCode.TRY_LATER,
    "SdkInUse": ExitCode.TRY_LATER,
    "SdkCallStuck": ExitCode.SDK_NOT_CLOSED,
    "SdkCallError": ExitCode.UNEXPECTED,  # the cause of SdkOpenFailed
    "SdkCallRefused": ExitCode.UNEXPECTED,  # only a handler can get it
    "SessionDiscarded": ExitCode.UNEXPECTED,  # only a context manager can get it
    "StoreError": ExitCode.TRY_LATER,
    "InvalidJournalPath": ExitCode.INVALID,
    "JournalDamaged": ExitCode.INVALID,
    "OutcomeUnknown": ExitCode.NO_CONNECTION,
    "ConnectionFailed": ExitCode.NO_CONNECTION,
    "Lagged": ExitCode.UNEXPECTED,  # the client makes a Gap of it
    "QueueBroken": ExitCode.UNEXPECTED,
    "IllegalTransition": ExitCode.UNEXPECTED,
}


@pytest.mark.parametrize("kind", sorted(set(public_errors()), key=str))
def test_each_error_of_the_package_has_its_exit_code(kind: type[BaseException]) -> None:
    names = [base.__name__ for base in type.mro(kind)]
    expected = next(CODES[name] for name in names if name in CODES)
    assert kind.__name__ in CODES or expected is not ExitCode.UNEXPECTED, "give the new error a code"
    assert exit_code(kind.__new__(kind)) is expected


class Unusual(BaseException):
    """No subclass of Exception."""


class Unprintable(Exception):
    def __str__(self) -> str:
        raise SystemExit(1)


#: What a command may raise without any code of its own
UNEXPECTED: list[BaseException] = [
    ValueError("x"),
    SystemExit(0),
    SystemExit(1),
    SystemExit("text"),
    RecursionError(),
    MemoryError(),
    GeneratorExit(),
    Unusual(),
    Unprintable(),
    UnicodeEncodeError("ascii", "\u20ac", 0, 1, "ordinal not in range"),
    ExceptionGroup("two", [ValueError("x"), KeyError("y")]),
    BaseExceptionGroup("nested", [BaseExceptionGroup("inner", [SystemExit(1)])]),
    trio_jobs.QueueBroken("a part of the queue has failed"),
]


@pytest.mark.parametrize("error", UNEXPECTED, ids=repr)
def test_an_unexpected_error_has_a_code_that_means_nothing_else_and_its_traceback(
    error: BaseException, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(parsed: Any) -> int:
        raise error

    monkeypatch.setattr(main_module, "_run", fails)
    assert main(["status"]) == ExitCode.UNEXPECTED
    printed = capsys.readouterr().err
    assert "Traceback" in printed or "cannot be shown" in printed
    assert printed.splitlines()[-1].startswith("trio-jobs: unexpected error: ")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (KeyboardInterrupt(), 130),
        (BaseExceptionGroup("of a nursery", [ValueError("cleanup"), KeyboardInterrupt()]), 130),
        (OutputFailed("the disk is full"), 74),
        (OSError(98, "Address already in use"), 5),
        (trio_jobs.JournalDamaged("jobs.db", "its last row cannot be read"), 2),
        (PermissionError(13, "Permission denied"), 2),
        (ExceptionGroup("of a nursery", [trio_jobs.JobNotFound("x")]), 3),
    ],
    ids=repr,
)
def test_an_expected_error_is_at_most_one_line(
    error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(parsed: Any) -> int:
        raise error

    monkeypatch.setattr(main_module, "_run", fails)
    assert main(["status"]) == code
    printed = capsys.readouterr().err
    assert printed.count("\n") == (0 if code == 130 else 1)
    assert "Traceback" not in printed


# arguments

NUMBERS = [
    (["status", "--connect-timeout"], ["-1", "nan", "-inf", "x", ""]),
    (["submit", "a", "1", "--delay"], ["-1", "nan", "inf", "1e12", "x"]),
    (["submit", "a", "1", "--deadline"], ["-1", "nan", "inf", "1e12", "x"]),
    (["submit", "a", "1", "--wait"], ["-1", "nan", "x"]),
    (["list", "--limit"], ["-1", "1.5", "nan", "x", "9" * 5000]),
    (["serve", "a:b", "--port"], ["-1", "65536", "1.5", "nan", "x"]),
]


@pytest.mark.parametrize(
    ("command", "text"),
    [(command, text) for command, texts in NUMBERS for text in texts],
    ids=lambda each: str(each)[:30],
)
def test_a_number_out_of_range_is_refused_by_the_name_of_its_option(
    command: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command[:-1], f"{command[-1]}={text}"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert command[-1] in error
    assert "must be" in error


@pytest.mark.parametrize(
    "arguments",
    [
        ["submit", "work\udcff", "1"],
        ["submit", "work", '"\udcff"'],
        ["submit", "work", "1", "--key", "\udcff"],
        ["show", "\udcff"],
        ["pause", "--reason", "\udcff"],
        ["watch", "--job", "a", "--job", "\udcff"],
        ["resolve", "a", "done", "--result", "\udcff"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_text_that_cannot_be_sent_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Python marks bytes of the command line that are not valid UTF-8 by lone surrogates."""
    assert main(arguments) == 2
    assert "not valid in the encoding of the system" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--token-file", "--journal", "--tls-cert", "--tls-key", "--watch-token-file"])
def test_a_path_with_nul_is_refused(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "shop:service", option, "a\0b"]) == 2
    assert "NUL" in capsys.readouterr().err


@given(arguments=st.lists(st.text(max_size=8) | st.sampled_from(["--json", "--limit", "--url", "list", "show", "-"])))
def test_no_arguments_are_a_traceback(arguments: list[str]) -> None:
    """Nothing listens on the port, so a command that is accepted has no connection."""
    url = ["--url", "ws://127.0.0.1:1/ws", "--connect-timeout", "0.01"]
    assert main(["status", *url, *arguments]) in (0, 2, 4)


@pytest.mark.parametrize(
    "payload", ["[" * 100_000, "{", "\ufeff", "NaN", "1 2"], ids=["deep", "cut", "mark", "NaN", "two"]
)
def test_a_payload_that_is_not_json_is_one_line(shell: Shell, payload: str) -> None:
    for command in (["submit", "double", payload], ["submit", "double", "-"]):
        done = shell.run(*command, given=payload)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_payload_may_begin_with_a_byte_order_mark(encoding: str) -> None:
    assert decode_json('{"a": "\u20ac"}'.encode(encoding), "payload") == {"a": "\u20ac"}


# services

MODULES = {
    "raises": ("raise ValueError('no\\x1b[2J licence')", "ValueError: no\\x1b[2J licence"),
    "exits": ("import sys; sys.exit(0)", "SystemExit: 0"),
    "is no Python": ("service = (", "SyntaxError"),
    "imports what is missing": ("import no_such_module_here", "ModuleNotFoundError"),
    "raises no exception": ("class E(BaseException): pass\nraise E", "E: E"),
}


@pytest.mark.parametrize("name", MODULES)
def test_a_module_that_cannot_be_imported_is_code_2_with_its_traceback(name: str, tmp_path: Path) -> None:
    source, told = MODULES[name]
    (tmp_path / "broken.py").write_text(source)
    done = run(Shell.command("serve", "broken:service", "--port", "0", "--no-token"), cwd=tmp_path, forked=True)
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert lines[-1].startswith("trio-jobs: module 'broken' cannot be imported: ")
    assert told in lines[-1]
    assert "broken.py" in done.stderr
    assert "importlib" not in done.stderr, "only the frames of the module are of interest"


def test_an_sdk_that_cannot_be_opened_is_a_reason_to_try_again(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(
        "import trio_jobs\n"
        "def sdk(): raise OSError('no licence')\n"
        "service = trio_jobs.Service(sdk=sdk, open_retry=trio_jobs.Retry(0))\n"
    )
    done = run(Shell.command("serve", "shop:service", "--port", "0", "--no-token"), cwd=tmp_path, forked=True)
    assert done.returncode == 5
    assert "no licence" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_port_in_use_is_a_reason_to_try_again(shell: Shell) -> None:
    port = shell.url.rpartition(":")[2].partition("/")[0]
    other = "import trio_jobs\nservice = trio_jobs.Service()\n"  # has no SDK, whose seat it would wait for first
    (shell.folder / "other.py").write_text(other, encoding="utf-8")
    done = run(shell.command("serve", "other:service", "--port", port, "--no-token"), cwd=shell.folder, forked=True)
    assert done.returncode == 5
    assert "SdkInUse" not in done.stderr
    assert "Traceback" not in done.stderr

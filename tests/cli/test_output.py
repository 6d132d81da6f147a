"""Standard output and standard error, whoever reads them: narrow encodings, closed files, full disks and pipes."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.processes import Process, run
from support.shell import Shell, serving
from support.waiting import DEADLINE, wait_until
from trio_jobs._cli import output
from trio_jobs._cli.json_lines import json_line
from trio_jobs._cli.main import main
from trio_jobs._cli.output import BackgroundWriter, background_stderr

needs_posix = pytest.mark.skipif(sys.platform == "win32", reason="the shell and the devices of POSIX")


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    with serving(tmp_path_factory.mktemp("cli")) as shell:
        yield shell


# encodings

ENCODINGS = ["ascii", "cp1252", "cp437", "latin-1", "cp1251", "utf-8", "utf-16", "cp037"]


TEXTS = st.text(st.characters())


@given(
    value=st.recursive(TEXTS, lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner)),
    encoding=st.sampled_from(ENCODINGS),
)
def test_a_line_of_json_is_the_same_json_in_every_encoding(value: Any, encoding: str) -> None:
    """Also with lone surrogates, which Python makes of file names that are not valid UTF-8."""
    output.prepare()
    written = io.BytesIO()
    stream = io.TextIOWrapper(written, encoding, output.ESCAPES, write_through=True, newline="")
    stream.write(json_line(value))
    assert json.loads(written.getvalue().decode(encoding)) == json.loads(json.dumps(value))


@given(text=TEXTS, encoding=st.sampled_from(ENCODINGS))
def test_any_text_can_be_printed_in_every_encoding(text: str, encoding: str) -> None:
    """Also lone surrogates, which Python makes of file names that are not valid UTF-8."""
    output.prepare()
    io.TextIOWrapper(io.BytesIO(), encoding, output.ESCAPES, write_through=True, newline="").write(text)


Run = Callable[..., int]


@pytest.fixture
def run_here(shell: Shell, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in this process, with another standard output: a stream, or a file descriptor."""
    [token] = (shell.folder / "run" / "trio-jobs").iterdir()
    monkeypatch.setenv("TRIO_JOBS_TOKEN", token.read_text().strip())

    def run_command(stdout: TextIO | int | None, *arguments: str) -> int:
        url = [] if arguments[0] == "--help" else ["--url", shell.url]
        with monkeypatch.context() as patch:
            if isinstance(stdout, int):
                stdout = os.fdopen(stdout, "w", encoding="utf-8")
            patch.setattr(sys, "stdout", stdout)
            code = main([*arguments, *url])
            if stdout is not None:
                stdout.close()
        return code

    return run_command


def narrow() -> tuple[io.BytesIO, TextIO]:
    written = io.BytesIO()
    written.close = lambda: None  # type: ignore[method-assign] # so that it can still be read
    return written, io.TextIOWrapper(written, "cp1252")


def test_the_commands_print_what_a_narrow_encoding_lacks_as_escapes(shell: Shell, run_here: Run) -> None:
    written, stream = narrow()
    assert run_here(stream, "submit", "fail", '"\u20ac \U0001f600"', "--key", "\u6771\u4eac") == 0
    job = written.getvalue().split()[0].decode()
    for command in (["show", job], ["show", job, "--json"], ["list"], ["list", "--json"]):
        written, stream = narrow()
        assert run_here(stream, *command) == 0
        assert b"\\u6771\\u4eac" in written.getvalue()
    listed = [json.loads(line) for line in written.getvalue().decode("cp1252").splitlines()]
    assert "\u6771\u4eac" in [each["key"] for each in listed]
    failed = shell.run_process("result", job, PYTHONIOENCODING="cp1252", PYTHONUTF8="0")
    assert failed.returncode == 1
    assert "\\ud83d\\ude00" in failed.stderr


# readers that end, files that are closed or full

#: Commands and their exit codes, whatever becomes of their output
COMMANDS = [
    (["status"], 0),
    (["submit", "double", "4", "--result"], 0),
    (["submit", "fail", '"no"', "--result"], 1),
    (["list", "--json"], 0),
    (["show", "nobody"], 3),
    (["--help"], 0),
]
each_command = pytest.mark.parametrize(("command", "code"), COMMANDS, ids=lambda each: str(each))


@each_command
def test_a_closed_standard_output_does_not_change_the_exit_code(
    run_here: Run, command: list[str], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_here(None, *command) == code
    assert capsys.readouterr().err.count("\n") == (1 if code else 0)


@each_command
def test_a_reader_that_has_ended_does_not_change_the_exit_code(
    run_here: Run, command: list[str], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    reader, pipe = os.pipe()
    os.close(reader)
    assert run_here(pipe, *command) == code
    assert capsys.readouterr().err.count("\n") == (1 if code else 0)


def test_watch_ends_with_its_reader_and_does_not_start_without_an_output(
    shell: Shell, run_here: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    reader, pipe = os.pipe()
    os.close(reader)
    assert run_here(pipe, "watch", "--snapshot") == 0
    assert capsys.readouterr().err == ""
    assert run_here(None, "watch") == 2
    assert "standard output is closed" in capsys.readouterr().err


@needs_posix
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("command", [["status"], ["list", "--json"], ["submit", "double", "4"], ["--help"]])
def test_an_output_that_cannot_be_written_has_its_own_exit_code(
    shell: Shell, run_here: Run, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    shell.json("submit", "double", "1", "--key", "listed")
    assert run_here(os.open("/dev/full", os.O_WRONLY), *command) == 74
    told = capsys.readouterr().err
    assert (told.count("\n"), "standard output cannot be written" in told) == (1, True)


@needs_posix
@pytest.mark.parametrize(
    ("redirections", "code"),
    [("<&- >&- 2>&-", 0), ("| true", 0), (">/dev/full", 74), (">/dev/full 2>&1", 74)],
    ids=["all closed", "no reader", "full", "both full"],
)
def test_a_process_ends_with_the_exit_code_of_its_command(shell: Shell, redirections: str, code: int) -> None:
    """Python itself writes at its end what is still buffered, and would end with 120 if that failed."""
    if "full" in redirections and not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    shell.json("submit", "double", "1", "--key", "listed")
    program = " ".join(shell.command("list", "--json", "--url", shell.url))
    script = f"{{ {program}; echo $? >code; }} {redirections}; cat code"
    done = run(["sh", "-c", script], cwd=shell.folder, env=shell.environment)
    assert int(done.stdout) == code
    assert "Exception ignored" not in done.stderr


# the standard error of serve


class SlowFile(io.RawIOBase):
    """Keeps what is written. A write waits until `go` is set."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.started = threading.Event()
        self.text = b""

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        raise OSError

    def write(self, data: Any) -> int:
        self.started.set()
        assert self.go.wait(DEADLINE)
        part = bytes(data)[:1000]  # as a pipe does, which takes only a part
        self.text += part
        return len(part)


def dropped(count: int) -> bytes:
    return b"%d dropped\n" % count


def test_a_write_returns_although_nothing_is_read_and_dropped_lines_are_counted_and_reported() -> None:
    raw = SlowFile()
    writer = BackgroundWriter(raw, dropped)
    line = b"x" * 1023 + b"\n"
    for _ in range(1100):
        assert writer.write(line) == len(line)
    assert writer.dropped == 1100 - 1024
    assert not writer.drain(0)
    raw.go.set()
    assert writer.drain(DEADLINE)
    assert raw.text == line * 1024 + b"76 dropped\n"
    writer.write(b"and on\n")
    assert writer.drain(DEADLINE)
    assert raw.text.endswith(b"76 dropped\nand on\n")
    assert writer.dropped == 76


def test_lines_that_follow_dropped_ones_come_after_the_report() -> None:
    raw = SlowFile()
    writer = BackgroundWriter(raw, dropped)
    writer.write(b"a" * (output.LIMIT - 1000))
    assert raw.started.wait(DEADLINE)
    writer.write(b"b" * 2000)  # too long
    writer.write(b"short\n")
    raw.go.set()
    assert writer.drain(DEADLINE)
    assert raw.text.endswith(b"a1 dropped\nshort\n")


def test_a_reader_of_standard_error_that_has_ended_blocks_nothing() -> None:
    reader, pipe = os.pipe()
    os.close(reader)
    with io.FileIO(pipe, "w") as raw:
        writer = BackgroundWriter(raw, dropped)
        writer.write(b"a\n" * 1000)
        assert writer.drain(DEADLINE)
        assert writer.dropped == 0


def test_within_the_block_all_of_python_writes_in_the_background(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, pipe = os.pipe()
    stderr = os.fdopen(pipe, "w", encoding="ascii")
    monkeypatch.setattr(sys, "stderr", stderr)
    with background_stderr(lambda count: f"{count} dropped"):
        assert sys.stderr is not stderr
        assert sys.stderr.fileno() == pipe
        assert not sys.stderr.isatty()
        print("\u20ac", file=sys.stderr)
        thread = threading.Thread(target=lambda: 1 / 0, name="failing")
        hook, threading.excepthook = threading.excepthook, threading.__excepthook__
        try:
            thread.start()
            thread.join()
        finally:
            threading.excepthook = hook
    assert sys.stderr is stderr
    stderr.close()
    with os.fdopen(reader, encoding="ascii") as pipe_end:
        text = pipe_end.read()
    assert text.startswith("\\u20ac\n")
    assert "ZeroDivisionError" in text


def test_a_standard_error_without_a_file_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream in (None, io.StringIO()):
        monkeypatch.setattr(sys, "stderr", stream)
        with background_stderr(str):
            assert sys.stderr is stream


@needs_posix
def test_a_forked_child_writes_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no thread that would write for it."""
    script = textwrap.dedent(
        """
        import os, sys
        from trio_jobs._cli import output
        output.prepare()
        with output.background_stderr(str):
            print("parent", file=sys.stderr)
            assert sys.stderr.buffer.drain(60)
            child = os.fork()
            if not child:
                print("child", file=sys.stderr)
                os._exit(0)
            os.waitpid(child, 0)
        """
    )
    done = run([sys.executable, "-W", "ignore", "-c", script])
    assert sorted(done.stderr.split()) == ["child", "parent"]


#: Starts a program whose standard error is a full pipe that nobody reads: the program itself has the other end
FULL_PIPE = textwrap.dedent(
    """
    import os, sys
    reader, pipe = os.pipe()
    os.set_blocking(pipe, False)
    try:
        while True:
            os.write(pipe, b"x" * 4096)
    except BlockingIOError:
        pass
    os.set_blocking(pipe, True)
    os.set_inheritable(reader, True)
    os.dup2(pipe, 2)
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
    """
)

UNREAD_SERVICE = textwrap.dedent(
    """
    import contextlib, sys, time, trio, trio_jobs, warnings

    @contextlib.asynccontextmanager
    async def open_sdk():
        yield "sdk"
        print("closed", flush=True)

    service = trio_jobs.Service(async_sdk=open_sdk, drain_timeout=20)

    @service.handler(idempotent=True)
    async def work(sdk: str, number: int) -> int:
        for _ in range(100):
            print("x" * 1000, file=sys.stderr)
            warnings.warn("x" * 1000)
        return number

    @service.handler(idempotent=True)
    async def block(sdk: str, number: int) -> None:
        print("blocked", flush=True)
        time.sleep(600)
    """
)


def serve_unread(folder: Path) -> tuple[Process, Callable[..., Process]]:
    """Serve with a standard error that nobody reads. Returns the process, and a function that starts a command."""
    (folder / "shop.py").write_text(UNREAD_SERVICE)
    environment = {name: value for name, value in os.environ.items() if name != "TRIO_JOBS_TOKEN"}
    environment |= {"XDG_RUNTIME_DIR": str(folder / "run")}
    arguments = Shell.command("serve", "shop:service", "--port", "0", "--verbose")[1:]
    server = Process([sys.executable, "-c", FULL_PIPE, *arguments], cwd=folder, env=environment, forked=True)
    # only the name of the file with the token says which port it is; there may be a temporary file beside it
    [file] = wait_until(
        lambda: [file for file in folder.rglob("token-*") if file.suffix == ""], "the file with the token"
    )
    url = f"ws://127.0.0.1:{file.name.removeprefix('token-')}/ws"

    def start(*words: str) -> Process:
        words = (*Shell.command(*words), "--url", url, "--token-file", str(file))
        return Process(words, cwd=folder, env=environment, forked=True)

    return server, start


@needs_posix
def test_a_server_works_and_stops_although_nobody_reads_its_log(tmp_path: Path) -> None:
    server, start = serve_unread(tmp_path)
    with server:
        for number in range(3):
            printed = start("submit", "work", str(number), "--result").finish().stdout
            assert printed.splitlines()[-1] == str(number)
        server.send_signal(signal.SIGTERM)
        assert server.wait() == 0
        assert server.out.line() == "closed\n"


def ended_by_signal(process: Process) -> bool:
    process.send_signal(signal.SIGTERM)
    return process.returncode is not None


@needs_posix
def test_the_third_signal_exits_at_once_although_nobody_reads_the_log(tmp_path: Path) -> None:
    server, start = serve_unread(tmp_path)
    with server, start("submit", "block", "1"):  # which is not answered if the loop blocks first
        assert server.out.line() == "blocked\n"
        # two signals of the same number count as one until the first is heard, and nothing says when that was
        wait_until(lambda: ended_by_signal(server), "the exit")
        assert server.wait() == 70

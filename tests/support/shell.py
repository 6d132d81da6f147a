"""A served service, and commands of the command line against it, as processes."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from support.processes import Process, run
from trio_jobs._cli.main import main

__all__ = ["SERVICE", "Shell", "serving"]

SERVICE = textwrap.dedent(
    """
    import contextlib, time, trio, trio_jobs

    @contextlib.asynccontextmanager
    async def open_sdk():
        try:
            yield "sdk"
        finally:
            print("closed", flush=True)

    service = trio_jobs.Service(async_sdk=open_sdk, drain_timeout=20)

    @service.handler(on_doubt="hold")
    async def double(sdk: str, number: int) -> int:
        return number * 2

    @service.handler(on_doubt="hold")
    async def fail(sdk: str, why: str) -> None:
        raise trio_jobs.Fail(why)

    @service.handler(on_doubt="hold")
    async def wait(sdk: str, seconds: float) -> str:
        await trio.sleep(seconds)
        return "waited"

    @service.handler(on_doubt="hold")
    async def wait_for_file(sdk: str, path: str) -> str:
        while not await trio.Path(path).exists():
            await trio.sleep(0.01)
        return "found"

    @service.handler(attempt_timeout=0.05, on_doubt="hold")
    async def hang(sdk: str, name: str) -> None:
        await trio.sleep_forever()

    @service.handler(on_doubt="hold")
    async def block(sdk: str, name: str) -> None:
        await trio.sleep(0.1)  # so that the submit is answered
        print("blocked", flush=True)
        time.sleep(60)
    """
)


class Shell:
    """A served service, and commands against it."""

    def __init__(self, folder: Path, *options: str, port: int = 0, **environment: str) -> None:
        self.folder = folder
        (folder / "shop.py").write_text(SERVICE)
        self.token_file = folder / "token"
        self.environment = {name: value for name, value in os.environ.items() if name != "TRIO_JOBS_TOKEN"}
        self.environment |= {"XDG_RUNTIME_DIR": str(folder / "run"), **environment}
        self.server = Process(
            [*self.command("serve", "shop:service", "--port", str(port), "--log-json"), *options],
            cwd=folder,
            env=self.environment,
            forked=True,
        )
        self.logs: list[dict[str, Any]] = []
        self.url = ""
        for line in self.server.err.lines():
            self.logs.append(json.loads(line))
            message = self.logs[-1]["message"]
            if " serves " in message:
                self.url = message.rpartition(" ")[2]
            if self.url and "token" in message:
                break

    @staticmethod
    def command(*arguments: str) -> list[str]:
        return [sys.executable, "-m", "trio_jobs._cli", *arguments]

    def run(self, *arguments: str, given: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command in this process, with standard files, an environment and a directory of its own."""
        stdin, stdout, stderr = (io.BytesIO(data) for data in (given.encode(), b"", b""))
        with ExitStack() as stack:
            for name, file in (("stdin", stdin), ("stdout", stdout), ("stderr", stderr)):
                text = io.TextIOWrapper(file, "utf-8", newline="", write_through=True)
                stack.enter_context(mock.patch.object(sys, name, text))
                stack.callback(text.detach)
            stack.enter_context(mock.patch.dict(os.environ, self.environment | environment, clear=True))
            stack.enter_context(contextlib.chdir(self.folder))
            code = main([*arguments, "--url", self.url])
        out, err = (file.getvalue().decode("utf-8", "replace") for file in (stdout, stderr))
        return subprocess.CompletedProcess(arguments, code, out, err)

    def run_process(self, *arguments: str, given: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command in a process."""
        command = [*self.command(*arguments), "--url", self.url]
        return run(command, cwd=self.folder, env=self.environment | environment, given=given, forked=True)

    def start(self, *arguments: str) -> Process:
        return Process([*self.command(*arguments), "--url", self.url], env=self.environment, forked=True)

    def json(self, *arguments: str, given: str = "") -> Any:
        done = self.run(*arguments, "--json", given=given)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def wait_for(self, text: str) -> None:
        """Read the server's log until a message has `text` in it."""
        self.server.err.line_with(text)

    def stop(self, *signals: signal.Signals) -> tuple[int, str, str]:
        for number in signals:
            self.server.send_signal(number)
        done = self.server.finish()
        return done.returncode, done.stdout, done.stderr


@contextmanager
def serving(folder: Path) -> Iterator[Shell]:
    """A shell whose server is stopped at the end, which must close its SDK."""
    shell = Shell(folder)
    with shell.server:
        yield shell
        code, out, _ = shell.stop(signal.SIGTERM)
        assert code == 0
        assert {*out.splitlines()} == {"closed"}, "once for each session"

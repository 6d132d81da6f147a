"""The web page in Chromium, driven by Playwright from the thread of the test. The server runs in its own thread."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import attrs
import pytest
import trio

import trio_jobs
from support.waiting import DEADLINE
from trio_jobs import Queue, Server, Service, Token

try:
    from playwright import sync_api
except ImportError:  # the tests skip
    sync_api = None  # type: ignore[assignment] # as above

__all__ = [
    "CONTROLLER",
    "OPERATOR",
    "WATCHER",
    "Frames",
    "Opened",
    "Served",
    "browser",
    "needs_browser",
    "open_page",
    "script",
    "served",
]

T = TypeVar("T")


class Frames:
    """The frames that a page sends and receives over WebSockets from now on."""

    def __init__(self, page: Any) -> None:
        self.sent: list[str] = []
        self.received: list[str] = []
        self._page = page
        page.on("websocket", self._listen)

    def _listen(self, websocket: Any) -> None:
        websocket.on("framesent", lambda frame: self.sent.append(str(frame)))
        websocket.on("framereceived", lambda frame: self.received.append(str(frame)))

    def clear(self) -> None:
        self.sent.clear()
        self.received.clear()

    def wait_for_answer(self, method: str) -> None:
        """Wait until the server has answered the last request with this method, which the page may yet send."""
        until = time.monotonic() + DEADLINE
        while not self._has_answer(method):
            assert time.monotonic() < until, f"{method} was not answered: {self.sent}, {self.received}"
            self._page.wait_for_timeout(20)

    def _has_answer(self, method: str) -> bool:
        ids = [json.loads(frame)["id"] for frame in self.sent if f'"method":"{method}"' in frame]
        return bool(ids) and any(frame.startswith(f'{{"id":{ids[-1]},') for frame in self.received)


NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
CONTROLLER = Token("controller-" + "0" * 20, "carl", "control")
OPERATOR = Token("operator-" + "0" * 20, "ada", "operate")
WATCHER = Token("watcher-" + "0" * 20, "wes", "watch")


def find_browser() -> str | None:
    return os.environ.get("TRIO_JOBS_BROWSER") or next(filter(None, map(shutil.which, NAMES)), None)


needs_browser = pytest.mark.skipif(
    sync_api is None or find_browser() is None,
    reason="no Playwright or no Chromium: apt-get install chromium, or name one in TRIO_JOBS_BROWSER",
)


SCRIPTS = Path(__file__).parents[1] / "page"


def script(name: str) -> str:
    """A script of the tests of the page, without its comment."""
    return (SCRIPTS / f"{name}.js").read_text(encoding="utf-8").partition("\n")[2]


@attrs.define
class Served:
    """A queue and its server, in a thread of their own."""

    queue: Queue
    server: Server
    _token: trio.lowlevel.TrioToken
    leave: trio.Event = attrs.field(factory=trio.Event)
    left: threading.Event = attrs.field(factory=threading.Event)
    back: threading.Event = attrs.field(factory=threading.Event)
    stopping: bool = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}/"

    def run(self, function: Callable[..., Awaitable[T]], *arguments: Any) -> T:
        """Call an async function there."""
        return trio.from_thread.run(function, *arguments, trio_token=self._token)

    def call(self, function: Callable[..., T], *arguments: Any) -> T:
        return trio.from_thread.run_sync(function, *arguments, trio_token=self._token)

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """The server is away within the block; the queue goes on. Afterwards it is back on its port."""
        self.call(self.leave.set)
        assert self.left.wait(DEADLINE), "the server did not stop"
        yield
        self.left.clear()
        self.back.set()

    def stop(self) -> None:
        self.stopping = True
        self.back.set()
        with contextlib.suppress(trio.RunFinishedError):
            self.call(self.leave.set)

    def submit(self, kind: str, payload: Any, **more: Any) -> str:
        """The id of a new job."""

        async def submit() -> str:
            return (await self.queue.submit(kind, payload, **more)).job_id

        return self.run(submit)

    def settled(self, *jobs: str) -> None:
        """Wait until none of these jobs can go on by itself."""

        async def wait() -> None:
            with trio.fail_after(DEADLINE):
                for job in jobs:
                    with contextlib.suppress(trio_jobs.JobFailed, trio_jobs.JobCancelled, trio_jobs.JobInDoubt):
                        await self.queue.result(job, in_doubt="raise")

        self.run(wait)


@contextlib.contextmanager
def served(service: Service, **arguments: Any) -> Iterator[Served]:
    """Open the queue of a service and serve it, with a token of each scope."""
    ready = threading.Event()
    place: Served | None = None
    failures: list[BaseException] = []
    arguments.setdefault("tokens", [CONTROLLER, OPERATOR, WATCHER])

    async def main() -> None:
        nonlocal place
        port = arguments.pop("port", 0)
        async with service.open() as queue:
            while place is None or not place.stopping:
                async with trio_jobs.serve(queue, port=port, **arguments) as server:
                    port = server.port
                    if place is None:
                        place = Served(queue, server, trio.lowlevel.current_trio_token())
                    place.server = server
                    ready.set()
                    await place.leave.wait()
                place.leave = trio.Event()
                place.left.set()
                await trio.to_thread.run_sync(place.back.wait)
                place.back.clear()

    def run() -> None:
        try:
            trio.run(main)
        except BaseException as error:
            failures.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=run, name="server of the page")
    thread.start()
    try:
        assert ready.wait(DEADLINE) and place is not None, f"the server did not start: {failures}"
        yield place
    finally:
        if place is not None:
            place.stop()
        thread.join(DEADLINE)
    assert not thread.is_alive() and not failures, f"the server did not stop well: {failures}"


@contextlib.contextmanager
def browser() -> Iterator[Any]:
    """A running browser."""
    options = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-proxy-server"]
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=find_browser(), args=options)
        try:
            yield chromium
        finally:
            chromium.close()


@attrs.define
class Opened:
    """A page, and what has gone wrong in it."""

    page: Any
    troubles: list[str]

    def go(self, path: str) -> None:
        """Show another screen, as a link does."""
        self.page.evaluate("path => { location.hash = path }", path)

    def wait_for(self, condition: str, argument: Any = None) -> None:
        """Wait until a function of the page returns something true."""
        self.page.wait_for_function(condition, arg=argument, timeout=DEADLINE * 1000)


@contextlib.contextmanager
def open_page(
    chromium: Any, url: str, token: Token | None, path: str = "", refused: int | None = None, **options: Any
) -> Iterator[Opened]:
    """The page in a window of its own, logged in with the token, if there is one.

    Args:
        refused: An HTTP status that is expected.
        options: Of the window.

    At the end nothing must have gone wrong in it: no error, no refusal of its policy, no dialog of a script.
    """
    window = chromium.new_context(**options)
    troubles: list[str] = []
    try:
        window.set_default_timeout(DEADLINE * 1000)
        page = window.new_page()
        page.on("pageerror", lambda error: troubles.append(f"error: {error}"))

        def on_dialog(dialog: Any) -> None:
            troubles.append(f"dialog: {dialog.message}")
            dialog.dismiss()

        def on_console(message: Any) -> None:
            lost = "WebSocket connection" in message.text or "ERR_CONNECTION_REFUSED" in message.text
            expected = refused is not None and f"status of {refused}" in message.text
            if message.type in ("error", "warning") and not lost and not expected:
                troubles.append(f"console: {message.text}")

        page.on("dialog", on_dialog)
        page.on("console", on_console)
        page.goto(url + path)
        if token is not None:
            page.fill("form.login input", token.secret)
            page.keyboard.press("Enter")
            page.wait_for_selector("header nav a")
        yield Opened(page, troubles)
        assert troubles == [], troubles
    finally:
        window.close()

"""A browser's own WebSocket, in headless Chromium: all methods, and the program of docs/clients.md."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import queue as queues
import re
import shutil
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

import trio_jobs
from support.processes import Process
from trio_jobs import Token
from trio_jobs._wire.methods import METHODS

PAGE = (Path(__file__).parents[2] / "docs" / "clients.md").read_text(encoding="utf-8")
OWNER = Token("owner+/" + "0" * 20, "ann", "control")  # its base64 has what base64url writes otherwise
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
OPTIONS = (
    "--headless",
    "--no-sandbox",  # root in a container has no other way; all it loads is ours
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-sync",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--no-default-browser-check",
    "--no-proxy-server",
)
CONTENDED_HANDSHAKE_TIMEOUT = 60.0  #: seconds for a word from the browser: its first start on a busy machine takes ten


def find_browser() -> str | None:
    return os.environ.get("TRIO_JOBS_BROWSER") or next(filter(None, map(shutil.which, NAMES)), None)


needs_browser = pytest.mark.skipif(
    find_browser() is None,
    reason="no Chromium: apt-get install chromium, or name one in TRIO_JOBS_BROWSER",
)


class Site:
    """Serves one page and takes in what that reports, at an origin of its own."""

    def __init__(self) -> None:
        self.html = ""
        self._said: queues.Queue[str] = queues.Queue()
        self._browser: Process | None = None
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(site.html.encode() if self.path == "/" else b"", "text/html; charset=utf-8")

            def do_POST(self) -> None:
                site._said.put(self.rfile.read(int(self.headers["content-length"])).decode())
                self._answer(b"", "text/plain")

            def _answer(self, body: bytes, kind: str) -> None:
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.origin = f"http://127.0.0.1:{self.server.server_address[1]}"

    def says(self) -> Any:
        return json.loads(self._said.get(timeout=CONTENDED_HANDSHAKE_TIMEOUT))

    def open(self, folder: Path, script: str) -> None:
        """A browser has the page with this script open, until `close`."""
        self.html = f"""<!doctype html><script>
const report = (what) => fetch("/", {{ method: "POST", body: JSON.stringify(what) }});
window.onerror = (message) => report({{ error: message }});
window.onunhandledrejection = ({{ reason }}) => report({{ error: String(reason) }});
{script}
</script>"""
        self._browser = Process([str(find_browser()), *OPTIONS, f"--user-data-dir={folder}", self.origin + "/"])

    def close(self) -> None:
        if self._browser is not None:
            self._browser.send_signal(signal.SIGTERM)
            self._browser.finish()  # after its own children
        self.server.shutdown()
        self.server.server_close()

    async def told(self) -> Any:
        """The next thing the page has reported."""
        return await trio.to_thread.run_sync(self.says)


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    thread = threading.Thread(target=site.server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield site
    site.close()
    thread.join()


def make_service() -> trio_jobs.Service:
    @contextlib.asynccontextmanager
    async def open_sdk() -> AsyncIterator[str]:
        yield "sdk"

    service = trio_jobs.Service(async_sdk=open_sdk)

    @service.handler(on_doubt="hold")
    async def double(sdk: str, number: int) -> int:
        return number * 2

    @service.handler(attempt_timeout=0.01, on_doubt="hold")
    async def hang(sdk: str, name: str) -> None:
        await trio.sleep_forever()

    return service


ALL_METHODS = """
const bearer = btoa(token).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
const socket = new WebSocket(url, ["trio-jobs.v1", "bearer." + bearer]);
const waiting = new Map(), told = [];
let last = 0;
const ask = (method, params = {}) => new Promise((done) => {
  waiting.set(++last, done);
  socket.send(JSON.stringify({ jsonrpc: "2.0", id: last, method, params }));
});
socket.onmessage = ({ data }) => {
  const message = JSON.parse(data);
  if (message.method) { told.push(message); return; }
  waiting.get(message.id)(message.result ?? { code: message.error.code });
  waiting.delete(message.id);
};
socket.onclose = ({ code, reason }) => report({ closed: code, reason });
socket.onopen = async () => {
  const got = { protocol: socket.protocol };
  got.hello = await ask("server.hello");
  got.subscribed = await ask("jobs.subscribe", { subscription: "mine", snapshot: true });
  got.receipt = await ask("jobs.submit", { kind: "double", payload: 21, key: "k\\u00fc" });
  const { job } = got.receipt;
  got.again = await ask("jobs.submit", { kind: "double", payload: 21, key: "k\\u00fc" });
  got.result = await ask("jobs.result", { job, wait: 10 });
  got.job = await ask("jobs.get", { job });
  got.found = await ask("jobs.find", { kind: "double", key: "k\\u00fc" });
  got.count = await ask("jobs.count", { group: "state" });
  got.paused = await ask("queue.pause", { reason: "lunch" });
  const other = (await ask("jobs.submit", { kind: "double", payload: 1 })).job;
  got.cancelled = await ask("jobs.cancel", { job: other });
  got.retried = await ask("jobs.retry", { job: other });
  const wait = ask("jobs.result", { job: other, wait: 30 });
  got.stopped = [await ask("requests.cancel", { request: last }), await wait];
  got.resumed = await ask("queue.resume");
  await ask("jobs.result", { job: other, wait: 10 });
  const hung = (await ask("jobs.submit", { kind: "hang", payload: "x" })).job;
  got.doubt = await ask("jobs.result", { job: hung, wait: 10, in_doubt: "answer" });
  got.claimed = await ask("jobs.claim", { job: hung });
  got.verified = await ask("jobs.verify", { job: hung });
  got.resolved = await ask("jobs.resolve", { job: hung, resolution: "failed" });
  got.many = await ask("jobs.submit_many", { jobs: [{ kind: "double", payload: 3, delay: 600 }] });
  const late = got.many.jobs[0].job;
  got.rescheduled = await ask("jobs.reschedule", { job: late, delay: 900 });
  got.cancelledMany = await ask("jobs.cancel_many", { ids: [late] });
  got.retriedMany = await ask("jobs.retry_many", { ids: [late], dry_run: true });
  got.corrected = await ask("jobs.correct", { job: late, payload: 4 });
  got.correction = await ask("jobs.result", { job: late, wait: 10 });
  got.ticket = await ask("tickets.create", { job });
  got.revoked = await ask("tickets.revoke");
  got.backup = await ask("queue.backup", { name: "copy" });
  got.list = await ask("jobs.list", { state: "completed" });
  got.drained = await ask("queue.drain");
  got.refused = await ask("jobs.submit", { kind: "double", payload: 1 });
  got.undrained = await ask("queue.undrain");
  got.kinds = await ask("kinds.list");
  got.login = await ask("server.login");
  got.history = await ask("jobs.history", { job });
  got.forgotten = await ask("jobs.forget", { job: other });
  got.activity = await ask("queue.activity");
  got.health = await ask("queue.health");
  got.statistics = await ask("queue.statistics");
  got.nosuch = await ask("jobs.get", { job: "none" });
  got.unsubscribed = await ask("jobs.unsubscribe", { subscription: "mine" });
  got.events = told.filter((m) => m.method === "jobs.event").map((m) => m.params.seq);
  got.snapshots = told.filter((m) => m.method === "jobs.snapshot").length;
  await report(got);
};
"""


@needs_browser
async def test_a_browser_does_all_methods(site: Site, tmp_path: Path) -> None:
    async with (
        make_service().open() as queue,
        trio_jobs.serve(queue, port=0, tokens=[OWNER], origins=[site.origin]) as server,
    ):
        site.open(tmp_path, f"const url = {server.url!r}, token = {OWNER.secret!r};\n" + ALL_METHODS)
        got = await site.told()
        assert "error" not in got, got
        assert got["protocol"] == "trio-jobs.v1"
        assert (got["hello"]["name"], got["hello"]["scope"]) == ("ann", "control")
        assert (got["receipt"]["created"], got["again"]["created"]) == (True, False)
        assert got["receipt"]["job"] == got["again"]["job"] == got["job"]["id"]
        assert got["result"]["result"] == 42
        assert got["found"]["id"] == got["job"]["id"]
        assert [event["type"] for event in got["history"]["events"]] == ["submitted", "started", "completed"]
        assert {one["by"] for one in got["activity"]["actions"]} == {"ann"}
        assert (got["count"]["total"], got["count"]["groups"]) == (1, {"completed": 1})
        assert (got["job"]["key"], got["job"]["payload"]) == ("kü", 21)
        assert got["cancelled"]["answer"] == "cancelled"
        assert got["retried"]["state"] == "pending"
        assert [got["stopped"][0]["cancelled"], got["stopped"][1]] == [True, {"code": -32018}]
        assert (got["doubt"]["state"], got["resolved"]["state"]) == ("in_doubt", "failed")
        assert "code" not in got["claimed"]
        assert got["verified"]["code"] < 0  # the handler has no verify
        late = got["many"]["jobs"][0]["job"]
        assert "code" not in got["rescheduled"]
        assert (got["cancelledMany"]["jobs"], got["retriedMany"]["jobs"]) == ([late], [late])
        assert (got["corrected"]["job"], got["correction"]["result"]) == (late, 8)
        assert got["ticket"]["ticket"].startswith("t1.")
        assert "code" not in got["revoked"]
        assert len(got["list"]["jobs"]) == 3
        assert (got["refused"]["code"], got["nosuch"]["code"]) == (-32012, -32004)
        assert got["statistics"]["jobs"]["failed"] == 1
        assert got["backup"]["code"] < 0  # there is no journal
        assert got["snapshots"] == 1
        first, last = got["subscribed"]["seq"] + 1, got["unsubscribed"]["seq"]
        assert got["events"] == list(range(first, last + 1))
        assert last <= got["statistics"]["seq"]  # what has come since the feed last told is left to who resumes
        assert all("seq" in got[what] for what in ("paused", "resumed", "drained", "undrained"))
    assert set(re.findall(r'ask\("([a-z._]+)"', ALL_METHODS)) == METHODS.keys()


@needs_browser
@pytest.mark.parametrize(("token", "allowed", "code"), [(OWNER, False, 4403), (Token("wrong-" + "0" * 20), True, 4401)])
async def test_a_browser_is_told_why_it_is_not_served(
    site: Site, tmp_path: Path, token: Token, allowed: bool, code: int
) -> None:
    origins = [site.origin] if allowed else ["https://shop.example"]
    async with (
        make_service().open() as queue,
        trio_jobs.serve(queue, port=0, tokens=[OWNER], origins=origins) as server,
    ):
        script = f"const url = {server.url!r}, token = {token.secret!r};\n" + ALL_METHODS
        site.open(tmp_path, script.replace("socket.onopen", "const unused"))
        assert (await site.told())["closed"] == code


@needs_browser
async def test_the_page_s_program_follows_in_a_browser_over_a_restart_of_the_server(site: Site, tmp_path: Path) -> None:
    found = re.search(r"## A browser\n.*?```js\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    source = found[1].replace("1000 + 4000 * Math.random()", "50")
    async with make_service().open() as queue:

        async def tells_all_of(job: str) -> None:
            for state in ("pending", "processing", "completed"):
                assert await site.told() == [job, state]

        async with trio_jobs.serve(queue, port=0, tokens=[OWNER], origins=[site.origin]) as server:
            first = await queue.submit("double", 1)
            await queue.result(first.job_id)
            # one report after the other, so that they come in the order in which they were made
            prelude = f"""const url = {server.url!r}, token = {OWNER.secret!r};
let before = Promise.resolve();
const show = ({{ id, state }}) => {{ before = before.then(() => report([id, state])); }};
"""
            site.open(tmp_path, prelude + source)
            assert await site.told() == [first.job_id, "completed"]
            await tells_all_of((await queue.submit("double", 2)).job_id)
        missed = await queue.submit("double", 3)
        await queue.result(missed.job_id)
        async with trio_jobs.serve(queue, port=server.port, tokens=[OWNER], origins=[site.origin]):
            await tells_all_of(missed.job_id)

"""What takes longer with the web page: restarts of the server, many events, the rules of accessibility, pictures."""

from __future__ import annotations

import os
import signal
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import page_child
import pytest
import trio
from troubled_queue import in_trouble, screens

import trio_jobs
from support.page import (
    CONTROLLER,
    OPERATOR,
    WATCHER,
    Frames,
    Opened,
    Served,
    browser,
    needs_browser,
    open_page,
    script,
    served,
)
from support.processes import Process
from support.waiting import DEADLINE

pytestmark = [needs_browser, pytest.mark.campaign]

SHOWN = """() => ({
    rows: [...document.querySelectorAll("tr[data-job]")]
        .map((row) => [row.dataset.job, row.querySelector(".badge").textContent]),
    count: document.querySelector("p.count").textContent,
})"""
COUNTS = """() => {
    window.longest = window.renders = 0;
    new MutationObserver(() => { renders += 1; }).observe(document.querySelector("main"), {
        childList: true, subtree: true, characterData: true,
    });
    const look = (list) => { for (const { duration } of list.getEntries()) longest = Math.max(longest, duration); };
    new PerformanceObserver(look).observe({ type: "longtask" });
}"""
NOTHING = ["error:Other", "nothing"]  # searches that no job matches
WORDS = {"completed": "Completed", "failed": "Failed", "pending": "Pending", "processing": "Processing"}


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as chromium:
        yield chromium


class Child:
    """A served queue in a process, which can be killed and started again on the same port."""

    def __init__(self, folder: Path) -> None:
        self._journal = folder / "jobs.db"
        self.port = 0
        self.start()

    def start(self) -> None:
        command = [sys.executable, page_child.__file__, str(self._journal), str(self.port), CONTROLLER.secret]
        self._process = Process(command, stdin=None)
        self.port = int(self._process.out.line())

    def work(self, jobs: int) -> None:
        self.begin(jobs)
        assert self._process.out.line(4 * DEADLINE) == "done\n"

    def begin(self, jobs: int) -> None:
        self._process.write(f"{jobs}\n")

    def kill(self) -> None:
        self._process.kill()
        self._process.finish()

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def listed(self) -> dict[str, Any]:
        """What the page is to show: the newest jobs."""

        async def ask() -> dict[str, Any]:
            async with trio_jobs.connect(f"ws://127.0.0.1:{self.port}/ws", token=CONTROLLER.secret) as client:
                page = await client.list(order="newest", limit=50)
                total = (await client.count()).total
                return {"rows": [[job.id, WORDS[job.state]] for job in page], "count": f"{total:,} jobs"}

        return trio.run(ask)


def shows(opened: Opened, wanted: dict[str, Any]) -> None:
    """Wait until the page shows this, asking it for new jobs as a person does."""
    opened.wait_for(
        f"""(wanted) => {{
            document.querySelector("button.fresh")?.click();
            return JSON.stringify(({SHOWN})()) === JSON.stringify(wanted);
        }}""",
        wanted,
    )


def test_the_page_shows_the_jobs_of_the_server_after_each_kill_without_a_reload(chromium: Any, tmp_path: Path) -> None:
    child = Child(tmp_path)
    child.work(10_000)
    with open_page(chromium, f"http://127.0.0.1:{child.port}/", CONTROLLER, "#/jobs") as opened:
        page = opened.page
        page.evaluate("window.same = true")
        shows(opened, child.listed())
        for _ in range(2):
            child.begin(2_000)
            opened.wait_for("() => document.querySelector('button.fresh') !== null")
            child.kill()
            opened.wait_for("() => !document.querySelector('.bar').hidden")
            child.start()
            child.work(30)
            opened.wait_for("() => document.querySelector('.bar').hidden")
            shows(opened, child.listed())
        assert page.evaluate("window.same") is True
        page.click("a[rel=next]")
        opened.wait_for("() => location.hash.includes('after=')")
        page.wait_for_selector("tr[data-job]")
        page.go_back()
        shows(opened, child.listed())
    child.kill()


@pytest.mark.skipif(sys.platform == "win32", reason="stops a process with a signal")
def test_a_server_that_is_silent_for_a_minute_is_shown_as_lost_and_followed_again(
    chromium: Any, tmp_path: Path
) -> None:
    """A stopped process is like a network that is gone: nothing says so, and connections to it hang."""
    child = Child(tmp_path)
    child.work(10)
    with open_page(chromium, f"http://127.0.0.1:{child.port}/", None, "#/jobs") as opened:
        page = opened.page
        page.clock.install()
        page.fill("form.login input", CONTROLLER.secret)
        page.keyboard.press("Enter")
        page.wait_for_selector("tr[data-job]")
        shows(opened, child.listed())
        child.signal(signal.SIGSTOP)
        try:
            for _ in range(60):
                page.clock.run_for(1_000)
                page.wait_for_timeout(1)
            assert page.is_visible(".bar") and "No connection" in page.inner_text(".bar")
            assert page.inner_text(".live") == ""
        finally:
            child.signal(signal.SIGCONT)
        child.work(10)
        until = time.monotonic() + DEADLINE
        while page.is_visible(".bar") and time.monotonic() < until:
            page.clock.run_for(500)
            page.wait_for_timeout(20)
        shows(opened, child.listed())
        assert page.inner_text(".live") == "Live"
    child.kill()


def test_of_thousands_of_events_a_second_the_page_draws_only_some_and_a_hidden_one_gets_none(chromium: Any) -> None:
    service = trio_jobs.Service(buffer=1000)

    @service.handler(idempotent=True)
    async def work(number: int) -> None: ...

    with served(service) as place:

        async def work_on(seconds: float) -> int:
            end, before, done = trio.current_time() + seconds, place.queue.statistics().seq, 0
            while trio.current_time() < end:
                due = int((seconds + trio.current_time() - end) * 700) - done  # a job has three events
                await place.queue.submit_many([trio_jobs.NewJob(work, number) for number in range(min(due, 200))])
                done += min(due, 200)
                await trio.sleep(0.02)
            return place.queue.statistics().seq - before

        place.run(work_on, 0.5)
        with open_page(chromium, place.url, None, "#/jobs") as opened:
            page = opened.page
            frames = Frames(page)
            page.fill("form.login input", OPERATOR.secret)
            page.keyboard.press("Enter")
            page.wait_for_selector("tr[data-job]")
            page.evaluate(COUNTS)
            events = place.run(work_on, 10.0)
            assert events > 1_000
            longest, renders = page.evaluate("[window.longest, window.renders]")
            assert 0 < renders < events / 5, "the page is drawn for frames of the screen, and not for each event"
            assert page.evaluate("document.querySelectorAll('*').length") < 2_000
            assert len(frames.received) > 100
            print(f"{events / 10:,.0f} events/s: the longest task of the page took {longest:.0f} ms, {renders} changes")

            measure = page.context.new_cdp_session(page)
            measure.send("Performance.enable")

            def busy() -> float:
                """Seconds for which the page has worked."""
                metrics = measure.send("Performance.getMetrics")["metrics"]
                return float(next(each["value"] for each in metrics if each["name"] == "TaskDuration"))

            page.clock.install()
            frames.clear()
            page.evaluate(script("hide"), True)
            page.clock.run_for(31_000)
            for method in ("jobs.unsubscribe", "jobs.subscribe"):
                frames.wait_for_answer(method)
            frames.clear()
            before = busy()
            assert place.run(work_on, 3.0) > 300
            took = busy() - before
            print(f"hidden: {len(frames.received)} frames, and {took * 1000:.0f} ms of work in 3 s")
            assert frames.received == []


def test_each_search_among_100_000_jobs_shows_a_page_of_what_matches(chromium: Any, tmp_path: Path) -> None:
    """From the search to the rows on the screen, with the number of jobs that match."""
    child = Child(tmp_path)
    for _ in range(20):
        child.work(5_000)
    searches = ["state:failed", "state:completed", "kind:work", "since:2d", "acted:no", *NOTHING, ""]
    searches += [f"{number}" for number in range(11, 41)]
    searches += [f"state:failed error:Fail key:{number}" for number in range(50, 60)]
    took = []
    with open_page(chromium, f"http://127.0.0.1:{child.port}/", CONTROLLER, "#/jobs") as opened:
        shows(opened, child.listed())
        for search in searches:
            opened.page.wait_for_timeout(500)  # as fast as a person asks; the server limits the rate of a connection
            took.append(opened.page.evaluate(script("search"), search))
            assert opened.page.locator("tr[data-job]").count() == (0 if search in NOTHING else 50), search
    child.kill()
    took.sort()
    print(f"p50 {took[len(took) // 2]:.0f} ms, p95 {took[len(took) * 95 // 100]:.0f} ms, at most {took[-1]:.0f} ms")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_screen_has_a_serious_fault_of_accessibility(theme: str, chromium: Any) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    found = []
    with in_trouble() as place:
        options: dict[str, Any] = {"color_scheme": theme, "bypass_csp": True}  # axe is a script that the policy refuses
        with open_page(chromium, place.url, None, **options) as opened:
            found += serious(axe, opened, "login")
        for token in (CONTROLLER, WATCHER):
            with open_page(chromium, place.url, token, **options) as opened:
                for name in (*screens(place), "dialog"):
                    show(opened, place, name)
                    found += serious(axe, opened, name)
    assert found == []


def serious(axe: Any, opened: Opened, name: str) -> list[str]:
    results = axe.run(opened.page).response["violations"]
    return [
        f"{name}: {each['id']}: {node['html']:.200}"
        for each in results
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]


def show(opened: Opened, place: Served, name: str) -> None:
    """Show a screen, or a dialog, as it is when all of it is there."""
    page = opened.page
    if name == "dialog":
        opened.go("#/doubt")
        page.wait_for_selector("li.card")
        if page.locator("text=It was not done").count():
            page.click("text=It was not done >> nth=0")
        else:
            page.keyboard.press("?")
        page.wait_for_selector("dialog[open]")
        return
    opened.go(screens(place)[name])
    opened.wait_for("() => document.querySelector('main').innerText && !document.querySelector('main .loading')")
    page.wait_for_timeout(300)  # a screen is complete when its answers are there; too early shows less


PICTURES = os.environ.get("TRIO_JOBS_PICTURES")
SIZES = {"desk": {"width": 1280, "height": 860}, "phone": {"width": 390, "height": 844}}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_screen_fits_in_its_window(theme: str, size: str, chromium: Any, tmp_path: Path) -> None:
    """TRIO_JOBS_PICTURES names a folder for pictures of all screens, to be looked at."""
    folder = Path(PICTURES) if PICTURES not in (None, "", "readme") else tmp_path
    folder.mkdir(exist_ok=True)
    with in_trouble() as place:
        with open_page(chromium, place.url, None, color_scheme=theme, viewport=SIZES[size]) as opened:
            opened.page.wait_for_selector("form.login")
            opened.page.screenshot(path=folder / f"login-{theme}-{size}.png")
        for token in (CONTROLLER, WATCHER):
            with open_page(chromium, place.url, token, color_scheme=theme, viewport=SIZES[size]) as opened:
                for name in (*screens(place), "dialog"):
                    show(opened, place, name)
                    assert opened.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, name
                    path = folder / f"{name}-{token.scope}-{theme}-{size}.png"
                    opened.page.screenshot(path=path, full_page=name != "dialog")


README = Path(__file__).parents[2] / "README.md"
PICTURE = Path(__file__).parents[2] / "docs" / "assets" / "page.png"


def test_the_picture_of_the_readme_is_the_page_of_the_demo(chromium: Any, tmp_path: Path) -> None:
    """TRIO_JOBS_PICTURES=readme writes it. Fonts differ between machines, so the pictures are not compared."""
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path), "LOCALAPPDATA": str(tmp_path)}
    command = [sys.executable, "-u", "-m", "trio_jobs_demo", "--serve", "--port", "0", "--plain"]
    with Process(command, env=environment) as demo:
        link = demo.out.line_with("in a browser").split()[-1]
        demo.out.line_with("in doubt")
        url, _, fragment = link.partition("#")
        size = {"width": 1120, "height": 900}
        with open_page(chromium, url, None, "#" + fragment, viewport=size) as opened:
            page = opened.page
            page.wait_for_selector("p.alert")
            opened.wait_for("() => Number(document.querySelector('.tile.completed .amount').textContent) >= 27")
            target = PICTURE if PICTURES == "readme" else tmp_path / "page.png"
            page.mouse.move(0, 0)
            page.screenshot(path=target)
            opened.go("#/doubt")
            page.click("text=It was not done")
            page.fill("dialog textarea", "the book has no voucher of it")
            page.click("dialog button[type=submit]")
            page.wait_for_selector("dialog", state="detached")
        assert demo.wait() == 0
    assert f"(docs/{PICTURE.relative_to(PICTURE.parents[1])})" in README.read_text(encoding="utf-8")
    width, height = struct.unpack(">II", PICTURE.read_bytes()[16:24])
    assert {"width": width, "height": height} == size and PICTURE.stat().st_size < 150_000

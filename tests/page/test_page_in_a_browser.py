"""The web page in a browser: what a support desk sees and does."""

from __future__ import annotations

import contextlib
import http.server
import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import attrs
import pytest
import trio

import trio_jobs
from support.page import (
    CONTROLLER,
    OPERATOR,
    WATCHER,
    Frames,
    Served,
    browser,
    needs_browser,
    open_page,
    script,
    served,
)

pytestmark = needs_browser

HOSTILE = (
    "<img src=x onerror=\"alert('markup')\">",
    "<script>alert('script')</script>",
    "javascript:alert('link')",
    "\u202egnp.exe \u2066hidden\u2069",
    "nul\x00 bell\x07 escape\x1b[31m",
    "مرحبا עולם",
    "\n\n\t lines \u2028 and \u0085 more",
    "{{constructor.constructor('alert(1)')()}}",
    "😀" * 200,
    "x" * 5000,
    "__proto__",
)


@attrs.frozen
class Invoice:
    folio: str
    total_cents: int


def make_service() -> trio_jobs.Service:
    @contextlib.asynccontextmanager
    async def open_sdk() -> AsyncIterator[str]:
        yield "sdk"

    service = trio_jobs.Service(async_sdk=open_sdk, renew_after_error=False, drain_timeout=0.5)

    @service.handler(on_doubt="hold")
    async def post_invoice(sdk: str, invoice: Invoice) -> str:
        if invoice.total_cents < 0:
            raise trio_jobs.Fail("the total is negative")
        return f"voucher of {invoice.folio}"

    @service.handler(attempt_timeout=0.01, on_doubt="hold")
    async def hang(sdk: str, name: str) -> None:
        await trio.sleep_forever()

    async def was_sent(sdk: str, job: trio_jobs.JobContext) -> trio_jobs.Verdict:
        return trio_jobs.Unknown()

    @service.handler(attempt_timeout=0.01, verify=was_sent)
    async def send(sdk: str, name: str) -> None:
        await trio.sleep_forever()

    @service.handler(idempotent=True)
    async def say(sdk: str, texts: list[str], job: trio_jobs.AsyncJobContext) -> list[str]:
        async def nothing() -> None: ...

        for text in texts:
            await job.step(text[:100], nothing)
        return texts

    @service.handler(retry=trio_jobs.Retry(0))
    async def echo(sdk: str, text: str) -> str:
        if len(text) > 100_000:
            return text
        raise RuntimeError(text)

    return service


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as chromium:
        yield chromium


@pytest.fixture
def place() -> Iterator[Served]:
    with served(make_service()) as place:
        yield place


def test_a_doubt_is_resolved_with_the_keyboard_alone(chromium: Any, place: Served) -> None:
    doubts = [place.submit("hang", name, key=name) for name in ("A-1", "A-2")]
    place.settled(*doubts)
    with open_page(chromium, place.url, OPERATOR) as opened:
        page = opened.page
        opened.wait_for("() => document.title.startsWith('(2) ')")
        page.keyboard.press("g")
        page.keyboard.press("d")
        page.wait_for_selector("li.card >> nth=1")
        page.keyboard.press("j")
        page.keyboard.press("j")
        assert page.evaluate("document.activeElement.textContent") == "A-2"
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "It was done"
        page.keyboard.press("Enter")
        page.wait_for_selector("dialog[open]")
        page.keyboard.press("Control+Enter")
        for _ in range(3):
            page.keyboard.press("Tab")
        page.keyboard.press("Enter")  # without the note
        page.wait_for_selector("dialog .field .problem:visible")
        assert place.call(place.queue.get, doubts[1]).state == "in_doubt"
        assert page.evaluate("document.activeElement.tagName") == "TEXTAREA"
        page.keyboard.type("voucher 17 is in the book")
        for _ in range(3):
            page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.wait_for_selector("dialog", state="detached")
        opened.wait_for("() => document.querySelectorAll('li.card').length === 1")
        opened.wait_for("() => document.title.startsWith('(1) ')")
    job = place.call(place.queue.get, doubts[1])
    assert job.state == "completed"
    assert [(action.by, action.note) for action in job.actions or ()] == [("ada", "voucher 17 is in the book")]


def test_a_failed_job_is_found_and_retried_with_the_keyboard_alone(chromium: Any, place: Served) -> None:
    jobs = [place.submit("post_invoice", Invoice(f"F-{at}", -at), key=f"F-{at}") for at in range(3)]
    place.settled(*jobs)
    with open_page(chromium, place.url, OPERATOR) as opened:
        page = opened.page
        page.keyboard.press("/")
        opened.wait_for("() => document.activeElement.id === 'search'")
        page.keyboard.type("state:failed key:F-1")
        page.keyboard.press("Enter")
        opened.wait_for("() => document.querySelectorAll('tr[data-job]').length === 1")
        page.keyboard.press("j")
        page.keyboard.press("r")
        page.wait_for_selector("dialog[open]")
        assert "A new run begins" in page.inner_text("dialog")
        page.keyboard.press("Enter")
        page.wait_for_selector("dialog", state="detached")
        page.keyboard.press("Enter")  # the focus is where it was
        page.wait_for_selector("dl.facts")
        opened.wait_for("() => document.querySelector('dl.facts').textContent.includes('Run2')")
        assert "Pending → Processing → Failed → Pending" in page.inner_text("figcaption")
        assert page.evaluate("location.hash") == f"#/job/{jobs[1]}"
    assert place.call(place.queue.get, jobs[1]).run == 2


@pytest.mark.campaign
def test_a_number_within_a_key_is_found_and_a_payload_is_there_to_be_looked_up(chromium: Any, place: Served) -> None:
    jobs = {key: place.submit("hang", f"of {key}", key=key) for key in ("DE1 R-17 a0", "DE1 R-18 b1")}
    place.settled(*jobs.values())
    with open_page(chromium, place.url, OPERATOR, "#/jobs") as opened:
        page = opened.page
        for search, found in (("r-17", ["DE1 R-17 a0"]), ("DE1 R-18 b1", ["DE1 R-18 b1"]), ("R-19", [])):
            page.fill("#search", search)
            page.keyboard.press("Enter")
            opened.wait_for("search => decodeURIComponent(location.hash).endsWith(search.replace(/ /g, '+'))", search)
            page.wait_for_selector("main :is(table, p.empty)")
            assert page.locator("tr[data-job] a.job").all_inner_texts() == found
        assert "Of the newest 2 jobs, 0 have it" in page.inner_text("p.empty")
        opened.go("#/doubt")
        page.click("summary >> nth=0")
        assert page.inner_text("li.card pre >> nth=0") == '"of DE1 R-17 a0"'


@pytest.mark.campaign
def test_verify_is_offered_for_the_kinds_of_jobs_that_have_one(chromium: Any, place: Served) -> None:
    jobs = {kind: place.submit(kind, "x", key=kind) for kind in ("hang", "send")}
    place.settled(*jobs.values())
    with open_page(chromium, place.url, OPERATOR, "#/doubt") as opened:
        page = opened.page
        page.wait_for_selector("li.card >> nth=1")
        for kind, said in (("hang", "There is no verify"), ("send", "does not know")):
            card = page.locator(f"li.card[data-job='{jobs[kind]}']")
            assert said in card.inner_text()
            assert card.locator("text=Ask verify now").count() == (kind == "send")
        page.click("text=Ask verify now")
        assert "attempted again" in page.inner_text("dialog")
        page.click("dialog button[type=submit]")
        page.wait_for_selector("dialog", state="detached")
        assert page.inner_text(".toast") == "verify does not know."


@pytest.mark.campaign
def test_the_page_works_under_a_path_with_and_without_its_slash(chromium: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}/queue"
    with served(make_service(), port=port, public_url=url) as place:
        with open_page(chromium, url, OPERATOR, "#/jobs") as opened:
            opened.page.wait_for_selector("p.empty")
            assert opened.page.url == f"{url}/#/jobs"
            job = place.submit("post_invoice", Invoice("P-1", 1), key="P-1")
            place.settled(job)
            opened.page.wait_for_selector("tr[data-job]")


def test_job_data_is_shown_as_text_whatever_it_is(chromium: Any, place: Served) -> None:
    jobs = [place.submit("echo", text, key=text[:400], labels={"l": text[:60] or "-"}) for text in HOSTILE]
    large = place.submit("echo", "a\u202e<b>" + "y" * 1_000_000, key="large")
    said = place.submit("say", [*HOSTILE])
    place.settled(*jobs, said, large)

    async def act() -> None:
        for job, text in zip(jobs, HOSTILE, strict=True):
            await place.queue.retry(job, even_if_acted=True, by=text[:60].strip() or "x", note=text[:400])
        await place.queue.pause(" ".join(HOSTILE)[:400], by="ada")

    place.run(act)
    seen = script("seen")
    good = {"odd": False, "images": 0, "bold": 0, "scripts": 1, "wide": False, "links": [], "bare": 0}
    with open_page(chromium, place.url, CONTROLLER, viewport={"width": 390, "height": 800}) as opened:
        page = opened.page
        for path, ready in [
            ("#/jobs", "tr[data-job] >> nth=11"),
            ("#/failed", "h1"),
            ("#/activity", "td"),
            ("#/", ".health li"),
            *[(f"#/job/{job}", "dl.facts") for job in (*jobs[::2], said)],
        ]:
            opened.go(path)
            page.wait_for_selector(ready)
            assert page.evaluate(seen) == good, path
        opened.go(f"#/job/{large}")
        page.wait_for_selector("text=Show all >> nth=1")
        assert len(page.inner_text("main")) < 60_000
        page.click("#payload ~ div >> text=Show all")
        assert len(page.inner_text("pre >> nth=0")) > 1_000_000
        assert page.evaluate(seen) == good


def test_a_token_of_scope_watch_sees_no_button_and_forged_requests_are_refused(chromium: Any, place: Served) -> None:
    failed, doubt = place.submit("post_invoice", Invoice("F", -1), key="F"), place.submit("hang", "x", key="x")
    place.settled(failed, doubt)
    harmless = {"Search", "Save as CSV", "Notify", "Help", "Log out", "RuntimeError", "Fail"}
    with open_page(chromium, place.url, WATCHER) as opened:
        page = opened.page
        for path, ready in (
            ("#/", "ul.tiles a"),
            ("#/jobs", "tr[data-job]"),
            ("#/doubt", "li.card"),
            ("#/failed", "button.fold"),
            (f"#/job/{failed}", "dl.facts"),
            (f"#/job/{doubt}", "dl.facts"),
        ):
            opened.go(path)
            page.wait_for_selector(ready)
            if path == "#/failed":
                page.click("button.fold")
                page.wait_for_selector("tr[data-job]")
            assert {
                *page.eval_on_selector_all("button:not([hidden])", "all => all.map((each) => each.textContent)")
            } <= harmless
            assert page.locator("input[type=checkbox]").count() == 0
            page.keyboard.press("j")
            for key in "rxc":
                page.keyboard.press(key)
            assert page.locator("dialog").count() == 0
        opened.go("#/submit")
        page.wait_for_selector("ul.tiles a")
        forged = page.evaluate(
            script("forged"),
            [WATCHER.secret, doubt],
        )
    assert len(forged) >= 8
    # what is not well formed is refused before the scope is looked at
    assert {*forged.values()} <= {-32014, -32602} and forged["jobs.resolve"] == forged["queue.pause"] == -32014
    assert place.call(place.queue.get, doubt).state == "in_doubt"


def test_the_modules_of_the_page_keep_digits_and_read_searches(chromium: Any, place: Served) -> None:
    texts = [
        '{"a": [1.10, 12345678901234567890, -0.0, 1E400], "b": {}, "c": [], "d": "\\"{[,:]}\\\\"}',
        "[]",
        '"x"',
        " 1.0 ",
    ]
    with open_page(chromium, place.url, None) as opened:
        got = opened.page.evaluate(script("modules"), texts)
    assert got["pretty"] == [True] * len(texts)
    assert got["sent"] == [text.strip() for text in texts]
    assert got["nothing"] == [None, None]
    assert got["found"] == {
        "conditions": {
            "states": ["failed", "in_doubt"],
            "kind": "post",
            "error_type": "A B",
            "labels": {"company": "acme"},
            "by": "ada",
            "since": 1000000 - 172800,
            "may_have_acted": True,
            "key_prefix": "A-1",
        },
        "key": "A-1",
        "id": None,
    }
    assert got["spaces"] == {
        "conditions": {"states": ["failed"], "key_prefix": "A 1 7"},
        "key": "A 1 7",
        "id": None,
    }
    assert got["wrong"] == ["SearchError"] * 8
    assert got["id"] == {"conditions": {"key_prefix": "0f2a91bc"}, "key": "0f2a91bc", "id": "0f2a91bc"}
    assert got["cells"] == ["'=1+1", "'-5", "'+x", "'@y", '"a,b"', '"q""q"', "-5", "plain", '"two\nlines"', ""]
    assert got["older"] is True
    assert (got["newer"]["state"], got["newer"]["seq"], got["newer"]["run"]) == ("pending", 9, 2)
    assert got["shown"] == ["a\\u202eb\\u0000\\ud800", "a ⏎ b", 301]
    assert json.dumps(got["newer"])


def test_a_login_link_opens_the_page_once_and_a_logout_ends_the_session_in_all_tabs(
    chromium: Any, place: Served
) -> None:
    async def login_link() -> str:
        async with trio_jobs.connect(place.server.url, token=OPERATOR.secret) as client:
            return await client.login_link()

    link = "#" + place.run(login_link).partition("#")[2]
    with open_page(chromium, place.url, None, link) as opened:
        page = opened.page
        assert page.inner_text(".who") == "ada (operate)"
        assert "login" not in page.url
        assert OPERATOR.secret not in page.evaluate("JSON.stringify([sessionStorage, localStorage, document.cookie])")
        other = page.context.new_page()
        other.goto(place.url + "#/jobs")  # a new tab gets the session from the first one
        other.wait_for_selector("header nav a")
        page.click("text=Log out")
        for each in (page, other):
            each.wait_for_selector("form.login")
            assert each.evaluate("sessionStorage.length") == 0
        page.reload()
        page.wait_for_selector("form.login")
    with open_page(chromium, place.url, None, link, refused=401) as opened:
        opened.page.wait_for_selector("text=used up or too old")


def test_a_job_is_corrected_with_the_keyboard_alone(chromium: Any, place: Served) -> None:
    wrong = place.submit("post_invoice", Invoice("C-1", -500), key="C-1")
    place.settled(wrong)
    with open_page(chromium, place.url, OPERATOR, f"#/job/{wrong}") as opened:
        page = opened.page
        page.wait_for_selector("dl.facts")
        page.keyboard.press("c")
        page.wait_for_selector("dialog[open]")
        opened.go("#/jobs")  # as the browser's button Back does
        page.wait_for_selector("dialog", state="detached")
        opened.go(f"#/job/{wrong}")
        page.wait_for_selector("dl.facts")
        for text, problem in (('{"folio": "C-1", "total_cents": "five"}', "total_cents"), ("{", "JSON")):
            page.keyboard.press("c")
            page.wait_for_selector("dialog[open]")
            assert "-500" in page.input_value("dialog textarea.code")
            page.keyboard.press("Control+A")
            page.keyboard.type(text)
            press_tab_until(page, "Correct and run")
            page.keyboard.press("Enter")
            page.wait_for_selector("dialog .field .problem:visible")  # what is wrong is said beside the field
            assert problem in page.inner_text("dialog .field .problem:visible")
            assert page.locator("dialog .problem:visible").count() == 1
            assert page.evaluate("document.activeElement.tagName") == "TEXTAREA"
            page.keyboard.press("Escape")
            page.wait_for_selector("dialog", state="detached")
        page.keyboard.press("c")
        page.wait_for_selector("dialog[open]")
        page.keyboard.press("Control+A")
        page.keyboard.type('{"folio": "C-1", "total_cents": 500}')
        press_tab_until(page, "Correct and run")
        page.keyboard.press("Enter")
        page.wait_for_selector("dialog", state="detached")
        opened.wait_for("() => document.querySelector('.job-head .badge').textContent === 'Completed'")
        opened.wait_for(
            "() => document.querySelector('#payload').parentElement.textContent.includes('Payload of run 1')"
        )
    job = place.call(place.queue.get, wrong)
    assert (job.state, job.run) == ("completed", 2)


def press_tab_until(page: Any, text: str) -> None:
    """Move the focus to the button with this text."""
    for _ in range(10):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == text:
            return
    raise AssertionError(f"the focus does not come to {text!r}")


@pytest.mark.campaign
def test_all_jobs_of_an_error_are_retried_after_a_question_that_names_their_number(
    chromium: Any, place: Served
) -> None:
    jobs = [place.submit("post_invoice", Invoice(f"A-{at}", -1 - at), key=f"A-{at}") for at in range(5)]
    other = place.submit("echo", "other")
    place.settled(*jobs, other)
    with open_page(chromium, place.url, OPERATOR, "#/failed?error=Fail") as opened:
        page = opened.page
        page.click("text=Retry all 5")
        page.wait_for_selector("dialog[open]")
        assert "Retry 5 jobs?" in page.inner_text("dialog")
        page.click("dialog button[type=submit]")
        page.wait_for_selector("dialog", state="detached")
        opened.wait_for("() => document.querySelector('.toast').textContent.includes('5 done')")
    assert [place.call(place.queue.get, job).run for job in (*jobs, other)] == [2] * 5 + [1]


@pytest.mark.campaign
def test_a_page_whose_session_ends_says_so_and_one_of_another_version_is_loaded_anew_once(
    chromium: Any, place: Served
) -> None:
    with open_page(chromium, place.url, OPERATOR, "#/jobs") as opened:
        page = opened.page
        opened.go("#/failed")
        page.route("**/page/build.json", lambda route: route.fulfill(json={"build": "newer"}))
        page.evaluate("window.before = true")
        with place.away():
            page.wait_for_selector(".bar:visible")
        opened.wait_for("() => window.before === undefined")  # it was loaded anew, with the same session
        page.wait_for_selector("header nav a")
        assert page.evaluate("location.hash") == "#/failed"
        with place.away():
            page.wait_for_selector(".bar:visible")
        page.wait_for_selector("text=another version")  # and not again
        page.click("text=Help")
        page.evaluate(script("logout"))
        page.wait_for_selector("form.login")
        assert page.locator("dialog").count() == 0  # it would be in the way of the login
        assert "no longer accepts" in page.inner_text("form.login")


@pytest.mark.campaign
def test_a_hidden_page_follows_doubts_only(chromium: Any, place: Served) -> None:
    with open_page(chromium, place.url, None) as opened:
        page = opened.page
        frames = Frames(page)
        page.fill("form.login input", OPERATOR.secret)
        page.keyboard.press("Enter")
        page.wait_for_selector("ul.tiles a")
        place.settled(place.submit("post_invoice", Invoice("1", 1), key="before"))
        opened.wait_for("() => document.body.innerText.includes('before')")
        page.clock.install()
        frames.clear()
        page.evaluate(script("hide"), True)
        page.clock.run_for(31_000)
        for method in ("jobs.unsubscribe", "jobs.subscribe"):
            frames.wait_for_answer(method)
        frames.clear()
        place.settled(*[place.submit("post_invoice", Invoice("2", 2), key=f"hidden {at}") for at in range(20)])
        place.settled(place.submit("hang", "x", key="doubt"))
        for _ in range(200):
            if page.title().startswith("(1) "):
                break
            page.clock.run_for(1000)
            page.wait_for_timeout(50)
        assert page.title().startswith("(1) ")
        events = [frame for frame in frames.received if "jobs.event" in frame]
        assert events and all('"in_doubt"' in frame for frame in events)
        page.evaluate(script("hide"), False)
        page.clock.run_for(2000)
        opened.wait_for("() => document.body.innerText.includes('hidden 19')")


@pytest.mark.campaign
def test_a_hidden_page_notifies_of_a_doubt_if_a_person_has_asked_for_it(chromium: Any, place: Served) -> None:
    def doubt(name: str) -> str:
        place.settled(job := place.submit("hang", name, key=name))
        return job

    for answer in ("denied", "granted"):
        with open_page(chromium, place.url, OPERATOR) as opened:
            page = opened.page
            page.evaluate(script("notice"), answer)
            count = place.run(place.queue.count).total
            page.evaluate(script("hide"), True)
            doubt(f"{answer} 1")
            opened.wait_for("count => document.title.startsWith(`(${count}) `)", count + 1)
            assert page.evaluate("notices.length") == 0  # nobody has asked for it
            page.evaluate(script("hide"), False)
            page.click("text=Notify")
            if answer == "denied":
                opened.wait_for("() => document.querySelector('.toast').textContent.includes('does not allow')")
                assert page.get_attribute("button[aria-pressed]", "aria-pressed") == "false"
                continue
            page.wait_for_selector("button[aria-pressed=true]:text-is('Notifying')")
            doubt("seen")
            opened.wait_for("count => document.title.startsWith(`(${count}) `)", count + 2)
            assert page.evaluate("notices.length") == 0  # whoever looks at the page sees it there
            page.evaluate(script("hide"), True)
            doubt("secret")
            opened.wait_for("() => notices.length === 1")
            shown = page.evaluate("notices.map(({ title, options }) => title + ' ' + JSON.stringify(options))")
            assert "in doubt" in shown[0] and "secret" not in shown[0]  # the texts of jobs stay in the page
            page.evaluate("notices[0].onclick()")
            page.evaluate(script("hide"), False)
            page.wait_for_selector("li.card")
            assert page.evaluate("location.hash") == "#/doubt" and page.evaluate("notices[0].closed")
            page.click("text=Notifying")
            page.wait_for_selector("button[aria-pressed=false]:text-is('Notify')")
            page.evaluate(script("hide"), True)
            doubt("unasked")
            opened.wait_for("count => document.title.startsWith(`(${count}) `)", count + 4)
            assert page.evaluate("notices.length") == 1


@pytest.mark.campaign
def test_a_page_of_another_origin_can_do_nothing_though_it_has_a_token(chromium: Any, place: Served) -> None:
    class Elsewhere(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: Any) -> None: ...

    elsewhere = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere)
    thread = threading.Thread(target=elsewhere.serve_forever, args=(0.05,))
    thread.start()
    window = chromium.new_context()
    try:
        for name in ("127.0.0.1", "localhost"):
            page = window.new_page()
            page.goto(f"http://{name}:{elsewhere.server_port}/")
            assert page.evaluate(script("foreign"), [place.url, CONTROLLER.secret]) == {
                "json": "refused",
                "form": "refused",
                "blind": "opaque",
                "login": "refused",
                "read": "refused",
                "socket": 4403,
            }
            page.close()
        assert place.call(place.queue.health).paused is None
    finally:
        window.close()
        elsewhere.shutdown()
        elsewhere.server_close()
        thread.join()


@pytest.mark.campaign
def test_a_job_is_submitted_by_hand_and_what_is_wrong_is_said_beside_its_field(chromium: Any, place: Served) -> None:
    with open_page(chromium, place.url, OPERATOR, "#/submit?kind=post_invoice") as opened:
        page = opened.page
        page.get_by_label("Key").fill("H-1")
        page.get_by_label("folio").fill("H-1")
        page.get_by_label("total_cents").fill("many")
        page.keyboard.press("Enter")
        assert page.inner_text(".field .problem:visible") == "This must be a whole number."
        assert page.evaluate("document.activeElement.getAttribute('aria-invalid')") == "true"
        page.click("text=As JSON")
        page.get_by_label("Payload (JSON)").fill('{"folio": "H-1", "total_cents": "many"}')
        page.click("button:text-is('Submit')")
        page.wait_for_selector(".field .problem:visible")
        assert "total_cents" in page.inner_text(".field .problem:visible")
        page.click("text=As a form")
        page.get_by_label("total_cents").fill("12")
        page.keyboard.press("Enter")
        page.wait_for_selector("dl.facts")
        job = next(iter(place.call(place.queue.list)))
        assert page.evaluate("location.hash") == f"#/job/{job.id}"
        assert (job.key, job.by) == ("H-1", "ada")
        assert place.call(place.queue.get, job.id).payload == b'{"folio":"H-1","total_cents":12}'


@pytest.mark.campaign
def test_a_job_is_forgotten_after_a_question_and_only_by_a_token_of_scope_control(chromium: Any, place: Served) -> None:
    job = place.submit("post_invoice", Invoice("G-1", 1), key="G-1")
    place.settled(job)
    with open_page(chromium, place.url, OPERATOR, f"#/job/{job}") as opened:
        opened.page.wait_for_selector("dl.facts")
        assert opened.page.locator("text=Forget").count() == 0
    with open_page(chromium, place.url, CONTROLLER, f"#/job/{job}") as opened:
        page = opened.page
        page.click("text=Forget")
        assert "cannot be restored" in page.inner_text("dialog")
        page.click("dialog button[type=submit]")
        page.wait_for_selector("p.empty")
        assert page.evaluate("location.hash") == "#/jobs"

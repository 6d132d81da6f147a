"""The web page as files: what a browser is sent, and under which rules it may run it."""

from __future__ import annotations

import gzip
import json
import re
from importlib.resources import files
from pathlib import Path

import pytest
import trio

from support.server import bench
from support.waiting import deadline
from trio_jobs._engine.events import ALL_EVENTS, JobEvent
from trio_jobs._engine.states import FINAL, Outcome, State
from trio_jobs._engine.transitions import TABLE
from trio_jobs._server import page
from trio_jobs._server.page import HEADERS, page_response
from trio_jobs._wire.methods import METHODS

FOLDER = Path(str(files("trio_jobs"))) / "_page"
NAMES = sorted(file.name for file in FOLDER.iterdir())
MOST_BYTES = 150_000


async def ask(port: int, path: str, *headers: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    """The status, the headers and the body of an answer."""
    request = "\r\n".join([f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close", *headers, "", ""])
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    data = b""
    async with stream:
        await stream.send_all(request.encode())
        with deadline("the whole answer"):
            while more := await stream.receive_some(65536):
                data += more
    head, _, body = data.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    return (
        int(status.split()[1]),
        {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)},
        body,
    )


def path_of(name: str) -> str:
    return "/" if name == "index.html" else f"/page/{name}"


async def test_every_file_of_the_page_is_served_with_its_type_and_policy() -> None:
    types = {"css": "text/css", "html": "text/html", "js": "text/javascript", "svg": "image/svg+xml"}
    async with bench() as b:
        for name in NAMES:
            status, headers, body = await ask(b.port, path_of(name))
            assert status == 200, name
            assert headers["content-type"].split(";")[0] == types[name.rpartition(".")[2]], name
            assert {key.lower(): value for key, value in HEADERS}.items() <= headers.items(), name
            if name != "index.html":
                assert body == (FOLDER / name).read_bytes()


async def test_the_policy_allows_only_files_of_the_server_and_no_markup_from_text() -> None:
    async with bench() as b:
        _, headers, _ = await ask(b.port, "/")
    assert headers["content-security-policy"] == (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )
    assert headers["cross-origin-opener-policy"] == headers["cross-origin-resource-policy"] == "same-origin"
    assert (headers["referrer-policy"], headers["x-content-type-options"]) == ("no-referrer", "nosniff")


async def test_a_file_is_compressed_for_whoever_understands_it_and_not_sent_again_unchanged() -> None:
    async with bench() as b:
        _, plain, body = await ask(b.port, "/")
        _, packed, small = await ask(b.port, "/", "Accept-Encoding: br, gzip;q=0.8")
        assert "content-encoding" not in plain and packed["content-encoding"] == "gzip"
        assert gzip.decompress(small) == body
        assert plain["etag"] != packed["etag"]  # a strong ETag names a sequence of bytes
        again = f"If-None-Match: {plain['etag']}", f"If-None-Match: {packed['etag']}"
        status, headers, body = await ask(b.port, "/", again[0])
        assert (status, body) == (304, b"")
        assert headers["etag"] == plain["etag"] and "content-length" not in headers
        assert (await ask(b.port, "/", again[1]))[0] == 200
        assert (await ask(b.port, "/", "Accept-Encoding: gzip", *again))[0] == 304


@pytest.mark.parametrize(
    ("accept", "compressed"),
    [
        (None, False),
        ("", False),
        ("identity", False),
        ("gzip", True),
        ("x-gzip", True),
        ("*", True),
        ("br;q=1, GZIP ; q=0.1", True),
        ("gzip;q=0", False),
        ("gzip;q=0.000, br", False),
        ("gzipped", False),
    ],
)
def test_only_a_client_that_accepts_gzip_gets_it(accept: str | None, compressed: bool) -> None:
    response = page_response("/", accept_encoding=accept)
    assert response is not None
    assert (("Content-Encoding", "gzip") in response.headers) is compressed


@pytest.mark.parametrize(
    ("given", "status"),
    [("*", 304), ("TAG", 304), ("W/TAG", 304), ('"other", TAG', 304), ('"other"', 200), ("", 200), ("TAG-gzip", 200)],
)
def test_a_client_that_has_the_file_is_not_sent_it(given: str, status: int) -> None:
    first = page_response("/")
    assert first is not None
    response = page_response("/", if_none_match=given.replace("TAG", dict(first.headers)["ETag"]))
    assert response is not None and response.status == status


@pytest.mark.parametrize(
    "path",
    [
        "/page",
        "/page/",
        "/page/index.html",
        "/page/../page.py",
        "/page/%2e%2e/asyncapi.json",
        "/page/page/main.js",
        "/page//main.js",
        "/page/main.js/",
        "/page/main.js%00",
        "/main.js",
        "/page/__init__.py",
        "/page/.js",
        "//",
    ],
)
def test_only_the_files_of_the_page_are_served(path: str) -> None:
    assert page_response(path) is None


async def test_the_page_can_be_turned_off() -> None:
    async with bench(page=False) as b:
        for path in ("/", "/page/main.js"):
            assert (await ask(b.port, path))[0] == 404


async def test_the_page_knows_the_build_of_the_server() -> None:
    async with bench() as b:
        _, _, page = await ask(b.port, "/")
        _, headers, build = await ask(b.port, "/page/build.json")
    found = re.search(rb'data-build="([0-9a-f]{16})"', page)
    assert found is not None
    assert (build, headers["cache-control"]) == (b'{"build": "%s"}\n' % found[1], "no-cache")


async def test_the_page_gets_the_methods_and_the_transitions_from_their_tables() -> None:
    async with bench() as b:
        _, headers, script = await ask(b.port, "/page/protocol.js")
    assert headers["content-type"].startswith("text/javascript")
    lines = re.findall(r"^export const ([A-Z]+) = (.*);$", script.decode(), re.MULTILINE)
    values = {name: json.loads(value) for name, value in lines}
    assert {name: row["scope"] for name, row in values["METHODS"].items()} == {
        name: method.scope for name, method in METHODS.items()
    }
    assert (
        "if_match" not in values["METHODS"]["jobs.get"]["params"] and "job" in values["METHODS"]["jobs.get"]["params"]
    )
    assert [row[0:3:2] for row in values["MOVES"]] == [[row.before, row.after] for row in TABLE]
    assert {row[1] for row in values["MOVES"]} <= {event.__struct_config__.tag for event in ALL_EVENTS}
    assert (values["STATES"], {*values["FINAL"]}) == ([*State], {*FINAL})


def test_the_page_has_words_for_every_state_event_and_outcome() -> None:
    text = (FOLDER / "text.js").read_text(encoding="utf-8")
    words = {
        name: {*re.findall(r"(?:^|[\s{])([a-z_]+): ", part)}
        for name, part in re.findall(r"export const ([A-Z]+) = \{(.*?)\n\};", text, re.DOTALL)
    }
    assert {*State} <= words["STATE"] and {*State} <= words["MEANS"] and {*Outcome} <= words["OUTCOME"]
    assert {event.__struct_config__.tag for event in ALL_EVENTS if issubclass(event, JobEvent)} <= words["EVENT"]
    diagram = (FOLDER / "diagram.js").read_text(encoding="utf-8")
    assert {*State} <= {*re.findall(r"\b([a-z_]+): \[\d+, \d+\]", diagram)}


def test_another_content_of_a_file_is_another_build(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    builds = set()
    for content in ("1", "2"):
        (tmp_path / "_page").mkdir(exist_ok=True)
        (tmp_path / "_page" / "index.html").write_text("BUILD-OF-THE-PAGE")
        (tmp_path / "_page" / "main.js").write_text(content)
        monkeypatch.setattr(page, "files", lambda package: tmp_path)
        builds.add(page.page_files.__wrapped__()["build.json"].content)
    assert len(builds) == 2


def test_the_page_is_small_and_loads_nothing_from_elsewhere() -> None:
    assert sum((FOLDER / name).stat().st_size for name in NAMES) < MOST_BYTES
    for name in NAMES:
        text = (FOLDER / name).read_text(encoding="utf-8")
        elsewhere = re.findall(r"""(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}""", text)
        assert set(elsewhere) <= {"http://www.w3.org"}, name  # the name of SVG's elements, which is not loaded


def test_what_a_module_uses_of_another_one_is_exported_there_and_imported() -> None:
    """A missing import is found by no parser, and raises where it is reached: often when something has gone wrong."""
    codes = {
        name: re.sub(r"^\s*//.*$", "", (FOLDER / name).read_text(encoding="utf-8"), flags=re.MULTILINE)
        for name in NAMES
        if name.endswith(".js")
    }
    exports = {
        name: {*re.findall(r"^export (?:async )?(?:const|function|class) (\w+)", code, re.MULTILINE)}
        for name, code in codes.items()
    } | {"protocol.js": {"PROTOCOL", "BEARER", "METHODS", "STATES", "FINAL", "MOVES"}}
    everything = set[str]().union(*exports.values())
    for name, code in codes.items():
        known = {*re.findall(r"\b(?:const|let|function|class) (\w+)", code)}
        for names, module in re.findall(r'^import \{ (.*?) \} from "\./(\w+\.js)";', code, re.MULTILINE):
            for given in names.split(", "):
                outside, _, inside = given.partition(" as ")
                assert outside in exports[module], (name, given)
                assert len(re.findall(rf"\b{inside or outside}\b", code)) > 1, f"{name} does not use {given}"
                known.add(inside or outside)
        bound = {word for args in re.findall(r"\(([^()]*)\) (?:=>|\{)", code) for word in re.findall(r"\w+", args)}
        bound |= {*re.findall(r"\b(\w+) =>", code)}
        bound |= {
            word
            for names in re.findall(r"(?:const|let) [\[{(](.*?)[\]})] =", code)
            for word in re.findall(r"\w+", names)
        }
        for line in re.findall(r"^\t*(?:const|let) (.*);$", code, re.MULTILINE):
            bound |= {*re.findall(r", (\w+)(?= =|,|$)", line)}
        uses = {*re.findall(r"(?<![.\w#])(\w+)\(|\.(?:catch|then)\((\w+)\)|\b([A-Z][A-Z_]+)[.\[]", code)}
        calls = {word for found in uses for word in found if word}
        assert calls & everything <= known | bound | {
            *re.findall(r"^\t(?:async )?\*?(\w+)\(.*\{$", code, re.MULTILINE)
        }, name


def test_the_page_makes_no_markup_from_text() -> None:
    """The policy would refuse it, in browsers that know Trusted Types."""
    makers = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\b|new Function|srcdoc"
    for name in NAMES:
        text = (FOLDER / name).read_text(encoding="utf-8")
        assert re.search(makers, text) is None, name
        if name == "index.html":
            assert re.search(r"<style|\son[a-z]+=|\sstyle=|<script(?! type=\"module\" src=)", text) is None

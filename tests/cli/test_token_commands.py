"""Rules of `trio-jobs token` and `trio-jobs login`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import trio

from support.server import OWNER, WATCHER, bench
from trio_jobs import connect
from trio_jobs._cli.main import main
from trio_jobs._client.page_link import page_link
from trio_jobs._engine.bounds import Bounds
from trio_jobs._file_lock import acquire
from trio_jobs._server.named_tokens import read_tokens


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    """The exit code, standard output and standard error of a command in this process."""
    code = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture(name="path")
def fixture_path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db-tokens"


def test_tokens_are_added_listed_and_removed(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal = path.with_name("jobs.db")
    code, secret, told = run(capsys, "token", "add", "ada", "--scope", "operate", "--journal", journal)
    assert (code, len(secret.strip()) >= 43) == (0, True)
    assert "cannot be shown again" in told
    assert secret.strip() not in path.read_text() + told
    assert sys.platform == "win32" or path.stat().st_mode & 0o777 == 0o600
    code, out, _ = run(capsys, "token", "add", "bob", "--scope", "watch", "--tokens", path, "--json")
    assert code == 0
    assert {"name": "bob", "scope": "watch"}.items() <= json.loads(out).items()
    code, out, _ = run(capsys, "token", "list", "--journal", journal)
    assert (code, [line.split()[:2] for line in out.splitlines()]) == (0, [["ada", "operate"], ["bob", "watch"]])
    _, out, _ = run(capsys, "token", "list", "--tokens", path, "--json")
    assert [json.loads(line)["name"] for line in out.splitlines()] == ["ada", "bob"]
    assert secret.strip() not in out
    assert run(capsys, "token", "remove", "ada", "--tokens", path)[0] == 0
    assert run(capsys, "token", "list", "--tokens", path)[1].split()[0] == "bob"
    assert [*path.parent.iterdir()] == [path], "no other file is left"


def test_a_token_is_bound_to_kinds_and_labels(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bounds = ["--kinds", "a", "b", "--labels", "company=acme", "x=y"]
    assert run(capsys, "token", "add", "ada", "--scope", "watch", "--tokens", path, *bounds)[0] == 0
    (token,) = read_tokens(path)
    assert token.known().bounds == Bounds(["a", "b"], {"company": "acme", "x": "y"})
    text = "ada  watch  kinds a, b and label company=acme and label x=y"
    assert run(capsys, "token", "list", "--tokens", path)[1].strip() == text
    assert json.loads(run(capsys, "token", "list", "--tokens", path, "--json")[1])["kinds"] == ["a", "b"]


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["add", "ada", "--scope", "watch"], "choose another name, or remove that one first"),
        (["add", "owner", "--scope", "watch"], "is the name of a token of `serve`"),
        (["add", "", "--scope", "watch"], "1 to 100 printable"),
        (["add", "a\nb", "--scope", "watch"], "1 to 100 printable"),
        (["add", "eve", "--scope", "root"], "invalid choice"),
        (["add", "eve"], "--scope"),
        (["add", "eve", "--scope", "watch", "--labels", "x"], "NAME=VALUE"),
        (["remove", "eve"], "has no token 'eve'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_command_that_cannot_be_done_changes_nothing(
    arguments: list[str], match: str, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(capsys, "token", "add", "ada", "--scope", "operate", "--tokens", path)
    before = path.read_bytes()
    code, out, told = run(capsys, "token", *arguments, "--tokens", path)
    assert (code, out) == (2, "")
    assert match in told
    assert path.read_bytes() == before


def test_the_file_has_to_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, told = run(capsys, "token", "list")
    assert (code, "--journal FILE" in told) == (2, True)


def test_a_file_that_is_not_valid_is_not_overwritten(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path.write_bytes(b'{"version": 1, "tok')
    path.chmod(0o600)
    for action in (["add", "ada", "--scope", "watch"], ["remove", "ada"], ["list"]):
        code, _, told = run(capsys, "token", *action, "--tokens", path)
        assert (code, "not valid or not complete" in told) == (2, True)
    assert path.read_bytes() == b'{"version": 1, "tok'


def test_two_commands_do_not_lose_a_token(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock = acquire(f"{path}-lock")
    code, _, told = run(capsys, "token", "add", "ada", "--scope", "watch", "--tokens", path)
    lock.release()
    assert (code, "another command is changing it; try again" in told) == (2, True)
    assert run(capsys, "token", "add", "ada", "--scope", "watch", "--tokens", path)[0] == 0


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("ws://127.0.0.1:7373/ws", "http://127.0.0.1:7373/#login=C"),
        ("wss://jobs.example/queue/ws", "https://jobs.example/queue/#login=C"),
        ("ws://[::1]:80/ws", "http://[::1]:80/#login=C"),
    ],
)
def test_a_login_link_is_that_of_the_page(url: str, expected: str) -> None:
    assert page_link(url, "C", None) == expected
    assert urlsplit(page_link(url, "C", None)).query == ""
    assert page_link(url, "C", "https://jobs.example/queue") == "https://jobs.example/queue/#login=C"


async def test_a_login_link_leads_to_the_public_url(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The page of another address could not log in: only the origin of the public URL is allowed."""
    async with bench(metrics=False, public_url="https://jobs.example/queue/") as b:
        file = tmp_path / "token"
        file.write_text(OWNER.secret)
        file.chmod(0o600)
        arguments = ["login", "--url", b.server.url, "--token-file", str(file)]
        assert await trio.to_thread.run_sync(main, arguments) == 0
        assert capsys.readouterr().out.startswith("https://jobs.example/queue/#login=")


async def test_a_login_link_of_a_token_starts_a_page_session_of_its_name(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    async with bench(metrics=False) as b:
        file = tmp_path / "token"
        file.write_text(WATCHER.secret)
        file.chmod(0o600)
        arguments = ["login", "--url", b.server.url, "--token-file", str(file), "--json"]
        assert await trio.to_thread.run_sync(main, arguments) == 0
        answer: dict[str, Any] = json.loads(capsys.readouterr().out)
        code = urlsplit(answer["url"]).fragment.removeprefix("login=")
        logins = b.server.access.logins
        assert logins is not None
        session = await logins.exchange(code, "127.0.0.1")
        assert (session.name, session.scope) == ("wes", "watch")
        async with connect(b.server.url, token=session.secret) as client:
            assert (await client.hello()).name == "wes"
            with pytest.raises(Exception, match="has presented a token"):
                await client.login_link()
        assert OWNER.secret not in answer["url"]

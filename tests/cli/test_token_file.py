"""Token files as people, editors and systems make them, and users without a home."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.processes import run
from support.shell import SERVICE, Shell
from trio_jobs import Token, UsageError
from trio_jobs._cli.token_file import (
    decode_text,
    default_path,
    find_token,
    read_token,
    record_token,
    stored_token,
    token_from_environment,
    write_token,
)

SECRET = "abcdefghijklmnop-1234567890"

#: Bytes of a file that holds SECRET
WRITTEN = {
    "plain": SECRET.encode(),
    "a newline": f"{SECRET}\n".encode(),
    "a newline of Windows": f"{SECRET}\r\n".encode(),
    "spaces": f"  {SECRET}\t \n\n".encode(),
    "a byte order mark": f"{SECRET}\r\n".encode("utf-8-sig"),
    "UTF-16": f"{SECRET}\r\n".encode("utf-16"),
    "UTF-16, big endian": b"\xfe\xff" + f"{SECRET}\n".encode("utf-16-be"),
}
REFUSED = {
    "empty": b"",
    "only a newline": b"\n",
    "only a mark": b"\xef\xbb\xbf",
    "short": b"short",
    "two words": b"has space in it 1234567890",
    "two lines": f"{SECRET}\n{SECRET}\n".encode(),
    "no text": b"\xff" * 30,
    "NUL": b"\0" * 30,
    "not ASCII": ("\u00e9" * 30).encode(),
}


def make(folder: Path, data: bytes) -> Path:
    path = folder / "token"
    path.write_bytes(data)
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("name", WRITTEN)
def test_a_token_file_may_be_written_by_any_editor(name: str, tmp_path: Path) -> None:
    path = make(tmp_path, WRITTEN[name])
    assert stored_token(path).secret == read_token(path).secret == find_token(path, 1) == SECRET
    path.chmod(0o400)
    assert stored_token(path).secret == SECRET
    assert path.read_bytes() == WRITTEN[name]


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_without_a_token_is_refused_by_its_name_and_kept(name: str, tmp_path: Path) -> None:
    path = make(tmp_path, REFUSED[name])
    for read in (stored_token, read_token, lambda path: find_token(path, 1)):
        with pytest.raises(UsageError, match=r"the token file .*token"):
            read(path)
    assert path.read_bytes() == REFUSED[name]


@given(data=st.binary(max_size=60))
def test_any_bytes_are_a_text_or_an_error(data: bytes) -> None:
    with contextlib.suppress(UnicodeDecodeError):
        decode_text(data)


@given(text=st.text(max_size=20).filter(lambda text: not text.startswith("\ufeff")))
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_text_survives_its_encoding(encoding: str, text: str) -> None:
    assert decode_text(text.encode(encoding)) == text


@pytest.mark.parametrize("given", [SECRET, f"{SECRET}\r\n", f"\ufeff{SECRET}", f" {SECRET} "])
def test_the_variable_may_have_what_files_have_around_a_token(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIO_JOBS_TOKEN", given)
    token = token_from_environment()
    assert token is not None
    assert token.secret == find_token(None, 1) == SECRET


@pytest.mark.skipif(sys.platform == "win32", reason="symbolic links need a privilege there")
def test_a_loop_of_links_is_refused_and_a_link_to_nothing_becomes_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(UsageError, match="cannot be read"):
        stored_token(tmp_path / "a")
    (tmp_path / "c").symlink_to(tmp_path / "nothing")
    assert stored_token(tmp_path / "c").secret == read_token(tmp_path / "c").secret


def test_a_token_can_be_written_beside_the_rest_of_a_write_that_was_killed(tmp_path: Path) -> None:
    """In a container, the process that was killed had the same process id."""
    (tmp_path / f"token.{os.getpid()}").write_text("")
    write_token(tmp_path / "token", Token(SECRET))
    assert read_token(tmp_path / "token").secret == SECRET
    if sys.platform != "win32":
        assert stat.S_IMODE((tmp_path / "token").stat().st_mode) == 0o600


def test_a_write_that_fails_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        write_token(tmp_path / "token", Token(SECRET))
    assert list(tmp_path.iterdir()) == []


# users without a home


@pytest.fixture
def no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "USERPROFILE", "XDG_RUNTIME_DIR", "LOCALAPPDATA", "TRIO_JOBS_TOKEN"):
        monkeypatch.delenv(name, raising=False)

    def home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", home)


@pytest.mark.usefixtures("no_home")
def test_a_user_without_a_home_has_no_default_file() -> None:
    with pytest.raises(UsageError, match="no home directory"):
        default_path(1)
    with pytest.raises(UsageError, match="no home directory"):
        record_token(1, Token(SECRET))
    assert find_token(None, 1) is None


@pytest.mark.skipif(sys.platform == "win32", reason="the directories of POSIX")
@pytest.mark.parametrize("value", ["", ".", "relative/path"])
def test_directories_that_are_not_absolute_count_as_not_set(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the token would be written to the working directory."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", value)
    monkeypatch.setenv("HOME", "/home/somebody")
    assert default_path(7) == Path("/home/somebody/.cache/trio-jobs/token-7")
    monkeypatch.setenv("HOME", value)
    with pytest.raises(UsageError, match="no home directory"):
        default_path(7)


@pytest.mark.skipif(sys.platform == "win32", reason="the directories of POSIX")
def test_a_server_that_cannot_record_its_token_says_what_to_give(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(SERVICE)
    (tmp_path / "file").write_text("")
    environment = {name: value for name, value in os.environ.items() if name not in ("TRIO_JOBS_TOKEN", "HOME")}
    environment["XDG_RUNTIME_DIR"] = str(tmp_path / "file")  # not a directory
    done = run(Shell.command("serve", "shop:service", "--port", "0"), cwd=tmp_path, env=environment)
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert "--token-file" in last
    assert "TRIO_JOBS_TOKEN" in last
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="the directories of POSIX")
def test_with_a_journal_the_token_is_beside_it_and_the_server_runs(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    shell = Shell(tmp_path, "--journal", "jobs.db", XDG_RUNTIME_DIR=str(tmp_path / "file"))
    with shell.server:
        warnings = [log["message"] for log in shell.logs if log["level"] == "warning"]
        assert [w for w in warnings if "--token-file jobs.db-token" in w]
        assert shell.run("status", "--token-file", "jobs.db-token").returncode == 0

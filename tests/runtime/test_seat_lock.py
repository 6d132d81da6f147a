"""The seat lock: one queue at a time has the SDK, also of several processes, and it is free when its process is dead
(P1)."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from support.processes import Process, run
from support.waiting import deadline
from trio_jobs import (
    MemoryStore,
    Opening,
    SdkInUse,
    SdkOpenFailed,
    Service,
    SqliteStore,
    UsageError,
    _file_lock,
    testing,
)
from trio_jobs._runtime import seat_lock
from trio_jobs._runtime.seat_lock import SeatLock, seat_in_memory
from trio_jobs._runtime.settings import Settings
from trio_jobs._service_opening import seat_of
from trio_jobs._service_origin import Origin
from trio_jobs.testing import Blocker

PROGRAM = """
import contextlib, sys, trio, trio_jobs

@contextlib.contextmanager
def open_ledger(opening):
    print("opened", opening.unclean, flush=True)
    yield "ledger"
    print("closed", flush=True)

seat = sys.argv[1] if sys.argv[1:] and sys.argv[1] else True
service = trio_jobs.Service(sdk=open_ledger, seat_lock=seat, open_timeout=0.1)

async def main():
    try:
        async with service.open():
            if sys.argv[2:] == ["stay"]:
                await trio.sleep_forever()
    except trio_jobs.SdkInUse as error:
        print(error, flush=True)

if __name__ == "__main__":
    trio.run(main)
"""


@contextlib.contextmanager
def open_ledger(opening: Opening) -> Iterator[Opening]:
    yield opening


def service_on(path: Path | None, **settings: Any) -> Service:
    return Service(sdk=open_ledger, **{"seat_lock": path, **settings})


@pytest.fixture
def seat(tmp_path: Path) -> Path:
    return tmp_path / "ledger-seat"


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "books.py"
    path.write_text(PROGRAM)
    return path


# of several processes


async def test_p1_a_second_process_does_not_get_the_sdk_and_its_error_names_the_first(
    program: Path, seat: Path
) -> None:
    holder = Process([sys.executable, program, seat, "stay"])
    assert holder.out.line() == "opened False\n"
    with pytest.raises(SdkInUse, match=r"run trio-jobs serve there, and use trio_jobs.connect") as caught:
        async with service_on(seat, open_timeout=0.02).open():
            pass
    assert caught.value.pid == holder.pid
    assert str(holder.pid) in str(caught.value)
    assert str(caught.value.since).startswith("20")
    assert caught.value.path == str(seat)


async def test_p1_a_kill_frees_the_seat_at_once_and_the_next_session_is_unclean(program: Path, seat: Path) -> None:
    holder = Process([sys.executable, program, seat, "stay"])
    assert holder.out.line() == "opened False\n"
    holder.kill()
    holder.wait()
    assert await unclean_of(service_on(seat)) is True
    assert await unclean_of(service_on(seat)) is False


def test_p1_two_processes_of_one_program_have_one_seat_without_a_journal(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))  # another run of the tests has a seat of the same name
    holder = Process([sys.executable, program, "", "stay"])
    assert holder.out.line() == "opened False\n"
    other = run([sys.executable, program], check=True).stdout
    assert f"the SDK is in use by process {holder.pid}, since 20" in other


FORKING = """
import os, sys
from pathlib import Path
from trio_jobs import SdkInUse
from trio_jobs._runtime.seat_lock import SeatLock

lock = SeatLock(sys.argv[1])
lock.acquire()
child = os.fork()
if child == 0:
    lock.release(unclean=False)  # as a context manager of the parent does that the child leaves
    try:
        SeatLock(sys.argv[1]).acquire()
        print("acquired", flush=True)
    except SdkInUse as error:
        print("refused by the parent" if error.pid == os.getppid() else error, flush=True)
    os._exit(0)
os.waitpid(child, 0)
print("named" if str(os.getpid()) in Path(sys.argv[1]).read_text() else "no name", flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_does_not_have_the_lock_of_its_parent(seat: Path) -> None:
    assert run([sys.executable, "-c", FORKING, seat], check=True).stdout == "refused by the parent\nnamed\n"


# within one process


async def test_p1_a_second_queue_in_one_process_does_not_get_the_sdk(seat: Path) -> None:
    async with service_on(seat).open():
        with pytest.raises(SdkInUse, match="in use by this process, since 20"):
            async with service_on(seat, open_timeout=0.02).open():
                pass
        link = seat.with_name("link")
        link.symlink_to(seat)
        with pytest.raises(SdkInUse):
            async with service_on(link, open_timeout=0.02).open():
                pass
    async with service_on(seat).open():
        pass


async def test_the_seat_is_waited_for_within_open_timeout(seat: Path, autojump_clock: MockClock) -> None:
    @contextlib.asynccontextmanager
    async def open_async() -> Any:
        opened.append(trio.current_time())
        yield "ledger"

    opened: list[float] = []
    lock = SeatLock(str(seat))
    lock.acquire()
    with deadline("the seat"):
        async with trio.open_nursery() as nursery:

            async def release() -> None:
                await trio.sleep(7)
                lock.release(unclean=False)

            nursery.start_soon(release)
            async with Service(async_sdk=open_async, seat_lock=seat, open_timeout=10).open():
                assert 7 <= opened[0] < 8
        lock.acquire()
        with pytest.raises(SdkInUse):
            async with Service(async_sdk=open_async, seat_lock=seat, open_timeout=10).open():
                pass
    assert len(opened) == 1
    lock.release(unclean=False)


async def test_a_stop_ends_the_wait_for_the_seat(seat: Path, autojump_clock: MockClock) -> None:
    lock = SeatLock(str(seat))
    lock.acquire()
    with deadline("the stop"), trio.move_on_after(3) as scope:
        async with service_on(seat, open_timeout=1000).open():
            pass
    assert scope.cancelled_caught
    assert trio.current_time() < 4
    lock.release(unclean=False)


async def test_the_factory_is_called_while_the_lock_is_held(seat: Path) -> None:
    texts: list[str] = []

    @contextlib.contextmanager
    def open_and_look() -> Iterator[str]:
        texts.append(seat.read_text())
        yield "ledger"
        texts.append(seat.read_text())

    async with Service(sdk=open_and_look, seat_lock=seat).open():
        pass
    assert [json.loads(text)["pid"] for text in texts] == [os.getpid()] * 2
    if sys.platform == "linux":
        assert all(json.loads(text).keys() == {"pid", "since", "started", "group"} for text in texts)
    assert seat.read_text() == ""


async def test_a_call_that_is_still_inside_keeps_the_seat_when_its_queue_has_stopped(seat: Path) -> None:
    blocker = Blocker()
    service = service_on(seat, drain_timeout=0, cancel_timeout=0.01, close_timeout=0.05)

    @service.handler(attempt_timeout=0.01, stuck_after=100, idempotent=True)
    def hang(opening: Opening, what: str) -> None:
        blocker.block()

    with deadline("the stop"):
        async with service.open() as queue:
            await queue.submit(hang, "a")
            await blocker.reached()
        assert queue.report is not None
        assert not queue.report.sdk_closed
        with pytest.raises(SdkInUse, match="this process"):
            async with service_on(seat, open_timeout=0.02).open():
                pass
    blocker.release()


# what it says about the last session


async def unclean_of(service: Service, **options: Any) -> bool | None:
    found: list[bool | None] = []

    @service.handler(kind="look", idempotent=True)
    def look(opening: Opening, what: str) -> None:
        found.append(opening.unclean)

    async with service.open(**options) as queue:
        await queue.result((await queue.submit("look", "a")).job_id)
    return found[0]


async def test_without_a_journal_and_with_another_one_a_crash_is_known_from_the_lock_file(
    seat: Path, tmp_path: Path
) -> None:
    async def crash() -> None:
        lock = SeatLock(str(seat))
        lock.acquire()
        lock.release(unclean=True)

    assert await unclean_of(service_on(seat)) is False
    await crash()
    assert await unclean_of(service_on(seat)) is True
    assert await unclean_of(service_on(seat)) is False
    await crash()
    assert await unclean_of(service_on(seat), journal=tmp_path / "jobs.db") is True
    assert await unclean_of(service_on(seat)) is False


async def test_a_close_that_raises_leaves_the_seat_unclean(seat: Path) -> None:
    @contextlib.contextmanager
    def open_and_fail() -> Iterator[str]:
        yield "ledger"
        raise OSError("the disk is full")

    async with Service(sdk=open_and_fail, seat_lock=seat).open():
        pass
    assert await unclean_of(service_on(seat)) is True


async def test_without_a_lock_nothing_is_said_about_the_last_session() -> None:
    assert await unclean_of(service_on(None)) is None


# which file


async def test_the_seat_of_a_journal_is_beside_it(tmp_path: Path) -> None:
    service = service_on(None, seat_lock=True)
    async with service.open(journal=tmp_path / "jobs.db"):
        assert json.loads((tmp_path / "jobs.db-seat").read_text())["pid"] == os.getpid()
    async with service.open(store=SqliteStore(tmp_path / "other.db")):
        assert (tmp_path / "other.db-seat").exists()


async def test_a_service_without_an_sdk_takes_no_seat(tmp_path: Path, seat: Path) -> None:
    async with Service(seat_lock=seat).open(journal=tmp_path / "jobs.db"):
        pass
    assert not seat.exists()
    assert not (tmp_path / "jobs.db-seat").exists()


async def test_the_test_kit_takes_no_seat(seat: Path, autojump_clock: MockClock) -> None:
    lock = SeatLock(str(seat))
    lock.acquire()
    async with testing.open_queue(service_on(seat)):
        pass
    lock.release(unclean=False)


MODULE = {"__name__": "books", "__file__": "/srv/app/books.py"}


def test_a_service_without_a_journal_is_named_by_its_file_and_its_variable() -> None:
    service = Service(sdk=open_ledger)
    module = {**MODULE, "ledger_service": service}
    settings = Settings()

    def path_of(module: dict[str, Any], function: str = "<module>") -> str:
        found = seat_of(service, Origin(module, function), settings, MemoryStore())
        assert found is not None
        return found.path

    path = path_of(module)
    assert Path(path).parent == seat_lock.runtime_folder()
    assert Path(path).name.startswith("books.ledger_service-")
    assert path == path_of({**module, "__name__": "__main__"}), "a program and what imports it have one seat"
    assert path != path_of({**module, "__file__": "/srv/other/books.py"})
    assert path != path_of({**MODULE, "print_service": service})
    assert path_of(MODULE, "make.<locals>.service") != path_of(MODULE, "other")


@given(st.text(), st.one_of(st.none(), st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))))
def test_any_name_gives_a_path_in_the_folder_of_the_user(name: str, source: str | None) -> None:
    path = Path(seat_in_memory(name, source))
    assert path.parent == seat_lock.runtime_folder()
    assert path == Path(seat_in_memory(name, source))
    assert len(path.name) < 130


@pytest.mark.parametrize("given", [False, 3, "", "a\0b", b"seat"])
def test_a_seat_lock_that_is_no_path_is_refused(given: Any) -> None:
    with pytest.raises(UsageError, match="seat_lock must be"):
        Service(sdk=open_ledger, seat_lock=given)


# files that cannot be a lock file


async def refused(path: Path) -> str:
    with pytest.raises(SdkOpenFailed) as caught:
        async with service_on(path).open():
            pass
    assert not isinstance(caught.value, SdkInUse)
    return str(caught.value)


async def test_the_text_of_the_lock_file_is_read_although_locking_has_moved_the_position(
    seat: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it does on Windows, where the byte that is locked is behind the text."""
    lock = vars(_file_lock)["_lock"]

    def lock_and_move(fd: int, *, exclusive: bool) -> None:
        lock(fd, exclusive=exclusive)
        os.lseek(fd, 1 << 30, os.SEEK_SET)

    monkeypatch.setattr(_file_lock, "_lock", lock_and_move)
    first = SeatLock(str(seat))
    first.acquire()
    first.release(unclean=True)
    second = SeatLock(str(seat))
    second.acquire()
    assert second.left_unclean
    second.release(unclean=False)
    seat.write_text("the notes of somebody")
    with pytest.raises(SdkOpenFailed, match="is not a lock file"):
        SeatLock(str(seat)).acquire()
    assert seat.read_text() == "the notes of somebody"


async def test_a_file_that_is_no_lock_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    diary = tmp_path / "diary.txt"
    diary.write_text("my diary")
    assert "is not a lock file of trio-jobs" in await refused(diary)
    assert diary.read_text() == "my diary"
    assert "is not a regular file" in await refused(tmp_path)
    assert "No such file or directory" in await refused(tmp_path / "nowhere" / "seat")


async def test_the_files_of_an_open_journal_cannot_be_the_seat(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    for name in ("jobs.db", "jobs.db-lock"):
        with pytest.raises(SdkInUse, match="this process"):
            async with service_on(tmp_path / name, open_timeout=0.02).open(journal=path):
                pass
    async with service_on(None).open(journal=path):
        pass


async def test_a_folder_that_cannot_be_written_is_named_with_what_to_do(
    seat: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def on_a_read_only_disk(path: Any, flags: int, *mode: int) -> int:
        if str(path) == str(seat) and flags & (os.O_CREAT | os.O_RDWR):
            if not flags & os.O_CREAT:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)
        return opened(path, flags, *mode)

    opened = os.open
    monkeypatch.setattr(os, "open", on_a_read_only_disk)
    assert await refused(seat) == (
        f"the lock file of the SDK cannot be opened: {seat}: Read-only file system; name a file on a local disk, in a "
        "folder that can be written, as Service(seat_lock=...)"
    )

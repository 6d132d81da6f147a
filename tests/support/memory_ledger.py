"""An SDK that keeps work in the memory of its session until it is saved, as accounting programs do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import attrs
import trio

import trio_jobs
from support.process_rig import IN_A_PROCESS, make_service, serve
from support.rig import HostKind
from support.served_sdk import open_served_session
from trio_jobs import Service
from trio_jobs.testing import Blocker

__all__ = ["MemoryLedger", "Page", "ledger_service"]


@attrs.define(eq=False)
class MemoryLedger:
    """The SDK. Each script is a list of what happens in order; nothing happens in an operation without an item."""

    file: list[str] = attrs.field(factory=list)
    """What is durable."""
    saved: list[list[str]] = attrs.field(factory=list)
    """What each save made durable."""
    done: list[str] = attrs.field(factory=list)
    """The operations, in order."""
    opened: int = 0
    on_book: dict[str, list[Any]] = attrs.field(factory=dict)
    """By work: an exception is raised after the work is in memory, a number of seconds is slept, a Blocker blocks."""
    on_save: list[Any] = attrs.field(factory=list)
    """As `on_book`, before anything is in the file; a pair is (how many works get into the file, what happens then)."""
    on_close: list[BaseException] = attrs.field(factory=list)
    on_end: list[BaseException] = attrs.field(factory=list)
    """What `Page.end` raises."""

    def page(self) -> Page:
        self.opened += 1
        self.done.append(f"open {self.opened}")
        return Page(self, self.opened)

    def leave(self, page: Page, error: BaseException | None) -> None:
        self.done.append(f"close {page.number}" if error is None else f"discard {page.number} {type(error).__name__}")
        if self.on_close:
            raise self.on_close.pop(0)

    @contextmanager
    def session(self) -> Iterator[Page]:
        page = self.page()
        try:
            yield page
        except BaseException as error:
            self.leave(page, error)
            raise
        else:
            self.leave(page, None)

    @asynccontextmanager
    async def async_session(self) -> AsyncIterator[Page]:
        await trio.lowlevel.checkpoint()
        with self.session() as page:
            yield page


@attrs.define(eq=False)
class Page:
    """A session: the works that are in memory only."""

    ledger: MemoryLedger
    number: int
    memory: list[str] = attrs.field(factory=list)

    def book(self, what: str) -> str:
        self.ledger.done.append(what)
        script = self.ledger.on_book.get(what)
        item = script.pop(0) if script else None
        self.memory.append(what)
        if isinstance(item, Blocker):
            item.block()
        elif isinstance(item, BaseException):
            raise item
        return f"{what} in {self.number}"

    async def abook(self, what: str) -> str:
        self.ledger.done.append(what)
        script = self.ledger.on_book.get(what)
        item = script.pop(0) if script else None
        self.memory.append(what)
        if isinstance(item, BaseException):
            raise item
        if item is not None:
            await trio.sleep(item)
        return f"{what} in {self.number}"

    def end(self) -> None:
        """At the end of a handler."""
        if self.ledger.on_end:
            raise self.ledger.on_end.pop(0)

    def _write(self, count: int | None = None) -> None:
        self.ledger.saved.append(self.memory[:count])
        self.ledger.file += self.memory[:count]
        del self.memory[:count]

    def save(self) -> None:
        self.ledger.done.append("save")
        item = self.ledger.on_save.pop(0) if self.ledger.on_save else None
        if isinstance(item, tuple):
            count, item = item
            self._write(count)
        if isinstance(item, Blocker):
            item.block()
            item = item.then
        if isinstance(item, BaseException):
            raise item
        self._write()

    async def asave(self) -> None:
        if self.ledger.on_save and isinstance(hang := self.ledger.on_save[0], Blocker):
            await hang.ablock()
            self.ledger.on_save[0] = hang.then
        if self.ledger.on_save and isinstance(self.ledger.on_save[0], int | float):
            await trio.sleep(self.ledger.on_save.pop(0))
        self.save()

    def find(self, what: str) -> trio_jobs.Done | trio_jobs.NotDone:
        """For a verify: what is in the file, or in the memory of this session."""
        self.ledger.done.append(f"verify {what} in {self.number}")
        there = what in self.ledger.file or what in self.memory
        return trio_jobs.Done(f"found {what}") if there else trio_jobs.NotDone()


# handlers; `page` is a `Page` or, in another process, has its methods


def book(page: Any, what: str) -> str:
    booked: str = page.book(what)
    return booked


async def abook(page: Page, what: str) -> str:
    return await page.abook(what)


def find(page: Any, job: trio_jobs.JobContext) -> Any:
    return page.find(job.key)


async def afind(page: Page, job: trio_jobs.AsyncJobContext) -> Any:
    await trio.lowlevel.checkpoint()
    return page.find(job.key or "")


def save(page: Any) -> None:
    page.save()


def process_ledger_service(rules: dict[str, Any], settings: dict[str, Any]) -> Service:
    service = Service(sdk=open_served_session, save=save, **IN_A_PROCESS, **settings)
    service.handler(**rules)(book)
    return service


def ledger_service(
    ledger: MemoryLedger, kind: HostKind = "thread", *, verifies: bool = False, rules: Any = None, **settings: Any
) -> Service:
    """A service that saves, with the handler "book", whose payload is the work, which is also the key for verify."""
    rules = {**(rules or {}), **({"verify": afind if kind == "trio" else find} if verifies else {})}
    if kind == "process":
        serve(ledger.session)
        return make_service(process_ledger_service, rules, settings)
    if kind == "thread":
        service = Service(sdk=ledger.session, **{"save": Page.save, **settings})
        service.handler(**rules)(book)
    else:
        service = Service(async_sdk=ledger.async_session, **{"save": Page.asave, **settings})
        service.handler(kind="book", **rules)(abook)
    return service

"""No object of the SDK leaves its thread: not in a result, not in an exception, not in the frames of one (P2)."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import trio

from support.rig import NO_RETRY, until
from trio_jobs import Done, JobContext, NotDone, Retry, SdkHandle, SdkOpenFailed, Service
from trio_jobs._exception_tree import clear_frames
from trio_jobs.testing._sdk_objects import SdkObject, SdkObjects


class Wrong(Exception):
    """What a test raises on purpose."""


@pytest.fixture(autouse=True)
def _without_collector() -> Iterator[None]:
    """Python's collector runs on any thread, so nothing may be left to it."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Ledger:
    """An SDK whose sessions, and all that it makes, are objects of its thread."""

    def __init__(self) -> None:
        self.objects = SdkObjects()

    @contextmanager
    def session(self) -> Iterator[SdkObject]:
        account = self.objects.make()
        yield self.objects.make()
        del account

    @contextmanager
    def unopened(self) -> Iterator[SdkObject]:
        connection = self.objects.make()
        self.fail()
        yield connection

    @contextmanager
    def not_closed(self) -> Iterator[SdkObject]:
        with self.session() as session:
            try:
                yield session
            finally:
                self.fail()

    def fail(self) -> None:
        voucher = self.objects.make()
        raise Wrong(f"on thread {voucher.home}")

    def fail_with_cause(self) -> None:
        voucher = self.objects.make()
        try:
            self.fail()
        except Wrong as error:
            raise ValueError(f"on thread {voucher.home}") from error

    def fail_in_group(self) -> None:
        errors = []
        for _ in range(2):
            try:
                self.fail_with_cause()
            except ValueError as error:
                errors.append(error)
        raise ExceptionGroup("both", errors)

    def fail_with_a_cycle(self) -> None:
        voucher = self.objects.make()
        error = Wrong(f"on thread {voucher.home}")
        raise error  # the frame refers to the exception, which refers to the frame

    def find(self) -> SdkObject:
        return self.objects.make()

    def find_all(self) -> dict[str, Any]:
        return {"vouchers": [self.objects.make(), self.objects.make()]}


WAYS: list[Callable[[Ledger], Any]] = [
    Ledger.fail, Ledger.fail_with_cause, Ledger.fail_in_group, Ledger.fail_with_a_cycle, Ledger.find, Ledger.find_all,
]  # fmt: skip


async def run_jobs(service: Service, payload: Any = 1) -> None:
    async with service.open() as queue:
        for _ in range(2):
            receipt = await queue.submit("work", payload)
            await until(queue, receipt.job_id, lambda job: bool(job.reason) and job.state != "processing")


@pytest.mark.parametrize("renews", [True, False])
@pytest.mark.parametrize("way", WAYS)
async def test_p2_what_a_handler_returns_or_raises_is_destroyed_on_the_sdks_thread(
    way: Callable[[Ledger], Any], renews: bool
) -> None:
    ledger = Ledger()
    service = Service(sdk=ledger.session, renew_after_error=renews)

    @service.handler(retry=NO_RETRY)
    def work(session: SdkObject, payload: int) -> Any:
        return way(ledger)

    await run_jobs(service)
    await ledger.objects.check(5)


@pytest.mark.parametrize("way", [*WAYS, lambda ledger: Done(ledger.find()), lambda ledger: NotDone()])
async def test_p2_what_verify_returns_or_raises_is_destroyed_on_the_sdks_thread(way: Callable[[Ledger], Any]) -> None:
    ledger = Ledger()
    service = Service(sdk=ledger.session)

    def verify(session: SdkObject, job: JobContext) -> Any:
        return way(ledger)

    @service.handler(verify=verify, retry=NO_RETRY)
    def work(session: SdkObject, payload: int) -> Any:
        ledger.fail()

    await run_jobs(service)
    await ledger.objects.check(5)


async def test_p2_what_a_step_returns_or_raises_is_destroyed_on_the_sdks_thread() -> None:
    ledger = Ledger()
    service = Service(sdk=ledger.session)

    @service.handler(retry=NO_RETRY)
    def work(session: SdkObject, payload: int, job: JobContext) -> Any:
        with pytest.raises(Wrong):
            job.step("book", ledger.fail)
        job.step("find", ledger.find)

    await run_jobs(service)
    await ledger.objects.check(5)


async def test_p2_the_payload_of_a_handler_is_destroyed_on_the_sdks_thread() -> None:
    ledger = Ledger()
    service = Service(sdk=ledger.session)

    @service.handler(payload_type=dict[str, Any], retry=NO_RETRY)
    def work(session: SdkObject, order: dict[str, Any]) -> None:
        order["voucher"] = ledger.find()

    await run_jobs(service, {"number": 1})
    await ledger.objects.check(5)


@pytest.mark.parametrize("way", WAYS[:4])
async def test_p2_the_frames_of_what_a_call_of_an_async_handler_raises_are_cleared_on_the_sdks_thread(
    way: Callable[[Ledger], Any],
) -> None:
    ledger, errors, left = Ledger(), list[BaseException](), list[int]()
    service = Service(sdk=ledger.session)

    @service.handler(retry=NO_RETRY)
    async def work(sdk: SdkHandle, payload: int) -> Any:
        try:
            await sdk.call(lambda session: way(ledger))
        except Exception as error:
            errors.append(error)  # it outlives the session, in Trio's thread
            left.append(ledger.objects.made - len(ledger.objects.destroyed))
            raise

    await run_jobs(service)
    assert left == [2, 2], "only the two of the session are left when the exception comes to Trio's thread"
    await ledger.objects.check(5)
    assert len(errors) == 2


async def test_p2_what_an_opening_that_failed_has_made_is_destroyed_on_the_sdks_thread() -> None:
    ledger = Ledger()
    service = Service(sdk=ledger.unopened, open_retry=Retry(2, waits=[0]))
    with pytest.raises(SdkOpenFailed) as caught:
        async with service.open():
            raise AssertionError("not reached")
    await ledger.objects.check(5)
    assert isinstance(caught.value.__cause__, Wrong)


@pytest.mark.parametrize("discards", [False, True])
async def test_p2_what_a_close_raises_is_destroyed_on_the_sdks_thread(discards: bool) -> None:
    ledger = Ledger()
    service = Service(sdk=ledger.not_closed)

    @service.handler(retry=NO_RETRY)
    def work(session: SdkObject, payload: int) -> None:
        if discards:
            ledger.fail()

    await run_jobs(service)
    await ledger.objects.check(5)


async def test_an_exception_is_thrown_into_the_context_manager_with_its_frames() -> None:
    seen: list[str] = []

    @contextmanager
    def session() -> Iterator[None]:
        try:
            yield
        except Wrong as error:
            tb = error.__traceback__
            while tb is not None:
                seen.extend(tb.tb_frame.f_locals.get("what", ""))
                tb = tb.tb_next

    service = Service(sdk=session)

    @service.handler(retry=NO_RETRY)
    def work(session: None, payload: int) -> None:
        what = "x"
        raise Wrong(what)

    await run_jobs(service)
    assert seen == ["x", "x"]


async def test_an_exception_that_the_session_keeps_does_not_end_its_context_manager() -> None:
    """Before Python 3.13, clearing the frame of a generator ends the generator."""
    reached: list[str] = []

    @contextmanager
    def session() -> Iterator[list[BaseException]]:
        kept: list[BaseException] = []
        try:
            raise Wrong("busy at first")
        except Wrong as error:
            kept.append(error)
        try:
            yield kept
            reached.append("a clean end")
        except Wrong:
            reached.append("the exception")
            raise

    service = Service(sdk=session, renew_after_error=False)

    @service.handler(retry=NO_RETRY)
    def work(kept: list[BaseException], payload: int) -> None:
        raise Wrong("again") from kept[0]

    await run_jobs(service)
    assert reached == ["a clean end"]


def test_the_frames_of_an_exception_keep_their_lines() -> None:
    try:
        Ledger().fail_with_cause()
    except ValueError as error:
        clear_frames(error)
        names = []
        tb = error.__traceback__
        while tb is not None:
            names.append((tb.tb_frame.f_code.co_name, tb.tb_lineno))
            tb = tb.tb_next
    assert [name for name, _ in names] == ["test_the_frames_of_an_exception_keep_their_lines", "fail_with_cause"]


async def test_a_handle_that_is_stored_refers_to_no_object_of_the_session() -> None:
    """Nor does what it raised, which refers to the frames in which the session was called."""
    ledger, handles = Ledger(), list[Any]()
    service = Service(sdk=ledger.session)

    @service.handler(retry=NO_RETRY)
    async def work(sdk: SdkHandle, payload: int) -> None:
        handles.append(sdk)
        await sdk.call(lambda session: ledger.fail())

    await run_jobs(service)
    await trio.lowlevel.checkpoint()
    await ledger.objects.check(5)
    assert len(handles) == 2

"""Rules of `check_handler`: what it finds, and that a correct handler has no findings."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

import trio_jobs
from trio_jobs import Done, Fail, JobContext, NotDone, Retry, Service, Unknown
from trio_jobs.testing import check_handler
from trio_jobs.testing.report import ConformanceError


@attrs.frozen
class Invoice:
    folio: str
    cents: int


class Ledger:
    """An SDK whose entries survive the process."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, int]] = []
        self.period_is_open = True

    def book(self, folio: str, cents: int) -> str:
        self.entries.append((folio, cents))
        return f"voucher {folio}"

    def check(self) -> None:
        if not self.period_is_open:
            raise OSError("period closed")

    def find(self, folio: str) -> str | None:
        return next((f"voucher {f}" for f, _ in self.entries if f == folio), None)

    async def abook(self, folio: str, cents: int) -> str:
        await trio.sleep(1)
        self.book(folio, cents)
        await trio.sleep(1)
        return f"voucher {folio}"

    async def afind(self, folio: str) -> str | None:
        await trio.sleep(0.1)
        return self.find(folio)

    @contextmanager
    def session(self) -> Iterator[Ledger]:
        yield self

    @asynccontextmanager
    async def asession(self) -> Any:
        yield self


class Native:
    """An object of a module in C."""

    def __index__(self) -> int:
        return 7


INVOICE = Invoice("A-1", 100)


def verify(ledger: Ledger, job: JobContext) -> Any:
    voucher = ledger.find("A-1")
    return Done(voucher) if voucher else NotDone()


async def run(ledger: Ledger, service: Service, *payloads: Any, **options: Any) -> trio_jobs.testing.report.CheckReport:
    return await check_handler(
        service,
        "post",
        payloads or [INVOICE],
        effects=lambda: ledger.entries,
        reset=ledger.entries.clear,
        raises=False,
        **options,
    )


async def test_a_plain_handler_with_a_correct_verify_has_no_findings(autojump_clock: MockClock) -> None:
    ledger = Ledger()
    service = Service(sdk=ledger.session)

    @service.handler(kind="post", verify=verify)
    def post(ledger: Ledger, invoice: Invoice) -> str:
        assert isinstance(ledger, Ledger), "the proxy of the SDK has its class"
        ledger.check()
        return ledger.book(invoice.folio, invoice.cents)

    report = await run(ledger, service)
    assert report.ok, str(report)
    assert len(report.checked) == 9
    assert report.left_out == ("whether verify finds the work of another job: give a second payload",)


async def test_an_async_handler_with_a_correct_verify_has_no_findings(autojump_clock: MockClock) -> None:
    ledger = Ledger()
    service = Service(async_sdk=ledger.asession)

    async def averify(ledger: Ledger, job: Any) -> Any:
        voucher = await ledger.afind("A-1")
        return Done(voucher) if voucher else NotDone()

    @service.handler(kind="post", verify=averify)
    async def post(ledger: Ledger, invoice: Invoice) -> str:
        ledger.check()
        return await ledger.abook(invoice.folio, invoice.cents)

    report = await run(ledger, service)
    assert report.ok, str(report)
    assert len(report.checked) == 9


async def test_an_async_handler_of_a_threaded_sdk_has_no_findings(autojump_clock: MockClock) -> None:
    ledger = Ledger()
    service = Service(sdk=ledger.session)

    @service.handler(kind="post", verify=verify)
    async def post(sdk: trio_jobs.SdkHandle, invoice: Invoice) -> str:
        await trio.sleep(3)
        await sdk.call(Ledger.check)
        await trio.sleep(3)
        return await sdk.call(lambda ledger: ledger.book(invoice.folio, invoice.cents))  # type: ignore[no-any-return]

    report = await run(ledger, service)
    assert report.ok, str(report)


async def test_booking_before_checking_is_found_when_the_check_fails(autojump_clock: MockClock) -> None:
    ledger = Ledger()
    service = Service(sdk=ledger.session)

    @service.handler(kind="post", retry=Retry())
    def post(ledger: Ledger, invoice: Invoice) -> str:
        voucher = ledger.book(invoice.folio, invoice.cents)
        ledger.check()
        return voucher

    report = await run(ledger, service)
    first = report.findings[0]
    assert first.rule.startswith("when a call raises")
    assert "after call 1 (book) ConnectionResetError was raised; the job completed and left" in first.sentence
    assert "[('A-1', 100), ('A-1', 100)], but a run without a fault leaves [('A-1', 100)]" in first.sentence
    assert "the handler has no verify" in first.sentence
    assert first.how == "inject the fault 'raise after call 1, book'"


async def test_a_fail_that_leaves_work_behind_is_found_without_a_fault(autojump_clock: MockClock) -> None:
    ledger = Ledger()
    service = Service(sdk=ledger.session)

    @service.handler(kind="post", verify=verify)
    def post(ledger: Ledger, invoice: Invoice) -> None:
        ledger.book(invoice.folio, invoice.cents)
        if invoice.cents <= 0:
            raise Fail("no amount")

    report = await run(ledger, service, INVOICE, Invoice("A-1", 0))
    assert len(report.findings) == 1
    assert "Invoice(folio='A-1', cents=0)) ends failed (fail: Fail: no amount)" in report.findings[0].sentence


@pytest.mark.parametrize("verify", [None, verify], ids=["without verify", "with verify"])
async def test_a_handler_that_always_raises_after_it_booked_is_found(verify: Any, autojump_clock: MockClock) -> None:
    ledger = Ledger()
    service = Service(sdk=ledger.session)

    @service.handler(kind="post", verify=verify, retry=Retry())
    def post(ledger: Ledger, invoice: Invoice) -> str:
        ledger.book(invoice.folio, invoice.cents)
        return ledger.vuocher  # type: ignore[attr-defined,no-any-return]

    report = await run(ledger, service)
    assert len(report.findings) == 1
    assert "raises AttributeError: 'Ledger' object has no attribute 'vuocher'" in report.findings[0].sentence
    assert report.findings[0].how == "run it without a fault"


async def test_a_handler_that_never_completes_is_found_although_it_leaves_nothing(autojump_clock: MockClock) -> None:
    service = Service()

    @service.handler(kind="raises")
    async def raises(invoice: Invoice) -> None:
        raise KeyError(invoice.folio)

    @service.handler(kind="sleeps", attempt_timeout=5)
    async def sleeps(invoice: Invoice) -> None:
        await trio.sleep_forever()

    report = await check_handler(service, "raises", [INVOICE], raises=False)
    assert "raises KeyError: 'A-1'; the job ends failed" in report.findings[0].sentence
    report = await check_handler(service, "sleeps", [INVOICE], raises=False)
    assert "exceeds its limit; the job ends failed" in report.findings[0].sentence


@pytest.mark.parametrize(
    "directive",
    [Fail("no amount"), trio_jobs.Cancel("not wanted"), trio_jobs.RetryAfter(5.0), trio_jobs.Snooze(5.0)],
    ids=lambda directive: type(directive).__name__,
)
async def test_a_handler_may_raise_a_directive(directive: Exception, autojump_clock: MockClock) -> None:
    ledger = Ledger()
    service = Service(sdk=ledger.session)

    @service.handler(kind="post", on_doubt="hold")
    async def post(sdk: trio_jobs.SdkHandle, invoice: Invoice, job: JobContext) -> None:
        if job.attempt == 1 or not isinstance(directive, trio_jobs.Snooze):
            raise directive

    report = await run(ledger, service)
    assert report.ok, str(report)


@pytest.mark.parametrize("by", ["nothing", "key", "id"])
async def test_a_verify_that_finds_the_work_of_another_job_is_found(by: str, autojump_clock: MockClock) -> None:
    ledger = Ledger()
    service = Service(sdk=ledger.session)

    def find_any(ledger: Ledger, job: JobContext) -> Any:
        found = [name for name, _ in ledger.entries if by == "nothing" or name == getattr(job, by)]
        return Done(found[0]) if found else NotDone()

    @service.handler(kind="post", verify=find_any)
    def post(ledger: Ledger, invoice: Invoice, job: JobContext) -> str:
        return ledger.book(str(job.id if by == "id" else job.key), invoice.cents)

    report = await check_handler(
        service,
        "post",
        [INVOICE, Invoice("A-2", 200)],
        effects=lambda: [cents for _, cents in ledger.entries],
        reset=ledger.entries.clear,
        raises=False,
    )
    assert report.left_out == (), str(report)
    assert report.checked[-1] == "verify does not return Done because of the work of another job"
    if by != "nothing":
        assert report.ok, str(report)
    else:
        assert [finding.rule for finding in report.findings] == [report.checked[-1]]
        assert "Invoice(folio='A-2', cents=200)): verify returns Done after post(Invoice(folio='A-1'" in str(report)


@pytest.mark.parametrize("answer", [Done("voucher"), NotDone()], ids=["always done", "never done"])
async def test_a_verify_with_a_constant_answer_is_found(answer: Any, autojump_clock: MockClock) -> None:
    ledger = Ledger()
    service = Service(sdk=ledger.session)

    @service.handler(kind="post", verify=lambda sdk, job: answer)
    def post(ledger: Ledger, invoice: Invoice) -> str:
        return ledger.book(invoice.folio, invoice.cents)

    report = await run(ledger, service)
    assert any(finding.rule.startswith("verify returns Done only") for finding in report.findings), str(report)


async def test_a_verify_that_returns_unknown_has_no_findings(autojump_clock: MockClock) -> None:
    ledger = Ledger()
    service = Service(sdk=ledger.session)

    @service.handler(kind="post", verify=lambda sdk, job: Unknown())
    def post(ledger: Ledger, invoice: Invoice) -> str:
        return ledger.book(invoice.folio, invoice.cents)

    assert (await run(ledger, service)).ok


async def test_a_handler_wrongly_declared_idempotent_is_found(autojump_clock: MockClock) -> None:
    ledger = Ledger()
    service = Service(sdk=ledger.session)

    @service.handler(kind="post", idempotent=True, retry=Retry(0))
    def post(ledger: Ledger, invoice: Invoice) -> str:
        return ledger.book(invoice.folio, invoice.cents)

    report = await run(ledger, service)
    dying = next(finding for finding in report.findings if "the process died" in finding.sentence)
    assert "the handler is declared idempotent" in dying.sentence


async def test_a_handler_without_an_sdk_that_acts_is_found_when_its_job_is_cancelled(
    autojump_clock: MockClock,
) -> None:
    ledger = Ledger()
    service = Service()

    @service.handler(kind="post")
    async def post(invoice: Invoice) -> str:
        return await ledger.abook(invoice.folio, invoice.cents)

    report = await run(ledger, service)
    cancelled = next(f for f in report.findings if f.rule.startswith("when the job is cancelled"))
    assert "at checkpoint 2 the job was cancelled; the job ended cancelled" in cancelled.sentence
    assert cancelled.how == "inject the fault 'cancel at checkpoint 2'"


async def test_a_result_that_cannot_be_recorded_and_a_payload_that_changes_are_found(autojump_clock: MockClock) -> None:
    service = Service()

    @service.handler(kind="post")
    async def post(payload: Any) -> Any:
        return object()

    report = await check_handler(service, "post", [("a", "b")], raises=False)
    assert [finding.rule for finding in report.findings] == [
        "the payload is the same after a round trip through JSON",
        "without a fault the handler completes or raises a directive, and its result can be recorded",
    ]
    assert report.left_out == ("what the handler did: `effects` is missing",)
    with pytest.raises(ConformanceError, match="by a round trip through JSON"):
        await check_handler(service, "post", [("a", "b")])


async def test_a_payload_that_is_refused_is_found(autojump_clock: MockClock) -> None:
    service = Service()

    @attrs.frozen
    class Loose:
        names: Any

    @service.handler(kind="post", payload_type=Loose)
    async def post(payload: Any) -> None: ...

    report = await check_handler(service, "post", [Loose(("a", "b"))], raises=False)
    (finding,) = report.findings
    assert "is refused when it is submitted: it comes back as another Loose from its JSON" in finding.sentence


async def test_a_step_name_that_is_used_twice_is_found(autojump_clock: MockClock) -> None:
    ledger = Ledger()
    service = Service(sdk=ledger.session)

    @service.handler(kind="post", verify=verify)
    def post(ledger: Ledger, invoice: Invoice, job: JobContext) -> None:
        job.step("book", ledger.book, invoice.folio, invoice.cents)
        job.step("book", ledger.book, invoice.folio, -invoice.cents)  # a copied line

    report = await run(ledger, service)
    assert "raises UsageError" in report.findings[0].sentence
    assert "'book'" in report.findings[0].sentence


async def test_a_finding_about_an_sdk_in_c_names_the_facade(autojump_clock: MockClock) -> None:
    @contextmanager
    def session() -> Iterator[Native]:
        yield Native()

    service = Service(sdk=session)

    @service.handler(kind="post", verify=verify)
    def post(native: Native, invoice: Invoice) -> int:
        return operator.index(native)  # code in C that looks at its argument

    report = await check_handler(service, "post", [INVOICE], raises=False)
    [finding] = report.findings
    assert "raises TypeError" in finding.sentence
    assert "let the session be a Python class with a method for each operation" in finding.how


async def test_mistakes_of_the_caller_raise_usage_errors(autojump_clock: MockClock) -> None:
    ledger = Ledger()
    service = Service(sdk=ledger.session)

    @service.handler(kind="post", on_doubt="hold")
    def post(ledger: Ledger, invoice: Invoice) -> str:
        return ledger.book(invoice.folio, invoice.cents)

    with pytest.raises(trio_jobs.UsageError, match="at least one payload"):
        await check_handler(service, post, [])
    with pytest.raises(trio_jobs.UsageError, match=r"does reset work\?"):
        await check_handler(service, post, [INVOICE], effects=lambda: ledger.entries)
    with pytest.raises(trio_jobs.UsageError, match="no handler 'other'"):
        await check_handler(service, "other", [INVOICE])


async def test_the_same_handler_gives_the_same_report_every_time(autojump_clock: MockClock) -> None:
    ledger = Ledger()
    service = Service(sdk=ledger.session)

    @service.handler(kind="post", retry=Retry(3))
    def post(ledger: Ledger, invoice: Invoice) -> str:
        voucher = ledger.book(invoice.folio, invoice.cents)
        ledger.check()
        return voucher

    assert await run(ledger, service) == await run(ledger, service)


class Draft:
    """An SDK that keeps entries in memory until `save`."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._entries: list[tuple[str, int]] = []

    def book(self, folio: str, cents: int) -> str:
        self._entries.append((folio, cents))
        return f"voucher {folio}"

    def find(self, folio: str) -> str | None:
        return self._ledger.find(folio)

    def save(self) -> None:
        self._ledger.entries += self._entries
        self._entries.clear()


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("knows_effects", [False, True])
@pytest.mark.parametrize("saves", [False, True])
async def test_work_that_is_gone_with_its_session_is_found(
    autojump_clock: MockClock, saves: bool, knows_effects: bool, is_async: bool
) -> None:
    ledger = Ledger()

    @contextmanager
    def open_draft() -> Iterator[Draft]:
        yield Draft(ledger)

    service = Service(sdk=open_draft, save=Draft.save if saves else None)

    def is_booked(draft: Draft, job: JobContext) -> Done | NotDone:
        assert job.key is not None
        return Done() if draft.find(job.key) is not None else NotDone()

    def post(draft: Draft, invoice: Invoice, job: JobContext) -> str:
        assert job.key is not None
        return draft.book(job.key, invoice.cents)

    async def apost(draft: trio_jobs.SdkHandle, invoice: Invoice, job: JobContext) -> str:
        result: str = await draft.call(post, invoice, job)
        return result

    service.handler(kind="post", verify=is_booked)(apost if is_async else post)
    report = await check_handler(
        service,
        "post",
        [Invoice("A-1", 100)],
        effects=(lambda: ledger.entries) if knows_effects else None,
        reset=ledger.entries.clear,
        raises=False,
    )
    found = [finding.sentence for finding in report.findings if "new session" in finding.rule]
    assert len(found) == (0 if saves else 1), str(report)
    if found:
        assert "`save=`" in found[0]
    else:
        report.check()


async def test_a_check_that_stops_at_its_first_payload_asks_for_no_second_one(autojump_clock: MockClock) -> None:
    ledger = Ledger()
    service = Service(sdk=ledger.session)

    @service.handler(kind="post", verify=lambda sdk, job: NotDone())
    def post(ledger: Ledger, invoice: Invoice) -> str:
        return ledger.book(invoice.folio, invoice.cents)

    report = await check_handler(
        service, "post", [INVOICE, Invoice("A-2", 200)], effects=lambda: list(ledger.entries),
        reset=ledger.entries.clear, raises=False,
    )  # fmt: skip
    assert report.findings
    assert report.left_out == (
        "whether verify finds the work of another job: the check stops at the first payload with findings",
    )


async def advice_of(ledger: Ledger, service: Service) -> str:
    return str(await run(ledger, service, INVOICE))


async def test_a_finding_says_that_a_handler_must_let_errors_pass(autojump_clock: MockClock) -> None:
    ledger = Ledger()
    service = Service(async_sdk=ledger.asession)

    @service.handler(idempotent=True)
    async def post(ledger: Ledger, invoice: Invoice) -> None:
        with contextlib.suppress(BaseException):
            await ledger.abook(invoice.folio, invoice.cents)

    assert "its work counts as done: let the error or Cancelled pass" in await advice_of(ledger, service)


async def test_a_finding_says_that_verify_must_look_for_all_of_the_work(autojump_clock: MockClock) -> None:
    ledger = Ledger()
    service = Service(sdk=ledger.session)

    @service.handler(verify=verify)
    def post(ledger: Ledger, invoice: Invoice) -> None:
        ledger.book(invoice.folio, invoice.cents)
        ledger.book("tax", 1)

    assert "verify returned Done: it must look for all that the handler does" in await advice_of(ledger, service)


async def test_a_finding_names_a_scope_that_is_left_open_in_one_line(autojump_clock: MockClock) -> None:
    ledger = Ledger()
    service = Service(async_sdk=ledger.asession)

    @service.handler(idempotent=True)
    async def post(ledger: Ledger, invoice: Invoice) -> None:
        trio.move_on_after(60).__enter__()
        await ledger.abook(invoice.folio, invoice.cents)

    report = await advice_of(ledger, service)
    assert "raises RuntimeError: it has entered a cancel scope or a nursery, and not left it; the job ends" in report
    assert "run it without a fault. Use `with` for a cancel scope" in report


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (LookupError("no period"), "verify raised LookupError: no period"),
        ("yes", "verify returned 'yes'; it must return Done(result), NotDone() or Unknown()"),
    ],
)
async def test_a_verify_that_does_not_answer_is_a_finding(answer: Any, says: str, autojump_clock: MockClock) -> None:
    ledger = Ledger()
    service = Service(sdk=ledger.session)

    def odd(ledger: Ledger, job: JobContext) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    @service.handler(verify=odd)
    def post(ledger: Ledger, invoice: Invoice) -> None:
        ledger.book(invoice.folio, invoice.cents)

    assert f"after a run without a fault, {says}" in await advice_of(ledger, service)


async def test_the_report_says_that_no_call_was_recorded(autojump_clock: MockClock) -> None:
    ledger = Ledger()
    service = Service(sdk=ledger.session)

    @service.handler(idempotent=True)
    def post(sdk: Ledger, invoice: Invoice) -> None:
        if not ledger.entries:
            ledger.book(invoice.folio, invoice.cents)

    report = await advice_of(ledger, service)
    assert "not checked: post(Invoice(folio='A-1', cents=100)): faults in its calls, as none was recorded" in report

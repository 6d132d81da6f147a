"""Rules of the commands that correct, verify, move and claim jobs, and of those for many jobs.

The last test is a day at a support desk: with the command line alone, everything that has failed is found by its
number, corrected, retried and resolved, and the book has each invoice once.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import trio_jobs
from support.waiting import deadline
from trio_jobs import Fail, JobChanged, JobClaimed, KeyConflict, Queue, Service, State, UnknownKind, UsageError
from trio_jobs._cli.arguments import parser
from trio_jobs._cli.commands import COMMANDS

ADA = trio_jobs.Token(secret="a" * 32, scope="operate", name="ada")
BOB = trio_jobs.Token(secret="b" * 32, scope="operate", name="bob")

Command = Callable[..., Awaitable[tuple[int, list[str]]]]


class Book:
    """A book of vouchers, which can be out of order before a booking or behind it."""

    def __init__(self) -> None:
        self.vouchers: dict[str, list[dict[str, Any]]] = {}
        self.outage = False
        self.lost: set[str] = set()
        self.blind: set[str] = set()

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Book]:
        yield self


def make_service(book: Book) -> Service:
    service = Service(async_sdk=book.session, buffer=400)

    async def verify(book: Book, job: trio_jobs.AsyncJobContext) -> Any:
        if job.key in book.blind:
            return trio_jobs.Unknown()
        return trio_jobs.Done() if book.vouchers.get(job.key or "") else trio_jobs.NotDone()

    @service.handler(verify=verify, retry=trio_jobs.Retry(0))
    async def post(book: Book, invoice: dict[str, Any], job: trio_jobs.AsyncJobContext) -> None:
        key = job.key or ""
        if book.outage:
            raise Fail("the book is out of order")
        if invoice.get("tax_id") == "wrong":
            raise Fail("the tax id is wrong")
        if key in book.lost:
            raise OSError("the answer is lost")
        book.vouchers.setdefault(key, []).append(invoice)

    return service


@asynccontextmanager
async def desk(capsys: pytest.CaptureFixture[str]) -> AsyncIterator[tuple[Queue, Book, Command, Command]]:
    """A queue, its book, and two people with the command line: the exit code and the lines of a command."""
    book = Book()
    async with (
        make_service(book).open() as queue,
        trio_jobs.serve(queue, port=0, tokens=(ADA, BOB)) as server,
        trio_jobs.connect(server.url, token=ADA.secret) as ada,
        trio_jobs.connect(server.url, token=BOB.secret) as bob,
    ):

        def person(client: trio_jobs.Client) -> Command:
            async def command(*words: str) -> tuple[int, list[str]]:
                capsys.readouterr()
                with deadline(f"trio-jobs {' '.join(words)}"):
                    code = await COMMANDS[words[0]](client, parser().parse_args(words))
                return code, capsys.readouterr().out.splitlines()

            return command

        yield queue, book, person(ada), person(bob)


async def idle(queue: Queue) -> None:
    """Wait until nothing is pending or processing."""
    with deadline("the jobs that wait"):
        async for _ in queue.events(after=0):
            if not (queue.statistics().jobs[State.PENDING] or queue.statistics().jobs[State.PROCESSING]):
                return


async def test_a_job_is_corrected_under_its_number(capsys: Any) -> None:
    async with desk(capsys) as (queue, book, ada, bob):
        await ada("submit", "post", '{"tax_id": "wrong"}', "--key", "A-1")
        await idle(queue)
        with pytest.raises(KeyConflict, match="correct=True"):
            await ada("submit", "post", '{"tax_id": "X"}', "--key", "A-1")
        seq = json.loads((await ada("show", "--key", "A-1", "--json"))[1][0])["seq"]
        assert (await ada("correct", "--key", "A-1", '{"tax_id": "X"}', "--if-seq", str(seq)))[1] == [
            "a new run has begun, with the new payload"
        ]
        await idle(queue)
        with pytest.raises(JobChanged):
            await bob("correct", "--key", "A-1", '{"tax_id": "Y"}', "--if-seq", str(seq))
        assert book.vouchers == {"A-1": [{"tax_id": "X"}]}
        await ada("submit", "post", '{"tax_id": "wrong"}', "--key", "A-2")
        await idle(queue)
        await bob("submit", "post", '{"tax_id": "X"}', "--key", "A-2", "--correct")
        await idle(queue)
        assert book.vouchers["A-2"] == [{"tax_id": "X"}]


async def test_a_job_is_moved_and_claimed(capsys: Any) -> None:
    async with desk(capsys) as (queue, _, ada, bob):
        await ada("submit", "post", "{}", "--key", "A-1", "--delay", "3600")
        assert (await ada("reschedule", "--key", "A-1", "--in", "2h", "--note", "not now"))[1][0].startswith(
            "the job is due 20"
        )
        await ada("claim", "--key", "A-1", "--for", "5m")
        with pytest.raises(JobClaimed, match="ada has claimed it"):
            await bob("claim", "--key", "A-1")
        await bob("claim", "--key", "A-1", "--take-over")
        await bob("claim", "--key", "A-1", "--release")
        assert (await ada("reschedule", "--key", "A-1", "--now"))[1] == ["the job is due at once"]
        await idle(queue)
        assert queue.find("post", "A-1").state is State.COMPLETED
        with pytest.raises(UsageError, match="in the past"):
            await ada("pause", "--until", "2020-01-01")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2 is not JSON"),
        ("[]", "line 2 is no job"),
        ('{"kind": "post", "color": 1}', "line 2 is no job"),
        ('{"kind": "post", "due_at": 1}', "line 2: give delay"),
    ],
)
async def test_a_file_with_a_line_that_is_no_job_submits_nothing(
    capsys: Any, tmp_path: Path, line: str, message: str
) -> None:
    async with desk(capsys) as (queue, _, ada, _):
        (tmp_path / "jobs").write_text('{"kind": "post", "payload": {}, "key": "A-1"}\n' + line)
        with pytest.raises(UsageError, match=message):
            await ada("submit-many", str(tmp_path / "jobs"))
        assert queue.job_ids() == []


async def test_a_payload_that_is_refused_is_named_by_its_line(capsys: Any, tmp_path: Path) -> None:
    async with desk(capsys) as (queue, _, ada, _):
        (tmp_path / "jobs").write_text('\n{"kind": "post", "payload": {}}\n\n{"kind": "post", "payload": 7}\n')
        with pytest.raises(UsageError, match=r"^line 4: payload for 'post' refused: "):
            await ada("submit-many", str(tmp_path / "jobs"))
        assert queue.job_ids() == []


@pytest.mark.parametrize(
    ("line", "error", "message"),
    [
        ('{"kind": "nobody", "payload": {}}', UnknownKind, "line 4: no handler is registered for kind 'nobody'"),
        ('{"kind": "post", "payload": {"n": 2}, "key": "A-1"}', KeyConflict, "line 4: key 'A-1' of 'post' already"),
        (
            '{"kind": "post", "payload": {}, "delay": 9, "deadline_after": 1}',
            UsageError,
            "line 4: the deadline must be",
        ),
        (
            '{"kind": "post", "payload": {}, "labels": {"a=b": "c"}}',
            UsageError,
            "line 4: the name of a label has no '='",
        ),
    ],
)
async def test_a_job_that_is_refused_for_another_reason_is_named_by_its_line_too(
    capsys: Any, tmp_path: Path, line: str, error: type[UsageError], message: str
) -> None:
    async with desk(capsys) as (queue, _, ada, _):
        (tmp_path / "jobs").write_text(f'\n{{"kind": "post", "payload": {{}}, "key": "A-1"}}\n\n{line}\n')
        with pytest.raises(error) as raised:
            await ada("submit-many", str(tmp_path / "jobs"))
        assert str(raised.value).startswith(message)
        assert queue.job_ids() == []


@pytest.mark.parametrize("index", [None, 7])
async def test_an_error_that_names_no_line_of_the_file_is_shown_as_it_is(index: int | None, tmp_path: Path) -> None:
    async def refuse(*_: object, **__: object) -> None:
        error = UsageError("jobs[0]: no")
        error.index = index
        raise error

    (tmp_path / "jobs").write_text('{"kind": "post"}')
    client: Any = SimpleNamespace(submit_many=refuse)
    with pytest.raises(UsageError, match=r"^jobs\[0\]: no$"):
        await COMMANDS["submit-many"](client, parser().parse_args(["submit-many", str(tmp_path / "jobs")]))


async def test_a_day_at_a_support_desk(capsys: Any, tmp_path: Path) -> None:
    async with desk(capsys) as (queue, book, ada, bob):
        invoices = [{"kind": "post", "payload": {"n": n}, "key": f"2026-{n:03}"} for n in range(300)]
        for n in range(100, 105):
            invoices[n]["payload"] = {"n": n, "tax_id": "wrong"}
        book.lost = {"2026-200", "2026-201", "2026-202"}
        book.blind = {*book.lost}
        book.outage = True
        for part, (first, last) in enumerate(((0, 40), (40, 300))):
            path = tmp_path / f"invoices-{part}.jsonl"
            path.write_text("\n".join(json.dumps(invoice) for invoice in invoices[first:last]))
            code, lines = await ada("submit-many", str(path))
            assert (code, len(lines)) == (0, last - first)
            await idle(queue)
            book.outage = False
        assert (await ada("count", "--group", "state"))[1] == [
            "     252  completed", "      45  failed", "       3  in_doubt", "     300  jobs"
        ]  # fmt: skip
        # the outage
        assert (await ada("retry-many", "--dry-run"))[1] == ["45 match"]
        assert (await ada("retry-many", "--key-prefix", "2026-0", "--note", "the book is back"))[1] == ["40 retried"]
        await idle(queue)
        # the wrong tax ids
        for n in range(100, 105):
            await bob("claim", "--key", f"2026-{n}")
            payload = json.dumps({"n": n, "tax_id": f"X-{n}"})
            await bob("correct", "--key", f"2026-{n}", payload, "--note", "asked the customer")
        await idle(queue)
        # the doubts: one voucher is in the book, two are not
        for key in book.lost:
            with pytest.raises(trio_jobs.InvalidState):
                await ada("correct", "--key", key, "{}")
        book.vouchers["2026-200"] = [{"n": 200}]
        await ada("resolve", "--key", "2026-200", "done", "--note", "voucher 4711 is in the book")
        book.lost, book.blind = set(), {"2026-202"}
        assert (await ada("verify", "--key", "2026-201", "--note", "the book can be read again"))[1] == ["not_done"]
        await ada("retry", "--key", "2026-201")
        assert (await bob("verify", "--key", "2026-202"))[1] == ["unknown"]
        await bob("resolve", "--key", "2026-202", "not_done", "--note", "nothing in the book")
        with deadline("the end of the day"):
            for n in (201, 202):
                await queue.result(queue.find("post", f"2026-{n}").id)
        await idle(queue)
        assert (await ada("count", "--group", "state"))[1] == ["     300  completed", "     300  jobs"]
        assert {key: len(vouchers) for key, vouchers in book.vouchers.items()} == {
            invoice["key"]: 1 for invoice in invoices
        }
        assert book.vouchers["2026-103"] == [{"n": 103, "tax_id": "X-103"}]
        history = "\n".join((await ada("history", "--key", "2026-103"))[1])
        assert "bob" in history
        assert "asked the customer" in history
        activity = "\n".join((await ada("activity", "--limit", "500"))[1])
        for what in ("the book is back", "voucher 4711 is in the book", "nothing in the book"):
            assert what in activity

"""Rules of tickets: what whoever has one can ask and see, and until when."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from support.server import OWNER, WATCHER, Bench, Raw, bench, make_service, patient
from support.waiting import deadline
from trio_jobs import Client, JobNotFound, PermissionDenied, Token, connect
from trio_jobs._cli.main import main
from trio_jobs._server.identity import Problem
from trio_jobs._server.ticket_methods import ALLOWED
from trio_jobs._wire.codes import ErrorCode
from trio_jobs._wire.methods import METHODS


async def made(b: Bench, job: str, **arguments: Any) -> Token:
    """A ticket for a job, as if it were a token."""
    async with connect(b.server.url, token=OWNER.secret) as client:
        ticket = await client.create_ticket(job, **arguments)
    return Presented(ticket)  # type: ignore[return-value] # has all that the tests use


class Presented:
    """A credential that is no token."""

    def __init__(self, secret: str) -> None:
        self.secret = secret


async def two_jobs(b: Bench) -> tuple[str, str]:
    jobs = [(await b.queue.submit("double", n, key=f"K-{n}", labels={"a": "b"}, by="bob")).job_id for n in (1, 2)]
    for job in jobs:
        await b.queue.result(job)
    return jobs[0], jobs[1]


async def close(*clients: Raw) -> None:
    for client in clients:
        await client.stream.aclose()


async def test_a_ticket_shows_the_state_of_its_job_alone() -> None:
    async with bench(metrics=False) as b:
        job, other = await two_jobs(b)
        client = await b.raw(await made(b, job))
        shown = await client.ask("jobs.get", job=job)
        assert (shown["id"], shown["state"], shown["key"]) == (job, "completed", "K-1")
        assert not {"payload", "labels", "by"} & set(shown)
        assert "result" not in await client.ask("jobs.result", job=job)
        for method in ("jobs.get", "jobs.result"):
            assert (await client.ask(method, job=other))["error"]["code"] == ErrorCode.JOB_NOT_FOUND
        await close(client)


@pytest.mark.parametrize("show", [[], ["result"], ["payload"], ["payload", "result"]], ids=str)
async def test_a_ticket_shows_what_it_says(show: list[Any]) -> None:
    async with bench(metrics=False) as b:
        job, _ = await two_jobs(b)
        ticket = await made(b, job, show=show)
        client = await b.raw(ticket)
        assert (await client.ask("jobs.get", job=job)).get("payload") == (1 if "payload" in show else None)
        assert (await client.ask("jobs.result", job=job)).get("result") == (2 if "result" in show else None)
        await close(client)
        async with connect(b.server.url, token=ticket.secret) as library:
            if "result" in show:
                assert await library.result(job) == 2
            else:
                with pytest.raises(PermissionDenied):
                    await library.result(job)


async def test_a_ticket_allows_no_other_method() -> None:
    async with bench(limits=patient(messages=10_000), metrics=False) as b:
        job, _ = await two_jobs(b)
        client = await b.raw(await made(b, job))
        seq = b.queue.statistics().seq
        for name, row in METHODS.items():
            if name in ALLOWED:
                continue
            params = {"key": "K-1"} if name == "jobs.find" else {}
            if "job" in row.params.__struct_fields__:
                params["job"] = job
            answer = await client.ask(name, **params)
            codes = (ErrorCode.PERMISSION_DENIED, ErrorCode.INVALID_PARAMS)  # INVALID_PARAMS: a parameter is missing
            assert answer["error"]["code"] in codes, (name, answer)
            assert row.scope != "watch" or answer["error"]["code"] == ErrorCode.PERMISSION_DENIED or params == {}
        assert b.queue.statistics().seq == seq
        await close(client)


async def test_a_stream_of_a_ticket_has_the_events_of_its_job_alone() -> None:
    """Also without a filter; and nothing tells how many events other jobs have had."""
    async with bench(make_service(drain_timeout=0.0), metrics=False) as b:
        job, other = await two_jobs(b)
        await b.queue.pause()
        ticket = await made(b, job)
        client = await b.raw(ticket)
        hello = await client.ask("server.hello")
        assert hello["seq"] == hello["oldest"] == b.queue.get(job).seq
        assert (hello["name"], hello["scope"]) == ("ticket", "watch")
        await client.ask("jobs.subscribe", subscription="s", after=0, epoch=b.queue.epoch)
        refused = await client.ask("jobs.subscribe", subscription="t", jobs=[other])
        assert refused["error"]["code"] == ErrorCode.JOB_NOT_FOUND
        events: list[str] = []
        with deadline("the events of the job"):
            while "completed" not in events:
                told = await client.next_notification()
                assert told["method"] == "jobs.event"
                assert told["params"]["job"] == job
                events.append(told["params"]["type"])
        await client.ask("server.hello")
        assert client.notifications == [], "the position of the stream is the number of events of all jobs"
        await close(client)


async def test_a_ticket_cannot_be_made_without_control_nor_for_a_job_that_does_not_exist() -> None:
    async with bench(metrics=False) as b:
        job, _ = await two_jobs(b)
        async with connect(b.server.url, token=WATCHER.secret) as client:
            with pytest.raises(PermissionDenied, match="control"):
                await client.create_ticket(job)
        async with connect(b.server.url, token=OWNER.secret) as client:
            with pytest.raises(JobNotFound):
                await client.create_ticket("f" * 32)
            with pytest.raises(Exception, match="seconds"):
                await client.create_ticket(job, seconds=31 * 86_400)


async def refused(b: Bench, secret: str) -> str:
    """With what text the server refuses a credential."""
    with pytest.raises(PermissionDenied) as error:
        async with connect(b.server.url, token=secret):
            pass
    assert secret not in str(error.value)
    return str(error.value)


async def test_a_ticket_that_is_not_valid_is_refused_with_its_reason() -> None:
    async with bench(metrics=False) as b, bench(metrics=False) as other:
        job, _ = await two_jobs(b)
        secret = (await made(b, job)).secret
        await made(other, (await two_jobs(other))[0])
        assert Problem.FOREIGN in await refused(other, secret)
        assert Problem.CHANGED in await refused(b, secret[:-1] + ("A" if secret[-1] != "A" else "B"))


async def test_a_ticket_has_two_streams_over_all_of_its_connections() -> None:
    """A link that was sent to many people does not take the server's streams from others."""
    async with bench(metrics=False) as b:
        job, _ = await two_jobs(b)
        ticket = await made(b, job)
        first, second, owner = await b.raw(ticket), await b.raw(ticket), await b.raw()
        for name in "ab":
            assert "error" not in await first.ask("jobs.subscribe", subscription=name)
        refused = await second.ask("jobs.subscribe", subscription="c")
        assert refused["error"]["data"]["limit"] == "in_flight"
        for name in "abc":
            assert "error" not in await owner.ask("jobs.subscribe", subscription=name)
        await first.ask("jobs.unsubscribe", subscription="a")
        assert "error" not in await second.ask("jobs.subscribe", subscription="c")
        await first.stream.aclose()
        with deadline("the server has noticed that the client is gone"):
            while "error" in await second.ask("jobs.subscribe", subscription="d"):
                await trio.sleep(0.05)
        await close(second, owner)


async def test_a_revocation_disconnects_the_clients_of_tickets_alone() -> None:
    async with bench(metrics=False) as b:
        job, _ = await two_jobs(b)
        ticket = await made(b, job)
        client, owner = await b.raw(ticket), await b.raw()
        await client.ask("jobs.get", job=job)
        assert await owner.ask("tickets.revoke") == {}
        with deadline("the connection of the ticket is closed"):
            assert await client.close_code() == 4401
        assert Problem.FOREIGN in await refused(b, ticket.secret)
        assert (await owner.ask("server.hello"))["name"] == "ann"
        await close(client, owner)


async def test_the_command_line_makes_and_revokes_tickets(capsys: pytest.CaptureFixture[str], tmp_path: Any) -> None:
    async with bench(metrics=False) as b:
        job, _ = await two_jobs(b)
        file = tmp_path / "token"
        file.write_text(OWNER.secret)
        file.chmod(0o600)
        where = ["--url", b.server.url, "--token-file", str(file)]
        create = ["ticket", "create", "K-1", "--key", "--show", "result", "--days", "7", *where]
        assert await trio.to_thread.run_sync(main, create) == 0
        secret = capsys.readouterr().out.strip()
        async with connect(b.server.url, token=secret) as client:
            assert isinstance(client, Client)
            assert await client.result(job) == 2
        assert await trio.to_thread.run_sync(main, ["ticket", "revoke", *where]) == 0
        assert Problem.FOREIGN in await refused(b, secret)

"""Rules of tokens that are bound to kinds or to labels: other jobs do not exist for them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import attrs
import msgspec
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from support.server import OWNER, Bench, Raw, bench, make_service
from support.waiting import deadline
from trio_jobs import AmbiguousJob, JobFailed, JobNotFound, NewJob, PermissionDenied, Token, UnknownKind, connect
from trio_jobs._backend_commands import NewSubmit
from trio_jobs._engine.bounds import Bounds
from trio_jobs._engine.job_filter import JobFilter
from trio_jobs._runtime.queue import runtime_of
from trio_jobs._server.bound_backend import BoundBackend, restricted
from trio_jobs._wire.codes import ErrorCode
from trio_jobs._wire.methods import METHODS

ACME = {"company": "acme"}
KIND = Token("kind-" + "1" * 20, "kim", "control", kinds=["double"])
LABEL = Token("label-" + "2" * 20, "lou", "control", labels=ACME)
BOTH = Token("both-" + "3" * 20, "bo", "control", kinds=["double"], labels=ACME)
TOKENS = pytest.mark.parametrize("token", [KIND, LABEL, BOTH], ids=lambda token: token.name)


@attrs.frozen
class Jobs:
    """For each of the tokens: jobs inside and outside of its bounds."""

    by_name: dict[str, str]
    """Ids of jobs: of kind double or fail, with the label or without."""

    def inside(self, token: Token) -> set[str]:
        kinds = {KIND: ("double", "double+"), LABEL: ("double+", "fail+"), BOTH: ("double+",)}[token]
        return {self.by_name[name] for name in kinds}

    def outside(self, token: Token) -> set[str]:
        return {*self.by_name.values()} - self.inside(token)


@asynccontextmanager
async def filled() -> AsyncIterator[tuple[Bench, Jobs]]:
    tokens = [OWNER, KIND, LABEL, BOTH]
    async with bench(make_service(drain_timeout=0.0), metrics=False, tokens=tokens) as b:
        made = {}
        for name, kind, labels in (
            ("double", "double", None),
            ("double+", "double", ACME),
            ("fail", "fail", {"company": "other"}),
            ("fail+", "fail", ACME),
        ):
            payload: Any = 1 if kind == "double" else "no"
            made[name] = (await b.queue.submit(kind, payload, key=f"K-{name}", labels=labels, by="someone")).job_id
            with suppress(JobFailed):
                await b.queue.result(made[name])
        yield b, Jobs(made)


async def close(*clients: Raw) -> None:
    for client in clients:
        await client.stream.aclose()


@TOKENS
async def test_a_job_outside_of_the_bounds_does_not_exist(token: Token) -> None:
    """Not found, as any id that never existed, whatever is asked about it; and nothing is changed."""
    async with filled() as (b, jobs):
        client = await b.raw(token)
        seq = b.queue.statistics().seq
        for name, row in METHODS.items():
            fields = row.params.__struct_fields__
            if "job" not in fields:
                continue
            required = {
                field.encode_name: {"resolution": "failed", "payload": 1, "delay": 1.0}.get(field.name, "x")
                for field in msgspec.structs.fields(row.params)
                if field.required and field.name != "job"
            }
            for job in jobs.outside(token):
                answer = await client.ask(name, job=job, **required)
                missing = await client.ask(name, job="f" * 32, **required)
                assert answer["error"]["code"] == ErrorCode.JOB_NOT_FOUND, (name, answer)
                assert answer["error"]["message"] == missing["error"]["message"].replace("f" * 32, job), name
                suffix = await client.ask(name, job=job[-8:], **required)
                assert suffix["error"]["code"] == ErrorCode.JOB_NOT_FOUND
        assert b.queue.statistics().seq == seq
        for job in jobs.inside(token):
            assert (await client.ask("jobs.get", job=job))["id"] == job
        await close(client)


@TOKENS
async def test_lists_counts_and_keys_are_those_of_the_bounds(token: Token) -> None:
    async with filled() as (b, jobs):
        async with connect(b.server.url, token=token.secret) as client:
            inside = jobs.inside(token)
            assert {job.id for job in await client.list()} == inside
            page = await client.list(limit=1, order="newest")
            found = {page[0].id}
            while page.next is not None:
                page = await client.list(limit=1, order="newest", after=page.next)
                found |= {job.id for job in page}
            assert found == inside
            counts = await client.count("label:company")
            assert counts.total == len(inside)
            assert "other" not in (counts.groups or {})
            assert (await client.count(kind="fail")).total == sum(b.queue.get(job).kind == "fail" for job in inside)
            statistics = await client.statistics()
            assert sum(statistics.jobs.values()) == len(inside)
            for name, job in jobs.by_name.items():
                if job in inside:
                    assert (await client.find(None, f"K-{name}")).id == job
                else:
                    with pytest.raises(JobNotFound):
                        await client.find(None, f"K-{name}")
                    with pytest.raises(JobNotFound):
                        await client.list(after=job)


@TOKENS
async def test_events_snapshots_and_progress_are_those_of_the_bounds(token: Token) -> None:
    async with filled() as (b, jobs):
        client, owner = await b.raw(token), await b.raw(OWNER)
        await client.ask("jobs.subscribe", subscription="s", after=0, epoch=b.queue.epoch)
        await client.ask("jobs.subscribe", subscription="t", snapshot=True)
        for job in jobs.outside(token):
            await client.ask("jobs.subscribe", subscription=f"j{job[-8:]}", jobs=[job], snapshot=True)
        await owner.ask("queue.pause", reason="secret")
        inside = jobs.inside(token)
        last = (await owner.ask("jobs.submit", kind="double", payload=2, labels=ACME))["job"]
        seen: set[str] = set()
        snapshots: set[str] = set()
        with deadline("the event of the last job on both subscriptions"):
            lasts = 0
            while lasts < 2:
                told = await client.next_notification()
                if told["method"] == "jobs.event":
                    seen.add(told["params"]["job"])
                    lasts += told["params"]["job"] == last and told["params"]["type"] == "submitted"
                elif told["method"] == "jobs.snapshot":
                    snapshots |= {job["id"] for job in told["params"]["jobs"]}
        assert seen == inside | {last}
        assert snapshots == inside
        await close(client, owner)


async def test_events_of_the_queue_itself_are_not_sent() -> None:
    """They name jobs, and what concerns the queue as a whole concerns others."""
    async with filled() as (b, _):
        client = await b.raw(KIND)
        await client.ask("jobs.subscribe", subscription="s")
        await b.queue.pause("why")
        await b.queue.resume()
        job = (await client.ask("jobs.submit", kind="double", payload=2))["job"]
        with deadline("the event"):
            told = await client.next_notification()
        assert (told["params"]["type"], told["params"]["job"]) == ("submitted", job)
        await close(client)


@TOKENS
async def test_what_concerns_the_queue_as_a_whole_is_refused(token: Token) -> None:
    async with filled() as (b, _):
        client = await b.raw(token)
        seq = b.queue.statistics().seq
        for method in ("queue.pause", "queue.resume", "queue.drain", "queue.undrain", "queue.activity"):
            answer = await client.ask(method)
            assert answer["error"]["code"] == ErrorCode.PERMISSION_DENIED, method
            assert "is bound to" in answer["error"]["message"]
        assert (await client.ask("queue.backup", name="x"))["error"]["code"] == ErrorCode.PERMISSION_DENIED
        assert b.queue.statistics().seq == seq
        await close(client)


async def test_a_submit_gets_the_labels_of_its_token_and_no_others() -> None:
    async with filled() as (b, _):
        async with connect(b.server.url, token=LABEL.secret) as client:
            job = (await client.submit("double", 3, labels={"x": "y"})).job_id
            assert b.queue.get(job).labels == {**ACME, "x": "y"}
            with pytest.raises(PermissionDenied, match="within its bounds: label company=acme"):
                await client.submit("double", 3, labels={"company": "other"})
        async with connect(b.server.url, token=KIND.secret) as client:
            with pytest.raises(PermissionDenied, match="within its bounds: kinds double"):
                await client.submit("fail", "no")


async def test_a_key_of_a_job_outside_of_the_bounds_names_no_job() -> None:
    """Neither with the same payload, which would answer with that job, nor with another one."""
    async with filled() as (b, jobs):
        client = await b.raw(LABEL)
        for payload in (1, 2):
            answer = await client.ask("jobs.submit", kind="double", payload=payload, key="K-double")
            assert answer["error"]["code"] == ErrorCode.PERMISSION_DENIED
            assert jobs.by_name["double"] not in str(answer)
        known = await client.ask("jobs.submit", kind="double", payload=1, key="K-double+")
        assert known["job"] == jobs.by_name["double+"]
        await close(client)


async def test_of_many_jobs_the_one_outside_of_the_bounds_is_named_and_none_is_accepted() -> None:
    async with filled() as (b, jobs):
        async with connect(b.server.url, token=BOTH.secret) as client:
            good, before = NewJob("double", 3), (await b.queue.count()).total
            for bad in (
                NewJob("fail", "no"),
                NewJob("double", 3, labels={"company": "other"}),
                NewJob("double", 1, key="K-double"),
                NewJob("double", 2, key="K-double"),
            ):
                for index in range(3):
                    with pytest.raises(PermissionDenied, match=rf"^jobs\[{index}\]: ") as raised:
                        await client.submit_many([*[good] * index, bad, *[good] * (2 - index)])
                    assert raised.value.index == index
                    assert jobs.by_name["double"] not in str(raised.value)
            assert (await b.queue.count()).total == before


@pytest.mark.parametrize("payload", [1, 2], ids=["the same payload", "another payload"])
async def test_a_key_taken_while_a_submit_of_many_waits_names_no_job_outside_of_the_bounds(payload: int) -> None:
    async with filled() as (b, _):
        backend = b.queue.backend

        class Slow:
            def __getattr__(self, name: str) -> Any:
                return getattr(backend, name)

            async def submit_many(self, jobs: Any, **options: Any) -> Any:
                await b.queue.submit("double", 1, key="taken")
                return await backend.submit_many(jobs, **options)

        wrapped: Any = Slow()
        many = [
            NewSubmit(
                kind="double", payload=number, key=key, due_at=None, delay=None, deadline_at=None, deadline_after=None,
                labels=None,
            )
            for number, key in ((5, None), (payload, "taken"))
        ]  # fmt: skip
        with pytest.raises(PermissionDenied, match=r"^jobs\[1\]: the key is in use by a job outside") as raised:
            await BoundBackend(wrapped, Bounds(None, ACME)).submit_many(many, wait=1.0, by=None)
        assert raised.value.index == 1


async def test_an_unknown_kind_is_answered_with_the_kinds_within_the_bounds() -> None:
    token = Token("gone-" + "4" * 20, "gus", "control", kinds=["double", "gone"])
    async with bench(make_service(), tokens=[token]) as b:
        async with connect(b.server.url, token=token.secret) as client:
            with pytest.raises(UnknownKind) as raised:
                await client.submit("gone", 1)
            assert raised.value.known == ("double",)
            with pytest.raises(UnknownKind) as raised:
                await client.submit_many([NewJob("double", 1), NewJob("gone", 1)])
            assert (raised.value.known, raised.value.index) == (("double",), 1)
            assert str(raised.value) == "jobs[1]: no handler is registered for kind 'gone' (registered: double)"


@pytest.mark.parametrize("method", ["correct", "verify", "retry", "reschedule", "run_now"])
async def test_a_job_whose_handler_is_gone_names_the_kinds_within_the_bounds(method: str) -> None:
    async with filled() as (b, jobs):
        backend = b.queue.backend

        class WithoutHandler:
            def __getattr__(self, name: str) -> Any:
                return self.refuse if name == method else getattr(backend, name)

            async def refuse(self, *_: object, **__: object) -> None:
                raise UnknownKind("gone", ("double", "fail", "wait"))

        wrapped: Any = WithoutHandler()
        bound: Any = BoundBackend(wrapped, Bounds(["double"]))
        arguments: dict[str, Any] = {
            "correct": {"payload": 1, "if_seq": None},
            "verify": {},
            "retry": {"even_if_acted": False},
            "reschedule": {"due_at": None, "delay": 1.0, "if_seq": None},
            "run_now": {"if_seq": None},
        }
        with pytest.raises(UnknownKind) as raised:
            await getattr(bound, method)(jobs.by_name["double"], by=None, note=None, **arguments[method])
        assert raised.value.known == ("double",)


async def test_the_end_of_an_id_is_ambiguous_only_within_the_bounds() -> None:
    async with filled() as (b, jobs):
        backend = b.queue.backend

        class Ambiguous:
            def __getattr__(self, name: str) -> Any:
                return getattr(backend, name)

            def get(self, job_id: str, *, brief: bool = False) -> Any:
                if job_id == "end":
                    raise AmbiguousJob("end", tuple(jobs.by_name.values()))
                return backend.get(job_id, brief=brief)

        wrapped: Any = Ambiguous()
        assert BoundBackend(wrapped, Bounds(["double"], ACME)).get("end").id == jobs.by_name["double+"]
        with pytest.raises(AmbiguousJob) as error:
            BoundBackend(wrapped, Bounds(["double"])).get("end")
        assert set(error.value.job_ids) == jobs.inside(KIND)
        with pytest.raises(JobNotFound):
            BoundBackend(wrapped, Bounds(["wait"])).get("end")


async def test_health_and_metrics_of_all_jobs_are_not_shown() -> None:
    async with bench(make_service(), tokens=[OWNER, KIND]) as b:
        for path, status in (("/metrics", b"403"), ("/healthz", b"200")):
            client = await b.socket()
            await client.send(
                f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KIND.secret}\r\n"
                "Connection: close\r\n\r\n".encode()
            )
            answer = await client.read_all()
            assert answer.split()[1] == status
            assert b'"queue"' not in answer
            await close(client)
        await trio.lowlevel.checkpoint()


LABELS = st.dictionaries(st.sampled_from("ab"), st.sampled_from("xy"), max_size=2)
KINDS = st.none() | st.frozensets(st.sampled_from(["k1", "k2", "k3"]), min_size=1)


@given(KINDS, LABELS, KINDS, LABELS, st.sampled_from(["k1", "k2", "k3"]), LABELS)
def test_a_restricted_filter_matches_what_both_match(
    kinds: frozenset[str] | None,
    labels: dict[str, str],
    own_kinds: frozenset[str] | None,
    own_labels: dict[str, str],
    kind: str,
    job_labels: dict[str, str],
) -> None:
    wanted = JobFilter(kinds=kinds, labels=tuple(sorted(labels.items())))
    bounds = Bounds(own_kinds, own_labels)
    both = Bounds(kinds, labels).include(kind, job_labels) and bounds.include(kind, job_labels)
    found = restricted(wanted, bounds)
    assert both == (found is not None and Bounds(found.kinds, found.labels).include(kind, job_labels))
    assert found is None or restricted(found, bounds) == found


async def test_events_of_a_pruned_job_outside_of_the_bounds_are_not_sent() -> None:
    """Its kind is retained as long as its events are. A reader that asks for older ones gets a gap."""
    async with bench(make_service(drain_timeout=0.0, job_retention=0.0), metrics=False, tokens=[OWNER, KIND]) as b:
        other = (await b.queue.submit("fail", "no", key="K-secret")).job_id
        with suppress(JobFailed):
            await b.queue.result(other)
        seq = b.queue.statistics().seq
        while await runtime_of(b.queue).pruner.run_once():
            pass
        assert other not in b.queue.job_ids()
        client = await b.raw(KIND)
        for after in range(seq):
            answer = await client.ask("jobs.subscribe", subscription=f"s{after}", after=after, epoch=b.queue.epoch)
            assert "error" not in answer or answer["error"]["code"] == ErrorCode.CANNOT_RESUME
        own = (await b.queue.submit("double", 1)).job_id
        with deadline("the events of the job within the bounds"):
            while not any(own in str(one) and "completed" in str(one) for one in client.notifications):
                await client.ask("server.hello")
        assert not any(other in str(one) or "K-secret" in str(one) for one in client.notifications)
        await close(client)

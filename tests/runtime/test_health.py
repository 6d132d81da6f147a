"""Health names a pause, the last close, the oldest doubt and the oldest waiting job; a start logs what it finds."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

import trio_jobs
from support.rig import NO_RETRY, busy_queue, make_rig, open_queue, until_state
from support.server import OWNER, WATCHER, bench, make_service
from trio_jobs import MemoryStore, TrioClock
from trio_jobs._cli.arguments import parser
from trio_jobs._cli.commands import COMMANDS
from trio_jobs._engine.json_values import moment


async def test_a_paused_queue_is_not_healthy_and_says_why_since_when_and_by_whom(autojump_clock: MockClock) -> None:
    async with make_rig("trio").open() as queue:
        assert queue.health().paused is None
        await trio.sleep(10)
        await queue.pause("month end", by="Ada")
        [action] = queue.activity()
        await trio.sleep(10)
        health = queue.health()
        assert (health.ok, health.problems) == (False, ("paused",))
        assert health.paused == trio_jobs.Pause("month end", action.at, "Ada")
        await queue.resume()
        assert (queue.health().ok, queue.health().paused) == (True, None)
        end = moment(TrioClock().now() + 60)
        await queue.pause("lunch", until=end)
        pause = queue.health().paused
        assert pause is not None
        assert (pause.reason, pause.until) == ("lunch", end)
        await trio.sleep(61)
        assert queue.health().ok


async def test_health_has_the_last_close_and_the_failed_sessions(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", retry=NO_RETRY)
    async with rig.open() as queue:
        assert queue.health().last_close is None
        rig.sdk.script("call", OSError("1"), OSError("2"), OSError("3"))
        for n in range(3):
            with pytest.raises(trio_jobs.JobFailed):
                await queue.result((await queue.submit("work", str(n))).job_id)
            await trio.sleep(0.1)
            assert queue.health().failed_sessions == n + 1
        close = queue.health().last_close
        assert close is not None
        assert (close.session, close.failed, close.problem) == (3, False, None)
        assert "sessions_failing" in queue.health().problems
        await queue.result((await queue.submit("work", "x")).job_id)
        assert close == queue.health().last_close


async def test_the_last_close_of_an_earlier_process_is_known_and_logged(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    rig, store = make_rig("trio"), MemoryStore()
    rig.sdk.script("close", OSError("saving failed"))
    async with rig.open(store=store) as queue:
        await queue.result((await queue.submit("work", "x")).job_id)
    caplog.clear()
    with caplog.at_level(logging.WARNING, "trio_jobs"):
        async with rig.open(store=store, seed=2) as queue:
            close = queue.health().last_close
            assert close is not None
            assert close.failed
            assert "saving failed" in str(close.problem)
    assert "the last close of the SDK failed" in caplog.text


async def test_health_has_the_oldest_doubt_and_the_job_that_waits_longest(autojump_clock: MockClock) -> None:
    rig = make_rig("trio", on_doubt="hold")
    async with busy_queue(rig) as (queue, _hold, first):
        waiting = [(await queue.submit("work", str(n))).job_id for n in range(3)]
        health = queue.health()
        assert (health.oldest_waiting, health.waiting_since) == (waiting[0], queue.get(waiting[0]).changed_at)
        assert (health.in_doubt, health.in_doubt_since) == (0, None)
        await queue.cancel(first)
        doubt = await until_state(queue, first, "in_doubt")
        await trio.sleep(60)
        assert (queue.health().in_doubt, queue.health().in_doubt_since) == (1, doubt.changed_at)
        assert queue.health().oldest_waiting is None


async def test_a_start_logs_the_pause_and_the_doubts_that_it_finds(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    rig, store = make_rig("trio", on_doubt="hold"), MemoryStore()
    rig.sdk.script("call", OSError("half done"))
    async with rig.open(store=store) as queue:
        await until_state(queue, (await queue.submit("work", "x")).job_id, "in_doubt")
        await queue.pause("month\nend", by="Ada\x1b[2J")
    caplog.clear()
    with caplog.at_level(logging.WARNING, "trio_jobs"):
        async with rig.open(store=store, seed=2) as queue:
            started = [*caplog.messages]
            await queue.resume()
    assert [message for message in started if message.startswith("the queue is paused since 20")], started
    assert "by Ada\\x1b[2J: month\\nend; resume() ends that" in "".join(started)
    assert [message for message in started if message.startswith("jobs in doubt: 1, the oldest since 20")]
    caplog.clear()
    with caplog.at_level(logging.WARNING, "trio_jobs"):
        async with open_queue(make_rig("trio").service):
            assert caplog.messages == [], "a queue that finds nothing says nothing"


async def test_a_client_gets_the_health_of_the_queue(tmp_path: Path) -> None:
    async with bench(make_service(drain_timeout=0.0), metrics=False) as b:
        await b.queue.pause("month end", by="ada")
        await b.queue.submit("double", 1)
        for token, shown in ((OWNER, "ada"), (WATCHER, None)):
            async with trio_jobs.connect(f"ws://127.0.0.1:{b.port}/ws", token=token.secret) as client:
                health, here = await client.health(), b.queue.health()
                assert here.paused is not None
                assert health.paused == trio_jobs.Pause("month end", here.paused.since, shown)
                assert (health.oldest_waiting, health.waiting_since) == (here.oldest_waiting, here.waiting_since)
                assert health.problems == here.problems


async def test_status_says_what_is_wrong_and_what_waits(capsys: pytest.CaptureFixture[str]) -> None:
    async with (
        bench(make_service(drain_timeout=0.0), metrics=False) as b,
        trio_jobs.connect(f"ws://127.0.0.1:{b.port}/ws", token=OWNER.secret) as client,
    ):

        async def status(*words: str) -> tuple[int, str]:
            capsys.readouterr()
            code = await COMMANDS["status"](client, parser().parse_args(["status", *words]))
            return code, capsys.readouterr().out

        code, text = await status()
        assert (code, text.splitlines()[0]) == (0, "healthy")
        await b.queue.pause("month end", by="ada")
        job_id = (await b.queue.submit("double", 1)).job_id
        code, text = await status()
        lines = text.splitlines()
        assert (code, lines[0]) == (1, "not healthy: paused")
        assert lines[1].startswith("paused since 20")
        assert lines[1].endswith(" by ada: month end")
        assert any(line.startswith(f"job {job_id[-8:]} has waited for") for line in lines)
        assert '"paused":{"reason":"month end"' in (await status("--json"))[1]

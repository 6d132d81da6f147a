"""What a client receives when the store fails."""

from __future__ import annotations

from support.server import OWNER, Bench, make_service
from support.waiting import deadline
from trio_jobs._server.server import serve
from trio_jobs.testing import CrashableStore


async def test_a_submit_with_an_unknown_outcome_has_another_code_than_a_refused_one() -> None:
    disk = CrashableStore()
    store = disk.store()
    async with (
        make_service(commit_timeout=5).open(store=store) as queue,
        serve(queue, port=0, tokens=[OWNER]) as server,
    ):
        client = await Bench(queue, server).raw()
        append = store.append

        def append_and_die(events: object) -> None:
            append(events)  # type: ignore[arg-type]
            disk.crash()

        store.append = append_and_die  # type: ignore[method-assign]
        with deadline("both submits are answered"):
            unknown = await client.ask("jobs.submit", kind="double", payload=1, key="k")
            refused = await client.ask("jobs.submit", kind="double", payload=2)
        assert unknown["error"]["code"] == -32015
        assert refused["error"]["code"] == -32017
        assert "no jobs are accepted now" in refused["error"]["message"]
        await client.say_goodbye()

"""A browser's own EventSource, in headless Chromium, with the function of docs/howto/http.md."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from test_browser import Site, needs_browser, site

import trio_jobs
from trio_jobs import Service
from trio_jobs._runtime.queue import runtime_of

__all__ = ["site"]

PAGE = (Path(__file__).parents[2] / "docs" / "howto" / "http.md").read_text(encoding="utf-8")
FUNCTION = re.search(r"```js\n(function follow.*?)```", PAGE, re.DOTALL)


def make_service() -> Service:
    service = trio_jobs.Service()

    @service.handler(idempotent=True)
    async def double(number: int) -> int:
        return number * 2

    return service


@needs_browser
async def test_an_event_source_sees_each_event_once_over_two_restarts(site: Site, tmp_path: Path) -> None:
    assert FUNCTION is not None
    port, last, seen = 0, 0, list[int]()
    for life in range(3):
        async with make_service().open(journal=tmp_path / "jobs.db") as queue:
            async with trio_jobs.serve(queue, port=port, tokens=None, origins=[site.origin]) as server:
                if life == 0:
                    port, first = server.port, runtime_of(queue).feed.seq
                    epoch = runtime_of(queue).event_log.store.epoch
                    url = f"http://127.0.0.1:{port}/v1/events?after={epoch}/{first}"
                    site.open(tmp_path, f'{FUNCTION[1]}\nfollow("{url}", (event, id) => report([event.seq, id]));')
                for n in range(5):
                    job = await queue.submit("double", n)
                    await queue.result(job.job_id)
                last = runtime_of(queue).feed.seq
                while not {*range(first + 1, last + 1)} <= {*seen}:  # the requests of the page may change places
                    told: Any = await site.told()
                    assert isinstance(told, list), told
                    assert told[1] == f"{epoch}/{told[0]}"
                    seen.append(told[0])
    assert sorted(seen) == [*range(first + 1, max(seen) + 1)]


@pytest.mark.parametrize("what", ["addEventListener", "readyState === EventSource.CLOSED"])
def test_the_function_of_the_page_connects_again_after_an_error_status(what: str) -> None:
    assert FUNCTION is not None
    assert what in FUNCTION[1]

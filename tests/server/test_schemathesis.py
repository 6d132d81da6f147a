"""The HTTP API against its own description: requests that schemathesis makes from /openapi.json, valid ones and others.

What it checks of each response: no server error, and a status, a content type, headers and a body as described. Also:
invalid requests, wrong methods and invalid tokens are refused, required headers are required. One of its checks is left
out: not each request that the schemas allow can be done (a payload must fit its kind, a job must exist and be in a
state).
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Final

import pytest
import trio

from support.http_client import http_site
from support.processes import run
from support.server import OWNER, patient
from trio_jobs import Fail, Queue, Service
from trio_jobs.events import DrainStarted, Paused

REQUESTS: Final = 10_000
EXAMPLES: Final = 330  #: of each operation in one phase
LEFT_OUT: Final = "positive_data_acceptance"
ENDLESS: Final = "get_jobs_subscribe"  #: a stream of events; tests/server/test_sse.py
SECONDS: Final = 1800.0
OWN: Final = Path(__file__).parents[2] / ".venv-fuzz" / "bin" / "schemathesis"  #: of `./run fuzz`
PROGRAM: Final = str(OWN) if OWN.exists() else shutil.which("schemathesis")


def open_to_all() -> Service:
    """Kinds whose jobs end at once, and are of each state in which a job can stay."""
    service = Service()

    @service.handler(idempotent=True)
    async def double(number: int) -> int:
        return number * 2

    @service.handler
    async def fail(why: str) -> None:
        raise Fail(why)

    @service.handler
    async def lose(why: str) -> None:
        raise ConnectionError(why)

    return service


async def keep_running(queue: Queue) -> None:
    """Undo what would stop the queue for all further requests."""
    async for event in queue.events():
        if isinstance(event, DrainStarted):
            await queue.undrain()
        elif isinstance(event, Paused):
            await queue.resume()


@pytest.mark.campaign
@pytest.mark.skipif(PROGRAM is None, reason="schemathesis is not installed: ./run fuzz installs it")
async def test_ten_thousand_requests_made_from_the_description_are_answered_as_it_says(tmp_path: Path) -> None:
    limits = patient(messages=1_000_000, frames=2_000_000)
    async with http_site(open_to_all(), limits=limits) as (b, _), trio.open_nursery() as nursery:
        nursery.start_soon(keep_running, b.queue)
        command = [str(PROGRAM), "run", f"http://127.0.0.1:{b.port}/openapi.json"]
        command += ["--header", f"Authorization: Bearer {OWNER.secret}", "--exclude-operation-id", ENDLESS]
        command += ["--exclude-checks", LEFT_OUT, "--max-examples", str(EXAMPLES), "--seed", "1"]
        command += ["--continue-on-failure", "--suppress-health-check", "all", "--request-timeout", "60"]
        done = await trio.to_thread.run_sync(lambda: run(command, timeout=SECONDS, cwd=tmp_path))
        assert done.returncode == 0, done.stdout + done.stderr
        made = re.search(r"(\d+) generated", done.stdout)
        assert made is not None, done.stdout
        assert int(made[1]) >= REQUESTS
        nursery.cancel_scope.cancel()

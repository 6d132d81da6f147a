"""LibreOffice with the SDK in a process of its own: the first call hangs and holds the interpreter, after it has saved.

LibreOffice itself is started by that process in a session of its own, so killing the process group leaves it;
`on_killed` ends it. Prints what became of two orders, and how many offices there were when the second began.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import office_sheet as example
import trio

import trio_jobs


def end_office(pid: int, opening: trio_jobs.Opening) -> None:
    with Path("ended").open("a") as file:
        file.write(f"{opening.number} {example.kill_office()}\n")


service = trio_jobs.Service(
    sdk=example.open_sheet, executor="process", on_killed=end_office, seat_lock=f"{example.FILE}-seat"
)


@service.handler(verify=example.find, attempt_timeout=3)
def order(sheet: Any, pieces: int, job: trio_jobs.JobContext) -> int:
    row: int = sheet.append(job.key, pieces)
    sheet.save()
    if job.attempt == 1 and job.key == "O-1":
        while True:
            ctypes.PyDLL(None).sleep(1000)  # the function of C is called with the interpreter locked
    return row


async def main() -> None:
    async with service.open() as queue:
        for key in ("O-1", "O-2"):
            receipt = await queue.submit(order, 12, key=key)
            await queue.result(receipt.job_id, in_doubt="raise")
            for attempt in queue.get(receipt.job_id).attempts or ():
                assert attempt.ended_at is not None
                print(key, attempt.outcome, f"{(attempt.ended_at - attempt.started_at).total_seconds():.2f}")


if __name__ == "__main__":
    trio.run(main)

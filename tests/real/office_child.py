"""The service of `examples/office_sheet.py`, run by a Python that has UNO: `office_child.py FAULT KEY ...`.

The fault happens once, in the first job, between the change of the sheet and its save. "kill": LibreOffice is killed.
"stop": it is stopped, so that the next call does not return.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import office_sheet as example
import trio

import trio_jobs

fault, *keys = sys.argv[1:]


def office() -> list[int]:
    """The processes of LibreOffice."""
    found = []
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if example.PROFILE in command.read_text().split("\0"):
                found.append(int(command.parent.name))
        except OSError:
            pass
    return found


def order(sheet: Any, pieces: int, job: trio_jobs.JobContext) -> int:
    row: int = sheet.append(job.key, pieces)
    if job.key == keys[0] and job.attempt == 1:
        for process in office():
            os.kill(process, signal.SIGKILL if fault == "kill" else signal.SIGSTOP)
        sheet.references()
    return row


async def main() -> None:
    service = trio_jobs.Service(sdk=example.open_sheet, save=example.Sheet.save, interrupt=example.kill_office)
    service.handler(verify=example.find, attempt_timeout=5 if fault == "stop" else 60)(order)
    async with service.open() as queue:
        for key in keys:
            receipt = await queue.submit(order, 12, key=key)
            row = await queue.result(receipt.job_id, in_doubt="raise")
            attempts = [str(attempt.outcome) for attempt in queue.get(receipt.job_id).attempts or ()]
            print(key, row, *attempts, queue.statistics().session, flush=True)


trio.run(main)

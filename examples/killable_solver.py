import contextlib
import time

import trio
import trio_jobs


class Solver:
    """Stands for an SDK whose calls sometimes never return, and cannot be interrupted."""

    def solve(self, size: int) -> int:
        while size > 100:
            time.sleep(1)
        return size * size


@contextlib.contextmanager
def open_solver():
    yield Solver()


service = trio_jobs.Service(sdk=open_solver, executor="process")


@service.handler(attempt_timeout=1, idempotent=True, retry=trio_jobs.Retry(0))
def solve(solver: Solver, size: int) -> int:
    return solver.solve(size)


async def main():
    async with service.open() as queue:
        endless = await queue.submit(solve, 1000)
        short = await queue.submit(solve, 12)
        print(await queue.result(short.job_id))
        attempt = queue.get(endless.job_id).attempts[-1]
        print(attempt.outcome, "in solve" in attempt.error.traceback)


if __name__ == "__main__":
    trio.run(main)

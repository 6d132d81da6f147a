import asyncio

import trio_jobs
from queue_thread import QueueThread

service = trio_jobs.Service()


@service.handler(idempotent=True)
async def double(number: int) -> int:
    return number * 2


async def main(queue):
    receipt = await asyncio.to_thread(queue.submit, "double", 21, key="order-7")
    print(await asyncio.to_thread(queue.result, receipt.job_id))


with QueueThread(service) as queue:
    asyncio.run(main(queue))

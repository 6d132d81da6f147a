import asyncio

import trio
import trio_jobs

service = trio_jobs.Service()


@service.handler(idempotent=True)
async def double(number: int) -> int:
    return number * 2


async def run_trio(main, *args):
    """Run `main(*args)` in Trio, inside the running asyncio loop, and return what it returns."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    trio.lowlevel.start_guest_run(
        main,
        *args,
        run_sync_soon_threadsafe=loop.call_soon_threadsafe,
        done_callback=done.set_result,
        host_uses_signal_set_wakeup_fd=True,
    )
    return (await done).unwrap()


async def serve(requests):
    async with service.open() as queue, trio.open_nursery() as nursery:

        async def answer(number, future):
            receipt = await queue.submit(double, number)
            future.set_result(await queue.result(receipt.job_id))

        async for number, future in requests:
            nursery.start_soon(answer, number, future)


async def main():
    send, receive = trio.open_memory_channel(100)
    queue = asyncio.ensure_future(run_trio(serve, receive))
    answers = [asyncio.get_running_loop().create_future() for _ in range(3)]
    for number, answer in enumerate(answers):
        send.send_nowait((number, answer))
    print(await asyncio.gather(*answers))
    send.close()
    await queue


asyncio.run(main())

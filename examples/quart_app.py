import signal

import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from labels import print_label, service
from quart import request
from quart_trio import QuartTrio

app = QuartTrio(__name__)


@app.post("/labels")
async def submit():
    text = (await request.get_json())["text"]
    receipt = await app.queue.submit(print_label, text, key=request.headers.get("Idempotency-Key"))
    return {"job": receipt.job_id, "state": receipt.state}, 202


@app.get("/labels/<job>")
async def result(job):
    return {"result": await app.queue.result(job)}


async def stopped():
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            return


async def main():
    config = Config()
    config.bind = ["127.0.0.1:8002"]
    async with service.open() as queue:
        app.queue = queue
        await serve(app, config, shutdown_trigger=stopped)


trio.run(main)

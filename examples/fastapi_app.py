import signal
from typing import Annotated, Any

import trio
from fastapi import FastAPI, Header
from hypercorn.config import Config
from hypercorn.trio import serve
from labels import print_label, service
from pydantic import BaseModel

app = FastAPI()


class Label(BaseModel):
    text: str


@app.post("/labels", status_code=202)
async def submit(label: Label, idempotency_key: Annotated[str | None, Header()] = None) -> dict[str, str]:
    receipt = await app.state.queue.submit(print_label, label.text, key=idempotency_key)
    return {"job": receipt.job_id, "state": receipt.state}


@app.get("/labels/{job}/job")
async def show(job: str) -> dict[str, Any]:
    return app.state.queue.get(job).to_dict()  # times are ISO 8601 strings


@app.get("/labels/{job}")
def result(job: str) -> dict[str, str]:
    return {"result": app.state.queue.from_thread.result(job)}


async def stopped():
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            return


async def main():
    config = Config()
    config.bind = ["127.0.0.1:8001"]
    async with service.open() as queue:
        app.state.queue = queue
        await serve(app, config, shutdown_trigger=stopped)


trio.run(main)

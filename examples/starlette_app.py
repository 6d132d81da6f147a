import signal

import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from labels import print_label, service
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route


async def submit(request):
    text = (await request.json())["text"]
    receipt = await request.app.state.queue.submit(print_label, text, key=request.headers.get("Idempotency-Key"))
    return JSONResponse({"job": receipt.job_id, "state": receipt.state}, status_code=202)


async def result(request):
    return JSONResponse({"result": await request.app.state.queue.result(request.path_params["job"])})


app = Starlette(routes=[Route("/labels", submit, methods=["POST"]), Route("/labels/{job}", result)])


async def stopped():
    """Return when the process is asked to stop, so that the server ends and the queue is closed."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            return


async def main():
    config = Config()
    config.bind = ["127.0.0.1:8000"]
    async with service.open() as queue:
        app.state.queue = queue
        await serve(app, config, shutdown_trigger=stopped)


trio.run(main)

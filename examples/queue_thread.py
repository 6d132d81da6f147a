import contextlib
import threading

import trio


class QueueThread:
    """Runs a service in a thread of its own: `with QueueThread(service) as queue`."""

    def __init__(self, service, **options):
        self._service = service
        self._options = options
        self._started = threading.Event()
        self._error = None
        self._thread = threading.Thread(target=self._run, name="queue")

    def _run(self):
        try:
            trio.run(self._main)
        except BaseException as error:
            self._error = error
        finally:
            self._started.set()

    async def _main(self):
        async with self._service.open(**self._options) as queue:
            self._queue, self._stop, self._token = queue, trio.Event(), trio.lowlevel.current_trio_token()
            self._started.set()
            await self._stop.wait()  # leaving the block finishes the work and closes the SDK

    def __enter__(self):
        self._thread.start()
        self._started.wait()
        if self._error is not None:
            raise self._error
        return self._queue.from_thread

    def __exit__(self, *_):
        with contextlib.suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._stop.set)
        self._thread.join()
        if self._error is not None:
            raise self._error

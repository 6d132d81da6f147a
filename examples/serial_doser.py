import contextlib
import os
import time

import serial
import trio
import trio_jobs

PORT = os.environ.get("DOSER", "/dev/ttyUSB0")


class Doser:
    """A pump that understands the lines SYNC n, DOSE reference ml, DONE? reference, and answers each with a line."""

    def __init__(self, port):
        self.port = port

    def ask(self, command):
        self.port.write(command.encode() + b"\n")
        return self.read_line()

    def read_line(self):
        line = self.port.read_until(b"\n")  # shorter after its timeout, and after cancel_read()
        if not line.endswith(b"\n"):
            raise TimeoutError(f"the pump has answered {line!r} and no more")
        return line.decode().strip()

    def synchronize(self):
        """Pass over the answers that the last session did not wait for. They may come at any time."""
        mark = f"SYNC {time.time_ns()}"
        answer = self.ask(mark)
        while answer != mark:
            answer = self.read_line()


@contextlib.contextmanager
def open_doser():
    with serial.Serial(PORT, 115200, timeout=10, write_timeout=5, exclusive=True) as port:
        doser = Doser(port)
        doser.synchronize()
        yield doser


# cancel_read(), called in another thread, ends a read at once; with it the port can wait longer than an attempt
service = trio_jobs.Service(sdk=open_doser, interrupt=lambda doser: doser.port.cancel_read())


def was_dosed(doser, job):
    answers = {"YES": trio_jobs.Done(), "NO": trio_jobs.NotDone()}
    return answers.get(doser.ask(f"DONE? {job.key}"), trio_jobs.Unknown())


@service.handler(verify=was_dosed, attempt_timeout=30)
def dose(doser, millilitres: int, job: trio_jobs.JobContext) -> None:
    if doser.ask(f"DOSE {job.key} {millilitres}") != "OK":
        raise trio_jobs.Fail(f"the pump refuses {millilitres} ml")


async def main():
    async with service.open(journal="doser-jobs.db") as queue:
        receipt = await queue.submit(dose, 5, key="sample-1")
        await queue.result(receipt.job_id)
        print("sample-1 has its 5 ml")


if __name__ == "__main__":
    trio.run(main)

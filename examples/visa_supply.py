import contextlib
import os

import pyvisa
import trio
import trio_jobs

RESOURCE = os.environ.get("SUPPLY", "GPIB0::5::INSTR")
BACKEND = os.environ.get("VISA", "@py")  # "supply.yaml@sim" for an instrument that exists only as a text


class Supply:
    """A power supply. The VISA timeout of its resource is short, so that a read without an answer can end early."""

    def __init__(self, resource):
        self.resource = resource

    def ask(self, command, job):
        self.resource.write(command)
        while not job.cancel_requested:  # by a person, by attempt_timeout, or because the queue stops
            with no_timeout():
                return self.resource.read()
        raise TimeoutError(f"no answer to {command}")


@contextlib.contextmanager
def no_timeout():
    try:
        yield
    except pyvisa.VisaIOError as error:
        if error.error_code != pyvisa.constants.StatusCode.error_timeout:
            raise


@contextlib.contextmanager
def open_supply():
    manager = pyvisa.ResourceManager(BACKEND)
    with contextlib.closing(manager), manager.open_resource(RESOURCE) as resource:
        resource.timeout = 100  # milliseconds
        resource.read_termination = resource.write_termination = "\n"
        with no_timeout():
            while True:  # an answer that the last session did not wait for
                resource.read()
        yield Supply(resource)


# without interrupt=: most back ends of VISA cannot end a read from another thread
service = trio_jobs.Service(sdk=open_supply)


@service.handler(idempotent=True, attempt_timeout=30)  # to set a voltage twice does no harm; to add to it would
def set_voltage(supply, volts: float, job: trio_jobs.JobContext) -> float:
    answer = supply.ask(f"VOLT {volts:.2f}", job)
    if answer != "OK":
        raise trio_jobs.Fail(f"the supply refuses {volts} V: {answer}")
    return float(supply.ask("VOLT?", job))


async def main():
    async with service.open(journal="supply-jobs.db") as queue:
        receipt = await queue.submit(set_voltage, 12.0)
        print(await queue.result(receipt.job_id), "V")


if __name__ == "__main__":
    trio.run(main)

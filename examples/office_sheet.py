import contextlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import trio
import trio_jobs
import uno
from com.sun.star.connection import NoConnectException

FILE = Path("orders.ods").absolute()
FOLDER = FILE.with_name(FILE.name + "-profile")
PROFILE = "-env:UserInstallation=" + FOLDER.as_uri()  # no other LibreOffice has it


class Sheet:  # what handlers use: plain values go in and come out, and no object of LibreOffice leaves its thread
    def __init__(self, pipe, office):
        resolver = uno.getComponentContext().ServiceManager.createInstance("com.sun.star.bridge.UnoUrlResolver")
        while True:
            with contextlib.suppress(NoConnectException):  # it is starting, which takes seconds
                remote = resolver.resolve(f"uno:pipe,name={pipe};urp;StarOffice.ComponentContext")
                break
            with contextlib.suppress(subprocess.TimeoutExpired):
                raise OSError(f"soffice has ended with {office.wait(0.05)}")
        desktop = remote.ServiceManager.createInstance("com.sun.star.frame.Desktop")
        url = FILE.as_uri() if FILE.exists() else "private:factory/scalc"
        hidden = uno.createUnoStruct("com.sun.star.beans.PropertyValue", "Hidden", 0, True, 0)
        self.document = desktop.loadComponentFromURL(url, "_blank", 0, (hidden,))
        if self.document is None:  # no exception says so
            raise OSError(f"LibreOffice does not open {FILE}: is it open elsewhere?")

    def references(self):
        return [key for (key,) in self.document.Sheets[0]["A1:A10000"].DataArray if key]

    def save(self):
        self.document.storeAsURL(FILE.as_uri(), ())

    def append(self, key, pieces):
        line = len(self.references()) + 1
        self.document.Sheets[0][f"A{line}:B{line}"].DataArray = ((key, pieces),)
        return line


def kill_office(sheet=None):  # also frees a call that hangs
    found = False
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # a process that has just ended
            if PROFILE in command.read_text(errors="replace").split("\0"):
                os.kill(int(command.parent.name), signal.SIGKILL)
                found = True
    return found


@contextlib.contextmanager
def open_sheet(opening: trio_jobs.Opening):
    while kill_office():  # after a crash: LibreOffice outlives the process that started it, and keeps the file
        time.sleep(0.02)
    shutil.rmtree(FOLDER, ignore_errors=True)  # killed while it writes its profile, it never starts with that one again
    pipe = f"trio-jobs-{os.getpid()}-{opening.number}"  # UNO keeps the dead connection of a name that it has seen
    command = ["soffice", "--headless", "--norestore", PROFILE, f"--accept=pipe,name={pipe};urp;"]
    with subprocess.Popen(command, start_new_session=True) as office:  # Ctrl-C in a terminal is meant for the service
        try:
            yield Sheet(pipe, office)
        finally:
            kill_office()  # whatever it does: what is saved is in the file


service = trio_jobs.Service(sdk=open_sheet, save=Sheet.save, interrupt=kill_office, seat_lock=f"{FILE}-seat")


def find(sheet, job):
    return trio_jobs.Done() if job.key in sheet.references() else trio_jobs.NotDone()


@service.handler(verify=find, attempt_timeout=60)
def order(sheet, pieces: int, job: trio_jobs.JobContext) -> int:
    return sheet.append(job.key, pieces)


async def main():
    async with service.open(journal=f"{FILE}-jobs.db") as queue:
        receipt = await queue.submit(order, 12, key="O-1")
        print("O-1 is in row", await queue.result(receipt.job_id))


if __name__ == "__main__":
    trio.run(main)

import contextlib

import trio_jobs


@contextlib.contextmanager
def open_printer():
    printed = []
    yield printed


service = trio_jobs.Service(sdk=open_printer)


@service.handler(idempotent=True)
def print_label(printer, text: str) -> str:
    printer.append(text)
    return f"label {len(printer)}: {text}"

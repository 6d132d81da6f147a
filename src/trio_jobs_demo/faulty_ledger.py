"""A ledger that fails by script, for the demo and its tests."""

from __future__ import annotations

import enum
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, final

from trio_jobs_demo.ledger import AccountBalance, Books, LedgerBusy, LedgerConnectionLost, VoucherNumber
from trio_jobs_demo.vouchers import Voucher

__all__ = ["SLOW_SECONDS", "CrashingLedger", "Fault", "FaultScript", "FaultyLedger"]

# Long enough to see on the screen, short enough to watch several times.
SLOW_SECONDS: Final = 0.4


class Fault(enum.StrEnum):
    """The fault of one create call."""

    BUSY = "busy"
    """It raises `LedgerBusy` without calling the ledger."""
    SLOW = "slow"
    """It takes `slow_seconds` longer."""
    BOOKS_THEN_RAISES = "books_then_raises"
    """The voucher is booked, then it raises `LedgerConnectionLost`: the caller does not know the outcome."""
    BOOKS_THEN_SILENT = "books_then_silent"
    """The same, and the next `find` of the reference raises `LedgerBusy`: `verify` does not know the outcome either."""


# For each reference the faults of its create calls in this process, in order; None for a call without a fault.
FaultScript = Mapping[str, Sequence[Fault | None]]


class _LedgerWrapper:
    """Forwards every method but `create_voucher` to another ledger."""

    def __init__(self, ledger: Books) -> None:
        self._ledger = ledger

    def find(self, reference: str) -> tuple[VoucherNumber, ...]:
        return self._ledger.find(reference)

    def origin(self, number: VoucherNumber) -> str:
        return self._ledger.origin(number)

    def book_id(self) -> str:
        return self._ledger.book_id()

    def voucher_count(self) -> int:
        return self._ledger.voucher_count()

    def trial_balance(self) -> tuple[AccountBalance, ...]:
        return self._ledger.trial_balance()

    def close(self) -> None:
        self._ledger.close()


@final
class FaultyLedger(_LedgerWrapper):
    """A ledger whose create calls fail by script. Every other call, `close` too, goes to the wrapped ledger.

    Args:
        ledger: The wrapped ledger.
        script: The faults.
        calls: How many create calls each reference had in earlier sessions. Counted up here.
        silent: How many calls of `find` for each reference are to raise. Counted up and down here.
        slow_seconds: What `Fault.SLOW` adds to a call.
        sleep: Blocks the calling thread for that many seconds.
    """

    def __init__(
        self,
        ledger: Books,
        script: FaultScript,
        calls: Counter[str],
        silent: Counter[str] | None = None,
        *,
        slow_seconds: float = SLOW_SECONDS,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        super().__init__(ledger)
        self._script = script
        self._slow_seconds = slow_seconds
        self._sleep = sleep
        self._calls = calls
        self._silent = Counter[str]() if silent is None else silent

    def find(self, reference: str) -> tuple[VoucherNumber, ...]:
        """The vouchers of a reference, unless the script has a fault for this call."""
        if self._silent[reference]:
            self._silent[reference] -= 1
            raise LedgerBusy("the ledger does not answer")
        return super().find(reference)

    def create_voucher(self, voucher: Voucher) -> VoucherNumber:
        """Book a voucher, with the fault that the script has for this call."""
        faults = self._script.get(voucher.reference, ())
        call = self._calls[voucher.reference]
        self._calls[voucher.reference] += 1
        fault = faults[call] if call < len(faults) else None
        if fault is Fault.BUSY:
            raise LedgerBusy("the ledger is busy")
        if fault is Fault.SLOW:
            self._sleep(self._slow_seconds)
        number = self._ledger.create_voucher(voucher)
        if fault is Fault.BOOKS_THEN_SILENT:
            self._silent[voucher.reference] += 1
        if fault in (Fault.BOOKS_THEN_RAISES, Fault.BOOKS_THEN_SILENT):
            raise LedgerConnectionLost("the connection was lost before the answer arrived")
        return number


@final
class CrashingLedger(_LedgerWrapper):
    """A ledger that kills the process in a create call, after the voucher is booked and before the call returns.

    Args:
        ledger: The wrapped ledger.
        calls: Yields for each create call, in all sessions, whether it kills the process.
        die: Ends the process immediately.
    """

    def __init__(self, ledger: Books, calls: Iterator[bool], *, die: Callable[[], object] | None = None) -> None:
        super().__init__(ledger)
        self._calls = calls
        self._die = die or _kill_this_process

    def create_voucher(self, voucher: Voucher) -> VoucherNumber:
        """Book a voucher. The call that kills the process does not return."""
        number = self._ledger.create_voucher(voucher)
        if next(self._calls):
            self._die()
        return number


def _kill_this_process() -> None:
    if hasattr(signal, "SIGKILL"):
        os.kill(os.getpid(), signal.SIGKILL)
    os._exit(137)

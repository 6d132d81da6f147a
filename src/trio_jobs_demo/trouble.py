"""A ledger that misbehaves as told: an SDK's bad day, for a demo to show and a test to count."""

from __future__ import annotations

import enum
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final, final

from trio_jobs_demo.ledger import AccountBalance, Books, LedgerBusy, LedgerConnectionLost, VoucherNumber
from trio_jobs_demo.vouchers import Voucher

__all__ = ["SLOW_SECONDS", "CrashingLedger", "Script", "Trouble", "TroubledLedger"]

# Long enough for a person to see, short enough to watch several of them.
SLOW_SECONDS: Final = 0.4


class Trouble(enum.StrEnum):
    """What happens to one create call.

    BUSY: it raises `LedgerBusy`, and the real ledger is not called. SLOW: it takes `slow_seconds` longer.
    BOOKS_THEN_RAISES: the voucher is booked, and then it raises `LedgerConnectionLost`: the caller cannot know.
    """

    BUSY = "busy"
    SLOW = "slow"
    BOOKS_THEN_RAISES = "books_then_raises"


# By reference, what happens to its first, second, ... create call in this session. None, or the end: nothing special.
Script = Mapping[str, Sequence[Trouble | None]]


class _Around:
    """Another ledger with everything but `create_voucher` as it was."""

    def __init__(self, ledger: Books) -> None:
        self._ledger = ledger

    def find(self, reference: str) -> tuple[VoucherNumber, ...]:
        return self._ledger.find(reference)

    def voucher_count(self) -> int:
        return self._ledger.voucher_count()

    def trial_balance(self) -> tuple[AccountBalance, ...]:
        return self._ledger.trial_balance()

    def close(self) -> None:
        self._ledger.close()


@final
class TroubledLedger(_Around):
    """A ledger with its `script` of troubles; everything else goes to the ledger it wraps, `close` too.

    slow_seconds: what SLOW adds. sleep: blocks the calling thread for so many seconds, as a slow SDK would.
    """

    def __init__(
        self,
        ledger: Books,
        script: Script,
        *,
        slow_seconds: float = SLOW_SECONDS,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        super().__init__(ledger)
        self._script = script
        self._slow_seconds = slow_seconds
        self._sleep = sleep
        self._calls: Counter[str] = Counter()

    def create_voucher(self, voucher: Voucher) -> VoucherNumber:
        """As the ledger's, and as the script says."""
        troubles = self._script.get(voucher.reference, ())
        call = self._calls[voucher.reference]
        self._calls[voucher.reference] += 1
        trouble = troubles[call] if call < len(troubles) else None
        if trouble is Trouble.BUSY:
            raise LedgerBusy("the ledger is busy")
        if trouble is Trouble.SLOW:
            self._sleep(self._slow_seconds)
        number = self._ledger.create_voucher(voucher)
        if trouble is Trouble.BOOKS_THEN_RAISES:
            raise LedgerConnectionLost("the connection broke before the answer came")
        return number


@final
class CrashingLedger(_Around):
    """A ledger whose process dies in a create call: the voucher is booked, and the answer never comes.

    at: which create call of this session, from 1. die: ends the process without another instruction of it being run.
    """

    def __init__(self, ledger: Books, at: int, *, die: Callable[[], object] | None = None) -> None:
        super().__init__(ledger)
        self._left = at
        self._die = die or _kill_this_process

    def create_voucher(self, voucher: Voucher) -> VoucherNumber:
        """As the ledger's; the one that was named does not return."""
        number = self._ledger.create_voucher(voucher)
        self._left -= 1
        if self._left == 0:
            self._die()
        return number


def _kill_this_process() -> None:
    if hasattr(signal, "SIGKILL"):
        os.kill(os.getpid(), signal.SIGKILL)
    os._exit(137)

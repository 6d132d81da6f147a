"""Refused clients and requests: counted by reason, and logged at most once a minute for each reason."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, final

import attrs
import trio

from trio_jobs._concurrency import Alarm
from trio_jobs._engine.jobs import escape
from trio_jobs._log import Log

__all__ = ["Reason", "Refusals"]

log: Final = Log("trio_jobs.server")

PERIOD: Final = 60.0  #: seconds between two log messages about the same reason
MAX_ADDRESSES: Final = 100  #: addresses that are counted for a message; further ones are counted together
SHOWN: Final = 3  #: addresses in a message, those with most refusals first
OTHERS: Final = "other addresses"


class Reason(StrEnum):
    """Why a client or its request was refused."""

    TOKEN = "token"  # noqa: S105 - no secret  #: the token is missing or invalid
    ORIGIN = "origin"  #: the origin of the web page is not allowed
    HOST = "host"  #: the request is for a host name that the server does not have
    REQUEST = "request"  #: the HTTP head or the WebSocket handshake is malformed
    TLS = "tls"  #: the TLS handshake failed
    TIMEOUT = "timeout"  #: the handshake was not complete in time
    FULL = "full"  #: all connections are in use
    RATE = "rate"  #: a request exceeded a limit and was answered with an error
    KICKED = "kicked"  #: the connection was closed because of what the client sent
    SLOW = "slow"  #: the connection was closed because the client read nothing


@attrs.define
class _Period:
    """The refusals since the last message about a reason."""

    end: float
    """When the next message is allowed, on Trio's clock."""
    count: int = 0
    detail: str = ""
    """What was wrong with the last one."""
    address: str = ""
    """The address of the last one."""
    addresses: dict[str, int] = attrs.field(factory=dict)

    def add(self, detail: str, address: str) -> None:
        self.count += 1
        self.detail, self.address = detail, address
        if address not in self.addresses and len(self.addresses) >= MAX_ADDRESSES:
            address = OTHERS
        self.addresses[address] = self.addresses.get(address, 0) + 1


@final
class Refusals:
    """The refusals of one server. The first one of a reason is logged at once, later ones together after a minute."""

    def __init__(self) -> None:
        self._counts = dict.fromkeys(Reason, 0)
        self._periods: dict[Reason, _Period] = {}
        self._alarm = Alarm()

    @property
    def counts(self) -> Mapping[str, int]:
        """The number of refusals of each reason since the start of the server."""
        return {str(reason): count for reason, count in self._counts.items()}

    def add(self, reason: Reason, detail: str, address: str) -> None:
        """Count a refusal.

        Args:
            reason: As what it is counted.
            detail: What is wrong, and how to allow it. It must not contain a secret.
            address: The address of the client.
        """
        self._counts[reason] += 1
        period = self._periods.get(reason)
        if period is not None:
            period.add(detail, address)
            return
        self._begin(reason)
        _log(reason, 1, f"refused ({reason}): {detail}; from {address}", address)

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        """Log what was counted, until cancelled."""
        while True:
            await self._alarm.wait()
            now = trio.current_time()
            for reason, period in [*self._periods.items()]:
                if now < period.end:
                    self._alarm.set(period.end)
                elif period.count:
                    self._begin(reason)
                    _log_period(reason, period)
                else:
                    del self._periods[reason]

    def flush(self) -> None:
        """Log what was counted and not logged yet, at the end of the server."""
        for reason, period in self._periods.items():
            if period.count:
                _log_period(reason, period)
        self._periods.clear()

    def _begin(self, reason: Reason) -> None:
        end = trio.current_time() + PERIOD
        self._periods[reason] = _Period(end)
        self._alarm.set(end)


def _log_period(reason: Reason, period: _Period) -> None:
    most = sorted(period.addresses.items(), key=lambda item: (item[0] == OTHERS, -item[1]))
    shown = [f"{address} ({count})" for address, count in most[:SHOWN]]
    if rest := sum(count for _, count in most[SHOWN:]):
        shown.append(f"{OTHERS} ({rest})")
    text = f"refused ({reason}) {period.count} more: {period.detail}; from {', '.join(shown)}"
    _log(reason, period.count, text, period.address)


def _log(reason: Reason, count: int, text: str, address: str) -> None:
    log.warning("%s", escape(text), extra={"reason": str(reason), "count": count, "address": escape(address)})

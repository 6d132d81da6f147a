"""A rate limit for each address of clients that have not identified themselves."""

from __future__ import annotations

from typing import Final

from trio_jobs._server.limits import RateLimiter

__all__ = ["AddressLimiter"]

MAX_ADDRESSES: Final = 4096  #: addresses that are remembered at a time


class AddressLimiter:
    """A token bucket for each address.

    The number of addresses that are remembered is limited. If there are more within the time in which a bucket fills
    up, the others share one bucket: an attacker with many addresses gets no more than one with a few.

    Args:
        size: What an address may take at once after a pause.
        rate: What it may take per second.
        most: The number of addresses that are remembered.
    """

    def __init__(self, size: float, rate: float, most: int = MAX_ADDRESSES) -> None:
        self._size = size
        self._rate = rate
        self._most = most
        self._buckets: dict[str, tuple[RateLimiter, float]] = {}
        self._others: RateLimiter | None = None

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, address: str, amount: float, now: float) -> float:
        """Take `amount` for an address.

        Args:
            address: The address, without a port.
            amount: What a request costs.
            now: The time, on any monotonic clock.

        Returns:
            0 if it was taken; otherwise the seconds after which it can be taken.
        """
        bucket = self._bucket(address, now)
        wait = bucket.wait_for(amount, now)
        if wait == 0:
            bucket.take(amount, now)
        return wait

    def _bucket(self, address: str, now: float) -> RateLimiter:
        found = self._buckets.pop(address, None)
        if found is None:
            self._forget(now)
            if len(self._buckets) >= self._most:
                self._others = self._others or RateLimiter(self._size, self._rate, now)
                return self._others
        bucket = RateLimiter(self._size, self._rate, now) if found is None else found[0]
        self._buckets[address] = (bucket, now)  # the order is that of the last use
        return bucket

    def _forget(self, now: float) -> None:
        """Drop the addresses whose buckets are full again."""
        fills_up = self._size / self._rate
        while self._buckets:
            address, (_, used_at) = next(iter(self._buckets.items()))
            if now - used_at < fills_up:
                break
            del self._buckets[address]

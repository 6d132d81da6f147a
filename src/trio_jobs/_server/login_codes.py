"""Login codes: texts that a person opens in a browser, once, instead of pasting a token.

A code is in the fragment of a URL, so a browser sends it to no server. Whoever finds it later in a history or a log
cannot use it: it is valid for five minutes, and once.
"""

from __future__ import annotations

import hashlib
from typing import Final

import attrs

from trio_jobs._server.address_limiter import AddressLimiter
from trio_jobs._server.identity import Identity
from trio_jobs._server.signatures import encode64

__all__ = ["CODE_SIZE", "LIFETIME", "LoginCodes", "LoginRefused"]

CODE_SIZE: Final = 16  #: random bytes of a code
LIFETIME: Final = 300.0  #: seconds for which a code is valid
MAX_CODES: Final = 1000  #: codes that are valid at a time; the oldest ones are dropped for further ones
TRIES: Final = 10  #: tries of an address at once, and in a minute


class LoginRefused(Exception):
    """A login code is not accepted.

    Args:
        why: The reason, with what to do. It contains nothing of the code.
        retry_after: Seconds after which the address may try again; None if it is the code that is refused.
    """

    def __init__(self, why: str, retry_after: float | None = None) -> None:
        self.retry_after = retry_after
        super().__init__(why)


@attrs.frozen
class _Code:
    identity: Identity
    expires_at: float


class LoginCodes:
    """The login codes of one server. Chance and time are arguments; the time is monotonic."""

    def __init__(self) -> None:
        self._codes: dict[bytes, _Code] = {}
        self._tries = AddressLimiter(TRIES, TRIES / 60)

    def __len__(self) -> int:
        return len(self._codes)

    def create(self, identity: Identity, random: bytes, now: float) -> str:
        """Make a code.

        Args:
            identity: Who logs in with it, identified by its token.
            random: `CODE_SIZE` random bytes.
            now: The time.
        """
        self._codes = {digest: code for digest, code in self._codes.items() if code.expires_at > now}
        while len(self._codes) >= MAX_CODES:
            del self._codes[next(iter(self._codes))]
        code = encode64(random)
        self._codes[_digest(code)] = _Code(identity, now + LIFETIME)
        return code

    def redeem(self, code: str, address: str, now: float) -> Identity:
        """Return who logs in with a code, and make it invalid.

        Args:
            code: The code.
            address: The address of the client, whose tries are limited.
            now: The time.

        Raises:
            LoginRefused: It is no valid code, or the address has tried too often.
        """
        wait = self._tries.take(address, 1, now)
        if wait > 0:
            raise LoginRefused("too many logins were tried from this address; wait a minute", wait)
        found = self._codes.pop(_digest(code), None)
        if found is None or found.expires_at <= now:
            raise LoginRefused("the login code is not valid, was used before or has expired; make a new one")
        return found.identity


def _digest(code: str) -> bytes:
    """How a code is kept: what the time of a look-up reveals about a digest reveals nothing about the code."""
    return hashlib.sha256(code.encode("utf-8", "replace")).digest()

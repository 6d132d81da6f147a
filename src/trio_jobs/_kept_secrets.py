"""The port of a store that keeps the keys of its server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

__all__ = ["KeepsSecrets"]


@runtime_checkable
class KeepsSecrets(Protocol):
    """A store that keeps the keys with which a server signs tickets and page sessions, as long as it keeps the jobs.

    With another store these keys are lost with the server. `MemoryStore` and `SqliteStore` conform. Secrets are few and
    small, are no events, and are part of a backup.
    """

    async def secrets(self) -> Mapping[str, str]:
        """All secrets, by name.

        Raises:
            StoreError: They cannot be read.

        Cancelled:
            Nothing has changed.
        """
        ...

    async def keep_secret(self, name: str, value: str) -> None:
        """Keep a secret; it replaces an earlier one of the same name.

        Args:
            name: Lower-case letters.
            value: ASCII characters.

        Raises:
            StoreError: It is not known whether it is kept.

        Cancelled:
            It may be kept.
        """
        ...

"""The results of the methods about who may use a server."""

from __future__ import annotations

from msgspec import Struct

__all__ = ["LoginResult"]


class LoginResult(Struct, frozen=True):
    """code: to be opened in a browser as `/#login=CODE`, once. expires_in: seconds for which it is valid."""

    code: str
    expires_in: float

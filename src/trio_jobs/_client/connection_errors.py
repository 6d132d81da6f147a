"""How a request ends without an answer, within the client."""

from __future__ import annotations

from trio_jobs._errors import ConnectionFailed

__all__ = ["ConnectionLost", "TooLarge"]


class ConnectionLost(ConnectionFailed):
    """The connection is lost.

    Args:
        why: The reason.
        code: The close code; None without a close frame.
        reason: The reason in the close frame.
        blames: The reason may be a request of this client, or an answer to it: the same may happen again.
        sent: The request of this caller was sent, so that it may have been done.
    """

    def __init__(
        self, why: str, code: int | None = None, reason: str = "", *, blames: bool = False, sent: bool = False
    ) -> None:
        self.code = code
        self.reason = reason
        self.blames = blames
        self.sent = sent
        super().__init__(why)


class TooLarge(ConnectionFailed):
    """A request is larger than the server, or a proxy before it, accepts.

    Args:
        size: The bytes of the request.
        most: The limit that the server announces, which the request exceeds; None if it was refused although it does
            not exceed that.
    """

    def __init__(self, size: int, most: int | None) -> None:
        self.size = size
        self.most = most
        limit = f"the server accepts {most}" if most is not None else "the server or a proxy before it accepts fewer"
        super().__init__(f"the request has {size} bytes; {limit}")

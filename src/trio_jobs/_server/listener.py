"""Listening sockets, and the accept loop: the one place that every stranger reaches.

trio's own `serve_listeners` hides the standard library's socket, which is needed to write without a wait, and logs a
traceback ten times a second when descriptors run out. Nothing that happens to one connection reaches this loop.
"""

from __future__ import annotations

import errno
import logging
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Final

import trio

__all__ = ["accept_forever", "listen"]

log: Final = logging.getLogger("trio_jobs.server")

BACKLOG: Final = 1024
PAUSE: Final = 0.1  #: seconds to wait when no descriptor is left
TELL_EVERY: Final = 60.0  #: seconds between two warnings of that
_NONE_LEFT: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})


async def listen(host: str, port: int) -> list[socket.socket]:
    """A socket for each address of `host`, all with the same port. Raises OSError, with none left open."""
    found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    listeners: list[socket.socket] = []
    try:
        for family, kind, proto, _, address in dict.fromkeys(found):
            listener = socket.socket(family, kind, proto)
            listeners.append(listener)
            listener.setblocking(False)
            if sys.platform == "win32":
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
            else:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            place = (address[0], port, *address[2:])
            listener.bind(place)
            port = listener.getsockname()[1]
            listener.listen(BACKLOG)
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    return listeners


async def accept_forever(listener: socket.socket, serve: Callable[[socket.socket], Awaitable[None]]) -> None:
    """Call `serve` (which must not wait for the client) with each accepted socket, until `listener` is closed."""
    told_at = -TELL_EVERY
    while listener.fileno() >= 0:
        try:
            await trio.lowlevel.wait_readable(listener)
        except trio.ClosedResourceError:
            return
        try:
            accepted, _ = listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionError):
            continue  # gone again
        except OSError as error:
            if error.errno not in _NONE_LEFT:
                log.debug("accept: %s", error)
            elif trio.current_time() - told_at >= TELL_EVERY:
                told_at = trio.current_time()
                log.error("no connection can be accepted: %s", error.strerror)
            await trio.sleep(PAUSE)
            continue
        accepted.setblocking(False)
        await serve(accepted)

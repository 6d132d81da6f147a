"""Listening sockets and the accept loop.

`trio.serve_listeners` is not used: it hides the standard library's socket, which is required for a write without a
wait, and it logs a traceback ten times a second while no file descriptor is free. An error of one connection never
reaches this loop.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from trio_jobs._log import Log

__all__ = ["accept_forever", "is_loopback", "listen"]

log: Final = Log("trio_jobs.server")

BACKLOG: Final = 1024
PAUSE: Final = 0.1  #: seconds to wait while no file descriptor is free
TELL_EVERY: Final = 60.0  #: seconds between two log messages about that
_NONE_LEFT: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})


async def listen(host: str, port: int) -> list[socket.socket]:
    """Open a listening socket for each address of `host`, all with the same port.

    Args:
        host: A host name or an address.
        port: The port; 0 for a free one.

    Raises:
        OSError: A socket could not be opened; none is left open.
    """
    try:
        return await _listen(host, port)
    except OSError as error:  # its message does not name the address
        raise OSError(error.errno, f"cannot listen on {host} port {port}: {error.strerror}") from error


async def _listen(host: str, port: int) -> list[socket.socket]:
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


@trio.lowlevel.enable_ki_protection
async def accept_forever(listener: socket.socket, serve: Callable[[socket.socket, str], Awaitable[None]]) -> None:
    """Call `serve` with each accepted socket and the address of its client, until `listener` is closed.

    Args:
        listener: The listening socket.
        serve: Must not wait for the client, since the next one is accepted after it has returned.
    """
    told_at = -TELL_EVERY
    while listener.fileno() >= 0:
        try:
            await trio.lowlevel.wait_readable(listener)
        except trio.ClosedResourceError:
            return
        try:
            accepted, address = listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionError):
            continue  # the client has disconnected
        except OSError as error:
            if error.errno not in _NONE_LEFT:
                log.debug("accept failed: %s", error)
            elif trio.current_time() - told_at >= TELL_EVERY:
                told_at = trio.current_time()
                log.error("no connection can be accepted: %s", error.strerror)
            await trio.sleep(PAUSE)
            continue
        accepted.setblocking(False)
        await serve(accepted, str(address[0]))


def is_loopback(host: str) -> bool:
    """Whether only programs of this machine can reach a server on this host."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

"""`trio-jobs serve module:service`."""

from __future__ import annotations

import argparse
import importlib
import logging
import ssl
import sys
from typing import Any, Final

import trio

from trio_jobs import __version__
from trio_jobs._cli import logs, signals
from trio_jobs._cli.token_file import VARIABLE, default_path, given_token, kept_token, path_beside, write_token
from trio_jobs._errors import JournalInUse, StoreError, UsageError
from trio_jobs._runtime.queue import Queue
from trio_jobs._server.server import serve
from trio_jobs._server.tokens import Token
from trio_jobs._service import Service

__all__ = ["load_service", "run_server"]

log: Final = logging.getLogger("trio_jobs.serve")
SDK_NOT_CLOSED: Final = signals.AT_ONCE


def load_service(name: str) -> Service:
    """The `Service` that `module:name` names. Raises `UsageError`."""
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise UsageError(f"say module:service, not {name!r}")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise UsageError(f"there is no module {error.name!r} here") from None
    except AttributeError:
        raise UsageError(f"module {module!r} has no {attribute!r}") from None
    if not isinstance(found, Service):
        raise UsageError(f"{name} is no Service but {type(found).__name__}")
    return found


def run_server(arguments: argparse.Namespace) -> int:
    """Serve until told to stop. Gives the exit code."""
    logs.begin(as_json=arguments.log_json, verbose=arguments.verbose)
    service = load_service(arguments.service)
    return trio.run(_serve, service, arguments)


async def _serve(service: Service, arguments: argparse.Namespace) -> int:
    if arguments.allow_data_loss and arguments.journal is None:
        raise UsageError("--allow-data-loss is about a journal: say --journal too")
    told = trio.Event()
    scope = trio.CancelScope()
    queue: Queue | None = None

    def on_signal(count: int) -> None:
        if count == 1:
            log.warning("stopping: no new jobs are taken; once more cancels the running attempt")
            told.set()
        else:
            log.warning("cancelling the running attempt; once more leaves at once, without closing the SDK")
            scope.cancel()

    opened: dict[str, Any] = (
        {}
        if arguments.journal is None
        else {"journal": arguments.journal, "allow_data_loss": arguments.allow_data_loss}
    )
    try:
        with signals.handle_signals(on_signal), scope:
            async with service.open(**opened) as queue:
                await _serve_queue(queue, arguments, told, service.settings.drain_timeout)
    except StoreError as error:
        if queue is not None or isinstance(error, JournalInUse):
            raise
        raise UsageError(str(error)) from None  # to try again later is of no use: somebody has to look at it
    if queue is None or queue.report is None:
        return 0
    left = len(queue.report.unfinished)
    log.info("stopped; %s jobs left, the SDK is %s", left, "closed" if queue.report.sdk_closed else "NOT closed")
    return 0 if queue.report.sdk_closed else SDK_NOT_CLOSED


def _tokens(arguments: argparse.Namespace) -> tuple[list[Token], str, bool]:
    """Who is served: the owner's token first; none if none is asked for. Where the owner's is, in words, empty if only
    in the runtime folder; and whether it is written down there. Raises `UsageError`, OSError.

    To be called once the journal is ours, so that no two processes make its token at the same time.
    """
    if arguments.no_token:
        if arguments.watch_token_file is not None:
            raise UsageError("--watch-token-file makes no sense with --no-token: anyone may do anything")
        return [], "no token is asked for", False
    where, recorded = "", False
    if arguments.token_file is not None:
        token = kept_token(arguments.token_file)
        where = f"the token is in {arguments.token_file}"
    elif (given := given_token()) is not None:
        token = given
        where = f"the token is that of {VARIABLE}"
    elif arguments.journal is not None:
        path = path_beside(arguments.journal)
        token, recorded = kept_token(path), True
        where = f"the token is in {path}"
    else:
        # left by a server that was killed; with any port, it is not known yet which file that would be
        left = default_path(arguments.port)
        token = kept_token(left) if arguments.port and left.exists() else Token.random()
        recorded = True
    tokens = [token]
    if arguments.watch_token_file is not None:
        watcher = kept_token(arguments.watch_token_file, "watcher", "watch")
        if watcher.secret == token.secret:
            raise UsageError(f"{arguments.watch_token_file} has the token that controls; name another file")
        tokens.append(watcher)
    return tokens, where, recorded


async def _serve_queue(queue: Queue, arguments: argparse.Namespace, told: trio.Event, drain_timeout: float) -> None:
    tls = None
    if arguments.tls_cert is not None:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(arguments.tls_cert, arguments.tls_key)
    tokens, where, recorded = _tokens(arguments)
    async with serve(
        queue,
        arguments.host,
        arguments.port,
        tokens=tokens or None,
        tls=tls,
        insecure=arguments.insecure,
        origins=arguments.origin,
        hosts=arguments.allow_host,
    ) as server:
        record = default_path(server.port) if recorded else None
        if record is not None:  # where the other commands look, whatever port it came to be
            write_token(record, tokens[0])
        try:
            log.info("trio-jobs %s serves %s at %s", __version__, arguments.service, server.url)
            log.info("%s", where or f"the token is in {record}")
            if arguments.watch_token_file is not None:
                log.info("the one that only looks is in %s", arguments.watch_token_file)
            await told.wait()
            # in memory clients see the end of all that can end; with a journal they are told 1001 now, the queue's own
            # stop finishes the running attempt, and they find its end when they come back
            queue.close_to_submits()
            if queue.paused is None and arguments.journal is None:
                with trio.move_on_after(drain_timeout):
                    await queue.drain()
        finally:
            if record is not None:
                record.unlink(missing_ok=True)

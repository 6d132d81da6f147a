"""`trio-jobs serve module:service`."""

from __future__ import annotations

import argparse
import gc
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import attrs
import trio

from trio_jobs import __version__
from trio_jobs._cli import logs
from trio_jobs._cli.arguments import VARIABLE
from trio_jobs._cli.error_text import ServiceNotLoaded, describe, safe_traceback
from trio_jobs._cli.exit_codes import ExitCode
from trio_jobs._cli.named_tokens import tokens_beside
from trio_jobs._cli.output import print_error
from trio_jobs._cli.signals import handle_signals
from trio_jobs._cli.token_file import (
    path_beside,
    record_token,
    recorded_token,
    stored_token,
    token_from_environment,
)
from trio_jobs._client.page_link import page_link
from trio_jobs._errors import JournalInUse, StoreError, UsageError
from trio_jobs._log import Log
from trio_jobs._runtime.queue import Queue
from trio_jobs._runtime.report import ShutdownReport
from trio_jobs._server.certificates import CertificateFiles, load
from trio_jobs._server.origins import check_origins
from trio_jobs._server.public_url import PublicUrl
from trio_jobs._server.request import check_host_names
from trio_jobs._server.server import Server, serve
from trio_jobs._server.tokens import Token, known
from trio_jobs._service import Service, parts_of
from trio_jobs._service_parts import use_executor

__all__ = ["load_service", "modules_not_collected", "run_server"]

log: Final = Log("trio_jobs.serve")


def load_service(name: str) -> Service:
    """The `Service` that `module:name` names. Raises `UsageError`."""
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise UsageError(f"a service is named as module:service, not {name!r}")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        imported = importlib.import_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # the module can raise anything, also SystemExit
        if isinstance(error, ModuleNotFoundError) and error.name and f"{module}.".startswith(f"{error.name}."):
            raise UsageError(f"there is no module {error.name!r}") from None
        raise ServiceNotLoaded(
            f"module {module!r} cannot be imported: {type(error).__name__}: {describe(error)}",
            safe_traceback(error, with_ours=False),
        ) from error
    try:
        found = getattr(imported, attribute)
    except AttributeError:
        raise UsageError(f"module {module!r} has no {attribute!r}") from None
    if not isinstance(found, Service):
        raise UsageError(f"{name} is not a Service but of type {type(found).__name__}")
    return found


def run_server(arguments: argparse.Namespace) -> int:
    """Serve until the first signal. Returns the exit code."""
    logs.configure(as_json=arguments.log_json, verbose=arguments.verbose)
    service = load_service(arguments.service)
    if arguments.executor is not None:
        use_executor(service, parts_of(service), service.settings, arguments.executor)
    with modules_not_collected():
        return trio.run(_serve, service, arguments)


@contextmanager
def modules_not_collected() -> Iterator[None]:
    """Exclude what exists now from the garbage collector, which is what modules consist of.

    So a full collection does not visit it, which takes half of the time, and it is known that nothing of it becomes
    garbage. That is not known of what exists once the SDK is open: a session that is discarded may have to be collected
    to free what it uses. A process that has called `gc.freeze` itself is left alone.
    """
    if gc.get_freeze_count():
        yield
        return
    gc.collect()
    try:
        gc.freeze()
        yield
    finally:
        gc.unfreeze()


def _certificate(arguments: argparse.Namespace) -> CertificateFiles | None:
    """The certificate. It is read here too, so that a wrong file is reported before the SDK is opened."""
    if arguments.tls_cert is None:
        if arguments.tls_key is not None:
            raise UsageError("--tls-key needs --tls-cert, the file of the certificate")
        return None
    files = CertificateFiles(arguments.tls_cert, arguments.tls_key)
    load(files)
    return files


async def _serve(service: Service, arguments: argparse.Namespace) -> int:
    if arguments.allow_data_loss and arguments.journal is None:
        raise UsageError("--allow-data-loss needs --journal")
    tls = _certificate(arguments)
    check_host_names(arguments.allow_host)  # as for the certificate
    check_origins(arguments.origin)
    if arguments.public_url is not None:
        PublicUrl.parse(arguments.public_url)
    stop = trio.Event()
    scope = trio.CancelScope()
    queue: Queue | None = None

    def on_signal(count: int) -> None:
        if count == 1 and queue is None:
            log.warning("stopping before the SDK is open")
            scope.cancel()
        elif count == 1:
            log.warning("stopping: no new jobs are accepted; a second signal cancels the running attempt")
            stop.set()
        else:
            log.warning("cancelling the running attempt; a third signal exits at once, without closing the SDK")
            scope.cancel()

    options: dict[str, Any] = (
        {}
        if arguments.journal is None
        else {"journal": arguments.journal, "allow_data_loss": arguments.allow_data_loss}
    )
    try:
        with handle_signals(on_signal), scope:
            async with service.open(**options) as queue:
                await _serve_queue(queue, arguments, tls, stop, service.settings.drain_timeout)
    except StoreError as error:
        if queue is not None and queue.report is not None:  # the journal has failed while it was in use
            log.error("stopped: %s", describe(error))
            return _exit_code_of(queue.report, stored=False)
        if isinstance(error, JournalInUse):
            raise
        raise UsageError(describe(error)) from None  # exit code 2, not 5: to try again later does not help
    if queue is None or queue.report is None:
        return ExitCode.DONE
    report = queue.report
    unfinished = len(report.unfinished)
    how = "NOT closed" if not report.sdk_closed else "closed" if report.sdk_problem is None else "closed with an error"
    log.info("stopped; %s jobs left, the SDK is %s", unfinished, how)
    return _exit_code_of(report, stored=not report.unstored_events)


def _exit_code_of(report: ShutdownReport, *, stored: bool) -> ExitCode:
    """The exit code of `serve` after a stop. Where several apply, the lowest."""
    if not report.sdk_closed:
        return ExitCode.SDK_NOT_CLOSED
    if report.sdk_problem is not None:
        return ExitCode.CLOSE_FAILED
    return ExitCode.DONE if stored else ExitCode.NOT_STORED


@attrs.frozen
class _Tokens:
    """The tokens of a server."""

    tokens: list[Token]
    """The one of scope control first; none with --no-token."""
    where: str = ""
    """A sentence about where the token of scope control is; empty if it is only recorded."""
    file: Path | None = None
    """The file of named tokens; None without one."""
    advice: str = ""
    """How the other commands get the token where it cannot be recorded; empty if it is not to be recorded."""


def _tokens(arguments: argparse.Namespace) -> _Tokens:
    """Read or create the tokens.

    Call this once the journal is locked, so that no two processes create its token. Raises `UsageError`, OSError.
    """
    if arguments.no_token:
        if arguments.watch_token_file is not None:
            raise UsageError("--watch-token-file cannot be combined with --no-token")
        if arguments.tokens is not None:
            raise UsageError("--tokens cannot be combined with --no-token")
        return _Tokens([], "no token is required")
    where = advice = ""
    if arguments.token_file is not None:
        token = stored_token(arguments.token_file)
        where = f"the token is in {arguments.token_file}"
    elif (given := token_from_environment()) is not None:
        token = given
        where = f"the token is that of {VARIABLE}"
    elif arguments.journal is not None:
        path = path_beside(arguments.journal)
        token, advice = stored_token(path), f"give them --token-file {path}"
        where = f"the token is in {path}"
    else:
        # the file of a server that was killed; with port 0 the port, and so the file, is not known yet
        token = (recorded_token(arguments.port) if arguments.port else None) or Token.random()
        advice = f"give serve --token-file PATH, {VARIABLE} or --no-token"
    tokens = [token]
    if arguments.watch_token_file is not None:
        watcher = stored_token(arguments.watch_token_file, "watcher", "watch")
        if watcher.secret == token.secret:
            raise UsageError(f"{arguments.watch_token_file} contains the token of scope control; name another file")
        tokens.append(watcher)
    file = arguments.tokens or (None if arguments.journal is None else tokens_beside(arguments.journal))
    return _Tokens(tokens, where, file, advice)


def _record(found: _Tokens, port: int) -> Path | None:
    """Write the token to the file in which the other commands look for it, by the port. Returns that file, if written.

    Raises:
        UsageError: There is no such file, and nothing else has the token.
    """
    if not found.advice:
        return None
    try:
        return record_token(port, found.tokens[0])
    except UsageError as error:
        problem = f"the token cannot be recorded for the other commands, since {error}; {found.advice}"
    if not found.where:
        raise UsageError(problem)
    log.warning("%s", problem)
    return None


def _print_login(server: Server, found: _Tokens, arguments: argparse.Namespace) -> None:
    """Print a link to the page to a terminal. It must be in no log, since whoever opens it has the owner's token."""
    logins = server.access.logins
    if logins is None or arguments.no_page or arguments.log_json or sys.stderr is None or not sys.stderr.isatty():
        return
    code = logins.new_code(known(found.tokens[0]).identity)
    print_error(f"the page, once and within five minutes: {page_link(server.url, code, logins.page)}")


async def _serve_queue(
    queue: Queue,
    arguments: argparse.Namespace,
    tls: CertificateFiles | None,
    stop: trio.Event,
    drain_timeout: float,
) -> None:
    found = _tokens(arguments)
    async with serve(
        queue,
        arguments.host,
        arguments.port,
        tokens=found.tokens or None,
        token_file=found.file,
        tls=tls,
        insecure=arguments.insecure,
        origins=arguments.origin,
        hosts=arguments.allow_host,
        public_url=arguments.public_url,
        page=not arguments.no_page,
    ) as server:
        record = _record(found, server.port)
        try:
            log.info("trio-jobs %s serves %s at %s", __version__, arguments.service, server.url)
            http = server.url.replace("ws", "http", 1).removesuffix("/ws")
            log.info("the HTTP API is at %s/v1, described by %s/openapi.json", http, http)
            log.info("%s", found.where or f"the token is in {record}")
            if arguments.watch_token_file is not None:
                log.info("the token of scope watch is in %s", arguments.watch_token_file)
            _print_login(server, found, arguments)
            await stop.wait()
            # in memory, clients still get the results of all jobs that can finish; with a journal they are disconnected
            # with 1001 now, the shutdown of the queue finishes the running attempt, and the next server has its result
            queue.close_to_submits()
            if queue.paused is None and arguments.journal is None:
                with trio.move_on_after(drain_timeout):
                    await queue.drain()
        finally:
            if record is not None:
                try:
                    record.unlink(missing_ok=True)
                except OSError as error:
                    log.warning("the file %s with the token could not be removed: %s", record, error.strerror)

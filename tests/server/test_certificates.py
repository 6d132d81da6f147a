"""The certificate of a server: new connections get the one that is in the files, and errors name the file."""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from test_http import get
from trio.testing import MockClock, wait_all_tasks_blocked

from support.certificates import make_certificate
from support.processes import run
from support.server import OWNER, WATCHER, Bench, Raw, bench, handshake, make_service, patient
from support.waiting import deadline
from trio_jobs import CertificateFiles, UsageError
from trio_jobs._server import x509
from trio_jobs._server.certificates import Certificate, load
from trio_jobs._server.server import serve

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)


def der(path: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(path.read_text())


async def connected(b: Bench) -> trio.SSLStream[Any]:
    """A client that accepts every certificate, after its TLS handshake."""
    trust = ssl.create_default_context()
    trust.check_hostname = False
    trust.verify_mode = ssl.CERT_NONE
    stream = await trio.open_ssl_over_tcp_stream("127.0.0.1", b.port, ssl_context=trust, https_compatible=True)
    await stream.do_handshake()
    return stream


async def served(b: Bench) -> bytes:
    """The certificate that a new connection gets."""
    async with await connected(b) as stream:
        found = stream.getpeercert(binary_form=True)
        assert isinstance(found, bytes)
        return found


@pytest.fixture
def each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The files are looked at for each connection."""
    monkeypatch.setattr("trio_jobs._server.certificates.CHECK_INTERVAL", 0.0)


def rewrite(live: Path, new: tuple[Path, Path]) -> None:
    """As `cp` does, in place."""
    (live / "cert.pem").write_bytes(new[0].read_bytes())
    (live / "key.pem").write_bytes(new[1].read_bytes())


def rename(live: Path, new: tuple[Path, Path]) -> None:
    """As `mv` and configuration tools do."""
    for source, name in zip(new, ("cert.pem", "key.pem"), strict=True):
        copy = live / f"{name}.new"
        shutil.copy(source, copy)
        copy.replace(live / name)


def relink(live: Path, new: tuple[Path, Path]) -> None:
    """As certbot does: each name is a link to a numbered file."""
    for source, name in zip(new, ("cert.pem", "key.pem"), strict=True):
        (live / f"{name}.link").symlink_to(source)
        (live / f"{name}.link").replace(live / name)


def swap(live: Path, new: tuple[Path, Path]) -> None:
    """As Kubernetes does: the names are links into a folder that is itself a link, and that one is replaced."""
    folder = live / f"..{new[0].parent.name}"
    folder.mkdir()
    for source, name in zip(new, ("cert.pem", "key.pem"), strict=True):
        shutil.copy(source, folder / name)
        if not (live / name).is_symlink():
            (live / name).unlink(missing_ok=True)
            (live / name).symlink_to(Path("..data") / name)
    (live / "..data_tmp").symlink_to(folder.name)
    (live / "..data_tmp").replace(live / "..data")


@pytest.mark.parametrize("replace", [rewrite, rename, relink, swap], ids=lambda replace: replace.__name__)
async def test_new_connections_get_a_renewed_certificate_and_open_ones_stay(
    replace: Callable[[Path, tuple[Path, Path]], None],
    tmp_path: Path,
    each_time: None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "trio_jobs.server")
    live = tmp_path / "live"
    live.mkdir()
    first, second, third = (make_certificate(tmp_path / name) for name in ("first", "second", "third"))
    replace(live, first)
    files = CertificateFiles(live / "cert.pem", live / "key.pem")
    async with bench(limits=patient(close_timeout=1.0), tls=files) as b:
        assert await served(b) == der(first[0])
        stream: Any = await connected(b)
        client = Raw(stream)
        await client.send(handshake())
        assert (await client.read_head()).startswith(b"HTTP/1.1 101 ")
        for new in (second, third):
            replace(live, new)
            assert await served(b) == der(new[0])
            assert await served(b) == der(new[0])
        assert (await client.ask("server.hello"))["name"] == "ann"
        await client.say_goodbye()
    assert caplog.text.count("was read again") == 2


def empty(live: Path) -> None:
    (live / "cert.pem").write_bytes(b"")


def garbage(live: Path) -> None:
    (live / "cert.pem").write_text("-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n")


def half(live: Path) -> None:
    text = (live / "key.pem").read_text()
    (live / "key.pem").write_text(text[: len(text) // 2])


def another_key(live: Path) -> None:
    shutil.copy(make_certificate(live, name="other")[1], live / "key.pem")


def missing(live: Path) -> None:
    (live / "cert.pem").unlink()


def folder(live: Path) -> None:
    (live / "cert.pem").unlink()
    (live / "cert.pem").mkdir()


def pipe(live: Path) -> None:
    """Opening it would wait for a writer."""
    (live / "key.pem").unlink()
    os.mkfifo(live / "key.pem")


BROKEN = [empty, garbage, half, another_key, missing, folder, *([pipe] if hasattr(os, "mkfifo") else [])]


@pytest.mark.parametrize("break_it", BROKEN, ids=lambda break_it: break_it.__name__)
async def test_a_broken_new_certificate_keeps_the_old_one_and_is_logged_once(
    break_it: Callable[[Path], None], tmp_path: Path, each_time: None, caplog: pytest.LogCaptureFixture
) -> None:
    live = tmp_path / "live"
    live.mkdir()
    first, second = make_certificate(tmp_path / "first"), make_certificate(tmp_path / "second")
    rewrite(live, first)
    async with bench(limits=patient(), tls=CertificateFiles(live / "cert.pem", live / "key.pem")) as b:
        break_it(live)
        for _ in range(3):
            assert await served(b) == der(first[0])
        [record] = [record for record in caplog.records if record.levelno >= logging.WARNING]
        assert record.levelno == logging.ERROR
        broken = "key.pem" if break_it in (half, another_key, pipe) else "cert.pem"
        assert str(live / broken) in record.getMessage()
        for name in ("cert.pem", "key.pem"):
            (live / name).rmdir() if (live / name).is_dir() else (live / name).unlink(missing_ok=True)
        rewrite(live, second)
        assert await served(b) == der(second[0])
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1


async def test_the_files_are_looked_at_once_a_second(tmp_path: Path, mock_clock: MockClock) -> None:
    first, second = make_certificate(tmp_path / "first"), make_certificate(tmp_path / "second")
    certificate = Certificate(CertificateFiles(*first), lambda: datetime.now(UTC).timestamp())
    context = certificate.context()
    for source, target in zip(second, first, strict=True):
        source.replace(target)
    mock_clock.jump(0.9)
    assert certificate.context() is context
    mock_clock.jump(0.2)
    renewed = certificate.context()
    assert renewed is not context
    mock_clock.jump(1.1)
    assert certificate.context() is renewed


@pytest.mark.parametrize("break_it", BROKEN, ids=lambda break_it: break_it.__name__)
async def test_a_certificate_that_cannot_be_used_is_refused_at_the_start_and_named(
    break_it: Callable[[Path], None], tmp_path: Path
) -> None:
    live = tmp_path / "live"
    live.mkdir()
    rewrite(live, make_certificate(tmp_path / "first"))
    break_it(live)
    broken = "key.pem" if break_it in (half, another_key, pipe) else "cert.pem"
    async with make_service().open() as queue:
        with pytest.raises(UsageError) as caught:
            async with serve(queue, port=0, tokens=[OWNER], tls=CertificateFiles(live / "cert.pem", live / "key.pem")):
                pass
    assert str(live / broken) in str(caught.value)


def test_a_certificate_without_its_key_says_how_to_name_it(tmp_path: Path) -> None:
    cert, key = make_certificate(tmp_path)
    with pytest.raises(UsageError, match=r"own\.pem contains no private key; .*--tls-key"):
        load(CertificateFiles(cert))
    with pytest.raises(UsageError, match=r"own\.key contains no certificate"):
        load(CertificateFiles(key, cert))
    both = tmp_path / "both.pem"
    both.write_text(cert.read_text() + key.read_text())
    assert load(CertificateFiles(str(both))).not_after == load(CertificateFiles(cert, key)).not_after


def test_an_encrypted_key_is_refused_without_asking_for_its_passphrase(tmp_path: Path) -> None:
    cert, key = make_certificate(tmp_path)
    encrypted = tmp_path / "encrypted.key"
    password = ["-aes256", "-passout", "pass:secret"]
    run(["openssl", "pkey", "-in", str(key), *password, "-out", str(encrypted)], check=True)
    with pytest.raises(UsageError, match=r"the private key in .*encrypted\.key is encrypted"):
        load(CertificateFiles(cert, encrypted))
    traditional = tmp_path / "traditional.key"
    run(["openssl", "ec", "-in", str(key), *password, "-out", str(traditional)], check=True)
    with pytest.raises(UsageError, match="is encrypted"):
        load(CertificateFiles(cert, traditional))


async def test_tls_is_files_or_a_context_for_servers(tmp_path: Path) -> None:
    async with make_service().open() as queue:
        for tls, why in ((ssl.create_default_context(), "for clients"), ("cert.pem", "not str"), (True, "not bool")):
            with pytest.raises(UsageError, match=why):
                async with serve(queue, port=0, tokens=[OWNER], tls=tls):  # type: ignore[arg-type]
                    pass


async def test_a_program_can_renew_the_certificate_of_its_own_context(tmp_path: Path) -> None:
    first, second = make_certificate(tmp_path / "first"), make_certificate(tmp_path / "second")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*first)
    async with bench(limits=patient(), tls=context) as b:
        assert await served(b) == der(first[0])
        context.load_cert_chain(*second)
        assert await served(b) == der(second[0])


# dates

DATES = {
    "valid": (timedelta(days=-1), timedelta(days=89), None),
    "renewed six days before its end": (timedelta(days=-84), timedelta(days=6), "expires at 2026-12-05 12:00 UTC"),
    "of six days, renewed in time": (timedelta(days=-4), timedelta(days=2), None),
    "of six days": (timedelta(days=-5.5), timedelta(days=0.5), "expires at 2026-11-30 00:00 UTC"),
    "expired": (timedelta(days=-2), timedelta(seconds=-1), "expired at 2026-11-29 11:59 UTC, and clients refuse it"),
    "of tomorrow": (timedelta(days=1), timedelta(days=2), "is not valid before 2026-11-30 12:00 UTC"),
    "of another century": (timedelta(days=-36_000), timedelta(days=36_000), None),
}


@pytest.mark.parametrize("name", DATES)
async def test_a_certificate_that_clients_refuse_or_will_refuse_soon_is_logged(
    name: str, tmp_path: Path, mock_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    since, until, warning = DATES[name]
    files = CertificateFiles(*make_certificate(tmp_path, NOW + since, NOW + until))
    certificate = Certificate(files, NOW.timestamp)
    assert certificate.not_after == NOW + until
    count = 0 if warning is None else 1
    for _ in range(2):
        messages = [record.getMessage() for record in caplog.records]
        assert len(messages) == count
        assert all(f"{files.certificate} {warning}" in message for message in messages)
        mock_clock.jump(10)
        certificate.context()
    mock_clock.jump(86_400)  # once a day
    certificate.context()
    assert len(caplog.records) == 2 * count


async def test_a_certificate_that_expires_while_the_server_runs_is_logged(
    tmp_path: Path, mock_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    files = CertificateFiles(*make_certificate(tmp_path, NOW - timedelta(days=80), NOW + timedelta(days=20)))
    now = NOW
    certificate = Certificate(files, lambda: now.timestamp())
    for _ in range(3):
        certificate.context()
        now += timedelta(days=12)
        mock_clock.jump(2)
    certificate.context()
    assert [record.getMessage().partition(" 2026")[0][-10:] for record in caplog.records] == [
        "expires at",
        "expired at",
    ]


async def test_the_end_of_the_certificate_is_in_health_and_metrics(tmp_path: Path) -> None:
    cert, key = make_certificate(tmp_path)
    async with (
        make_service().open() as queue,
        serve(queue, port=0, tokens=[OWNER, WATCHER], tls=CertificateFiles(cert, key)) as server,
    ):
        end = server.certificate_not_after
        assert end is not None
        pages = {}
        for path in ("/healthz", "/metrics"):
            async with await connected(Bench(queue, server)) as stream:
                token = f"Authorization: Bearer {WATCHER.secret}\r\n"
                head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{token}\r\n"
                await stream.send_all(head.encode())
                pages[path] = b"".join([chunk async for chunk in stream]).partition(b"\r\n\r\n")[2]
    assert json.loads(pages["/healthz"])["server"]["certificate_not_after"] == end.isoformat()
    found = [line for line in pages["/metrics"].decode().splitlines() if line.startswith("trio_jobs_certificate")]
    assert [float(line.split()[1]) for line in found] == [end.timestamp()]


async def test_without_files_the_end_of_the_certificate_is_not_known() -> None:
    async with bench() as b:
        assert b.server.certificate_not_after is None
        _, _, body = await get(b.port, "/healthz", WATCHER)
        assert json.loads(body)["server"]["certificate_not_after"] is None


@pytest.mark.parametrize(
    ("start", "end"),
    [(datetime(2049, 12, 31, 23, 59, 59), datetime(2050, 1, 1)), (datetime(1950, 1, 1), datetime(9999, 12, 31, 23))],
)
def test_the_dates_of_a_certificate_are_read(start: datetime, end: datetime, tmp_path: Path) -> None:
    cert, _ = make_certificate(tmp_path, start, end)
    [encoded] = x509.certificates(cert.read_bytes())
    assert encoded == der(cert)
    assert x509.validity(encoded) == (start.replace(tzinfo=UTC), end.replace(tzinfo=UTC))


def test_a_chain_ends_when_its_first_certificate_does(tmp_path: Path) -> None:
    cert, key = make_certificate(tmp_path, NOW - timedelta(days=1), NOW + timedelta(days=50))
    other, _ = make_certificate(tmp_path / "other", NOW - timedelta(days=1), NOW + timedelta(days=40))
    chain = tmp_path / "chain.pem"
    chain.write_text(cert.read_text() + other.read_text())
    assert load(CertificateFiles(chain, key)).not_after == NOW + timedelta(days=40)


@given(st.binary(max_size=80), st.binary(max_size=20))
def test_bytes_that_are_no_certificate_have_no_dates(noise: bytes, rest: bytes) -> None:
    for data in (noise, b"\x30\x70\x30\x60" + noise, b"\x30\x82\x00\x50\x30\x40\xa0\x00" + noise + rest):
        try:
            x509.validity(data)
        except ValueError:
            continue
        except (OverflowError, IndexError) as error:  # pragma: no cover - the rule is that there is none
            raise AssertionError(data) from error


def test_a_certificate_that_is_cut_or_changed_has_no_dates_or_others(tmp_path: Path) -> None:
    cert, _ = make_certificate(tmp_path)
    encoded = der(cert)
    for at in range(len(encoded)):
        for data in (encoded[:at], encoded[:at] + bytes([encoded[at] ^ 0xFF]) + encoded[at + 1 :]):
            try:
                x509.validity(data)
            except ValueError:
                continue


async def test_an_answer_arrives_although_the_client_sends_more_than_the_server_reads(tmp_path: Path) -> None:
    """A close with unread bytes resets the connection, and the client loses the answer."""
    files = CertificateFiles(*make_certificate(tmp_path))
    async with bench(limits=patient(), tls=files) as b:
        for _ in range(20):
            async with await connected(b) as stream:
                head = f"POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: {10**5}\r\n\r\n"
                await stream.send_all(head.encode() + b"x" * 10**5)
                assert b"".join([chunk async for chunk in stream]).startswith(b"HTTP/1.1 405 ")


# refused handshakes


async def test_a_failed_tls_handshake_is_counted_and_a_connection_that_ends_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with bench(limits=patient(), tls=CertificateFiles(*make_certificate(tmp_path))) as b:
        client = await b.socket()
        await client.stream.aclose()  # as a health check of TCP
        await served(b)
        await wait_all_tasks_blocked(0.01)
        assert b.server.refusals["tls"] == 0
        client = await b.socket()
        await client.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        await client.read_all()
        await client.stream.aclose()
        assert b.server.refusals["tls"] == 1

        def distrust() -> None:
            with socket.create_connection(("127.0.0.1", b.port)) as plain, pytest.raises(ssl.SSLError):
                ssl.create_default_context().wrap_socket(plain, server_hostname="localhost")

        await trio.to_thread.run_sync(distrust)
        with deadline("the alert of the client arrives"):
            while b.server.refusals["tls"] < 2:
                await trio.lowlevel.checkpoint()
    assert "refused (tls): the TLS handshake failed: HTTP_REQUEST; from 127.0.0.1" in caplog.text
    assert "UNKNOWN_CA" in caplog.text

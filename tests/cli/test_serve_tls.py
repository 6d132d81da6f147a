"""`trio-jobs serve` with TLS and host names: a wrong option is one line, before the SDK is opened."""

from __future__ import annotations

import contextlib
import http.client
import shutil
import ssl
from pathlib import Path

import pytest

from support.certificates import make_certificate
from support.processes import run
from support.shell import Shell
from support.waiting import wait_until

SERVICE = """
import contextlib
import trio_jobs


@contextlib.contextmanager
def sdk():
    print("the SDK is opened", flush=True)
    yield


service = trio_jobs.Service(sdk=sdk)
"""


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--tls-key", "key.pem"], "--tls-key needs --tls-cert"),
        (["--tls-cert", "nowhere.pem"], "the certificate nowhere.pem cannot be read: No such file or directory"),
        (["--tls-cert", "cert.pem"], "cert.pem contains no private key; name the file with its key too (--tls-key"),
        (["--tls-cert", "cert.pem", "--tls-key", "nowhere.key"], "the private key nowhere.key cannot be read"),
        (["--tls-cert", "cert.pem", "--tls-key", "other.pem"], "key in other.pem does not belong to the certificate"),
        (["--tls-cert", "."], "the certificate . is not a file"),
        (["--allow-host", "https://jobs.example.org"], "'https://jobs.example.org' is not a host name"),
        (["--allow-host", "jobs.example.org:443"], "give the name alone"),
        (["--origin", "https://shop.example.org/"], "without a path and a slash at the end"),
    ],
)
def test_a_wrong_option_is_one_line_and_the_sdk_is_not_opened(tmp_path: Path, options: list[str], said: str) -> None:
    (tmp_path / "labels.py").write_text(SERVICE)
    cert, key = make_certificate(tmp_path / "first")
    shutil.copy(cert, tmp_path / "cert.pem")
    shutil.copy(key, tmp_path / "key.pem")
    shutil.copy(make_certificate(tmp_path / "second")[1], tmp_path / "other.pem")
    done = run(Shell.command("serve", "labels:service", "--port", "0", *options), cwd=tmp_path, forked=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_renewed_certificate_is_served_without_a_restart(tmp_path: Path) -> None:
    first, second = make_certificate(tmp_path / "first"), make_certificate(tmp_path / "second")
    shell = Shell(tmp_path, "--tls-cert", str(first[0]), "--tls-key", str(first[1]))
    port = int(shell.url.rpartition(":")[2].removesuffix("/ws"))

    def served() -> str:
        return ssl.get_server_certificate(("127.0.0.1", port))

    with shell.server:
        assert shell.url.startswith("wss://")
        assert served() == first[0].read_text()
        new = second[0].read_text()
        for source, target in zip(second, first, strict=True):
            source.replace(target)
        wait_until(lambda: served() == new, "the new certificate is served")


def test_the_answer_to_an_unknown_host_name_names_an_option_that_works(tmp_path: Path) -> None:
    def ask(shell: Shell) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", int(shell.url.rpartition(":")[2].removesuffix("/ws")))
        with contextlib.closing(connection):
            connection.request("GET", "/healthz", headers={"Host": "jobs.example.org"})
            answer = connection.getresponse()
            return answer.status, answer.read()

    shell = Shell(tmp_path)
    with shell.server:
        status, body = ask(shell)
        assert status == 421
        assert b"--allow-host jobs.example.org" in body
        logged = shell.server.err.line_with("--allow-host jobs.example.org")
        assert '"reason":"host"' in logged.replace(" ", "")
        assert '"address":"127.0.0.1"' in logged.replace(" ", "")
    shell = Shell(tmp_path, "--allow-host", "jobs.example.org")
    with shell.server:
        assert ask(shell)[0] == 200

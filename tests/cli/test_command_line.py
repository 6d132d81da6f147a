"""The command line, as its users run it: processes, pipes, signals."""

from __future__ import annotations

import json
import re
import signal
import stat
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trio_jobs
from support.processes import Process, run
from support.shell import SERVICE, Shell, serving
from support.waiting import deadline, wait_until
from trio_jobs._cli.main import main
from trio_jobs._cli.token_file import read_token


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    with serving(tmp_path_factory.mktemp("cli")) as shell:
        yield shell


def test_a_job_from_submit_to_result(shell: Shell) -> None:
    receipt = shell.json("submit", "double", "21", "--key", "k1")
    assert (receipt["created"], receipt["state"]) == (True, "pending")
    assert not shell.json("submit", "double", "21", "--key", "k1")["created"]
    assert shell.run("result", receipt["job"]).stdout == "42\n"
    assert shell.run_process("result", receipt["job"]).stdout == "42\n"
    assert shell.run_process("submit", "double", "-", "--result", "--json", given="4").stdout.splitlines()[-1] == "8"
    assert shell.run("submit", "double", "-", "--result", "--json", given="4").stdout.splitlines()[-1] == "8"
    assert receipt["job"] in shell.run("show", receipt["job"]).stdout
    assert shell.json("show", receipt["job"])["attempts"][0]["outcome"] == "completed"
    listed = [json.loads(line) for line in shell.run("list", "--state", "completed", "--json").stdout.splitlines()]
    assert receipt["job"] in [job["id"] for job in listed]


def test_a_failure_is_one_line_and_exit_code_1(shell: Shell) -> None:
    job = shell.json("submit", "fail", '"no\\u001b[31m money"')["job"]
    done = shell.run_process("result", job)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert "no\\x1b[31m money" in done.stderr  # and the terminal stays as it was
    assert shell.run("retry", job).stdout == "a new run has begun\n"
    assert shell.run("result", job).returncode == 1


def test_a_doubt_is_told_and_settled(shell: Shell) -> None:
    job = shell.json("submit", "hang", '"x"')["job"]
    done = shell.run("result", job)
    assert done.returncode == 1
    assert "in doubt" in done.stderr
    assert shell.run("cancel", job).returncode == 3
    assert "done" in shell.run("resolve", job, "done", "--result", "[7]").stdout
    assert shell.run("result", job).stdout == "[7]\n"


def test_pausing_holds_and_cancelling_ends(shell: Shell) -> None:
    assert shell.run("pause", "--reason", "lunch").returncode == 0
    job = shell.json("submit", "double", "1")["job"]
    assert shell.json("cancel", job)["answer"] == "cancelled"
    assert shell.run("result", job).returncode == 1
    status = shell.run("status", "--json")
    assert status.returncode == 1, "a queue that is paused is not healthy"
    assert json.loads(status.stdout)["problems"] == ["paused"]
    assert json.loads(status.stdout)["jobs"]["pending"] == 0
    assert shell.run("resume").stdout == "resumed\n"
    assert "slots free" in shell.run("status").stdout


def test_a_drained_queue_accepts_jobs_again_after_undrain(shell: Shell) -> None:
    assert shell.run("drain").stdout == "drained: no job is pending, processing, saving or retrying\n"
    assert shell.run("submit", "double", "1").returncode != 0
    assert shell.run("resume").stderr.count("undrain") == 1
    assert shell.run("undrain").stdout == "the queue accepts jobs again\n"
    assert shell.run("submit", "double", "1").returncode == 0


def start_watching(shell: Shell, *arguments: str) -> tuple[Process, Iterator[Any]]:
    """The command, and what it prints behind its first snapshot."""
    watching = shell.start("watch", *arguments)
    lines = (json.loads(line) for line in watching.out.lines())
    assert next(lines)["type"] == "snapshot"
    return watching, lines


def test_watching_through_a_pipe_gives_a_line_an_event(shell: Shell) -> None:
    watching, lines = start_watching(shell, "--kind", "double", "--snapshot")
    job = shell.json("submit", "double", "5")["job"]
    events: list[dict[str, Any]] = []
    while not events or events[-1]["type"] != "completed":
        events.append(next(lines))
    assert [event["state"] for event in events] == ["pending", "processing", "completed"]
    assert {event["job"] for event in events} == {job}
    watching.send_signal(signal.SIGINT)
    assert watching.wait() == 130


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["show", "nobody"], 3),
        (["submit", "double", "{"], 2),
        (["submit", "double", '"text"'], 2),
        (["submit", "unknown", "1"], 2),
        (["list", "--limit", "0"], 0),
        (["watch", "--job", "x" * 65], 2),
        (["show", "a", "--token-file", "nowhere"], 2),
    ],
)
def test_errors_are_one_line_with_a_code(shell: Shell, arguments: list[str], code: int) -> None:
    done = shell.run(*arguments)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == (1 if code else 0)


def test_a_wrong_token_and_no_server_have_their_codes(shell: Shell) -> None:
    assert shell.run("status", TRIO_JOBS_TOKEN="x" * 30).returncode == 2
    command = [*shell.command("status"), "--url", "ws://127.0.0.1:1/ws", "--connect-timeout", "0.2"]
    done = run(command, env=shell.environment, forked=True)
    assert done.returncode == 4
    assert done.stderr.count("\n") == 1


def test_a_command_that_finds_no_token_says_where_it_has_looked(shell: Shell, tmp_path: Path) -> None:
    """Such as one of another user than the service."""
    done = shell.run("status", XDG_RUNTIME_DIR=str(tmp_path / "of another user"))
    [port] = re.findall(r":(\d+)/", shell.url)
    where = tmp_path / "of another user" / "trio-jobs" / f"token-{port}"
    assert done.returncode == 2
    assert done.stderr.endswith(f"invalid; there is none in TRIO_JOBS_TOKEN and in {where}: give --token-file\n")
    wrong = shell.run("status", TRIO_JOBS_TOKEN="x" * 30, XDG_RUNTIME_DIR=str(tmp_path / "of another user"))
    assert (wrong.returncode, "--token-file" in wrong.stderr) == (2, False)


def test_serve_logs_where_the_http_api_and_its_description_are(shell: Shell) -> None:
    [line] = [log["message"] for log in shell.logs if "HTTP" in log["message"]]
    http = shell.url.replace("ws://", "http://").removesuffix("/ws")
    assert line == f"the HTTP API is at {http}/v1, described by {http}/openapi.json"
    with urllib.request.urlopen(f"{http}/openapi.json") as response:
        assert "/v1/kinds" in json.load(response)["paths"]


def test_the_token_is_in_a_file_for_its_owner_alone(shell: Shell) -> None:
    (path,) = (shell.folder / "run" / "trio-jobs").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text().strip() not in json.dumps(shell.logs)
    other = shell.folder / "copied"
    other.write_text(path.read_text())
    other.chmod(0o644)
    assert "chmod 600" in shell.run("status", "--token-file", str(other)).stderr
    other.chmod(0o600)
    assert shell.run("status", "--token-file", str(other)).returncode == 0
    assert shell.run("status", TRIO_JOBS_TOKEN=path.read_text().strip()).returncode == 0


@pytest.mark.parametrize("name", ["shop", "shop:", "shop:nothing", "nowhere:service", "shop:trio"])
def test_a_service_that_cannot_be_found_is_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "shop.py").write_text(SERVICE)
    done = run(Shell.command("serve", name), cwd=tmp_path, forked=True)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "options", [["--host", "0.0.0.0"], ["--host", "0.0.0.0", "--no-token", "--insecure"]], ids=["plain", "no token"]
)
def test_serving_strangers_has_to_be_said_aloud(tmp_path: Path, options: list[str]) -> None:
    (tmp_path / "shop.py").write_text(SERVICE)
    done = run(Shell.command("serve", "shop:service", "--port", "0", *options), cwd=tmp_path, forked=True)
    assert done.returncode == 2
    assert "0.0.0.0" in done.stderr


def test_a_command_does_not_wait_for_ever_for_a_server_that_has_gone(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    job = shell.json("submit", "wait", "60")["job"]
    waiting = shell.start("result", job, "--connect-timeout", "1")
    shell.server.end()
    done = waiting.finish()
    assert done.returncode == 4
    assert done.stderr.count("\n") == 1


def test_the_first_signal_lets_the_running_attempt_end_and_its_result_is_sent(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    file = tmp_path / "go on"
    job = shell.json("submit", "wait_for_file", json.dumps(str(file)))["job"]
    [record] = (tmp_path / "run" / "trio-jobs").iterdir()
    results: list[object] = []

    async def main() -> None:
        token = read_token(record).secret
        with deadline("the result"):
            async with trio_jobs.connect(shell.url, token=token) as client, trio.open_nursery() as nursery:

                async def wait() -> None:
                    results.append(await client.result(job))

                nursery.start_soon(wait)
                await wait_all_tasks_blocked()
                await client.statistics()  # requests are taken up in order, so the other one waits in the server now
                shell.server.send_signal(signal.SIGINT)
                await trio.to_thread.run_sync(shell.wait_for, "stopping")
                file.touch()

    trio.run(main)
    code, out, err = shell.stop()
    assert (code, out) == (0, "closed\n")
    assert "0 jobs left" in err
    assert results == ["found"]
    assert not [*(tmp_path / "run" / "trio-jobs").iterdir()]


def test_the_second_signal_cancels_it(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    job = shell.json("submit", "wait", "60")["job"]
    shell.server.send_signal(signal.SIGTERM)
    shell.wait_for("stopping")
    code, out, err = shell.stop(signal.SIGTERM)
    assert (code, out) == (0, "closed\n")
    assert job in err


def is_pending(pid: int) -> bool:
    """A signal has been sent and the process has not taken it yet. Where the kernel does not tell, a moment passes."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        time.sleep(0.1)
        return False
    return re.search(r"^ShdPnd:\s0+$", status.read_text(), re.MULTILINE) is None


def test_the_third_leaves_at_once_though_the_loop_is_blocked(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    shell.json("submit", "block", '"x"')
    assert shell.server.out.line() == "blocked\n"
    for _ in range(2):
        shell.server.send_signal(signal.SIGINT)
        # equal signals that come at once are one for the kernel
        wait_until(lambda: not is_pending(shell.server.pid), "the process takes the signal")
        assert shell.server.returncode is None
    shell.server.send_signal(signal.SIGINT)
    code, out, err = shell.stop()
    assert (code, out) == (70, "")
    assert "not closed" in err


def serve_in_vain(shell: Shell, folder: Path, journal: str) -> subprocess.CompletedProcess[str]:
    command = shell.command("serve", "shop:service", "--port", "0", "--journal", journal)
    return run(command, cwd=folder, env=shell.environment, forked=True)


def test_a_journal_that_cannot_be_served_is_named_in_one_line(tmp_path: Path) -> None:
    shell = Shell(tmp_path, "--journal", "jobs.db")
    in_use = serve_in_vain(shell, tmp_path, "jobs.db")
    (tmp_path / "other.db").write_text("shopping list\n" * 1000)
    for journal in ("no/such/folder/jobs.db", ".", "other.db"):
        refused = serve_in_vain(shell, tmp_path, journal)
        assert refused.returncode == 2, journal
        (line,) = refused.stderr.splitlines()
        assert line.startswith("trio-jobs: ")
        assert str(tmp_path / journal) in line
    assert in_use.returncode == 5
    assert f"process {shell.server.pid}" in in_use.stderr
    assert (tmp_path / "other.db").read_text().startswith("shopping list")
    assert shell.stop(signal.SIGTERM)[0] == 0


def test_a_journal_in_use_is_backed_up_by_name_and_damage_is_gone_on_with_when_said(tmp_path: Path) -> None:
    shell = Shell(tmp_path, "--journal", "jobs.db")
    assert shell.run("submit", "double", "21", "--key", "a", "--result").stdout.splitlines()[-1] == "42"
    made = shell.json("journal", "backup", "monday")
    assert made["path"] == str(tmp_path / "jobs.db.backup-monday")
    assert Path(made["path"]).stat().st_size == made["size"]
    assert shell.run("journal", "backup", "monday").returncode == 2, "it overwrites nothing, however often it is tried"
    assert shell.run("journal", "backup", "../tuesday").returncode == 2
    used = run(shell.command("journal", "check", "jobs.db"), cwd=tmp_path, forked=True)
    assert used.returncode == 4
    assert f"in use by process {shell.server.pid}" in used.stdout
    assert shell.stop(signal.SIGTERM)[0] == 0
    (tmp_path / "jobs.db-mark").unlink()
    refused = serve_in_vain(shell, tmp_path, "jobs.db")
    assert refused.returncode == 2
    assert "high-water mark" in refused.stderr
    shell = Shell(tmp_path, "--journal", "jobs.db", "--allow-data-loss")
    assert not shell.json("submit", "double", "21", "--key", "a")["created"]
    assert shell.stop(signal.SIGTERM)[0] == 0


def test_accepting_loss_without_a_journal_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(SERVICE)
    done = run(Shell.command("serve", "shop:service", "--allow-data-loss"), cwd=tmp_path, forked=True)
    assert (done.returncode, "--journal" in done.stderr) == (2, True)


def test_a_follower_goes_on_when_a_server_with_a_journal_is_killed_and_started_anew(tmp_path: Path) -> None:
    """It has nothing but what the command line gives it, and misses nothing."""
    shell = Shell(tmp_path, "--journal", "jobs.db")
    watching, lines = start_watching(shell, "--snapshot")
    jobs = [shell.json("submit", "double", str(i))["job"] for i in range(3)]
    shell.server.end()
    port = int(shell.url.split(":")[2].split("/")[0])
    again = Shell(tmp_path, "--journal", "jobs.db", port=port)
    jobs.append(again.json("submit", "double", "9")["job"])
    events: list[dict[str, Any]] = []
    while not events or (events[-1].get("job"), events[-1]["type"]) != (jobs[-1], "completed"):
        events.append(next(lines))
    watching.send_signal(signal.SIGINT)
    watching.wait()
    assert again.stop(signal.SIGTERM)[0] == 0
    assert "gap" not in [event["type"] for event in events]
    seqs = [event["seq"] for event in events]
    assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
    assert [event["job"] for event in events if event["type"] == "submitted"] == jobs


def test_a_token_beside_a_journal_or_named_stays_for_the_next_server(tmp_path: Path) -> None:
    shell = Shell(tmp_path, "--journal", "jobs.db", "--watch-token-file", "look")
    assert shell.run("status").returncode == 0
    kept = [(tmp_path / name).read_text() for name in ("jobs.db-token", "look")]
    assert shell.stop(signal.SIGTERM)[0] == 0
    assert not [*(tmp_path / "run" / "trio-jobs").iterdir()]
    assert stat.S_IMODE((tmp_path / "jobs.db-token").stat().st_mode) == 0o600
    shell = Shell(tmp_path, "--token-file", "look")
    assert [(tmp_path / name).read_text() for name in ("jobs.db-token", "look")] == kept
    assert shell.run("pause", "--token-file", "look").returncode == 0
    assert shell.stop(signal.SIGTERM)[0] == 0
    assert (tmp_path / "look").read_text() == kept[1]


def test_a_token_that_only_watches_changes_nothing(tmp_path: Path) -> None:
    shell = Shell(tmp_path, "--watch-token-file", "look")
    assert shell.run("status", "--token-file", "look").returncode == 0
    refused = shell.run("pause", "--token-file", "look")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    shell.stop(signal.SIGTERM)


def test_the_environment_may_give_the_server_its_token(tmp_path: Path) -> None:
    secret = "given-by-the-environment"
    shell = Shell(tmp_path, "--journal", "jobs.db", TRIO_JOBS_TOKEN=secret)
    assert shell.run("status").returncode == 0
    assert shell.run("status", TRIO_JOBS_TOKEN="x" * 30).returncode == 2
    assert secret not in shell.stop(signal.SIGTERM)[2] + json.dumps(shell.logs)
    assert not (tmp_path / "jobs.db-token").exists()


def test_a_server_without_a_journal_takes_up_the_token_of_one_that_was_killed(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    (path,) = (tmp_path / "run" / "trio-jobs").iterdir()
    before = path.read_text()
    shell.server.end()
    shell = Shell(tmp_path, port=int(path.name.partition("-")[2]))
    assert path.read_text() == before
    shell.stop(signal.SIGTERM)


@pytest.mark.parametrize(
    ("options", "text", "mode", "told"),
    [
        (["--token-file", "kept"], "x" * 30, 0o644, "remove it"),
        (["--watch-token-file", "kept"], "x" * 30, 0o644, "remove it"),
        (["--token-file", "kept"], "", 0o600, "16 to 512"),
        (["--token-file", "kept", "--watch-token-file", "kept"], "x" * 30, 0o600, "another file"),
        (["--no-token", "--watch-token-file", "kept"], "x" * 30, 0o600, "--no-token"),
    ],
    ids=["read by others", "so for watching", "empty", "the same", "none asked for"],
)
def test_a_token_file_that_will_not_do_is_refused_in_a_line(
    tmp_path: Path, options: list[str], text: str, mode: int, told: str
) -> None:
    (tmp_path / "shop.py").write_text(SERVICE)
    (tmp_path / "kept").write_text(text)
    (tmp_path / "kept").chmod(mode)
    done = run(Shell.command("serve", "shop:service", "--port", "0", *options), cwd=tmp_path, forked=True)
    assert done.returncode == 2
    assert (told in done.stderr, "Traceback" in done.stderr) == (True, False)
    assert (tmp_path / "kept").read_text() == text


@pytest.mark.parametrize(
    ("url", "token"),
    [
        ("ws://h:99999/ws", "x" * 30),
        ("ws://h:port/ws", "x" * 30),
        ("ws://[h/ws", "x" * 30),
        ("ws://h\u00e9:1/ws", "x" * 30),
        ("ws://127.0.0.1:1/ws", "t\u00f6k" * 10),
        ("ws://127.0.0.1:1/ws", "one\ntwo-and-more-of-it"),
    ],
    ids=["port too high", "port no number", "bracket", "host not ASCII", "token not ASCII", "token of two lines"],
)
def test_an_address_or_a_token_that_is_none_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], url: str, token: str
) -> None:
    monkeypatch.setenv("TRIO_JOBS_TOKEN", token)
    assert main(["status", "--url", url, "--connect-timeout", "0.1"]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert token not in told

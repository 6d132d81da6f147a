"""Kinds are listed by a command, and completed in a shell."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import pytest

import trio_jobs
from support.processes import run
from support.server import OWNER, bench, make_service
from trio_jobs._cli.arguments import parser
from trio_jobs._cli.commands import COMMANDS
from trio_jobs._cli.completion import fish_script, script
from trio_jobs._cli.main import main
from trio_jobs._engine.states import State


async def test_the_command_kinds_lists_them_with_their_schemas(capsys: pytest.CaptureFixture[str]) -> None:
    async with (
        bench(make_service(drain_timeout=0.0), metrics=False) as b,
        trio_jobs.connect(f"ws://127.0.0.1:{b.port}/ws", token=OWNER.secret) as client,
    ):
        assert await COMMANDS["kinds"](client, parser().parse_args(["kinds"])) == 0
        names = capsys.readouterr().out.split()
        assert names == sorted(b.queue.backend.kinds())
        await COMMANDS["kinds"](client, parser().parse_args(["kinds", "--json"]))
        shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert {one["kind"]: one["schema"] for one in shown} == dict(b.queue.backend.kinds())


def test_the_script_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion"]) == 0
    shown = capsys.readouterr().out
    assert shown == script(parser()) + "\n"
    for name in (*COMMANDS, "serve", "journal", "token", "completion"):
        assert f"    {name}) echo" in shown


def test_the_script_for_fish_names_every_command_with_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "fish"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name in (*COMMANDS, "serve", "journal", "token", "completion"):
        assert sum(f"-n __fish_use_subcommand -a {name} -d '" in line for line in lines) == 1, name
    of_list = [line for line in lines if "'__fish_seen_subcommand_from list'" in line]
    assert any("-l kind -r -a '(trio-jobs kinds 2>/dev/null)' -d '" in line for line in of_list)
    assert any(f"-l state -r -a '{' '.join(State)}' -d '" in line for line in of_list)
    assert any("-l json -d '" in line for line in of_list), "an option without a value"
    assert any("from submit' -a '(trio-jobs kinds" in line for line in lines), "its first argument is a kind"
    assert any("from journal' -a check -d '" in line for line in lines)
    for line in lines[1:]:
        assert len(shlex.split(line.replace("\\'", ""))) >= 4, "each quote has an end"


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed: apt-get install fish")
def test_fish_completes_commands_and_states(tmp_path: Path) -> None:
    (tmp_path / "completion").write_text(fish_script(parser()))
    typed = f"source {tmp_path}/completion; complete -C 'trio-jobs hist'; complete -C 'trio-jobs list --state in_'"
    done = run(["fish", "--no-config", "-c", typed], check=True)
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == ["history", "in_doubt"]


TYPED = """
trio-jobs() { [ "$1" = kinds ] && printf 'post_invoice\\npost_order\\nstorno\\n'; }
. "$1"
complete_as() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _trio_jobs; echo "${COMPREPLY[*]}"; }
complete_as trio-jobs hist
complete_as trio-jobs submit post_
complete_as trio-jobs list --kind st
complete_as trio-jobs list --state in_
complete_as trio-jobs retry --even
complete_as trio-jobs journal ch
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed: apt-get install bash")
def test_bash_completes_commands_kinds_states_and_options(tmp_path: Path) -> None:
    (tmp_path / "completion").write_text(script(parser()))
    done = run(["bash", "-c", TYPED, "bash", str(tmp_path / "completion")], check=True)
    assert done.stdout.splitlines() == [
        "history", "post_invoice post_order", "storno", "in_doubt", "--even-if-acted", "check",
    ]  # fmt: skip

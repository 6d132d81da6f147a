"""Kinds are listed by a command, and completed in a shell."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import trio_jobs
from support.processes import run
from support.server import OWNER, bench, make_service
from trio_jobs._cli.arguments import parser
from trio_jobs._cli.commands import COMMANDS
from trio_jobs._cli.completion import script
from trio_jobs._cli.main import main


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


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_completes_commands_kinds_states_and_options(tmp_path: Path) -> None:
    (tmp_path / "completion").write_text(script(parser()))
    done = run(["bash", "-c", TYPED, "bash", str(tmp_path / "completion")], check=True)
    assert done.stdout.splitlines() == [
        "history", "post_invoice post_order", "storno", "in_doubt", "--even-if-acted", "check",
    ]  # fmt: skip

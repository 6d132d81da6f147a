"""`trio-jobs completion`: a script by which bash and zsh complete commands, options, states and kinds."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Final

from trio_jobs._engine.states import State

__all__ = ["script"]

_SCRIPT: Final = """\
# completion of trio-jobs: eval "$(trio-jobs completion)"
if [ -n "${ZSH_VERSION:-}" ]; then autoload -U +X bashcompinit && bashcompinit; fi
_trio_jobs_options() {
    case "$1" in
@CASES@    esac
}
_trio_jobs() {
    local word="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}" command="${COMP_WORDS[1]}" words
    if [ "$COMP_CWORD" -eq 1 ]; then
        words="@COMMANDS@"
    elif [ "$before" = --kind ] || { [ "$command" = submit ] && [ "$COMP_CWORD" -eq 2 ]; }; then
        words="$(trio-jobs kinds 2>/dev/null)"
    elif [ "$before" = --state ]; then
        words="@STATES@"
    else
        words="$(_trio_jobs_options "$command")"
    fi
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}
complete -o default -F _trio_jobs trio-jobs"""


def script(parser: argparse.ArgumentParser) -> str:
    """The script for a parser. The kinds are those of the running server, which the script asks for them.

    Args:
        parser: That of the command line.
    """
    commands = dict(_commands(parser))
    cases = "".join(f'    {name}) echo "{" ".join(options)}" ;;\n' for name, options in commands.items())
    return (
        _SCRIPT.replace("@CASES@", cases)
        .replace("@COMMANDS@", " ".join(commands))
        .replace("@STATES@", " ".join(map(str, State)))
    )


def _commands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, list[str]]]:
    """The commands, each with its options; those of a command with commands of its own are these."""
    for name, command in _subparsers(parser).items():
        inner = list(_subparsers(command))
        options = [option for action in command._actions for option in action.option_strings if option[:2] == "--"]
        yield name, inner or options


def _subparsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}

"""`trio-jobs completion`: a script by which bash, zsh and fish complete commands, options, states and kinds."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Final

from trio_jobs._engine.states import State

__all__ = ["fish_script", "script"]

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

_KINDS: Final = "(trio-jobs kinds 2>/dev/null)"
#: What completes the value of an option
_VALUES: Final = {"--kind": f" -a '{_KINDS}'", "--state": f" -a '{' '.join(map(str, State))}'"}


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


def fish_script(parser: argparse.ArgumentParser) -> str:
    """As `script`, for fish, which shows a description beside each command and option."""
    head = "# completion of trio-jobs: trio-jobs completion fish | source"
    return "\n".join([head, "complete -c trio-jobs -f", *_fish_lines(parser)])


def _fish_lines(parser: argparse.ArgumentParser) -> Iterator[str]:
    for name, command in _subparsers(parser).items():
        yield f"complete -c trio-jobs -n __fish_use_subcommand -a {name} -d {_quoted(command.description)}"
        here = f"complete -c trio-jobs -n '__fish_seen_subcommand_from {name}'"
        for inner, its_parser in _subparsers(command).items():
            yield f"{here} -a {inner} -d {_quoted(its_parser.description)}"
        if name == "submit":
            yield f"{here} -a '{_KINDS}'"
        for option, action in _options(command):
            value = "" if action.nargs == 0 else f" -r{_VALUES.get(option, '')}"
            yield f"{here} -l {option[2:]}{value} -d {_quoted(action.help)}"


def _quoted(text: str | None) -> str:
    """The first sentence of a help as a word of fish."""
    sentence = " ".join((text or "").replace("%%", "%").split()).split(". ")[0].rstrip(".")
    return "'" + sentence.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _commands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, list[str]]]:
    """The commands, each with its options; those of a command with commands of its own are these."""
    for name, command in _subparsers(parser).items():
        inner = list(_subparsers(command))
        yield name, inner or [option for option, _ in _options(command)]


def _options(command: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.Action]]:
    """The long options of a command."""
    for action in command._actions:
        for option in action.option_strings:
            if option[:2] == "--":
                yield option, action


def _subparsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}

"""Write docs/reference/scopes.md from the tables of methods and of fields: python -m tools.scopes [--write]"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from tools.output import print_or_write
from trio_jobs._wire.field_scopes import FIELD_SCOPES
from trio_jobs._wire.methods import METHODS
from trio_jobs._wire.scopes import SCOPES

__all__ = ["PATH", "main", "page"]

PATH: Final = Path(__file__).parents[1] / "docs" / "reference" / "scopes.md"

HEAD: Final = """# Scopes

A token has one of three scopes, each of which includes the one before it: `watch`, `operate`, `control`. This page is
generated from the tables of the protocol.

## Methods

A request of a method beyond the scope of its token is refused with error -32014, which names the scope that it needs.
So are parameters that need more than their method: `even_if_acted` needs `control`; to select or group jobs by labels
or by submitter needs `operate`.
"""

FIELDS: Final = """## Fields

A token of scope `watch` is sent states, times, keys, numbers, and the class and the code of errors. What people and
handlers have written, and who did something, needs `operate`. A field that a token is not sent is absent, or empty.
The messages below have such fields; all fields of the other messages are sent to every token.
"""


def page() -> str:
    """The page as a whole."""
    by_method = {scope: [name for name, row in METHODS.items() if row.scope == scope] for scope in SCOPES}
    methods = [f"| `{scope}` | {_listed(names)} |" for scope, names in by_method.items()]
    fields: list[str] = []
    for type_, scopes in sorted(FIELD_SCOPES.items(), key=lambda row: _name(row[0])):
        names = {field.name: field.encode_name for field in msgspec.structs.fields(type_)}
        by_scope = {scope: [names[name] for name, least in scopes.items() if least == scope] for scope in SCOPES[1:]}
        fields += [f"| {_name(type_)} | `{scope}` | {_listed(found)} |" for scope, found in by_scope.items() if found]
    parts = [HEAD, "| scope | methods, beside those above |", "|---|---|", *methods, "", FIELDS]
    return "\n".join([*parts, "| message | least scope | fields |", "|---|---|---|", *fields, ""])


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _name(type_: type[msgspec.Struct]) -> str:
    return type_.__name__.removeprefix("Wire")


def main(arguments: Sequence[str]) -> int:
    """See `print_or_write`."""
    return print_or_write("tools.scopes", PATH, page().encode(), arguments)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

"""What type checkers see of the public API: they accept a user's program, and report a user's mistakes.

The checks run mypy and basedpyright as programs, in their strict modes. verifytypes of pyright does not serve here: it
reports every msgspec class as partially unknown.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from types import FunctionType
from typing import Any

import attrs
import pytest

import trio_jobs
import trio_jobs.ports
import trio_jobs.testing
from support import processes

ROOT = Path(__file__).parents[2]
USER_CODE = Path(__file__).with_name("user_code.py")

#: Each line that ends with `# wrong` must be reported, with the word behind it in the message; and no other line
MISTAKES = """\
from collections.abc import Iterator
from contextlib import contextmanager

from trio_jobs import Queue, Service, TrioClock


@contextmanager
def sdk() -> Iterator[str]:
    yield "sdk"


Service(bufer=3)  # wrong: bufer
Service(unknown="hold")  # wrong: unknown
Service(buffer="3")  # wrong: buffer
Service(on_stuck="cry")  # wrong: on_stuck
Service(unhandled_jobs="drop")  # wrong: unhandled_jobs
Service(sdk="ledger")  # wrong: sdk
Service(executor="processes")  # wrong: executor
Service(executor=lambda nursery: object())  # wrong: object
service = Service(sdk=sdk)


@service.handler(attempt_timeout="soon")  # wrong: handler
def one(sdk: str, payload: int) -> None: ...


@service.handler(timeout=3)  # wrong: handler
def two(sdk: str, payload: int) -> None: ...


@service.handler(on_doubt="shrug")  # wrong: handler
def three(sdk: str, payload: int) -> None: ...


service.on("sunday", print)  # wrong: overload
service.open(journal=3)  # wrong: journal
service.open(clock=3)  # wrong: clock
service.open(store=TrioClock())  # wrong: store


async def use(queue: Queue) -> None:
    await queue.submit(one)  # wrong: payload
    await queue.resolve("job", "maybe")  # wrong: maybe
    queue.get(3)  # wrong: get
"""
WRONG = {
    number: match[1]
    for number, line in enumerate(MISTAKES.splitlines(), 1)
    if (match := re.search(r"# wrong: (\w+)$", line)) is not None
}


def run(*command: str | Path, cwd: Path) -> str:
    """Run a checker on the package of this checkout. The exit code is 1 where the checker reports an error."""
    environment = {**os.environ, "MYPYPATH": str(ROOT / "src"), "PYTHONPATH": str(ROOT / "src")}
    done = processes.run([sys.executable, "-m", *command], cwd=cwd, env=environment, timeout=280)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.stdout


def mypy(files: list[Path], cwd: Path) -> dict[str, dict[int, str]]:
    """The errors by the name of the file and line."""
    (cwd / "mypy.ini").write_text("[mypy]\nstrict = True\n")
    cache = ROOT / ".mypy_cache" / "typing"
    output = run("mypy", "--config-file=mypy.ini", f"--cache-dir={cache}", "--no-error-summary", *files, cwd=cwd)
    found: dict[str, dict[int, str]] = {file.name: {} for file in files}
    for line in output.splitlines():
        match = re.match(r"(.*?):(\d+): (?:error|note): (.*)$", line)
        assert match is not None, line
        errors = found[Path(cwd, match[1]).name]
        errors[int(match[2])] = errors.get(int(match[2]), "") + match[3] + "\n"
    return found


def basedpyright(files: list[Path], cwd: Path) -> dict[str, dict[int, str]]:
    """The errors by the name of the file and line."""
    settings = {
        "typeCheckingMode": "strict",
        "include": [str(file) for file in files],
        "extraPaths": [str(ROOT / "src")],
        "reportDeprecated": False,  # Iterator on a context manager's function, which all of the documentation has
    }
    (cwd / "pyrightconfig.json").write_text(json.dumps(settings))
    output = json.loads(
        run("basedpyright", "--outputjson", "--pythonpath", sys.executable, "--project", "pyrightconfig.json", cwd=cwd)
    )
    assert output["summary"]["filesAnalyzed"] == len(files)
    found: dict[str, dict[int, str]] = {file.name: {} for file in files}
    for one in output["generalDiagnostics"]:
        if one["severity"] == "error":
            errors, line = found[Path(one["file"]).name], one["range"]["start"]["line"] + 1
            errors[line] = errors.get(line, "") + one["message"] + "\n"
    return found


CHECKERS = [
    pytest.param(
        check,
        id=check.__name__,
        marks=pytest.mark.skipif(
            find_spec(check.__name__) is None, reason=f"{check.__name__} is not installed; the extra 'lint' has it"
        ),
    )
    for check in (mypy, basedpyright)
]


@pytest.fixture(scope="module", params=CHECKERS)
def errors(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[int, str]]:
    """What a checker reports of both programs, in one run."""
    folder = tmp_path_factory.mktemp("typing")
    (folder / "mistakes.py").write_text(MISTAKES)
    found: dict[str, dict[int, str]] = request.param([USER_CODE, folder / "mistakes.py"], folder)
    return found


def test_a_users_program_has_no_type_errors(errors: dict[str, dict[int, str]]) -> None:
    assert errors[USER_CODE.name] == {}


def test_each_mistake_of_a_user_is_reported_where_it_is(errors: dict[str, dict[int, str]]) -> None:
    found = errors["mistakes.py"]
    assert sorted(found) == sorted(WRONG)
    assert {line: word for line, word in WRONG.items() if word not in found[line]} == {}


PUBLIC = {
    f"{module.__name__}.{name}": getattr(module, name)
    for module in (trio_jobs, trio_jobs.ports, trio_jobs.testing)
    for name in module.__all__
}


def functions_of(public: Any) -> list[FunctionType]:
    """The functions that a user of `public` can call, as far as they are ours."""
    if inspect.isfunction(public):
        return [inspect.unwrap(public)]
    if not inspect.isclass(public):
        return []
    found: list[FunctionType] = []
    for owner in public.__mro__:
        if not owner.__module__.startswith("trio_jobs"):
            continue
        for name, member in vars(owner).items():
            made = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
            is_public = not name.startswith("_") or name == "__init__"
            if is_public and inspect.isfunction(made) and made.__code__.co_filename.startswith(str(ROOT / "src")):
                found.append(inspect.unwrap(made))
    return found


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_function_is_annotated(name: str) -> None:
    missing = [
        f"{function.__qualname__}: {what}"
        for function in functions_of(PUBLIC[name])
        for what in [*inspect.signature(function).parameters, "return"]
        if what not in ("self", "cls") and what not in function.__annotations__
    ]
    assert missing == []


@pytest.mark.parametrize("name", [name for name, public in PUBLIC.items() if attrs.has(public)])
def test_every_public_field_is_annotated(name: str) -> None:
    assert [field.name for field in attrs.fields(PUBLIC[name]) if field.type is None] == []

"""The public names. A change here is a change of the API and belongs into the changelog."""

from __future__ import annotations

import copy
import inspect
import pickle
import sys
import types
import typing
from collections.abc import Iterator
from typing import Any

import attrs
import msgspec
import pytest

import trio_jobs
import trio_jobs.ports
import trio_jobs.testing
from support.processes import run
from trio_jobs._export import on_first_use

#: Each public name with its kind
PUBLIC = {
    "trio_jobs": {
        "class": """
            AsyncJobContext Attempt Backup CertificateFiles Client CloseFailure CompletedJob Done ErrorInfo
            EventIterator EventStream FromThread Gap Health Job JobConditions JobContext JobCounts JobHistory JobList
            JobRun ListConditions MemoryStore NewJob NotDone Opening OperatorAction Pause Progress Queue Receipt
            RetriedJobs Retry SdkClose SdkHandle Server ServerInfo ServerLimits Service ShutdownReport Snapshot
            SqliteStore Statistics Subscription SystemClock Token TrioClock UnfinishedJob Unknown
        """,
        "enum": "EndedBy Outcome State",
        "exception": """
            AmbiguousJob Cancel ConnectionFailed Fail InvalidCursor InvalidHandler InvalidJournalPath InvalidPayload
            InvalidState JobCancelled JobChanged JobClaimed
            JobFailed JobInDoubt JobMayHaveActed JobNotFound JournalDamaged JournalInUse
            KeyConflict Lagged
            OutcomeUnknown PermissionDenied QueueBroken QueueClosed QueueFull ResultUnavailable RetryAfter
            SdkCallError SdkCallRefused SdkCallStuck SdkInUse SdkOpenFailed SessionDiscarded SessionLost Snooze
            StoreError TooManyRequests TrioJobsError UnhandledJobs UnknownKind UsageError
        """,
        "alias": "CancelAnswer OnDoubt OpeningReason Update Verdict",
        "function": "connect serve",
    },
    "trio_jobs.events": {
        "class": """
            CancelRequested Cancelled Claimed Completed Corrected DoubtResolved DrainEnded DrainStarted Due
            Ended Event Failed Forgotten InDoubt Interrupted JobEvent Overdue
            Paused QueueEvent Rescheduled Resumed RetryScheduled Returned RunRestarted SaveFailed Saved Scheduled
            SdkEntered
            SessionClosed SessionOpened SessionOpening SessionOpeningFailed Snoozed Started StepFinished StepStarted
            Stuck SubmitRejected Submitted Verified
        """,
        "alias": "AnyEvent",
    },
}

#: Classes that users subclass, or that have subclasses here
OPEN = """
    trio_jobs.JobContext trio_jobs.MemoryStore trio_jobs.SqliteStore trio_jobs.TrioClock trio_jobs.events.Ended
    trio_jobs.events.Event trio_jobs.events.JobEvent trio_jobs.events.QueueEvent trio_jobs.events.Submitted
"""
#: Made by the library, never by a user: their constructors take private parts
NOT_CONSTRUCTED = """
    AsyncJobContext Client EventIterator EventStream FromThread JobContext Queue SdkHandle Server SqliteStore
    Subscription
"""


def kind_of(value: Any) -> str:
    if isinstance(value, type):
        if issubclass(value, BaseException):
            return "exception"
        return "enum" if issubclass(value, str) else "class"
    return "function" if isinstance(value, types.FunctionType) else "alias"


def exported(*kinds: str) -> Iterator[tuple[str, str, Any]]:
    for module in PUBLIC:
        for name in sys.modules[module].__all__:
            value = getattr(sys.modules[module], name)
            if not kinds or kind_of(value) in kinds:
                yield module, name, value


def test_the_public_names_are_these() -> None:
    found: dict[str, dict[str, list[str]]] = {}
    for module, name, value in exported():
        found.setdefault(module, {}).setdefault(kind_of(value), []).append(name)
    expected = {
        module: {kind: sorted(names.split()) for kind, names in kinds.items()} for module, kinds in PUBLIC.items()
    }
    assert {module: {kind: sorted(names) for kind, names in kinds.items()} for module, kinds in found.items()} == (
        expected
    )


def test_the_public_names_of_the_test_kit_are_these() -> None:
    expected = """AttemptReport BAD_HANDLERS BadHandler Blocker CheckReport ConformanceError CrashableStore FakeSdk
    FakeSession Finding QueueMachine Slow Stuck TrioStateMachine assert_submitted check_bad_handlers check_executor
    check_handler check_store drain open_queue pass_time perform"""
    assert sorted(trio_jobs.testing.__all__) == expected.split()


def test_the_public_names_of_the_ports_are_these() -> None:
    expected = [
        "Backend",
        "BackendHolder",
        "BacksUp",
        "Backup",
        "CallEnd",
        "CallHandle",
        "CallReport",
        "Clock",
        "Discard",
        "Event",
        "FunctionCall",
        "Interruption",
        "Interrupts",
        "KeepsActivity",
        "KeepsSecrets",
        "KeyTombstone",
        "Kills",
        "RaisedError",
        "RecognizesCallers",
        "SdkCall",
        "SdkExecutor",
        "Store",
    ]
    assert trio_jobs.ports.__all__ == expected
    for name in set(expected) - {"Backup", "Event"}:
        assert getattr(trio_jobs.ports, name).__module__ == "trio_jobs.ports"


def test_every_method_of_a_port_is_documented() -> None:
    undocumented = [
        f"{name}.{method}"
        for name in (
            "Backend",
            "BackendHolder",
            "BacksUp",
            "Clock",
            "Interrupts",
            "KeepsActivity",
            "KeepsSecrets",
            "RecognizesCallers",
            "SdkExecutor",
            "Store",
        )
        for method, member in vars(getattr(trio_jobs.ports, name)).items()
        if not method.startswith("_") and not (member.__doc__ or "").strip()
    ]
    assert undocumented == []


def test_every_public_class_and_function_has_a_docstring() -> None:
    undocumented = [
        name
        for _, name, value in exported("class", "enum", "exception", "function")
        if not (value.__doc__ or "").strip()
    ]
    assert undocumented == []


def test_every_public_class_and_function_names_the_public_module() -> None:
    for module, name, value in exported("class", "enum", "exception", "function"):
        assert (value.__module__, value.__qualname__) == (module, name)


def test_every_class_can_be_pickled_by_its_public_name() -> None:
    for _, _, value in exported("class", "enum", "exception"):
        assert pickle.loads(pickle.dumps(value)) is value


def test_annotations_of_every_public_class_can_be_evaluated() -> None:
    for _, name, value in exported("class", "exception"):
        hints = typing.get_type_hints(value)
        if attrs.has(value):
            assert {field.name for field in attrs.fields(value)} <= hints.keys(), name
            assert not any(isinstance(field.type, str) for field in attrs.fields(value)), name
        elif issubclass(value, msgspec.Struct):
            assert {field.name for field in msgspec.structs.fields(value)} <= hints.keys(), name


def test_values_are_pickled_and_copied() -> None:
    receipt = trio_jobs.Receipt("j", True, 1, trio_jobs.State.PENDING)
    due = trio_jobs.events.Due(seq=1, at=2.5, job="j")
    statistics = trio_jobs.Statistics({trio_jobs.State.PENDING: 1}, 100, 99, 0, 0, 1, False, 7, None)
    for value in (receipt, due, statistics, trio_jobs.Done(7), trio_jobs.Gap(1, "epoch", False)):
        assert pickle.loads(pickle.dumps(value)) == value
        assert copy.deepcopy(value) == value
    assert attrs.evolve(statistics, free=1).free == 1
    assert msgspec.structs.replace(due, seq=2).seq == 2


def test_classes_are_final_unless_they_have_subclasses() -> None:
    not_final = {
        f"{module}.{name}" for module, name, value in exported("class") if not getattr(value, "__final__", False)
    }
    assert not_final == set(OPEN.split())


def public_callables() -> Iterator[tuple[str, Any]]:
    for module, name, value in exported("class", "function", "exception"):
        if isinstance(value, types.FunctionType):
            yield f"{module}.{name}", value
            continue
        for class_ in value.__mro__:
            if not class_.__module__.startswith("trio_jobs"):
                continue
            for attribute, member in vars(class_).items():
                if attribute.startswith("_") and attribute not in ("__init__", "__anext__", "__aenter__"):
                    continue
                function = member.fget if isinstance(member, property) else inspect.unwrap(member)
                if isinstance(function, types.FunctionType):
                    yield f"{module}.{name}.{attribute}", function


def mentioned(hint: Any) -> Iterator[type]:
    if isinstance(hint, type):
        yield hint
    for argument in typing.get_args(hint):
        for item in argument if isinstance(argument, list) else [argument]:
            yield from mentioned(item)


@pytest.mark.parametrize(("name", "function"), [pytest.param(*found, id=found[0]) for found in public_callables()])
def test_every_type_in_a_public_signature_can_be_imported(name: str, function: Any) -> None:
    owner, _, method = name.rpartition(".")
    if method == "__init__" and owner.rpartition(".")[2] in NOT_CONSTRUCTED.split():
        return
    with_the_names_of_a_queue = {**vars(trio_jobs), **vars(trio_jobs.ports)}  # which a declaration does not import
    for hint in typing.get_type_hints(function, localns=with_the_names_of_a_queue).values():
        for class_ in mentioned(hint):
            public = not class_.__module__.startswith("trio_jobs._")
            assert public, f"{name} has {class_.__module__}.{class_.__qualname__} in its signature"


def test_nothing_else_is_public() -> None:
    """Beside the public names lie modules: with an underscore, or the ones meant for use."""
    others = {name for name in vars(trio_jobs) if not name.startswith("_")} - set(trio_jobs.__all__)
    assert others <= {"events", "ports", "testing"}


#: What a queue does not need: the client, the server, a journal, the test kit, and what only errors or subclasses need
NOT_FOR_A_QUEUE = """
    trio_jobs._client trio_jobs._server trio_jobs._stores.sqlite trio_jobs.testing trio_websocket wsproto h11 sqlite3
    logging.handlers asyncio rich pytest hypothesis difflib concurrent.futures trio_jobs._executors.process
"""
#: What a service does not need that is only declared: the queue, and the public names that this imports
NOT_FOR_A_SERVICE = f"""
    {NOT_FOR_A_QUEUE} json trio_jobs.events trio_jobs.ports trio_jobs._ports trio_jobs._stores trio_jobs._runtime.queue
    trio_jobs._runtime.runtime trio_jobs._runtime.supervisor trio_jobs._engine.status trio_jobs._engine.events
    trio_jobs._engine.projection trio_jobs._executors.thread
"""
NOT_FOR_A_HELP = f"{NOT_FOR_A_QUEUE} trio msgspec trio_jobs._runtime trio_jobs._service"


@pytest.mark.parametrize(
    ("program", "unwanted"),
    [
        pytest.param("import trio_jobs", f"{NOT_FOR_A_HELP} attr inspect", id="import"),
        pytest.param(
            "import trio_jobs; trio_jobs.Service().handler(kind='a', payload_type=int)(lambda payload: None)",
            NOT_FOR_A_SERVICE,
            id="service",
        ),
        pytest.param("import trio_jobs; trio_jobs.Service(); trio_jobs.Queue", NOT_FOR_A_QUEUE, id="queue"),
        pytest.param("from trio_jobs._cli.main import main; main(['--help'])", NOT_FOR_A_HELP, id="help"),
    ],
)
def test_an_import_a_service_a_queue_and_a_help_import_only_what_they_need(program: str, unwanted: str) -> None:
    code = f"{program}; import sys; print('imported:', *(name for name in {unwanted.split()} if name in sys.modules))"
    done = run([sys.executable, "-c", code], check=True)
    assert done.stdout.splitlines()[-1] == "imported:"


@pytest.mark.parametrize(
    ("first", "group"),
    [
        ("Service", "Job Service UsageError"),
        ("Queue", "Job Queue Service UsageError events.Completed ports.Store"),
        ("events", "Job Service UsageError events.Completed ports.Store"),
        ("SqliteStore", "Job SqliteStore StoreError events.Completed"),
        ("Gap", "Client Gap Job Snapshot Subscription connect events.Completed"),
        ("serve", "CertificateFiles Job Server ServerLimits Token events.Completed serve"),
    ],
)
def test_a_name_imported_at_first_use_brings_its_group_and_that_of_a_queue_with_public_names(
    first: str, group: str
) -> None:
    names = [name.rpartition(".") for name in group.split()]
    code = (
        "import trio_jobs; "
        f"before = [name for module, _, name in {names} if not module and name in vars(trio_jobs)]; trio_jobs.{first}; "
        "modules = {'': trio_jobs, 'events': trio_jobs.events, 'ports': trio_jobs.ports}; "
        f"print(before, *(f'{{vars(modules[part])[name].__module__}}.{{name}}' for part, _, name in {names}))"
    )
    expected = " ".join(f"trio_jobs.{name}" for name in group.split())
    assert run([sys.executable, "-c", code], check=True).stdout == f"[] {expected}\n"


def test_the_first_group_is_imported_before_another_and_nothing_is_imported_twice() -> None:
    package: dict[str, Any] = {"__name__": "trio_jobs", "__all__": ["Job", "Receipt", "Gap"]}
    get, _ = on_first_use(package, {}, ["events"], ["_engine.jobs"], [{"_client.updates": ["Gap"]}])
    assert get("Gap") is trio_jobs.Gap
    assert package.keys() == {"__name__", "__all__", "Job", "Receipt", "Gap"}
    package["Job"] = None
    assert get("Receipt") is trio_jobs.Receipt
    assert package["Job"] is None


@pytest.mark.parametrize("module", ["trio_jobs.testing", "trio_jobs._stores.sqlite.store"])
def test_a_store_has_its_public_name_however_it_was_imported(module: str) -> None:
    code = f"import {module}, sys; print(sys.modules['trio_jobs._stores.sqlite.store'].SqliteStore.__module__)"
    assert run([sys.executable, "-c", code], check=True).stdout == "trio_jobs\n"


def test_names_that_are_imported_at_first_use_are_listed_and_others_do_not_exist() -> None:
    code = "import trio_jobs; print(sorted({*trio_jobs.__all__} - {*dir(trio_jobs)})); trio_jobs.Servr"
    done = run([sys.executable, "-c", code])
    assert done.stdout == "[]\n"
    assert done.stderr.splitlines()[-1].startswith("AttributeError: module 'trio_jobs' has no attribute 'Servr'")


def test_a_queue_has_its_public_name_when_a_service_is_opened() -> None:
    code = (
        "import trio, trio_jobs\n"
        "async def main():\n"
        "    async with trio_jobs.Service().open() as queue:\n"
        "        print(type(queue).__module__, type(queue.health()).__module__)\n"
        "trio.run(main)"
    )
    assert run([sys.executable, "-c", code], check=True).stdout == "trio_jobs trio_jobs\n"

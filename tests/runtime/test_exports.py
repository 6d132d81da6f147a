"""The public names. A change here is a change of the API and belongs into the changelog."""

from __future__ import annotations

import sys

import trio_jobs
import trio_jobs.ports
import trio_jobs.testing
from support.processes import run

PUBLIC = """
    AsyncJobContext Attempt Backup Cancel Client ConnectionFailed Done EndedBy ErrorInfo EventStream EventView Fail
    Gap Health InvalidHandler InvalidPayload InvalidState Job JobCancelled JobContext JobFailed JobInDoubt
    JobNotFound JobView JournalDamaged JournalInUse KeyConflict Lagged MemoryStore NewJob NotDone Outcome
    OutcomeUnknown PermissionDenied Progress Queue QueueBroken QueueClosed QueueFull Receipt ResultUnavailable Retry
    RetryAfter SdkCallRefused SdkCallStuck SdkHandle SdkOpenFailed Server ServerLimits Service SessionLost
    ShutdownReport Snapshot Snooze SqliteStore State Statistics StoreError Subscription SystemClock Token TrioClock
    TrioJobsError UnfinishedJob UnhandledJobs Unknown UnknownKind UsageError connect serve
"""


def test_the_public_names_are_these() -> None:
    assert sorted(trio_jobs.__all__) == sorted(PUBLIC.split())
    for name in trio_jobs.__all__:
        assert hasattr(trio_jobs, name), name


def test_the_public_names_of_the_test_kit_are_these() -> None:
    expected = """AttemptReport BAD_HANDLERS BadHandler Blocker CheckReport ConformanceError CrashableStore FakeSdk
    FakeSession Finding QueueMachine Slow Stuck TrioStateMachine assert_submitted check_bad_handlers check_executor
    check_handler check_store drain open_queue pass_time perform"""
    assert sorted(trio_jobs.testing.__all__) == expected.split()


def test_the_public_names_of_the_ports_are_these() -> None:
    expected = ["BacksUp", "Backup", "Clock", "Event", "KeyTombstone", "SdkExecutor", "Store"]
    assert trio_jobs.ports.__all__ == expected
    for name in ("BacksUp", "Clock", "KeyTombstone", "SdkExecutor", "Store"):
        assert getattr(trio_jobs.ports, name).__module__ == "trio_jobs.ports"


def test_every_method_of_a_port_is_documented() -> None:
    undocumented = [
        f"{name}.{method}"
        for name in ("BacksUp", "Clock", "SdkExecutor", "Store")
        for method, member in vars(getattr(trio_jobs.ports, name)).items()
        if not method.startswith("_") and not (member.__doc__ or "").strip()
    ]
    assert undocumented == []


def test_every_public_name_has_a_docstring() -> None:
    undocumented = [name for name in trio_jobs.__all__ if not (getattr(trio_jobs, name).__doc__ or "").strip()]
    assert undocumented == []


def test_no_other_module_is_public() -> None:
    """Beside the public names lie modules: with an underscore, or the packages meant for use."""
    others = {name for name in vars(trio_jobs) if not name.startswith("_")} - set(trio_jobs.__all__)
    assert others <= {"ports", "testing"}


def test_importing_the_package_does_not_import_the_test_kit() -> None:
    code = "import sys, trio_jobs; print('trio_jobs.testing' in sys.modules, 'pytest' in sys.modules)"
    done = run([sys.executable, "-c", code], check=True)
    assert done.stdout.split() == ["False", "False"]

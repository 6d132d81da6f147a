"""Values and errors: ids, times, escaping, views of records, and the messages of errors."""

from __future__ import annotations

import math
import unicodedata
import uuid
from datetime import UTC, datetime
from typing import Any

import attrs
import msgspec
import pytest
from engine_bench import BOOM, Bench, ended, error, in_state
from hypothesis import given
from hypothesis import strategies as st

from trio_jobs import _errors as errors
from trio_jobs import _lookup_errors as lookup_errors
from trio_jobs import _operator_errors as operator_errors
from trio_jobs._engine import directives
from trio_jobs._engine.job_id import CHANCE_BITS, uuid7
from trio_jobs._engine.jobs import FINAL, ErrorInfo, Outcome, State, escape, to_datetime, view
from trio_jobs._engine.json_values import moment
from trio_jobs._validation import MAX_WAIT, check_seconds

# ids

MILLISECONDS = st.integers(0, 2**48 - 1)
CHANCE = st.integers(0, 2**CHANCE_BITS - 1)
OVERWRITTEN = 0xF << 76 | 0b11 << 62  # by the version and the variant


@given(ms=MILLISECONDS, chance=CHANCE)
def test_an_id_is_a_uuid_of_version_7_of_rfc_9562(ms: int, chance: int) -> None:
    at = math.nextafter(ms / 1000, math.inf)  # the float of a millisecond may lie just below it
    text = uuid7(at, chance)
    made = uuid.UUID(text)
    assert str(made) == text
    assert made.version == 7
    assert made.variant == uuid.RFC_4122
    bits = made.int
    assert bits >> 80 == int(at * 1000)
    rand_a, rand_b = bits >> 64 & 0xFFF, bits & (1 << 62) - 1
    assert rand_a.bit_count() + rand_b.bit_count() == (chance & ~OVERWRITTEN).bit_count()


@given(at=st.floats(0, 2**37), chances=st.tuples(CHANCE, CHANCE))
def test_different_random_bits_give_a_different_id(at: float, chances: tuple[int, int]) -> None:
    assert (uuid7(at, chances[0]) == uuid7(at, chances[1])) is (chances[0] | OVERWRITTEN == chances[1] | OVERWRITTEN)


@given(times=st.tuples(st.integers(0, 2**47), st.integers(0, 2**47)), chances=st.tuples(CHANCE, CHANCE))
def test_ids_are_ordered_by_their_millisecond(times: tuple[int, int], chances: tuple[int, int]) -> None:
    early, late = sorted(times)
    if early < late:
        assert uuid7((early + 0.5) / 1000, chances[0]) < uuid7((late + 0.5) / 1000, chances[1])


# times


def test_a_time_is_an_aware_utc_datetime() -> None:
    assert to_datetime(0.5) == datetime(1970, 1, 1, 0, 0, 0, 500_000, UTC)
    assert to_datetime(None) is None


# foreign text


@given(st.text(st.characters(exclude_categories=["Cc", "Cf", "Cs", "Zl", "Zp"])))
def test_harmless_text_is_not_escaped(text: str) -> None:
    assert escape(text) == text


@given(st.text(st.characters(categories=["Cc", "Cs"])))
def test_no_control_character_and_no_lone_surrogate_is_shown(text: str) -> None:
    shown = escape(text)
    assert shown.isprintable()
    assert shown.encode().decode() == shown


def test_no_bidirectional_control_is_shown() -> None:
    turning = [c for c in map(chr, range(0x110000)) if unicodedata.bidirectional(c) in _TURNS] + [
        "\u200e",
        "\u200f",
        "\u061c",
    ]
    assert len(turning) >= 12
    for mark in turning:
        assert escape(f"a{mark}b") == f"a\\u{ord(mark):04x}b"


_TURNS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J", "\\x1b[2J"),
        ("a\nb", "a\\nb"),
        ("\x9b", "\\x9b"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("Ñandú €", "Ñandú €"),
    ],
)
def test_a_control_character_is_shown_as_its_escape(text: str, shown: str) -> None:
    assert escape(text) == shown


# what a record shows of itself


@pytest.mark.parametrize("state", State)
def test_a_view_shows_the_record_and_does_not_change_with_it(state: State) -> None:
    bench = in_state(state, key="A-1", digest="d", deadline_at=9000.0, by="ana")
    job = view(bench.job)
    before = attrs.asdict(job)
    assert (job.id, job.kind, job.key, job.by, job.payload) == ("job", "kind", "A-1", "ana", b'{"folio":"A-1"}')
    assert job.state is state
    assert job.is_final is (state in FINAL)
    assert job.seq == bench.job.last_seq == bench.projection.seq
    assert job.submitted_at == datetime.fromtimestamp(1000, UTC)
    assert job.deadline_at == datetime.fromtimestamp(9000, UTC)
    if state in (State.FAILED, State.CANCELLED):
        bench.retry()
    elif state is not State.COMPLETED:
        bench.now = 9000.0
        bench.expire() or bench.crash()
    assert attrs.asdict(job) == before


def test_a_view_shows_each_attempt() -> None:
    bench = Bench()
    bench.start(entered=False)
    bench.now += 2
    bench.end(error())
    bench.now += 1
    bench.start(entered=True)
    first, second = view(bench.job).attempts or ()
    assert (first.number, first.run, first.outcome, first.error, first.entered) == (1, 1, Outcome.ERROR, BOOM, False)
    assert first.ended_at is not None
    assert (first.ended_at - first.started_at).total_seconds() == 2
    assert (second.number, second.outcome, second.ended_at, second.entered) == (2, None, None, True)


def test_a_view_shows_the_result() -> None:
    assert view(in_state(State.COMPLETED).job).result == b"7"
    assert view(in_state(State.FAILED).job).result is None


def test_a_view_is_inside_only_while_a_call_is() -> None:
    bench = Bench()
    bench.start(entered=True)
    bench.stuck()
    assert view(bench.job).inside
    bench.end(ended(Outcome.TIMED_OUT, entered=True, late=True))
    assert bench.job.state is State.IN_DOUBT
    assert not view(bench.job).inside


def test_the_names_of_the_states_are_those_of_the_wire() -> None:
    assert [str(state) for state in State] == [
        "scheduled", "pending", "processing", "saving", "retrying", "in_doubt", "completed", "failed", "cancelled",
    ]  # fmt: skip


def test_an_error_is_shown_as_type_and_message() -> None:
    assert str(ErrorInfo("ValueError", "no")) == "ValueError: no"
    assert str(ErrorInfo("ValueError")) == "ValueError"


def test_the_json_of_an_error_omits_absent_fields() -> None:
    assert msgspec.json.encode(ErrorInfo("E", code=-21)) == b'{"type":"E","code":-21}'


# errors


@pytest.mark.parametrize(
    ("made", "facts", "says"),
    [
        (errors.UnknownKind("x", ("a", "b")), {"kind": "x", "known": ("a", "b")}, "'x' (registered: a, b)"),
        (errors.UnknownKind("x", ()), {"known": ()}, "(registered: none)"),
        (errors.InvalidPayload("k", "no folio"), {"kind": "k", "why": "no folio"}, "payload for 'k' refused: no folio"),
        (errors.KeyConflict("k", "A-1", "j"), {"kind": "k", "key": "A-1", "job_id": "j"}, "another payload"),
        (lookup_errors.JobNotFound("j"), {"job_id": "j"}, "no job 'j' is known"),
        (lookup_errors.JobNotFound("j"), {"key": None}, "give the whole id, or at least its last 6 characters"),
        (lookup_errors.JobNotFound("", "A-1"), {"job_id": "", "key": "A-1"}, "no job with key 'A-1' is known"),
        (lookup_errors.JobNotFound("j", "A-1"), {"job_id": "j"}, "key 'A-1' belongs to job j, which is pruned"),
        (
            lookup_errors.AmbiguousJob("x", ("a", "b")),
            {"job_ids": ("a", "b")},
            "'x' can be each of the jobs a, b; give",
        ),
        (lookup_errors.InvalidCursor("c1.x"), {"cursor": "c1.x"}, "'c1.x' is not a cursor of this list"),
        (errors.InvalidState("j", "failed", "use retry"), {"job_id": "j", "state": "failed"}, "is failed: use retry"),
        (
            operator_errors.JobChanged("j", "failed", 7, 9),
            {"if_seq": 7, "seq": 9},
            "job j is failed: it has changed since event 7 (it is at 9); look at it again",
        ),
        (
            operator_errors.JobClaimed("j", "failed", "ana", moment(0)),
            {"claimed_by": "ana", "until": moment(0)},
            "ana has claimed it until 1970-01-01 00:00:00 UTC; ask them, or take it over",
        ),
        (errors.QueueFull(5, 2, 1.25), {"capacity": 5, "waiting": 2, "retry_after": 1.25}, "try again in about 1.2 s"),
        (
            errors.JobFailed("j", "error", "E: x", True),
            {"may_have_acted": True},
            "failed (error): E: x; it may have acted",
        ),
        (errors.JobFailed("j", "expired", "", False), {"reason": "expired", "error": ""}, "job j failed: expired"),
        (errors.JobCancelled("j", "closed"), {"reason": "closed"}, "job j was cancelled: closed"),
        (errors.JobCancelled("j", ""), {"job_id": "j"}, "job j was cancelled"),
        (errors.JobInDoubt("j", "crashed"), {"reason": "crashed"}, "resolve it"),
        (
            errors.ResultUnavailable("j", "too long"),
            {"job_id": "j"},
            "job j completed, its result was not kept: too long",
        ),
        (directives.Snooze(5), {"seconds": 5.0}, "snoozed for 5 s"),
        (directives.RetryAfter(5), {"seconds": 5.0}, "retry after 5 s"),
        (directives.RetryAfter(5, "busy"), {"seconds": 5.0}, "busy"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_an_error_has_its_facts_as_attributes_and_a_message(made: Exception, facts: dict[str, Any], says: str) -> None:
    assert says in str(made)
    for name, fact in facts.items():
        assert getattr(made, name) == fact


def test_every_error_has_the_base_class_and_no_directive_has_it() -> None:
    assert all(issubclass(getattr(errors, name), errors.TrioJobsError) for name in errors.__all__ if name != "Copyable")
    assert not any(issubclass(getattr(directives, name), errors.TrioJobsError) for name in directives.__all__)
    callers = {errors.InvalidHandler, errors.UnknownKind, errors.InvalidPayload, errors.KeyConflict}
    lookups = {lookup_errors.JobNotFound, lookup_errors.AmbiguousJob, lookup_errors.InvalidCursor}
    assert all(issubclass(error, errors.UsageError) for error in callers | lookups | {errors.InvalidState})


@pytest.mark.parametrize("bad", [-1, -math.inf, math.nan, "5", None, True, 1j])
@pytest.mark.parametrize("zero", [True, False])
def test_an_invalid_number_of_seconds_is_refused(bad: Any, zero: bool) -> None:
    with pytest.raises(errors.UsageError, match="x must be a number of seconds"):
        check_seconds("x", bad, zero=zero)


def test_seconds_are_returned_as_a_float() -> None:
    given_back = check_seconds("x", 5)
    assert isinstance(given_back, float)
    assert given_back == 5
    assert check_seconds("x", 0) == 0
    assert check_seconds("x", math.inf) == math.inf
    assert check_seconds("x", 10**400) == math.inf
    with pytest.raises(errors.UsageError, match="more than 0, not 0"):
        check_seconds("x", 0, zero=False)


@pytest.mark.parametrize("asked", [directives.Snooze, directives.RetryAfter])
@pytest.mark.parametrize("bad", [math.inf, 1e300, 10**400, -1, math.nan, "5"])
def test_a_directive_refuses_a_wait_beyond_every_date(
    asked: type[directives.Snooze | directives.RetryAfter], bad: Any
) -> None:
    with pytest.raises(errors.UsageError, match=rf"{asked.__name__}\(seconds\) must be"):
        asked(bad)


def test_the_longest_wait_ends_at_a_date() -> None:
    until = to_datetime(datetime(2026, 1, 1, tzinfo=UTC).timestamp() + directives.Snooze(MAX_WAIT).seconds)
    assert until is not None
    assert until.year == 2126

"""Declarations of handlers, and the checks of payloads and results; each mistake with its message."""

from __future__ import annotations

import functools
import math
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import attrs
import msgspec
import pytest

from trio_jobs import _validation
from trio_jobs._engine.handlers import Handler, encode_result, make_handler
from trio_jobs._engine.jobs import Done
from trio_jobs._engine.retry import Retry
from trio_jobs._errors import InvalidHandler, InvalidPayload, UsageError

if TYPE_CHECKING:
    from nowhere import Missing  # type: ignore[import-not-found]


@attrs.frozen
class Invoice:
    folio: str
    total_cents: int
    lines: list[JobChannel] = attrs.field(factory=list)


@dataclass
class JobChannel:
    text: str
    amount: Decimal = Decimal(0)
    on: date | None = None


@attrs.frozen
class Puzzling:
    piece: Missing


class NotData:
    pass


def post(sdk: object, invoice: Invoice) -> str:
    raise NotImplementedError


async def post_async(sdk: object, invoice: Invoice, job: object) -> str:
    raise NotImplementedError


def made(fn: Any = post, sdk: Any = "thread", **changed: Any) -> Handler:
    given: dict[str, Any] = {
        "kind": None, "payload_type": None, "attempt_timeout": None, "stuck_after": None, "retry": Retry(),
        "idempotent": False, "verify": None, "verify_timeout": 30.0, "verify_delay": 0.0,
        "verify_first": False, "on_doubt": "hold",
    }  # fmt: skip
    return make_handler(fn, sdk, **{**given, **changed})


# a declaration


def test_a_plain_handler_enters_the_sdk_at_its_start() -> None:
    handler = made(post)
    assert (handler.kind, handler.is_async, handler.takes_sdk, handler.takes_job) == ("post", False, True, False)
    assert handler.enters_at_start
    assert handler.payload_type is Invoice
    assert handler.result_type is str


def test_an_async_handler_of_a_plain_sdk_enters_with_its_first_call() -> None:
    handler = made(post_async)
    assert (handler.is_async, handler.takes_job, handler.enters_at_start) == (True, True, False)


def test_an_async_handler_of_an_async_sdk_enters_at_its_start() -> None:
    assert made(post_async, "trio").enters_at_start


def test_without_an_sdk_a_handler_takes_the_payload_first() -> None:
    def greet(name: str, job: object) -> None: ...

    handler = made(greet, "none")
    assert (handler.takes_sdk, handler.takes_job, handler.payload_type) == (False, True, str)


def test_a_partial_has_the_signature_of_its_function() -> None:
    def book(book: str, sdk: object, invoice: Invoice) -> str:
        raise NotImplementedError

    handler = made(functools.partial(book, "A"), kind="book")
    assert (handler.payload_type, handler.result_type, handler.is_async) == (Invoice, str, False)


def test_a_callable_object_has_the_signature_of_its_call() -> None:
    class Booker:
        async def __call__(self, sdk: object, invoice: Invoice) -> str:
            raise NotImplementedError

    handler = made(Booker(), kind="book")
    assert (handler.payload_type, handler.is_async, handler.enters_at_start) == (Invoice, True, False)


def test_a_class_can_be_a_handler() -> None:
    class Greeting:
        def __init__(self, name: str) -> None: ...

    handler = made(Greeting, "none", payload_type=str)
    assert (handler.kind, handler.is_async, handler.takes_job) == ("Greeting", False, False)


def test_the_rules_have_the_declared_options() -> None:
    retry = Retry(7)
    rules = made(retry=retry, idempotent=True, verify=lambda sdk, job: Done(), on_doubt="fail").rules
    assert (rules.retry, rules.idempotent, rules.verifies, rules.on_doubt) == (retry, True, True, "fail")


def test_a_handler_without_limits_is_never_overdue() -> None:
    handler = made()
    assert (handler.attempt_timeout, handler.stuck_after, handler.verify_delay) == (math.inf, math.inf, 0)


def test_stuck_after_defaults_to_the_limit() -> None:
    assert made(attempt_timeout=5).stuck_after == 5
    assert made(attempt_timeout=5, stuck_after=60).stuck_after == 60


def test_an_async_verify_is_recognised() -> None:
    async def check(sdk: object, job: object) -> Done:
        raise NotImplementedError

    assert made(post_async, "trio", verify=check).verify_is_async
    assert not made(verify=lambda sdk, job: Done()).verify_is_async
    assert not made().verify_is_async


def test_an_explicit_payload_type_needs_no_annotation() -> None:
    assert made(lambda sdk, payload: None, kind="k", payload_type=Invoice).payload_type is Invoice


def test_an_explicit_payload_type_allows_unreadable_annotations() -> None:
    def odd(sdk: Missing, payload: Missing) -> str:
        raise NotImplementedError

    handler = made(odd, payload_type=int)
    assert (handler.payload_type, handler.result_type) == (int, Any)


def test_a_result_of_a_type_unknown_to_json_is_returned_as_plain_values() -> None:
    def odd(sdk: object, payload: int) -> NotData:
        raise NotImplementedError

    assert made(odd).decode_result(b'{"a":[1]}') == {"a": [1]}


def _no_payload(sdk: object) -> None: ...
def _too_many(sdk: object, payload: int, job: object, more: object) -> None: ...
def _starred(sdk: object, *payload: int) -> None: ...
def _named(sdk: object, *, payload: int) -> None: ...
def _untyped(sdk, payload): ...  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202, RUF100
def _unreadable(sdk: object, payload: Missing) -> None: ...
def _attribute_of_nothing(sdk: object, payload: attrs.nothing_such) -> None: ...  # type: ignore[name-defined]
def _not_data(sdk: object, payload: NotData) -> None: ...
def _puzzling(sdk: object, payload: Puzzling) -> None: ...
def _generator(sdk: object, payload: int) -> Iterator[int]:
    yield 1


async def _async_generator(sdk: object, payload: int) -> AsyncIterator[int]:
    yield 1


class _Yielding:
    def __call__(self, sdk: object, payload: int) -> Iterator[int]:
        yield 1


@pytest.mark.parametrize(
    ("fn", "more", "says"),
    [
        (42, {}, "a handler must be a function, not 42"),
        (lambda sdk, payload: None, {}, r"needs a name .* give kind=\.\.\."),
        (functools.partial(post), {}, r"needs a name .* give kind=\.\.\."),
        (post, {"kind": ""}, "needs a name"),
        (post, {"kind": "x" * 201}, "needs a name of 1 to 200 characters"),
        (post, {"kind": 5}, "needs a name"),
        (_no_payload, {}, r"'_no_payload' must take \(sdk, payload\) or \(sdk, payload, job\), not \(sdk"),
        (_too_many, {}, r"must take \(sdk, payload\)"),
        (_starred, {}, r"must take \(sdk, payload\)"),
        (_named, {}, r"must take \(sdk, payload\)"),
        (max, {}, r"'max' must take \(sdk, payload\) .*, not a signature that cannot be read"),
        (_untyped, {}, "annotate parameter 'payload' with its payload type"),
        (_unreadable, {}, r"'_unreadable' cannot be read .*'Missing'.* or give payload_type=\.\.\."),
        (_attribute_of_nothing, {}, "cannot be read .*nothing_such"),
        (_not_data, {}, "the payload type of handler '_not_data' cannot be read from JSON.*NotData"),
        (_puzzling, {}, "the payload type of handler '_puzzling' cannot be read from JSON.*Missing"),
        (_generator, {}, "'_generator' is a generator; return the result instead of yielding it"),
        (_async_generator, {}, "'_async_generator' is a generator"),
        (_Yielding(), {"kind": "k"}, "'k' is a generator"),
        (post, {"on_doubt": "guess"}, "on_doubt of 'post' must be 'hold', 'retry' or 'fail', not 'guess'"),
        (post, {"idempotent": "no"}, "idempotent of 'post' must be True or False, not 'no'"),
        (post, {"retry": 3}, "retry of 'post' must be a Retry, not 3"),
        (post, {"verify_first": True}, r"handler 'post': verify_first=True needs verify=\.\.\."),
        (post, {"verify": 3}, r"verify of 'post' must take \(sdk, job\)"),
        (post, {"verify": lambda job: None}, r"verify of 'post' must take \(sdk, job\)"),
        (post, {"verify": lambda *both: None}, r"verify of 'post' must take \(sdk, job\)"),
        (post, {"verify": lambda sdk, *, job: None}, r"verify of 'post' must take \(sdk, job\)"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)  # fmt: skip
def test_an_invalid_handler_is_refused_when_it_is_declared(fn: Any, more: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidHandler, match=says):
        made(fn, **more)


def test_a_plain_handler_of_an_async_sdk_is_refused() -> None:
    with pytest.raises(InvalidHandler, match="plain function, but the SDK is asynchronous; declare it with async def"):
        made(post, "trio")
    with pytest.raises(InvalidHandler, match="verify of 'post_async' is a plain function, but the SDK is asynchronous"):
        made(post_async, "trio", verify=lambda sdk, job: Done())


def test_messages_of_a_service_without_an_sdk_do_not_name_one() -> None:
    with pytest.raises(InvalidHandler, match=r"must take \(payload\) or \(payload, job\)"):
        made(_too_many, "none")
    with pytest.raises(InvalidHandler, match=r"verify of '<?\w*>?' must take \(job\)"):
        made(_no_payload, "none", payload_type=int, verify=lambda sdk, job: Done())


@pytest.mark.parametrize("name", ["attempt_timeout", "stuck_after", "verify_timeout", "verify_delay"])
@pytest.mark.parametrize("bad", [-1, math.nan, "5", True])
def test_an_invalid_limit_is_refused_by_name(name: str, bad: Any) -> None:
    with pytest.raises(UsageError, match=f"{name} must be a number of seconds"):
        made(post, **{name: bad})


@pytest.mark.parametrize("name", ["attempt_timeout", "stuck_after", "verify_timeout"])
def test_a_limit_of_zero_seconds_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"{name} must be a number of seconds, more than 0"):
        made(post, **{name: 0})


@pytest.mark.parametrize("bad", [0, -1, 1.5, True, "3", None])
def test_a_fraction_and_a_too_small_number_are_refused(bad: Any) -> None:
    with pytest.raises(UsageError, match="buffer must be a whole number, 1 or more"):
        _validation.check_number("buffer", bad)
    assert _validation.check_number("buffer", 1) == 1


# payloads


@pytest.mark.parametrize(
    "payload",
    [
        Invoice("A-1", 11600, [JobChannel("x", Decimal("1.10"), date(2026, 1, 2))]),
        {"folio": "A-1", "total_cents": 11600, "lines": [{"text": "x", "amount": "1.10", "on": "2026-01-02"}]},
    ],
    ids=["object", "plain"],
)
def test_a_payload_is_accepted_as_its_type_or_as_plain_values_and_decoded_for_each_attempt(payload: Any) -> None:
    handler = made()
    body = handler.encode(payload)
    one, other = handler.decode(body), handler.decode(body)
    assert one == other == Invoice("A-1", 11600, [JobChannel("x", Decimal("1.10"), date(2026, 1, 2))])
    assert one is not other


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        ({"folio": "A-1"}, "missing required field `total_cents`"),
        ({"folio": "A-1", "total_cents": "7"}, r"Expected `int`, got `str` - at `\$\.total_cents`"),
        ({"folio": None, "total_cents": 7}, r"Expected `str`, got `null` - at `\$\.folio`"),
        ({"folio": "A-1", "total_cents": 7, "lines": [{"text": 1}]}, r"at `\$\.lines\[0\]\.text`"),
        ({"folio": "A-1", "total_cents": math.inf}, r"inf has no JSON - at `\$\.total_cents`"),
        ([], "Expected `object`, got `array`"),
        (NotData(), "Encoding objects of type NotData is unsupported"),
        ("\ud800", "surrogates not allowed"),
    ],
    ids=["missing", "wrong", "null", "nested", "inf", "array", "object", "surrogate"],
)
def test_an_invalid_payload_is_refused_and_the_message_names_the_field(payload: Any, says: str) -> None:
    with pytest.raises(InvalidPayload, match=says) as raised:
        made().encode(payload)
    assert raised.value.kind == "post"


def test_the_own_checks_of_a_payload_type_refuse_a_payload() -> None:
    class Even(msgspec.Struct):
        number: int

        def __post_init__(self) -> None:
            if self.number % 2:
                raise LookupError

    handler = made(lambda sdk, payload: None, kind="k", payload_type=Even)
    assert handler.decode(handler.encode({"number": 2})) == Even(2)
    with pytest.raises(InvalidPayload, match="payload for 'k' refused: LookupError"):
        handler.encode({"number": 3})


def test_a_payload_longer_than_a_mebibyte_is_refused() -> None:
    handler = made(lambda sdk, payload: None, kind="k", payload_type=str)
    assert len(bytes(handler.encode("x" * (2**20 - 2)))) == 2**20
    with pytest.raises(InvalidPayload, match="it is 1048577 bytes long, the limit is 1048576"):
        handler.encode("x" * (2**20 - 1))


# results


@pytest.mark.parametrize(
    ("value", "body"),
    [
        (None, b"null"),
        (7, b"7"),
        (JobChannel("x"), b'{"text":"x","amount":"0","on":null}'),
        ({"a": (1, 2)}, b'{"a":[1,2]}'),
    ],
    ids=["none", "int", "object", "dict"],
)
def test_a_result_is_kept_as_json(value: Any, body: bytes) -> None:
    kept, problem, not_run = encode_result(value)
    assert kept is not None
    assert not_run is None
    assert (bytes(kept), problem) == (body, None)


def test_a_result_that_is_not_json_is_not_kept_and_the_problem_says_why() -> None:
    assert encode_result(NotData()) == (None, "not JSON: Encoding objects of type NotData is unsupported", None)
    body, problem, _ = encode_result("\ud800")
    assert body is None
    assert problem is not None
    assert problem.isprintable()


def test_a_result_longer_than_a_mebibyte_is_not_kept_and_the_problem_says_why() -> None:
    assert encode_result("x" * 2**20) == (None, "it is 1048578 bytes long, the limit is 1048576", None)


def test_a_returned_coroutine_is_closed() -> None:
    async def forgotten() -> None: ...

    coroutine = forgotten()
    body, problem, not_run = encode_result(coroutine)  # left open, it would warn of itself when it is collected
    assert body is None
    assert problem is not None
    assert not_run == "a coroutine"
    with pytest.raises(RuntimeError, match="cannot reuse"):
        coroutine.send(None)

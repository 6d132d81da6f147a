"""The digest of a payload depends on its value, not on how it is spelled, in which process, or with which release."""

from __future__ import annotations

import dataclasses
import os
import sys
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Any, NamedTuple
from uuid import UUID

import attrs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.processes import run
from trio_jobs._engine.handlers import Handler, make_handler
from trio_jobs._engine.payload_digest import canonical_json, digest, same_digest
from trio_jobs._engine.retry import Retry

NULL = msgspec.Raw(b"null")


def handler_of(of: Any) -> Handler:
    return make_handler(
        lambda payload: None, "none", kind="k", payload_type=of, attempt_timeout=None, stuck_after=None, retry=Retry(),
        idempotent=False, verify=None, verify_timeout=30.0, verify_delay=0.0, verify_first=False, on_doubt="hold",
    )  # fmt: skip


def digest_of(of: Any, payload: Any) -> str:
    body, value = handler_of(of).accept(payload)
    return digest(value, body)


class Kind(Enum):
    A = "a"


@attrs.frozen
class Order:
    number: str
    total: float = 0.0
    note: str | None = None
    lines: list[str] = attrs.field(factory=list)


@dataclasses.dataclass
class Data:
    number: str
    total: Decimal = Decimal("1.50")
    tags: set[str] = dataclasses.field(default_factory=set)


class Struct(msgspec.Struct, rename="camel", tag="order"):
    order_number: str
    total: float = 0.0
    lines: list[str] = []


class Row(msgspec.Struct, array_like=True):
    number: int
    note: str = ""


class Named(NamedTuple):
    a: int
    b: str = "x"


SAME: list[tuple[Any, list[Any]]] = [
    (Any, [100, 100.0, msgspec.Raw(b"1e2"), msgspec.Raw(b"100.000")]),
    (Any, [0, 0.0, -0.0, msgspec.Raw(b"0e7")]),
    (Any, [{"a": 1, "b": [2]}, {"b": [2.0], "a": 1.0}, msgspec.Raw(b' {"b" : [2], "a":1}')]),
    (Any, [10**30, msgspec.Raw(b"1" + b"0" * 30)]),
    (Decimal, [Decimal("1.50"), Decimal("1.5"), 1.5, "1.500", msgspec.Raw(b"15e-1")]),
    (Decimal, [Decimal("1E+900000"), "1E900000"]),
    (float, [100, 100.0]),
    (set[str], [{"a", "b"}, ["b", "a"], ["a", "b", "a"]]),
    (frozenset[int], [frozenset([1, 2]), [2, 1]]),
    (datetime, [datetime(2026, 1, 2, 3, tzinfo=UTC), "2026-01-02T03:00:00Z", "2026-01-02T04:00:00+01:00"]),
    (datetime, [datetime(2026, 1, 2, 3, tzinfo=UTC), datetime(2026, 1, 2, 5, tzinfo=timezone(timedelta(hours=2)))]),
    (timedelta, [timedelta(seconds=90), "PT90S", "PT1M30S"]),
    (UUID, [UUID(int=7), str(UUID(int=7)).upper(), UUID(int=7).hex]),
    (date, [date(2026, 1, 2), "2026-01-02"]),
    (bytes, [b"\x00\xff", "AP8="]),
    (Kind, [Kind.A, "a"]),
    (Order, [Order("A"), {"number": "A"}, {"number": "A", "total": 0, "note": None, "lines": []}]),
    (Order, [Order("A", 100), {"number": "A", "total": 100.0}]),
    (Data, [Data("A"), {"number": "A", "total": "1.5", "tags": []}, {"number": "A", "total": 1.5}]),
    (Struct, [Struct("A"), {"type": "order", "orderNumber": "A", "lines": []}, {"orderNumber": "A", "total": 0}]),
    (Row, [Row(1), [1], [1, ""]]),
    (Named, [Named(1), [1], [1, "x"]]),
    (dict[date, int], [{date(2026, 1, 2): 1}, {"2026-01-02": 1}]),
    (list[Order], [[Order("A")], [{"number": "A"}], ({"number": "A", "total": 0},)]),
]


@pytest.mark.parametrize(("of", "payloads"), SAME, ids=lambda value: getattr(value, "__name__", ""))
def test_the_same_value_has_the_same_digest_however_it_is_spelled(of: Any, payloads: list[Any]) -> None:
    digests = {digest_of(of, payload) for payload in payloads}
    assert len(digests) == 1
    assert digests.pop().startswith("2:")


DIFFERENT: list[tuple[Any, list[Any]]] = [
    (Any, [1, "1", True, [1], {"1": 1}, None, 1.5, 10, -1, 0, ""]),
    (Any, [[1, 2], [2, 1], [1], [12]]),
    (set[int], [{1}, {1, 2}, set()]),
    (Order, [Order("A"), Order("B"), Order("A", 1), Order("A", note=""), Order("A", lines=[""])]),
    (datetime, [datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 1, 2)]),
    (Decimal, [Decimal("1.5"), Decimal("1.05"), Decimal(15), Decimal("-1.5")]),
    (Row, [Row(1), Row(1, "x"), Row(2)]),
]


@pytest.mark.parametrize(("of", "payloads"), DIFFERENT, ids=lambda value: getattr(value, "__name__", ""))
def test_another_value_has_another_digest(of: Any, payloads: list[Any]) -> None:
    assert len({digest_of(of, payload) for payload in payloads}) == len(payloads)


def test_a_release_that_adds_fields_with_defaults_does_not_change_a_digest() -> None:
    @attrs.frozen
    class Order:
        number: str

    old = Order

    def make() -> str:
        raise AssertionError("a default factory is not called")

    @attrs.frozen
    class Later:
        number: str
        currency: str = "EUR"
        lines: list[str] = attrs.field(factory=list)

    assert digest_of(old, old("A")) == digest_of(Later, Later("A")) == digest_of(Later, {"number": "A"})
    with_factory = attrs.make_class(
        "WithFactory", {"number": attrs.field(type=str), "id": attrs.field(type=str, factory=make)}
    )
    assert canonical_json(with_factory("A", "x"), NULL) == b'{"id":"x","number":"A"}'


def test_pydantic_models_are_digested_by_value() -> None:
    pydantic = pytest.importorskip("pydantic", reason="pydantic is not installed; trio-jobs does not depend on it")

    class Line(pydantic.BaseModel):  # type: ignore[name-defined, misc]
        cents: int = 0

    class Invoice(pydantic.BaseModel):  # type: ignore[name-defined, misc]
        folio: str = pydantic.Field(alias="folioNumber")
        tags: set[str] = set()
        lines: list[Line] = []

    @pydantic.dataclasses.dataclass
    class Payment:
        folio: str
        cents: int = 0

    words = [f"tag {n}" for n in range(20)]
    assert digest_of(Invoice, {"folioNumber": "A", "tags": words, "lines": [{"cents": 0}]}) == digest_of(
        Invoice, Invoice(folioNumber="A", tags=set(words), lines=[Line()])
    )
    assert digest_of(Invoice, {"folioNumber": "A", "tags": []}) == digest_of(Invoice, {"folioNumber": "A"})
    assert digest_of(Payment, {"folio": "A", "cents": 0}) == digest_of(Payment, Payment("A"))  # type: ignore[call-arg] # pydantic is Any here


def test_a_digest_is_the_same_in_every_process() -> None:
    code = (
        "from test_payload_digest import Data, digest_of\n"
        "print(digest_of(Data, Data('A', tags={f'tag {n}' for n in range(50)})))"
    )
    found = set()
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        done = run([sys.executable, "-c", code], env=environment, timeout=60)
        assert done.returncode == 0, done.stderr
        found.add(done.stdout)
    assert len(found) == 1


@pytest.mark.parametrize(
    ("of", "payload", "expected"),
    [
        (Any, None, "2:941dffce4e4308ceb33e87326003257d"),
        (
            Any,
            {"number": "A-1", "cents": 11600, "lines": [1.5, True, "x"]},
            "2:babc360c4775d693be9a07772b41af99",
        ),
        (Data, Data("A", Decimal("1.25"), {"b", "a"}), "2:8e77942aa91c694dd6ed1490e82ea6c8"),
        (Struct, Struct("A", 2), "2:c6c65de7164dd1780bb1ae11ae325fb9"),
        (datetime, datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC), "2:c072395d10ce15e8d659fcd69a7a7627"),
    ],
)
def test_a_digest_never_changes(of: Any, payload: Any, expected: str) -> None:
    """Journals contain these: another digest would make a known payload conflict with itself."""
    assert digest_of(of, payload) == expected


def test_a_digest_of_an_earlier_version_is_compared_by_its_rule() -> None:
    stored = "2a40c3bd9ec8ad5e399a64311a46dbcd"
    body, value = handler_of(Any).accept({"b": 1, "a": 100.0})
    assert same_digest(stored, digest(value, body), body)
    other, _ = handler_of(Any).accept({"b": 1, "a": 100})
    assert not same_digest(stored, digest(value, body), other), "it told 100 from 100.0"


def test_a_value_that_json_cannot_hold_is_digested_by_its_json() -> None:
    class Money:
        def __init__(self, text: str) -> None:
            self.text = text

    of = attrs.make_class("Priced", {"price": attrs.field(type=str, converter=Money)})
    one = digest_of(of, {"price": "1.50"})
    assert one == digest_of(of, msgspec.Raw(b' {"price": "1.50"}'))
    assert one != digest_of(of, {"price": "1.5"})


TEXT = st.text(st.characters(exclude_categories=["Cs"]))
NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=10,
)


def _turned(value: Any) -> Any:
    """The same JSON with every object's fields in another order."""
    if isinstance(value, dict):
        return {name: _turned(value[name]) for name in reversed(list(value))}
    return [_turned(item) for item in value] if isinstance(value, list) else value


def _by_value(value: Any) -> Any:
    """A value that is equal to another one if their JSON means the same."""
    match value:
        case bool() | None | str():
            return repr(value)
        case int() | float():
            return Decimal(repr(value))
        case list():
            return [_by_value(item) for item in value]
    return {name: _by_value(item) for name, item in value.items()}


@given(JSON)
def test_the_digest_of_a_payload_does_not_depend_on_order_or_spaces(value: Any) -> None:
    compact = msgspec.json.encode(value)
    loose = msgspec.json.format(msgspec.json.encode(_turned(value)), indent=3)
    assert digest_of(Any, msgspec.Raw(compact)) == digest_of(Any, msgspec.Raw(loose))


@given(JSON, JSON)
def test_payloads_that_differ_have_different_digests(one: Any, other: Any) -> None:
    assert (digest_of(Any, one) == digest_of(Any, other)) is (_by_value(one) == _by_value(other))

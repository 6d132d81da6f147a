"""A payload that does not come back from its JSON as it was given is refused when it is submitted."""

from __future__ import annotations

import dataclasses
import math
from collections import OrderedDict
from datetime import UTC, date, timedelta
from decimal import Decimal
from typing import Annotated, Any, NamedTuple, TypedDict

import attrs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_payload_digest import handler_of

from support.hostile_errors import Number, Word
from trio_jobs._engine.handlers import encode_payload, encode_result
from trio_jobs._engine.payload_digest import canonical_json
from trio_jobs._errors import InvalidPayload


@attrs.frozen
class Line:
    text: str
    rate: float | None = None


@attrs.frozen
class Invoice:
    folio: str
    lines: list[Line] = attrs.field(factory=list)
    extra: Any = None


class Special(Invoice):
    """A subclass, whose own fields a handler of invoices would never see."""

    currency: str = "EUR"


Special = attrs.frozen(Special)  # type: ignore[misc] # its annotations are fields from here on


@dataclasses.dataclass
class Data:
    text: str
    line: Line | None = None


class Struct(msgspec.Struct, rename="camel"):
    line_text: str


class TagA(msgspec.Struct, tag="a"):
    number: int


class TagB(msgspec.Struct, tag="b"):
    text: str


class Row(msgspec.Struct, array_like=True):
    number: int


class Typed(TypedDict, total=False):
    text: str


class Named(NamedTuple):
    line: Line


@attrs.define
class Private:
    text: str
    _secret: int = 0


@attrs.define(eq=False)
class Identity:
    """Equal to nothing but itself."""

    text: str
    _secret: int = 0


@attrs.define
class Vague:
    """Cannot be compared."""

    text: str

    def __eq__(self, other: object) -> bool:
        raise ValueError("the truth value of an array is ambiguous")

    __hash__ = None  # type: ignore[assignment] # as attrs does


def accept(of: Any, payload: Any) -> Any:
    return handler_of(of).accept(payload)[1]


REFUSED: dict[str, tuple[Any, Any, str]] = {
    "nan": (Any, math.nan, r"nan has no JSON - at `\$`"),
    "inf for None": (float | None, math.inf, r"inf has no JSON - at `\$`"),
    "nan within": (dict[str, Any], {"a": [1, {"b": -math.inf}]}, r"-inf has no JSON - at `\$\.a\[1\]\.b`"),
    "nan in a field": (Invoice, Invoice("A", [Line("x", math.nan)]), r"nan has no JSON - at `\$\.lines\[0\]\.rate`"),
    "nan as Decimal": (Decimal, Decimal("NaN"), "comes back as"),
    "unknown field": (Invoice, {"folio": "A", "total": 5}, r"Object contains unknown field `total` - at `\$`"),
    "unknown within": (
        Invoice,
        {"folio": "A", "lines": [{"text": "x", "vat": 1}]},
        r"field `vat` - at `\$\.lines\[0\]`",
    ),
    "unknown of a dataclass": (Data, {"text": "a", "line": {"text": "x", "vat": 1}}, r"`vat` - at `\$\.line`"),
    "unknown of a struct": (Struct, {"lineText": "a", "line_text": "a"}, "unknown field `line_text`"),
    "unknown of a TypedDict": (Typed, {"text": "a", "b": 1}, "unknown field `b`"),
    "unknown in a tuple": (tuple[int, Line], [1, {"text": "x", "vat": 1}], r"`vat` - at `\$\[1\]`"),
    "unknown in a dict": (dict[str, Line], {"k": {"text": "x", "vat": 1}}, r"`vat` - at `\$\.k`"),
    "unknown in a named tuple": (Named, [{"text": "x", "vat": 1}], r"`vat` - at `\$\[0\]`"),
    "unknown of a union": (Line | int | None, {"text": "x", "vat": 1}, "`vat`"),
    "unknown of a tagged union": (TagA | TagB, {"type": "b", "text": "x", "number": 1}, "`number`"),
    "too many items": (Row, [1, 2], "Array has more than 1 items"),
    "a subclass": (Invoice, Special("A"), "unknown field `currency`"),
    "raw json": (Invoice, msgspec.Raw(b'{"folio":"A","total":5}'), "unknown field `total`"),
    "private attribute": (Private, Private("a", 5), "it comes back as another Private from its JSON"),
    "private, not compared": (Identity, Identity("a", 5), "it does not come back equal from its JSON"),
    "incomparable": (Vague, Vague("a"), "it comes back as another Vague"),
    "a tuple where a list comes back": (Invoice, Invoice("A", extra=(1, 2)), "it comes back as another Invoice"),
    "a set of anything": (
        Any,
        {"tags": {"a"}},
        r"a set comes back as a list; declare it as set\[\.\.\.\] - at `\$\.tags`",
    ),
    "a set in a field": (Invoice, Invoice("A", extra={1}), "it comes back as another Invoice"),
    "a number that is no float": (float, 2**53 + 1, "9007199254740993 comes back as 9007199254740992.0"),
    "a coroutine": (Any, {"a": (x for x in "b")}, "a generator is no result"),
    "half a character": (str, "\ud800", "surrogates not allowed"),
}


@pytest.mark.parametrize(("of", "payload", "says"), REFUSED.values(), ids=REFUSED)
def test_a_payload_that_would_change_is_refused(of: Any, payload: Any, says: str) -> None:
    with pytest.raises(InvalidPayload, match=says):
        accept(of, payload)


FULL = Invoice("A", [Line("x", 0.5)], {"a": [None]})

ACCEPTED: dict[str, tuple[Any, Any, Any]] = {
    "plain values of a class": (Invoice, {"folio": "A", "lines": [{"text": "x"}]}, Invoice("A", [Line("x")])),
    "object in a list": (list[Line], (Line("x"), {"text": "y"}), [Line("x"), Line("y")]),
    "object in a dict": (Any, {"line": Line("x", 1)}, {"line": {"text": "x", "rate": 1}}),
    "tuple of anything": (Any, (1, (2,)), [1, [2]]),
    "date of anything": (Any, date(2026, 1, 2), "2026-01-02"),
    "other keys": (Any, {1: "a", date(2026, 1, 2): "b"}, {"1": "a", "2026-01-02": "b"}),
    "set": (set[str], {"b", "a"}, {"a", "b"}),
    "int as float": (float, 100, 100.0),
    "float as Decimal": (Decimal, 0.1, Decimal("0.1")),
    "infinity as Decimal": (Decimal, Decimal("Infinity"), Decimal("Infinity")),
    "all fields": (Invoice, FULL, FULL),
    "None": (float | None, None, None),
    "private default": (Private, Private("a"), Private("a")),
    "tagged": (TagA | TagB, TagB("x"), TagB("x")),
    "tag as text": (TagA | TagB, {"type": "a", "number": 1}, TagA(1)),
    "text subclass": (str, Word("a"), "a"),
    "number subclass": (dict[str, int], {Word("a"): Number(1)}, {"a": 1}),
    "a dict subclass": (dict[str, int], OrderedDict(a=1), {"a": 1}),
    "digits": (Decimal, msgspec.Raw(b" 1.10000000000000000000000000001"), Decimal("1.10000000000000000000000000001")),
    "large": (Decimal, msgspec.Raw(b"1e400"), Decimal("1e400")),
    "annotated": (Annotated[Line, msgspec.Meta(description="x")], {"text": "x"}, Line("x")),
}  # fmt: skip


@pytest.mark.parametrize(("of", "payload", "expected"), ACCEPTED.values(), ids=ACCEPTED)
def test_a_payload_of_plain_values_is_accepted_for_its_type(of: Any, payload: Any, expected: Any) -> None:
    value = accept(of, payload)
    assert value == expected
    assert type(value) is type(expected)


def test_the_digits_of_raw_json_are_kept() -> None:
    body, _ = handler_of(Any).accept(msgspec.Raw(b'{"total" : 1.10000000000000000000000000001}'))
    assert bytes(body) == b'{"total":1.10000000000000000000000000001}'


def test_a_payload_of_an_earlier_version_is_read_leniently() -> None:
    assert handler_of(Invoice).decode(b'{"folio":"A","dropped":1,"lines":[{"text":"x","vat":2}]}') == Invoice(
        "A", [Line("x")]
    )


LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(st.characters(codec=None)), st.binary(),
    st.decimals(), st.dates(), st.datetimes(timezones=st.just(UTC)), st.timedeltas(timedelta(-9), timedelta(9)),
    st.uuids(), st.builds(object), st.text().map(Word), st.integers().map(Number), st.complex_numbers(),
    st.builds(Line, st.text(), st.none() | st.floats()), st.builds(Private, st.text(), st.integers(0, 1)),
    st.builds(Identity, st.text(), st.integers(0, 1)), st.builds(Vague, st.text()),
)  # fmt: skip
ANYTHING = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.sets(st.integers()),
        st.dictionaries(st.text(), inner, max_size=3),
        st.dictionaries(st.integers() | st.dates(), inner, max_size=2),
        st.builds(Invoice, st.text(), extra=inner),
        st.builds(Data, st.text()),
    ),
    max_leaves=8,
)
TYPES = st.sampled_from(
    [Any, Invoice, Line, Data, Private, Identity, float | None, int, str, Decimal, list[Any], dict[str, Any], set[int]]
)


@given(TYPES, ANYTHING)
def test_what_is_accepted_is_what_runs(of: Any, payload: Any) -> None:
    handler = handler_of(of)
    try:
        body, value = handler.accept(payload)
    except InvalidPayload:
        return
    again = handler.decode(body)
    assert canonical_json(again, body) == canonical_json(value, body)
    if type(payload) is type(value) and attrs.has(type(payload)):
        assert canonical_json(payload, body) == canonical_json(value, body)
        if type(payload) is not Identity:
            assert payload == value
    if isinstance(payload, float):
        assert math.isfinite(payload)
        assert isinstance(value, float | int | Decimal)


@given(ANYTHING)
def test_a_result_is_kept_whole_or_not_at_all(result: Any) -> None:
    kept = encode_result(result)
    assert (kept.body is None) == (kept.problem is not None)
    if kept.body is not None and isinstance(result, float):
        assert msgspec.json.decode(kept.body) == result


@given(ANYTHING)
def test_a_client_refuses_what_has_no_json(payload: Any) -> None:
    try:
        body = encode_payload("k", payload)
    except InvalidPayload:
        return
    msgspec.json.decode(body)


@pytest.mark.parametrize("result", [math.nan, [1.5, math.inf], {"a": {"b": -math.inf}}, Line("x", math.nan)])
def test_a_result_without_json_is_not_kept(result: Any) -> None:
    body, problem, _ = encode_result(result)
    assert body is None
    assert problem is not None
    assert problem.startswith("not JSON: ")
    assert " has no JSON - at `$" in problem


# pydantic, which is no dependency


@pytest.fixture
def models() -> Any:
    pydantic = pytest.importorskip("pydantic", reason="pydantic is not installed; trio-jobs does not depend on it")

    class Models:
        class Line(pydantic.BaseModel):  # type: ignore[name-defined, misc]
            rate: float | None = None

            @property
            def double(self) -> float:
                return 2 * (self.rate or 0)

            double = pydantic.computed_field(double)

        class Invoice(pydantic.BaseModel):  # type: ignore[name-defined, misc]
            folio: str = pydantic.Field(alias="folioNumber")
            lines: list[Any] = []
            secret: pydantic.SecretStr | None = None  # type: ignore[name-defined] # see above

        class Open(pydantic.BaseModel):  # type: ignore[name-defined, misc]
            model_config = pydantic.ConfigDict(extra="allow")

        class Renaming(pydantic.BaseModel):  # type: ignore[name-defined, misc]
            number: int

            @pydantic.model_validator(mode="before")  # type: ignore[untyped-decorator] # pydantic is Any here
            @classmethod
            def read_old_name(cls, value: Any) -> Any:
                return {"number": value.get("old", value.get("number"))}

        class Chosen(pydantic.BaseModel):  # type: ignore[name-defined, misc]
            model_config = pydantic.ConfigDict(populate_by_name=True)
            number: int = pydantic.Field(validation_alias=pydantic.AliasChoices("a", pydantic.AliasPath("b", "c")))

        @pydantic.dataclasses.dataclass
        class Data:
            cents: int = 0

        Lines = pydantic.RootModel[list[Line]]

    Models.Invoice.model_rebuild()
    return Models


def test_a_name_that_a_pydantic_model_does_not_have_is_refused(models: Any) -> None:
    for of, payload in (
        (models.Invoice, {"folioNumber": "A", "total": 1}),
        (models.Invoice, {"folioNumber": "A", "folio": "A"}),
        (list[models.Line], [{"rate": 1, "vat": 1}]),
        (models.Lines, [{"vat": 1}]),
        (models.Data, {"cents": 1, "vat": 1}),
        (models.Chosen, {"a": 1, "d": 1}),
    ):
        with pytest.raises(InvalidPayload, match="Object contains unknown field"):
            accept(of, payload)


def test_names_that_a_pydantic_model_reads_are_accepted(models: Any) -> None:
    assert accept(models.Line, models.Line(rate=1)) == models.Line(rate=1)
    assert accept(models.Lines, models.Lines([models.Line()])) == models.Lines([models.Line()])
    assert accept(models.Open, {"any": 1}) == models.Open(any=1)
    assert accept(models.Renaming, {"old": 1}) == models.Renaming(number=1)
    for payload in ({"a": 1}, {"b": {"c": 1}}, {"number": 1}):
        assert accept(models.Chosen, payload) == models.Chosen(number=1)


def test_a_pydantic_model_that_would_change_is_refused(models: Any) -> None:
    with pytest.raises(InvalidPayload, match=r"nan has no JSON - at `\$\.(rate|double)`"):
        accept(models.Line, models.Line(rate=math.nan))
    with pytest.raises(InvalidPayload, match="it comes back as another Invoice"):
        accept(models.Invoice, models.Invoice(folioNumber="A", secret="hush"))

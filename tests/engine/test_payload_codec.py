"""The types that a payload and a result can have, and that an error names the field."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any, NamedTuple, TypedDict
from uuid import UUID

import attrs
import msgspec
import pytest

import trio_jobs
from trio_jobs._engine.payload_codec import decoder, encode


@attrs.frozen
class Attrs:
    folio: str
    cents: int


@dataclasses.dataclass(frozen=True)
class Data:
    folio: str
    cents: int


class Struct(msgspec.Struct, frozen=True):
    folio: str
    cents: int


class Typed(TypedDict):
    folio: str
    cents: int


class Named(NamedTuple):
    folio: str
    cents: int


class Colour(Enum):
    RED = "red"


VALUES: list[tuple[Any, Any]] = [
    (Attrs, Attrs("A-1", 5)),
    (Data, Data("A-1", 5)),
    (Struct, Struct("A-1", 5)),
    (Typed, Typed(folio="A-1", cents=5)),
    (Named, Named("A-1", 5)),
    (str, "A-1"),
    (int, 5),
    (bool, True),
    (float, 0.5),
    (list[Attrs], [Attrs("A-1", 5)]),
    (dict[str, int], {"a": 1}),
    (tuple[int, str], (1, "a")),
    (set[int], {1, 2}),
    (int | None, None),
    (datetime, datetime(2026, 1, 2, tzinfo=UTC)),
    (date, date(2026, 1, 2)),
    (Decimal, Decimal("1.10")),
    (UUID, UUID(int=7)),
    (Colour, Colour.RED),
    (bytes, b"\x00\xff"),
    (Any, {"anything": [1, None]}),
]


@pytest.mark.parametrize(("of", "value"), VALUES, ids=[getattr(of, "__name__", str(of)) for of, _ in VALUES])
def test_a_value_of_each_type_is_read_back_equal(of: Any, value: Any) -> None:
    back = decoder(of)(encode(value))
    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize("of", [Attrs, Data, Struct, Typed])
def test_an_error_names_the_field(of: Any) -> None:
    with pytest.raises(msgspec.ValidationError, match=r"Expected `int`, got `str` - at `\$.cents`"):
        decoder(of)(b'{"folio":"A-1","cents":"5"}')


def test_an_error_in_a_named_tuple_names_the_position() -> None:
    with pytest.raises(msgspec.ValidationError, match=r"Expected `int`, got `str` - at `\$\[1\]`"):
        decoder(Named)(b'["A-1","5"]')


@pytest.mark.parametrize("of", [object, list[object], lambda: None], ids=["object", "list of object", "a function"])
def test_a_type_that_json_cannot_hold_is_refused_when_it_is_declared(of: Any) -> None:
    with pytest.raises((TypeError, NotImplementedError)):
        decoder(of)


def test_a_value_that_json_cannot_hold_is_refused() -> None:
    with pytest.raises(NotImplementedError, match="Encoding objects of type object is unsupported"):
        encode([object()])


# pydantic, which is no dependency


@pytest.fixture
def models() -> Any:
    pydantic = pytest.importorskip("pydantic", reason="pydantic is not installed; trio-jobs does not depend on it")

    class Models:
        class Line(pydantic.BaseModel):  # type: ignore[name-defined, misc]
            cents: int = pydantic.Field(ge=0)

        class Invoice(pydantic.BaseModel):  # type: ignore[name-defined, misc]
            model_config = pydantic.ConfigDict(strict=True)
            folio: str = pydantic.Field(alias="folioNumber")
            day: date

        @pydantic.dataclasses.dataclass
        class Data:
            cents: int = pydantic.Field(ge=0)

        Numbers = pydantic.RootModel[list[int]]

    return Models


def test_a_pydantic_model_is_read_back_equal(models: Any) -> None:
    invoice = models.Invoice(folioNumber="A-1", day=date(2026, 1, 2))
    assert encode(invoice) == b'{"folioNumber":"A-1","day":"2026-01-02"}', "with its aliases, as it is read"
    assert decoder(models.Invoice)(encode(invoice)) == invoice
    assert decoder(models.Numbers)(encode(models.Numbers([1, 2]))) == models.Numbers([1, 2])


def test_a_pydantic_model_may_be_inside_another_type(models: Any) -> None:
    of: Any = attrs.make_class("Order", {"lines": attrs.field(type=list[models.Line])})
    order = of([models.Line(cents=3)])
    assert decoder(of)(encode(order)) == order
    with pytest.raises(
        msgspec.ValidationError, match=r"greater than or equal to 0 - at `\$.cents` - at `\$.lines\[0\]`"
    ):
        decoder(of)(b'{"lines":[{"cents":-3}]}')


def test_an_error_of_pydantic_names_each_field_on_one_line(models: Any) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        decoder(models.Invoice)(b'{"folioNumber":7}')
    assert str(caught.value) == ("Input should be a valid string - at `$.folioNumber`; Field required - at `$.day`")
    with pytest.raises(msgspec.ValidationError, match=r"valid integer.* - at `\$\[4\]`; and 3 more"):
        decoder(models.Numbers)(b'["a","b","c","d","e","f","g","h"]')


def test_the_validators_of_a_pydantic_dataclass_run(models: Any) -> None:
    decode = decoder(models.Data)
    assert decode(encode(models.Data(3))) == models.Data(3)
    with pytest.raises(msgspec.ValidationError, match=r"greater than or equal to 0 - at `\$.cents`"):
        decode(b'{"cents":-3}')


@asynccontextmanager
async def queue_of(models: Any) -> AsyncIterator[trio_jobs.Queue]:
    service = trio_jobs.Service()

    def book(invoice: Any) -> Any:
        return models.Line(cents=len(invoice.folio))

    book.__annotations__ = {"invoice": models.Invoice, "return": models.Line}
    service.handler(book)
    async with service.open() as queue:
        yield queue


async def test_a_handler_gets_and_returns_pydantic_models(models: Any) -> None:
    async with queue_of(models) as queue:
        of_model = await queue.submit("book", models.Invoice(folioNumber="A-1", day=date(2026, 1, 2)))
        assert await queue.result(of_model.job_id) == models.Line(cents=3)
        of_dict = await queue.submit("book", {"folioNumber": "A-12", "day": date(2026, 1, 2)})
        assert await queue.result(of_dict.job_id) == models.Line(cents=4)
        assert queue.get(of_dict.job_id).result == b'{"cents":4}'


async def test_a_payload_that_a_pydantic_model_refuses_names_the_field(models: Any) -> None:
    async with queue_of(models) as queue:
        with pytest.raises(
            trio_jobs.InvalidPayload, match=r"payload for 'book' refused: Field required - at `\$.folioNumber`$"
        ):
            await queue.submit("book", {"day": date(2026, 1, 2)})
        assert queue.list() == []

"""Seller and customer of a UBL document."""

from __future__ import annotations

from typing import Final
from xml.etree.ElementTree import Element

import attrs

from trio_jobs_demo import fields
from trio_jobs_demo.invoices import BadField
from trio_jobs_demo.xml_tree import children, one, text_at

__all__ = ["Party", "customer_of", "seller_of"]

#: Identifiers of a party that are kept
MAX_IDENTIFIERS: Final = 20


@attrs.frozen
class Party:
    """A seller or customer."""

    name: str
    found: tuple[str, ...]
    """The identifiers as they are in the file, the strongest first."""

    @property
    def identifier(self) -> str:
        """The strongest identifier, else the name."""
        return next(iter(self.found), self.name)

    @property
    def identifiers(self) -> tuple[str, ...]:
        """The identifiers without white space, each once."""
        return tuple(dict.fromkeys("".join(text.split()) for text in self.found))


def seller_of(root: Element) -> Party:
    """The seller (BG-4), who has a name."""
    party = one(root, "cac:AccountingSupplierParty/cac:Party")
    if party is None:
        raise BadField("AccountingSupplierParty (BG-4)", "missing")
    field = "AccountingSupplierParty/RegistrationName (BT-27)"
    return Party(fields.cut(name_of(party), field), identifiers_of(party, "AccountingSupplierParty"))


def customer_of(root: Element) -> Party:
    """The customer (BG-7). A simplified invoice, such as of a shop, does not name its customer."""
    customer = one(root, "cac:AccountingCustomerParty")
    if customer is None:
        raise BadField("AccountingCustomerParty (BG-7)", "missing")
    party = one(customer, "cac:Party")
    if party is None:
        return Party("", ())
    name = name_of(party)
    field = "AccountingCustomerParty/RegistrationName (BT-44)"
    return Party(fields.cut(name, field) if name else "", identifiers_of(party, "AccountingCustomerParty"))


def identifiers_of(party: Element, field: str) -> tuple[str, ...]:
    """VAT number (BT-31), legal registration (BT-30), identifiers (BT-29), electronic address (BT-34), as present.

    BR-CO-26 requires one of the first three of a seller, but some files have none.
    """
    schemes = children(party, "cac:PartyTaxScheme")
    schemes.sort(key=lambda scheme: text_at(scheme, "cac:TaxScheme/cbc:ID") != "VAT")
    places = [(scheme, "cbc:CompanyID") for scheme in schemes]
    places += [(legal, "cbc:CompanyID") for legal in children(party, "cac:PartyLegalEntity")]
    places += [(identification, "cbc:ID") for identification in children(party, "cac:PartyIdentification")]
    places += [(party, "cbc:EndpointID")]
    found = (text_at(place, path) for place, path in places[:MAX_IDENTIFIERS])
    return tuple(fields.cut(text, field) for text in found if text)


def name_of(party: Element) -> str | None:
    """The registered name (BT-27, BT-44), else the trading name (BT-28, BT-45), else the name of the person."""
    places = [(legal, "cbc:RegistrationName") for legal in children(party, "cac:PartyLegalEntity")]
    places += [(trade, "cbc:Name") for trade in children(party, "cac:PartyName")]
    if name := next((found for place, path in places if (found := text_at(place, path))), None):
        return name
    for person in children(party, "cac:Person"):
        parts = (text_at(person, f"cbc:{part}") for part in ("FirstName", "MiddleName", "FamilyName"))
        if name := " ".join(filter(None, parts)):
            return name
    return None

"""Reads CFDI 4.0, the Mexican e-invoice. Rules: Anexo 20 of the Resolucion Miscelanea Fiscal and its filling guide.

All figures are attributes. Amounts are never negative and have at most 6 decimals; a credit note is a document of type
E. `Total = SubTotal - Descuento + Traslados - Retenciones`, with local taxes (complement `implocal`).
"""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from typing import Final
from xml.etree.ElementTree import Element

from trio_jobs_demo import fields
from trio_jobs_demo.fields import expect, total
from trio_jobs_demo.invoices import (
    ZERO,
    BadField,
    Invoice,
    Kind,
    Line,
    NothingToBook,
    Tax,
    Unreadable,
    Unsupported,
    Withholding,
    quoted,
)
from trio_jobs_demo.ubl import MAX_LINES
from trio_jobs_demo.xml_tree import children, one

__all__ = ["COMPROBANTE", "read_cfdi"]

COMPROBANTE: Final = "{http://www.sat.gob.mx/cfd/4}Comprobante"

# c_Impuesto
TAXES: Final = {"001": "ISR", "002": "IVA", "003": "IEPS"}
# c_TipoDeComprobante: I (ingreso) and E (egreso) are booked, the others are not sales
NOT_SALES: Final = {
    "P": "a payment receipt (type P): it confirms a payment and is not a sale",
    "N": "a payroll receipt (type N): it is not a sale",
    "T": "a transfer document (type T): it is not a sale",
}


def read_cfdi(root: Element) -> Invoice:
    """Read the invoice in `root` and check its sums.

    Raises:
        Refused: The document cannot be booked; a subclass says why.
        NothingToBook: The document has type P, N or T.
    """
    if root.get("Version") != "4.0":
        raise Unsupported(f"Version: {quoted(root.get('Version', ''))} of CFDI is not supported, only 4.0", "Version")
    given = root.get("TipoDeComprobante", "")
    if given in NOT_SALES:
        raise NothingToBook(NOT_SALES[given])
    if given not in ("I", "E"):
        raise BadField("TipoDeComprobante", f"{quoted(given)} is none of I, E, T, N and P" if given else "missing")
    currency = fields.currency(root.get("Moneda"), "Moneda")
    issuer, customer = required(root, "cfdi:Emisor"), required(root, "cfdi:Receptor")

    concepts = children(required(root, "cfdi:Conceptos"), "cfdi:Concepto")
    if not concepts:
        raise BadField("Concepto", "missing")
    if len(concepts) > MAX_LINES:
        raise Unreadable(f"more than {MAX_LINES:,} lines", "Concepto")
    lines = tuple(line_of(concept, f"Concepto {position}") for position, concept in enumerate(concepts, 1))
    discounts = total(money(concept, "Descuento", "Concepto/Descuento", ZERO) for concept in concepts)
    taxes, withholdings = taxes_of(root, currency)
    compare_with_concepts(concepts, taxes, withholdings, currency)
    local_taxes, local_withholdings = local(root, currency)
    taxes += local_taxes
    withholdings += local_withholdings

    subtotal = money(root, "SubTotal", "SubTotal")
    discount = money(root, "Descuento", "Descuento", ZERO)
    payable = money(root, "Total", "Total")
    expect("SubTotal", subtotal, total(line.net for line in lines), currency, len(lines))
    expect("Descuento", discount, discounts, currency, len(lines))
    added, withheld = total(tax.amount for tax in taxes), total(withholding.amount for withholding in withholdings)
    expect("Total", payable, subtotal - discount + added - withheld, currency)

    issuer_id, customer_id = fields.number(issuer.get("Rfc"), "Emisor/Rfc"), customer.get("Rfc") or ""
    number, uuid = number_of(root)
    return Invoice(
        number=number,
        issuer_id=issuer_id,
        issuer=fields.cut(issuer.get("Nombre"), "Emisor/Nombre"),
        customer=fields.cut(customer.get("Nombre"), "Receptor/Nombre"),
        issued=fields.date(root.get("Fecha"), "Fecha"),
        currency=currency,
        kind=Kind.INVOICE if given == "I" else Kind.CREDIT_NOTE,
        lines=lines,
        payable=payable,
        taxes=taxes,
        withholdings=withholdings,
        allowances=discount,
        # exact, where sums were rounded
        rounding=payable - (total(line.net for line in lines) - discount + added - withheld),
        series=root.get("Serie", "") if root.get("Folio") else "",
        uuid=uuid,
        issuer_ids=("".join(issuer_id.split()),),
        customer_ids=("".join(customer_id.split())[: fields.MAX_NUMBER],) if customer_id else (),
    )


def required(parent: Element, path: str) -> Element:
    """The only element at `path`. Raises `BadField` if there is none or more than one."""
    element = one(parent, path)
    if element is None:
        raise BadField(path.rpartition(":")[2], "missing")
    return element


def money(element: Element, attribute: str, field: str, default: Decimal | None = None) -> Decimal:
    """An amount (t_Importe), not negative; `default` if it is missing. Raises `BadField`."""
    text = element.get(attribute)
    return default if text is None and default is not None else fields.amount(text, field, signed=False)


def number_of(root: Element) -> tuple[str, str]:
    """The number, and the UUID of the stamp.

    The number is `Serie-Folio`, both optional and chosen by the issuer; without a Folio it is the UUID. The UUID does
    not come first, since the copies before and after the stamp are the same invoice.
    """
    uuid = ""
    for complement in children(root, "cfdi:Complemento"):
        for stamp in children(complement, "tfd:TimbreFiscalDigital"):
            uuid = uuid or fields.number(stamp.get("UUID"), "TimbreFiscalDigital/UUID").lower()
    if folio := root.get("Folio"):
        return fields.number("-".join(filter(None, (root.get("Serie"), folio))), "Folio"), uuid
    if not uuid:
        raise BadField("Folio", "missing, and there is no stamp with a UUID")
    return uuid, uuid


def line_of(concept: Element, where: str) -> Line:
    """One Concepto, with a label of its taxes such as `IEPS 8 % + IVA 16 %`."""
    labels = []
    if (taxes := one(concept, "cfdi:Impuestos/cfdi:Traslados")) is not None:
        labels = [" ".join(tax_label(tax, where)) for tax in children(taxes, "cfdi:Traslado")]
    return Line(
        text=fields.cut(concept.get("Descripcion"), f"{where}: Descripcion"),
        net=money(concept, "Importe", f"{where}: Importe"),
        tax=" + ".join(sorted(set(labels))) or "untaxed",
    )


def tax_name(element: Element, where: str) -> str:
    code = element.get("Impuesto")
    if code not in TAXES:
        raise BadField(f"{where}: Impuesto", f"{quoted(code)} is none of 001, 002 and 003" if code else "missing")
    return TAXES[code]


def tax_label(element: Element, where: str) -> tuple[str, str]:
    """Name and rate of a Traslado: (`IVA`, `16 %`), (`IEPS`, `quota 0.5911`), (`IVA`, `exempt`)."""
    name, factor = tax_name(element, where), element.get("TipoFactor", "")
    if factor == "Exento":
        return name, "exempt"
    if factor not in ("Tasa", "Cuota"):
        problem = f"{quoted(factor)} is none of Tasa, Cuota and Exento" if factor else "missing"
        raise BadField(f"{where}: TipoFactor", problem)
    value = money(element, "TasaOCuota", f"{where}: TasaOCuota")
    # a Tasa is a fraction of the base, a Cuota an amount per unit sold
    return name, fields.percent(100 * value) if factor == "Tasa" else f"quota {fields.plain(value)}"


def taxes_of(root: Element, currency: str) -> tuple[tuple[Tax, ...], tuple[Withholding, ...]]:
    """The tax summary of the document. An exempt Traslado has a base and no amount."""
    summary = one(root, "cfdi:Impuestos")
    if summary is None:
        return (), ()
    taxes = []
    if (group := one(summary, "cfdi:Traslados")) is not None:
        for element in children(group, "cfdi:Traslado"):
            name, rate = tax_label(element, "Impuestos/Traslado")
            base = money(element, "Base", "Impuestos/Traslado: Base")
            exempt = ZERO if rate == "exempt" else None
            taxes.append(Tax(name, rate, base, money(element, "Importe", "Impuestos/Traslado: Importe", exempt)))
    withholdings = []
    if (group := one(summary, "cfdi:Retenciones")) is not None:
        for element in children(group, "cfdi:Retencion"):
            where = "Impuestos/Retencion"
            withholdings.append(Withholding(tax_name(element, where), money(element, "Importe", f"{where}: Importe")))
    for field, parts in (
        ("TotalImpuestosTrasladados", [tax.amount for tax in taxes]),
        ("TotalImpuestosRetenidos", [withholding.amount for withholding in withholdings]),
    ):
        expect(field, money(summary, field, field, ZERO), total(parts), currency)
    return tuple(taxes), tuple(withholdings)


def compare_with_concepts(
    concepts: list[Element], taxes: tuple[Tax, ...], withholdings: tuple[Withholding, ...], currency: str
) -> None:
    """Check that the summary is the sum of the concepts' taxes by tax and rate, and of their withholdings by tax.

    Concepts can have 6 decimals or be rounded one by one, so each of them explains half a unit of difference.
    """
    parts: defaultdict[tuple[str, ...], Decimal] = defaultdict(Decimal)
    for position, concept in enumerate(concepts, 1):
        where = f"Concepto {position}"
        if (group := one(concept, "cfdi:Impuestos/cfdi:Traslados")) is not None:
            for element in children(group, "cfdi:Traslado"):
                label = tax_label(element, where)
                exempt = ZERO if label[1] == "exempt" else None
                parts["Traslado", *label] += money(element, "Importe", f"{where}: Traslado/Importe", exempt)
        if (group := one(concept, "cfdi:Impuestos/cfdi:Retenciones")) is not None:
            for element in children(group, "cfdi:Retencion"):
                part = money(element, "Importe", f"{where}: Retencion/Importe")
                parts["Retencion", tax_name(element, where)] += part
    stated: defaultdict[tuple[str, ...], Decimal] = defaultdict(Decimal)
    for tax in taxes:
        stated["Traslado", tax.name, tax.rate] += tax.amount
    for withholding in withholdings:
        stated["Retencion", withholding.name] += withholding.amount
    for which in sorted({*parts, *stated}):
        expect(f"Impuestos/{' '.join(which)}", stated[which], parts[which], currency, rounded=len(concepts) + 1)


def local(root: Element, currency: str) -> tuple[tuple[Tax, ...], tuple[Withholding, ...]]:
    """Local taxes (complement `implocal` 1.0), which are part of Total and not of the summary."""
    taxes: list[Tax] = []
    withholdings: list[Withholding] = []
    for complement in children(root, "cfdi:Complemento"):
        for element in children(complement, "implocal:ImpuestosLocales"):
            for tax in children(element, "implocal:TrasladosLocales"):
                rate = fields.percent(money(tax, "TasadeTraslado", "TrasladosLocales/TasadeTraslado"))
                amount = money(tax, "Importe", "TrasladosLocales/Importe")
                taxes.append(Tax(local_name(tax, "ImpLocTrasladado"), rate, ZERO, amount))
            for withheld in children(element, "implocal:RetencionesLocales"):
                amount = money(withheld, "Importe", "RetencionesLocales/Importe")
                withholdings.append(Withholding(local_name(withheld, "ImpLocRetenido"), amount))
            for field, parts in (
                ("TotaldeTraslados", [tax.amount for tax in taxes]),
                ("TotaldeRetenciones", [withholding.amount for withholding in withholdings]),
            ):
                expect(f"ImpuestosLocales/{field}", money(element, field, field), total(parts), currency)
    return tuple(taxes), tuple(withholdings)


def local_name(element: Element, attribute: str) -> str:
    return fields.cut(element.get(attribute), f"ImpuestosLocales/{attribute}")[:40]

"""The result of the method that lists the kinds of jobs."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

__all__ = ["KindInfo", "KindsResult"]


class KindInfo(Struct, frozen=True):
    """kind: the name of a handler. schema: of its payloads, JSON Schema 2020-12. Empty: any payload. verify: whether
    its handler has a verify, which says whether the work of a job was done."""

    kind: str
    schema: dict[str, Any]
    verify: bool = False


class KindsResult(Struct, frozen=True):
    """kinds: in the order of their names."""

    kinds: list[KindInfo]

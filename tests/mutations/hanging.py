"""Tests that never end: `test_mutations.py` expects them to fail. The name keeps pytest from collecting them."""

from __future__ import annotations

import threading

import trio


async def test_in_trio() -> None:
    await trio.Event().wait()


def test_in_a_thread() -> None:
    threading.Event().wait()

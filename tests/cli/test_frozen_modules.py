"""What `trio-jobs serve` excludes from the garbage collector, so that a collection stops the event loop less long."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from trio_jobs._cli.serve import modules_not_collected


@pytest.fixture(autouse=True)
def frozen_as_before() -> Iterator[None]:
    """The tests freeze what they have imported."""
    before = gc.get_freeze_count()
    gc.unfreeze()
    yield
    if before:
        gc.freeze()


class Cycle:
    def __init__(self) -> None:
        self.itself = self


def test_a_server_excludes_its_modules_from_collections_and_collects_what_is_made_later() -> None:
    with modules_not_collected():
        assert gc.get_freeze_count() > 1000
        later = weakref.ref(Cycle())
        gc.collect()
        assert later() is None
    assert gc.get_freeze_count() == 0


def test_garbage_that_exists_at_the_start_is_collected_first() -> None:
    gc.disable()
    try:
        before = weakref.ref(Cycle())
        assert before() is not None
        with modules_not_collected():
            assert before() is None
    finally:
        gc.enable()


def test_a_process_that_freezes_objects_itself_is_left_alone() -> None:
    gc.freeze()
    count = gc.get_freeze_count()
    with modules_not_collected():
        assert gc.get_freeze_count() <= count
    assert gc.get_freeze_count() > 0

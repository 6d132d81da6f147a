"""Rules of labels: a few names and values of a submit, by which jobs are listed and counted."""

from __future__ import annotations

import json
import pickle
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from support.rig import make_rig
from trio_jobs import NewJob, Queue, UsageError, events

COMPANY = {"company": "acme"}


def opened(**kwargs: Any) -> AbstractAsyncContextManager[Queue]:
    return make_rig("trio", settings={"drain_timeout": 0.0}).open(**kwargs)


async def test_a_job_its_event_and_its_json_have_the_labels_of_the_submit() -> None:
    async with opened() as queue:
        await queue.pause()
        stream = queue.events()
        labels = {"year": "2026", "company": "acme"}
        job = queue.get((await queue.submit("work", "a", labels=labels)).job_id)
        labels["year"] = "changed later"
        assert job.labels == {"company": "acme", "year": "2026"}
        event = await anext(stream)
        assert isinstance(event, events.Submitted)
        assert event.labels == job.labels
        assert json.loads(json.dumps(job.to_dict()))["labels"] == job.labels
        assert pickle.loads(pickle.dumps(job)) == job
        assert isinstance(hash(job), int)
        job.labels.clear()
        assert queue.get(job.id).labels, "a job that was returned is a copy"
        without = queue.get((await queue.submit("work", "b", labels={})).job_id)
        assert without.labels == {}
        assert getattr(await anext(stream), "labels", "") is None


async def test_every_way_to_submit_takes_labels() -> None:
    async with opened() as queue:
        await queue.pause()
        await queue.submit("work", "a", labels=COMPANY)
        await queue.submit("work", "b", delay=60, labels=COMPANY)
        await queue.submit_many([NewJob("work", "c", labels=COMPANY), NewJob("work", "d")])
        queue.submit_nowait("work", "e", labels=COMPANY)
        assert [json.loads(job.payload or b"") for job in queue.list(labels=COMPANY)] == ["a", "b", "c", "e"]
        assert (await queue.count("label:company")).groups == {"acme": 4}


async def test_a_known_key_keeps_the_labels_of_its_job() -> None:
    async with opened() as queue:
        await queue.pause()
        receipt = await queue.submit("work", "a", key="A-1", labels=COMPANY)
        again = await queue.submit("work", "a", key="A-1", labels={"company": "other"})
        assert (again.job_id, again.created) == (receipt.job_id, False)
        assert queue.get(receipt.job_id).labels == COMPANY


async def test_labels_survive_a_restart(tmp_path: Path) -> None:
    journal = tmp_path / "jobs.db"
    async with opened(journal=journal) as queue:
        await queue.pause()
        job_id = (await queue.submit("work", "a", labels=COMPANY, by="ada")).job_id
        cursor = queue.list(limit=1, after=None, by="ada").next
    async with opened(journal=journal) as queue:
        assert queue.get(job_id).labels == COMPANY
        assert [job.id for job in queue.list(labels=COMPANY, by="ada")] == [job_id]
        assert cursor is None


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({f"n{n}": "v" for n in range(9)}, "at most 8 labels, not 9; put the others into its payload"),
        ({"": "v"}, "the name of a label is a text of 1 to 64 characters"),
        ({"n" * 65: "v"}, "the name of a label is a text of 1 to 64 characters"),
        ({"a=b": "v"}, "the name of a label has no '='"),
        ({"n": ""}, "label 'n' is a text of 1 to 64 characters"),
        ({"n": "v" * 65}, "label 'n' is a text of 1 to 64 characters"),
        ({"n": 7}, "label 'n' is a text of 1 to 64 characters, not 7"),
        ({"n": "\ud800"}, "label 'n' is a text of 1 to 64 characters"),
        ([("n", "v")], "labels are a mapping of names to values"),
    ],
    ids=str,
)
async def test_labels_out_of_bounds_are_refused(bad: Any, says: str) -> None:
    async with opened() as queue:
        with pytest.raises(UsageError, match=says):
            await queue.submit("work", "a", labels=bad)
        assert queue.list() == []


async def test_eight_labels_of_64_characters_are_accepted_as_plain_text() -> None:
    class Word(str):
        __slots__ = ()

    labels: dict[Any, Any] = {Word(f"{n}" * 64): Word("v" * 64) for n in range(8)}
    async with opened() as queue:
        await queue.pause()
        job = queue.get((await queue.submit("work", "a", labels=labels)).job_id)
        assert job.labels == labels
        assert {type(text) for pair in job.labels.items() for text in pair} == {str}

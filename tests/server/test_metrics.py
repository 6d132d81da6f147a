"""The page of metrics: what Prometheus reads, whatever the names of kinds and the settings of prometheus-client are."""

from __future__ import annotations

import os
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.processes import run
from trio_jobs._server.metrics import Histogram

prometheus_client = pytest.importorskip("prometheus_client")

BOUNDS = (0.01, 0.5, 1, 60)


@given(values=st.lists(st.floats(min_value=0, max_value=1e6) | st.sampled_from(BOUNDS)))
def test_a_histogram_counts_as_that_of_prometheus_client_does(values: list[float]) -> None:
    ours = Histogram(BOUNDS)
    theirs = prometheus_client.Histogram("seconds", "Seconds.", buckets=BOUNDS, registry=None)
    for value in values:
        ours.observe(value)
        theirs.observe(value)
    [family] = theirs.collect()
    samples = {(sample.name, sample.labels.get("le")): sample.value for sample in family.samples}
    assert ours.buckets() == [(le, value) for (name, le), value in samples.items() if name == "seconds_bucket"]
    assert ours.buckets()[-1][1] == samples["seconds_count", None]
    assert ours.total == samples["seconds_sum", None]


SCRIPT = textwrap.dedent(
    """
    import trio, trio_jobs, urllib.request
    from prometheus_client.parser import text_string_to_metric_families as parse

    KINDS = ["plain", 'quo"te', "back\\\\slash", "new\\nline", "\\u6771\\u4eac"]
    ENDED = "trio_jobs_ended_total{"
    service = trio_jobs.Service()
    for kind in KINDS:
        async def work(number: int) -> int:
            if number == 2:
                raise trio_jobs.Fail("no")
            return number
        service.handler(kind=kind)(work)

    async def main():
        async with service.open() as queue, trio_jobs.serve(queue, port=0, tokens=None) as server:
            for kind in KINDS:
                for number in (1, 2):
                    receipt = await queue.submit(kind, number)
                    try:
                        await queue.result(receipt.job_id)
                    except trio_jobs.JobFailed:
                        pass
            url = f"http://127.0.0.1:{server.port}/metrics"
            def read():
                with urllib.request.urlopen(url, timeout=30) as answer:
                    return answer.headers["Content-Type"], answer.read().decode()
            with trio.fail_after(30):
                while True:  # a server counts an event after the caller has its result
                    content_type, text = await trio.to_thread.run_sync(read)
                    counts = [line.rpartition(" ")[2] for line in text.splitlines() if line.startswith(ENDED)]
                    if sum(map(float, counts)) == 2 * len(KINDS):
                        break
                    await trio.sleep(0.01)
            assert content_type.startswith("text/plain"), content_type
            families = {family.name: family for family in parse(text)}
            ended = families["trio_jobs_ended"].samples
            assert {sample.labels["kind"] for sample in ended} == set(KINDS)
            assert families["trio_jobs_wait_seconds"].type == "histogram"
    trio.run(main)
    """
)


@pytest.mark.parametrize("folder", [None, "made", "missing"])
def test_a_missing_folder_of_prometheus_client_does_not_end_the_server(folder: str | None, tmp_path: Path) -> None:
    """prometheus-client reads the variable once, so this needs a process of its own."""
    environment = dict(os.environ)
    (tmp_path / "made").mkdir()
    if folder is not None:
        environment["PROMETHEUS_MULTIPROC_DIR"] = str(tmp_path / folder)
    run([sys.executable, "-c", SCRIPT], env=environment, check=True)
    assert list((tmp_path / "made").iterdir()) == []

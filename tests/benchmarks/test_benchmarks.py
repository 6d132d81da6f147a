"""Rules of the benchmarks: every question runs, and figures are shown correctly. They do not check any speed."""

from __future__ import annotations

import os
import shutil
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import attrs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import environment, page, pictures, slow_sync, text, throughput
from benchmarks.__main__ import QUESTIONS, main
from benchmarks.environment import NotHere
from benchmarks.frame import Answer, Contestant, Curve, Kind, Row, Run, Table, at_least, exponent, figure, quantile
from benchmarks.peers.common import arrivals
from support import processes

positive = st.floats(0.001, 1e9)


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], page.Saved]:
    """The answer to a question, measured once with small numbers and without installing peers."""
    folder = tmp_path_factory.mktemp("results")
    found: dict[str, page.Saved] = {}

    def ask(question: str) -> page.Saved:
        if question not in found:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(environment, "HERE", folder_without_peers(folder))
                assert main([question, "--quick", "--no-install", "--to", str(folder)]) == 0
            saved = page.load(folder, question)
            assert saved is not None
            found[question] = saved
            assert ET.parse(folder / f"{question}.svg").getroot().tag.endswith("svg")
            assert f"![{saved.answer.title}]" in (folder / "README.md").read_text(encoding="utf-8")
        return found[question]

    return ask


def folder_without_peers(folder: Path) -> Path:
    """Make the test independent of whether other queues are installed."""
    for name in ("peers.txt", "peers-oban.txt"):
        (folder / name).write_text((environment.ROOT / "benchmarks" / name).read_text())
    return folder


def rows(saved: page.Saved) -> list[Row]:
    return [row for table in saved.answer.tables for row in table.rows]


# Windows has no interval timer, and does not tell a process how much memory it has without a library
NOT_HERE = {"profile"} | ({"scale"} if sys.platform == "win32" else set())
NOT_HERE |= set() if shutil.which("valgrind") else {"instructions"}
ASKED_HERE = [name for name in QUESTIONS if name not in NOT_HERE]


@pytest.mark.campaign
@pytest.mark.parametrize("question", ASKED_HERE)
def test_each_question_measures_trio_jobs_and_the_limits(question: str, answers: Callable[[str], page.Saved]) -> None:
    told = [row for row in rows(answers(question)) if row.kind != "peer"]
    assert told
    for row in told:
        if "stands still" not in row.skipped:  # what waits for frozen subscribers, and should
            assert row.values, f"{row.name}: {row.skipped}"
            assert all(value > 0 or question == "pauses" for value in row.values), "a pause may be none"


@pytest.mark.campaign
@pytest.mark.skipif(sys.platform == "win32", reason="there is no interval timer")
def test_the_profile_attributes_every_sample_to_a_module(answers: Callable[[str], page.Saved]) -> None:
    memory = answers("profile").answer.tables[0]
    assert sum(row.extra["% of it"] for row in memory.rows) == pytest.approx(100)


@pytest.mark.campaign
def test_a_peer_that_is_not_installed_is_named_with_the_reason(answers: Callable[[str], page.Saved]) -> None:
    for question in ("throughput", "latency", "fan_out"):
        missing = [row for row in rows(answers(question)) if row.kind == "peer" and not row.values]
        assert missing
        for row in missing:
            assert row.name
            assert row.skipped
            assert row.name in text.render(answers(question).answer)


@pytest.mark.campaign
def test_every_contestant_has_its_row_in_the_order_of_the_roster(answers: Callable[[str], page.Saved]) -> None:
    memory, disk, slow, servers = answers("throughput").answer.tables
    assert [row.name for row in memory.rows] == [one.name for one in throughput.IN_MEMORY]
    assert [row.name for row in disk.rows] == [one.name for one in throughput.ON_DISK]
    assert [row.name for row in slow.rows] == [one.name for one in throughput.SLOW_DISK]
    assert [row.name for row in servers.rows][2:] == [one.name for one in throughput.BEHIND_SERVERS]
    for table in (memory, disk, slow, servers):
        assert all(row.setting for row in table.rows)
        assert table.row(table.against[0]) is not None


@pytest.mark.campaign
def test_a_target_without_figures_is_not_reached_and_not_missed(answers: Callable[[str], page.Saved]) -> None:
    by_what = {target.what: target for target in answers("throughput").answer.targets}
    assert by_what["in memory, of huey's memory storage"].reached is None
    assert by_what["in memory, of the bare loop"].reached is not None


@pytest.mark.skipif(sys.platform == "win32", reason="it does not tell a process how much memory it has")
@pytest.mark.campaign
def test_scale_shows_the_growth_of_everything_that_it_measures(answers: Callable[[str], page.Saved]) -> None:
    curves = answers("scale").answer.curves
    assert len(curves) == 9
    assert all(curve.exponent is not None for curve in curves)


def test_an_unknown_question_is_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["speed"])
    assert stopped.value.code == 2
    assert "there is no question speed" in capsys.readouterr().err


def test_a_contestant_that_fails_gives_its_reason_in_one_line() -> None:
    [(_, values, why)] = Run(quick=True).measure(
        [Contestant("x", "ours", ("ours", "durable"), 10, "", {"folder": "/-"})]
    )
    assert values == []
    assert why.startswith("FileNotFoundError")


def test_a_table_shows_ratios_to_the_named_rows() -> None:
    table = Table(
        "t", "jobs/s", [Row("limit", "limit", [100.0]), Row("us", "ours", [40.0, 50.0, 90.0])], against=["limit"]
    )
    assert [line.split() for line in text.table(table).splitlines()] == [
        ["t", "jobs/s", "lowest", "highest", "of", "limit", "set", "up"],
        ["-", "limit", "100", "100", "100", "1.00"],
        ["*", "us", "50.0", "40.0", "90.0", "0.50"],
    ]


def test_saved_answers_are_equal_to_the_measured_ones(tmp_path: Path) -> None:
    table = Table(
        "t", "µs", [Row("<a> & b", "peer", [1.0, 2.5], extra={"p99": 3.0}), Row("c", "limit", [], skipped="no")]
    )
    answer = Answer(
        "sdk", "What?", [table], [at_least("x", 0.5, 1)], [Curve("y", "MiB", [(1.0, 2.0), (10.0, 20.0)], 1.0)]
    )
    page.save(tmp_path, answer, Run(), 1.0)
    saved = page.load(tmp_path, "sdk")
    assert saved is not None
    assert msgspec.json.encode(saved.answer) == msgspec.json.encode(answer)
    page.write(tmp_path)
    written = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "c, no figure: no" in written
    assert "| x | at least 1 | 0.50 | **not reached** |" in written


def test_only_full_answers_of_this_commit_count_as_answered(tmp_path: Path) -> None:
    page.save(tmp_path, Answer("sdk", "What?"), Run(quick=True), 1.0)
    saved = page.load(tmp_path, "sdk")
    assert saved is not None
    assert not page.answered(tmp_path, "sdk", saved.commit)
    whole = attrs.evolve(saved, quick=False, commit="abc")
    (tmp_path / "sdk.json").write_bytes(msgspec.json.encode(whole))
    assert page.answered(tmp_path, "sdk", "abc")
    assert not page.answered(tmp_path, "sdk", "other")
    assert not page.answered(tmp_path, "scale", "abc")


def test_a_python_without_the_peers_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "HERE", folder_without_peers(tmp_path))
    with pytest.raises(NotHere, match=r"huey is not installed \(benchmarks/peers.txt\)"):
        environment.peers("huey", install=False)


@given(st.floats(-2, 2), positive, st.lists(st.floats(1, 1e6), min_size=2, max_size=9, unique=True))
def test_exponent_finds_the_power_of_growth(power: float, factor: float, sizes: list[float]) -> None:
    if max(sizes) / min(sizes) < 2:
        return
    found = exponent([(size, factor * size**power) for size in sizes])
    assert found == pytest.approx(power, abs=1e-6)


def test_one_size_has_no_power_of_growth() -> None:
    assert exponent([(10.0, 1.0), (10.0, 2.0)]) is None


@given(st.lists(positive, min_size=1, max_size=200), st.floats(0.01, 1))
def test_a_quantile_is_a_value_that_this_share_does_not_exceed(values: list[float], share: float) -> None:
    found = quantile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-9
    assert sum(value < found for value in values) < share * len(values) + 1e-9


@given(positive)
def test_a_figure_keeps_three_digits(value: float) -> None:
    assert float(figure(value).replace(",", "")) == pytest.approx(value, rel=0.006)


def test_arrivals_are_the_same_in_every_process_and_have_the_given_rate() -> None:
    times = arrivals(10_000, 500.0)
    assert times == arrivals(10_000, 500.0)
    assert times == sorted(times)
    assert times[-1] == pytest.approx(20.0, rel=0.05)


@given(st.lists(st.lists(positive, max_size=3), max_size=6))
def test_every_table_can_be_drawn(values: list[list[float]]) -> None:
    kinds: tuple[Kind, ...] = ("ours", "limit", "peer")
    rows = [Row(f"row <{i}>", kinds[i % 3], each, skipped="&") for i, each in enumerate(values)]
    ET.fromstring(pictures.draw(Answer("q", "Q & A?", [Table("t", "µs", rows, against=["row <0>"])])))


@pytest.mark.skipif(sys.platform != "linux" or shutil.which("cc") is None, reason="needs a C compiler")
@pytest.mark.parametrize("call", ["os.fsync(file.fileno())", "os.fdatasync(file.fileno())"])
def test_each_sync_of_a_contestant_on_a_slow_disk_takes_longer(call: str) -> None:
    program = (
        "import os, tempfile, time\n"
        "with tempfile.TemporaryFile() as file:\n"
        f"    began = time.monotonic(); {call}; print(time.monotonic() - began)"
    )
    environ = {**os.environ, "LD_PRELOAD": str(slow_sync.library(30.0))}
    done = processes.run([sys.executable, "-c", program], env=environ, timeout=60)
    assert float(done.stdout) >= 0.03

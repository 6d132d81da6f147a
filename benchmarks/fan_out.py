"""Deliveries per second of one update to many websocket subscribers, with and without frozen subscribers.

All subscribers run in one other process; the clock stops when every subscriber that reads has the last update. Of 100
subscribers 20 are frozen: they never read, and their receive buffers are small.
"""

from __future__ import annotations

import attrs

from benchmarks.frame import Answer, Contestant, Row, Run, Table, Target, at_least, ratio

SOCKETS, TRIO = "raw sockets", "raw Trio sockets"
ONE, TEN = "trio-jobs, one at a time", "trio-jobs, ten at a time"
BROADCAST, BROADCAST_UVLOOP = "websockets.broadcast", "websockets.broadcast, uvloop"

SIZES = (1, 10, 100, 1000)
ROUNDS = 3
DELIVERIES = 60_000  #: in one run, all subscribers together
FROZEN = 0.2

WAITS = ("trio_sockets", "websocket_loop", "uvicorn")  #: wait for each subscriber; give up after seconds

CONTESTANTS = (
    Contestant(SOCKETS, "limit", ("fan", "sockets"), 0, "no event loop, no websocket; drops who takes nothing for 50 ms"),
    Contestant(TRIO, "limit", ("fan", "trio_sockets"), 0, "send_all in a loop, no websocket"),
    Contestant(ONE, "ours", ("fan", "ours"), 0, "as it comes; each update is sent before the next", {"burst": 1}),
    Contestant(TEN, "ours", ("fan", "ours"), 0, "as it comes; ten updates at once, as under load", {"burst": 10}),
    Contestant("trio-websocket", "peer", ("fan", "websocket_loop"), 0, "send_message in a loop", {}, "own", "trio-websocket"),
    Contestant(BROADCAST, "peer", ("fan_asyncio", "broadcast"), 0, "as its docs: never waits; without compression",
               {"loop": "asyncio"}, "peers", "websockets"),
    Contestant(BROADCAST_UVLOOP, "peer", ("fan_asyncio", "broadcast"), 0, "best: the same on uvloop",
               {"loop": "uvloop"}, "peers", "websockets"),
    Contestant("uvicorn", "peer", ("fan_asyncio", "uvicorn"), 0, "best: send in a loop; websockets-sansio, uvloop, no compression",
               {"loop": "uvloop"}, "peers", "uvicorn"),
)  # fmt: skip


def measure(run: Run) -> Answer:
    run = attrs.evolve(run, rounds=min(run.rounds, ROUNDS))
    messages = run.ask(Contestant("", "limit", ("fan", "message"), 0), {})
    tables = []
    targets: list[Target] = []
    for subscribers in (1, 5) if run.quick else SIZES:
        awake = run.race([ask(one, run, subscribers, 0, messages) for one in CONTESTANTS])
        asleep: list[Row] = []
        if subscribers > 1:
            frozen = int(subscribers * FROZEN)
            asleep = run.race([ask(one, run, subscribers, frozen, messages) for one in CONTESTANTS])
        some = "subscriber" if subscribers == 1 else "subscribers"
        against = (BROADCAST, SOCKETS)
        plain = Table(f"{subscribers:,} {some}", "deliveries/s", awake, against=against)
        tables.append(plain)
        if asleep:
            tables.append(Table(f"{subscribers:,} {some}, 20 % frozen", "deliveries/s", asleep, against=against))
        if subscribers == 100:
            targets += [
                at_least("to 100, one at a time, of websockets.broadcast", ratio(plain, ONE, BROADCAST), 1.3),
                at_least("to 100, one at a time, of raw sockets", ratio(plain, ONE, SOCKETS), 0.8),
                at_least("to 100, ten at a time, of websockets.broadcast", ratio(plain, TEN, BROADCAST), 4),
            ]
    notes = (
        f"Each delivery is one frame of about {len(messages[0])} bytes to a subscriber that reads. Deliveries are counted to "
        "those that read alone, so a row is comparable with itself without the frozen ones.",
    )
    tables[-1] = attrs.evolve(tables[-1], notes=notes)
    return Answer("fan_out", "How many can follow?", tables, targets)


def ask(one: Contestant, run: Run, subscribers: int, frozen: int, messages: list[str]) -> Contestant:
    many = 10 if one.name == TEN else 1  # joined writes: a run would be over before it began
    updates = max(DELIVERIES // subscribers // 100 * 10 if run.quick else DELIVERIES * many // subscribers, 20)
    more: dict[str, object] = {"messages": messages} if one.asked[0] == "fan_asyncio" else {}
    if one.asked[1] in WAITS:
        more["give_up"] = 0.5 if run.quick else 5.0
    arguments = {**one.arguments, **more, "subscribers": subscribers, "frozen": frozen, "jobs": min(updates, 40_000)}
    return attrs.evolve(one, arguments=arguments)


if __name__ == "__main__":
    raise SystemExit("run it as: ./run bench fan_out")

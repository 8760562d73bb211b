"""Personas over real sockets: what each does to its connection, and what is on record of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from loadgen.absences import deafness
from loadgen.engine import Engine
from loadgen.personas import members
from loadgen.workload import LoadSpec, predict
from reports.history import Flag, Kind, Mark
from tests.loadgen.test_engine import of, run, to_the_end, until
from tests.loadgen.tiny_server import TinyServer

LOAD = [{"name": "load", "duration_s": 3.0, "publish_per_s": 60}]


def lived(
    path: Path,
    *personas: dict[str, Any],
    server: TinyServer | None = None,
    course: Callable[[Engine], Awaitable[None]] = to_the_end,
    t0_ns: list[int] | None = None,
    **changes: Any,
) -> tuple[Any, LoadSpec, Engine]:
    """The records of a load with these personas, and its engine. ``t0_ns``: is told when it began."""
    engines: list[Engine] = []

    async def whole(engine: Engine) -> None:
        engines.append(engine)
        await course(engine)
        # What is waited for is judged by the records, so every subscriber must have all that was said.
        await until(lambda: all(
            lane.serial == len(served.logs.get(lane.name, [])) for c in engine._clients.values()
            for lane in c.lanes.values() if not c.ended
        ))  # fmt: skip

    served = server or TinyServer()
    named = [{"name": f"p{number}", "weight": 1, **persona} for number, persona in enumerate(personas)]
    rows, spec, began_ns = run(path, served, whole, persona=named, **{"phase": LOAD, **changes})
    if t0_ns is not None:
        t0_ns.append(began_ns)
    return rows, spec, engines[0]


def mine(rows: Any, client: int) -> Any:
    return rows[rows["client"] == client]


def test_who_drops_is_cut_without_a_word_comes_back_and_misses_nothing(tmp_path: Path) -> None:
    rows, spec, _ = lived(tmp_path, {"drop_every_s": 1.0})
    told = predict(spec.workload, spec.seed)
    closes = of(rows, Kind.CLOSE)
    lost = closes[closes["flags"] == 0]
    assert set(lost["serial"].tolist()) == {1006}
    assert told.drops - 3 <= len(lost) <= told.drops
    subs = of(rows, Kind.SUB)
    assert (subs["flags"] == Flag.RESUMED).sum() == 2 * len(lost)
    assert len(of(rows, Kind.RECV)) == told.deliveries


def test_who_comes_back_fresh_asks_for_what_is_new_and_who_reads_history_for_all(tmp_path: Path) -> None:
    rows, spec, _ = lived(
        tmp_path, {"drop_every_s": 1.5, "recover": "fresh"}, {"drop_every_s": 1.5, "recover": "history"}
    )
    subs = of(rows, Kind.SUB)
    assert not (subs["flags"] & Flag.RESUMED).any()
    assert (subs["publisher"] == 0).all()
    fresh, whole = (set(members(spec.workload, spec.seed, persona).tolist()) for persona in (0, 1))
    again = subs[subs["serial"] > 0]
    assert len(again) > 0
    assert set(again["client"].tolist()) <= fresh
    for client in whole:
        starts = mine(subs, client)["serial"]
        assert len(starts) > 2
        assert (starts == 0).all()


def test_the_deaf_neither_read_nor_write_and_have_everything_after_they_hear(tmp_path: Path) -> None:
    server = TinyServer()
    server.ping_s, server.pong_s = 0.7, 0.7  # silence for longer than that would be a dead server's
    phase = [{"name": "load", "duration_s": 4.0, "publish_per_s": 60}]
    t0_ns: list[int] = []
    rows, spec, _ = lived(
        tmp_path, {"deaf_after_s": 1.2, "deaf_s": 1.8}, {}, server=server, ack_timeout_s=0.2, phase=phase,
        t0_ns=t0_ns,
    )  # fmt: skip
    for begin, end, client in deafness(spec.workload, spec.seed).tolist():
        own = mine(rows, client)
        marks = of(own, Kind.MARK)
        assert marks["serial"].tolist()[:2] == [Mark.DEAF, Mark.HEARS]
        first, last = marks["t"][:2]
        assert first >= t0_ns[0] + begin
        assert last >= t0_ns[0] + end
        between = own[(own["t"] > first + 5e7) & (own["t"] < last)]
        assert set(between["kind"].tolist()) <= {Kind.MARK}
    assert len(of(rows, Kind.RECV)) == predict(spec.workload, spec.seed).deliveries


def test_a_server_that_hangs_up_on_the_deaf_is_seen_at_once_and_they_come_back_when_they_hear(
    tmp_path: Path,
) -> None:
    server, hung_up = TinyServer(), []

    async def hang_up(engine: Engine) -> None:
        await until(lambda: bool(engine._deaf))
        (client,) = engine._deaf
        for number, frame in server.frames:
            if getattr(frame, "client", None) == f"c{client}":
                hung_up.append(client)
                server.sockets[number].transport.abort()
        await until(lambda: engine._clients[client].link is None)
        assert client in engine._deaf
        await to_the_end(engine)

    t0_ns: list[int] = []
    rows, spec, _ = lived(
        tmp_path,
        {"deaf_after_s": 1.2, "deaf_s": 1.0, "weight": 1},
        {"weight": 3},
        server=server,
        course=hang_up,
        t0_ns=t0_ns,
    )
    (client,) = hung_up
    own = mine(rows, client)
    (closed,) = [row for row in of(own, Kind.CLOSE) if not row["flags"]]
    ((_, end, _),) = deafness(spec.workload, spec.seed).tolist()[:1]
    assert closed["t"] < t0_ns[0] + end
    again = of(own, Kind.CONN)[1]
    assert again["t2"] >= t0_ns[0] + end


def test_a_slow_reader_takes_so_many_frames_a_second_and_the_rest_when_the_load_is_over(
    tmp_path: Path,
) -> None:
    rows, spec, _ = lived(
        tmp_path, {"read_per_s": 10.0, "talk": 0}, {"weight": 3}, phase=[{**LOAD[0], "publish_per_s": 200}]
    )
    (slow,) = members(spec.workload, spec.seed, 0).tolist()
    received = of(mine(rows, slow), Kind.RECV)
    fast = of(rows, Kind.RECV)
    fast = fast[fast["client"] != slow]
    assert len(of(rows, Kind.RECV)) == predict(spec.workload, spec.seed).deliveries
    end = rows["t"].min() + 3e9
    behind = (received["t"] > end).mean()
    assert behind > 0.4
    assert (fast["t"] > end).mean() < behind / 2


def test_reactions_are_messages_like_others_and_what_else_is_done_is_counted(tmp_path: Path) -> None:
    rates = {"reaction_per_s": 2.0, "typing_per_s": 2.0, "presence_per_s": 1.0, "receipt_per_s": 1.0}
    server = TinyServer()

    async def and_the_answers(engine: Engine) -> None:
        await to_the_end(engine)
        await until(lambda: engine.tally.heard["presence"] == engine.tally.done["presence"])
        await until(lambda: engine.tally.heard["typing"] >= 2 * engine.tally.done["typing"])

    rows, spec, engine = lived(tmp_path, {"rates": rates}, server=server, course=and_the_answers)
    told, tally = predict(spec.workload, spec.seed), engine.tally
    kinds = [entry.get("kind", "text") for log in server.logs.values() for entry in log]
    assert kinds.count("react") == told.reactions - tally.skipped > 3
    received = of(rows, Kind.RECV)
    assert not (received["flags"] & (Flag.FOREIGN | Flag.BAD_DIGEST)).any()
    seen = {(int(row["publisher"]), int(row["pub_seq"])) for row in received}
    sent = {(int(row["publisher"]), int(row["pub_seq"])) for row in of(rows, Kind.SEND)}
    assert seen <= sent
    assert len(of(rows, Kind.ACK)) == len(of(rows, Kind.SEND)) == told.publishes - tally.skipped
    assert tally.done["typing"] + tally.missed["typing"] == told.typing
    assert tally.heard["typing"] == 2 * tally.done["typing"] or tally.heard["typing"] > tally.done["typing"]
    assert tally.heard["presence"] == tally.done["presence"] > 0
    assert tally.done["receipt"] + tally.missed["receipt"] == told.receipts


def test_churn_unsubscribes_and_subscribes_again_from_where_it_was(tmp_path: Path) -> None:
    rows, _, engine = lived(tmp_path, {"churn_away_s": 0.1, "rates": {"churn_per_s": 1.0}})
    left = of(rows, Kind.UNSUB)
    assert len(left) > 2
    assert len(left) <= engine.tally.done["churn"]
    assert (of(rows, Kind.SUB)["flags"] == Flag.RESUMED).sum() == len(left)


def test_a_repeater_is_told_that_the_server_had_it_already(tmp_path: Path) -> None:
    async def and_the_repeats(engine: Engine) -> None:
        def all_answered() -> bool:
            engine.fold()
            return engine.figures.totals["acked"] == 2 * engine.total

        await to_the_end(engine)
        await until(all_answered)

    rows, spec, engine = lived(tmp_path, {"repeat": 1.0, "repeat_after_s": 0.05}, course=and_the_repeats)
    count = predict(spec.workload, spec.seed).publishes
    sends = of(rows, Kind.SEND)
    assert (sends["flags"] == Flag.RETRY).sum() == engine.tally.repeats == count
    assert (of(rows, Kind.ACK)["flags"] & Flag.DUPLICATE > 0).sum() == count


@pytest.mark.parametrize(
    ("outbox", "dropped", "given_up"),
    [("queue", False, False), ("resend", True, False), ("drop", True, True)],
)
def test_what_becomes_of_publishes_while_the_client_is_down(
    tmp_path: Path, outbox: str, dropped: bool, given_up: bool
) -> None:
    ignored: list[str] = []

    def ignore_some(connection: int, frame: Any) -> str:
        """The first of each client get no answer, so that something is open when its connection breaks."""
        client = frame.message.partition(":")[0]
        if sum(known.partition(":")[0] == client for known in ignored) < 4 and frame.message not in ignored:
            ignored.append(frame.message)
            return "ignore"
        return "ack"

    rows, spec, engine = lived(
        tmp_path,
        {"outbox": outbox, "drop_every_s": 1.6, "reconnect": {"policy": "fixed", "wait_s": 0.4}},
        server=TinyServer(ignore_some),
        ack_timeout_s=9.0,
    )
    tally, due = engine.tally, predict(spec.workload, spec.seed).publishes
    first = of(rows, Kind.SEND)[of(rows, Kind.SEND)["flags"] == 0]
    assert ignored
    assert len(first) + tally.dropped == due
    assert (tally.dropped > 0) is dropped
    assert (tally.given_up > 0) is given_up
    acked = {(int(row["publisher"]), int(row["pub_seq"])) for row in of(rows, Kind.ACK)}
    sent = {(int(row["publisher"]), int(row["pub_seq"])) for row in first}
    assert len(sent - acked) == tally.given_up

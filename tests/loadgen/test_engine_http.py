"""The engine over HTTP: streams, polls, posts, and the way from one to the other. Real sockets."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import monotonic_ns
from typing import Any

import pytest

from loadgen import ways
from loadgen.engine import Engine
from loadgen.workload import LoadSpec, predict
from reports.history import CONN_ERRNO, CONN_OK, Flag, Kind, Transport
from tests.loadgen.test_engine import of, records, to_the_end, until
from tests.loadgen.tiny_http import TinyHttp


def run(
    path: Path,
    server: TinyHttp,
    course: Callable[[Engine], Awaitable[None]],
    transport: str,
    **persona: Any,
) -> tuple[Any, LoadSpec]:
    """One worker's load over HTTP; what it recorded, in order."""
    crashes: list[BaseException] = []
    workload = {
        "clients": 4,
        "channels": 2,
        "connect_over_s": 0.05,
        "ack_timeout_s": 9.0,  # a busy machine must not make anybody send again
        "reconnect": {"base_s": 0.001, "cap_s": 0.01},
        "phase": [
            {"name": "silence", "duration_s": 1.1},
            {"name": "load", "duration_s": 0.4, "publish_per_s": 60},
        ],
        "persona": [{"name": "all", "weight": 1, "transport": transport, **persona}],
    }

    async def main() -> LoadSpec:
        async with server:
            spec = LoadSpec.model_validate(
                {
                    "run_dir": str(path), "nonce": 5, "seed": 3, "workload": workload,
                    "targets": [server.url.replace("http", "ws")], "http_targets": [server.url],
                }
            )  # fmt: skip
            engine = Engine(spec, 1, 1, crashed=crashes.append)
            engine.start(monotonic_ns())
            await course(engine)
            await engine.stop()
            return spec

    spec = asyncio.run(main())
    assert not crashes
    return records(path), spec


@pytest.mark.parametrize("transport", ["sse", "poll"])
def test_a_quiet_run_has_exactly_the_records_of_one_over_websockets(tmp_path: Path, transport: str) -> None:
    server = TinyHttp()
    rows, spec = run(tmp_path, server, to_the_end, transport)
    expected = predict(spec.workload, spec.seed)
    assert expected.files == 8
    assert len(of(rows, Kind.SEND)) == len(of(rows, Kind.ACK)) == expected.publishes > 5
    assert len(of(rows, Kind.RECV)) == expected.deliveries
    assert len(rows) == expected.records
    conns = of(rows, Kind.CONN)
    assert set(conns["flags"].tolist()) == {Transport[transport.upper()]}
    assert set(conns["serial"].tolist()) == {CONN_OK}
    assert set(conns["publisher"].tolist()) == {1}
    own = of(rows, Kind.RECV)["publisher"] == of(rows, Kind.RECV)["client"]
    assert (of(rows, Kind.RECV)["flags"] == own * int(Flag.OWN_ECHO)).all()
    closes = of(rows, Kind.CLOSE)
    assert (closes["flags"] == Flag.ON_PURPOSE).all()


@pytest.mark.parametrize("transport", ["sse", "poll"])
def test_posts_of_a_client_go_one_at_a_time_and_keep_their_order(tmp_path: Path, transport: str) -> None:
    server = TinyHttp()
    server.broken_posts = 2  # placed, and the answer lost with the connection
    rows, spec = run(tmp_path, server, to_the_end, transport)
    assert server.most_at_once <= spec.workload.clients
    sent: dict[int, int] = {}
    for row in rows[(rows["kind"] == Kind.SEND) | (rows["kind"] == Kind.ACK) | (rows["kind"] == Kind.CLOSE)]:
        client = int(row["client"])
        if row["kind"] == Kind.SEND:
            assert sent.get(client) is None, "sent before the one before was answered"
            sent[client] = int(row["pub_seq"])
        else:
            sent.pop(client, None)
    assert (of(rows, Kind.ACK)["flags"] == Flag.DUPLICATE).sum() == 2
    lost = of(rows, Kind.CLOSE)
    assert lost[lost["flags"] == 0]["serial"].tolist() == [1006, 1006]
    for log in server.logs.values():
        for client in range(1, 5):
            own = [int(m.message.split(":")[1]) for m in log if m.message.startswith(f"c{client}:")]
            assert own == sorted(own)


def test_a_refused_post_is_sent_again_before_those_behind_it(tmp_path: Path) -> None:
    server = TinyHttp()
    server.refused_posts = 3
    rows, spec = run(tmp_path, server, to_the_end, "sse")
    nacks = of(rows, Kind.NACK)
    assert nacks["t2"].tolist() == [503] * 3
    assert (nacks["flags"] == Flag.DEFINITE).all()
    assert len(server.places) == predict(spec.workload, spec.seed).publishes


def test_a_broken_stream_is_resumed_from_the_highest_serial_that_was_received(tmp_path: Path) -> None:
    server = TinyHttp()

    async def course(engine: Engine) -> None:
        await until(lambda: sum(map(len, server.logs.values())) >= 5)
        await until(lambda: len(server.streams) == 4)
        server.break_streams()
        await to_the_end(engine)

    rows, spec = run(tmp_path, server, course, "sse")
    subs = of(rows, Kind.SUB)
    resumed = subs[subs["flags"] == Flag.RESUMED]
    assert len(resumed) == 8
    for sub in resumed:
        before = rows[: int((rows == sub).argmax())]
        mine = before[(before["client"] == sub["client"]) & (before["channel"] == sub["channel"])]
        seen = mine[(mine["kind"] == Kind.RECV) | (mine["kind"] == Kind.SUB)]
        assert sub["pub_seq"] == seen["serial"].max()
    received = of(rows, Kind.RECV)
    assert len(received) == predict(spec.workload, spec.seed).deliveries


def test_polls_that_fail_end_the_connection_and_the_next_one_goes_on(tmp_path: Path) -> None:
    server = TinyHttp()

    async def course(engine: Engine) -> None:
        await until(lambda: engine.state().live == 4)
        server.refused_polls = 4
        await to_the_end(engine)

    rows, spec = run(tmp_path, server, course, "poll")
    closes = of(rows, Kind.CLOSE)
    failed = closes[closes["flags"] == 0]["serial"].tolist() + of(rows, Kind.CONN)["serial"].tolist()
    assert failed.count(1006) + failed.count(CONN_ERRNO + errno.ECONNRESET) == 4
    assert len(of(rows, Kind.RECV)) == predict(spec.workload, spec.seed).deliveries


def test_who_falls_back_goes_from_a_refused_upgrade_to_a_stream(tmp_path: Path) -> None:
    rows, _ = run(tmp_path, TinyHttp(), to_the_end, "fallback")
    conns = of(rows, Kind.CONN)
    assert sorted(zip(conns["flags"].tolist(), conns["serial"].tolist(), strict=True)) == [
        *[(Transport.WEBSOCKET, 403)] * 4, *[(Transport.SSE, CONN_OK)] * 4,
    ]  # fmt: skip


def test_who_falls_back_goes_from_a_stream_that_is_held_back_to_polls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ways, "FIRST_WORD_S", 0.05)
    server = TinyHttp()
    server.holds_streams = True
    rows, spec = run(tmp_path, server, to_the_end, "fallback")
    conns = of(rows, Kind.CONN)
    assert sorted(zip(conns["flags"].tolist(), conns["serial"].tolist(), strict=True)) == [
        *[(Transport.WEBSOCKET, 403)] * 4,
        *[(Transport.SSE, CONN_ERRNO + errno.ETIMEDOUT)] * 4,
        *[(Transport.POLL, CONN_OK)] * 4,
    ]
    assert len(of(rows, Kind.RECV)) == predict(spec.workload, spec.seed).deliveries


def test_a_server_that_is_not_there_is_dialled_until_it_is(tmp_path: Path) -> None:
    async def course(engine: Engine) -> None:
        await until(lambda: engine.recorder.count >= 8)

    server = TinyHttp()
    url = "http://127.0.0.1:1"
    original = TinyHttp.__aenter__

    async def elsewhere(self: TinyHttp) -> TinyHttp:
        await original(self)
        self.url = url
        return self

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(TinyHttp, "__aenter__", elsewhere)
        rows, _ = run(tmp_path, server, course, "sse")
    assert set(rows["kind"].tolist()) == {Kind.CONN}
    assert set(rows["serial"].tolist()) == {CONN_ERRNO + errno.ECONNREFUSED}


@pytest.mark.parametrize("transport", ["sse", "poll"])
def test_the_deaf_hear_all_that_they_missed(tmp_path: Path, transport: str) -> None:
    server = TinyHttp()

    async def course(engine: Engine) -> None:
        await until(lambda: engine.state().live == 4)
        client = engine._clients[1]
        client.deafen()
        before = client.heard_ns
        await until(lambda: sum(map(len, server.logs.values())) >= 5)
        assert client.heard_ns == before
        client.hear()
        await to_the_end(engine)

    rows, spec = run(tmp_path, server, course, transport)
    assert len(of(rows, Kind.RECV)) == predict(spec.workload, spec.seed).deliveries
    assert len(of(rows, Kind.CONN)) == 4

"""The engine over HTTP against chatd itself, plain and over TLS: what is on record of cuts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import monotonic_ns
from typing import Any, NamedTuple

import numpy as np
import pytest

from chatd.flush import SLOW_BYTES
from chatd.server import Server
from loadgen.engine import Engine
from loadgen.personas import members
from loadgen.trust import AuthFailed
from loadgen.workload import LoadSpec, predict
from reports.history import CONN_OK, Flag, GapReason, Kind, Transport
from tests.chatd.certificates import Certificate, make_certificate
from tests.chatd.in_thread import chatd
from tests.loadgen.test_engine import of, records, to_the_end, until

WAYS = ("sse", "poll")
SILENT_THEN_LOAD = [
    {"name": "silence", "duration_s": 1.1},
    {"name": "load", "duration_s": 1.2, "publish_per_s": 60},
]


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    return make_certificate(tmp_path)


class Seen(NamedTuple):
    rows: Any
    spec: LoadSpec


def lived(
    path: Path,
    transport: str,
    course: Callable[[Engine, Server], Awaitable[None]],
    *,
    certificate: Certificate | None = None,
    spec: dict[str, Any] | None = None,
    crashes: list[BaseException] | None = None,
    settings: dict[str, Any] | None = None,
    **workload: Any,
) -> Seen:
    """One worker's load on a chatd of its own, and what it recorded. ``crashes``: where they may be."""
    crashed: list[BaseException] = [] if crashes is None else crashes
    fields = {
        "clients": 4,
        "channels": 2,
        "connect_over_s": 0.05,
        "reconnect": {"base_s": 0.001, "cap_s": 0.01},
        "phase": SILENT_THEN_LOAD,
        "persona": [{"name": "all", "weight": 1, "transport": transport}],
        **workload,
    }
    secure: dict[str, Any] = (
        {} if certificate is None else {"tls_cert": certificate.cert, "tls_key": certificate.key}
    )

    async def main() -> LoadSpec:
        async with chatd(retry_ms=(1, 10), **secure, **(settings or {})) as server:
            given: dict[str, Any] = {
                "run_dir": str(path), "nonce": 5, "seed": 3, "workload": fields,
                "targets": [server.url.removesuffix("/ws")], "http_targets": [server.http_url],
                **(spec or {}),
            }  # fmt: skip
            if certificate is not None:
                given["tls"] = {"ca": certificate.cert, **given.get("tls", {})}
            told = LoadSpec.model_validate(given)
            engine = Engine(told, 1, 1, crashed=crashed.append)
            engine.start(monotonic_ns())
            await course(engine, server)
            await engine.stop()
            assert not server.failed
            return told

    done = asyncio.run(main())
    assert crashes is not None or not crashed
    return Seen(records(path), done)


async def all_of_it(engine: Engine, _server: Server) -> None:
    await to_the_end(engine)
    # The answer to the last publish may be here before anybody who polls has got it.
    await until(lambda: sum(max(serials) for serials in _serials(engine)) == engine.total)
    await until(lambda: all(len(serials) == 1 for serials in _serials(engine)))


def ending(crashes: list[BaseException]) -> Callable[[Engine, Server], Awaitable[None]]:
    """Until somebody is connected, or nobody can be."""

    async def course(engine: Engine, _server: Server) -> None:
        await until(lambda: bool(crashes) or engine.state().live > 0)

    return course


def _lanes(engine: Engine, channel: int) -> list[Any]:
    return [lane for c in engine._clients.values() for lane in c.lanes.values() if lane.channel == channel]


def _serials(engine: Engine) -> list[set[int]]:
    """For each channel that has readers, up to where they have read."""
    return [{lane.serial for lane in lanes} for channel in (1, 2) if (lanes := _lanes(engine, channel))]


def cut(server: Server) -> int:
    """End every connection without a word; how many there were."""
    streams = list(server.connections.values())
    for connection in streams:
        connection.link.abort()
    return len(streams)


# Over TLS ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", [*WAYS, "websocket"])
def test_over_tls_a_quiet_run_has_exactly_the_predicted_records(
    tmp_path: Path, transport: str, certificate: Certificate
) -> None:
    rows, spec = lived(tmp_path, transport, all_of_it, certificate=certificate)
    assert spec.http_targets[0].startswith("https://")
    expected = predict(spec.workload, spec.seed)
    assert len(of(rows, Kind.SEND)) == len(of(rows, Kind.ACK)) == expected.publishes > 20
    assert len(of(rows, Kind.RECV)) == expected.deliveries
    assert len(rows) == expected.records
    conns = of(rows, Kind.CONN)
    assert set(conns["flags"].tolist()) == {Transport[transport.upper()]}
    assert set(conns["serial"].tolist()) == {CONN_OK}


@pytest.mark.parametrize("transport", [*WAYS, "websocket"])
def test_who_is_known_by_another_name_is_told_by_the_name_that_is_asked_for(
    tmp_path: Path, transport: str, certificate: Certificate
) -> None:
    """The certificate is for 127.0.0.1; over HTTP a server may have another name than over WebSockets."""
    names = {"tls": {"server_name": "127.0.0.1"}, "http_server_name": "chat.example"}
    crashes: list[BaseException] = []
    rows, _ = lived(
        tmp_path, transport, ending(crashes), certificate=certificate, spec=names, crashes=crashes
    )
    if transport == "websocket":
        assert not crashes
        assert CONN_OK in of(rows, Kind.CONN)["serial"]
    else:
        assert "server.tls.server_name is 'chat.example': the certificate at https://" in str(crashes[0])


@pytest.mark.parametrize("transport", [*WAYS, "websocket"])
def test_a_server_with_another_certificate_than_is_trusted_ends_the_load_with_what_to_do(
    tmp_path: Path, transport: str, certificate: Certificate
) -> None:
    ca = make_certificate(tmp_path, "stranger").cert
    crashes: list[BaseException] = []
    rows, _ = lived(
        tmp_path,
        transport,
        ending(crashes),
        certificate=certificate,
        spec={"tls": {"ca": ca}},
        crashes=crashes,
    )
    assert isinstance(crashes[0], AuthFailed)
    told, scheme = str(crashes[0]), "wss" if transport == "websocket" else "https"
    assert told.startswith(
        f"server.tls.ca is {str(ca)!r}: it does not vouch for the certificate at {scheme}://"
    )
    assert "self-signed certificate" in told
    assert told.endswith("name the PEM file of the authority that signed it, or of the certificate itself")
    assert CONN_OK not in of(rows, Kind.CONN)["serial"]


# Who is cut --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("transport", WAYS)
def test_who_is_cut_while_others_publish_goes_on_after_what_it_has_without_loss_or_repetition(
    tmp_path: Path, transport: str, secure: bool, request: pytest.FixtureRequest
) -> None:
    async def cut_again_and_again(engine: Engine, server: Server) -> None:
        for place in (3, 8, 13, 18):
            await until(lambda place=place: _lanes(engine, 1)[0].serial >= place)  # type: ignore[misc]
            await until(lambda: len(server.connections) >= 4)  # between two polls there is nobody to cut
            cut(server)
        await all_of_it(engine, server)

    certificate = request.getfixturevalue("certificate") if secure else None
    rows, spec = lived(tmp_path, transport, cut_again_and_again, certificate=certificate)
    received, again = of(rows, Kind.RECV), of(rows, Kind.SUB)
    again = again[again["t"] > of(rows, Kind.CLOSE)["t"].min()]
    assert len(again) >= 8
    assert (again["flags"] == Flag.RESUMED).all()
    for sub in again:
        before = rows[: int((rows == sub).argmax())]
        mine = before[(before["client"] == sub["client"]) & (before["channel"] == sub["channel"])]
        seen = mine[(mine["kind"] == Kind.RECV) | (mine["kind"] == Kind.SUB)]
        assert sub["pub_seq"] == sub["serial"] == seen["serial"].max()
    assert len(of(rows, Kind.GAP)) == 0
    assert len(received) == predict(spec.workload, spec.seed).deliveries
    for client in range(1, 5):
        for channel in (1, 2):
            mine = received[(received["client"] == client) & (received["channel"] == channel)]["serial"]
            assert mine.tolist() == list(range(1, len(mine) + 1))


def absent(path: Path, transport: str, retain_n: int, recover: str = "resume") -> tuple[Any, int, int]:
    """One client is away while another says twenty things.

    Returns its rows from its first return on, what it had before, and what was said by then.
    """
    marks: list[int] = []

    async def stay_away(engine: Engine, server: Server) -> None:
        (who,) = (c for c in engine._clients.values() if c.persona.name == "absent")
        (other,) = (c for c in engine._clients.values() if c is not who)
        lane, head = who.lanes["room:1"], other.lanes["room:1"]
        await until(lambda: lane.serial >= 5)
        who.lose()
        await until(lambda: who.ordinal in engine._redials)
        marks.append(lane.serial)
        await until(lambda: head.serial >= marks[0] + 20)
        server.hub.trimmed(await server.store.trim(0))
        marks.append(head.serial)
        engine._redials.pop(who.ordinal).cancel()  # it has been away for long enough
        engine._arrive(who.ordinal)
        await to_the_end(engine)
        await until(lambda: lane.serial == head.serial)

    persona = {"transport": transport, "recover": recover, "reconnect": {"policy": "fixed", "wait_s": 600}}
    rows, _ = lived(
        path, transport, stay_away, clients=2, channels=1, channels_per_client=1,
        settings={"retain_n": retain_n},
        persona=[{"name": "absent", "weight": 1, "talk": 0, **persona}, {"name": "there", "weight": 1}],
        phase=[SILENT_THEN_LOAD[0], {"name": "load", "duration_s": 2.5, "publish_per_s": 40}],
    )  # fmt: skip
    closes = of(rows, Kind.CLOSE)
    closed = closes[closes["flags"] == 0]
    assert closed["serial"].tolist() == [1006]
    mine = rows[(rows["client"] == closed["client"][0]) & (rows["t"] > closed["t"][0])]
    return mine, marks[0], marks[1]


@pytest.mark.parametrize("transport", [*WAYS, "websocket"])
def test_what_is_retained_no_longer_when_a_client_is_back_is_a_gap_on_record(
    tmp_path: Path, transport: str
) -> None:
    mine, left, said = absent(tmp_path, transport, retain_n=8)
    (sub,), (gap,) = of(mine, Kind.SUB), of(mine, Kind.GAP)
    assert (sub["flags"], sub["pub_seq"]) == (0, left)
    assert gap["t2"] == GapReason.TRIMMED
    assert (gap["pub_seq"], gap["serial"]) == (left + 1, sub["serial"])
    assert sub["serial"] >= said - 8
    received = of(mine, Kind.RECV)["serial"].tolist()
    assert received == list(range(sub["serial"] + 1, received[-1] + 1))
    assert len(received) >= 8


@pytest.mark.parametrize("transport", WAYS)
@pytest.mark.parametrize("recover", ["resume", "history", "fresh"])
def test_who_is_back_begins_where_its_persona_says(tmp_path: Path, transport: str, recover: str) -> None:
    mine, left, said = absent(tmp_path, transport, retain_n=1000, recover=recover)
    (sub,), received = of(mine, Kind.SUB), of(mine, Kind.RECV)["serial"].tolist()
    start = int(sub["serial"])
    assert received == list(range(start + 1, received[-1] + 1))
    assert len(of(mine, Kind.GAP)) == 0
    if recover == "resume":
        assert (sub["flags"], sub["pub_seq"], start) == (Flag.RESUMED, left, left)
    elif recover == "history":
        assert (sub["flags"], sub["pub_seq"], start) == (0, 0, 0)
    else:
        assert (sub["flags"], sub["pub_seq"]) == (0, 0)
        assert start >= said


# Who does not read ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize(
    "ways",
    [
        pytest.param({"read_per_s": 10.0}, id="slow"),
        pytest.param({}, id="zombie"),
    ],
)
def test_a_stream_that_is_not_read_is_fed_from_the_log_and_has_all_of_it_in_the_end(
    tmp_path: Path, ways: dict[str, Any], secure: bool, request: pytest.FixtureRequest
) -> None:
    most: list[int] = []

    async def watched(engine: Engine, server: Server) -> None:
        def measured() -> bool:
            most.append(server.slow.waiting_bytes())
            return bool(server.metrics.slow_entered and not engine.state().scheduled_left)

        (client,) = (c for c in engine._clients.values() if c.persona.name == "behind")
        await until(lambda: client.lanes["room:1"].serial >= 5)
        if not ways:  # deaf until it has been left behind, however long that takes here
            client.deafen()
        await until(measured)
        client.hear()
        await all_of_it(engine, server)
        await until(lambda: server.metrics.slow == 0)
        assert (server.metrics.gaps, server.metrics.stuck) == (0, 0)

    body_bytes = 8_000
    rows, spec = lived(
        tmp_path, "sse", watched,
        certificate=request.getfixturevalue("certificate") if secure else None,
        channels=1, channels_per_client=1, body_bytes=body_bytes,
        persona=[
            {"name": "behind", "weight": 1, "talk": 0, "transport": "sse", **ways},
            {"name": "others", "weight": 3, "transport": "sse"},
        ],
        phase=[{"name": "load", "duration_s": 3.0, "publish_per_s": 120}],
    )  # fmt: skip
    told = predict(spec.workload, spec.seed)
    received, (behind,) = of(rows, Kind.RECV), members(spec.workload, spec.seed, 0).tolist()
    assert len(received) == told.deliveries
    late_s = (received["t"] - received["t2"])[received["client"] == behind] / 1e9
    assert late_s.max() > 1.0
    soon_s = (received["t"] - received["t2"])[received["client"] != behind] / 1e9
    assert np.median(soon_s) < np.median(late_s)
    assert SLOW_BYTES // 8 < max(most) <= SLOW_BYTES + 2 * body_bytes
    assert len(of(rows, Kind.CONN)) == 4, "nobody was cut"

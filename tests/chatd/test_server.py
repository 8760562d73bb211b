"""A whole daemon in this process, over real sockets on free ports."""

from __future__ import annotations

import asyncio
import json
import os
import re
import struct
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from chatd import connection as connection_module
from chatd.config import Config
from chatd.server import Server, StartError
from tests.chatd.house import House, serials


@pytest.mark.parametrize("store", ["memory", "sqlite"])
def test_every_subscriber_gets_every_message_in_the_order_of_the_log(serve, store) -> None:
    async def scenario(house: House) -> None:
        listeners = [await house.listener(f"l{n}") for n in range(5)]
        publishers = [await house.guest(f"p{n}") for n in range(4)]
        for number in range(50):  # pipelined: nobody waits for an ack
            for publisher in publishers:
                await publisher.ask("publish", channel="room", message=f"{number}", data=number)
        acked: dict[int, tuple[int, int]] = {}
        for who, publisher in enumerate(publishers):
            for number in range(50):
                ack = await publisher.read()
                acked[ack["position"][1]] = (who, number)
        assert sorted(acked) == list(range(1, 201))
        for who in range(4):
            own = [number for _, (owner, number) in sorted(acked.items()) if owner == who]
            assert own == list(range(50)), "each publisher's order is kept"
        for listener in listeners:
            got = [await listener.read() for _ in range(200)]
            assert serials(got) == list(range(1, 201))
            assert all(acked[m["serial"]] == (int(m["user"][1:]), m["data"]) for m in got)

    serve(scenario, store=store)


def test_a_duplicate_is_acked_with_the_first_position_and_not_delivered_again(serve) -> None:
    async def scenario(house: House) -> None:
        listener, publisher = await house.listener(), await house.guest()
        first = await publisher.publish("m1")
        assert (first["duplicate"], first["durability"]) == (False, "fsync")
        again = await publisher.publish("m1")
        assert (again["duplicate"], again["position"]) == (True, first["position"])
        await publisher.ask("publish", channel="room", message="m1", data="other")
        refused = await publisher.read()
        assert (refused["type"], refused["code"], refused["definite"]) == ("error", 409, True)
        await publisher.publish("m2")
        assert [(await listener.read())["message"] for _ in range(2)] == ["m1", "m2"]

    serve(scenario)


def test_a_resume_replays_what_was_missed_and_goes_on_live(serve) -> None:
    async def scenario(house: House) -> None:
        publisher = await house.guest()
        epoch = (await publisher.publish("m1"))["position"][0]
        for number in range(2, 1501):
            await publisher.ask("publish", channel="room", message=f"m{number}", data="x" * 100)
        for _ in range(2, 1501):
            await publisher.until("ack")
        listener = await house.guest("bob", channels=[{"channel": "room", "from": [epoch, 3]}])
        subscribed = await listener.read()
        assert (subscribed["resumed"], subscribed["start"], subscribed["count"]) == (True, 3, 1497)
        replay = await listener.until("live")
        assert serials(replay) == list(range(4, 1501))
        await publisher.publish("after")
        assert (await listener.read())["serial"] == 1501

    serve(scenario)


@pytest.mark.parametrize(
    ("asked", "start", "why"),
    [
        pytest.param(["?", 2], 0, "epoch", id="another epoch"),
        pytest.param(["=", 99], 5, "ahead", id="ahead"),
    ],
)
def test_a_position_that_cannot_be_served_is_a_gap(serve, asked, start, why) -> None:
    async def scenario(house: House) -> None:
        publisher = await house.guest()
        for number in range(5):
            ack = await publisher.publish(f"m{number}")
        epoch = ack["position"][0]
        position = [epoch if asked[0] == "=" else asked[0], asked[1]]
        await publisher.ask("subscribe", channel="room", from_=position)
        subscribed, *rest = await publisher.until("live")
        assert (subscribed["resumed"], subscribed["start"]) == (False, start)
        assert subscribed["gap"] == {"why": why, "from": position, "to": [epoch, start]}
        assert serials(rest) == list(range(start + 1, 6))

    serve(scenario)


def test_joining_in_the_middle_of_traffic_skips_and_repeats_nothing(serve) -> None:
    async def scenario(house: House) -> None:
        publisher = await house.guest()
        last = 3000

        async def traffic() -> None:
            for number in range(1, last + 1):
                await publisher.ask("publish", channel="room", message=f"m{number}", data="x" * 50)
                if number % 100 == 0:
                    await asyncio.sleep(0)

        async def follow(start: object) -> None:
            guest = await house.guest("l", channels=[{"channel": "room", "from": start}])
            got: list[int] = []
            begin = (await guest.read())["start"]
            while not got or got[-1] < last:
                frame = await guest.read()
                if frame["type"] == "message":
                    got.append(frame["serial"])
            assert got == list(range(begin + 1, last + 1))

        async def acks() -> None:
            for _ in range(last):
                await publisher.until("ack")

        starts: list[object] = ["new", "first", {"last": 10}]
        await asyncio.gather(traffic(), acks(), *(follow(starts[n % 3]) for n in range(12)))

    serve(scenario)


def test_all_who_come_at_once_to_a_channel_that_is_not_open_yet_are_answered_in_order(serve) -> None:
    async def scenario(house: House) -> None:
        publisher = await house.guest()
        await publisher.publish("m1")
        guests = [await house.guest(f"l{n}") for n in range(20)]
        await asyncio.gather(*(guest.ask("subscribe", channel="room", from_="first") for guest in guests))
        for guest in guests:
            frames = await guest.until("live")
            assert [frame["type"] for frame in frames] == ["subscribed", "message", "live"]

    serve(scenario)


def test_unsubscribed_is_the_last_word_of_a_channel(serve) -> None:
    async def scenario(house: House) -> None:
        listener, publisher = await house.listener(), await house.guest()
        await publisher.publish("m1")
        await listener.ask("unsubscribe", channel="room")
        frames = await listener.until("unsubscribed")
        assert serials(frames) == [1]
        await publisher.publish("m2")
        await listener.ask("history", channel="room")
        assert (await listener.read())["type"] == "history"

    serve(scenario)


def test_history_pages_hold_the_same_bytes_as_live(serve) -> None:
    async def scenario(house: House) -> None:
        listener, publisher = await house.listener(), await house.guest()
        for number in range(1, 8):
            await publisher.publish(f"m{number}", data={"n": number})
        live = [await listener.ws.recv() for _ in range(7)]

        async def page(**how: Any) -> dict[str, Any]:
            await publisher.ask("history", channel="room", **how)
            return await publisher.read()

        await publisher.ask("history", channel="room")
        raw = await publisher.ws.recv()
        assert all(frame in raw for frame in live)
        newest = await page(limit=3)
        assert (serials(newest["messages"]), newest["more"]) == ([5, 6, 7], True)
        older = await page(before=5, limit=10)
        assert (serials(older["messages"]), older["more"], older["floor"]) == ([1, 2, 3, 4], False, 1)
        epoch = newest["position"][0]
        later = await page(after=[epoch, 2], limit=2)
        assert (serials(later["messages"]), later["more"]) == ([3, 4], True)
        lost = await page(after=["other", 2])
        assert (lost["type"], lost["code"]) == ("error", 410)

    serve(scenario)


def test_history_of_large_messages_keeps_the_newest(serve, monkeypatch) -> None:
    monkeypatch.setattr("chatd.joins.HISTORY_BYTES", 1000)

    async def scenario(house: House) -> None:
        publisher = await house.guest()
        for number in range(1, 21):
            await publisher.publish(f"m{number}", data="x" * 200)
        await publisher.ask("history", channel="room", limit=20)
        page = await publisher.read()
        got = serials(page["messages"])
        assert got == list(range(got[0], 21))
        assert 1 <= len(got) <= 6
        assert page["more"]

    serve(scenario)


def test_many_requests_at_once_are_all_answered_and_none_is_left_waiting(serve) -> None:
    async def scenario(house: House) -> None:
        publisher, guest = await house.guest(), await house.guest("bob")
        for number in range(300):
            await publisher.publish(f"m{number}", data="x" * 500)
        for _ in range(30):
            await guest.ask("history", channel="room", limit=200)
            await guest.ask("subscribe", channel="room", from_="first")
        histories = lives = 0
        while (histories, lives) != (30, 1):
            frame = await guest.read()
            histories += frame["type"] == "history"
            if frame["type"] == "live":
                lives += guest.id == 61
        (session,) = [c.session for c in house.server.connections.values() if c.session.user == "bob"]
        assert session.reading == 0

    serve(scenario)


# Frames -----------------------------------------------------------------------------------------------


def masked(opcode: int, payload: bytes, *, fin: bool = True, rsv: int = 0) -> bytes:
    mask = os.urandom(4)
    head = bytes([(0x80 if fin else 0) | rsv | opcode])
    size = len(payload)
    head += bytes([0x80 | size]) if size < 126 else b"\xfe" + struct.pack(">H", size)
    return head + mask + bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))


async def upgraded(house: House, extra: str = "") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await house.raw()
    writer.write(
        b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        + extra.encode()
        + b"\r\n"
    )
    assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
    return reader, writer


async def next_frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    async with asyncio.timeout(20):
        first, size = await reader.readexactly(2)
        if size == 126:
            (size,) = struct.unpack(">H", await reader.readexactly(2))
        return first & 15, await reader.readexactly(size)


async def close_code(reader: asyncio.StreamReader) -> int:
    while True:
        opcode, payload = await next_frame(reader)
        if opcode == 8:
            return int.from_bytes(payload[:2], "big")


CONNECT = b'{"type":"connect","id":1}'


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        pytest.param([masked(1, b"hello")], 4501, id="no frame of the protocol"),
        pytest.param([masked(2, CONNECT)], 1003, id="binary"),
        pytest.param([masked(1, b'{"type":"\xff"}')], 1007, id="not UTF-8"),
        pytest.param([masked(0, CONNECT)], 1002, id="a continuation of nothing"),
        pytest.param([masked(1, b"{", fin=False), masked(1, b"}")], 1002, id="a text inside a text"),
        pytest.param([masked(1, CONNECT, rsv=0x40)], 1002, id="a reserved bit"),
        pytest.param([masked(3, b"")], 1002, id="an unknown opcode"),
        pytest.param([b"\x81\x02{}"], 1002, id="not masked"),
        pytest.param([masked(9, b"", fin=False)], 1002, id="a ping in pieces"),
        pytest.param([masked(1, b"x" * 2000)], 1009, id="too large"),
        pytest.param(
            [masked(1, b"x" * 600, fin=False), masked(0, b"x" * 600)], 1009, id="too large in pieces"
        ),
        pytest.param([masked(8, b"\x03\xe8")], 1000, id="a close is answered with its code"),
        pytest.param([masked(8, b"\x0f\xa1bye")], 4001, id="a close of our range too"),
    ],
)  # fmt: skip
def test_a_bad_frame_ends_the_connection_with_the_right_code(serve, frames, code) -> None:
    async def scenario(house: House) -> None:
        reader, writer = await upgraded(house)
        writer.write(b"".join(frames))
        assert await close_code(reader) == code
        writer.write(masked(8, code.to_bytes(2, "big")))
        async with asyncio.timeout(20):
            assert await reader.read() == b"", "the server hangs up"
        writer.close()

    serve(scenario, frame_bytes=1024, store="memory")


def test_fragments_are_put_together_with_pings_between_them(serve) -> None:
    async def scenario(house: House) -> None:
        reader, writer = await upgraded(house)
        text = '{"type":"connect","id":1,"client":"żółw"}'.encode()
        writer.write(masked(1, text[:34], fin=False))  # cuts a letter in two
        writer.write(masked(9, b"still there?"))
        writer.write(masked(0, b"", fin=False) + masked(0, text[34:]))
        assert await next_frame(reader) == (10, b"still there?")
        opcode, payload = await next_frame(reader)
        assert (opcode, json.loads(payload)["user"]) == (1, "żółw")
        writer.close()

    serve(scenario, store="memory")


def test_a_frame_that_arrives_byte_by_byte_is_a_frame(serve) -> None:
    async def scenario(house: House) -> None:
        reader, writer = await upgraded(house)
        for byte in masked(1, CONNECT):
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)
        assert json.loads((await next_frame(reader))[1])["type"] == "connected"
        writer.close()

    serve(scenario, store="memory")


def test_a_client_that_does_not_connect_or_does_not_pong_is_closed(serve, monkeypatch) -> None:
    monkeypatch.setattr("chatd.session.CONNECT_S", 0.5)

    async def scenario(house: House) -> None:
        reader, writer = await upgraded(house)
        assert await close_code(reader) == 4502
        writer.close()
        reader, writer = await upgraded(house)
        writer.write(masked(1, CONNECT))
        assert await close_code(reader) == 4004
        writer.close()
        guest = await house.guest()
        for _ in range(3):
            assert await asyncio.wait_for(guest.ws.recv(), 20) == "{}"
            await guest.ws.send("{}")

    serve(scenario, store="memory", ping_s=0.2, pong_s=0.5)


def test_a_client_that_does_not_answer_a_close_is_cut(serve, monkeypatch) -> None:
    monkeypatch.setattr(connection_module, "GRACE_S", 0.2)

    async def scenario(house: House) -> None:
        reader, writer = await upgraded(house)
        writer.write(masked(2, b"binary"))
        assert await close_code(reader) == 1003
        async with asyncio.timeout(20):
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await reader.readexactly(1)
        writer.close()
        assert house.server.metrics.connections == 0

    serve(scenario, store="memory")


# The door ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "status"),
    [
        pytest.param({"origin": "https://example.org"}, 403, id="a page from elsewhere"),
    ],
)
def test_who_must_not_come_in_is_refused_before_the_upgrade(serve, options, status) -> None:
    async def scenario(house: House) -> None:
        with pytest.raises(InvalidStatus) as caught:
            async with connect(house.server.url, proxy=None, **options):
                pass
        assert caught.value.response.status_code == status

    serve(scenario, store="memory")


def test_a_page_of_this_machine_and_a_client_without_subprotocol_come_in(serve) -> None:
    async def scenario(house: House) -> None:
        async with connect(house.server.url, proxy=None, origin="http://localhost:3000") as ws:  # type: ignore[arg-type]
            await ws.send(CONNECT.decode())
            assert json.loads(await ws.recv())["type"] == "connected"

    serve(scenario, store="memory")


def test_the_pages_are_answered_on_the_same_port(serve) -> None:
    async def scenario(house: House) -> None:
        assert await house.get("/healthz") == (200, "ok\n")
        assert await house.get("/readyz?verbose") == (200, "ready\n")
        assert (await house.get("/nothing"))[0] == 404
        assert (await house.get("/ws"))[0] == 426

    serve(scenario, store="memory")


def figures(text: str) -> dict[str, float]:
    return {name: float(value) for name, value in re.findall(r"^(chatd_\S+) (\S+)$", text, re.MULTILINE)}


def test_the_metrics_are_what_happened(serve) -> None:
    async def scenario(house: House) -> None:
        publisher = await house.guest()
        epoch = (await publisher.publish("m1"))["position"][0]
        listeners = [await house.listener(f"l{n}", start=[epoch, 0]) for n in range(3)]
        await house.listener("lost", start=["other", 1])
        for number in range(2, 6):
            await publisher.publish(f"m{number}")
        await publisher.publish("m5")
        await publisher.ask("publish", channel="room", message="m5", data="other")
        await publisher.until("error")
        for listener in listeners:
            assert serials([await listener.read() for _ in range(4)]) == [2, 3, 4, 5]
        status, text = await house.get("/metrics")
        assert status == 200
        shown = figures(text)
        expected = {
            "chatd_ready": 1, "chatd_connections": 5, "chatd_channels": 1, "chatd_publishes_total": 5,
            "chatd_duplicates_total": 1, "chatd_conflicts_total": 1, "chatd_deliveries_total": 20,
            "chatd_replayed_total": 4, "chatd_resumes_total": 3, "chatd_gaps_total": 1,
            "chatd_queue_bytes": 0,
        }  # fmt: skip
        assert {name: shown[name] for name in expected} == expected
        assert shown["chatd_commit_seconds_count"] >= 5
        assert shown["chatd_sent_bytes_total"] > 20 * 100
        types = re.findall(r"^# TYPE (\S+) ", text, re.MULTILINE)
        assert len(types) == len(set(types))

    serve(scenario)


# Going and coming back --------------------------------------------------------------------------------


def test_a_drain_says_goodbye_answers_what_is_in_flight_and_closes_with_4101(serve) -> None:
    async def scenario(house: House) -> None:
        guest = await house.guest()
        for number in range(20):
            await guest.ask("publish", channel="room", message=f"m{number}", data="x")
        await guest.until("ack")
        stop = asyncio.ensure_future(house.server.stop())
        frames: list[dict[str, Any]] = []
        try:
            while True:
                frames.append(await guest.read())
        except ConnectionClosed:
            pass
        assert guest.ws.close_code == 4101
        await stop
        kinds = [frame["type"] for frame in frames]
        assert kinds.count("goodbye") == 1
        assert kinds.count("ack") + kinds.count("error") == 19, "every publish got its answer"
        assert all(frame["definite"] for frame in frames if frame["type"] == "error")

    serve(scenario)


def test_while_draining_new_clients_are_sent_away(serve) -> None:
    async def scenario(house: House) -> None:
        reader, writer = await upgraded(house)  # keeps the drain from ending: it does not answer the close
        stop = asyncio.ensure_future(house.server.stop())
        assert await close_code(reader) == 4101
        assert (await house.get("/readyz"))[0] == 503
        with pytest.raises(InvalidStatus) as caught:
            async with connect(house.server.url, proxy=None):
                pass
        assert caught.value.response.status_code == 503
        assert caught.value.response.headers["Retry-After"] == "1"
        writer.write(masked(8, b"\x10\x05"))
        await stop
        writer.close()

    serve(scenario, store="memory")


def test_a_store_that_cannot_write_is_503_and_not_ready_but_delivery_and_reading_go_on(serve) -> None:
    async def scenario(house: House) -> None:
        listener, publisher = await house.listener(), await house.guest()
        await publisher.publish("m1")
        db = house.server.store._db  # type: ignore[attr-defined]
        pages = db.execute("PRAGMA page_count").fetchone()[0]
        db.execute(f"PRAGMA max_page_count = {pages}")
        await publisher.ask("publish", channel="room", message="m2", data="x" * 60_000)
        refused = await publisher.read()
        assert (refused["code"], refused["temporary"], refused["definite"]) == (503, True, True)
        assert refused["after_ms"] > 0
        assert (await house.get("/readyz"))[0] == 503
        assert (await house.get("/healthz"))[0] == 200
        assert (await listener.read())["message"] == "m1"
        late = await house.listener("late", start="first")
        db.execute("PRAGMA max_page_count = 1000000")
        await house.server.store.trim(0)
        assert (await house.get("/readyz"))[0] == 200
        assert (await publisher.publish("m2", data="x" * 60_000))["position"][1] == 2
        assert (await listener.read())["message"] == (await late.read())["message"] == "m2"

    serve(scenario)


def test_a_port_in_use_is_one_clear_line(serve, tmp_path) -> None:
    async def scenario(house: House) -> None:
        port = int(house.server.url.rsplit(":", 1)[1].split("/")[0])
        with pytest.raises(StartError, match=rf"port is {port}: on 127\.0\.0\.1 it is in use") as caught:
            await Server(Config(port=port, store="memory")).start()
        assert "\n" not in str(caught.value)

    serve(scenario)


@pytest.mark.parametrize("mutant", ["", "skip-subscriber:1", "no-dedupe:1"])
def test_a_mutant_is_named_in_the_contract_and_breaks_its_promise_only(serve, mutant) -> None:
    async def scenario(house: House) -> None:
        listener, publisher = await house.listener(), await house.guest()
        await publisher.publish("m1")
        again = await publisher.publish("m1")
        assert again["duplicate"] == (mutant != "no-dedupe:1")
        assert again["position"][1] == (2 if mutant == "no-dedupe:1" else 1)
        await listener.ask("connect")
        frames = await listener.until("error")
        delivered = {"": [1], "skip-subscriber:1": [], "no-dedupe:1": [1, 2]}[mutant]
        assert serials(frames) == delivered
        await publisher.ask("subscribe", channel="room", from_="first")
        assert serials(await publisher.until("live")) == ([1, 2] if mutant == "no-dedupe:1" else [1])
        assert house.server._terms.contract.test_hooks == ([mutant] if mutant else [])

    serve(scenario, test_hooks=bool(mutant), mutant=mutant)


@pytest.mark.parametrize(
    ("mutant", "gap_to", "first"),
    [
        pytest.param("", 7, 8, id="honest"),
        pytest.param("gap-off-by-one", 6, 8, id="the notice is one short"),
        pytest.param("gap-off-by-one:0", 7, 8, id="it never fires"),
        pytest.param("evict-early", 9, 10, id="half is kept"),
    ],
)
def test_a_mutant_of_retention_miscounts_or_keeps_less_than_it_promises(serve, mutant, gap_to, first) -> None:
    async def scenario(house: House) -> None:
        publisher = await house.guest()
        position = (await publisher.publish("m1"))["position"]
        for number in range(2, 12):
            await publisher.publish(f"m{number}")
        await house.server.store.trim(0)
        back = await house.guest("bob", channels=[{"channel": "room", "from": position}])
        frames = await back.until("live")
        assert frames[0]["gap"]["to"] == [position[0], gap_to]
        assert frames[0]["gap"]["from"] == position
        assert serials(frames)[0] == first
        assert house.server._terms.contract.retain_n == 4

    serve(scenario, test_hooks=bool(mutant), mutant=mutant, retain_n=4)


def test_many_publishes_at_once_are_read_no_faster_than_they_are_stored(serve) -> None:
    async def scenario(house: House) -> None:
        guest = await house.guest()
        count = 5 * house.server.config.in_flight
        text = b"".join(
            masked(
                1,
                json.dumps(
                    {"type": "publish", "id": n, "channel": "room", "message": f"{n}", "data": 1}
                ).encode(),
            )
            for n in range(2, count + 2)
        )
        guest.ws.transport.write(text)
        got = [(await guest.read())["position"][1] for _ in range(count)]
        assert got == list(range(1, count + 1))

    serve(scenario)


def test_a_channel_of_large_messages_is_opened(serve) -> None:
    """The newest few are more than one page of the log holds."""

    async def scenario(house: House) -> None:
        ann = await house.guest()
        for number in range(6):
            await ann.publish(f"m{number}", data="x" * 1_000_000)
        bob = await house.listener()
        await ann.publish("m6")
        assert serials(await bob.until("message")) == [7]

    serve(scenario, frame_bytes=1 << 20)

"""Bytes that no client sends: each ends in the right close code or a closed connection, in time,
and leaves nothing behind: no connection, no task, no traceback."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import struct
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chatd.config import Config
from chatd.server import Server
from tests.chatd.certificates import make_certificate
from tests.chatd.test_server import masked

HANDSHAKE_S, CONNECT_S, GRACE_S, PING_S, PONG_S = 0.4, 0.4, 0.05, 0.3, 0.2
SLOWEST_S = 20.0  # on a machine with other things to do
HEAD = (
    b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)
UPGRADE = HEAD + b"\r\n"
CONNECT = masked(1, b'{"type":"connect","id":1,"subscribe":[{"channel":"room"}]}')
BYE = masked(8, b"\x03\xe8")


class Target:
    """A server under attack, with short deadlines, on a loop of its own."""

    def __init__(self, **more: Any) -> None:
        self.loop = uvloop.new_event_loop()
        self.complaints: list[dict[str, Any]] = []
        self.loop.set_exception_handler(lambda _, context: self.complaints.append(context))
        self.run(self._start(more))

    async def _start(self, more: dict[str, Any]) -> None:
        config = Config(
            port=0, store="memory", frame_bytes=2048, ping_s=PING_S, pong_s=PONG_S, drain_s=1, **more
        )
        self.server = Server(config)
        await self.server.start()
        self.port = int(self.server.url.rsplit(":", 1)[1].split("/")[0])
        self.tasks = len(self.server._tasks)

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        async def soon() -> Any:
            async with asyncio.timeout(SLOWEST_S):
                return await work

        return self.loop.run_until_complete(soon())

    async def settled(self) -> None:
        """Wait until nothing is left of anybody; a test that leaves something runs out of time here."""
        server = self.server
        # Nothing tells when a server has forgotten somebody.
        while (  # noqa: ASYNC110
            server.connections
            or server._addresses
            or server.metrics.connections
            or server.hub._channels
            or len(server._tasks) != self.tasks
            or len(asyncio.all_tasks()) != self.tasks + 1
        ):
            await asyncio.sleep(0)
        assert server.metrics.queue_bytes == 0

    def close(self) -> None:
        self.run(self.server.stop())
        assert not self.server.failed
        self.loop.close()
        assert not self.complaints


@pytest.fixture
def target(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: Any) -> Iterator[Target]:
    yield from attacked(monkeypatch, caplog, capfd)


def attacked(monkeypatch: Any, caplog: Any, capfd: Any, **more: Any) -> Iterator[Target]:
    monkeypatch.setattr("chatd.transports.door.HANDSHAKE_S", HANDSHAKE_S)
    monkeypatch.setattr("chatd.session.CONNECT_S", CONNECT_S)
    monkeypatch.setattr("chatd.connection.GRACE_S", GRACE_S)
    with caplog.at_level(logging.WARNING):
        target = Target(**more)
        yield target
        target.run(target.settled())
        target.close()
    assert not caplog.records
    shown = capfd.readouterr()
    assert "Traceback" not in shown.err + shown.out
    assert "internal_error" not in shown.err


class Attacker:
    """One raw connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, *data: bytes) -> None:
        if not self.writer.is_closing():
            self.writer.write(b"".join(data))

    async def drip(self, data: bytes) -> bytes:
        """Send byte by byte, one every 20 ms, until the server hangs up; what it said."""
        said = b""
        for byte in data:
            self.send(bytes([byte]))
            try:
                async with asyncio.timeout(0.02):
                    said += await self.reader.read(4096) or b"\0END"
            except TimeoutError:
                continue
            except ConnectionError:
                break
            if said.endswith(b"\0END"):
                break
        return said.removesuffix(b"\0END")

    def abort(self) -> None:
        self.writer.transport.abort()
        self.writer.close()

    async def end(self) -> bytes:
        """Everything that the server says until it hangs up."""
        said = b""
        try:
            while data := await self.reader.read(65536):
                said += data
        except ConnectionError:
            pass
        self.writer.close()
        return said


async def attacker(target: Target) -> Attacker:
    return Attacker(*await asyncio.open_connection("127.0.0.1", target.port))


def frames_of(said: bytes) -> Iterator[tuple[int, bytes]]:
    """Opcode and payload of each frame in what a server says, behind its answer to the upgrade."""
    _, _, rest = said.partition(b"\r\n\r\n")
    while len(rest) >= 2:
        opcode, size, at = rest[0] & 15, rest[1], 2
        if size == 126:
            size, at = struct.unpack(">H", rest[2:4])[0], 4
        yield opcode, rest[at : at + size]
        rest = rest[at + size :]


def close_code(said: bytes) -> int | None:
    """The code of the close frame in what a server says; pings, pongs and messages may come before it."""
    return next(
        (int.from_bytes(payload[:2], "big") for opcode, payload in frames_of(said) if opcode == 8), None
    )


# Before the upgrade -----------------------------------------------------------------------------------

BROKEN_HANDSHAKES = [
    pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), id="a TLS handshake"),
    pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="HTTP/2"),
    pytest.param(b"\0\1\2\3\r\n\r\n", id="binary"),
    pytest.param(b"\r\n\r\n", id="an empty request"),
    pytest.param(b"GET /ws HTTP/1.0\r\n\r\n", id="HTTP/1.0"),
    pytest.param(b"POST /ws HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", id="a POST"),
    pytest.param(b"GET /healthz HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", id="a body"),
    pytest.param(b"GET /ws HTTP/1.1\r\n" + b"X: y\r\n" * 10_000 + b"\r\n", id="10,000 headers"),
    pytest.param(b"GET /ws HTTP/1.1\r\nX: " + b"y" * 1_000_000 + b"\r\n\r\n", id="a header of 1 MB"),
    pytest.param(b"GET /" + b"x" * 100_000, id="an endless path"),
    pytest.param(b"GET /ws HTTP/1.1\r\nX" * 3 + b"\r\n\r\n", id="headers that are none"),
    pytest.param(b"GET /ws HTTP/1.1\r\n folded: x\r\n\r\n", id="a folded header"),
    pytest.param(UPGRADE.replace(b"AAAA", b"A*AA", 1), id="a key that is none"),
    pytest.param(UPGRADE.replace(b"Version: 13", b"Version: 99"), id="a WebSocket of another version"),
    pytest.param(UPGRADE.replace(b"Sec-WebSocket-Key", b"X"), id="no key"),
    pytest.param(UPGRADE.replace(b"Connection: Upgrade", b"Connection: close"), id="no upgrade"),
    pytest.param(HEAD + b"Authorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n", id="two tokens"),
    pytest.param(HEAD + b"Origin: http://[::1\r\n\r\n", id="an Origin that is no URL"),
    pytest.param(HEAD + b"Origin: \xff\xfe\r\n\r\n", id="an Origin of bytes"),
    pytest.param(HEAD + b"Sec-WebSocket-Protocol: \xff\r\nOrigin: x\r\n\r\n", id="a protocol of bytes"),
]


@pytest.mark.parametrize("request_bytes", BROKEN_HANDSHAKES)
def test_a_broken_handshake_ends_at_once(target: Target, request_bytes: bytes) -> None:
    async def attack() -> None:
        one = await attacker(target)
        one.send(request_bytes)
        said = await one.end()
        assert b" 101 " not in said
        assert not said or said.startswith(b"HTTP/1.1 4")

    target.run(attack())


@pytest.mark.parametrize(
    "part",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"G", id="a letter"),
        pytest.param(HEAD, id="all but the last line"),
        pytest.param(UPGRADE[:-1], id="all but the last byte"),
    ],
)
def test_a_handshake_that_is_never_finished_has_a_deadline(target: Target, part: bytes) -> None:
    async def attack() -> None:
        one = await attacker(target)
        one.send(part)
        began = target.loop.time()
        assert await one.end() == b""
        assert target.loop.time() - began >= HANDSHAKE_S - 0.05

    target.run(attack())


def test_a_handshake_that_comes_byte_by_byte_has_the_same_deadline(target: Target) -> None:
    async def attack() -> None:
        one = await attacker(target)
        began = target.loop.time()
        assert await one.drip(HEAD * 100) == b""
        assert target.loop.time() - began < SLOWEST_S
        one.writer.close()

    target.run(attack())


def test_only_so_many_may_stand_at_the_door(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatd.transports.door.HANDSHAKES", 5)

    async def attack() -> None:
        waiting = [await attacker(target) for _ in range(5)]
        too_many = await attacker(target)
        assert b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n" in await too_many.end()
        for one in waiting:
            assert await one.end() == b""
        late = await attacker(target)
        late.send(UPGRADE, CONNECT, BYE)
        assert close_code(await late.end()) == 1000

    target.run(attack())


def test_a_client_that_goes_away_in_the_middle_leaves_nothing(target: Target) -> None:
    async def attack() -> None:
        for size in range(0, len(UPGRADE + CONNECT), 7):
            one = await attacker(target)
            one.send((UPGRADE + CONNECT)[:size])
            if size % 2:
                one.abort()
            else:
                one.writer.write_eof()
                await one.end()

    target.run(attack())


@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01", b""], ids=["HTTP", "half", "none"]
)
def test_a_tls_handshake_that_is_none_has_a_deadline(
    tmp_path: Path, monkeypatch: Any, caplog: Any, capfd: Any, garbage: bytes
) -> None:
    made = make_certificate(tmp_path)
    for target in attacked(monkeypatch, caplog, capfd, tls_cert=made.cert, tls_key=made.key):

        async def attack(target: Target = target) -> None:
            one = await attacker(target)
            one.send(garbage)
            assert b"HTTP" not in await one.end()

        target.run(attack())


# Frames -----------------------------------------------------------------------------------------------


def head(first: int, second: int, rest: bytes = b"") -> bytes:
    return bytes([first, second]) + rest + os.urandom(4)


def publish(n: int) -> bytes:
    return masked(1, b'{"type":"publish","id":%d,"channel":"room","message":"m%d","data":0}' % (n + 2, n))


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        pytest.param([b"\x81\x02{}"], 1002, id="no mask"),
        *(pytest.param([masked(1, b"{}", rsv=bit)], 1002, id=f"reserved bit {bit}") for bit in (16, 32)),
        *(pytest.param([masked(code, b"")], 1002, id=f"opcode {code}") for code in (3, 7, 11, 15)),
        pytest.param([masked(9, b"", fin=False)], 1002, id="a ping in pieces"),
        pytest.param([masked(8, b"", fin=False)], 1002, id="a close in pieces"),
        pytest.param([masked(9, b"x" * 126)], 1002, id="a ping of 126 bytes"),
        pytest.param([head(0x81, 0xFE, b"\0\5"), b"hello"], 1002, id="a short length in long form"),
        pytest.param([head(0x81, 0xFF, struct.pack(">Q", 5)), b"hello"], 1002, id="the longest form"),
        pytest.param([head(0x81, 0xFF, struct.pack(">Q", 2**63))], 1002, id="a length with its top bit"),
        pytest.param([head(0x81, 0xFF, struct.pack(">Q", 2**40))], 1009, id="a terabyte"),
        pytest.param([head(0x81, 0xFE, struct.pack(">H", 65_000)), b"x" * 65_000], 1009, id="64 kB"),
        pytest.param([masked(2, b"{}")], 1003, id="binary"),
        pytest.param([masked(0, b"{}")], 1002, id="a continuation of nothing"),
        pytest.param([masked(1, b"{", fin=False), masked(1, b"}")], 1002, id="a text inside a text"),
        pytest.param([masked(1, b"{", fin=False), masked(2, b"}")], 1003, id="binary inside a text"),
        pytest.param([masked(1, b"\xff")], 1007, id="no UTF-8"),
        pytest.param([masked(1, b'"\xed\xa0\x80"')], 1007, id="a surrogate"),
        pytest.param([masked(1, b'"\xf4\x90\x80\x80"')], 1007, id="beyond Unicode"),
        pytest.param([masked(1, b'"\xc5', fin=False), masked(0, b'x"')], 1007, id="half a letter in a piece"),
        pytest.param([masked(1, b'"\xf0\x9f', fin=False), masked(0, b"\x91")], 1007, id="a letter that ends"),
        pytest.param([masked(1, b"x" * 2000, fin=False)] + [masked(0, b"x" * 2000, fin=False)] * 2, 1009,
                     id="too much in pieces"),
        pytest.param([masked(1, b"", fin=False)] + [masked(0, b"", fin=False)] * 1024, 1009, id="none"),
        pytest.param([masked(8, b"x")], 1002, id="a close of one byte"),
        *(pytest.param([masked(8, struct.pack(">H", code))], 1002, id=f"a close with {code}")
          for code in (0, 1, 999, 1004, 1005, 1006, 1015, 2999, 5000)),
        pytest.param([masked(8, b"\x03\xe8\xff")], 1007, id="a close whose reason is no UTF-8"),
        pytest.param([masked(8, b"")], 1000, id="a close without a code"),
        pytest.param([BYE, masked(1, b"x")], 1000, id="a frame after a close"),
        pytest.param([masked(1, b"[" * 2000)], 4501, id="JSON that is too deep"),
        pytest.param([masked(1, b'{"type":"connect","id":-1}')], 4501, id="an id below zero"),
        pytest.param([masked(1, b'{"type":"connect","id":1e999}')], 4501, id="an id beyond all numbers"),
        pytest.param([masked(1, b"\0" * 100)], 4501, id="zeros"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("first", [b"", CONNECT], ids=["before connect", "after it"])
def test_a_frame_against_the_rules_ends_with_its_code(target: Target, frames, code, first) -> None:
    async def attack() -> None:
        one = await attacker(target)
        one.send(UPGRADE, first, *frames)
        if code == 1000:
            said = await one.end()
            assert close_code(said) in (1000, 0), "a close without a code is answered by one"
        else:
            assert close_code(await one.end()) == code

    target.run(attack())


@pytest.mark.parametrize(
    "malformed",
    [
        pytest.param(b"\x81\x02{}", id="no mask"),
        pytest.param(masked(3, b""), id="an unknown opcode"),
        pytest.param(head(0x81, 0xFF, struct.pack(">Q", 2**40)), id="too large"),
        pytest.param(masked(8, b"x"), id="a bad close"),
        pytest.param(publish(0) + masked(3, b""), id="behind a publish"),
    ],
)
def test_on_a_busy_channel_nothing_follows_the_close_that_a_malformed_frame_gets(
    target: Target, malformed: bytes
) -> None:
    """picows answers such a frame by itself, and hangs up 10 ms later (RFC 6455 § 5.5.1)."""

    async def attack() -> None:
        busy, one = await attacker(target), await attacker(target)
        busy.send(UPGRADE, CONNECT)
        one.send(UPGRADE, CONNECT)
        upgraded = await one.reader.readuntil(b'"type":"live"')
        one.send(malformed)
        for n in range(1, 200):
            busy.send(publish(n))
            await asyncio.sleep(0)
        said = upgraded + await one.end()
        busy.send(BYE)
        assert said.count(b'"type":"message"') < (await busy.end()).count(b'"type":"ack"') == 199
        opcodes = [opcode for opcode, _ in frames_of(said)]
        assert opcodes.index(8) == len(opcodes) - 1, "nothing comes behind the close frame"

    target.run(attack())


def test_control_frames_between_the_pieces_of_a_text_are_answered_and_it_is_read(
    target: Target,
) -> None:
    async def attack() -> None:
        one = await attacker(target)
        text = '{"type":"connect","id":1,"client":"żółw"}'.encode()
        pieces = [masked(0 if at else 1, text[at : at + 1], fin=False) for at in range(len(text))]
        between = [piece + masked(9, b"%d" % at) + masked(10, b"") for at, piece in enumerate(pieces)]
        one.send(UPGRADE, *between, masked(0, b""), BYE)
        said = await one.end()
        assert said.count(b"\x8a") >= len(text), "pongs"
        assert "żółw".encode() in said
        assert close_code(said) == 1000

    target.run(attack())


def test_a_frame_that_comes_byte_by_byte_ends_with_the_deadline_of_connect(target: Target) -> None:
    async def attack() -> None:
        one = await attacker(target)
        one.send(UPGRADE)
        said = await one.drip(masked(1, b" " * 1000))
        assert close_code(said + await one.end()) == 4502

    target.run(attack())


def test_a_frame_that_comes_byte_by_byte_is_no_pong(target: Target) -> None:
    async def attack() -> None:
        one = await attacker(target)
        one.send(UPGRADE, CONNECT)
        said = await one.drip(masked(1, b" " * 1000))
        assert close_code(said + await one.end()) == 4004

    target.run(attack())


def test_pings_without_end_to_a_client_that_reads_nothing_are_bounded(target: Target) -> None:
    async def attack() -> None:
        one = await attacker(target)
        one.send(UPGRADE, CONNECT)
        one.writer.transport.pause_reading()
        flood = masked(9, b"x" * 125) * 500
        while not one.writer.is_closing() and target.server.metrics.connections:
            one.send(flood)
            await asyncio.sleep(0)
            assert target.server.metrics.queue_bytes <= 9 * 2**20
            if one.writer.transport.get_write_buffer_size() > 2**22:
                break
        await target.settled()
        one.abort()

    target.run(attack())


# Anything ---------------------------------------------------------------------------------------------

PUBLISH = b'3,"channel":"c","message":"m","data":1'
PIECES = st.one_of(
    st.sampled_from([CONNECT, BYE, masked(1, b"{}"), masked(9, b"x"), masked(1, b"{", fin=False)]),
    st.builds(
        lambda opcode, payload, fin, rsv: masked(opcode, payload, fin=fin, rsv=rsv),
        st.integers(0, 15), st.binary(max_size=200), st.booleans(), st.sampled_from([0, 0, 0, 16, 32, 64]),
    ),
    st.builds(
        lambda kind, rest: masked(1, b'{"type":"%s","id":%s}' % (kind.encode(), rest)),
        st.sampled_from(["connect", "publish", "subscribe", "auth", "abandon", "history", "x"]),
        st.sampled_from([b"1", b"2", b"-1", b"null", b'2,"channel":"c"', PUBLISH]),
    ),
    st.binary(max_size=40),
)  # fmt: skip


def test_whatever_is_sent_the_server_goes_on_and_keeps_nothing(target: Target) -> None:
    @settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(
        st.booleans(),
        st.lists(PIECES, max_size=8),
        st.lists(st.sampled_from([1, 3, 50, 1000]), min_size=1),
        st.booleans(),
    )
    def attack(upgraded: bool, pieces: list[bytes], cuts: list[int], abort: bool) -> None:
        data = (UPGRADE if upgraded else b"") + b"".join(pieces)

        async def one_attack() -> None:
            one = await attacker(target)
            at = 0
            for size in itertools.cycle(cuts):
                if at >= len(data):
                    break
                one.send(data[at : at + size])
                at += size
                await asyncio.sleep(0)
            if abort:
                one.abort()
            else:
                if not one.writer.is_closing():
                    one.writer.write_eof()
                await one.end()
            await target.settled()

        target.run(one_attack())

    attack()

    async def still_there() -> None:
        one = await attacker(target)
        one.send(UPGRADE, CONNECT, BYE)
        assert close_code(await one.end()) == 1000

    target.run(still_there())


def test_a_crowd_of_attackers_does_not_keep_others_out(target: Target) -> None:
    attacks: list[Callable[[], bytes]] = [
        lambda: b"", lambda: HEAD, lambda: UPGRADE, lambda: UPGRADE + CONNECT, lambda: os.urandom(500),
        lambda: UPGRADE + masked(1, b"{", fin=False), lambda: UPGRADE + head(0x81, 0xFE, b"\x07\xff"),
    ]  # fmt: skip

    async def attack() -> None:
        crowd = [await attacker(target) for _ in range(140)]
        for number, one in enumerate(crowd):
            one.send(attacks[number % len(attacks)]())
        guest = await attacker(target)
        guest.send(UPGRADE, CONNECT, BYE)
        assert close_code(await guest.end()) == 1000
        await asyncio.gather(*(one.end() for one in crowd))

    target.run(attack())

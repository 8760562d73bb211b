"""A chat server that costs almost nothing: it writes frames that were built before.

    python -m benchmarks.peers.blaster PORT

It speaks as much of ``chatd.v1`` as a load client needs to be connected, subscribed and acked. Commands
are lines of JSON on stdin, and each is answered with a line on stdout:

``{"do": "joined"}``
    ``connections`` that are subscribed, and how many publishes were acked so far.
``{"do": "blast", "seconds": s, "a_write": n}``
    Send messages, ``n`` in each write, to all connections in turn, until the time is over and all of it has
    been read; ``deliveries`` is their number.

A round is one write to each connection, with a ping behind the last one: the pong says that the client has
come to the end of the round, so no two writes meet in one read.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Iterator
from time import monotonic, monotonic_ns
from typing import Any, Final

import msgspec
import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

from chatd.protocol import messages as wire
from loadgen.body import encode_body
from loadgen.workload import client_name, message_id

EPOCH: Final = "E1"
_PUBLISH: Final = b'{"type":"publish","id":'
NONCE: Final = 7
PUBLISHER: Final = 1_000_000  # nobody among the subscribers
BODY_BYTES: Final = 100
ROUNDS: Final = 400  # built before, then sent again: longer than anything that a client remembers
MESSAGES: Final = 40_000  # at most, on all channels together
"""Bytes of frames are 300 times as many."""


class Connection(WSListener):
    """One client: subscribed to the channels that it asked for, of which only the first is used."""

    def __init__(self, server: Blaster) -> None:
        super().__init__()
        self._server = server
        self._acks: list[bytes] = []
        self.channel = ""
        self.pong = asyncio.Event()

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        transport.underlying_transport.set_write_buffer_limits(high=1 << 26)
        self.write = transport.underlying_transport.write

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        payload = frame.get_payload_as_bytes()
        if payload == wire.PING:
            self.pong.set()
        elif payload.startswith(_PUBLISH):
            self._ack(payload)
        elif frame.msg_type is WSMsgType.CLOSE:
            transport.disconnect()
        else:
            request = wire.decode_request(payload)
            assert isinstance(request, wire.Connect), request
            self._welcome(request)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        if self in self._server.connections:
            self._server.connections.remove(self)

    def _welcome(self, request: wire.Connect) -> None:
        contract = wire.Contract(
            profile="effectively-once", echo=True, durability="memory", retain_n=0, retain_s=0.0,
            retain_bytes=0, dedupe_s=0.0,
        )  # fmt: skip
        answers: list[Any] = [
            wire.Connected(
                id=request.id, node="n1", user=request.client or "", contract=contract,
                limits=wire.Limits(frame_bytes=2**20, channels=100), ping_s=3600.0, pong_s=3600.0,
                retry_ms=(250, 4000),
            )
        ]  # fmt: skip
        for wanted in request.subscribe:
            name, top = wanted.channel, (EPOCH, 0)
            answers.append(
                wire.Subscribed(channel=name, position=top, resumed=False, count=0, floor=1, start=0)
            )
            answers.append(wire.Live(channel=name, position=top))
        self.write(b"".join(map(_framed, map(wire.encode, answers))))
        self.channel = request.subscribe[0].channel
        self._server.connections.append(self)

    def _ack(self, payload: bytes) -> None:
        """Acks of one tick go out in one write, as chatd's do."""
        at = len(_PUBLISH)
        number = payload[at : payload.index(b",", at)]
        start = payload.index(b'"message":"', at) + 11
        message = payload[start : payload.index(b'"', start)]
        self._server.acked += 1
        serial = self._server.acked
        if not self._acks:
            self._server.loop.call_soon(self._flush)
        self._acks.append(
            _framed(
                b'{"type":"ack","id":%b,"message":"%b","position":["E1",%d],"duplicate":false,'
                b'"durability":"memory"}' % (number, message, serial)
            )
        )

    def _flush(self) -> None:
        if not self._transport.is_disconnected:
            self.write(b"".join(self._acks))
        self._acks.clear()


class Half:
    """Half of the connections: those of one are written to while those of the other are read."""

    def __init__(self, connections: list[Connection]) -> None:
        self._writes = [connection.write for connection in connections]
        self._last = connections[-1]
        self._last.pong.set()

    async def write(self, payloads: list[bytes]) -> None:
        """One write to each, once all of the last round was read."""
        await self.read()
        self._last.pong.clear()
        for write, payload in zip(self._writes, payloads, strict=True):
            write(payload)
        self._last.write(_framed(wire.PING))

    async def read(self) -> None:
        """Until the client has come to the end of what was written."""
        await self._last.pong.wait()


class Blaster:
    """The server: its connections, and what it sends them."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.connections: list[Connection] = []
        self.acked = 0

    async def obey(self, command: dict[str, Any]) -> dict[str, Any]:
        if command["do"] == "joined":
            return {"connections": len(self.connections), "acked": self.acked}
        return {"deliveries": await self._blast(command["seconds"], command["a_write"])}

    async def _blast(self, seconds: float, a_write: int) -> int:
        rounds = self._built(a_write)
        half = (len(self.connections) + 1) // 2
        halves = [Half(self.connections[:half]), Half(self.connections[half:])]
        deliveries, due = 0, monotonic() + seconds
        while monotonic() < due:
            payloads = next(rounds)
            for part, said in zip(halves, (payloads[:half], payloads[half:]), strict=True):
                await part.write(said)
                deliveries += a_write * len(said)
        for part in halves:
            await part.read()
        return deliveries

    def _built(self, a_write: int) -> Iterator[list[bytes]]:
        """What each connection gets, round after round without an end."""
        channels = sorted({connection.channel for connection in self.connections})
        rounds = max(1, min(ROUNDS, MESSAGES // (a_write * len(channels))))
        built = []
        for number in range(rounds):
            first = 1 + number * a_write
            said = {
                channel: b"".join(_framed(_message(channel, first + n)) for n in range(a_write))
                for channel in channels
            }
            built.append([said[connection.channel] for connection in self.connections])
        while True:
            yield from built


def _message(channel: str, serial: int) -> bytes:
    """As chatd's own frame of the same message."""
    body = encode_body(
        nonce=NONCE,
        channel=int(channel.rpartition(":")[2]),
        publisher=PUBLISHER,
        pub_seq=serial,
        scheduled_ns=monotonic_ns(),
        body_bytes=BODY_BYTES,
    )
    return wire.encode(
        wire.Message(
            channel=channel,
            serial=serial,
            message=message_id(PUBLISHER, serial),
            user=client_name(PUBLISHER),
            time=1_790_000_000_123,
            data=msgspec.Raw(body),
        )
    )


def _framed(payload: bytes) -> bytes:
    """An unmasked text frame, RFC 6455 § 5.2; payloads here are shorter than 65,536 bytes."""
    if len(payload) < 126:
        return b"\x81%c%b" % (len(payload), payload)
    return b"\x81\x7e%b%b" % (len(payload).to_bytes(2, "big"), payload)


async def main(port: int) -> None:
    logging.getLogger("picows").setLevel(logging.ERROR)
    loop = asyncio.get_running_loop()
    server = Blaster(loop)

    def accept(_request: WSUpgradeRequest) -> Connection:
        return Connection(server)

    await ws_create_server(
        accept, "127.0.0.1", port, backlog=4096, use_aiofastnet=False, read_buffer_init_size=2048
    )
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    print("{}", flush=True)
    while line := await commands.readline():
        print(json.dumps(await server.obey(json.loads(line))), flush=True)


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))

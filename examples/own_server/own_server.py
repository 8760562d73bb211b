"""A small chat server with a protocol of its own, as a team might have it. It knows nothing of chatproof.

Frames are JSON objects, told apart by ``op``; a room numbers its messages 1, 2, 3, … and keeps them all:

    hello {name, token}             welcome {heartbeat_s}
    join {room, since?}             joined {room, since, seq, oldest, messages}: those after ``since``
    leave {room}                    left {room}
    send {id, room, nonce, text}    ack {id, room, nonce, seq, again}, or error {id, code, retry}
    page {room, limit}              page {room, messages}: the newest
    pong                            ping, every heartbeat_s; message {room, seq, text}, as they come

A nonce that comes again is answered with the place that its message has. The log is a file, one line a
message. ``--fault`` plants one of two bugs: see FAULTS.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

HEARTBEAT_S = 5.0
READ_S = 0.05  # as long as a database might take
FAULTS = {
    "late-join": "who joins with `since` is subscribed only after a read: what comes meanwhile is lost",
    "numbers-again": "after a restart the numbers of every room begin at 1 again",
}


class Server:
    """All rooms, and who listens to which."""

    def __init__(self, log: Path, token: str, fault: str) -> None:
        self.token, self.fault = token, fault
        self.rooms: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        self.listeners: defaultdict[str, set[asyncio.Queue[str]]] = defaultdict(set)
        self.placed: dict[tuple[str, str], int] = {}  # (room, nonce) -> seq
        if log.exists() and fault != "numbers-again":
            for line in log.read_text().splitlines():
                if line.endswith("}"):  # the last one may be torn
                    self.keep(json.loads(line))
        self.log = log.open("a", encoding="utf-8")

    def keep(self, message: dict[str, Any]) -> None:
        self.rooms[message["room"]].append(message)
        self.placed[message["room"], message["nonce"]] = message["seq"]

    def send(self, room: str, nonce: str, text: str) -> tuple[int, bool]:
        """The number of a message, and whether it had one before."""
        if (room, nonce) in self.placed:
            return self.placed[room, nonce], True
        seq = len(self.rooms[room]) + 1
        message = {"room": room, "seq": seq, "nonce": nonce, "text": text}
        self.log.write(json.dumps(message) + "\n")
        self.log.flush()
        self.keep(message)
        frame = encode("message", room=room, seq=seq, text=text)
        for queue in self.listeners[room]:
            queue.put_nowait(frame)
        return seq, False

    async def join(self, room: str, since: int | None, queue: asyncio.Queue[str]) -> None:
        messages = self.rooms[room]
        start = len(messages) if since is None else since
        found = [{"seq": one["seq"], "text": one["text"]} for one in messages[start:]]
        answer = encode("joined", room=room, since=start, seq=len(messages), oldest=1, messages=found)
        if since is not None and self.fault == "late-join":
            await asyncio.sleep(READ_S)
        queue.put_nowait(answer)
        self.listeners[room].add(queue)

    async def talk(self, socket: ServerConnection) -> None:
        """One connection, from its hello to its end."""
        queue: asyncio.Queue[str] = asyncio.Queue()
        try:
            hello = json.loads(await socket.recv())
            if hello.get("op") != "hello" or (self.token and hello.get("token") != self.token):
                await socket.close(4001, "who are you?")
                return
            queue.put_nowait(encode("welcome", heartbeat_s=HEARTBEAT_S))
            async with asyncio.TaskGroup() as tasks:
                writer = tasks.create_task(write(socket, queue))
                async for frame in socket:
                    await self.read(json.loads(frame), queue)
                writer.cancel()
        except* (ConnectionClosed, ValueError, KeyError):
            await socket.close(4000, "that is no frame")
        finally:
            for queues in self.listeners.values():
                queues.discard(queue)

    async def read(self, frame: dict[str, Any], queue: asyncio.Queue[str]) -> None:
        match frame["op"]:
            case "join":
                await self.join(frame["room"], frame.get("since"), queue)
            case "leave":
                self.listeners[frame["room"]].discard(queue)
                queue.put_nowait(encode("left", room=frame["room"]))
            case "send" if isinstance(frame["text"], str):
                seq, again = self.send(frame["room"], frame["nonce"], frame["text"])
                where = {"room": frame["room"], "nonce": frame["nonce"], "seq": seq}
                queue.put_nowait(encode("ack", id=frame["id"], **where, again=again))
            case "send":
                queue.put_nowait(encode("error", id=frame["id"], code=400, retry=False))
            case "page":
                newest = self.rooms[frame["room"]][-frame["limit"] :]
                queue.put_nowait(encode("page", room=frame["room"], messages=newest))


def encode(op: str, **fields: Any) -> str:
    return json.dumps({"op": op, **fields}, separators=(",", ":"))


async def write(socket: ServerConnection, queue: asyncio.Queue[str]) -> None:
    """What waits for one client, and a sign of life when nothing does."""
    while True:
        try:
            async with asyncio.timeout(HEARTBEAT_S):
                frame = await queue.get()
        except TimeoutError:
            frame = encode("ping")
        await socket.send(frame)


async def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--port", type=int, default=8000)
    options.add_argument("--data", type=Path, default=Path())
    options.add_argument("--token", default="", help="what every client has to say in its hello")
    options.add_argument("--fault", choices=FAULTS, default="")
    chosen = options.parse_args()
    chosen.data.mkdir(parents=True, exist_ok=True)
    server = Server(chosen.data / "log.jsonl", chosen.token, chosen.fault)
    async with serve(server.talk, "127.0.0.1", chosen.port, compression=None) as listening:
        await listening.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())

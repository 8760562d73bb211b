"""Stock Locust with websocket-client and json: what people write who have no load client for chat.

    locust -f benchmarks/peers/locust_websocket.py --headless --host ws://127.0.0.1:PORT -u USERS -r USERS

Each user is one connection, and each message is one ``events.request.fire``. With CHATPROOF_PUBLISH=1 users
publish, one message after the ack of the one before; else they read.
"""

import json
import os
import time
from itertools import count
from typing import Any

import psutil
from locust import User, constant, events, task
from websocket import WebSocket, create_connection

PUBLISH = os.environ.get("CHATPROOF_PUBLISH") == "1"
PADDING = "." * 100
numbers = count(1)


@events.test_start.add_listener  # type: ignore[untyped-decorator]
def tell_rss(**_: Any) -> None:
    """What the process has before there is any user."""
    print(json.dumps({"rss_bytes": psutil.Process().memory_info().rss}), flush=True)


class ChatUser(User):  # type: ignore[misc]
    wait_time = constant(0)

    def on_start(self) -> None:
        self.number = next(numbers)
        self.socket: WebSocket = create_connection(f"{self.host}/ws")
        wanted = {"channel": "room:1", "from": "new"}
        self._send(type="connect", id=0, client=f"c{self.number}", subscribe=[wanted])

    @task
    def go_on(self) -> None:
        """Never ends: Locust's own loop over tasks costs more than all the rest."""
        for number in count(1):
            due_ns = time.monotonic_ns()
            if PUBLISH:
                body = f"{number:064x}{PADDING}"
                message = f"c{self.number}:{number}"
                self._send(type="publish", id=number, channel="room:1", message=message, data=body)
            self._read_until("ack" if PUBLISH else "message", due_ns)

    def _read_until(self, kind: str, due_ns: int) -> None:
        while True:
            text = self.socket.recv()
            if text == "{}":
                self.socket.send("{}")
                continue
            frame = json.loads(text)
            if frame["type"] == kind:
                break
        if kind == "message":  # nonce u64, channel, publisher, pub_seq u32, then when it was due, i64
            due_ns = int.from_bytes(bytes.fromhex(frame["data"][40:56]), "little")
        self.environment.events.request.fire(
            request_type="WS",
            name=kind,
            response_time=(time.monotonic_ns() - due_ns) / 1e6,
            response_length=len(text),
            exception=None,
            context={},
        )

    def _send(self, **frame: Any) -> None:
        self.socket.send(json.dumps(frame, separators=(",", ":")))

"""Servers that somebody else set up: what they do not allow is told before the load, and in their words."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from scenarios.control import Control, ControlFailed
from scenarios.steady import ProbeFailed, RoundTrip

Answers = Callable[[dict[str, Any]], dict[str, Any] | None]


@contextmanager
def speaking(answer: Answers) -> Iterator[str]:
    """A server that answers each command of Centrifugo's protocol so, or closes with 3500; its address."""

    def talk(socket: ServerConnection) -> None:
        try:
            for frame in socket:
                for line in str(frame).split("\n"):
                    command = json.loads(line)
                    reply = answer(command)
                    if reply is None:
                        socket.close(3500, "invalid token")
                    else:
                        socket.send(json.dumps({"id": command["id"], **reply}))
        except ConnectionClosed:
            return

    with serve(talk, "127.0.0.1", 0, compression=None) as server, ExitStack() as stack:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        stack.callback(thread.join)
        stack.callback(server.shutdown)
        yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}"


class Keeping:
    """Answers of a server that keeps what is published; ``rest`` overrides some."""

    def __init__(self, **rest: dict[str, Any]) -> None:
        self.kept: list[Any] = []
        self.tokens: list[str | None] = []
        self._rest = rest

    def __call__(self, command: dict[str, Any]) -> dict[str, Any]:
        (name,) = (key for key in command if key != "id")
        if name == "connect":
            self.tokens.append(command["connect"].get("token"))
        if name in self._rest:
            return self._rest[name]
        if name == "publish":
            self.kept.append(command["publish"]["data"])
        pubs = [{"data": data, "offset": offset} for offset, data in enumerate(self.kept, 1)]
        found = {"positioned": True, "epoch": "E", "recovered": True, "publications": pubs}
        return {name: found if name == "subscribe" else {}}


def trip(answer: Answers) -> None:
    with speaking(answer) as url:
        RoundTrip([url], "centrifugo", "r", token="of c0", channel="room:0-x")()


def test_a_message_that_is_acked_without_a_place_is_read_back_with_all_of_its_channel() -> None:
    keeping = Keeping()
    keeping.kept.append("somebody else's")
    trip(keeping)
    assert keeping.tokens == ["of c0"]


@pytest.mark.parametrize(
    ("rest", "why"),
    [
        pytest.param(
            {"publish": {"error": {"code": 103, "message": "permission denied"}}},
            "not acked: publish was refused with 103",
            id="no right to publish",
        ),
        pytest.param(
            {"subscribe": {"error": {"code": 102, "message": "unknown channel"}}},
            "not read back: refused with 102: unknown channel",
            id="no such channel",
        ),
        pytest.param(
            {"subscribe": {"subscribe": {}}}, "must have history_size, history_ttl", id="not recoverable"
        ),
        pytest.param(
            {"subscribe": {"subscribe": {"positioned": True, "epoch": "E", "recovered": True}}},
            "though it was acked: the server keeps no history",
            id="recoverable, and nothing kept",
        ),
    ],
)
def test_what_a_server_does_not_allow_is_told_before_the_load(rest: dict[str, Any], why: str) -> None:
    with pytest.raises(ProbeFailed, match=why):
        trip(Keeping(**rest))


def test_who_is_not_let_in_is_told_why(tmp_path: Path) -> None:
    with speaking(lambda command: None) as url:
        control = Control(
            tmp_path, urls=[url], driver="centrifugo", nonce=1, names=["", "room:1"], body_bytes=10
        )
        with pytest.raises(ControlFailed, match=r"does not let client 0 in: .*3500 .*invalid token"):
            control.contract(time.monotonic() + 5)
        control.close()

"""Rules on messages in the proxy as a process: real WebSocket peers, the API, refusals, what is left."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import requests
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.sync.server import ServerConnection, serve

from tests.chaos.engine_servers import embedded
from tests.conformance.engines import Engine
from tests.conformance.frame_probes import VIEW

pytestmark = pytest.mark.e2e
WAIT_S = 20.0
ONE, TWO, THREE = (f'{{"type":"message","channel":"r","serial":{n},"data":"text{n}"}}' for n in (1, 2, 3))


class Echo:
    """A WebSocket server that sends back what it gets, and notes how each connection ended."""

    def __init__(self) -> None:
        self.codes: list[int] = []
        self.ended = threading.Condition()
        self.server = serve(self._serve, "127.0.0.1", 0, compression=None, max_size=1 << 16)
        self.port = self.server.socket.getsockname()[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def _serve(self, socket: ServerConnection) -> None:
        try:
            for message in socket:
                socket.send(message)
        except ConnectionClosed:
            pass
        with self.ended:
            self.codes.append(socket.close_code or 0)
            self.ended.notify_all()

    def code(self) -> int:
        """How the next connection ends."""
        with self.ended:
            assert self.ended.wait_for(lambda: self.codes, WAIT_S)
            return self.codes.pop()


@pytest.fixture
def echo() -> Iterator[Echo]:
    """One of each test's own: a connection of the test before may end late."""
    made = Echo()
    yield made
    made.server.shutdown()


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with embedded("--frame-view", VIEW) as running:
        yield running


class Wire:
    """A proxy of its own, driven over HTTP as any client would."""

    def __init__(self, url: str, upstream: int) -> None:
        self.url = f"{url}/proxies"
        body = {"name": "w", "upstream": f"127.0.0.1:{upstream}", "listen": "127.0.0.1:0"}
        self.listen = requests.post(self.url, json=body, timeout=WAIT_S).json()["listen"]
        self.url += "/w"

    def add(self, action: str, *, stream: str = "downstream", **attributes: Any) -> requests.Response:
        toxic = {
            "name": "f",
            "type": "frame",
            "stream": stream,
            "attributes": {"action": action, **attributes},
        }
        return requests.post(f"{self.url}/toxics", json=toxic, timeout=WAIT_S)

    def counts(self) -> dict[str, int]:
        return dict(requests.get(f"{self.url}/toxics/f", timeout=WAIT_S).json()["counts"])

    def remove(self) -> int:
        return requests.delete(f"{self.url}/toxics/f", timeout=WAIT_S).status_code

    def client(self) -> ClientConnection:
        return connect(f"ws://{self.listen}/ws?c=4", compression=None, open_timeout=WAIT_S, max_size=1 << 20)


@pytest.fixture
def wire(engine: Engine, echo: Echo) -> Iterator[Wire]:
    made = Wire(engine.url, echo.port)
    yield made
    requests.delete(made.url, timeout=WAIT_S)


def received(client: ClientConnection, *messages: str, count: int) -> list[str]:
    for message in messages:
        client.send(message)
    return [str(client.recv(WAIT_S)) for _ in range(count)]


SEEN = [
    pytest.param("drop", {"every": 2}, [TWO], id="drop"),
    pytest.param("duplicate", {"after": 2}, [ONE, TWO, THREE, THREE], id="duplicate"),
    pytest.param("swap", {"type": "message"}, [TWO, ONE], id="swap"),
    pytest.param("delay", {"delay": 20}, [ONE, TWO, THREE], id="delay"),
    pytest.param("fragment", {"size": 7}, [ONE, TWO, THREE], id="fragment"),
    pytest.param("inject", {"payload": "x", "times": 1}, [ONE, "x", TWO, THREE], id="inject"),
    pytest.param("move", {"to": "s", "times": 1}, [ONE.replace('"r"', '"s"'), TWO, THREE], id="move"),
    pytest.param(
        "rewrite",
        {"changes": '[["serial","add",10]]', "times": 1},
        [ONE.replace(":1,", ":11,"), TWO, THREE],
        id="rewrite",
    ),
    pytest.param("oversize", {"size": 9000, "after": 2}, [ONE, TWO, THREE.ljust(9000)], id="oversize"),
]


@pytest.mark.parametrize("stream", ["downstream", "upstream"])
@pytest.mark.parametrize(("action", "attributes", "expected"), SEEN)
def test_a_real_peer_sees_the_action_on_new_and_on_open_connections_and_nothing_after_it(
    wire: Wire, stream: str, action: str, attributes: dict[str, Any], expected: list[str]
) -> None:
    with wire.client() as old:
        assert received(old, "before", count=1) == ["before"]
        assert wire.add(action, stream=stream, **attributes).status_code == 200
        with wire.client() as new:
            for client in (new, old):
                assert received(client, ONE, TWO, THREE, count=len(expected)) == expected
                assert wire.counts()["acted"] >= 1
            assert wire.remove() == 204
            late = [THREE] if action == "swap" else []  # what waited for another in vain
            for client in (new, old):
                assert received(client, "after", count=1 + len(late)) == [*late, "after"]


def test_a_corrupted_message_is_as_long_and_reads_otherwise(wire: Wire) -> None:
    wire.add("corrupt", stream="upstream")
    with wire.client() as client:
        (got,) = received(client, ONE, count=1)
    assert len(got) == len(ONE)
    assert got != ONE
    assert got[: ONE.index("text1")] == ONE[: ONE.index("text1")]


def test_pings_that_are_taken_away_stay_unanswered(wire: Wire) -> None:
    wire.add("drop", stream="upstream", opcode="liveness")
    with wire.client() as client:
        pong = client.ping()
        assert received(client, ONE, count=1) == [ONE]
        assert not pong.is_set()
        wire.remove()
        assert client.ping().wait(WAIT_S)


def test_a_close_frame_ends_both_ends_with_its_code(wire: Wire, echo: Echo) -> None:
    wire.add("close", code=1012, after=1)
    with wire.client() as client:
        assert received(client, ONE, TWO, count=2) == [ONE, TWO]
        with pytest.raises(ConnectionClosed) as ended:
            client.recv(WAIT_S)
    assert ended.value.rcvd is not None
    assert ended.value.rcvd.code == 1012
    assert echo.code() == 1012  # the client's answer


@pytest.mark.parametrize(
    ("action", "attributes", "code"),
    [
        pytest.param("bad_mask", {}, 1002, id="bad mask"),
        pytest.param("bad_utf8", {}, 1007, id="bad UTF-8"),
        pytest.param("oversize", {"size": 1 << 17}, 1009, id="oversize"),
    ],
)
def test_what_breaks_the_protocol_is_refused_by_a_real_server(
    wire: Wire, echo: Echo, action: str, attributes: dict[str, Any], code: int
) -> None:
    wire.add(action, stream="upstream", **attributes)
    with wire.client() as client:
        client.send(ONE)
        with pytest.raises(ConnectionClosed) as ended:
            client.recv(WAIT_S)
    assert ended.value.rcvd is not None
    assert ended.value.rcvd.code == code


def test_events_and_metrics_tell_what_was_done(engine: Engine, wire: Wire) -> None:
    wire.add("drop", times=1)
    with requests.get(f"{engine.url}/events", stream=True, timeout=WAIT_S) as events, wire.client() as client:
        assert received(client, ONE, TWO, count=1) == [TWO]
        lines: Iterator[bytes] = (line for line in events.iter_lines() if b'"frame"' in line)
        told = next(lines)
        assert all(
            part in told for part in (b'"toxic":"f"', b'"action":"drop"', b'"ordinal":4', b'"index":1')
        )
    metrics = requests.get(f"{engine.url}/metrics", timeout=WAIT_S).text
    assert 'chatproof_proxy_toxic_total{proxy="w",toxic="f",what="acted"} 1' in metrics


@contextmanager
def blind(port: int) -> Iterator[Wire]:
    with embedded() as running:
        yield Wire(running.url, port)


def test_without_a_view_what_needs_one_is_refused_and_the_rest_works(echo: Echo) -> None:
    refused: list[tuple[str, dict[str, Any], str]] = [
        ("drop", {"type": "ack"}, "attributes.type is 'ack'"),
        ("drop", {"channel": "r"}, "attributes.channel is 'r'"),
        ("move", {}, "attributes.action is 'move'"),
        ("rewrite", {"changes": '[["a","remove"]]'}, "attributes.action is 'rewrite'"),
        ("inject", {"body": "1"}, "attributes.body is '1'"),
    ]
    with blind(echo.port) as wire:
        for action, attributes, value in refused:
            answer = wire.add(action, **attributes)
            assert answer.status_code == 400
            assert f"{value}: needs the server's frames read" in answer.json()["error"]
            assert "--frame-view MODULE:ATTRIBUTE" in answer.json()["error"]
        assert wire.add("drop", opcode="text", every=2).status_code == 200
        toxic = {"attributes": {"type": "ack"}}
        assert requests.post(f"{wire.url}/toxics/f", json=toxic, timeout=WAIT_S).status_code == 400
        with wire.client() as client:
            assert received(client, ONE, TWO, THREE, count=1) == [TWO]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        pytest.param("nothing", "must be MODULE:ATTRIBUTE", id="no colon"),
        pytest.param("no.such.module:VIEW", "ModuleNotFoundError", id="no module"),
        pytest.param("json:VIEW", "AttributeError", id="no attribute"),
        pytest.param("json:dumps", "it lacks a member of FrameView", id="no view"),
    ],
)
def test_a_view_that_cannot_be_used_is_told_in_one_line(name: str, why: str) -> None:
    from click.testing import CliRunner

    from chaos.proxy.cli import proxy

    told = CliRunner().invoke(proxy, ["--port", "0", "--frame-view", name])
    assert told.exit_code == 2
    assert f"frame view is {name!r}" in told.output
    assert why in told.output
    assert "Traceback" not in told.output

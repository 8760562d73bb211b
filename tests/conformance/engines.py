"""What a fault engine must do: Toxiproxy's HTTP API and its toxics, on real sockets.

A test module subclasses the two suites and gives them a fixture ``engine``, an
``Engine``: the base URL of a fresh or reset server. Times have a lower bound only, since a busy
machine makes things late but never early. That something is *not* slowed down is shown beside what
would take longer than anybody waits (``FOR_EVER_MS``).
"""

import http.client
import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.broker import free_port
from tests.conformance.engine_api_table import API_ROWS, OFF, PROXY, TOXIC, error

TIMEOUT_S = 20.0
FOR_EVER_MS = 60_000  # three times what is waited for anything


@dataclass(frozen=True)
class Answer:
    """An HTTP answer."""

    status: int
    headers: http.client.HTTPMessage
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


@dataclass(frozen=True)
class Pair:
    """Both ends of a connection through a proxy."""

    client: socket.socket
    server: socket.socket


class Engine:
    """A Toxiproxy-like server under test."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.timeout_s = TIMEOUT_S  # of each call, and of each read of a connection through a proxy

    def call(self, method: str, path: str, body: object = None, **headers: str) -> Answer:
        """One request; a str body goes as it is, anything else as JSON."""
        parts = urlsplit(self.url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=self.timeout_s)
        try:
            data = body if isinstance(body, str) or body is None else json.dumps(body)
            names = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body=data, headers=names)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read().decode())
        finally:
            connection.close()

    def ok(self, method: str, path: str, body: object = None) -> Any:
        """One request that must succeed."""
        answer = self.call(method, path, body)
        assert answer.status < 300, answer
        return answer.json if answer.text else None

    def clear(self) -> None:
        """Delete every proxy."""
        for name in self.ok("GET", "/proxies"):
            self.ok("DELETE", f"/proxies/{name}")

    @contextmanager
    def proxied(self, name: str = "p") -> Iterator["Proxied"]:
        """A proxy to a listening socket of the test's own."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(self.timeout_s)
            upstream = "{}:{}".format(*listener.getsockname())
            # Below the ports that the kernel gives away: a proxy that was off listens there again.
            listen = f"127.0.0.1:{free_port()}"
            shown = self.ok("POST", "/proxies", {"name": name, "upstream": upstream, "listen": listen})
            proxied = Proxied(self, name, shown["listen"], listener)
            try:
                yield proxied
            finally:
                proxied.close()


class Proxied:
    """A proxy, and connections through it."""

    def __init__(self, engine: Engine, name: str, listen: str, listener: socket.socket) -> None:
        self.engine, self.name, self.listen, self.listener = engine, name, listen, listener
        self._sockets: list[socket.socket] = []

    def connect(self) -> Pair:
        """A new connection, both ends."""
        host, _, port = self.listen.rpartition(":")
        client = socket.create_connection((host, int(port)), timeout=self.engine.timeout_s)
        self._sockets.append(client)
        server, _ = self.listener.accept()
        self._sockets.append(server)
        for end in (client, server):
            end.settimeout(self.engine.timeout_s)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return Pair(client, server)

    def refused(self) -> bool:
        """Whether nobody listens."""
        host, _, port = self.listen.rpartition(":")
        try:
            socket.create_connection((host, int(port)), timeout=TIMEOUT_S).close()
        except ConnectionRefusedError:
            return True
        return False

    def add(self, kind: str, stream: str = "downstream", **attributes: object) -> str:
        """Add a toxic; its name."""
        body = {"type": kind, "stream": stream, "attributes": attributes}
        return str(self.engine.ok("POST", f"/proxies/{self.name}/toxics", body)["name"])

    def remove(self, toxic: str) -> None:
        """Remove a toxic."""
        self.engine.ok("DELETE", f"/proxies/{self.name}/toxics/{toxic}")

    def set(self, **fields: object) -> None:
        """Update the proxy."""
        self.listen = self.engine.ok("PATCH", f"/proxies/{self.name}", fields)["listen"]

    def close(self) -> None:
        """Close every socket and delete the proxy."""
        for each in self._sockets:
            each.close()
        with suppress(OSError):  # the server may be gone
            self.engine.call("DELETE", f"/proxies/{self.name}")


def read(sock: socket.socket, count: int) -> bytes:
    """Exactly ``count`` bytes, or what came before the end."""
    data = bytearray()
    while len(data) < count and (part := sock.recv(count - len(data))):
        data += part
    return bytes(data)


def read_to_end(sock: socket.socket) -> bytes:
    """Everything until FIN."""
    data = bytearray()
    while part := sock.recv(1 << 16):
        data += part
    return bytes(data)


def passes(source: socket.socket, sink: socket.socket, data: bytes = b"hello") -> float:
    """Send ``data`` and see it arrive whole; seconds until its last byte."""
    start = time.monotonic()
    source.sendall(data)
    assert read(sink, len(data)) == data
    return time.monotonic() - start


def silent(sock: socket.socket, seconds: float) -> bool:
    """Whether nothing, not even an end, arrives for so long."""
    before = sock.gettimeout()
    sock.settimeout(seconds)
    try:
        sock.recv(1)
    except TimeoutError:
        return True
    finally:
        sock.settimeout(before)
    return False


def fill(source: socket.socket) -> None:
    """Send until nothing more fits: the other end reads nothing."""
    before = source.gettimeout()
    source.settimeout(0.3)
    with suppress(TimeoutError):
        for _ in range(100):
            source.sendall(bytes(1 << 20))
        raise AssertionError("100 MiB were taken")
    source.settimeout(before)


def how_it_ends(sock: socket.socket) -> str:
    """``FIN`` or ``RST``, as the kernel tells; data before it is dropped."""
    try:
        read_to_end(sock)
    except ConnectionResetError:
        return "RST"
    return "FIN"


def shows(got: Any, wanted: Any) -> bool:
    """Whether ``got`` has all of ``wanted``; objects may have more (Toxiproxy shows a ``Logger``)."""
    if isinstance(wanted, dict) and isinstance(got, dict):
        return all(key in got and shows(got[key], value) for key, value in wanted.items())
    if isinstance(wanted, list) and isinstance(got, list):
        return len(got) == len(wanted) and all(map(shows, got, wanted))
    return bool(got == wanted)


class ApiConformance:
    """The API's table: statuses, bodies, headers."""

    @pytest.mark.parametrize(("before", "method", "path", "body", "status", "answer"), API_ROWS)
    def test_answer(self, engine, before, method, path, body, status, answer):
        for request in before:
            engine.ok(*request)
        got = engine.call(method, path, body)
        assert got.status == status, got.text
        if isinstance(answer, str):
            assert got.text == answer
        else:
            assert shows(got.json, answer), got.text
        if status >= 400 and got.text and path != "/populate":
            assert got.headers["Content-Type"] == "text/plain; charset=utf-8"
            assert got.headers["X-Content-Type-Options"] == "nosniff"
        elif got.text:
            assert got.headers["Content-Type"] == "application/json"

    def test_version(self, engine):
        answer = engine.call("GET", "/version")
        assert answer.status == 200
        assert list(answer.json) == ["version"]
        assert answer.text == json.dumps(answer.json) + "\n"
        assert answer.headers["Content-Type"] == "application/json;charset=utf-8"

    def test_browsers_are_refused(self, engine):
        answer = engine.call("GET", "/version", User_Agent="Mozilla/5.0 (X11)")
        assert (answer.status, answer.text) == (403, "User agent not allowed\n")

    def test_port_0_becomes_the_port_that_was_bound_and_localhost_an_address(self, engine):
        for host in ("127.0.0.1", "localhost"):
            shown = engine.ok("POST", "/proxies", {**PROXY, "name": host, "listen": f"{host}:0"})
            address, port = shown["listen"].split(":")
            assert address == "127.0.0.1"
            assert int(port) > 0

    def test_a_taken_port_is_answered_in_go_s_words(self, engine):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            listen = "{}:{}".format(*taken.getsockname())
            answer = engine.call("POST", "/proxies", {**PROXY, "listen": listen})
        assert answer.status == 500
        assert answer.text == error(f"listen tcp {listen}: bind: address already in use", 500)
        assert engine.ok("GET", "/proxies") == {}

    def test_an_update_to_a_taken_port_leaves_the_proxy_down(self, engine):
        engine.ok("POST", "/proxies", PROXY)
        with socket.create_server(("127.0.0.1", 0)) as taken:
            listen = "{}:{}".format(*taken.getsockname())
            assert engine.call("PATCH", "/proxies/p", {"listen": listen}).status == 500
            shown = engine.ok("GET", "/proxies/p")
        assert (shown["enabled"], shown["listen"]) == (False, listen)

    def test_reset_starts_every_proxy_and_removes_every_toxic(self, engine):
        for name in ("p", "q"):
            engine.ok("POST", "/proxies", {**OFF, "name": name})
            engine.ok("POST", f"/proxies/{name}/toxics", TOXIC)
        engine.ok("POST", "/reset")
        assert [(each["enabled"], each["toxics"]) for each in engine.ok("GET", "/proxies").values()] == [
            (True, []),
            (True, []),
        ]

    def test_metrics_are_prometheus_text(self, engine):
        answer = engine.call("GET", "/metrics")
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4; charset=utf-8")


class ToxicsConformance:
    """The toxics' table, as peers see it."""

    def test_bytes_pass_both_ways(self, engine):
        with engine.proxied() as proxy:
            pair = proxy.connect()
            passes(pair.client, pair.server, b"up" * 50_000)
            passes(pair.server, pair.client, b"down" * 50_000)

    def test_a_close_is_passed_on(self, engine):
        with engine.proxied() as proxy:
            pair = proxy.connect()
            pair.server.sendall(b"bye")
            pair.server.close()
            assert read_to_end(pair.client) == b"bye"

    def test_an_upstream_that_refuses_closes_the_client(self, engine):
        with engine.proxied() as proxy:
            proxy.listener.close()
            host, _, port = proxy.listen.rpartition(":")
            with socket.create_connection((host, int(port)), timeout=TIMEOUT_S) as client:
                assert how_it_ends(client) in ("FIN", "RST")

    @pytest.mark.parametrize("kind", ["noop", "slow_close"])
    def test_toxics_that_pass_data(self, engine, kind):
        with engine.proxied() as proxy:
            pair = proxy.connect()
            proxy.add(kind)
            passes(pair.server, pair.client, b"x" * 100_000)

    @pytest.mark.parametrize("when", ["before", "after"])
    def test_latency_delays_its_own_direction(self, engine, when):
        with engine.proxied() as proxy:
            if when == "after":
                pair = proxy.connect()
            proxy.add("latency", latency=80)
            if when == "before":
                pair = proxy.connect()
            for _ in range(5):
                assert passes(pair.server, pair.client) >= 0.080
            proxy.remove("latency_downstream")
            proxy.add("latency", latency=FOR_EVER_MS)
            passes(pair.client, pair.server)

    def test_jitter_varies_the_delay_within_its_bounds_and_keeps_order(self, engine):
        with engine.proxied() as proxy:
            pair = proxy.connect()
            proxy.add("latency", latency=40, jitter=30)
            delays = [passes(pair.server, pair.client) for _ in range(25)]
            assert all(delay >= 0.010 for delay in delays)
            assert max(delays) - min(delays) > 0.015
            passes(pair.server, pair.client, bytes(range(256)) * 1000)

    def test_latencies_of_a_chain_add_up(self, engine):
        with engine.proxied() as proxy:
            pair = proxy.connect()
            for name in ("a", "b"):
                engine.ok(
                    "POST",
                    "/proxies/p/toxics",
                    {"name": name, "type": "latency", "attributes": {"latency": 40}},
                )
            assert passes(pair.server, pair.client) >= 0.080

    def test_latency_changes_live_and_reverts(self, engine):
        with engine.proxied() as proxy:
            pair = proxy.connect()
            name = proxy.add("latency", latency=FOR_EVER_MS)
            for latency in (30, 120):
                engine.ok("PATCH", f"/proxies/p/toxics/{name}", {"attributes": {"latency": latency}})
                assert passes(pair.server, pair.client) >= latency / 1000
            engine.ok("PATCH", f"/proxies/p/toxics/{name}", {"attributes": {"latency": FOR_EVER_MS}})
            proxy.remove(name)
            passes(pair.server, pair.client)

    def test_removing_latency_lets_go_what_it_holds_in_order(self, engine):
        with engine.proxied() as proxy:
            pair = proxy.connect()
            name = proxy.add("latency", latency=60_000)
            for n in range(20):
                pair.server.sendall(bytes([n]))
            assert silent(pair.client, 0.05)
            proxy.remove(name)
            pair.server.sendall(b"\xff")
            assert read(pair.client, 21) == bytes(range(20)) + b"\xff"

    def test_bandwidth_limits_the_rate_and_reverts(self, engine):
        with engine.proxied() as proxy:
            pair = proxy.connect()
            name = proxy.add("bandwidth", rate=100)
            data = bytes(40_000)
            assert passes(pair.server, pair.client, data) >= 0.39
            engine.ok("PATCH", f"/proxies/p/toxics/{name}", {"attributes": {"rate": 1}})  # 40 s
            passes(pair.client, pair.server, data)
            proxy.remove(name)
            passes(pair.server, pair.client, data)

    def test_bandwidth_is_per_connection(self, engine):
        with engine.proxied() as proxy:
            busy, other = proxy.connect(), proxy.connect()
            proxy.add("bandwidth", rate=1)
            busy.server.sendall(bytes(60_000))  # for a minute
            assert passes(other.server, other.client, bytes(300)) >= 0.29

    def test_slow_close_delays_the_end(self, engine):
        with engine.proxied() as proxy:
            pair = proxy.connect()
            proxy.add("slow_close", delay=150)
            start = time.monotonic()
            pair.server.sendall(b"bye")
            pair.server.close()
            assert read_to_end(pair.client) == b"bye"
            assert time.monotonic() - start >= 0.150

    def test_slow_close_does_not_delay_what_comes_before_the_end(self, engine):
        with engine.proxied() as proxy:
            pair = proxy.connect()
            proxy.add("slow_close", delay=FOR_EVER_MS)
            pair.server.sendall(b"bye")
            pair.server.close()
            assert read(pair.client, 3) == b"bye"
            assert silent(pair.client, 0.1)

    def test_timeout_drops_data_then_closes(self, engine):
        with engine.proxied() as proxy:
            pair = proxy.connect()
            pair.server.sendall(b"before")
            assert read(pair.client, 6) == b"before"
            start = time.monotonic()
            proxy.add("timeout", timeout=200)
            pair.server.sendall(b"lost")
            assert read_to_end(pair.client) == b""
            assert time.monotonic() - start >= 0.190

    def test_timeout_0_drops_for_ever_and_its_removal_closes(self, engine):
        with engine.proxied() as proxy:
            pair = proxy.connect()
            name = proxy.add("timeout")
            pair.server.sendall(b"lost")
            assert silent(pair.client, 0.1)
            proxy.remove(name)
            assert how_it_ends(pair.client) == "FIN"

    def test_reset_peer_resets_a_new_connection_that_sends(self, engine):
        with engine.proxied() as proxy:
            proxy.add("reset_peer", "upstream", timeout=100)
            start = time.monotonic()
            pair = proxy.connect()
            pair.client.sendall(b"x")
            assert how_it_ends(pair.client) == "RST"
            assert time.monotonic() - start >= 0.095

    @pytest.mark.parametrize("sent", [1, 999, 1000, 1001, 50_000])
    def test_limit_data_passes_exactly_its_bytes_then_closes(self, engine, sent):
        with engine.proxied() as proxy:
            pair = proxy.connect()
            proxy.add("limit_data", bytes=1000)
            with suppress(OSError):  # the connection may be gone before everything is sent
                pair.server.sendall(bytes(sent))
            if sent < 1000:
                assert read(pair.client, sent) == bytes(sent)
                assert silent(pair.client, 0.05)
            else:
                assert read_to_end(pair.client) == bytes(1000)

    def test_limit_data_counts_each_connection_by_itself_and_reverts(self, engine):
        with engine.proxied() as proxy:
            name = proxy.add("limit_data", bytes=10)
            for _ in range(2):
                pair = proxy.connect()
                pair.server.sendall(bytes(20))
                assert read_to_end(pair.client) == bytes(10)
            proxy.remove(name)
            pair = proxy.connect()
            passes(pair.server, pair.client, bytes(100))

    def test_slicer_keeps_every_byte_and_delays_between_pieces(self, engine):
        with engine.proxied() as proxy:
            pair = proxy.connect()
            proxy.add("slicer", average_size=100, delay=20_000)
            data = bytes(range(200)) * 3
            for _ in range(20):  # a reader that is slow finds several pieces at once
                start = time.monotonic()
                pair.server.sendall(data)
                pieces = []
                while sum(map(len, pieces)) < len(data):
                    pieces.append(pair.client.recv(10_000))
                assert b"".join(pieces) == data
                assert time.monotonic() - start >= 0.080
                if max(map(len, pieces)) <= 100:
                    break
            else:
                raise AssertionError(f"never cut into pieces of 100 bytes: {list(map(len, pieces))}")

    def test_toxicity_0_touches_no_connection(self, engine):
        with engine.proxied() as proxy:
            body = {"type": "timeout", "toxicity": 0.0, "attributes": {"timeout": 1}}
            engine.ok("POST", "/proxies/p/toxics", body)
            for _ in range(3):
                pair = proxy.connect()
                passes(pair.server, pair.client)

    def test_disabling_closes_and_refuses_and_enabling_listens_on_the_same_port(self, engine):
        with engine.proxied() as proxy:
            pair, listen = proxy.connect(), proxy.listen
            proxy.set(enabled=False)
            assert how_it_ends(pair.client) == "FIN"
            assert how_it_ends(pair.server) == "FIN"
            assert proxy.refused()
            proxy.set(enabled=True)
            assert proxy.listen == listen
            pair = proxy.connect()
            passes(pair.client, pair.server)

    def test_another_upstream_drops_the_connections(self, engine):
        with engine.proxied() as proxy:
            pair = proxy.connect()
            with socket.create_server(("127.0.0.1", 0)) as other:
                proxy.set(upstream="{}:{}".format(*other.getsockname()))
                assert how_it_ends(pair.client) == "FIN"
                proxy.listener.close()
                proxy.listener = other
                other.settimeout(TIMEOUT_S)
                pair = proxy.connect()
                passes(pair.client, pair.server)

    def test_deleting_a_proxy_closes_its_connections(self, engine):
        with engine.proxied() as proxy:
            pair = proxy.connect()
            engine.ok("DELETE", "/proxies/p")
            assert how_it_ends(pair.client) == "FIN"
            assert proxy.refused()

"""The proxy as a process: command line, signals, extras of the API, load, unmodified clients."""

import http.client
import json
import random
import re
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from typing import IO

import psutil
import pytest

pytest.register_assert_rewrite("tests.conformance.engines")

from tests.conformance.engine_api_table import OFF, PROXY  # noqa: E402 - rewritten first
from tests.conformance.engines import (  # noqa: E402
    TIMEOUT_S,
    Engine,
    Proxied,
    fill,
    how_it_ends,
    passes,
    read,
    read_to_end,
    silent,
)

SLOW_STEP = re.compile(r"Executing <.*> took [0-9.]+ seconds\n")


@contextmanager
def process(*options: str, stderr: IO[str] | None = None) -> Iterator[tuple[subprocess.Popen[str], Engine]]:
    command = [
        sys.executable,
        *(["-X", "dev"] if stderr else []),
        "-m",
        "chaos.proxy",
        "--port",
        "0",
        *options,
    ]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True)
    assert running.stdout
    try:
        yield running, Engine("http://" + json.loads(running.stdout.readline())["listening"])
    finally:
        running.kill()
        running.wait()
        running.stdout.close()


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[subprocess.Popen[str], Engine]]:
    with process("--allow-target", "0.0.0.0", "--allow-listen", "0.0.0.0") as started:
        yield started


@pytest.fixture
def engine(running: tuple[subprocess.Popen[str], Engine]) -> Iterator[Engine]:
    yield running[1]
    running[1].clear()


@pytest.fixture
def proxy(engine: Engine) -> Iterator[Proxied]:
    with engine.proxied() as proxied:
        yield proxied


def test_first_line_says_where_it_listens_and_its_version():
    with subprocess.Popen(
        [sys.executable, "-m", "chaos.proxy", "--port", "0"], stdout=subprocess.PIPE, text=True
    ) as running:
        line = json.loads(running.stdout.readline())
        running.terminate()
        assert running.stdout.read() == ""
    host, port = line["listening"].split(":")
    assert host == "127.0.0.1"
    assert int(port) > 0
    assert line["version"] == version("chatproof")
    assert running.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_closes_everything_and_exits_0(number):
    with process() as (running, engine), engine.proxied() as proxy, event_stream(engine) as events:
        pair = proxy.connect()
        passes(pair.client, pair.server)
        running.send_signal(number)
        assert running.wait(TIMEOUT_S) == 0
        assert how_it_ends(pair.client) == "FIN"
        assert how_it_ends(pair.server) == "FIN"
        assert proxy.refused()
        assert [json.loads(line)["event"] for line in events] == ["open", "proxy_down"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        pytest.param(["--host", "0.0.0.0"], "start the proxy with --allow-listen 0.0.0.0", id="not loopback"),
        pytest.param(["--port", "99999"], "99999 is not in the range", id="no such port"),
    ],
)
def test_a_bad_address_exits_2_with_the_reason(options, says):
    done = subprocess.run([sys.executable, "-m", "chaos.proxy", *options], capture_output=True, text=True)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_a_taken_port_exits_2_with_the_reason():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        command = [sys.executable, "-m", "chaos.proxy", "--port", str(taken.getsockname()[1])]
        done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.endswith("bind: address already in use\n")


def test_connections_show_ordinal_bytes_age_and_toxics(engine, proxy):
    pair = proxy.connect()
    passes(pair.client, pair.server, b"GET /ws?c=42 HTTP/1.1\r\n\r\n")
    passes(pair.server, pair.client, b"12345")
    proxy.add("latency", latency=1)
    proxy.add("noop", "upstream")
    [shown] = engine.ok("GET", "/connections")
    assert shown["age_s"] < 60
    assert {key: shown[key] for key in shown if key not in ("id", "age_s")} == {
        "proxy": "p",
        "number": 1,
        "ordinal": 42,
        "open": True,
        "upstream_bytes": 25,
        "downstream_bytes": 5,
        "toxics": ["noop_upstream", "latency_downstream"],
    }
    pair.client.close()
    pair.server.close()
    wait_until(lambda: engine.ok("GET", "/connections") == [])


@pytest.mark.parametrize(
    ("sent", "ordinal"),
    [
        pytest.param(b"GET /ws?c=0 HTTP/1.1", 0, id="alone"),
        pytest.param(b"GET /ws?a=b&c=7&d=1 HTTP/1.1", 7, id="among others"),
        pytest.param(b"GET /ws?cc=7 HTTP/1.1", None, id="another key"),
        pytest.param(b"POST /publish?c=7 HTTP/1.1", 7, id="of a post"),
        pytest.param(b"PUT /ws?c=7 HTTP/1.1", None, id="another method"),
        pytest.param(b"\x00\xff c=7", None, id="not HTTP"),
    ],
)
def test_the_ordinal_is_read_from_the_first_line_and_bytes_stay_as_they_are(engine, proxy, sent, ordinal):
    proxy.add("noop", "upstream")
    pair = proxy.connect()
    passes(pair.client, pair.server, sent)
    passes(pair.client, pair.server, b"GET /ws?c=9 HTTP/1.1")
    assert [each["ordinal"] for each in engine.ok("GET", "/connections")] == [ordinal]


def test_events_stream_what_happens(engine, proxy):
    with event_stream(engine) as stream:
        pair = proxy.connect()
        name = proxy.add("latency", latency=5)
        proxy.remove(name)
        pair.client.close()
        pair.server.close()
        events = [json.loads(stream.readline()) for _ in range(4)]
    assert [each["event"] for each in events] == ["open", "toxic_added", "toxic_removed", "close"]
    assert events[1]["attributes"] == {"latency": 5, "jitter": 0}
    assert [each["t_ns"] for each in events] == sorted(each["t_ns"] for each in events)


def test_a_byte_sent_before_the_upstream_is_dialled_arrives(proxy):
    for _ in range(50):
        host, _, port = proxy.listen.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=TIMEOUT_S) as client:
            client.sendall(b"early")
            client.shutdown(socket.SHUT_WR)
            server, _ = proxy.listener.accept()
            with server:
                server.settimeout(TIMEOUT_S)
                assert read_to_end(server) == b"early"
                server.sendall(b"answer")
                server.shutdown(socket.SHUT_WR)
                assert read_to_end(client) == b"answer"


def test_one_toxic_s_reset_touches_only_the_connections_it_hits(engine, proxy):
    pairs = [proxy.connect() for _ in range(20)]
    engine.ok("POST", "/proxies/p/toxics", {"type": "reset_peer", "toxicity": 0.5})
    wait_until(lambda: not any(each["toxics"] for each in engine.ok("GET", "/connections")))
    hit = [pair for pair in pairs if not silent_or_reset(pair.client)]
    assert 0 < len(hit) < 20
    for pair in pairs:
        if pair not in hit:
            passes(pair.client, pair.server)


def test_the_same_seed_hits_the_same_connections():
    hits = []
    for seed in ("1", "1", "2"):
        with process("--seed", seed) as (_, engine), engine.proxied() as proxy:
            for _ in range(30):
                proxy.connect()
            engine.ok("POST", "/proxies/p/toxics", {"type": "noop", "toxicity": 0.5})
            wait_until(lambda: len(engine.ok("GET", "/connections")) == 30)
            hits.append({each["number"] for each in engine.ok("GET", "/connections") if each["toxics"]})
    assert hits[0] == hits[1] != hits[2]


def test_the_last_bytes_before_limit_data_closes_survive_a_client_that_talks(proxy):
    proxy.add("limit_data", bytes=100_000)
    for _ in range(5):
        pair = proxy.connect()
        stop = threading.Event()
        talker = threading.Thread(target=talk, args=(pair.client, stop))
        talker.start()
        try:
            pair.server.sendall(bytes(100_000))
            assert read_to_end(pair.client) == bytes(100_000)
        finally:
            stop.set()
            talker.join()


def test_no_byte_is_lost_repeated_or_reordered_while_toxics_change(engine, proxy):
    pair = proxy.connect()
    count = 200_000
    stream = b"".join(n.to_bytes(4, "big") for n in range(count))
    sender = threading.Thread(target=pair.server.sendall, args=(stream,))
    stop = threading.Event()
    changer = threading.Thread(target=change_toxics, args=(proxy, stop))
    sender.start()
    changer.start()
    got = bytearray()
    while len(got) < len(stream):
        got += pair.client.recv(20_000)
        if len(got) > len(stream) // 2:
            stop.set()
    changer.join()
    sender.join()
    assert got == stream


def test_a_peer_that_does_not_read_costs_bounded_memory_and_stops_the_sender(running, proxy):
    before = psutil.Process(running[0].pid).memory_info().rss
    pairs = [proxy.connect() for _ in range(5)]
    proxy.add("latency", latency=1)
    for pair in pairs:
        fill(pair.server)
    grown = psutil.Process(running[0].pid).memory_info().rss - before
    assert grown < 5 * 6 * (1 << 20)


def test_a_peer_that_holds_everything_back_is_read_again_when_the_toxic_goes(proxy):
    pair = proxy.connect()
    name = proxy.add("bandwidth", rate=0)
    data = random.Random(1).randbytes(8 << 20)
    sender = threading.Thread(target=pair.server.sendall, args=(data,))
    sender.start()
    assert silent(pair.client, 0.1)
    proxy.remove(name)
    assert read(pair.client, len(data)) == data
    sender.join()


def test_small_frames_are_not_delayed_by_nagle(proxy):
    pair = proxy.connect()
    in_time, deadline = 0, time.monotonic() + TIMEOUT_S
    while in_time < 20:  # a delayed acknowledgement takes 40 ms, each time but some of the first sixteen
        assert time.monotonic() < deadline
        pair.server.sendall(b"a")
        pair.server.sendall(b"b")
        start = time.monotonic()
        assert read(pair.client, 2) == b"ab"
        in_time = in_time + 1 if time.monotonic() - start < 0.030 else 0


def test_two_thousand_connections_at_once_each_with_its_bytes(engine, proxy):
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # both ends are here
    proxy.listener.listen(4096)
    host, _, port = proxy.listen.rpartition(":")
    clients = [socket.create_connection((host, int(port)), timeout=TIMEOUT_S) for _ in range(2000)]
    for n, client in enumerate(clients):
        client.sendall(n.to_bytes(4, "big"))
    servers = {}
    for _ in clients:
        server, _ = proxy.listener.accept()
        server.settimeout(TIMEOUT_S)
        servers[int.from_bytes(read(server, 4), "big")] = server
    proxy.add("latency", latency=50)  # each call answers, or fails after TIMEOUT_S
    assert len(engine.ok("GET", "/connections")) == 2000
    for n, server in servers.items():
        server.sendall(n.to_bytes(4, "big"))
    for n, client in enumerate(clients):
        assert read(client, 4) == n.to_bytes(4, "big")
    proxy.set(enabled=False)
    for each in (*clients, *servers.values()):
        assert how_it_ends(each) == "FIN"
        each.close()
    wait_until(lambda: engine.ok("GET", "/connections") == [])


@pytest.mark.parametrize("toxic", ["none", "noop", "slicer"])
def test_peers_that_reset_amid_a_flood_leave_no_connection_and_no_complaint(toxic, tmp_path):
    with (tmp_path / "stderr").open("w+") as stderr, process(stderr=stderr) as (_, engine):
        with engine.proxied() as proxy:
            if toxic != "none":
                proxy.add(toxic, "upstream", **({"average_size": 50} if toxic == "slicer" else {}))
            for n in range(60):
                pair = proxy.connect()
                pair.client.setblocking(False)
                with suppress(OSError):
                    for sent in range(60):
                        pair.client.send(bytes(5000))
                        if sent == 5 + n % 40:
                            pair.server.setsockopt(
                                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                            )
                            pair.server.close()
                pair.client.close()
                pair.server.close()
            wait_until(lambda: engine.ok("GET", "/connections") == [])
        stderr.seek(0)
        # In its development mode asyncio tells of each step that a busy machine held up.
        assert [line for line in stderr if not SLOW_STEP.fullmatch(line)] == []


def test_allowed_hosts_may_be_listened_on_and_dialled(engine):
    shown = engine.ok("POST", "/proxies", {**PROXY, "listen": "0.0.0.0:0", "upstream": "0.0.0.0:1"})
    assert shown["listen"].startswith("0.0.0.0:")


def test_the_number_of_toxics_is_capped(engine):
    toxics = [{"type": "noop", "name": str(n)} for n in range(100)]
    engine.ok("POST", "/proxies", {**OFF, "toxics": toxics})
    answer = engine.call("POST", "/proxies/p/toxics", {"type": "noop"})
    assert answer.status == 400
    assert "100 toxics is the most" in answer.json["error"]
    assert engine.call("POST", "/proxies", {**OFF, "name": "q", "toxics": [*toxics, *toxics]}).status == 400


def test_the_number_of_proxies_is_capped():
    with process() as (_, engine):
        engine.ok("POST", "/populate", [{**OFF, "name": str(n)} for n in range(1000)])
        answer = engine.call("POST", "/proxies", OFF)
    assert answer.status == 400
    assert "1000 proxies are the most" in answer.json["error"]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("[" * 100_000, id="deep"),
        pytest.param('{"name":' + "9" * 10_000 + "}", id="long number"),
        pytest.param('{"type":"noop","toxicity":NaN}', id="NaN"),
        pytest.param('{"type":"latency","attributes":{"latency":true}}', id="true is no number"),
        pytest.param("\udcff".encode("utf-8", "surrogateescape").decode("latin-1"), id="not UTF-8"),
    ],
)
def test_hostile_bodies_are_bad_requests(engine, body):
    engine.ok("POST", "/proxies", OFF)
    for path in ("/proxies", "/proxies/p/toxics", "/populate"):
        assert engine.call("POST", path, body).status == 400


def test_toxiproxy_python_drives_it(engine):
    from toxiproxy import Toxiproxy
    from toxiproxy.exceptions import InvalidToxic, NotFound, ProxyExists

    driver = Toxiproxy()
    host, _, port = engine.url.removeprefix("http://").rpartition(":")
    driver.update_api_consumer(host, int(port))
    assert driver.running()
    assert json.loads(driver.version()) == {"version": version("chatproof")}
    made = driver.create(upstream="127.0.0.1:1", name="mysql")
    assert driver.proxies()["mysql"].listen == made.listen
    with pytest.raises(ProxyExists):
        driver.create(upstream="127.0.0.1:1", name="mysql")
    made.add_toxic(type="latency", attributes={"latency": 100})
    assert made.get_toxic("latency_downstream").attributes == {"latency": 100, "jitter": 0}
    with pytest.raises(ProxyExists):
        made.add_toxic(type="latency")
    with pytest.raises(InvalidToxic):
        made.add_toxic(type="slicer", name="bad")
    assert made.destroy_toxic("latency_downstream")
    with pytest.raises(NotFound):
        made.destroy_toxic("latency_downstream")
    with made.down():
        assert not driver.get_proxy("mysql").enabled
    assert driver.get_proxy("mysql").enabled
    assert driver.reset()
    driver.populate([{"name": "other", "upstream": "127.0.0.1:2", "listen": "127.0.0.1:0"}])
    driver.destroy_all()
    assert driver.proxies() == {}


@contextmanager
def event_stream(engine: Engine) -> Iterator[http.client.HTTPResponse]:
    """What GET /events answers, line by line."""
    connection = http.client.HTTPConnection(engine.url.removeprefix("http://"), timeout=TIMEOUT_S)
    connection.request("GET", "/events")
    response = connection.getresponse()
    try:
        yield response
    finally:
        response.close()
        connection.close()


def wait_until(condition) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline


def silent_or_reset(sock: socket.socket) -> bool:
    """True when nothing comes; False when it is reset."""
    try:
        return silent(sock, 0.001)
    except ConnectionResetError:
        return False


def talk(sock: socket.socket, stop: threading.Event) -> None:
    """Send until told to stop, or until it fails."""
    while not stop.is_set():
        try:
            sock.sendall(bytes(1000))
        except OSError:
            return


def change_toxics(proxy: Proxied, stop: threading.Event) -> None:
    """Add and remove toxics that lose nothing, at random."""
    kinds = [
        ("latency", {"latency": 20, "jitter": 20}),
        ("bandwidth", {"rate": 2000}),
        ("slicer", {"average_size": 3000, "size_variation": 2000, "delay": 10}),
        ("noop", {}),
        ("delay", {"distribution": "lognormal", "p50": 10, "p99": 40}),
        ("loss", {"lost": 0.2, "burst": 2.0, "rto": 20}),
        ("blackhole", {"mode": "hold"}),
        ("stall", {}),
    ]
    draw, there = random.Random(2), set()
    while not stop.is_set():
        kind, attributes = draw.choice(kinds)
        if kind in there:
            proxy.remove(f"{kind}_downstream")
            there.discard(kind)
        else:
            proxy.add(kind, **attributes)
            there.add(kind)

"""Where the embedded proxy does what Toxiproxy's documentation says, and Toxiproxy does not.

Each test holds on the embedded proxy. Where there is a real Toxiproxy it must fail
there: the day it passes, the difference is gone and its line in DECISIONS.md too.
"""

import json
import select
import socket
import time
from collections.abc import Iterator

import pytest

pytest.register_assert_rewrite("tests.conformance.engines")

from tests.chaos.engine_servers import embedded, needs_toxiproxy, toxiproxy  # noqa: E402 - rewritten first
from tests.conformance.engine_api_table import OFF, PROXY  # noqa: E402
from tests.conformance.engines import (  # noqa: E402
    FOR_EVER_MS,
    TIMEOUT_S,
    Engine,
    Pair,
    fill,
    how_it_ends,
    passes,
    read,
    read_to_end,
    silent,
)

SLOW_MS = 60  # of a slow connection
SLOW_S = SLOW_MS / 1000
BAD_VALUES = [
    pytest.param("slicer", {}, "average_size is 0: must be 1 or more bytes", id="slicer of size 0"),
    pytest.param(
        "slicer", {"average_size": 5, "size_variation": 6},
        "size_variation is 6: must not be above average_size, which is 5", id="slicer varies too much",
    ),
    pytest.param("slicer", {"average_size": 5, "delay": -1},
                 "delay is -1: must be a whole number, 0 or more", id="negative slicer delay"),
    pytest.param("bandwidth", {"rate": -1}, "rate is -1: must be a whole number, 0 or more",
                 id="negative rate"),
    pytest.param("latency", {"latency": -1, "jitter": -2},
                 "latency is -1: must be a whole number, 0 or more; "
                 "attributes.jitter is -2: must be a whole number, 0 or more", id="every fault at once"),
    pytest.param("timeout", {"timeout": -1}, "timeout is -1: must be a whole number, 0 or more",
                 id="negative timeout"),
]  # fmt: skip


class Differences:
    def test_timeout_closes_a_chatty_connection(self, engine):  # Toxiproxy #195
        with engine.proxied() as proxy:
            pair = proxy.connect()
            start = time.monotonic()
            proxy.add("timeout", timeout=300)
            pair.client.settimeout(0.05)
            ended = False
            while not ended and time.monotonic() - start < engine.timeout_s:
                pair.server.sendall(b"ping")
                try:
                    ended = pair.client.recv(100) == b""
                except TimeoutError:
                    continue
            assert ended
            assert time.monotonic() - start >= 0.29

    @pytest.mark.parametrize("stream", ["upstream", "downstream"])
    def test_reset_peer_resets_an_older_idle_connection_at_both_ends(self, engine, stream):
        with engine.proxied() as proxy:
            pair = proxy.connect()
            passes(pair.client, pair.server)
            proxy.add("reset_peer", stream, timeout=50)
            assert how_it_ends(pair.client) == "RST"
            assert how_it_ends(pair.server) == "RST"

    def test_a_half_close_is_kept(self, engine):
        with engine.proxied() as proxy:
            pair = proxy.connect()
            pair.client.sendall(b"question")
            pair.client.shutdown(socket.SHUT_WR)
            assert read_to_end(pair.server) == b"question"
            assert silent(pair.client, 0.05)
            pair.server.sendall(b"answer")
            pair.server.close()
            assert read_to_end(pair.client) == b"answer"

    def test_the_api_answers_while_a_peer_does_not_read(self, engine):  # Toxiproxy #412, #558
        with engine.proxied() as proxy:
            pair = proxy.connect()
            fill(pair.server)
            for _ in range(3):  # each call answers, or fails after a while
                name = proxy.add("latency", latency=10)
                proxy.remove(name)

    def test_toxicity_is_drawn_once_and_not_again_when_toxics_change(self, engine):
        with engine.proxied() as proxy:
            pairs = [proxy.connect() for _ in range(12)]
            body = {"type": "latency", "name": "half", "toxicity": 0.5, "attributes": {"latency": SLOW_MS}}
            engine.ok("POST", "/proxies/p/toxics", body)
            first = slow_ones(pairs)
            assert 0 < len(first) < 12
            for n in range(3):
                engine.ok("PATCH", "/proxies/p/toxics/half", {"attributes": {"latency": SLOW_MS + 1 + n}})
                assert slow_ones(pairs) == first

    def test_one_draw_for_both_directions_of_a_fault(self, engine):
        with engine.proxied() as proxy:
            pairs = [proxy.connect() for _ in range(12)]
            for stream in ("upstream", "downstream"):
                body = {
                    "type": "latency",
                    "stream": stream,
                    "toxicity": 0.5,
                    "attributes": {"latency": SLOW_MS},
                }
                engine.ok("POST", "/proxies/p/toxics", body)
            back = [Pair(client=pair.server, server=pair.client) for pair in pairs]
            assert 0 < len(slow_ones(pairs)) < 12
            assert slow_ones(pairs) == slow_ones(back)

    def test_toxics_at_creation(self, engine):  # Toxiproxy #79
        toxic = {"type": "latency", "attributes": {"latency": 7}}
        made = engine.ok("POST", "/proxies", {**OFF, "toxics": [toxic]})
        assert [each["attributes"]["latency"] for each in made["toxics"]] == [7]
        shown = engine.ok("GET", "/proxies/p")
        engine.ok("DELETE", "/proxies/p")
        assert engine.ok("POST", "/populate", [shown])["proxies"] == [shown]

    @pytest.mark.parametrize(("kind", "attributes", "rule"), BAD_VALUES)
    def test_a_bad_value_is_refused_with_the_rule(self, engine, kind, attributes, rule):
        engine.ok("POST", "/proxies", OFF)
        answer = engine.call("POST", "/proxies/p/toxics", {"type": kind, "attributes": attributes})
        assert answer.status == 400
        assert answer.json["error"] == f"bad request body: attributes.{rule}"

    @pytest.mark.parametrize("share", [-0.1, 1.1, 7])
    def test_a_toxicity_that_is_no_share_is_refused(self, engine, share):
        engine.ok("POST", "/proxies", OFF)
        answer = engine.call("POST", "/proxies/p/toxics", {"type": "noop", "toxicity": share})
        assert answer.status == 400
        assert f"toxicity is {share}: must be a number from 0 to 1" in answer.text

    def test_a_refused_update_changes_nothing(self, engine):
        engine.ok("POST", "/proxies", OFF)
        engine.ok("POST", "/proxies/p/toxics", {"type": "latency"})
        body = {"attributes": {"latency": 99, "jitter": "x"}}
        assert engine.call("PATCH", "/proxies/p/toxics/latency_downstream", body).status == 400
        assert engine.ok("GET", "/proxies/p/toxics")[0]["attributes"] == {"latency": 0, "jitter": 0}

    @pytest.mark.parametrize("upstream", ["garbage", "127.0.0.1", "127.0.0.1:http", "a:b:1"])
    def test_an_upstream_that_is_no_address_is_refused(self, engine, upstream):
        answer = engine.call("POST", "/proxies", {**OFF, "upstream": upstream})
        assert answer.status == 400
        assert f"upstream is '{upstream}': must be HOST:PORT" in answer.json["error"]

    def test_only_loopback_is_dialled(self, engine):
        answer = engine.call("POST", "/proxies", {**OFF, "upstream": "example.org:80"})
        assert answer.status == 403
        assert "start the proxy with --allow-target example.org" in answer.json["error"]

    def test_only_loopback_is_listened_on(self, engine):
        answer = engine.call("POST", "/proxies", {**PROXY, "listen": "0.0.0.0:0"})
        assert answer.status == 403
        assert "start the proxy with --allow-listen 0.0.0.0" in answer.json["error"]

    @pytest.mark.parametrize("listen", ["", ":0"])
    def test_no_host_means_loopback_not_every_interface(self, engine, listen):
        assert engine.ok("POST", "/proxies", {**PROXY, "listen": listen})["listen"].startswith("127.0.0.1:")

    def test_a_foreign_host_header_is_refused(self, engine):
        answer = engine.call("GET", "/version", Host="evil.example:8474")
        assert answer.status == 403
        assert "evil.example" in answer.json["error"]

    def test_a_body_over_1_mib_is_refused(self, engine):
        body = json.dumps({**OFF, "name": "x" * (1 << 20)})
        assert engine.call("POST", "/proxies", body).status == 413

    def test_proxies_shown_have_the_documented_fields_only(self, engine):
        shown = engine.ok("POST", "/proxies", OFF)
        assert list(shown) == ["name", "listen", "upstream", "enabled", "toxics"]

    def test_populate_of_nothing_is_an_empty_array(self, engine):
        assert engine.ok("POST", "/populate", []) == {"proxies": []}

    def test_a_name_with_a_slash_can_be_addressed(self, engine):
        engine.ok("POST", "/proxies", {**OFF, "name": "a/b"})
        assert engine.ok("GET", "/proxies/a%2Fb")["name"] == "a/b"

    def test_reset_goes_on_after_a_proxy_that_cannot_start(self, engine):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            listen = "{}:{}".format(*taken.getsockname())
            for n in range(8):
                body = {**OFF, "name": f"p{n}", "listen": listen if n % 2 else "127.0.0.1:0"}
                engine.ok("POST", "/proxies", body)
                engine.ok("POST", f"/proxies/p{n}/toxics", {"type": "noop"})
            assert engine.call("POST", "/reset").status == 500
        shown = engine.ok("GET", "/proxies")
        assert [each["toxics"] for each in shown.values()] == [[]] * 8
        assert [each["enabled"] for each in shown.values()] == [True, False] * 4

    def test_metrics_count_while_the_connection_is_open(self, engine):
        with engine.proxied() as proxy:
            pair = proxy.connect()
            passes(pair.client, pair.server, b"12345")
            samples = engine.call("GET", "/metrics").text
            for name in ("received", "sent"):
                sample = f'toxiproxy_proxy_{name}_bytes_total{{direction="upstream",proxy="p"'
                assert [line.split()[-1] for line in samples.splitlines() if line.startswith(sample)] == ["5"]

    def test_latency_counts_from_where_bandwidth_let_the_chunk_go(self, engine):
        with engine.proxied() as proxy:
            pair = proxy.connect()
            proxy.add("bandwidth", rate=10)
            proxy.add("latency", latency=150)
            assert passes(pair.server, pair.client, bytes(1000)) >= 0.250

    def test_a_slice_has_average_size_on_average(self, engine):
        with engine.proxied() as proxy:
            pair = proxy.connect()
            proxy.add("slicer", average_size=1000, delay=50_000)
            sizes: list[int] = []
            while len(sizes) < 2:  # a reader that is slow finds several pieces at once
                pair.server.sendall(bytes(4096))
                sizes = [len(pair.client.recv(10_000))]
                while sum(sizes) < 4096:
                    sizes.append(len(pair.client.recv(10_000)))
            assert [size % 1000 for size in sizes] == [0] * (len(sizes) - 1) + [96]  # Toxiproxy: 512

    def test_removing_reset_peer_in_time_harms_nothing(self, engine):
        with engine.proxied() as proxy:
            pair = proxy.connect()
            name = proxy.add("reset_peer", timeout=FOR_EVER_MS)
            pair.server.sendall(b"held")
            assert silent(pair.client, 0.05)
            proxy.remove(name)
            assert read(pair.client, 4) == b"held"

    def test_there_is_an_end_to_toxics(self, engine):
        engine.ok("POST", "/proxies", OFF)
        path = "/proxies/{}/toxics".format(OFF["name"])
        for number in range(100):
            engine.ok("POST", path, {"type": "noop", "name": str(number)})
        answer = engine.call("POST", path, {"type": "noop", "name": "one more"})
        assert answer.status == 400
        assert "100 toxics is the most" in answer.json["error"]

    def test_there_is_an_end_to_proxies(self, engine):
        many = [{**OFF, "name": f"p{number}"} for number in range(1001)]
        answer = engine.call("POST", "/populate", many)
        assert answer.status == 400
        assert "1000 proxies are the most" in answer.json["error"]

    def test_a_path_with_two_slashes_is_no_other_spelling_of_one(self, engine):
        assert engine.call("GET", "//proxies").status == 404


def slow_ones(pairs: list[Pair]) -> set[int]:
    """Which connections' downstream takes ``SLOW_S``. Nothing is early, and who once takes less is not slow:
    who seems to be is asked again.
    """
    slow = set(range(len(pairs)))
    for _ in range(5):
        start = time.monotonic()
        for n in slow:
            pairs[n].server.sendall(b"x")
        waiting = {pairs[n].client: n for n in slow}
        while waiting:
            ready, _, _ = select.select(list(waiting), [], [], TIMEOUT_S)
            assert ready, waiting
            took_s = time.monotonic() - start
            for client in ready:
                assert client.recv(1) == b"x"
                n = waiting.pop(client)
                if took_s < SLOW_S:
                    slow.discard(n)
    return slow


@pytest.fixture(scope="module")
def server() -> Iterator[Engine]:
    with embedded() as engine:
        yield engine


class TestEmbedded(Differences):
    @pytest.fixture
    def engine(self, server: Engine) -> Iterator[Engine]:
        yield server
        for name in server.ok("GET", "/proxies"):
            server.ok("DELETE", f"/proxies/{name.replace('/', '%2F')}")


@needs_toxiproxy
@pytest.mark.xfail(strict=True, reason="the difference")
class TestToxiproxy(Differences):
    @pytest.fixture
    def engine(self) -> Iterator[Engine]:
        with toxiproxy() as engine:
            engine.timeout_s = 2.0  # what it does not do must not be waited for long
            yield engine

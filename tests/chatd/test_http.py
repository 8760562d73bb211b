"""The HTTP port of a whole daemon, over real sockets: what conformance does not ask of every transport."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvloop

from chatd.auth import issue
from chatd.config import Config
from chatd.server import Server, StartError
from chatd.store.base import StoreUnavailable
from chatd.transports import longpoll, posting
from tests.chatd.certificates import make_certificate
from tests.chatd.in_thread import chatd

PUBLISH = {"client": "ann", "channel": "room", "message": "m1", "data": "x"}
Scenario = Callable[["House"], Awaitable[None]]


class Stream:
    """An SSE stream: events as (id, type, frame)."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response

    async def lines(self) -> list[str]:
        """The lines of the next block."""
        block = []
        async with asyncio.timeout(20):
            while line := (await self.response.content.readline()).decode().rstrip("\n"):
                block.append(line)
        return block

    async def event(self) -> tuple[Any, str, Any]:
        while True:
            fields = dict(line.split(": ", 1) for line in await self.lines() if not line.startswith(":"))
            if "data" in fields:
                place = json.loads(fields["id"]) if "id" in fields else None
                return place, fields["event"], json.loads(fields["data"])

    async def until(self, kind: str) -> tuple[Any, str, Any]:
        while (event := await self.event())[1] != kind:
            pass
        return event


class House:
    """A server, and whoever comes."""

    def __init__(self, server: Server, http: aiohttp.ClientSession, stack: AsyncExitStack) -> None:
        self.server, self.http, self._stack = server, http, stack

    async def get(self, path: str, **headers: str) -> aiohttp.ClientResponse:
        return await self.ask("GET", path, headers=headers)

    async def ask(self, method: str, path: str, **options: Any) -> aiohttp.ClientResponse:
        response = await self.http.request(method, path, **options)
        self._stack.callback(response.close)
        return response

    async def publish(self, **fields: Any) -> aiohttp.ClientResponse:
        return await self.ask("POST", "/publish", json={**PUBLISH, **fields})

    async def stream(self, query: str = "channel=room", **headers: str) -> Stream:
        response = await self.get(f"/sse?{query}", **headers)
        assert response.status == 200, await response.text()
        return Stream(response)

    async def none_left(self) -> None:
        """Wait until the daemon has let go of every session."""
        await self.until(lambda: not self.server.connections and not self.server.metrics.channels)

    @staticmethod
    async def until(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():  # noqa: ASYNC110 (a counter of the daemon has no event)
                await asyncio.sleep(0)


@pytest.fixture(params=["uvloop", "asyncio"])
def serve(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Runs ``scenario(house)`` against a server of its own."""

    def run(scenario: Scenario, **settings: Any) -> None:
        async def main() -> None:
            async with AsyncExitStack() as stack:
                server = await stack.enter_async_context(chatd(**settings))
                http = await stack.enter_async_context(aiohttp.ClientSession(server.http_url))
                async with AsyncExitStack() as guests:
                    await scenario(House(server, http, guests))
            assert not server.failed

        (uvloop.run if request.param == "uvloop" else asyncio.run)(main())

    return run


# Server-sent events -----------------------------------------------------------------------------------


def test_the_id_of_each_event_is_where_to_go_on(serve) -> None:
    async def scenario(house: House) -> None:
        stream = await house.stream("channel=room&channel=other")
        place, _, _ = await stream.until("live")
        for number in range(3):
            await house.publish(message=f"m{number}")
        for number in range(2):
            place, _, frame = await stream.until("message")
            assert frame["serial"] == place["room"][1] == number + 1
        stream.response.close()
        assert set(place) == {"room", "other"}
        again = await house.stream("channel=room&channel=other", **{"Last-Event-ID": json.dumps(place)})
        frames = [(await again.event())[2] for _ in range(6)]
        assert [frame["resumed"] for frame in frames if frame["type"] == "subscribed"] == [True, True]
        assert [frame["serial"] for frame in frames if frame["type"] == "message"] == [3]

    serve(scenario)


def test_a_quiet_stream_has_heartbeats_and_stays(serve) -> None:
    async def scenario(house: House) -> None:
        stream = await house.stream()
        assert await stream.lines() == ["retry: 500"]
        await stream.until("live")
        assert [await stream.lines() for _ in range(4)] == [[":"]] * 4
        await house.publish()
        assert (await stream.event())[1] == "message"

    serve(scenario, ping_s=0.1, pong_s=0.1)


def test_a_stream_of_a_server_that_stops_ends_with_goodbye_and_the_close_code(serve) -> None:
    async def scenario(house: House) -> None:
        stream, poll = await house.stream(), asyncio.ensure_future(house.get("/poll?channel=room"))
        place = (await (await poll).json())["position"]
        waiting = asyncio.ensure_future(house.get(f"/poll?position={json.dumps(place)}"))
        await stream.until("live")
        await house.until(lambda: len(house.server.connections) == 2)
        stopping = asyncio.ensure_future(house.server.stop())
        assert (await stream.until("goodbye"))[2]["code"] == 4101
        assert (await stream.until("close"))[2] == {"code": 4101, "reason": "drain"}
        assert await stream.response.content.read() == b""
        answer = await (await waiting).json()
        assert (answer["position"], answer["frames"][-1]["type"]) == (place, "goodbye")
        await stopping

    serve(scenario)


def test_a_reader_that_does_not_read_costs_a_bounded_amount_and_loses_nothing(serve) -> None:
    async def scenario(house: House) -> None:
        stream = await house.stream("channel=room&from=first")
        await stream.until("live")
        count, data = 400, "x" * 60_000  # more than the kernel keeps
        for number in range(count):
            assert (await house.publish(message=f"m{number}", data=data)).status == 200
        (connection,) = house.server.connections.values()
        assert connection.outlet.slow
        assert connection.link.buffered + connection.outlet.held_bytes < 300_000
        got = [(await stream.until("message"))[2]["serial"] for _ in range(count)]
        assert got == list(range(1, count + 1))
        assert house.server.metrics.gaps == 0

    serve(scenario)


def test_who_goes_away_leaves_nothing_behind(serve) -> None:
    async def scenario(house: House) -> None:
        for _ in range(5):
            stream = await house.stream()
            await stream.until("live")
            stream.response.close()
        place = (await (await house.get("/poll?channel=room")).json())["position"]
        waiting = asyncio.ensure_future(house.get(f"/poll?position={json.dumps(place)}"))
        await house.until(lambda: bool(house.server.connections))
        waiting.cancel()
        with suppress(asyncio.CancelledError):
            await waiting
        await house.none_left()

    serve(scenario)


# Polling ----------------------------------------------------------------------------------------------


def test_a_poll_waits_no_longer_than_asked_and_then_has_the_same_position(serve) -> None:
    async def scenario(house: House) -> None:
        first = await (await house.get("/poll?channel=room")).json()
        assert [frame["type"] for frame in first["frames"]] == ["connected", "subscribed", "live"]
        query = f"position={json.dumps(first['position'])}&wait_s=0.05"
        again = await (await house.get(f"/poll?{query}")).json()
        assert again["position"] == first["position"]
        assert [frame["type"] for frame in again["frames"]] == ["subscribed", "live"]
        await house.none_left()

    serve(scenario)


def test_a_long_replay_comes_in_several_answers_each_message_once(serve) -> None:
    async def scenario(house: House) -> None:
        for number in range(80):
            await house.publish(message=f"m{number}", data="x" * 10_000)
        query, serials, answers = "channel=room&from=first", [], 0
        while len(serials) < 80:
            answer = await (await house.get(f"/poll?{query}")).json()
            serials += [frame["serial"] for frame in answer["frames"] if frame["type"] == "message"]
            query = f"position={json.dumps(answer['position'])}"
            answers += 1
        assert serials == list(range(1, 81))
        assert 2 <= answers <= 8

    serve(scenario)


def test_who_does_not_read_the_answer_to_a_poll_is_let_go_of(serve, monkeypatch) -> None:
    monkeypatch.setattr(longpoll, "patience_ms", lambda _config: 600)

    async def scenario(house: House) -> None:
        for number in range(20):
            (await house.publish(message=f"m{number}", data="x" * 60_000)).close()

        def here() -> int:
            return len(house.server._listening["http"]._server.connections)  # type: ignore[attr-defined]

        await house.until(lambda: here() <= 1)
        others = here()
        with socket.socket() as guest:
            guest.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            guest.setblocking(False)
            port = int(house.server.http_url.rsplit(":", 1)[1].strip("/"))
            await asyncio.get_running_loop().sock_connect(guest, ("127.0.0.1", port))
            guest.send(b"GET /poll?channel=room&from=first HTTP/1.1\r\nHost: localhost\r\n\r\n")
            began_s = time.monotonic()
            await house.until(lambda: here() == others + 1)
            await house.none_left()  # the session is over, and what waits is the socket's
            await house.until(lambda: here() == others)
            assert time.monotonic() - began_s > 0.5

    serve(scenario)


# POST -------------------------------------------------------------------------------------------------


def test_a_retry_over_another_transport_is_the_same_message(serve) -> None:
    async def scenario(house: House) -> None:
        first = await (await house.publish(id=7)).json()
        assert (first["type"], first["id"], first["duplicate"]) == ("ack", 7, False)
        async with house.http.ws_connect(house.server.url, protocols=["chatd.v1"]) as ws:
            await ws.send_json({"type": "connect", "id": 0, "client": "ann"})
            await ws.receive_json()
            await ws.send_json(
                {"type": "publish", "id": 1, **{k: PUBLISH[k] for k in ("channel", "message", "data")}}
            )
            again = await ws.receive_json()
        assert (again["position"], again["duplicate"]) == (first["position"], True)

    serve(scenario)


@pytest.mark.parametrize(
    ("options", "status", "code"),
    [
        pytest.param({"json": {**PUBLISH, "data": "other"}}, 409, 409, id="id reused"),
        pytest.param({"json": {**PUBLISH, "data": "x" * 2000}}, 413, 413, id="too large"),
        pytest.param({"data": b"{}"}, 415, 400, id="no content type"),
        pytest.param({"data": {"a": "b"}}, 415, 400, id="a form"),
        pytest.param({"json": PUBLISH, "headers": {"Content-Encoding": "gzip"}}, 415, 400, id="compressed"),
        pytest.param({"json": {**PUBLISH, "client": None}}, 400, 400, id="client is null"),
        pytest.param({"json": {k: v for k, v in PUBLISH.items() if k != "client"}}, 400, 400, id="nobody"),
        pytest.param({"json": {**PUBLISH, "channel": ""}}, 400, 400, id="no channel"),
        pytest.param({"json": {**PUBLISH, "type": "dance"}}, 404, 404, id="unknown request"),
        pytest.param({"json": {**PUBLISH, "type": "subscribe"}}, 400, 400, id="no request for a body"),
        pytest.param({"json": PUBLISH, "headers": {"Origin": "https://evil.example"}}, 403, 403, id="origin"),
        pytest.param({"json": PUBLISH, "headers": {"Host": "evil.example"}}, 403, 403, id="host"),
        pytest.param({"json": PUBLISH, "headers": {"Authorization": "Basic eA=="}}, 400, 400, id="no bearer"),
    ],
)
def test_what_is_refused_is_an_error_frame_with_its_status(
    serve, options: Any, status: int, code: int
) -> None:
    async def scenario(house: House) -> None:
        assert (await house.publish()).status == 200
        response = await house.ask("POST", "/publish", **options)
        assert response.status == status, await response.text()
        error = await response.json()
        assert (error["type"], error["code"], error["definite"]) == ("error", code, True)
        await house.none_left()

    serve(scenario, frame_bytes=1024)


def test_a_body_without_a_length_is_measured_as_it_comes(serve) -> None:
    async def pieces() -> Any:
        for _ in range(100):
            yield b" " * 1000

    async def scenario(house: House) -> None:
        headers = {"Content-Type": "application/json"}
        response = await house.ask("POST", "/publish", data=pieces(), headers=headers)
        assert response.status == 413

    serve(scenario, frame_bytes=1024)


def test_a_body_that_does_not_come_is_not_waited_for(serve, monkeypatch) -> None:
    monkeypatch.setattr(posting, "BODY_S", 0.05)

    async def scenario(house: House) -> None:
        port = int(house.server.http_url.rsplit(":", 1)[1].strip("/"))
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = [
            "POST /publish HTTP/1.1",
            "Host: localhost",
            "Content-Type: application/json",
            "Content-Length: 9",
        ]
        writer.write("\r\n".join([*head, "", "{"]).encode())
        assert b" 408 " in await reader.readline()
        writer.close()

    serve(scenario)


def test_a_node_that_goes_away_says_when_to_come_back(serve) -> None:
    async def scenario(house: House) -> None:
        house.server.draining = True
        for response in (
            await house.publish(),
            await house.get("/sse?channel=a"),
            await house.get("/poll?channel=a"),
        ):
            assert (response.status, response.headers["Retry-After"]) == (503, "1")
            error = await response.json()
            assert (error["code"], error["temporary"], error["definite"]) == (503, True, True)
        house.server.draining = False

    serve(scenario)


def test_a_store_that_fails_is_503_with_the_time_to_wait(serve, monkeypatch) -> None:
    async def scenario(house: House) -> None:
        async def full(*_: object) -> Any:
            raise StoreUnavailable("disk full")

        monkeypatch.setattr(house.server.store, "append", full)
        response = await house.publish()
        assert (response.status, response.headers["Retry-After"]) == (503, "1")
        assert "disk full" in (await response.json())["reason"]

    serve(scenario)


# Tokens and TLS ---------------------------------------------------------------------------------------

SECRET = b"correct horse battery staple, and more"


def bearer(user: str, rights: Any = None) -> dict[str, str]:
    token = issue(SECRET, user=user, audience="chatd", now_s=time.time(), ttl_s=600, rights=rights)
    return {"Authorization": f"Bearer {token}"}


def test_a_token_opens_every_transport_under_its_name_and_with_its_rights(serve, tmp_path: Path) -> None:
    async def scenario(house: House) -> None:
        body = {key: PUBLISH[key] for key in ("channel", "message", "data")}
        for response in (
            await house.ask("POST", "/publish", json=PUBLISH),
            await house.get("/sse?channel=room"),
            await house.get("/poll?channel=room"),
            await house.get("/poll?channel=room", Authorization="Bearer a.b.c"),
        ):
            assert (response.status, (await response.json())["code"]) == (401, 401)
        stream = await house.stream(**bearer("bob"))
        await stream.until("live")
        assert (await house.ask("POST", "/publish", json=body, headers=bearer("ann"))).status == 200
        assert (await stream.until("message"))[2]["user"] == "ann"
        reader = bearer("carol", {"room": ["subscribe"]})
        refused = await house.ask("POST", "/publish", json=body, headers=reader)
        assert (refused.status, (await refused.json())["code"]) == (403, 403)
        assert (await house.get("/poll?channel=elsewhere", **reader)).status == 403
        assert (await house.get("/poll?channel=room", **reader)).status == 200
        in_a_url = await house.get(f"/poll?channel=room&token={reader['Authorization'][7:]}")
        assert in_a_url.status == 400

    secret = tmp_path / "secret"
    secret.write_bytes(SECRET)
    serve(scenario, auth_secret_file=secret)


def test_with_a_certificate_the_port_speaks_tls(tmp_path: Path) -> None:
    made = make_certificate(tmp_path)

    async def main() -> None:
        trusted = ssl.create_default_context(cafile=str(made.cert))
        async with chatd(tls_cert=made.cert, tls_key=made.key) as server, aiohttp.ClientSession() as http:
            assert server.http_url.startswith("https://")
            async with http.get(f"{server.http_url}about.json", ssl=trusted) as about:
                assert await about.json() == {"socket": server.url}
            assert server.url.startswith("wss://")
            async with http.get(server.http_url, ssl=trusted) as page:
                assert "'self' wss://127.0.0.1:" in page.headers["Content-Security-Policy"]

    asyncio.run(main())


def test_more_than_there_is_room_for_is_refused_with_the_time_to_wait(serve) -> None:
    async def scenario(house: House) -> None:
        stream = await house.stream()
        await stream.until("live")
        refused = await house.get("/sse?channel=room")
        assert refused.status == 503
        assert int(refused.headers["Retry-After"]) >= 1

    serve(scenario, connections_per_address=1)


# The port ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        pytest.param("GET", "/nothing", 404, id="no such path"),
        pytest.param("GET", "/publish", 405, id="no such method"),
        pytest.param("POST", "/", 405, id="nor here"),
        pytest.param("GET", "/page.js/../../../etc/passwd", 404, id="no way out"),
        pytest.param("GET", "/sse", 400, id="no channel"),
        pytest.param("GET", "/poll?position=x", 400, id="no position"),
        pytest.param("GET", "/sse?channel=" + "x" * 129, 400, id="the session refuses"),
        pytest.param("OPTIONS", "/publish", 204, id="preflight"),
    ],
)
def test_every_request_has_its_answer(serve, method: str, path: str, status: int) -> None:
    async def scenario(house: House) -> None:
        response = await house.ask(method, path)
        assert response.status == status
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        if status >= 400:
            assert (await response.json())["type"] == "error"
        assert house.server.metrics.http == {status: 1}

    serve(scenario)


def test_the_page_and_its_parts_are_served_with_their_policy(serve) -> None:
    async def scenario(house: House) -> None:
        page = await house.get("/")
        assert page.headers["Content-Type"] == "text/html; charset=utf-8"
        assert "frame-ancestors 'none'" in page.headers["Content-Security-Policy"]
        text = await page.text()
        for part in re.findall(r'(?:src|href)="([^"]+)"', text):
            assert (await house.get(f"/{part}")).status == 200, part
        assert not re.search(r"<script>|<style>| on\w+=| style=", text), "the policy forbids inline code"
        tag = page.headers["ETag"]
        assert (await house.get("/", **{"If-None-Match": tag})).status == 304
        about = await (await house.get("/about.json")).json()
        assert about == {"socket": house.server.url}

    serve(scenario)


def test_a_page_of_this_machine_may_read_the_answers(serve) -> None:
    async def scenario(house: House) -> None:
        origin = "http://localhost:3000"
        stream = await house.stream(Origin=origin)
        for response in (await house.get("/about.json", Origin=origin), stream.response):
            assert response.headers["Access-Control-Allow-Origin"] == origin

    serve(scenario)


def test_what_is_no_http_is_refused_and_the_port_goes_on(serve) -> None:
    async def scenario(house: House) -> None:
        port = int(house.server.http_url.rsplit(":", 1)[1].strip("/"))
        for junk in (
            b"\x16\x03\x01\x02\x00\r\n\r\n",
            b"GET\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
            b"\x00" * 100_000,
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(junk)
            with suppress(ConnectionError):
                writer.write_eof()
                await asyncio.wait_for(reader.read(), 20)
            writer.close()
        assert (await house.publish()).status == 200

    serve(scenario)


@pytest.mark.parametrize(
    ("settings", "on"),
    [
        pytest.param({"http_port": 0}, False, id="0"),
        pytest.param({"http_port": ""}, False, id="nothing"),
        pytest.param({"http_port": "free"}, True, id="free"),
        pytest.param({}, True, id="not said, and no port said"),
    ],
)
def test_the_port_is_there_when_it_is_asked_for(settings: dict[str, Any], on: bool) -> None:
    async def main() -> None:
        async with chatd(**settings) as server:
            assert bool(server.http_url) is on

    asyncio.run(main())


def test_a_port_that_is_taken_is_named_and_nothing_stays_open() -> None:
    async def main() -> None:
        async with chatd() as other:
            taken = int(other.http_url.rsplit(":", 1)[1].strip("/"))
            server = Server(Config(port=0, store="memory", http_port=taken))
            with pytest.raises(StartError, match=rf"http_port is {taken}: .* is in use; .*--http-port"):
                await server.start()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        pytest.param({"port": 9000, "http_port": 9000}, "must not be that of `port`", id="the same"),
        pytest.param({"port": 65535}, "would be 65536", id="none above it"),
        pytest.param({"http_port": "x"}, "http_port", id="no number"),
        pytest.param({"http_port": 70000}, "http_port", id="too high"),
    ],
)
def test_a_port_that_cannot_be_is_refused(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Config(**settings)

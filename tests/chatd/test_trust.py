"""Tokens, TLS, limits and who is let in, over real sockets."""

from __future__ import annotations

import asyncio
import json
import math
import ssl
import time
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from chatd.auth import issue
from chatd.config import Config
from chatd.server import Server, StartError
from chatd.store.base import StoreUnavailable
from tests.chatd.certificates import make_certificate
from tests.chatd.house import Guest, House
from tests.chatd.test_server import close_code, masked, upgraded

SECRET = b"correct horse battery staple, and a bit more"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    file = tmp_path / "secret"
    file.write_bytes(SECRET)
    return file


def token(user: str = "ann", *, ttl_s: float = 600, ago_s: float = 0, rights: Any = None) -> str:
    return issue(SECRET, user=user, audience="chatd", now_s=time.time() - ago_s, ttl_s=ttl_s, rights=rights)


async def login(house: House, shown: str | None, **options: Any) -> tuple[Guest, dict[str, Any]]:
    """Dial and say connect; the guest, and the answer."""
    ws = await house._stack.enter_async_context(
        connect(house.server.url, subprotocols=["chatd.v1"], ping_interval=None, proxy=None, **options)  # type: ignore[list-item]
    )
    guest = Guest(ws)
    await guest.ask("connect", **({} if shown is None else {"token": shown}))
    return guest, await guest.read()


# Tokens -----------------------------------------------------------------------------------------------


def test_who_shows_a_token_is_in_under_its_name(serve, secret) -> None:
    async def scenario(house: House) -> None:
        ann, answer = await login(house, token("ann"))
        assert answer["user"] == "ann"
        assert 590 < answer["token_s"] <= 601
        bearer = {"Authorization": f"Bearer {token('bob')}"}
        bob, answer = await login(house, None, additional_headers=bearer)
        assert answer["user"] == "bob"
        await bob.ask("subscribe", channel="room")
        await bob.until("live")
        await ann.publish("m1")
        assert (await bob.read())["user"] == "ann"

    serve(scenario, auth_secret_file=secret)


@pytest.mark.parametrize(
    ("shown", "code", "close"),
    [
        pytest.param(lambda: None, 401, 4500, id="no token"),
        pytest.param(lambda: "a.b.c", 401, 4500, id="nonsense"),
        pytest.param(lambda: token(ttl_s=10, ago_s=60), 402, 4005, id="expired"),
    ],
)
def test_who_shows_no_good_token_is_told_so_and_closed(serve, secret, shown, code, close) -> None:
    async def scenario(house: House) -> None:
        guest, answer = await login(house, shown())
        assert (answer["type"], answer["code"]) == ("error", code)
        assert await guest.closed() == close

    serve(scenario, auth_secret_file=secret, store="memory")


def test_a_token_that_runs_out_is_told_then_the_connection_ends_unless_it_is_renewed(serve, secret) -> None:
    async def scenario(house: House) -> None:
        lazy, _ = await login(house, token("ann", ttl_s=1))
        keen, _ = await login(house, token("bob", ttl_s=1))
        assert (await lazy.read())["code"] == 402
        assert (await keen.read())["code"] == 402
        await keen.ask("auth", token=token("bob"))
        renewed = await keen.read()
        assert (renewed["type"], renewed["user"]) == ("authorized", "bob")
        assert renewed["token_s"] > 500
        assert await lazy.closed() == 4005
        await keen.publish("still here")

    serve(scenario, auth_secret_file=secret, auth_grace_s=1.0, store="memory")


def test_every_request_needs_its_right(serve, secret) -> None:
    async def scenario(house: House) -> None:
        reader, _ = await login(house, token("ann", rights={"room:*": ["subscribe", "history"]}))
        await reader.ask("publish", channel="room:1", message="m1", data=1)
        refused = await reader.read()
        assert (refused["code"], refused["definite"], refused["temporary"]) == (403, True, False)
        await reader.ask("history", channel="dm:1")
        assert (await reader.read())["code"] == 403
        await reader.ask("subscribe", channel="room:1")
        assert (await reader.until("live"))[0]["type"] == "subscribed"

    serve(scenario, auth_secret_file=secret, store="memory")


@pytest.mark.parametrize("query", ["?token=x", "?c=1&access_token=x", "?c=1&Token=x"])
def test_a_token_in_a_url_is_refused(serve, query) -> None:
    async def scenario(house: House) -> None:
        with pytest.raises(InvalidStatus) as caught:
            async with connect(house.server.url + query, proxy=None):
                pass
        assert caught.value.response.status_code == 400
        assert b"URL" in (caught.value.response.body or b"")

    serve(scenario, store="memory")


def test_a_client_of_another_version_is_closed_for_good(serve) -> None:
    async def scenario(house: House) -> None:
        reader, writer = await upgraded(house, "Sec-WebSocket-Protocol: chatd.v9, x\r\n")
        assert await close_code(reader) == 4505
        writer.close()
        _, writer = await upgraded(house, "Sec-WebSocket-Protocol: chatd.v9, chatd.v1\r\n")
        writer.close()

    serve(scenario, store="memory")


# TLS --------------------------------------------------------------------------------------------------


def test_a_public_port_with_tls_serves_wss_and_nothing_else(serve, tmp_path) -> None:
    made = make_certificate(tmp_path)

    async def scenario(house: House) -> None:
        assert house.server.url.startswith("wss://127.0.0.1:")
        trusting = ssl.create_default_context(cafile=made.cert)
        ann, _ = await login(house, None, ssl=trusting)
        bob, _ = await login(house, None, ssl=trusting)
        await bob.ask("subscribe", channel="room")
        await bob.until("live")
        for number in range(200):  # more than a socket's buffer, so that the writes of TLS wait too
            await ann.ask("publish", channel="room", message=f"m{number}", data="x" * 5000)
        got = [(await bob.read())["serial"] for _ in range(200)]
        assert got == list(range(1, 201))
        assert [(await ann.read())["type"] for _ in range(200)] == ["ack"] * 200
        with pytest.raises(ssl.SSLCertVerificationError):
            await login(house, None, ssl=ssl.create_default_context())
        reader, writer = await house.raw()
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"200" not in await asyncio.wait_for(reader.read(), 20)
        writer.close()

    serve(scenario, store="memory", tls_cert=made.cert, tls_key=made.key)


# Limits -----------------------------------------------------------------------------------------------


def test_too_many_publishes_are_refused_and_go_through_when_sent_again_in_order(serve) -> None:
    async def scenario(house: House) -> None:
        ann, bob = await house.guest("ann"), await house.listener("bob")
        began_s = time.monotonic()
        for number in range(8):
            await ann.ask("publish", channel="room", message=f"m{number}", data=number)
        answers = [await ann.read() for _ in range(8)]
        codes = [answer.get("code", "ack") for answer in answers]
        placed = codes.count("ack")
        assert 3 <= placed <= 3 + math.ceil(5 * (time.monotonic() - began_s)), "3 at once, and time passes"
        refused = {answer["code"] for answer in answers if answer["type"] == "error"}
        assert refused == {429, 412} or refused == {429}
        first = next(answer for answer in answers if answer["type"] == "error")
        assert (first["code"], first["temporary"], first["definite"]) == (429, True, True)
        assert 0 < first["after_ms"] <= 200
        number = placed
        while number < 8:  # the oldest alone, again and again: time passes by itself
            await ann.ask("publish", channel="room", message=f"m{number}", data=number)
            number += (await ann.read())["type"] == "ack"
        assert [(await bob.read())["data"] for _ in range(8)] == list(range(8))

    serve(scenario, publish_per_s=5, publish_burst=3)


def test_a_channel_takes_only_so_much_from_all_together(serve) -> None:
    async def scenario(house: House) -> None:
        guests = [await house.guest(f"g{number}") for number in range(4)]
        codes = []
        for guest in guests:
            await guest.ask("publish", channel="room", message="m", data=1)
            codes.append((await guest.read()).get("code"))
        assert codes == [None, None, 429, 429]
        await guests[2].publish("m", channel="other")

    serve(scenario, channel_publish_per_s=0.001, channel_publish_burst=2, store="memory")


def test_a_message_that_is_a_little_too_long_is_an_error_and_a_huge_one_ends_the_connection(serve) -> None:
    async def scenario(house: House) -> None:
        guest = await house.guest()
        await guest.ask("publish", channel="room", message="m1", data="x" * 1200)
        refused = await guest.read()
        assert (refused["id"], refused["code"]) == (2, 413)
        await guest.publish("m2")
        await guest.ask("publish", channel="room", message="m3", data="x" * 3000)
        assert await guest.closed() == 1009

    serve(scenario, frame_bytes=1024, store="memory")


@pytest.mark.parametrize(
    "limit", [{"connections": 2}, {"connections_per_address": 2}], ids=["in all", "of one address"]
)
def test_who_comes_when_all_is_full_is_sent_away_until_somebody_goes(serve, limit) -> None:
    async def scenario(house: House) -> None:
        first, _ = await house.guest(), await house.guest()
        with pytest.raises(InvalidStatus) as caught:
            await house.guest()
        refusal = caught.value.response
        assert (refusal.status_code, refusal.headers["Retry-After"]) == (503, "2")
        assert (await house.get("/healthz"))[0] == 200, "whoever looks after it is let in"
        await first.ws.close()
        await house.guest()
        assert house.server.metrics.refused == 1
        assert sum(house.server._addresses.values()) == house.server.metrics.connections == 2

    serve(scenario, store="memory", **limit)


# Who may see what -------------------------------------------------------------------------------------


async def get(url: str, path: str) -> tuple[int, str]:
    host, port = url.split("//")[1].split("/")[0].rsplit(":", 1)
    reader, writer = await asyncio.open_connection("127.0.0.1" if host == "0.0.0.0" else host, int(port))
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
    writer.close()
    return int(head.split()[1]), body


def test_on_loopback_the_figures_are_on_the_public_port_and_on_the_admin_port(serve) -> None:
    async def scenario(house: House) -> None:
        await house.guest()
        admin = house.server.admin_url
        assert admin is not None
        for url in (house.server.url, admin):
            assert "chatd_connections 1" in (await get(url, "/metrics"))[1]
            (node,) = json.loads((await get(url, "/nodes"))[1])
            assert (node["node"], node["state"], node["connections"]) == ("n1", "up", 1)
            assert node["url"] == house.server.url
        assert (await get(admin, "/ws"))[0] == 404

    serve(scenario, store="memory", admin_port=0)


def test_a_port_for_everybody_shows_no_figures(serve, secret) -> None:
    async def scenario(house: House) -> None:
        assert (await get(house.server.url, "/healthz"))[0] == 200
        assert (await get(house.server.url, "/metrics"))[0] == 404
        assert (await get(house.server.url, "/nodes"))[0] == 404
        assert house.server.admin_url is not None
        assert (await get(house.server.admin_url, "/metrics"))[0] == 200
        assert house.server.admin_url.startswith("http://127.0.0.1:")

    serve(scenario, store="memory", host="0.0.0.0", auth_secret_file=secret, admin_port=0)


@pytest.mark.parametrize(
    ("origin", "let_in"),
    [
        pytest.param("https://chat.example", True, id="one that is named"),
        pytest.param("https://chat.example.org", False, id="one like it"),
        pytest.param("http://[::1", False, id="none at all"),
        pytest.param("null", False, id="null"),
    ],
)
def test_a_web_page_is_let_in_when_the_operator_names_it(serve, origin, let_in) -> None:
    async def scenario(house: House) -> None:
        try:
            async with connect(house.server.url, proxy=None, origin=origin):
                assert let_in
        except InvalidStatus as refusal:
            assert not let_in and refusal.response.status_code == 403  # noqa: PT017, PT018

    serve(scenario, store="memory", origins=["https://chat.example"])


# The log ----------------------------------------------------------------------------------------------


def test_no_token_and_no_secret_is_ever_logged_and_every_event_is_one_line(serve, secret, capfd) -> None:
    shown = [token("ann"), token("bob", ttl_s=1, ago_s=60), f"{token('eve')}x"]

    async def scenario(house: House) -> None:
        for one in shown:
            await login(house, one)
            await login(house, None, additional_headers={"Authorization": f"Bearer {one}"})
            with pytest.raises(InvalidStatus):
                async with connect(f"{house.server.url}?token={one}", proxy=None):
                    pass
            reader, writer = await upgraded(house, f"Authorization: Bearer {one}\r\n")
            writer.write(masked(1, json.dumps({"type": "connect", "token": one}).encode()))
            assert await close_code(reader) == 4501
            writer.close()
        ann, _ = await login(house, shown[0])
        await ann.ask("auth", token=shown[2])
        assert (await ann.read())["code"] == 401
        await ann.ws.send(json.dumps({"type": shown[0], "token": shown[0]}))
        assert (await ann.read())["code"] == 404

    serve(scenario, store="memory", auth_secret_file=secret)
    logged = capfd.readouterr()
    text = logged.err + logged.out
    for one in (*shown, SECRET.decode()):
        for part in one.split("."):
            assert part not in text
    lines = [line for line in text.splitlines() if " closed " in line]
    assert len(lines) >= 6
    assert all("code=4" in line and "address=127.0.0.1" in line and "reason=" in line for line in lines)


def test_what_clients_cause_cannot_fill_the_log(serve, capfd) -> None:
    async def scenario(house: House) -> None:
        for _ in range(150):
            reader, writer = await upgraded(house)
            writer.write(masked(1, b"nonsense"))
            assert await close_code(reader) == 4501
            writer.close()

    serve(scenario, store="memory", connections=1000)
    lines = [line for line in capfd.readouterr().err.splitlines() if " closed " in line]
    assert 100 <= len(lines) < 150


def test_a_secret_that_is_missing_stops_the_start(tmp_path) -> None:
    with pytest.raises(Exception, match=r"auth_secret_file is .*: cannot be read"):
        Server(Config(port=0, store="memory", auth_secret_file=tmp_path / "none"))


# What fails while others wait behind it ---------------------------------------------------------------


def test_what_waits_behind_a_publish_that_the_store_could_not_take_does_not_overtake_it(
    serve, monkeypatch
) -> None:
    monkeypatch.setattr("chatd.ingest.BATCH", 1)

    async def scenario(house: House) -> None:
        ann, bob = await house.guest("ann"), await house.listener("bob")
        store, append = house.server.store, house.server.store.append
        broken = True

        async def fail_once(*batch: Any) -> Any:
            nonlocal broken
            if broken:
                broken = False
                raise StoreUnavailable("full")
            return await append(*batch)

        monkeypatch.setattr(store, "append", fail_once)
        for message in ("m1", "m2", "m3"):
            await ann.ask("publish", channel="room", message=message, data=message)
        await ann.ask("publish", channel="other", message="m4", data=1)
        answers = {answer["id"]: answer.get("code") for answer in [await ann.read() for _ in range(4)]}
        assert answers == {2: 503, 3: 412, 4: 412, 5: None}
        for message in ("m1", "m2", "m3"):
            await ann.publish(message, data=message)
        assert [(await bob.read())["data"] for _ in range(3)] == ["m1", "m2", "m3"]

    serve(scenario)


def test_an_abandoned_publish_lets_the_others_go_on(serve) -> None:
    async def scenario(house: House) -> None:
        ann = await house.guest("ann")
        await ann.publish("m1")
        await ann.ask("publish", channel="room", message="m2", data=1)
        assert (await ann.read())["code"] == 429
        await ann.ask("publish", channel="room", message="m3", data=1)
        assert (await ann.read())["code"] == 412
        await ann.ws.send('{"type":"abandon","message":"m2"}')
        await ann.ask("publish", channel="room", message="m3", data=1)
        assert (await ann.read())["code"] == 429, "no longer behind m2: its own turn has not come"

    serve(scenario, publish_per_s=0.001, publish_burst=1, store="memory")


def test_an_admin_port_in_use_is_one_clear_line_and_the_public_port_is_closed_again(serve) -> None:
    async def scenario(house: House) -> None:
        taken = int((house.server.admin_url or "").rsplit(":", 1)[1])
        second = Server(Config(port=0, store="memory", admin_port=taken))
        with pytest.raises(
            StartError, match=rf"admin_port is {taken}: on 127\.0\.0\.1 it is in use"
        ) as caught:
            await second.start()
        assert "--admin-port" in str(caught.value)
        with pytest.raises(ConnectionError):
            await get(second.url, "/healthz")

    serve(scenario, store="memory", admin_port=0)

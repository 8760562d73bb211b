"""Dials: at once for all clients, with a timeout, and told when they fail."""

import asyncio
import socket
from typing import Any

import pytest
import uvloop

from chaos.proxy import connection
from chaos.proxy.address import AddressError, Policy, bind, listen_address, parse, upstream_address
from chaos.proxy.events import QUEUE_LIMIT, Events
from chaos.proxy.proxy import Proxy


def new_proxy(events: Events) -> Proxy:
    return Proxy("p", "127.0.0.1:0", "127.0.0.1:1", policy=Policy(), seed=0, events=events)


def client_of(proxy: Proxy) -> socket.socket:
    host, _, port = proxy.listen.rpartition(":")
    client = socket.create_connection((host, int(port)))
    client.setblocking(False)
    return client


async def is_closed(client: socket.socket) -> bool:
    with client:
        return await asyncio.get_running_loop().sock_recv(client, 1) == b""


def test_dials_go_on_at_the_same_time(monkeypatch):
    async def scenario() -> None:
        dials: asyncio.Queue[Any] = asyncio.Queue()

        async def never_answered(address, protocol):
            dials.put_nowait(protocol)
            await asyncio.Event().wait()

        monkeypatch.setattr(connection, "dial", never_answered)
        proxy = new_proxy(Events())
        await proxy.start()
        clients = [client_of(proxy) for _ in range(3)]
        assert len({await dials.get() for _ in clients}) == 3
        proxy.stop()
        for client in clients:
            assert await is_closed(client)

    uvloop.run(scenario())


@pytest.mark.parametrize(
    ("error", "why"),
    [
        pytest.param(None, "TimeoutError", id="no answer in time"),
        pytest.param(ConnectionRefusedError(111, "Connection refused"), "refused", id="refused"),
    ],
)
def test_a_failed_dial_closes_the_client_and_is_counted_and_told(monkeypatch, error, why):
    async def scenario() -> None:
        async def fails(address, protocol):
            if error:
                raise error
            await asyncio.Event().wait()

        monkeypatch.setattr(connection, "dial", fails)
        monkeypatch.setattr(connection, "DIAL_TIMEOUT_S", 0.02)
        events = Events()
        proxy = new_proxy(events)
        await proxy.start()
        told = events.listen()
        client = client_of(proxy)
        assert await is_closed(client)
        failure, close = await told.get(), await told.get()
        assert failure is not None
        assert failure["event"] == "dial_failure"
        assert why in failure["why"]
        assert close is not None
        assert close["event"] == "close"
        assert (proxy.dial_failures, len(proxy.connections)) == (1, 0)
        proxy.stop()

    uvloop.run(scenario())


def test_a_listener_that_does_not_listen_is_told_and_cut_off():
    async def scenario() -> None:
        events = Events()
        queue = events.listen()
        for n in range(QUEUE_LIMIT + 5):
            events.emit(event="open", id=n)
        got = [queue.get_nowait() for _ in range(queue.qsize())]
        assert len(got) == QUEUE_LIMIT + 2
        assert got[-2] is not None
        assert got[-2]["event"] == "lagged"
        assert got[-1] is None

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("text", "address"),
    [
        pytest.param("127.0.0.1:80", ("127.0.0.1", 80), id="IPv4"),
        pytest.param("[::1]:80", ("::1", 80), id="IPv6"),
        pytest.param("db:80", ("db", 80), id="name"),
        pytest.param(":80", ("", 80), id="port only"),
        pytest.param("", ("", 0), id="nothing"),
    ],
)
def test_addresses(text, address):
    parsed = parse(text)
    assert (parsed.host, parsed.port) == address
    assert str(parsed) == (text or ":0")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param("127.0.0.1", "address 127.0.0.1: missing port in address", id="no port"),
        pytest.param("[::1]", "address [::1]: missing port in address", id="IPv6 without a port"),
        pytest.param("::1:80", "address ::1:80: too many colons in address", id="IPv6 without brackets"),
        pytest.param("h:65536", "address 65536: invalid port", id="port too high"),
        pytest.param("h:-1", "address -1: invalid port", id="negative port"),
        pytest.param("h:٣", "address ٣: invalid port", id="digits of another script"),
    ],
)
def test_bad_addresses_have_go_s_words(text, error):
    with pytest.raises(AddressError) as raised:
        parse(text)
    assert str(raised.value) == error


def test_no_host_is_loopback_to_listen_and_localhost_to_dial():
    assert listen_address(":80").host == "127.0.0.1"
    assert listen_address("localhost:80").host == "127.0.0.1"
    assert upstream_address(":80").host == "localhost"


@pytest.mark.parametrize(
    ("host", "allowed"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("10.0.0.1", False),
     ("0.0.0.0", False), ("::", False), ("localhost.evil", False), ("127.0.0.1.evil", False)],
)  # fmt: skip
def test_only_loopback_is_allowed_by_itself(host, allowed):
    address = parse(f"[{host}]:1" if ":" in host else f"{host}:1")
    for check in (Policy().check_listen, Policy().check_upstream):
        if allowed:
            check(address)
        else:
            with pytest.raises(AddressError, match="only loopback addresses are allowed"):
                check(address)
    Policy(listen=(host,)).check_listen(address)
    Policy(targets=(host,)).check_upstream(address)


def test_a_failed_bind_leaves_no_socket_open():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = parse("{}:{}".format(*taken.getsockname()))
        with pytest.raises(AddressError, match="address already in use"):
            bind(address)  # an open socket would warn, and warnings are errors

"""Test hooks of a running daemon: who may ask for them, and what they do."""

from __future__ import annotations

import asyncio
import socket
from types import SimpleNamespace

import pytest

from chatd import hooks
from tests.chatd.house import House


async def ask(url: str, path: str, *, header: bool = True) -> tuple[int, str]:
    port = int(url.rpartition(":")[2].rstrip("/"))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    line = f"{hooks.HEADER}: 1\r\n" if header else ""
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n{line}\r\n".encode())
    head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
    writer.close()
    return int(head.split()[1]), body


def test_a_block_is_answered_and_then_nothing_runs_for_so_long(serve, monkeypatch) -> None:
    async def scenario(house: House) -> None:
        assert house.server.admin_url is not None
        loop, blocked = asyncio.get_running_loop(), asyncio.Event()
        with socket.socket() as client:

            def sleep(seconds: float) -> None:
                assert asyncio.get_running_loop() is loop, "on the loop, which runs nothing else meanwhile"
                assert seconds == 0.3
                assert client.recv(65536).startswith(b"HTTP/1.1 200"), "the answer is out by then"
                blocked.set()

            monkeypatch.setattr(hooks, "time", SimpleNamespace(sleep=sleep))
            client.setblocking(False)
            port = int(house.server.admin_url.rpartition(":")[2].rstrip("/"))
            await loop.sock_connect(client, ("127.0.0.1", port))
            request = f"GET /hooks/block?ms=300 HTTP/1.1\r\nHost: x\r\n{hooks.HEADER}: 1\r\n\r\n"
            await loop.sock_sendall(client, request.encode())
            async with asyncio.timeout(20):
                await blocked.wait()

    serve(scenario, store="memory", admin_port=0, test_hooks=True)


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        pytest.param("/hooks/sleep?ms=1", 404, "hook is 'sleep': must be one of block", id="unknown"),
        pytest.param("/hooks/block", 400, "ms is '': must be from 0 to 10000", id="no ms"),
        pytest.param("/hooks/block?ms=-1", 400, "ms is '-1'", id="negative"),
        pytest.param("/hooks/block?ms=10001", 400, "ms is '10001'", id="too long"),
    ],
)
def test_a_hook_refuses_what_breaks_its_rule(serve, path: str, status: int, text: str) -> None:
    async def scenario(house: House) -> None:
        assert house.server.admin_url is not None
        found = await ask(house.server.admin_url, path)
        assert found[0] == status
        assert text in found[1]

    serve(scenario, store="memory", admin_port=0, test_hooks=True)


@pytest.mark.parametrize(
    ("hooked", "header"),
    [
        pytest.param(False, True, id="without test_hooks"),
        pytest.param(True, False, id="without the header, as a page of another site would ask"),
    ],
)
def test_a_hook_is_not_there(serve, hooked: bool, header: bool) -> None:
    async def scenario(house: House) -> None:
        assert house.server.admin_url is not None
        status, text = await ask(house.server.admin_url, "/hooks/block?ms=1", header=header)
        assert status == 404
        assert "no such page" in text

    serve(scenario, store="memory", admin_port=0, test_hooks=hooked)


def test_no_hook_is_on_the_public_port(serve) -> None:
    async def scenario(house: House) -> None:
        port = house.server.url.rsplit(":", 1)[1].split("/")[0]
        assert (await ask(f"http://127.0.0.1:{port}", "/hooks/block?ms=1"))[0] == 404

    serve(scenario, store="memory", test_hooks=True)

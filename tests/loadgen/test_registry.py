"""Asking the nodes who is there."""

from __future__ import annotations

import asyncio
import json

import pytest

from loadgen.registry import ask, follow, read

NODE = {"name": "n1", "url": "ws://h", "state": "up", "connections": 7, "room": 90}


def page(body: object, *, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n\r\n{json.dumps(body)}".encode()


@pytest.mark.parametrize(
    ("answer", "news"),
    [
        pytest.param(page([NODE]), {"n1": ("up", 7)}, id="one"),
        pytest.param(
            page([NODE, NODE | {"name": "n2", "state": "draining", "connections": 0}]),
            {"n1": ("up", 7), "n2": ("draining", 0)},
            id="two",
        ),
        pytest.param(page([]), {}, id="nobody"),
        pytest.param(page([NODE], status="503 Service Unavailable"), {}, id="not well"),
        pytest.param(page([{"name": "n1"}]), {}, id="a key is missing"),
        pytest.param(page([NODE | {"connections": "many"}]), {}, id="no number"),
        pytest.param(page([NODE | {"connections": -3}]), {"n1": ("up", 0)}, id="below nought"),
        pytest.param(page({"node": 1}), {}, id="no list"),
        pytest.param(page(3), {}, id="a number"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n<html>", {}, id="no JSON"),
        pytest.param(b"\xff\xfe", {}, id="no HTTP"),
        pytest.param(b"", {}, id="nothing"),
    ],
)
def test_what_cannot_be_read_is_no_news(answer, news):
    assert read(answer) == news


def test_the_next_node_is_asked_when_one_does_not_answer():
    async def talk() -> tuple[object, object]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"GET /nodes HTTP/1.0\r\n")
            writer.write(page([NODE]))
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        silent = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
        nobody = f"127.0.0.1:{silent.sockets[0].getsockname()[1]}"
        heard: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(follow([f"{host}:{port}", nobody], heard.set_result))
        news = await asyncio.wait_for(heard, 30)
        task.cancel()
        alone = await ask(nobody)
        server.close()
        silent.close()
        return news, alone

    assert asyncio.run(talk()) == ({"n1": ("up", 7)}, {})

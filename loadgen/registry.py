"""Asks the nodes who is there: GET /nodes, once a second, of one node after the other.

Any node knows all of them; one that does not answer, or says what cannot be read, is passed over. The answer
is a JSON array of objects that hold at least ``name``, ``state`` and ``connections``.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

PERIOD_S: Final = 1.0
ANSWER_S: Final = 0.5
_MOST_BYTES: Final = 1 << 20
News = Mapping[str, tuple[str, int]]  # (state, connections) by name of node


async def follow(pages: Sequence[str], heard: Callable[[News], None], *, period_s: float = PERIOD_S) -> None:
    """Ask for ever.

    Args:
        pages: HOST:PORT of each node.
        heard: called with what a node has said.
    """
    turn = 0
    while True:
        for _ in pages:
            turn += 1
            if news := await ask(pages[turn % len(pages)]):
                heard(news)
                break
        await asyncio.sleep(period_s)


async def ask(page: str, *, timeout_s: float = ANSWER_S) -> News:
    """What one node says; {} when it says nothing that can be read."""
    try:
        async with asyncio.timeout(timeout_s):
            return read(await _get(page))
    except OSError:  # TimeoutError is one
        return {}


async def _get(page: str) -> bytes:
    """The whole answer to a GET of /nodes, head and body, in HTTP/1.0: it ends with the connection."""
    host, _, port = page.rpartition(":")
    reader, writer = await asyncio.open_connection(host.strip("[]"), int(port), limit=_MOST_BYTES)
    try:
        writer.write(f"GET /nodes HTTP/1.0\r\nHost: {page}\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while len(answer) < _MOST_BYTES and (piece := await reader.read(65_536)):
            answer += piece
        return answer
    finally:
        writer.close()


def read(answer: bytes) -> News:
    """The news in an answer; {} when it is not one."""
    head, _, body = answer.partition(b"\r\n\r\n")
    if b" 200 " not in head.partition(b"\r\n")[0] + b" ":
        return {}
    try:
        nodes: Any = json.loads(body)
        return {str(node["name"]): (str(node["state"]), max(0, int(node["connections"]))) for node in nodes}
    except (ValueError, TypeError, KeyError):
        return {}

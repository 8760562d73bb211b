"""Talking in a terminal: what is shown, and a whole conversation with a real daemon."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from chatd.chat import chat, printable, shown
from chatd.client import Client, GapNotice, Message
from chatd.config import Config
from chatd.server import Server


def message(text: object, **fields: object) -> Message:
    given = {
        "channel": "room:1",
        "epoch": "E",
        "serial": 7,
        "id": "m",
        "user": "ann",
        "time_ms": 0,
        "kind": "text",
    }
    return Message(**{**given, "raw": msgspec.json.encode(text), **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("item", "line"),
    [
        pytest.param(message({"text": "hi"}), "12:00  ann  hi", id="a text"),
        pytest.param(message("hi"), "12:00  ann  hi", id="a bare string"),
        pytest.param(message({"x": 1}), '12:00  ann  {"x":1}', id="something else"),
        pytest.param(
            message({"text": "ho"}, kind="edit", to=3), "12:00  ann  (changed message 3) ho", id="edit"
        ),
        pytest.param(
            message({"text": "a\x1b[2J\nb"}), "12:00  ann  a\\u001b[2J\\u000ab", id="control characters"
        ),
        pytest.param(
            message({"text": "\u202eevil"}, user="\x07"), "12:00  \\u0007  \\u202eevil", id="direction"
        ),
        pytest.param(
            GapNotice(channel="room:1", why="trimmed", from_=("E", 3), to=("E", 15)),
            "        – 12 messages are no longer available –",
            id="gap",
        ),
        pytest.param(
            GapNotice(channel="room:1", why="epoch", from_=("E", 3), to=("F", 0)),
            "        – some messages are no longer available –",
            id="another epoch",
        ),
    ],
)
def test_an_item_is_one_line(item: Message | GapNotice, line: str) -> None:
    assert shown(item, lambda _: "12:00") == line


def test_printable_text_stays_as_it_is() -> None:
    assert printable("grüß dich, 世界 👍") == "grüß dich, 世界 👍"


async def lines(*told: str) -> AsyncIterator[str]:
    for line in told:
        yield line


def test_what_is_typed_arrives_and_what_was_said_before_is_shown(tmp_path: Path) -> None:
    async def conversation() -> tuple[list[str], list[str]]:
        server = Server(Config(port=0, http_port="0", data=str(tmp_path / "data")))
        await server.start()
        try:
            ann: list[str] = []
            await chat(
                Client(server.url, client="ann"), "room:1", lines("hi", "", "there"), ann.append, last=0
            )
            bob: list[str] = []
            await chat(Client(server.url, client="bob"), "room:1", lines("hello"), bob.append, last=10)
        finally:
            await server.stop()
        return ann, bob

    ann, bob = asyncio.run(conversation())
    assert [line[7:] for line in ann] == ["ann  hi", "ann  there"]
    assert [line[7:] for line in bob] == ["ann  hi", "ann  there", "bob  hello"]

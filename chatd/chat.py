"""``chatd chat CHANNEL``: talk in a terminal, with ``chatd.client``.

Lines of standard input are published; what arrives is printed, a line each. At the end of input it
waits for the last answers and leaves. Names and texts come from strangers, so control characters
are shown and never obeyed.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable

import msgspec

from .client import Client, GapNotice, Last, Message, Subscription
from .client_inbox import Item
from .protocol.errors import ChatdError
from .protocol.messages import Position

Print = Callable[[str], None]
FAREWELL_S = 10.0  # for what was said to come back, at the end of input
_EDITS = {"edit": "changed", "delete": "deleted", "react": "reacted to"}


def shown(item: Item, clock: Callable[[int], str]) -> str:
    """One line for one item of a stream.

    Args:
        clock: local time of day for milliseconds since 1970.
    """
    if isinstance(item, GapNotice):
        missing = item.missing
        lost = "some messages are" if missing is None else f"{len(missing):,} messages are"
        return f"        – {lost} no longer available –"
    line = f"{clock(item.time_ms)}  {printable(item.user)}  "
    if item.kind in _EDITS:
        return line + f"({_EDITS[item.kind]} message {item.to}) {printable(_text(item.raw))}".rstrip()
    return line + printable(_text(item.raw))


def printable(text: str) -> str:
    """The text on one line, with every control or direction character as its code."""
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)


def time_of_day(ms: int) -> str:
    return time.strftime("%H:%M", time.localtime(ms / 1000))


def _text(data: bytes) -> str:
    try:
        value = msgspec.json.decode(data)
    except msgspec.DecodeError:
        return ""
    if isinstance(value, dict) and isinstance(value.get("text"), str):
        return str(value["text"])
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


async def chat(client: Client, channel: str, lines: AsyncIterator[str], out: Print, *, last: int) -> None:
    """Talk until ``lines`` end and what was said has been seen.

    Args:
        last: how many of the newest messages to begin with; 0: none.
    Raises:
        ChatdError: the server refuses the channel, or cannot be reached.
    """
    async with client:
        room = await client.subscribe(channel, from_=Last(last) if last else "new")
        seen = asyncio.Condition()
        reader = asyncio.create_task(_read(room, out, seen))
        saying: list[asyncio.Task[Position | None]] = []
        try:
            async for line in lines:
                if line.strip():
                    saying.append(asyncio.create_task(_say(client, channel, line, out)))
            said = [place for place in await asyncio.gather(*saying) if place is not None]
            async with asyncio.timeout(FAREWELL_S), seen:
                await seen.wait_for(lambda: not said or room.position >= max(said))
        except TimeoutError:
            out("        – left before everything that was said had come back –")
        finally:
            reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reader


async def _read(room: Subscription, out: Print, seen: asyncio.Condition) -> None:
    async for item in room:
        if isinstance(item, Message | GapNotice):
            out(shown(item, time_of_day))
        async with seen:
            seen.notify_all()


async def _say(client: Client, channel: str, line: str, out: Print) -> Position | None:
    try:
        return (await client.publish(channel, {"text": line})).position
    except ChatdError as refused:
        out(f"        – not sent: {printable(line)}: {printable(refused.reason)} –")
        return None


async def typed(source: Iterable[str]) -> AsyncIterator[str]:
    """Lines of a blocking source, read in a thread that does not keep the process alive."""
    loop, queue = asyncio.get_running_loop(), asyncio.Queue[str | None]()

    def pump() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
            for line in source:
                loop.call_soon_threadsafe(queue.put_nowait, line.rstrip("\n"))
            loop.call_soon_threadsafe(queue.put_nowait, None)

    threading.Thread(target=pump, daemon=True).start()
    while (line := await queue.get()) is not None:
        yield line


def talk(url: str, channel: str, *, name: str | None, token: str | None, last: int) -> None:
    """Run ``chat`` on this terminal."""
    client = Client(url, client=name, token=token)

    async def session() -> None:
        await chat(client, channel, typed(sys.stdin), lambda line: print(line, flush=True), last=last)

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(session())

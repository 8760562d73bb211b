"""The client and a real chatd, on real sockets, while the daemon is killed under them."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chatd.client import Ack, Client, GapNotice, Message, Subscription
from tests.broker import free_port

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]
ROOM = "room:1"
QUICK = (0.02, 0.2)  # s: the daemon is back soon, and so are we


class Daemon:
    """One chatd process after another, on the same port and data."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        self.log = directory / "chatd.log"
        self.file = directory / "chatd.json"
        self.settings = {
            "port": free_port(),
            "http_port": 0,
            "data": str(directory / "data"),
            "drain_s": 2,
            **settings,
        }
        self.process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def start(self) -> None:
        """Spawn, and wait until it says where it listens."""
        self.file.write_text(json.dumps(self.settings))
        command = [sys.executable, "-m", "chatd", "--config", str(self.file)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.PIPE)
        assert self.process.stderr is not None
        line = self.process.stderr.readline().decode()
        assert "url=" in line, line + self.process.stderr.read().decode()
        self.url = next(word.removeprefix("url=") for word in line.split() if word.startswith("url="))
        self.settings["port"] = int(self.url.rsplit(":", 1)[1].partition("/")[0])

    def stop(self, number: signal.Signals) -> int:
        """Send a signal and wait for the end; returns the exit status."""
        assert self.process is not None
        self.process.send_signal(number)
        status = self.process.wait(40)
        if self.process.stderr is not None:
            self.process.stderr.close()
        self.process = None
        return status

    async def restart(self, number: signal.Signals) -> int:
        status = await asyncio.to_thread(self.stop, number)
        await asyncio.to_thread(self.start)
        return status


@pytest.fixture
def make_daemon(tmp_path: Path) -> Iterator[Any]:
    daemons = []

    def make(**settings: Any) -> Daemon:
        daemon = Daemon(tmp_path, **settings)
        daemons.append(daemon)
        daemon.start()
        return daemon

    yield make
    for daemon in daemons:
        if daemon.process is not None:
            daemon.stop(signal.SIGKILL)


async def publish_all(writer: Client, n: int, *, at_once: int) -> list[Ack]:
    """Publish 0 … n − 1, some at a time, in order."""
    acks: list[Ack] = []
    for first in range(0, n, at_once):
        batch = [writer.publish(ROOM, number) for number in range(first, min(n, first + at_once))]
        acks += await asyncio.gather(*batch)
    return acks


async def read(room: Subscription, n: int) -> list[Message]:
    """The next n items, none of which may be a gap."""
    found = []
    for _ in range(n):
        item = await anext(room)
        assert isinstance(item, Message), item
        found.append(item)
    return found


def test_kill_and_restart_lose_repeat_and_reorder_nothing(make_daemon: Any) -> None:
    daemon = make_daemon(store="sqlite")
    total = 400

    async def main() -> None:
        async with (
            Client(daemon.url, client="reader", retry_s=QUICK) as reader,
            Client(daemon.url, client="writer", retry_s=QUICK) as writer,
        ):
            room = await reader.subscribe(ROOM)
            writing = asyncio.create_task(publish_all(writer, total, at_once=8))
            seen = await read(room, total // 4)
            assert await daemon.restart(signal.SIGKILL) == -signal.SIGKILL
            seen += await read(room, total // 4)
            assert await daemon.restart(signal.SIGKILL) == -signal.SIGKILL
            seen += await read(room, total - len(seen))
            acks = await writing
            assert [message.data for message in seen] == list(range(total))
            assert [message.serial for message in seen] == list(range(1, total + 1))
            assert [ack.position for ack in acks] == [message.position for message in seen]
            assert len({message.epoch for message in seen}) == 1
            page = await reader.history(ROOM, limit=1000)
            assert [message.id for message in page.messages] == [ack.message for ack in acks]

    asyncio.run(main())


def test_graceful_restart_sends_everybody_away_and_takes_them_back(make_daemon: Any) -> None:
    daemon = make_daemon(store="sqlite")
    total = 200

    async def main() -> None:
        async with (
            Client(daemon.url, client="reader", retry_s=QUICK) as reader,
            Client(daemon.url, client="writer", retry_s=QUICK) as writer,
        ):
            room = await reader.subscribe(ROOM)
            writing = asyncio.create_task(publish_all(writer, total, at_once=8))
            seen = await read(room, total // 2)
            assert await daemon.restart(signal.SIGTERM) == 0
            seen += await read(room, total // 2)
            assert [message.data for message in seen] == list(range(total))
            assert [ack.position for ack in await writing] == [message.position for message in seen]

    asyncio.run(main())


def test_memory_that_is_lost_with_the_process_is_declared(make_daemon: Any) -> None:
    daemon = make_daemon(store="memory")

    async def main() -> None:
        async with Client(daemon.url, client="alice", retry_s=QUICK) as alice:
            room = await alice.subscribe(ROOM)
            await publish_all(alice, 5, at_once=5)
            before = await read(room, 5)
            await daemon.restart(signal.SIGKILL)
            ack = await alice.publish(ROOM, "after")
            gap = await anext(room)
            assert isinstance(gap, GapNotice)
            assert (gap.why, gap.from_, gap.to) == ("epoch", before[-1].position, (ack.position[0], 0))
            assert [message.data for message in await read(room, 1)] == ["after"]

    asyncio.run(main())


def test_what_retention_let_go_of_is_declared_exactly(make_daemon: Any) -> None:
    daemon = make_daemon(store="sqlite", retain_n=10, dedupe_s=0)

    async def main() -> None:
        async with Client(daemon.url, client="alice", retry_s=QUICK, buffer=2) as alice:
            room = await alice.subscribe(ROOM)
            acks = await publish_all(alice, 50, at_once=10)
            for _ in range(300):  # chatd trims about once a second
                if (await alice.history(ROOM)).floor == 41:
                    break
                await asyncio.sleep(0.1)
            last = 0
            while isinstance(item := await anext(room), Message):
                assert item.serial == last + 1
                last = item.serial
            assert last >= 2, "what was in the buffer"
            assert (item.why, item.missing) == ("trimmed", range(last + 1, 41))
            rest = await read(room, 10)
            assert [message.position for message in rest] == [ack.position for ack in acks[40:]]

    asyncio.run(main())

"""Slow and stalled readers among many: the others do not feel them, and they cost what is promised."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest
import uvloop

from chatd.flush import SLOW_BYTES
from tests.chatd.process import Daemon
from tests.chatd.reader import Reader, follow

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

READERS = 200
SLOW, STALLED = 4, 2  # 2 % and 1 %
MESSAGES, EVERY_S, SIZE = 250, 0.04, 5000
TRIES = 3  # a stall of the machine falls into one of them; what chatd does to the others is in all
PATIENCE_S = 60.0


def has_all(reader: Reader) -> bool:
    return len(reader.serials()) == MESSAGES


def has_last(reader: Reader) -> bool:
    return reader.serials()[-1] == MESSAGES


class Group:
    """One daemon, its publisher and its 200 readers."""

    def __init__(self, daemon: Daemon, slow: int, stalled: int) -> None:
        self.daemon = daemon
        self.count = slow, stalled
        self.late_s: list[float] = []
        self.most_queued = 0.0
        self.most_rss = 0

    async def come(self) -> None:
        self.daemon.start("--ping-s", "3600", "--slow-s", "3600")  # none is cut for this machine being slow
        slow, stalled = self.count
        self.publisher = await Reader.dial(self.daemon.port, "ann")
        self.readers = [
            await Reader.dial(
                self.daemon.port, f"r{n}", receive_bytes=4096 if n < slow + stalled else None, room="new"
            )
            for n in range(READERS)
        ]
        self.slow, self.stalled = self.readers[:slow], self.readers[slow : slow + stalled]
        self.quick = self.readers[slow + stalled :]
        assert self.daemon.process is not None
        self.process = psutil.Process(self.daemon.process.pid)
        self.rss_before = self.process.memory_info().rss

    async def publish(self, begin: float) -> None:
        """Messages at fixed times; each says in its data when it was due."""
        loop = asyncio.get_running_loop()
        for number in range(MESSAGES):
            due = begin + number * EVERY_S
            await asyncio.sleep(max(0.0, due - loop.time()))
            self.publisher.publish(f"m{number}", data=f"{due:.6f} " + "x" * SIZE)

    async def watch(self, until: asyncio.Future[tuple[None, None]]) -> None:
        while not until.done():
            _, text = await self.daemon.page("/metrics")
            self.most_queued = max(self.most_queued, figure(text, "chatd_queue_bytes"))
            self.most_rss = max(self.most_rss, self.process.memory_info().rss)
            await asyncio.sleep(0.2)

    async def dawdle(self, until: asyncio.Future[tuple[None, None]]) -> None:
        """The slow ones read for a moment now and then; the stalled ones never do."""
        for reader in (*self.slow, *self.stalled):
            reader.pause()
        while not until.done():
            await asyncio.sleep(0.5)
            for reader in self.slow:
                reader.resume()
            await asyncio.sleep(0)
            for reader in self.slow:
                reader.pause()

    def quantile(self, q: float) -> float:
        late = sorted(
            at - float(frame["data"].split()[0])
            for reader in self.quick
            for frame, at in zip(reader.frames, reader.times, strict=True)
            if frame["type"] == "message"
        )
        assert len(late) == MESSAGES * len(self.quick)
        return late[int(q * (len(late) - 1))]


def figure(text: str, name: str) -> float:
    found = re.search(rf"^{name} (\S+)$", text, re.M)
    assert found, name
    return float(found[1])


@pytest.fixture
def make_daemon(tmp_path: Path) -> Iterator[Callable[[], Daemon]]:
    made: list[Daemon] = []

    def make() -> Daemon:
        made.append(Daemon(tmp_path / f"d{len(made)}"))
        return made[-1]

    yield make
    for one in made:
        if one.process is not None:
            one.process.kill()
            one.process.communicate()


def test_slow_and_stalled_readers_do_not_hurt_the_others_and_stay_within_their_memory(
    make_daemon: Callable[[], Daemon],
) -> None:
    async def once() -> list[str]:
        tried, control = Group(make_daemon(), SLOW, STALLED), Group(make_daemon(), 0, 0)
        try:
            return await compare(tried, control)
        finally:
            await Reader.hang_up()

    felt: list[list[str]] = []
    while not felt or (felt[-1] and len(felt) < TRIES):
        felt.append(uvloop.run(once()))
    assert not felt[-1], felt


async def compare(tried: Group, control: Group) -> list[str]:
    """Both groups get the same load in the same seconds. Returns by how much the others felt it; []: not."""
    for group in (tried, control):
        await group.come()
    begin = asyncio.get_running_loop().time() + 0.2
    publishing = asyncio.ensure_future(asyncio.gather(tried.publish(begin), control.publish(begin)))
    await asyncio.gather(
        publishing, tried.watch(publishing), control.watch(publishing), tried.dawdle(publishing)
    )
    for group in (tried, control):
        for reader in group.quick:
            await reader.until(partial(has_all, reader), PATIENCE_S)
    _, text = await tried.daemon.page("/metrics")
    print(*re.findall(r"^chatd_(?:slow|queue).*$", text, re.M), sep="\n")
    felt = []
    for q, factor, more_s in ((0.5, 1.5, 0.01), (0.9, 1.5, 0.03), (0.99, 2.0, 0.1)):
        ours, theirs = tried.quantile(q), control.quantile(q)
        told = f"p{100 * q:g}: {1000 * ours:.1f} ms with, {1000 * theirs:.1f} ms without"
        print(told)
        if ours > factor * theirs + more_s:
            felt.append(told)
    _, text = await tried.daemon.page("/metrics")
    assert figure(text, "chatd_slow_entered_total") >= SLOW + STALLED
    assert figure(text, "chatd_slow_consumers") >= STALLED
    assert tried.most_queued <= (SLOW + STALLED) * (SLOW_BYTES + SIZE + 200)
    grown, usual = tried.most_rss - tried.rss_before, control.most_rss - control.rss_before
    print(f"queued {tried.most_queued:.0f} bytes; RSS grew {grown >> 10} KiB, without {usual >> 10} KiB")
    assert grown <= usual + 8 * 1024 * 1024
    for reader in (*tried.slow, *tried.stalled):
        reader.resume()
    for reader in tried.readers:
        await reader.until(partial(has_last, reader), PATIENCE_S)
        assert follow(reader.frames, "room") == (MESSAGES, [])
    _, text = await tried.daemon.page("/metrics")
    assert figure(text, "chatd_gaps_total") == 0
    for _ in range(1000):
        if not figure((await tried.daemon.page("/metrics"))[1], "chatd_slow_consumers"):
            break
        await asyncio.sleep(0.05)
    _, text = await tried.daemon.page("/metrics")
    assert figure(text, "chatd_slow_consumers") == 0
    return felt

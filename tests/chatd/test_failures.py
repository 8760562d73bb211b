"""The failures of PROTOCOL.md § Operations, each with a process that is killed, stopped or starved."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import pytest
import uvloop

from tests.chatd.process import Daemon
from tests.chatd.reader import Frame, Reader

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(90)]


def run(scene: Coroutine[Any, Any, None]) -> None:
    async def main() -> None:
        try:
            await scene
        finally:
            await Reader.hang_up()

    uvloop.run(main())


def position(reader: Reader) -> list[Any]:
    """Where a client resumes: after the last message that it has."""
    (opened,) = reader.of("subscribed")
    return [opened["position"][0], (reader.serials() or [opened["start"]])[-1]]


async def back(daemon: Daemon, before: Reader, name: str) -> Reader:
    """A client comes back and resumes."""
    after = await Reader.dial(daemon.port, name, room=position(before))
    assert after.of("subscribed")[0]["resumed"]
    assert after.count("gap") == 0
    return after


@pytest.mark.parametrize(
    ("mutant", "acked", "delivered", "duplicate"),
    [
        pytest.param("die-before-commit", False, 0, False, id="before persist"),
        pytest.param("die-after-commit", False, 0, True, id="after persist, before ack"),
        pytest.param("die-before-fanout", True, 0, True, id="after ack, before fan-out"),
        pytest.param("die-mid-fanout", True, 2, True, id="mid fan-out"),
    ],
)
def test_wherever_it_dies_there_is_one_message_and_each_subscriber_has_it_once(
    daemon: Daemon, mutant, acked, delivered, duplicate
) -> None:
    async def scene() -> None:
        daemon.start()
        publisher = await Reader.dial(daemon.port, "ann")
        for number in range(1, 6):
            publisher.publish(f"m{number}")
        await publisher.until(lambda: publisher.count("ack") == 5)
        daemon.send(signal.SIGKILL)

        daemon.start("--test-hooks", "--mutant", mutant)
        subscribers = [await Reader.dial(daemon.port, f"s{n}", room={"last": 2}) for n in range(4)]
        publisher = await Reader.dial(daemon.port, "ann")
        publisher.publish("m6")
        assert await daemon.ended() == -signal.SIGKILL
        for reader in (publisher, *subscribers):
            await reader.lost.wait()
        assert publisher.acked == ({"m6": 6} if acked else {})
        assert sum(reader.serials() == [4, 5, 6] for reader in subscribers) == delivered
        assert sum(reader.serials() == [4, 5] for reader in subscribers) == 4 - delivered

        daemon.start()
        again = [await back(daemon, reader, f"s{n}") for n, reader in enumerate(subscribers)]
        publisher = await Reader.dial(daemon.port, "ann")
        publisher.publish("m6")
        publisher.publish("m7")
        await publisher.until(lambda: publisher.count("ack") == 2)
        assert publisher.acked == {"m6": 6, "m7": 7}
        assert [ack["duplicate"] for ack in publisher.of("ack")] == [duplicate, False]
        for before, after in zip(subscribers, again, strict=True):
            await after.until(lambda reader=after: 7 in reader.serials())  # type: ignore[misc]
            assert before.serials() + after.serials() == [4, 5, 6, 7]

    run(scene())


class Lives:
    """A publisher with many publishes under way, a follower, and a daemon that is killed under them."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.rng = random.Random(3)
        self.sent = 0
        self.open: dict[str, None] = {}  # publishes without an answer, oldest first
        self.places: dict[str, int] = {}
        self.followed: list[Frame] = []
        self.after_persist = self.before_persist = 0

    async def live(self) -> None:
        """One life, to a kill at a random moment."""
        self.daemon.start()
        follower = await Reader.dial(
            self.daemon.port,
            "bob",
            room=[self.epoch, len(self.followed)] if self.followed else "first",
        )
        self.epoch = follower.of("subscribed")[0]["position"][0]
        publisher = await Reader.dial(self.daemon.port, "ann")
        repeated = set(self.open)
        for message in self.open:
            publisher.publish(message)
        enough = self.rng.randrange(50, 400)
        seen = 0
        with suppress(ConnectionError):
            while True:
                while len(self.open) < 64:
                    self.sent += 1
                    self.open[f"m{self.sent}"] = None
                    publisher.publish(f"m{self.sent}")
                await publisher.until(lambda so_far=seen: publisher.count("ack") > so_far)  # type: ignore[misc]
                seen = self.note(publisher, repeated, seen)
                if seen >= enough:
                    self.daemon.signal(signal.SIGKILL)
                    enough = 10**9
        assert await self.daemon.ended() == -signal.SIGKILL
        await follower.lost.wait()
        self.note(publisher, repeated, seen)
        self.followed += follower.of("message")

    def note(self, publisher: Reader, repeated: set[str], seen: int) -> int:
        acks = publisher.of("ack")
        for ack in acks[seen:]:
            message, serial = ack["message"], ack["position"][1]
            assert self.places.setdefault(message, serial) == serial, "an ack is for good"
            self.open.pop(message, None)
            if message in repeated:
                self.after_persist += ack["duplicate"]
                self.before_persist += not ack["duplicate"]
            else:
                assert not ack["duplicate"]
        return len(acks)


def test_killed_at_random_under_load_no_ack_is_lost_and_no_serial_used_twice(daemon: Daemon) -> None:
    async def scene() -> None:
        lives = Lives(daemon)
        count = 0
        while count < 5 or not (lives.after_persist and lives.before_persist):
            await lives.live()
            count += 1
            assert count < 25, "both kinds of death should have come by now"
        daemon.start()
        reader = await Reader.dial(daemon.port, "eve", room="first")
        log = {frame["serial"]: frame["message"] for frame in reader.of("message")}
        assert list(log) == list(range(1, len(log) + 1))
        assert len(set(log.values())) == len(log), "no message is there twice"
        assert {log[serial]: serial for serial in lives.places.values()} == lives.places
        assert [frame["serial"] for frame in lives.followed] == list(range(1, len(lives.followed) + 1))
        assert all(log[frame["serial"]] == frame["message"] for frame in lives.followed)

    run(scene())


@pytest.mark.parametrize(
    "file_bytes", [pytest.param(400_000, id="full"), pytest.param(0, id="nothing can be written")]
)
def test_a_store_that_cannot_write_is_503_and_not_ready_the_rest_goes_on_and_it_recovers(
    daemon: Daemon, file_bytes
) -> None:
    async def scene() -> None:
        daemon.start("--ping-s", "0.3", "--pong-s", "5")
        live = await Reader.dial(daemon.port, "bob", room="new")
        publisher = await Reader.dial(daemon.port, "ann")
        publisher.publish("m1")
        await live.until(lambda: live.serials() == [1])
        daemon.limit(file_bytes)
        sent = 1
        while not publisher.count("error"):
            sent += 1
            publisher.publish(f"m{sent}", data="x" * 20_000)
            await publisher.until(lambda n=sent: publisher.count("ack") + publisher.count("error") >= n)  # type: ignore[misc]
        refused = publisher.of("error")[0]
        assert refused["code"] in (503, 504)
        assert refused["temporary"]
        stored = publisher.count("ack")
        publisher.publish(f"m{sent}", data="x" * 20_000)
        await publisher.until(lambda: publisher.count("error") == 2)
        assert (publisher.of("error")[1]["code"], publisher.of("error")[1]["definite"]) == (503, True)
        assert (await daemon.page("/readyz"))[0] == 503
        assert (await daemon.page("/healthz"))[0] == 200
        await live.until(lambda: len(live.serials()) == stored)
        late = await Reader.dial(daemon.port, "eve", room="first")
        assert late.serials() == live.serials() == list(range(1, stored + 1)), "reading goes on"

        daemon.limit(-1)
        await daemon.until_ready(200)
        publisher.publish(f"m{sent}", data="x" * 20_000)
        await publisher.until(lambda: f"m{sent}" in publisher.acked)
        publisher.publish("last")
        await publisher.until(lambda: "last" in publisher.acked)
        assert publisher.acked[f"m{sent}"] == stored + 1
        for reader in (live, late):
            await reader.until(lambda r=reader: r.serials()[-1:] == [stored + 2])  # type: ignore[misc]
            assert reader.serials() == list(range(1, stored + 3))
            assert reader.code is None
        assert daemon.send(signal.SIGTERM) == 0
        assert "store_failed" in daemon.log
        assert "store_recovered" in daemon.log

    run(scene())


def test_stopped_for_longer_than_clients_wait_it_goes_on_and_blames_nobody(daemon: Daemon) -> None:
    ping_s, pong_s = 0.5, 0.3

    async def scene() -> None:
        daemon.start("--ping-s", str(ping_s), "--pong-s", str(pong_s))
        publisher = await Reader.dial(daemon.port, "ann")
        patient = [await Reader.dial(daemon.port, f"p{n}", room="new") for n in range(5)]
        hasty = [await Reader.dial(daemon.port, f"h{n}", room="new") for n in range(5)]
        publisher.publish("m1")
        for reader in (*patient, *hasty):
            await reader.until(lambda r=reader: r.serials() == [1])  # type: ignore[misc]
        daemon.signal(signal.SIGSTOP)
        publisher.publish("m2")
        for reader in hasty:
            await reader.silent(ping_s + pong_s)
            reader.abort()
        coming = [asyncio.ensure_future(back(daemon, reader, f"h{n}")) for n, reader in enumerate(hasty)]
        await publisher.silent(2 * (ping_s + pong_s))
        daemon.signal(signal.SIGCONT)
        again = [await one for one in coming]
        await publisher.until(lambda: publisher.count("ack") == 2)
        publisher.publish("m3")
        for before, after in zip(hasty, again, strict=True):
            await after.until(lambda r=after: 3 in r.serials())  # type: ignore[misc]
            assert before.serials() + after.serials() == [1, 2, 3]
        for reader in patient:
            await reader.until(lambda r=reader: r.pings > 3 and 3 in r.serials())  # type: ignore[misc]
            assert (reader.serials(), reader.code) == ([1, 2, 3], None)
        _, text = await daemon.page("/metrics")
        assert 'chatd_closed_total{code="4004"}' not in text

    run(scene())


def test_a_drain_under_load_answers_or_leaves_open_and_loses_nothing(daemon: Daemon) -> None:
    async def scene() -> None:
        daemon.start("--drain-s", "5", "--drain-per-s", "0.5")
        crowd = [await Reader.dial(daemon.port, f"r{n}", room="new") for n in range(30)]
        publishers = [await Reader.dial(daemon.port, f"p{n}") for n in range(4)]
        stopping: asyncio.Future[int] | None = None
        sent = 0
        while not all(one.lost.is_set() for one in publishers):
            for number, one in enumerate(publishers):
                if not one.lost.is_set() and one.count("goodbye") == 0:
                    one.publish(f"{number}-{sent}")
            sent += 1
            if sent <= 100:
                await publishers[0].until(lambda n=sent: publishers[0].count("ack") >= n)  # type: ignore[misc]
            if sent == 100:
                daemon.signal(signal.SIGTERM)
                stopping = asyncio.ensure_future(daemon.ended())
                await daemon.until_ready(503)
                with pytest.raises(AssertionError, match="503"):
                    await Reader.upgrade_only(daemon.port)
            await asyncio.sleep(0)
        assert stopping is not None
        assert await stopping == 0
        for one in (*crowd, *publishers):
            await one.lost.wait()
            assert (one.code, one.count("goodbye")) == (4101, 1)
        # A publish that came after the goodbye was sent may have no answer; one that came before has.
        acked = {message: serial for one in publishers for message, serial in one.acked.items()}
        assert not [error for one in publishers for error in one.of("error") if not error["definite"]]
        daemon.start()
        reader = await Reader.dial(daemon.port, "eve", room="first")
        log = {frame["message"]: frame["serial"] for frame in reader.of("message")}
        assert acked.items() <= log.items()
        for one in crowd:
            assert one.serials() == list(range(1, len(one.serials()) + 1))
            assert len(one.serials()) > 300, "it was served until its goodbye"

    run(scene())

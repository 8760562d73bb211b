"""Leaving in good order: the pace, and a daemon with many connections that stops."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from chatd.config import Config
from chatd.drain import STEP_S, spread_ms, told
from chatd.server import Server
from tests.chatd.reader import Reader


@pytest.mark.parametrize(
    ("count", "share_per_s", "elapsed_s", "expected"),
    [
        pytest.param(1, 0.25, 0.0, 1, id="a single one goes at once"),
        pytest.param(0, 0.25, 5.0, 0, id="nobody"),
        pytest.param(1000, 0.1, 0.0, 5, id="the first step"),
        pytest.param(1000, 0.1, 5.0, 505, id="half way"),
        pytest.param(1000, 0.1, 10.0, 1000, id="all"),
        pytest.param(1000, 0.1, 99.0, 1000, id="never more than all"),
    ],
)
def test_goodbyes_come_at_a_steady_pace(count, share_per_s, elapsed_s, expected) -> None:
    assert told(count, share_per_s, elapsed_s) == expected


def test_no_step_says_goodbye_to_more_than_its_share() -> None:
    steps = [told(8000, 0.25, n * STEP_S) for n in range(100)]
    assert max(later - sooner for sooner, later in pairwise(steps)) <= 8000 * 0.25 * STEP_S + 1
    assert steps[round(4 / STEP_S)] == 8000


def test_clients_are_spread_over_what_another_node_can_take() -> None:
    assert spread_ms(10) == (0, 250)
    assert spread_ms(8000) == (0, 4000)


async def turns_until(done: Callable[[], bool]) -> None:
    """Let the loop turn until ``done``."""
    for _ in range(100_000):
        if done():
            return
        await asyncio.sleep(0)
    raise AssertionError("never done")


async def _start(data: Path, **options: float) -> tuple[Server, int]:
    server = Server(Config(port=0, data=data, **options))  # type: ignore[arg-type]
    await server.start()
    return server, int(server.url.rsplit(":", 1)[1].split("/")[0])


def test_goodbyes_are_paced_and_each_is_followed_by_its_close(tmp_path: Path) -> None:
    async def main() -> None:
        server, port = await _start(tmp_path, drain_s=10, drain_per_s=1.0)
        readers = [await Reader.dial(port, f"r{n}") for n in range(40)]
        loop = asyncio.get_running_loop()
        began = loop.time()
        await server.stop()
        assert 0.8 < loop.time() - began < 10
        for reader in readers:
            await reader.lost.wait()
            assert [frame["type"] for frame in reader.frames] == ["connected", "goodbye"]
            assert reader.frames[-1]["code"] == reader.code == 4101
            assert reader.frames[-1]["after_ms"] == [0, 250]
        times = sorted(reader.times[-1] - began for reader in readers)
        assert times[19] > 0.3, "half of them are still served by then"
        Reader.everybody.clear()

    asyncio.run(main())


def test_what_is_in_flight_is_acked_before_the_close(tmp_path: Path) -> None:
    async def main() -> None:
        server, port = await _start(tmp_path, drain_s=10, drain_per_s=1.0)
        quick, late = await Reader.dial(port, "quick"), await Reader.dial(port, "late")
        for reader in (quick, late):
            reader.publish("m1")
        await quick.until(lambda: quick.count("ack") == 1)
        await late.until(lambda: late.count("ack") == 1)
        gate = threading.Event()
        server.store._writer.submit(gate.wait)  # type: ignore[attr-defined]  # the disk takes its time
        quick.publish("m2")
        (writer,) = [one for one in server.connections.values() if one.session.user == "quick"]
        await turns_until(lambda: writer.session.in_flight == 1)
        stop = asyncio.ensure_future(server.stop())
        await late.lost.wait()
        assert late.code == 4101
        assert not server.ready
        assert (page := server.page("/readyz")) is not None
        assert page.status == 503
        assert server.refuse("127.0.0.1") is not None
        assert quick.code is None, "it still waits for its ack"
        gate.set()
        await quick.lost.wait()
        assert [frame["type"] for frame in quick.frames][-2:] == ["goodbye", "ack"]
        assert (quick.code, quick.acked) == (4101, {"m1": 1, "m2": 3})
        await stop
        Reader.everybody.clear()

    asyncio.run(main())


def test_at_the_deadline_who_is_left_is_closed_though_its_publish_has_no_answer(tmp_path: Path) -> None:
    async def main() -> None:
        server, port = await _start(tmp_path, drain_s=0.3, drain_per_s=1.0)
        reader = await Reader.dial(port, "ann")
        gate = threading.Event()
        server.store._writer.submit(gate.wait)  # type: ignore[attr-defined]
        reader.publish("m1")
        (mine,) = server.connections.values()
        await turns_until(lambda: mine.session.in_flight == 1)
        stop = asyncio.ensure_future(server.stop())
        await reader.lost.wait()
        assert (reader.code, reader.count("ack")) == (4101, 0)
        gate.set()
        await stop
        Reader.everybody.clear()

    asyncio.run(main())

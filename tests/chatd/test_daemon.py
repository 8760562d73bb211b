"""The daemon as a process: killed, stopped, started again on the same port and data."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.chatd.process import Daemon

pytestmark = pytest.mark.e2e


class Publisher:
    """Publishes without waiting, and remembers what was acked where."""

    def __init__(self) -> None:
        self.acked: dict[str, tuple[str, int]] = {}
        self.sent: list[str] = []

    async def run(self, url: str, cut: asyncio.Event, *, resend: bool) -> None:
        async with connect(url, proxy=None, ping_interval=None) as ws:
            await ws.send('{"type":"connect","id":0,"client":"ann"}')
            await ws.recv()
            number = 0
            waiting = [message for message in self.sent if message not in self.acked] if resend else []
            try:
                for message in waiting:
                    number += 1
                    await ws.send(self.frame(number, message))
                reading = asyncio.ensure_future(self.read(ws, cut))
                while not reading.done():
                    number += 1
                    self.sent.append(f"m{len(self.sent) + 1}")
                    await ws.send(self.frame(number, self.sent[-1]))
                    await asyncio.sleep(0)
                await reading
            except ConnectionClosed:
                pass

    @staticmethod
    def frame(number: int, message: str) -> str:
        return json.dumps(
            {"type": "publish", "id": number, "channel": "room", "message": message, "data": message}
        )

    async def read(self, ws: Any, cut: asyncio.Event) -> None:
        try:
            async for text in ws:
                frame = json.loads(text)
                if frame.get("type") == "ack":
                    position = tuple(frame["position"])
                    assert self.acked.setdefault(frame["message"], position) == position
                    if len(self.acked) % 200 == 0:
                        cut.set()
        except ConnectionClosed:
            pass


async def history(url: str) -> list[dict[str, Any]]:
    async with connect(url, proxy=None, ping_interval=None, max_size=None) as ws:
        await ws.send('{"type":"connect","id":0,"subscribe":[{"channel":"room","from":"first"}]}')
        frames = []
        while not frames or frames[-1]["type"] != "live":
            frames.append(json.loads(await ws.recv()))
        return [frame for frame in frames if frame["type"] == "message"]


@pytest.mark.timeout(60)
def test_killed_again_and_again_no_acked_message_is_lost_and_no_serial_is_used_twice(daemon: Daemon) -> None:
    publisher = Publisher()
    seen: dict[int, str] = {}
    epochs = set()

    async def follow(url: str) -> None:
        start: Any = "first" if not seen else [next(iter(epochs)), max(seen)]
        async with connect(url, proxy=None, ping_interval=None) as ws:
            wish = {"type": "connect", "id": 0, "subscribe": [{"channel": "room", "from": start}]}
            await ws.send(json.dumps(wish))
            try:
                async for text in ws:
                    frame = json.loads(text)
                    if frame.get("type") == "subscribed":
                        assert frame["resumed"] == bool(seen)
                        epochs.add(frame["position"][0])
                    if frame.get("type") == "message":
                        assert frame["serial"] == len(seen) + 1
                        seen[frame["serial"]] = frame["message"]
            except ConnectionClosed:
                pass

    async def life(url: str) -> None:
        cut = asyncio.Event()
        working = asyncio.gather(publisher.run(url, cut, resend=True), follow(url))
        await cut.wait()
        await asyncio.to_thread(daemon.send, signal.SIGKILL)
        await working

    for _ in range(3):
        asyncio.run(life(daemon.start()))
    log = asyncio.run(history(daemon.start()))
    assert len(epochs) == 1
    assert [frame["serial"] for frame in log] == list(range(1, len(log) + 1))
    placed = {frame["message"]: frame["serial"] for frame in log}
    assert len(placed) == len(log), "no message is there twice"
    assert len(publisher.acked) >= 600
    assert {message: serial for message, (_, serial) in publisher.acked.items()}.items() <= placed.items()
    assert all(log[serial - 1]["message"] == message for serial, message in seen.items())


def test_stopped_by_sigterm_it_says_goodbye_and_goes_on_where_it_was(daemon: Daemon) -> None:
    async def publish(url: str, message: str) -> Any:
        async with connect(url, proxy=None) as ws:
            await ws.send('{"type":"connect","id":0,"client":"ann"}')
            await ws.recv()
            await ws.send(Publisher.frame(1, message))
            return json.loads(await ws.recv())["position"]

    async def until_closed(url: str) -> tuple[list[Any], int | None]:
        async with connect(url, proxy=None) as ws:
            await ws.send('{"type":"connect","id":0}')
            frames = [json.loads(await ws.recv())]
            status = asyncio.ensure_future(asyncio.to_thread(daemon.send, signal.SIGTERM))
            try:
                async for text in ws:
                    frames.append(json.loads(text))
            except ConnectionClosed:
                pass
            assert await status == 0
            return frames, ws.close_code

    url = daemon.start()
    epoch, serial = asyncio.run(publish(url, "one"))
    frames, code = asyncio.run(until_closed(url))
    assert (frames[-1]["type"], frames[-1]["code"], code) == ("goodbye", 4101, 4101)
    assert " stopped " in daemon.log
    assert daemon.start() == url, "the same port at once"
    assert asyncio.run(publish(url, "two")) == [epoch, serial + 1]
    assert asyncio.run(publish(url, "one")) == [epoch, serial]
    assert daemon.send(signal.SIGINT) == 0


def test_on_a_full_disk_it_refuses_publishes_goes_on_serving_and_loses_nothing(daemon: Daemon) -> None:
    acked: dict[str, int] = {}

    async def fill(url: str) -> None:
        async with connect(url, proxy=None) as ws:
            await ws.send('{"type":"connect","id":0,"client":"ann"}')
            await ws.recv()
            refused: list[dict[str, Any]] = []
            number = 0
            while len(refused) < 5:
                number += 1
                message = refused[0]["message"] if refused else f"m{number}"
                frame = {"type": "publish", "id": number, "channel": "room", "message": message}
                await ws.send(json.dumps({**frame, "data": "x" * 10_000}))
                answer = json.loads(await ws.recv())
                if answer["type"] == "ack":
                    acked[message] = answer["position"][1]
                else:
                    refused.append({**answer, "message": message})
        assert all(answer["temporary"] for answer in refused)
        assert {answer["code"] for answer in refused} <= {503, 504}
        assert refused[-1]["code"] == 503, "it knows by now"
        assert len(await history(url)) == len(acked) > 0, "reading goes on"

    asyncio.run(fill(daemon.start(file_bytes=500_000)))
    daemon.send(signal.SIGKILL)
    assert "error store_failed" in daemon.log
    log = asyncio.run(history(daemon.start()))
    assert {frame["message"]: frame["serial"] for frame in log}.items() >= acked.items()
    assert len(log) <= len(acked) + 1, "only the one of unknown outcome may have come"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        pytest.param(["--host", "0.0.0.0"], ["host is '0.0.0.0'"], id="not loopback"),
        pytest.param(
            ["--port", "-1", "--retain-n", "0"], ["port is '-1'", "retain_n is '0'"], id="two faults"
        ),
        pytest.param(["--port", "{port}", "--store", "memory"], ["it is in use"], id="port in use"),
        pytest.param(["--port", "0", "--data", "{data}"], ["another chatd uses it"], id="data in use"),
        pytest.param(["--mutant", "no-dedupe"], ["needs test_hooks"], id="mutant"),
        pytest.param(["--config", "/nowhere.json"], ["cannot be read"], id="config"),
    ],
)
def test_what_cannot_start_says_why_in_one_line_a_fault_and_exits_with_2(
    daemon: Daemon, flags, words
) -> None:
    daemon.start()
    flags = [flag.format(port=daemon.port, data=daemon.directory) for flag in flags]
    done = subprocess.run(
        [sys.executable, "-m", "chatd", *flags], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert len(lines) == len(words)
    assert all(word in line for word, line in zip(words, lines, strict=True))
    assert done.stdout == ""


def test_a_mutant_is_named_in_the_log(daemon: Daemon) -> None:
    daemon.start("--test-hooks", "--mutant", "skip-subscriber:0.5:3")
    assert daemon.send(signal.SIGTERM) == 0
    assert "warning test_hooks mutant=skip-subscriber:0.5:3" in daemon.log

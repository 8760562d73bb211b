"""The example of a driver outside of the package, under the suite that all drivers pass."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from loadgen.drivers import driver_named
from loadgen.drivers.base import Driver
from loadgen.drivers.foreign import VARIABLE, declare, load
from reports.history import GapReason
from tests.conformance.drivers import DriverConformance

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "examples/own_server"


def frame(op: str, **fields: Any) -> bytes:
    return json.dumps({"op": op, **fields}, separators=(",", ":")).encode()


class OwnPeer:
    """The server's side of its protocol."""

    def connected(self, connect_frame: bytes, *, ping_s: float, pong_s: float) -> bytes:
        assert json.loads(connect_frame)["op"] == "hello"
        return frame("welcome", heartbeat_s=ping_s)

    def subscribed(
        self, channel: str, *, epoch: str, start: int, top: int, floor: int, resumed: bool
    ) -> bytes:
        found = [{"seq": seq, "text": f"m{seq}"} for seq in range(start + 1, top + 1)]
        return frame("joined", room=channel, since=start, seq=top, oldest=floor, messages=found)

    def live(self, channel: str, *, epoch: str, serial: int) -> bytes | None:
        return None

    def message(self, channel: str, serial: int, body: bytes) -> bytes:
        return frame("message", room=channel, seq=serial, text=json.loads(body))

    def gap(
        self, channel: str, *, why: GapReason, after: tuple[str, int], to: tuple[str, int]
    ) -> bytes | None:
        return None

    def ack(self, publish_frame: bytes, *, epoch: str, serial: int, duplicate: bool) -> bytes:
        sent = json.loads(publish_frame)
        where = {"room": sent["room"], "nonce": sent["nonce"], "seq": serial}
        return frame("ack", id=sent["id"], **where, again=duplicate)

    def refusal(self, publish_frame: bytes, *, temporary: bool, definite: bool) -> bytes:
        return frame("error", id=json.loads(publish_frame)["id"], code=400, retry=temporary)

    def ping(self) -> bytes:
        return frame("ping")

    def goodbye(self) -> bytes | None:
        return None

    def sent(self, publish_frame: bytes) -> tuple[str, str | None, bytes]:
        sent = json.loads(publish_frame)
        return sent["room"], sent["nonce"], json.dumps(sent["text"]).encode()

    def asked(self, frame: bytes) -> dict[str, Any]:
        join = json.loads(frame)
        since = join.get("since")
        return {join["room"]: "new" if since is None else "first" if since == 0 else ("E1", since)}


@pytest.fixture(scope="module", autouse=True)
def declared() -> Iterator[None]:
    """As ``chatproof --driver examples/own_server/own_driver.py:OwnDriver`` does it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, "")
        patch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
        patch.setattr(sys, "path", list(sys.path))
        declare([f"{EXAMPLE / 'own_driver.py'}:OwnDriver"])
        TestOwnDriver.driver = driver_named("own")
        yield


class TestOwnDriver(DriverConformance):
    driver: ClassVar[type[Driver]]
    peer = OwnPeer()
    epoch = "1"  # the server has none
    pong_s = 25


def test_another_process_finds_it_by_what_it_inherits() -> None:
    code = "from loadgen.drivers import driver_named; print(driver_named('own').__module__)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "own_driver\n", done.stderr


def test_it_is_loaded_once() -> None:
    assert load("own_driver:OwnDriver") is driver_named("own")

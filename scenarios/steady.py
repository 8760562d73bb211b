"""Steady state: small questions to the target before the load, all the time, and after healing.

Two probes, both each time: ``ready`` (GET /readyz, of a chatd that the run started) and ``round_trip``
(a message is published on a channel of its own, and read back; not where a mutant is planted, nor where
rights or names of channels might forbid it). They go to the target directly and are no part of the
history: what came of each is a line of probes.jsonl::

    {"t","when":"before"|"during"|"after","probe","ok","took_ms","why"}

The rule, of reports.steady: the last of each probe's lines ``after`` must be ok, or the run fails.
A thread of its own asks while the load goes on: a stopped server delays a probe, never the nemesis.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from loadgen.drivers import driver_named
from loadgen.drivers.base import Buffer, Capability, Driver, Hole, Position, Subscribed, Want, Welcome
from loadgen.trust import Tls
from loadgen.workload import client_name
from reports.history import BadReason

from .ready import Address, answers

PERIOD_S: Final = 1.0
ANSWER_S: Final = 2.0  # for one probe, from its dial on
CHANNEL: Final = "room:0"  # no client of the load has it
Probe = Callable[[], None]  # raises ProbeFailed, OSError or WebSocketException


class ProbeFailed(Exception):
    """The target did not do what it was asked; the text says what."""


class Steady:
    """The probes of one run. ``probes``: by name."""

    def __init__(self, path: Path, probes: dict[str, Probe]) -> None:
        self._file = path.open("ab")
        self._probes = probes
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._go_on, daemon=True)

    def ask(self, when: str) -> list[str]:
        """Ask all once; a line for each that failed."""
        return [f"{name}: {why}" for name, why in [(n, self._ask(n, when)) for n in self._probes] if why]

    def ask_until_well(self, when: str, deadline_s: float) -> list[str]:
        """Ask all, again and again until they succeed or the time (CLOCK_MONOTONIC) is over."""
        while (failed := self.ask(when)) and time.monotonic() < deadline_s:
            time.sleep(min(PERIOD_S, max(0.0, deadline_s - time.monotonic())))
        return failed

    def start(self) -> None:
        """Ask all every second from now on, until ``stop``."""
        self._thread.start()

    def stop(self) -> None:
        """Safe to call twice, and before ``start``."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=len(self._probes) * ANSWER_S + 1)

    def close(self) -> None:
        self.stop()
        self._file.close()

    def _go_on(self) -> None:
        while not self._stop.wait(PERIOD_S):
            for name in self._probes:
                if not self._stop.is_set():
                    self._ask(name, "during")

    def _ask(self, name: str, when: str) -> str:
        """Why a probe failed; "" when it did not."""
        began_ns, why = time.monotonic_ns(), ""
        try:
            self._probes[name]()
        except (ProbeFailed, OSError, WebSocketException) as failed:
            why = str(failed) or type(failed).__name__
        took_ms = round((time.monotonic_ns() - began_ns) / 1e6, 3)
        line = {"t": began_ns, "when": when, "probe": name, "ok": not why, "took_ms": took_ms, "why": why}
        self._file.write(json.dumps(line).encode() + b"\n")
        self._file.flush()
        return why


class RoundTrip:
    """A message is published and read back, on a connection of its own, each time with the next node.

    Args:
        urls: the nodes of the target themselves.
        run: makes the message ids of this run unique.
        token: what client 0 logs in with.
        channel: where the message goes. Where acks do not say the place, all of it is read back.
        patience_s: for all of it, ``ANSWER_S`` where it is left out.
    """

    def __init__(
        self,
        urls: Sequence[str],
        driver: str,
        run: str,
        *,
        tls: Tls | None = None,
        token: str | None = None,
        channel: str = CHANNEL,
        patience_s: float | None = None,
    ) -> None:
        self._urls, self._driver_type, self._run = tuple(urls), driver_named(driver), run
        self._token, self._channel, self._patience_s = token, channel, patience_s
        self._secure = (tls or Tls()).arguments(urls[0])
        self._asked = 0

    def __call__(self) -> None:
        """Raises ``ProbeFailed``, ``OSError`` or ``WebSocketException``."""
        url = self._urls[self._asked % len(self._urls)].rstrip("/")
        self._asked += 1
        body = json.dumps(f"probe {self._run} {self._asked}").encode()
        driver, seen, channel = self._driver_type(), _Seen(body), self._channel
        patience_s = ANSWER_S if self._patience_s is None else self._patience_s
        deadline_s = time.monotonic() + patience_s
        with connect(
            url + driver.path(0),
            subprotocols=[Subprotocol(driver.subprotocol)] if driver.subprotocol else None,
            compression=None, open_timeout=patience_s, close_timeout=ANSWER_S, proxy=None,
            **self._secure,
        ) as socket:  # fmt: skip

            def pump(done: Callable[[], bool], what: str) -> None:
                try:
                    _pump(socket, driver, seen, done, deadline_s, what)
                except TimeoutError:
                    raise ProbeFailed(f"not {what} within {patience_s:g} s") from None

            socket.send(driver.connect(client_name(0), [], self._token).decode())
            pump(lambda: seen.welcome, "connected")
            socket.send(driver.publish(channel, f"probe-{self._run}-{self._asked}", body, True).decode())
            pump(lambda: seen.placed is not None, "acked")
            assert seen.placed is not None
            epoch, serial = seen.placed
            want = Want(channel, (epoch, serial - 1) if serial else "first")
            socket.send(driver.subscribe(want).decode())
            pump(lambda: seen.back or (seen.live_now and not serial), "read back")
        if not seen.back:
            raise ProbeFailed(
                "not read back, though it was acked: the server keeps no history of the channel"
            )


def _pump(
    socket: ClientConnection,
    driver: Driver,
    seen: _Seen,
    done: Callable[[], bool],
    deadline_s: float,
    what: str,
) -> None:
    while not done():
        payload = socket.recv(timeout=max(0.0, deadline_s - time.monotonic()))
        driver.feed(payload if isinstance(payload, bytes) else payload.encode(), seen)
        if seen.pinged:
            seen.pinged = False
            socket.send(driver.pong().decode())
        if seen.refusal:
            raise ProbeFailed(f"not {what}: {seen.refusal}")


class _Seen:
    """What one probe has seen; implements ``Sink``."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.welcome = self.back = self.live_now = self.pinged = False
        self.placed: Position | None = None
        self.refusal = ""

    def connected(self, welcome: Welcome) -> None:
        self.welcome = True

    def message(self, channel: str, serial: int, body: Buffer, about: int = 0) -> None:
        self.back |= bytes(body) == self._body

    def ack(self, tag: object | None, message: str, epoch: str, serial: int, duplicate: bool) -> None:
        self.placed = epoch, serial

    def nack(
        self, tag: object | None, code: int, *, temporary: bool, definite: bool, after_s: float | None
    ) -> None:
        self.refusal = f"publish was refused with {code}"

    def refused(self, channel: str | None, code: int, reason: str, *, temporary: bool) -> None:
        self.refusal = f"refused with {code}: {reason}"

    def ping(self) -> None:
        self.pinged = True

    def goodbye(self, code: int, after_s: tuple[float, float], to: Sequence[str]) -> None:
        self.refusal = f"sent away with {code}"

    def bad(self, reason: BadReason) -> None:
        self.refusal = f"a frame that cannot be read ({reason.name.lower()})"

    def live(self, channel: str, epoch: str, serial: int) -> None:
        self.live_now = True

    def subscribed(self, answer: Subscribed) -> None: ...
    def unsubscribed(self, channel: str) -> None: ...
    def noticed(self, what: Capability, answer: bool = False) -> None: ...
    def failed(self, what: Capability, code: int) -> None: ...
    def gap(self, channel: str, hole: Hole) -> None: ...
    def reset(self, channel: str, epoch: str, fork: int, lineage: Sequence[Position]) -> None: ...


def all_ready(
    pages: Mapping[str, Address], there: Callable[[str], bool], ask: Callable[[str, int, str], bool] = answers
) -> Callable[[], bool]:
    """Whether every process of these that is there says that it is ready, and one is.

    Args:
        pages: where each answers, by process.
    """

    def ready() -> bool:
        running = [address for process, address in pages.items() if there(process)]
        return bool(running) and all(ask(*address, "/readyz") for address in running)

    return ready


def probes_of(ready: Callable[[], bool] | None, trip: Probe | None) -> dict[str, Probe]:
    """The probes of a run. ``ready``: whether /readyz says so; None for a target that nobody can ask."""
    found: dict[str, Probe] = {}
    if ready is not None:

        def ask_ready() -> None:
            if not ready():
                raise ProbeFailed("GET /readyz is not answered with 200")

        found["ready"] = ask_ready
    if trip is not None:
        found["round_trip"] = trip
    return found

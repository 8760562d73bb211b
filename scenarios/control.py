"""Client 0: `chatproof run` itself, talking to the target directly, never through a proxy.

It asks for the contract, publishes one sentinel a channel when the load has ended, and
reads every channel from its oldest message to its head, twice. It keeps records of its
own (worker 0), in the same schema, so that the checker trusts it no more than anyone.
"""

from __future__ import annotations

import errno
import json
import ssl
import time
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from loadgen.body import encode_body, identify
from loadgen.drivers import driver_named
from loadgen.drivers.base import Buffer, Capability, Driver, Hole, Position, Subscribed, Want, Welcome
from loadgen.recorder import Recorder
from loadgen.trust import Auth, AuthFailed, Tls, Tokens
from loadgen.workload import client_name, message_id
from reports.history import CONN_ERRNO, CONN_OK, NO_CHANNEL, BadReason, Flag, Kind, Mark

CLIENT = 0
READER = "c0-reader"  # reads as somebody else: with echo off nobody is told his own sentinels
WINDOW = 32  # requests in flight at once
RETRY_S = 0.2
ANSWER_S = 5.0  # silence for this long: dial again
READERS_AT_ONCE = 8


class ControlFailed(Exception):
    """The target could not be reached, or did not do what client 0 needs; the message says what."""


@dataclass(slots=True)
class _Session:
    """What client 0 knows while one connection lasts; implements ``Sink``."""

    recorder: Recorder
    channels: Mapping[str, int]
    nonce: int
    welcome: Welcome | None = None
    acked: dict[int, Position] = field(default_factory=dict)  # channel id -> place of its sentinel
    live_at: dict[int, int] = field(default_factory=dict)
    asked_ns: dict[int, int] = field(default_factory=dict)  # subscribe sent, by channel
    epochs: dict[int, str] = field(default_factory=dict)
    floors: dict[int, int] = field(default_factory=dict)
    left: set[int] = field(default_factory=set)  # channels that were unsubscribed from
    refusal: str = ""
    records: bool = True  # what is seen of subscriptions
    pinged: bool = False

    def connected(self, welcome: Welcome) -> None:
        self.welcome = welcome

    def subscribed(self, answer: Subscribed) -> None:
        channel = self.channels.get(answer.channel, NO_CHANNEL)
        self.epochs[channel], self.floors[channel] = answer.epoch, answer.floor
        if not self.records:
            return
        self.recorder.write(
            Kind.SUB, t=time.monotonic_ns(), t2=self.asked_ns.get(channel, 0), client=CLIENT, channel=channel,
            serial=answer.start, epoch=self.recorder.epoch(answer.epoch),
            flags=Flag.RESUMED if answer.resumed else 0,
        )  # fmt: skip

    def live(self, channel: str, epoch: str, serial: int) -> None:
        ident = self.channels.get(channel, NO_CHANNEL)
        self.live_at[ident] = serial
        if not self.records:
            return
        self.recorder.write(
            Kind.LIVE, t=time.monotonic_ns(), t2=self.asked_ns.get(ident, 0), client=CLIENT, channel=ident,
            serial=serial, pub_seq=self.floors.get(ident, 0), epoch=self.recorder.epoch(epoch),
        )  # fmt: skip

    def unsubscribed(self, channel: str) -> None:
        ident = self.channels.get(channel, NO_CHANNEL)
        self.left.add(ident)
        if not self.records:
            return
        self.recorder.write(Kind.UNSUB, t=time.monotonic_ns(), client=CLIENT, channel=ident)

    def message(self, channel: str, serial: int, body: Buffer, about: int = 0) -> None:
        ident = self.channels.get(channel, NO_CHANNEL)
        publisher, pub_seq, due_ns, flags = identify(body, self.nonce)
        self.recorder.write(
            Kind.READ, t=time.monotonic_ns(), t2=due_ns, client=CLIENT, channel=ident,
            publisher=publisher, pub_seq=pub_seq, serial=serial,
            epoch=self.recorder.epoch(self.epochs.get(ident, "")), flags=flags,
        )  # fmt: skip

    def gap(self, channel: str, hole: Hole) -> None:
        self.recorder.write(
            Kind.GAP, t=time.monotonic_ns(), t2=hole.why, client=CLIENT,
            channel=self.channels.get(channel, NO_CHANNEL), publisher=self.recorder.epoch(hole.after[0]),
            pub_seq=hole.after[1] + 1, serial=hole.to[1], epoch=self.recorder.epoch(hole.to[0]),
        )  # fmt: skip

    def reset(self, channel: str, epoch: str, fork: int, lineage: Sequence[Position]) -> None:
        ident = self.channels.get(channel, NO_CHANNEL)
        self.recorder.write(
            Kind.EPOCH, t=time.monotonic_ns(), client=CLIENT, channel=ident, serial=fork,
            publisher=self.recorder.epoch(self.epochs.get(ident, "")), epoch=self.recorder.epoch(epoch),
        )  # fmt: skip
        self.epochs[ident] = epoch

    def ack(self, tag: object | None, message: str, epoch: str, serial: int, duplicate: bool) -> None:
        flags = (Flag.DUPLICATE if duplicate else 0) | (0 if tag else Flag.NOT_OPEN)
        channel, due_ns = tag if isinstance(tag, tuple) else (NO_CHANNEL, 0)
        self.recorder.write(
            Kind.ACK, t=time.monotonic_ns(), t2=due_ns, client=CLIENT, channel=channel, publisher=CLIENT,
            pub_seq=channel, serial=serial, epoch=self.recorder.epoch(epoch) if epoch else 0, flags=flags,
        )  # fmt: skip
        if channel:
            self.acked[channel] = (epoch, serial)

    def nack(
        self, tag: object | None, code: int, *, temporary: bool, definite: bool, after_s: float | None
    ) -> None:
        channel, _ = tag if isinstance(tag, tuple) else (NO_CHANNEL, 0)
        flags = (Flag.DEFINITE if definite else 0) | (0 if tag else Flag.NOT_OPEN)
        self.recorder.write(
            Kind.NACK, t=time.monotonic_ns(), t2=code, client=CLIENT, channel=channel, publisher=CLIENT,
            pub_seq=channel, flags=flags,
        )  # fmt: skip
        self.refusal = f"publish was refused with {code}"

    def refused(self, channel: str | None, code: int, reason: str, *, temporary: bool) -> None:
        self.refusal = f"{channel or 'the connection'} was refused with {code}: {reason}"

    def goodbye(self, code: int, after_s: tuple[float, float], to: Sequence[str]) -> None:
        return

    def noticed(self, what: Capability, answer: bool = False) -> None:
        return

    def failed(self, what: Capability, code: int) -> None:
        return

    def ping(self) -> None:
        self.pinged = True

    def bad(self, reason: BadReason) -> None:
        self.recorder.write(Kind.BAD, t=time.monotonic_ns(), client=CLIENT, serial=reason)


class Control:
    """Client 0 of a run.

    Args:
        urls: the nodes of the target themselves, ``ws://host:port``; one that cannot be reached gives way to
            the next.
        names: of all channels, by id; ids count from 1, and the 0th name is not used.
        body_bytes: padding of the sentinels, as the load's.
        auth, tls: how it is let in and knows whom it talks to, as the load.
    Raises:
        ControlFailed: a secret or a certificate cannot be used.
    """

    def __init__(
        self,
        events: Path,
        *,
        urls: Sequence[str],
        driver: str,
        nonce: int,
        names: Sequence[str],
        body_bytes: int,
        auth: Auth | None = None,
        tls: Tls | None = None,
    ) -> None:
        try:
            self._tokens = Tokens(auth)
            self._tls = tls or Tls()
            self._secure = self._tls.arguments(urls[0])
        except AuthFailed as failed:
            raise ControlFailed(str(failed)) from None
        self._urls, self._at, self._driver_type = list(urls), 0, driver_named(driver)
        self._nonce, self._names, self._body_bytes = nonce, names, body_bytes
        self._channels = list(range(1, len(names)))
        self._by_name = {names[channel]: channel for channel in self._channels}
        self._events = events
        self._recorder = Recorder(events, 0, nonce, segment_bytes=8 << 20)
        self._attempts = 0

    @property
    def _url(self) -> str:
        """Of the node that is dialled now."""
        return self._urls[self._at % len(self._urls)]

    def mark(self, mark: Mark, **fields: int) -> None:
        """Write a MARK record."""
        self._recorder.write(Kind.MARK, t=time.monotonic_ns(), serial=mark, **fields)

    def contract(self, deadline_s: float) -> Welcome:
        """Connect once and return what the server promises.

        Raises:
            ControlFailed: it lets client 0 in by no means.
        """
        try:
            with _Connection(self, deadline_s) as connection:
                assert connection.session.welcome is not None
                return connection.session.welcome
        except (ConnectionClosed, TimeoutError) as refused:
            raise ControlFailed(f"{self._url} does not let client 0 in: {refused}") from None

    def token(self, name: str = client_name(CLIENT)) -> str | None:
        """What a client of this name logs in with. Raises ``ControlFailed``."""
        try:
            return self._tokens.of(name, time.time())
        except AuthFailed as failed:
            raise ControlFailed(str(failed)) from None

    def publish_sentinels(self, deadline_s: float) -> dict[int, Position]:
        """Publish one message on each channel and return where each was placed.

        The pub_seq of a channel's sentinel is the channel's id. A connection that is lost on the
        way is dialled again, and what was not acked is sent again with the same message id.

        Where the server's acks do not say it, the place is the channel's newest one, asked afterwards.

        Raises:
            ControlFailed: some sentinel was not acked by the deadline (CLOCK_MONOTONIC, seconds).
        """
        placed: dict[int, Position] = {}
        due_ns = {channel: time.monotonic_ns() for channel in self._channels}
        tried: set[int] = set()

        def attempt(connection: _Connection) -> None:
            session = connection.session
            waiting = [channel for channel in self._channels if channel not in placed]
            for window in _windows(waiting, WINDOW):
                for channel in window:
                    self._send_sentinel(connection, channel, due_ns[channel], retry=channel in tried)
                    tried.add(channel)
                connection.pump(partial(_all_in, window, session.acked))
                placed.update(session.acked)

        self._persist(attempt, deadline_s, "sentinels were not acked")
        return placed if Capability.ACK_POSITION in self._driver_type.capabilities else self._tops(deadline_s)

    def _tops(self, deadline_s: float) -> dict[int, Position]:
        """The newest position of every channel. Nothing of it is recorded: it is no final read."""
        found: dict[int, Position] = {}

        def attempt(connection: _Connection) -> None:
            session = connection.session
            session.records = False
            waiting = [channel for channel in self._channels if channel not in found]
            for window in _windows(waiting, READERS_AT_ONCE):
                for channel in window:
                    connection.send(connection.driver.subscribe(Want(self._names[channel])))
                connection.pump(partial(_all_in, window, session.live_at))
                found.update(
                    {channel: (session.epochs[channel], session.live_at[channel]) for channel in window}
                )
                for channel in window:
                    connection.send(connection.driver.unsubscribe(self._names[channel]))
                connection.pump(partial(_all_in, window, session.left))

        self._persist(attempt, deadline_s, "the places of sentinels could not be asked", name=READER)
        return found

    def read_all(self, deadline_s: float) -> None:
        """Read every channel once, from its oldest message to its head, into READ records.

        Raises:
            ControlFailed: not all could be read by the deadline.
        """
        if Capability.HISTORY not in self._driver_type.capabilities:
            return
        done: set[int] = set()

        def attempt(connection: _Connection) -> None:
            session = connection.session
            waiting = [channel for channel in self._channels if channel not in done]
            for window in _windows(waiting, READERS_AT_ONCE):
                for channel in window:
                    session.asked_ns[channel] = time.monotonic_ns()
                    connection.send(connection.driver.subscribe(Want(self._names[channel], "first")))
                connection.pump(partial(_all_in, window, session.live_at))
                done.update(window)
                for channel in window:  # a server takes so many subscriptions on one connection
                    connection.send(connection.driver.unsubscribe(self._names[channel]))
                connection.pump(partial(_all_in, window, session.left))

        self._persist(attempt, deadline_s, "channels could not be read back", name=READER)

    def close(self) -> None:
        """End the log and write its count; safe to call twice."""
        self._recorder.close()
        counters = {"worker": 0, "records": self._recorder.count, "lost": self._recorder.lost}
        (self._events / "w0.counters.json").write_text(json.dumps(counters) + "\n")

    def _send_sentinel(self, connection: _Connection, channel: int, due_ns: int, *, retry: bool) -> None:
        body = encode_body(
            nonce=self._nonce, channel=channel, publisher=CLIENT, pub_seq=channel, scheduled_ns=due_ns,
            body_bytes=self._body_bytes,
        )  # fmt: skip
        frame = connection.driver.publish(
            self._names[channel], message_id(CLIENT, channel), body, (channel, due_ns)
        )
        if not retry:
            self.mark(Mark.SENTINEL, channel=channel, publisher=CLIENT, pub_seq=channel)
        self._recorder.write(
            Kind.SEND, t=time.monotonic_ns(), t2=due_ns, client=CLIENT, channel=channel, publisher=CLIENT,
            pub_seq=channel, serial=len(body), flags=Flag.RETRY if retry else 0,
        )  # fmt: skip
        connection.send(frame)

    def _persist(
        self,
        attempt: Callable[[_Connection], None],
        deadline_s: float,
        failure: str,
        *,
        name: str = client_name(CLIENT),
    ) -> None:
        """Run an attempt on a fresh connection until one gets through."""
        why = "no time was left"
        while time.monotonic() < deadline_s:
            try:
                with _Connection(self, deadline_s, name) as connection:
                    attempt(connection)
                return
            except (ConnectionClosed, TimeoutError, OSError) as lost:
                why = str(lost) or type(lost).__name__
                self._at += 1
                time.sleep(RETRY_S)
        raise ControlFailed(f"{failure} in time: {why}")


class _Connection:
    """One direct connection of client 0, connected; a context manager."""

    def __init__(self, control: Control, deadline_s: float, name: str = client_name(CLIENT)) -> None:
        self._control, self._deadline_s, self._name = control, deadline_s, name
        self.driver: Driver = control._driver_type()
        self.session = _Session(control._recorder, control._by_name, control._nonce)

    def __enter__(self) -> _Connection:
        self._open = ExitStack()
        self._socket = self._dial()
        try:
            self.send(self.driver.connect(self._name, [], self._control.token(self._name)))
            self.pump(lambda: self.session.welcome is not None)
        except BaseException:
            self._open.close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._record_close(Flag.ON_PURPOSE)
        self._open.close()

    def send(self, frame: bytes) -> None:
        self._socket.send(frame.decode())

    def pump(self, done: Callable[[], bool]) -> None:
        """Read frames until ``done``.

        Raises:
            TimeoutError: the server was silent for too long, or refused what was asked.
            ConnectionClosed: it went away.
        """
        while not done():
            left_s = min(ANSWER_S, self._deadline_s - time.monotonic())
            payload = self._socket.recv(timeout=max(0.0, left_s))
            self.driver.feed(payload if isinstance(payload, bytes) else payload.encode(), self.session)
            if self.session.pinged:
                self.session.pinged = False
                self.send(self.driver.pong())
            if self.session.refusal:
                raise TimeoutError(self.session.refusal)

    def _dial(self) -> ClientConnection:
        control = self._control
        subprotocol = self.driver.subprotocol
        while True:
            control._attempts += 1
            started_ns = time.monotonic_ns()
            try:
                opening: ClientConnection = connect(
                    control._url.rstrip("/") + self.driver.path(CLIENT),
                    subprotocols=[Subprotocol(subprotocol)] if subprotocol else None,
                    compression=None, max_size=None, open_timeout=ANSWER_S, proxy=None, **control._secure,
                )  # fmt: skip
                socket = self._open.enter_context(opening)
            except ssl.SSLCertVerificationError as unknown:
                raise ControlFailed(str(control._tls.stranger(control._url, unknown))) from None
            except (OSError, InvalidHandshake, TimeoutError) as failed:
                self._record_dial(started_ns, _dial_result(failed))
                if time.monotonic() >= self._deadline_s:
                    raise ControlFailed(f"{control._url} could not be reached in time: {failed}") from None
                control._at += 1
                time.sleep(RETRY_S)
            else:
                self._record_dial(started_ns, CONN_OK)
                return socket

    def _record_dial(self, started_ns: int, result: int) -> None:
        self._control._recorder.write(
            Kind.CONN, t=time.monotonic_ns(), t2=started_ns, client=CLIENT, pub_seq=self._control._attempts,
            serial=result,
        )  # fmt: skip

    def _record_close(self, flags: int) -> None:
        self._control._recorder.write(
            Kind.CLOSE, t=time.monotonic_ns(), client=CLIENT, serial=1000, flags=flags
        )


def _dial_result(failed: Exception) -> int:
    if isinstance(failed, InvalidStatus):
        return failed.response.status_code
    if isinstance(failed, OSError) and failed.errno:
        return CONN_ERRNO + failed.errno
    return CONN_ERRNO + errno.ETIMEDOUT


def _all_in(wanted: Iterable[int], found: Container[int]) -> bool:
    return all(channel in found for channel in wanted)


def _windows(items: Sequence[int], size: int) -> list[Sequence[int]]:
    return [items[start : start + size] for start in range(0, len(items), size)]

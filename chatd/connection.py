"""One connection of the daemon: carries out what the session decides. No sockets, no tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from .effects import Close, Depart, Effects, Join, Leave, Ping, Read, Send, Share, Store, Subscription
from .flush import Flusher, Outlet
from .framing import PING_FRAME, close_frame, text_frame
from .metrics import Metrics
from .protocol.errors import CloseCode
from .protocol.messages import HistoryRequest, Notice, PresenceRequest, Write
from .session import Phase, Session
from .store.base import Append
from .transports.base import Link
from .wheel import Wheel

ANSWERS_BYTES: Final = 16 * 1024  # of answers that wait for a full socket, before no more is asked
GRACE_S: Final = 2.0  # for the peer to answer a close frame


class Daemon(Protocol):
    """What a connection needs of the daemon around it."""

    metrics: Metrics
    flusher: Flusher
    wheel: Wheel[Connection]
    clock: Callable[[], float]

    def append(self, connection: Connection, request: Write, append: Append) -> None: ...
    def join(self, connection: Connection, subscription: Subscription) -> None: ...
    def leave(self, connection: Connection, channel: str) -> None: ...
    def read(self, connection: Connection, request: HistoryRequest) -> None: ...
    def share(self, connection: Connection, request: PresenceRequest | Notice) -> None: ...
    def depart(self, connection: Connection, channel: str) -> None: ...
    def blocked(self, connection: Connection) -> None: ...
    def unblocked(self, connection: Connection) -> None: ...
    def ended(self, connection: Connection) -> None: ...
    def hanging_up(self, connection: Connection, code: int, reason: str) -> None: ...


class Connection:
    """Contract: ``Peer`` (chatd/transports/base.py)."""

    __slots__ = (
        "_daemon",
        "_hanging_up_since",
        "_parting",
        "_paused",
        "_wake_at",
        "address",
        "link",
        "on_writable",
        "outlet",
        "session",
    )

    def __init__(self, daemon: Daemon, link: Link, session: Session, *, address: str = "") -> None:
        self.link = link
        self.address = address
        self.session = session
        self.outlet = Outlet(daemon.flusher, link.write)
        self.on_writable: list[Callable[[], None]] = []  # each called once, then forgotten
        self._daemon = daemon
        self._paused = False
        self._hanging_up_since: float | None = None
        self._parting: tuple[int, str] | None = None  # the close that follows when nothing is in flight
        self._wake_at = session.due
        daemon.wheel.put(self, session.due)

    # From the transport -----------------------------------------------------------------------------

    def received(self, payload: bytes) -> None:
        daemon = self._daemon
        daemon.metrics.received_bytes += len(payload)
        session = self.session
        self.apply(session.receive(payload, daemon.clock()))
        if self.outlet.held_bytes > ANSWERS_BYTES:
            self._pause()
        due = session.due
        if due < self._wake_at:
            self._wake_at = due
            daemon.wheel.put(self, due)

    def reply(self, frame: bytes) -> None:
        self.outlet.send(frame)

    def broken(self, code: int, reason: str) -> None:
        self._daemon.metrics.bad_frames += 1
        self.close(code, reason)

    def cut(self) -> None:
        self._daemon.metrics.bad_frames += 1
        self.apply(self.session.ended())
        self.outlet.close()
        self._writable()
        self._last_grace()

    def leaving(self, frame: bytes) -> None:
        self.apply(self.session.ended())
        self.outlet.finish(frame)
        self._last_grace()

    def blocked(self) -> None:
        if not self.outlet.closed:
            self.outlet.block(self._daemon.clock())
            self._daemon.blocked(self)

    def unblocked(self) -> None:
        self._daemon.unblocked(self)
        self.outlet.unblock()
        if self.outlet.free:
            self.session.excuse(self._daemon.clock())
            self._read_on()
            self._writable()

    def lost(self) -> None:
        self.apply(self.session.ended())
        self.outlet.close()
        self._writable()
        self._daemon.wheel.remove(self)
        self._daemon.ended(self)

    def _writable(self) -> None:
        waiting, self.on_writable = self.on_writable, []
        for call in waiting:
            call()

    # From the daemon --------------------------------------------------------------------------------

    def on_time(self, now: float) -> None:
        """The wheel came round to this connection."""
        if self._hanging_up_since is not None:
            self.link.abort()
            return
        if self.outlet.slow or self.outlet.blocked_since is not None:
            self.session.excuse(now)  # it is judged by whether it takes anything
        self.apply(self.session.tick(now))
        if self._hanging_up_since is None:
            self._wake_at = self.session.due
            self._daemon.wheel.put(self, self._wake_at)

    def close(self, code: int, reason: str) -> None:
        self.apply(self.session.close(code, reason))

    def send_away(self, code: int, why: str, after_ms: tuple[int, int], to: Sequence[str] = ()) -> None:
        """Say goodbye; close when the publishes under way have their answers."""
        if self._parting is None and not self.gone:
            self._parting = (code, why)
            self.apply(self.session.goodbye(code, why, after_ms, to))
            self._part()

    def _part(self) -> None:
        if self._parting is not None and self.session.in_flight == 0:
            self.close(*self._parting)

    def overflow(self) -> None:
        self.close(CloseCode.SLOW_CONSUMER, "too much waits to be read")

    @property
    def gone(self) -> bool:
        return self.session.phase is Phase.CLOSED

    def apply(self, effects: Effects) -> None:
        """Carry out what the session decided, in order."""
        for effect in effects:
            match effect:
                case Send():
                    self.outlet.send(text_frame(effect.payload))
                case Store():
                    self._append(effect)
                case Ping():
                    self.outlet.send(PING_FRAME)
                case Join():
                    self._daemon.join(self, effect.subscription)
                case Leave():
                    self._daemon.leave(self, effect.channel)
                case Read():
                    self._daemon.read(self, effect.request)
                case Share():
                    self._daemon.share(self, effect.request)
                case Depart():
                    self._daemon.depart(self, effect.channel)
                case Close():
                    self._hang_up(effect)

    def _append(self, effect: Store) -> None:
        if self.session.in_flight >= self.session.most_in_flight:
            self._pause()
        self._daemon.append(self, effect.request, effect.append)

    def _pause(self) -> None:
        if not self._paused and not self.gone:
            self._paused = True
            self.link.pause_reading()

    def answered(self) -> None:
        """A publish got its answer: read on, if reading had stopped; leave, if it was the last one."""
        if self._paused:
            self._read_on()
        if self._parting is not None:
            self._part()

    def _read_on(self) -> None:
        few = self.session.in_flight <= self.session.most_in_flight // 2
        if self._paused and few and self.outlet.held_bytes <= ANSWERS_BYTES and not self.gone:
            self._paused = False
            self.link.resume_reading()

    def _hang_up(self, effect: Close) -> None:
        daemon = self._daemon
        daemon.metrics.count_close(effect.code)
        daemon.hanging_up(self, effect.code, effect.reason)
        self.outlet.finish(close_frame(effect.code, effect.reason))
        self._writable()
        if self._paused:
            self._paused = False
            self.link.resume_reading()
        self.link.hang_up()
        self._last_grace()

    def _last_grace(self) -> None:
        """A peer that does not end the connection now is cut."""
        self._hanging_up_since = now = self._daemon.clock()
        self._daemon.wheel.put(self, now + GRACE_S)

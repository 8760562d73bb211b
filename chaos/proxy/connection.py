"""One client's connection through the proxy: two sockets, and a direction from each to the other.

    client socket  ── Side "upstream" ──►   upstream socket
    client socket ◄── Side "downstream" ──  upstream socket

With no toxics a direction has no code of its own between the read of one socket and
the write of the other. With toxics it has stages in a ``Chain`` and at most one timer.
"""

import asyncio
import re
import socket
import struct
from collections.abc import Callable
from functools import partial
from math import ceil
from time import monotonic
from typing import TYPE_CHECKING, cast

from chaos.proxy.address import dial
from chaos.proxy.chain import ActiveToxic, Chain
from chaos.proxy.door import Threshold
from chaos.proxy.left_behind import LeftBehind
from chaos.proxy.silence import go_silent
from chaos.proxy.toxics.base import NEVER, Answer, End, Item, Leave

if TYPE_CHECKING:
    from chaos.proxy.proxy import Proxy

DIAL_TIMEOUT_S = 10.0
# A close sends FIN and reads on for so long: closing a socket that has unread bytes
# sends RST, which can destroy the last bytes on their way to the peer.
LINGER_S = 1.0
# What the toxics of a direction may hold before its source is no longer read. Like a
# window of TCP it caps the rate under latency: at 1 MiB per delay.
HELD_LIMIT = 1 << 20
WRITE_LIMIT = 0  # each write goes to the kernel at once; what it refuses stops the source
RST_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER
ORDINAL = re.compile(rb"(?:GET|POST) [^ ]*[?&]c=(\d{1,10})[& ]")


class Side(asyncio.Protocol):
    """One socket, and the direction that begins at it."""

    __slots__ = (
        "_blocked", "_eof", "_fin_sent", "_paused", "_stopped", "_timer", "_timer_at",
        "chain", "connection", "ended", "lost", "other", "received", "sink", "transport", "withheld",
    )  # fmt: skip

    other: "Side"
    transport: asyncio.Transport

    def __init__(self, connection: "Connection", direction: str) -> None:
        self.connection = connection
        self.chain = Chain(
            connection.proxy.seed,
            connection.number,
            direction,
            view=connection.proxy.view,
            whose=connection.whose,
            emit=partial(connection.proxy.tell, connection, direction=direction),
        )
        self.sink: Callable[[bytes], None] = self._drop  # where the bytes of this socket go
        self.received = 0  # bytes read
        self.withheld = 0  # of these, not written to the other socket: held, or dropped
        self.ended = False  # this direction has delivered its end
        self.lost = True  # there is no socket: not yet, or no longer
        self._stopped = False  # this direction carries nothing any more
        self._eof = False  # this socket has sent FIN
        self._fin_sent = False  # and this one got it
        self._blocked = False  # the other socket takes no more
        self._paused = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = NEVER

    # What the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=WRITE_LIMIT)
        self.lost = False
        self.connection.made(self)

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        self.sink(data)

    def eof_received(self) -> bool:
        self._eof = True
        if self.connection.closing or self.connection.left:
            self.transport.close()
        else:
            self._take(End.EOF)
        return True  # half-close: the other direction goes on

    def pause_writing(self) -> None:
        self.other._blocked = True
        self.other._throttle()

    def resume_writing(self) -> None:
        self.other._blocked = False
        self.other._throttle()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if self.connection.closing or self.connection.left:
            self._cancel_timer()
        else:
            self.other.stop()  # nobody is left to write to
            self._take(End.CLOSE)
        self.connection.side_lost(self)

    # What the connection calls

    def route(self) -> None:
        """Choose where bytes go: the one decision that is not made for each chunk."""
        left = self.connection.left
        if left and left.side is self:
            self.sink = left.take
        elif self._stopped:
            self.sink = self._drop
        elif not self.connection.open:
            self.sink = self.connection.hold
        elif not self.connection.seen and self is self.connection.client:
            self.sink = self.connection.see_first
        elif self.chain.stages:
            self.sink = self._feed
        else:
            self.sink = self.other.transport.write

    def replay(self, item: Item) -> None:
        """Carry what came before there was somewhere to carry it."""
        if isinstance(item, bytes):
            self.withheld -= len(item)
            self.sink(item)
        else:
            self._take(item)

    def change(self, toxics: list[ActiveToxic], now: float) -> None:
        """Work with these toxics from now on."""
        if self._stopped:
            return
        for item in self.chain.change(toxics, now):
            self._deliver(item)
        self._advance()
        self.route()

    def update(self, toxic: ActiveToxic) -> None:
        """Take over a toxic's changed attributes."""
        self.chain.update(toxic)
        self._advance()

    def pause_again(self) -> None:
        """As it was asked before uvloop began to read, which it does after ``connection_made``."""
        if self._paused and not (self.lost or self.transport.is_closing()):
            self.transport.pause_reading()

    def finish(self) -> None:
        """Send FIN behind what was written; close when the peer does, or soon."""
        self.stop()
        if self.lost:
            return
        self._send_fin()
        if self._eof:
            self.transport.close()
        else:
            self._timer = asyncio.get_running_loop().call_later(LINGER_S, self.transport.abort)

    def abort(self) -> None:
        """Close now, whatever is on its way."""
        self.stop()
        if not self.lost:
            self.transport.abort()

    def reset(self) -> None:
        """Send RST."""
        if not (self.lost or self.transport.is_closing()):
            sock: socket.socket = self.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST_ON_CLOSE)
        self.abort()

    def vanish(self) -> None:
        """Be gone, without a word to the peer."""
        if not (self.lost or self.transport.is_closing()):
            go_silent(self.transport.get_extra_info("socket"))
        self.abort()

    # Bytes through toxics

    def _feed(self, data: bytes) -> None:
        self.withheld += len(data)
        self._take(data)

    def _take(self, item: Item) -> None:
        if self._stopped:
            return
        if not self.connection.open:
            self.connection.hold(item)
        elif self.chain.stages:
            self.chain.feed(item, monotonic())
            self._advance()
        else:
            self._deliver(item)

    def _advance(self) -> None:
        """Let leave what is due; set the timer for what is next."""
        now = monotonic()
        for item in self.chain.run(now):
            self._deliver(item)
            if self._stopped:
                return
        due = self.chain.due()
        if due < self._timer_at:
            self._cancel_timer()
            # The loop's timers count whole milliseconds: rounded up, nothing leaves early.
            delay_s = max(ceil((due - now) * 1000), 1) / 1000
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._timer_fired)
            self._timer_at = due
        self._throttle()

    def _timer_fired(self) -> None:
        self._timer, self._timer_at = None, NEVER
        self._advance()

    def _deliver(self, item: Item) -> None:
        match item:
            case End.EOF:
                self.ended = True
                self.other._send_fin()
                if self.other.ended:
                    self.connection.finish()
            case End.CLOSE:
                self.connection.finish()
            case End.RESET:
                self.connection.reset()
            case End.VANISH:
                self.connection.vanish()
            case Leave():
                self.connection.leave(item)
            case _ if not self.other.lost:
                self.withheld -= len(item)
                self.other.transport.write(item)

    def _drop(self, data: bytes) -> None:
        self.withheld += len(data)

    def _send_fin(self) -> None:
        if not (self.lost or self._fin_sent or self.transport.is_closing()):
            self._fin_sent = True
            self.transport.write_eof()

    def stop(self) -> None:
        """Carry nothing any more: what is held, and what still comes, is dropped."""
        self._stopped = self.ended = True
        self._blocked = False
        self._cancel_timer()
        self.chain.stages.clear()
        self.chain.stopped = False
        self.route()
        self._throttle()

    def _throttle(self) -> None:
        """Read the socket only while what it sends has somewhere to go."""
        full = self._blocked or self.chain.stopped or self.chain.held > HELD_LIMIT
        if full == self._paused or self.lost or self._eof or self.transport.is_closing():
            return
        self._paused = full
        if full:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    def _cancel_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer, self._timer_at = None, NEVER


class Connection:
    """A client, its upstream, and what is between.

    Args:
        id: unique in this process.
        number: the proxy's n-th, from 1; random draws depend on it.
    """

    __slots__ = (
        "_dial", "_early", "_threshold", "client", "closing", "id", "identified", "left", "nth",
        "number", "open", "opened_at", "ordinal", "proxy", "seen", "upstream",
    )  # fmt: skip

    def __init__(self, proxy: "Proxy", *, id: int, number: int) -> None:
        self.proxy = proxy
        self.id = id
        self.number = number
        self.ordinal: int | None = None  # the client's, from "/ws?c="
        self.nth = 0  # of the client's connections, from 1
        self.identified = False  # the client's first bytes have come: the ordinal is known, if there is one
        self.left: LeftBehind | None = None  # half-open: one peer has been left without a word
        self._threshold: Threshold | None = None  # where it waits while there are doors
        self.opened_at = monotonic()
        self.open = False  # the upstream has answered
        self.closing = False
        self.seen = False  # the client's first bytes have passed
        self._early: list[Item] = []  # what the client sent before the upstream answered
        self.client = Side(self, "upstream")
        self.upstream = Side(self, "downstream")
        self.client.other, self.upstream.other = self.upstream, self.client
        self._dial: asyncio.Task[None] | None = None

    def made(self, side: Side) -> None:
        """A socket is there: the client's, then the upstream's."""
        if self.closing:
            side.transport.abort()
        elif side is self.client:
            side.route()
            if self.proxy.doors:
                self._threshold = Threshold(self)
            self._dial = asyncio.get_running_loop().create_task(self._connect())
        else:
            self.open = True
            self.client.route()
            self.upstream.route()
            self.proxy.on_open(self)
            self.change(monotonic())
            if self.upstream.chain.stopped:
                asyncio.get_running_loop().call_soon(self.upstream.pause_again)
            for item in self._early:
                self.client.replay(item)
            self._early.clear()
            self.upstream.resume_writing()

    def hold(self, item: Item) -> None:
        """Keep what the client sends while its upstream is dialled.

        It is paused here, at its first bytes: a pause in ``connection_made`` would be
        undone, since uvloop starts to read right after it.
        """
        self._early.append(item)
        if isinstance(item, bytes):
            self.client.withheld += len(item)
            self.identify(item)
        elif self._threshold:
            self.abort()  # who leaves while it waits at a door would come in as a ghost
            return
        # Who waits at a door is read on, within bounds, so that it can be seen to leave.
        if self._threshold is None or self.client.withheld > HELD_LIMIT:
            self.upstream.pause_writing()
        if self._threshold:
            self._threshold.stir()

    def change(self, now: float) -> None:
        """The proxy's toxics, or their toxicity, have changed; or it is known now whose connection this
        is.
        """
        if self._threshold:
            self._threshold.stir()
        if not self.open or self.closing:
            return
        if self.left:
            if self.proxy.toxic(self.left.leave.toxic) is None:
                self.finish()
            return
        hits = [toxic for toxic in self.proxy.toxics if self.hit_by(toxic)]
        for side, direction in ((self.client, "upstream"), (self.upstream, "downstream")):
            side.change([toxic for toxic in hits if toxic.direction == direction], now)

    def hit_by(self, toxic: ActiveToxic) -> bool:
        """Whether a toxic works on this connection."""
        if toxic.live and self.id not in toxic.there:
            return False
        if toxic.ordinals is not None and self.ordinal not in toxic.ordinals:
            return False
        return toxic.hits(self.proxy.seed, *(self.whose() if toxic.by_client else (self.number,)))

    def update(self, toxic: ActiveToxic) -> None:
        """A toxic's attributes have changed."""
        if self._threshold:
            self._threshold.stir()
        if self.open and not self.closing:
            side = self.client if toxic.direction == "upstream" else self.upstream
            side.update(toxic)

    def finish(self) -> None:
        """Close both sockets with FIN, behind what was written to them."""
        self.closing = True
        self.client.finish()
        self.upstream.finish()

    def abort(self) -> None:
        """Close both sockets now."""
        self.closing = True
        if self._dial:
            self._dial.cancel()
        self.client.abort()
        self.upstream.abort()

    def reset(self) -> None:
        """Send RST to both peers."""
        self.closing = True
        self.client.reset()
        self.upstream.reset()

    def vanish(self) -> None:
        """Close both sockets with neither FIN nor RST."""
        self.closing = True
        self.client.vanish()
        self.upstream.vanish()

    @property
    def first_bytes(self) -> bytes:
        """What the client has sent while its upstream is not dialled."""
        return b"".join(item for item in self._early if isinstance(item, bytes))

    def refuse(self, end: End | Answer) -> None:
        """End it before its upstream was dialled."""
        if isinstance(end, Answer):
            self.client.transport.write(end.data)
        self.reset() if end is End.RESET else self.finish()

    def leave(self, leave: Leave) -> None:
        """Half-open: one peer gets FIN, the other no word, until the toxic goes or it gives up by itself."""
        self.left = LeftBehind(self, leave)
        for side in (self.client, self.upstream):
            if side is self.left.side:
                side.stop()
            else:
                side.finish()

    def side_lost(self, side: Side) -> None:
        """A socket has gone; with the second the connection is over."""
        if self.left and not self.closing and side is self.left.side:
            self.left.gives_up()
        if self.client.lost and self.upstream.lost:
            self.abort()
            self.proxy.on_close(self)

    def whose(self) -> tuple[object, ...]:
        """What draws for its messages depend on: not the order of accepting, where the client can be told."""
        return (self.number,) if self.ordinal is None else ("client", self.ordinal, self.nth)

    def identify(self, data: bytes) -> None:
        """Look for the client's ordinal in the first bytes it sends."""
        if self.identified:
            return
        self.identified = True
        if found := ORDINAL.match(data):
            self.ordinal = int(found[1])
            self.proxy.came[self.ordinal] += 1
            self.nth = self.proxy.came[self.ordinal]

    def see_first(self, data: bytes) -> None:
        """Take notice of the first bytes, then step aside."""
        self.identify(data)
        self.seen = True
        self.client.route()
        if self.proxy.aims:
            self.change(monotonic())
        self.client.sink(data)

    async def _connect(self) -> None:
        if self._threshold and not await self._threshold.admitted():
            return
        self._threshold = None
        try:
            async with asyncio.timeout(DIAL_TIMEOUT_S):
                await dial(self.proxy.target, self.upstream)
        except OSError as error:  # TimeoutError is one
            self.proxy.on_dial_failure(self, error)
            self.abort()

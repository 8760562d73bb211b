"""The contract between a transport and the daemon. Everything runs on one event loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from ..metrics import Metrics


class Link(Protocol):
    """One connection, as the daemon sees it."""

    @property
    def write(self) -> Callable[[bytes], None]:
        """Writes whole frames. Never blocks; ``Peer.blocked`` tells when to stop for a while."""

    @property
    def buffered(self) -> int:
        """Bytes that were written and that the kernel has not taken yet."""

    def hang_up(self) -> None:
        """A close frame was written: end when the peer has answered it."""

    def abort(self) -> None:
        """End now. ``Peer.lost`` follows."""

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Peer(Protocol):
    """The daemon's side of one connection, as the transport sees it."""

    def received(self, payload: bytes) -> None:
        """A whole text message, valid UTF-8."""

    def reply(self, frame: bytes) -> None:
        """Queue a control frame after what is queued already."""

    def broken(self, code: int, reason: str) -> None:
        """The peer broke the transport's own rules: close with this code."""

    def cut(self) -> None:
        """The transport closed the connection itself: nothing more may be written. ``lost`` follows."""

    def leaving(self, frame: bytes) -> None:
        """The peer closes; ``frame`` answers it and is the last thing to write."""

    def blocked(self) -> None: ...

    def unblocked(self) -> None: ...

    def lost(self) -> None:
        """The connection is gone. Called once, last."""


class Page(msgspec.Struct, frozen=True):
    """An HTTP answer."""

    status: int
    body: str
    content_type: str = "text/plain; charset=utf-8"
    retry_after_s: int | None = None


class Gateway(Protocol):
    """The daemon, as a transport sees it."""

    metrics: Metrics

    @property
    def url(self) -> str:
        """Where WebSocket clients connect."""

    def refuse(self, address: str = "") -> Page | None:
        """Why no connection is taken from this address now; None: it is."""

    def accept(self, link: Link, *, address: str = "", token: str | None = None) -> Peer:
        """Somebody has come in. ``token``: the one of the Authorization header."""

    def page(self, path: str, *, admin: bool = False) -> Page | None:
        """The answer to a plain GET; None: there is no such page. ``admin``: asked on the admin port."""


class Listening(Protocol):
    """A transport that accepts connections."""

    @property
    def url(self) -> str: ...

    def close(self) -> None:
        """Accept no more. Open connections stay."""

    async def closed(self) -> None:
        """After ``close``, and once the daemon has let all connections go: end what is left."""

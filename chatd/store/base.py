"""The contract of a store: where messages become durable and get their serials.

A store owns the log of every channel. The server sends it batches of ``Append`` and
acknowledges a publish only after ``append`` has returned. Everything here is a value;
``STORES`` (chatd/store/__init__.py) names the implementations, and
``tests/conformance/stores.py`` is what each of them must pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Final, Literal, Protocol

import msgspec

if TYPE_CHECKING:
    from .bus import Bus

Durability = Literal["memory", "process", "fsync", "replicated"]


TEXT: Final = "text"  # the kind of what is published; others are about a message of this kind


class Append(msgspec.Struct, frozen=True, gc=False):
    """One publish on its way into the log. (channel, user, message) is its identity."""

    channel: str
    user: str
    message: str  # the publisher's own id: the same in every retry
    data: bytes  # raw JSON
    kind: str = TEXT
    to: int = 0  # the serial of the message that this one is about; 0: of none
    own: bool = False  # place it only if that message is of the same user


class Placed(msgspec.Struct, frozen=True, gc=False):
    """The message is in the log, at ``serial``, and is as durable as the store says."""

    serial: int
    time: int  # ms since 1970
    epoch: str = ""  # of the serial; empty: the store has one epoch only, its own


class Duplicate(msgspec.Struct, frozen=True, gc=False):
    """The same message was placed before, at ``serial``. Nothing was written."""

    serial: int
    epoch: str = ""  # in which ``serial`` is its place now; empty as in ``Placed``


class Conflict(msgspec.Struct, frozen=True, gc=False):
    """The message id was used before with other content. Nothing was written."""

    serial: int


class Refused(msgspec.Struct, frozen=True, gc=False):
    """Nothing was written, because of the message that ``to`` names.

    "target": there is none of kind text with this serial, or it is no longer retained;
    "author": it is of another user, and ``own`` was asked for.
    """

    why: Literal["target", "author"]


Outcome = Placed | Duplicate | Conflict | Refused


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One message as the log holds it."""

    serial: int
    time: int
    user: str
    message: str
    data: bytes
    kind: str = TEXT
    to: int = 0


Lineage = tuple[tuple[str, int], ...]  # (epoch, its first serial), oldest first; empty: one epoch, from 1


class Head(msgspec.Struct, frozen=True, gc=False):
    """The ends of a channel's stream. Empty: ``floor`` is ``top`` + 1."""

    epoch: str
    top: int  # the newest serial; 0 before the first message
    floor: int  # the oldest serial still retained
    lineage: Lineage = ()

    @property
    def epochs(self) -> list[tuple[str, int]]:
        """The lineage, told whole."""
        return list(self.lineage) or [(self.epoch, 1)]


class Page(msgspec.Struct, frozen=True, gc=False):
    """A run of messages without holes, and the ends of the stream when it was read.

    The first entry is max(asked + 1, floor); when floor > asked + 1, the serials
    between were trimmed. ``entries`` is empty only when nothing follows.
    """

    epoch: str
    top: int
    floor: int
    entries: list[Entry]
    lineage: Lineage = ()

    @property
    def head(self) -> Head:
        return Head(self.epoch, self.top, self.floor, self.lineage)


class Retention(msgspec.Struct, frozen=True):
    """How much of a channel stays readable: a message goes when it is beyond any of the three."""

    n: int
    s: float
    bytes: int  # of `data`

    def of(self, channel: str) -> Retention:
        """Contract: ``Retain``; the same for every channel."""
        return self


class Retain(Protocol):
    """How much is kept of each channel."""

    def of(self, channel: str) -> Retention: ...


class StoreUnavailable(Exception):
    """Nothing of the batch was written, and nothing of it will appear later (error 503)."""


class StoreUncertain(Exception):
    """The commit itself failed: the batch may or may not be in the log (error 504).

    A retry with the same message ids is safe either way.
    """


class StoreUnusable(Exception):
    """The store cannot be opened. The text is one line: what is wrong and what to do."""


class Store(Protocol):
    """A log of channels. All methods are called from one event loop; ``append`` never concurrently.

    ``append`` and ``trim`` are called by one caller at a time; ``read`` and ``tops`` may run
    beside them and see only what is durable.
    """

    @property
    def durability(self) -> Durability:
        """What has survived by the time that ``append`` returns. Known after ``open``."""

    @property
    def epoch(self) -> str:
        """The life of the streams, at most 16 characters. Known after ``open``. It changes only in a
        store with a ``bus``, whose outcomes and pages say theirs."""

    @property
    def bus(self) -> Bus | None:
        """How this node hears of what others place; None: the log is this node's alone, and what
        ``append`` returns is all that there is to deliver."""

    @property
    def healthy(self) -> bool:
        """False while appends fail. ``trim`` tries again and sets it back."""

    async def open(self) -> None:
        """Make ready. Raises ``StoreUnusable``."""

    async def append(self, batch: Sequence[Append], now_ms: int) -> list[Outcome]:
        """Place a batch at ``now_ms`` (since 1970); one outcome per message, in order.

        Time never runs backwards within the log: a clock that was set back is ignored.

        Serials of a channel are 1, 2, 3 … in the order of the batch, without holes. Returns
        only when ``durability`` holds for the whole batch. Duplicates are found among
        all messages of the last ``dedupe_s`` and within the batch, before anything else is looked
        at. A message about another (``to``) may follow that one in the same batch.

        Raises:
            StoreUnavailable: certainly nothing was written.
            StoreUncertain: some of it may have been written.
        """

    async def read(self, channel: str, after: int, limit: int, max_bytes: int) -> Page:
        """Up to ``limit`` messages after serial ``after``, oldest first.

        Stops once ``max_bytes`` of data are reached, but never before the first message.
        A channel that nobody published to reads as empty. Raises ``StoreUnavailable``.
        """

    async def tops(self, channels: Sequence[str]) -> list[Head]:
        """The ends of many streams in one round trip. Raises ``StoreUnavailable``."""

    async def trim(self, now_ms: int) -> dict[str, int]:
        """Forget what retention no longer promises; returns the floors that moved.

        Never forgets a message that is still promised. Called about once a second.
        """

    async def close(self) -> None:
        """Finish what was begun, then release everything. A second time does nothing."""


class Remembered(msgspec.Struct, frozen=True, gc=False):
    serial: int
    digest: bytes | None  # of the content; None: look at the message itself


def identity(channel: str, user: str, message: str) -> bytes:
    """16 bytes that stand for (channel, user, message id): constant size, whatever a client sends."""
    return blake2b(f"{len(channel)}:{len(user)}:{channel}{user}{message}".encode(), digest_size=16).digest()


def content(kind: str, to: int, data: bytes) -> bytes:
    """16 bytes that stand for a message's content, byte for byte."""
    return blake2b(b"%b\0%d\0%b" % (kind.encode(), to, data), digest_size=16).digest()


def judge(append: Append, target: tuple[str, str] | None) -> Refused | None:
    """May a message about another be placed? ``target``: (user, kind) of that one; None: not retained."""
    if target is None or target[1] != TEXT:
        return Refused("target")
    if append.own and target[0] != append.user:
        return Refused("author")
    return None


GENERATIONS: Final = 4


class Dedupe:
    """Which messages were placed in the last ``ttl_s``, so that a retry finds its first self.

    Entries staged by a batch are found at once (a retry may follow its original within
    the same batch), and become permanent only by ``commit``. Old entries leave in
    generations of ttl/3: one is kept for ttl_s at least and ttl_s × 4/3 at most, without a
    time per entry or a scan.
    """

    def __init__(self, ttl_s: float) -> None:
        self.ttl_ms = ttl_s * 1000
        self._step_ms = max(1.0, self.ttl_ms / (GENERATIONS - 1))
        self._generations: list[dict[bytes, Remembered]] = [{} for _ in range(GENERATIONS)]
        self._staged: dict[bytes, Remembered] = {}
        self._born_ms: int | None = None  # when the newest generation began

    def find(self, key: bytes) -> Remembered | None:
        """What is remembered of ``identity(…)``, staged or committed."""
        if (found := self._staged.get(key)) is not None:
            return found
        for generation in self._generations:
            if (found := generation.get(key)) is not None:
                return found
        return None

    def stage(self, key: bytes, serial: int, digest: bytes) -> None:
        self._staged[key] = Remembered(serial, digest)

    def commit(self, now_ms: int) -> None:
        """What was staged is durable."""
        self._rotate(now_ms)
        if self._staged:
            self._generations[0].update(self._staged)
            self._staged.clear()

    def restore(self, entries: Mapping[bytes, Remembered], newest_ms: int) -> None:
        """Remember what was placed, at ``newest_ms`` or shortly before, by an earlier life of the store."""
        self._rotate(newest_ms)
        self._generations[0].update(entries)

    def rollback(self) -> None:
        """What was staged never happened."""
        self._staged.clear()

    def _rotate(self, now_ms: int) -> None:
        if self._born_ms is None:
            self._born_ms = now_ms
        passed = int((now_ms - self._born_ms) // self._step_ms)
        if passed <= 0:
            return
        for _ in range(min(passed, GENERATIONS)):
            self._generations.pop()
            self._generations.insert(0, {})
        self._born_ms += int(passed * self._step_ms)

    def __len__(self) -> int:
        return sum(map(len, self._generations))

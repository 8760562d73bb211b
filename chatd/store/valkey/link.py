"""The way to a server: a connection that is dialled when it is needed, and what is told of its failures."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from ..base import StoreUnavailable
from .broker import Broker, read_info, read_settings
from .resp import Command, NoReply, NotSent, Reply, ReplyError, Wire, dial
from .scripts import ALL
from .url import Address

RETRY_S: Final = 0.25  # after a failure, how long nobody dials
SETTINGS: Final = ("appendfsync", "no-appendfsync-on-rewrite")

# The server's first words when it has refused a command before doing any of it.
REFUSALS: Final = frozenset(
    "LOADING READONLY OOM MISCONF MASTERDOWN NOREPLICAS NOAUTH WRONGPASS NOPERM BUSY NOSCRIPT".split()
)
ELSEWHERE: Final = frozenset(
    {"READONLY", "MASTERDOWN", "LOADING"}
)  # dial again: the primary may be another one


class Loading(StoreUnavailable):
    """The server is there and still reads its files."""


class Link:
    """A connection of its own to the server.

    Args:
        password: of the user, or empty.
        check: raises ``StoreUnavailable`` if a server that was dialled will not do.
    """

    def __init__(self, address: Address, password: str, check: Callable[[Broker], None]) -> None:
        self._address = address
        self._password = password
        self._check = check
        self._wire: Wire | None = None
        self._dialling = asyncio.Lock()
        self._failed_s = -RETRY_S
        self._why = ""
        self._over = False

    async def wire(self) -> Wire:
        """An open connection. Raises ``StoreUnavailable``."""
        if self._wire is not None and self._wire.open:
            return self._wire
        async with self._dialling:
            if self._wire is not None and self._wire.open:
                return self._wire
            if self._over:
                raise StoreUnavailable("the store is closed")
            now_s = asyncio.get_running_loop().time()
            if now_s - self._failed_s < RETRY_S:
                raise StoreUnavailable(self._why)
            try:
                self._wire = await self._dial()
            except StoreUnavailable as bad:
                self._failed_s, self._why = asyncio.get_running_loop().time(), str(bad)
                raise
            return self._wire

    async def _dial(self) -> Wire:
        wire, address = Wire(), self._address
        try:
            await dial(wire, address.host, address.port, tls=address.tls, timeout_s=address.timeout_s)
            greeted = greeting(address, self._password)
            described: list[Command] = [("INFO",), ("CONFIG", "GET", *SETTINGS)]
            loads = [script.load for script in ALL]
            replies = await wire.ask([*greeted, *described, *loads], address.timeout_s)
        except (NotSent, NoReply) as bad:
            raise StoreUnavailable(f"{address.place} does not answer: {bad}") from None
        info, settings = replies[len(greeted)], replies[len(greeted) + 1]
        replies[len(greeted) + 1] = None  # not every user may ask for it
        try:
            for reply in replies:
                if isinstance(reply, ReplyError):
                    kind = Loading if reply.code == "LOADING" else StoreUnavailable
                    raise kind(f"{address.place} says: {reply}")
            known: Mapping[str, str] = {} if isinstance(settings, ReplyError) else read_settings(settings)
            self._check(Broker(read_info(info), known))
        except BaseException:
            wire.abort()
            raise
        return wire

    async def ask(self, commands: Sequence[Command]) -> list[Reply]:
        """For what may be repeated: one reply each. Raises ``StoreUnavailable``."""
        wire = await self.wire()
        try:
            replies = await self.run(wire, commands, timeout_s=self._address.timeout_s)
        except (NotSent, NoReply) as bad:
            raise StoreUnavailable(f"{self._address.place} does not answer: {bad}") from None
        for reply in replies:
            if isinstance(reply, ReplyError):
                self.judge(reply)
                raise StoreUnavailable(f"{self._address.place} says: {reply}")
        return replies

    async def run(
        self, wire: Wire, commands: Sequence[Command], then: Sequence[Command] = (), *, timeout_s: float
    ) -> list[Reply]:
        """Ask, and ask again for what was not run because the server had forgotten its scripts.

        Args:
            then: commands to send after the others, whenever any of those was run.
        Raises:
            NotSent, NoReply: as ``Wire.ask``.
        """
        replies = await wire.ask([*commands, *then], timeout_s)
        forgotten = [
            index
            for index, reply in enumerate(replies[: len(commands)])
            if isinstance(reply, ReplyError) and reply.code == "NOSCRIPT"
        ]
        if forgotten:
            loads = [script.load for script in ALL]
            again = [commands[index] for index in forgotten]
            found = (await wire.ask([*loads, *again, *then], timeout_s))[len(loads) :]
            for index, reply in zip([*forgotten, *range(len(commands), len(replies))], found, strict=True):
                replies[index] = reply
        return replies

    def judge(self, error: ReplyError) -> None:
        """Leave a server that says that it is not the one to write to."""
        if error.code in ELSEWHERE:
            self.drop()

    def drop(self) -> None:
        if self._wire is not None:
            self._wire.abort()

    async def close(self) -> None:
        self._over = True
        if self._wire is not None:
            self._wire.abort()
            await self._wire.closed.wait()


def greeting(address: Address, password: str) -> list[Command]:
    """What a new connection begins with."""
    commands: list[Command] = []
    if password:
        commands.append(("AUTH", address.user or "default", password))
    if address.db:
        commands.append(("SELECT", address.db))
    return commands

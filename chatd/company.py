"""Presence, typing and receipts across nodes: what this node tells, and what it makes of what it hears.

No I/O. Nothing of this is kept by the broker, and anything may be lost on the way, so each node says what
changes when it changes, and says everything again every ``RETELL_S``; a node that is not heard of for
``SILENT_S``, or has left the registry, is gone with all who were there. A node that begins to hear a channel
asks, and is answered by those who have something to say. A user is present over a node, whatever number of
connections he has there; receipts are marks that only rise, so they merge in any order. PROTOCOL.md §
Presence.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

import msgspec

from .ephemeral import Ephemeral
from .logs import log
from .protocol.messages import NULL, Mark, ReceiptKind

RETELL_S: Final = 5.0
SILENT_S: Final = 3 * RETELL_S
PIECE: Final = 500  # members told at once


class Present(msgspec.Struct, frozen=True, tag="p", omit_defaults=True):
    """Whether a user is there over the node that says so, and what he says of himself."""

    user: str
    data: msgspec.Raw = NULL
    there: bool = True


class State(msgspec.Struct, frozen=True, tag="s"):
    """A piece of all who are there over the node; after the last one, nobody else is."""

    members: list[Present]
    first: bool
    last: bool


class Typed(msgspec.Struct, frozen=True, tag="t"):
    user: str
    on: bool


class Read(msgspec.Struct, frozen=True, tag="r"):
    user: str
    kind: ReceiptKind
    serial: int


class Marked(msgspec.Struct, frozen=True, tag="m"):
    """All the marks that the node knows of, whoever made them."""

    marks: list[Mark]


class Asked(msgspec.Struct, frozen=True, tag="a"):
    """The node has begun to hear the channel: what is there?"""


Said = Present | State | Typed | Read | Marked | Asked
_encode: Final = msgspec.json.Encoder().encode
_decoder: Final = msgspec.json.Decoder(Said)
Tell = Callable[[str, bytes], None]


class Company:
    """The other nodes' part of each channel's company.

    Args:
        ephemeral: of this node; what changes in it by its own clients is told to the others.
        tell: sends a payload to the nodes that hear a channel, at most once; never raises.
        hears: whether this node hears a channel, so that what it is told stays true.
        clock: seconds, monotonic.
    """

    def __init__(
        self, ephemeral: Ephemeral, tell: Tell, hears: Callable[[str], bool], clock: Callable[[], float]
    ) -> None:
        self._ephemeral = ephemeral
        self._tell = tell
        self._hears = hears
        self._clock = clock
        self._heard: dict[tuple[str, str], float] = {}  # (channel, node) → when it was last heard of
        self._pieces: dict[tuple[str, str], set[str]] = {}  # users of a state that is not whole yet
        self._retell_at = 0.0
        ephemeral.changed = self._changed
        ephemeral.typed = lambda name, user, on: self._say(name, Typed(user, on))
        ephemeral.marked = lambda name, user, kind, serial: self._say(name, Read(user, kind, serial))

    # What this node tells -------------------------------------------------------------------------

    def _say(self, name: str, said: Said) -> None:
        self._tell(name, _encode(said))

    def _changed(self, name: str, user: str) -> None:
        data = self._ephemeral.own_data(name, user)
        self._say(name, Present(user, there=False) if data is None else Present(user, data))

    def joined(self, name: str) -> None:
        """This node hears the channel from now on."""
        self._say(name, Asked())

    def left(self, name: str) -> None:
        """It hears the channel no more: what others said of it is no longer known to be true."""
        for channel, node in [key for key in self._heard if key[0] == name]:
            self._forget(channel, node)

    def tick(self, now: float, alive: Collection[str]) -> None:
        """About once a second: say everything again when it is time; forget who is gone.

        Args:
            alive: names of the nodes of the registry; empty: it cannot be read.
        """
        if now >= self._retell_at:
            self._retell_at = now + RETELL_S
            for name in self._ephemeral.own_rooms():
                self._tell_state(name)
        for (name, node), heard in list(self._heard.items()):
            if now - heard > SILENT_S or (alive and node not in alive):
                self._forget(name, node)

    def _tell_state(self, name: str) -> None:
        members = [Present(user, data) for user, data in self._ephemeral.own_members(name)]
        for at in range(0, max(1, len(members)), PIECE):
            self._say(name, State(members[at : at + PIECE], at == 0, at + PIECE >= len(members)))

    # What others tell -----------------------------------------------------------------------------

    def heard(self, name: str, node: str, payload: bytes) -> None:
        """Another node said something. What cannot be read is logged and left out."""
        try:
            said = _decoder.decode(payload)
        except msgspec.MsgspecError as bad:
            log("bad_telling", level="error", node=node, reason=str(bad))
            return
        if not self._hears(name):
            return
        ephemeral = self._ephemeral
        match said:
            case Present():
                self._heard[name, node] = self._clock()
                ephemeral.remote(name, node, said.user, _data(said))
            case State():
                self._state(name, node, said)
            case Typed():
                ephemeral.remote_typing(name, node, said.user, on=said.on)
            case Read():
                ephemeral.remote_mark(name, Mark(said.user, **{said.kind: said.serial}))
            case Marked():
                for mark in said.marks:
                    ephemeral.remote_mark(name, mark)
            case Asked():
                if ephemeral.own_members(name):
                    self._tell_state(name)
                if marks := ephemeral.all_marks(name):
                    self._say(name, Marked(marks))

    def _state(self, name: str, node: str, said: State) -> None:
        key = (name, node)
        self._heard[key] = self._clock()
        if said.first:
            self._pieces[key] = set()
        elif key not in self._pieces:
            return  # its beginning was lost: the next one tells all of it
        for member in said.members:
            self._pieces[key].add(member.user)
            self._ephemeral.remote(name, node, member.user, _data(member))
        if said.last:
            there = self._pieces.pop(key)
            for user in self._ephemeral.members_over(name, node) - there:
                self._ephemeral.remote(name, node, user, None)

    def _forget(self, name: str, node: str) -> None:
        self._heard.pop((name, node), None)
        self._pieces.pop((name, node), None)
        for user in self._ephemeral.members_over(name, node):
            self._ephemeral.remote(name, node, user, None)


def _data(said: Present) -> msgspec.Raw | None:
    return said.data.copy() if said.there else None

"""Presence, typing and receipts of this node: who asks, who is told, and when. No sockets.

None of it is stored. What changes is gathered by ``Roster``, ``Typists`` and ``Marks``, and pushed
to the live subscribers of the channel when it is due. A push may be dropped for a connection that
is behind; presence and receipts are then sent to it whole when it is free again, so all
converge. PROTOCOL.md § Presence, § Typing, § Receipts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Literal

from msgspec import Raw

from .agenda import Agenda
from .effects import Subscription
from .flush import Outlet
from .framing import text_frame
from .hub import Channel, Hub
from .presence import CROWD, Roster
from .protocol.errors import ChatdError, Unknown
from .protocol.messages import (
    Mark,
    Presence,
    PresenceRequest,
    Receipt,
    ReceiptKind,
    ReceiptNotice,
    Typing,
    TypingNotice,
    encode,
)
from .receipts import Marks
from .typists import TTL_S, Typists

AGAIN_S: Final = 1.0  # between attempts at what could not be pushed
MARKED: Final = 10_000  # channels with receipts; beyond it those without news for longest are forgotten

Part = Literal["presence", "typing", "receipts", "behind"]
Key = Outlet | str  # a connection of this node; the name of another node, for all that are on it


class Room:
    """What one channel has of all this."""

    __slots__ = ("behind", "marks", "roster", "sync", "typists", "unmarked", "watchers")

    def __init__(self, name: str) -> None:
        self.roster = Roster[Key](name)
        self.watchers: dict[Outlet, None] = {}  # live, and asked for presence
        self.typists = Typists[Key]()
        self.marks = Marks()
        self.behind: dict[Outlet, None] = {}  # missed a push of presence
        self.unmarked: dict[Outlet, None] = {}  # missed one of receipts
        self.sync: tuple[Presence, bytes] | None = None  # encoded once for all who come meanwhile

    @property
    def empty(self) -> bool:
        idle = self.roster.empty and self.typists.due is None
        return idle and not (self.watchers or self.behind or self.unmarked or self.marks)

    def sync_frame(self) -> bytes:
        sync = self.roster.sync()
        if self.sync is None or self.sync[0] is not sync:
            self.sync = sync, text_frame(encode(sync))
        return self.sync[1]


class Ephemeral:
    """All rooms of a node.

    Args:
        schedule: calls a function after a delay in seconds.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        hub: Hub,
        schedule: Callable[[float, Callable[[], None]], object],
        clock: Callable[[], float],
    ) -> None:
        self._hub = hub
        self._schedule = schedule
        self._clock = clock
        self._rooms: dict[str, Room] = {}
        self._marked: dict[str, None] = {}  # channels with marks, the last one with news last
        self._agenda = Agenda[tuple[str, Part]]()
        self._alarm: float | None = None  # when ``_ring`` is called next
        hub.joined = self.joined
        # What this node's own clients changed: chatd/company.py tells it to the other nodes.
        self.changed: Callable[[str, str], None] = lambda name, user: None
        self.typed: Callable[[str, str, bool], None] = lambda name, user, on: None
        self.marked: Callable[[str, str, ReceiptKind, int], None] = lambda name, user, kind, serial: None

    def __len__(self) -> int:
        return len(self._rooms)

    def _room(self, name: str) -> Room:
        room = self._rooms.get(name)
        if room is None:
            room = self._rooms[name] = Room(name)
        return room

    # What clients say -------------------------------------------------------------------------------

    def share(
        self, request: PresenceRequest | TypingNotice | ReceiptNotice, user: str, outlet: Outlet
    ) -> Presence | ChatdError | None:
        """Take in what a client says; returns the answer, if there is any."""
        name, now = request.channel, self._clock()
        match request:
            case PresenceRequest():
                return self._presence(request, user, outlet, now)
            case TypingNotice():
                typists = self._room(name).typists
                if request.on:
                    typists.type(user, outlet, now)
                else:
                    typists.stop(user, outlet)
                self._agenda.put((name, "typing"), typists.due)
                self.typed(name, user, request.on)
            case ReceiptNotice():
                channel = self._hub.channel(name)
                if channel is None or not channel.open or request.serial > channel.head.top:
                    return Unknown(f"serial is {request.serial}: {name!r} has no such message")
                marks = self._room(name).marks
                if marks.report(user, request.kind, request.serial, now):
                    self._agenda.put((name, "receipts"), marks.due)
                    self._remember(name)
                    self.marked(name, user, request.kind, request.serial)
        self._tidy(name)
        self._wake(now)
        return None

    def _presence(self, request: PresenceRequest, user: str, outlet: Outlet, now: float) -> Presence:
        name = request.channel
        room = self._room(name)
        if request.op == "get":
            answer = room.roster.sync(request.id)
        else:
            if request.op == "leave":
                room.roster.leave(user, outlet, now)
            else:
                room.roster.enter(user, outlet, request.data.copy(), now)
            self._agenda.put((name, "presence"), room.roster.due)
            roster = room.roster
            answer = Presence(id=request.id, channel=name, version=roster.version, count=len(roster))
            self.changed(name, user)
        self._tidy(name)
        self._wake(now)
        return answer

    def depart(self, name: str, user: str, outlet: Outlet) -> None:
        """A member's connection is gone."""
        room, now = self._rooms.get(name), self._clock()
        if room is not None:
            room.roster.leave(user, outlet, now)
            self._agenda.put((name, "presence"), room.roster.due)
            self.changed(name, user)
            self._tidy(name)
            self._wake(now)

    # What other nodes say ---------------------------------------------------------------------------

    def remote(self, name: str, node: str, user: str, data: Raw | None) -> None:
        """A user is present over another node, with this data; without data he is not, any more."""
        room, now = self._room(name), self._clock()
        if data is None:
            room.roster.leave(user, node, now)
        elif data != room.roster.said(user, lambda key: key == node):  # most of what is told again is known
            room.roster.enter(user, node, data, now)
        self._put_off(name, "presence", room.roster.due, now)

    def remote_typing(self, name: str, node: str, user: str, *, on: bool) -> None:
        room, now = self._room(name), self._clock()
        if on:
            room.typists.type(user, node, now)
        else:
            room.typists.stop(user, node)
        self._put_off(name, "typing", room.typists.due, now)

    def remote_mark(self, name: str, mark: Mark) -> None:
        room, now = self._room(name), self._clock()
        kinds: tuple[tuple[ReceiptKind, int], ...] = (("delivered", mark.delivered), ("read", mark.read))
        for kind, serial in kinds:
            if serial and room.marks.report(mark.user, kind, serial, now):
                self._remember(name)
        self._put_off(name, "receipts", room.marks.due, now)

    def _put_off(self, name: str, part: Part, due: float | None, now: float) -> None:
        self._agenda.put((name, part), due)
        self._tidy(name)
        self._wake(now)

    # What other nodes are told ----------------------------------------------------------------------

    def own_rooms(self) -> list[str]:
        """Channels in which somebody is present over this node."""
        return [name for name, room in self._rooms.items() if room.roster.over(_own)]

    def own_members(self, name: str) -> list[tuple[str, Raw]]:
        room = self._rooms.get(name)
        return [] if room is None else [(member.user, member.data) for member in room.roster.over(_own)]

    def own_data(self, name: str, user: str) -> Raw | None:
        """What a user says of himself over this node; None: he is not present over it."""
        room = self._rooms.get(name)
        return None if room is None else room.roster.said(user, _own)

    def members_over(self, name: str, node: str) -> set[str]:
        """Who is present over another node."""
        room = self._rooms.get(name)
        return (
            set() if room is None else {member.user for member in room.roster.over(lambda key: key == node)}
        )

    def all_marks(self, name: str) -> list[Mark]:
        room = self._rooms.get(name)
        return [] if room is None else room.marks.all()

    def _remember(self, name: str) -> None:
        self._marked.pop(name, None)
        self._marked[name] = None
        if len(self._marked) > MARKED:
            oldest = next(iter(self._marked))
            del self._marked[oldest]
            self._rooms[oldest].marks = Marks()
            self._agenda.put((oldest, "receipts"), None)
            self._tidy(oldest)

    # Who listens ------------------------------------------------------------------------------------

    def joined(self, channel: Channel, subscription: Subscription, outlet: Outlet) -> None:
        """A subscription went live: what it asked for begins here."""
        if subscription.presence:
            room = self._room(channel.name)
            room.watchers[outlet] = None
            self._offer(channel.name, [outlet], room.sync_frame(), room.behind)
        known = self._rooms.get(channel.name)
        if known is None or not known.marks:
            return
        if self._crowded(channel):
            known.marks.again(self._clock() + AGAIN_S)
            self._agenda.put((channel.name, "receipts"), known.marks.due)
            self._wake(self._clock())
        else:
            self._offer(channel.name, [outlet], self._marks_frame(known), known.unmarked)

    def left(self, name: str, user: str, outlet: Outlet) -> None:
        """A subscription is over: nothing more for it, and nobody types over it."""
        room = self._rooms.get(name)
        if room is None:
            return
        for table in (room.watchers, room.behind, room.unmarked):
            table.pop(outlet, None)
        room.typists.stop(user, outlet)
        self._agenda.put((name, "typing"), room.typists.due)
        self._tidy(name)
        self._wake(self._clock())

    def _tidy(self, name: str) -> None:
        room = self._rooms.get(name)
        if room is not None and room.empty:
            del self._rooms[name]

    # Pushing ----------------------------------------------------------------------------------------

    def _wake(self, now: float) -> None:
        due = self._agenda.due
        if due is not None and (self._alarm is None or due < self._alarm):
            self._alarm = due
            self._schedule(max(0.0, due - now), self._ring)

    def _ring(self) -> None:
        now = self._clock()
        self._alarm = None
        for name, part in self._agenda.expire(now):
            room = self._rooms.get(name)
            if room is None:
                continue
            match part:
                case "presence":
                    self._push_presence(name, room, now)
                case "typing":
                    self._push_typing(name, room, now)
                case "receipts":
                    self._push_receipts(name, room, now)
                case "behind":
                    self._catch_up(name, room)
            self._tidy(name)
        self._wake(now)

    def _push_presence(self, name: str, room: Room, now: float) -> None:
        push = room.roster.take(now)
        self._agenda.put((name, "presence"), room.roster.due)
        if push is not None and room.watchers:
            self._offer(name, room.watchers, text_frame(encode(push)), room.behind)

    def _push_typing(self, name: str, room: Room, now: float) -> None:
        turns = room.typists.take(now)
        self._agenda.put((name, "typing"), room.typists.due)
        channel = self._hub.channel(name)
        if channel is None or self._crowded(channel):
            return
        for turn in turns:
            typing = Typing(channel=name, user=turn.user, on=turn.on, ttl_ms=int(TTL_S * 1000))
            frame = text_frame(encode(typing))
            for outlet in self._hub.listeners(channel):
                if outlet not in turn.senders:
                    outlet.offer(frame)

    def _push_receipts(self, name: str, room: Room, now: float) -> None:
        marks = room.marks.take(now)
        channel = self._hub.channel(name)
        if channel is not None and self._crowded(channel):
            room.marks.again(now + AGAIN_S)
        elif channel is not None and marks:
            frame = text_frame(encode(Receipt(channel=name, marks=marks)))
            self._offer(name, self._hub.listeners(channel), frame, room.unmarked)
        self._agenda.put((name, "receipts"), room.marks.due)

    def _crowded(self, channel: Channel) -> bool:
        return len(channel.live) + len(channel.quiet) > CROWD

    @staticmethod
    def _marks_frame(room: Room) -> bytes:
        return text_frame(encode(Receipt(channel=room.roster.channel, marks=room.marks.all())))

    def _offer(self, name: str, outlets: Iterable[Outlet], frame: bytes, missed: dict[Outlet, None]) -> None:
        for outlet in list(outlets):
            if not outlet.offer(frame):
                missed[outlet] = None
        if missed:
            self._agenda.put((name, "behind"), self._clock() + AGAIN_S)
            self._wake(self._clock())

    def _catch_up(self, name: str, room: Room) -> None:
        """Whole states for those who missed a part, as far as they are free now."""
        behind, room.behind = room.behind, {}
        unmarked, room.unmarked = room.unmarked, {}
        self._offer(name, behind, room.sync_frame(), room.behind)
        self._offer(name, unmarked, self._marks_frame(room), room.unmarked)


def _own(key: Key) -> bool:
    return not isinstance(key, str)

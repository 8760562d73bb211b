"""frame: acts on WebSocket messages that match a rule."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from chaos.proxy.draws import Draws
from chaos.proxy.frame_actions import (
    ACTIONS,
    MAX_SIZE,
    PURE,
    Turn,
    broken_code,
    close_frame,
    injected,
    parse_changes,
)
from chaos.proxy.frame_view import Change, Seen
from chaos.proxy.frames import Cutter, Message, Opcode
from chaos.proxy.toxics.base import MS, Chunk, End, Place, Release

DATA = frozenset({Opcode.TEXT, Opcode.BINARY})
OPCODES: dict[str, frozenset[Opcode]] = {
    "data": DATA,
    "text": frozenset({Opcode.TEXT}),
    "binary": frozenset({Opcode.BINARY}),
    "ping": frozenset({Opcode.PING}),
    "pong": frozenset({Opcode.PONG}),
    "close": frozenset({Opcode.CLOSE}),
    "liveness": frozenset({Opcode.PING, Opcode.PONG}),  # and what the view calls so
    "any": frozenset(Opcode) - {Opcode.CONTINUATION},
}
MOST_CHANNELS = 64  # that "move" remembers of a connection
MOST_OLD = 1 << 16  # bytes of the old message that "inject" remembers


@dataclass(slots=True)
class _State:
    """What one direction of one connection has come to."""

    place: Place
    cutter: Cutter
    draws: Draws | None = None  # when it is first needed: by then the client's ordinal is known
    index: int = 0  # messages so far, control frames too
    matched: int = 0
    acted: int = 0
    closed: bool = False
    waiting: tuple[bytes, Seen | None] | None = None  # of a swap: what waits for the next
    old: bytes | None = None
    channels: dict[str, None] = field(default_factory=dict)  # in order of sight
    told: tuple[int, int, int] = (0, 0, 0)  # messages, bytes unparsed, too long: what is counted already

    def over(self) -> bool:
        """Whether a close frame of ours has gone out: nothing may follow it."""
        return self.closed


@dataclass(slots=True)
class Frame:
    """Does ``action`` to each message that matches; all other bytes pass as they came.

    A message matches by ``opcode``, and with a frame view by ``type`` and ``channel``. Of those on
    one direction of one connection the first ``after`` are let pass, then each ``every``-th is taken, with
    ``probability``, at most ``times`` times (0: no limit).
    """

    action: str = ""
    opcode: str = "data"
    type: str = ""
    channel: str = ""
    after: int = 0
    every: int = 1
    times: int = 0
    probability: float = 1.0  # drawn for each message, by its place in the stream
    delay: int = 0  # ms, of delay: what comes behind waits too, so order is kept
    size: int = 0  # bytes, of fragment and oversize
    code: int = 0  # of close
    changes: str = ""  # of rewrite, as JSON: frame_actions.parse_changes
    to: str = ""  # channel, of move; "" another that was seen on the connection
    payload: str = ""  # of inject
    body: str = ""  # of inject: a copy of the message, with this body
    _state: _State | None = field(default=None, init=False)
    _parsed: tuple[Change, ...] = field(default=(), init=False)

    def __post_init__(self) -> None:
        if self.changes and not self.broken_rule():
            self._parsed = parse_changes(self.changes)

    @property
    def parsed(self) -> tuple[Change, ...]:
        """``changes``."""
        return self._parsed

    def begin(self, place: Place) -> None:
        """Work there from now on."""
        self._state = _State(place, Cutter(masked=place.direction == "upstream"))

    def flow(self, data: Chunk, t: float, draws: Draws) -> Iterator[Release]:
        """All of it but what the rule changes; a message that is not whole yet is held."""
        state = self._state
        assert state is not None
        if state.over():
            return
        out: list[bytes] = []
        for part in state.cutter.feed(data):
            if isinstance(part, bytes):
                out.append(part)
                continue
            changed = self._message(part, state)
            if changed is None:
                out.append(part.wire)
            elif self.action == "delay":
                if out:
                    yield t, b"".join(out)
                    out.clear()
                yield t + self.delay * MS, part.wire
            else:
                out.append(changed)
            if state.over():
                break
        self._count(state)
        if passing := b"".join(out):
            yield t, passing

    def left(self) -> bytes:
        """What is held of a message, and what waits to be swapped."""
        state = self._state
        if state is None or state.closed:
            return b""
        waiting, state.waiting = state.waiting, None
        return (waiting[0] if waiting else b"") + state.cutter.left()

    def removed(self) -> End | None:
        """After a close frame nothing may follow, so the connection ends."""
        return End.CLOSE if self._state is not None and self._state.closed else None

    def wants_view(self) -> str | None:
        """The attribute that needs a frame view."""
        if self.action in ("rewrite", "move"):
            return "action"
        return next((name for name in ("type", "channel", "body") if getattr(self, name)), None)

    def broken_rule(self) -> str | None:
        """Each action takes its own attributes, and no other's."""
        if self.action not in ACTIONS:
            return f"action is {self.action!r}: must be one of {', '.join(ACTIONS)}"
        if self.opcode not in OPCODES:
            return f"opcode is {self.opcode!r}: must be one of {', '.join(OPCODES)}"
        if self.every < 1:
            return f"every is {self.every}: must be 1 or more"
        if not 0 <= self.probability <= 1:
            return f"probability is {self.probability}: must be from 0 to 1"
        return self._broken_own()

    def _broken_own(self) -> str | None:
        needed, optional = ACTIONS[self.action]
        for name in ("delay", "size", "code", "changes", "to", "payload", "body"):
            value = getattr(self, name)
            if value and name not in needed + optional:
                return f"{name} is {value!r}: action {self.action} does not take it"
            if not value and name in needed:
                return f"{name} is {value!r}: action {self.action} needs it"
        if self.payload and self.body:
            return f"body is {self.body!r}: inject takes a payload or a body, not both"
        if self.size > MAX_SIZE:
            return f"size is {self.size}: must be at most {MAX_SIZE}"
        if self.code and (rule := broken_code(self.code)):
            return f"code is {self.code}: {rule}"
        if self.changes:
            try:
                parse_changes(self.changes)
            except ValueError as error:
                return f"changes is {self.changes!r}: {error}"
        return None

    # One message

    def _message(self, message: Message, state: _State) -> bytes | None:
        """What leaves instead of it, control frames between its fragments included; None: itself."""
        before = b""
        touched = False
        for control in message.between:
            changed = self._single(control, state)
            touched = touched or changed is not None
            before += control.wire if changed is None else changed
        changed = self._single(message, state)
        if changed is None:
            return before + message.own if touched else None
        return before + changed

    def _single(self, message: Message, state: _State) -> bytes | None:
        state.index += 1
        matches, seen = self._matches(message, state)
        if self.action == "move" and seen and len(state.channels) < MOST_CHANNELS:
            state.channels.setdefault(seen.channel)
        if not matches:
            return None
        if state.waiting is not None and state.waiting[1] == seen:
            waiting, state.waiting = state.waiting, None
            return message.own + waiting[0]
        draw = self._draw(state)
        old, state.old = state.old, state.old or (message.own if len(message.wire) <= MOST_OLD else None)
        if not self._taken(state, draw):
            return None
        turn = Turn(message, self, state.place.view, draw)
        changed = self._act(turn, state, seen, old)
        if changed is None:
            state.place.counts["unfit"] += 1
            return None
        state.acted += 1
        state.place.counts["acted"] += 1
        about = {"type": seen.type, "channel": seen.channel} if seen else {}
        state.place.emit(event="frame", action=self.action, opcode=message.opcode, index=state.index, **about)
        return changed

    def _matches(self, message: Message, state: _State) -> tuple[bool, Seen | None]:
        view, opcode = state.place.view, message.opcode
        if view is None or message.rsv1 or opcode not in DATA or not self._reads():
            unreadable = bool(self.type or self.channel)
            return opcode in OPCODES[self.opcode] and not unreadable, None
        seen = view.read(message.payload)
        if seen is None:
            state.place.counts["unread"] += 1
            return opcode in OPCODES[self.opcode] and not (self.type or self.channel), None
        if self.opcode == "liveness":
            return seen.type in view.liveness, Seen(*seen)
        right = opcode in OPCODES[self.opcode]
        right = right and self.type in ("", seen.type) and self.channel in ("", seen.channel)
        return right, Seen(*seen)

    def _reads(self) -> bool:
        """Whether it makes a difference what a message is."""
        return bool(self.type or self.channel) or self.action in ("swap", "move") or self.opcode == "liveness"

    def _taken(self, state: _State, draw: Callable[[int], float]) -> bool:
        state.matched += 1
        nth = state.matched - self.after
        if nth < 1 or (nth - 1) % self.every or (self.times and state.acted >= self.times):
            return False
        return self.probability >= 1 or draw(0) < self.probability

    def _draw(self, state: _State) -> Callable[[int], float]:
        """Random numbers of the message at hand: of its place in the stream, whenever they are asked for."""
        if state.draws is None:
            place = state.place
            state.draws = Draws(place.seed, place.name, *place.whose(), place.direction)
        draws, index = state.draws, state.index
        return lambda nth: draws.at(index * 8 + nth)

    def _act(self, turn: Turn, state: _State, seen: Seen | None, old: bytes | None) -> bytes | None:
        message = turn.message
        if pure := PURE.get(self.action):
            return pure(turn)
        if self.action == "delay":
            return message.own
        if self.action == "swap":
            if state.waiting is not None:  # of another channel: it has to wait for its own next
                return None
            state.waiting = (message.own, seen)
            return b""
        if self.action == "move":
            return self._moved(turn, state, seen)
        if self.action == "inject":
            more = injected(turn, old)
            return None if more is None else message.own + more
        state.closed = True
        return message.own + close_frame(self.code, message.mask)

    def _moved(self, turn: Turn, state: _State, seen: Seen | None) -> bytes | None:
        view = turn.readable()
        others = [name for name in state.channels if name and seen and name != seen.channel]
        to = self.to or (others[int(turn.draw(1) * len(others))] if others else "")
        if view is None or seen is None or not to or to == seen.channel:
            return None
        moved = view.moved(turn.message.payload, to)
        return None if moved is None else turn.message.remade(moved)

    def _count(self, state: _State) -> None:
        """Add what is new to the figures of the whole toxic."""
        cutter, counts = state.cutter, state.place.counts
        messages, unparsed, too_long = state.told
        now = (state.index, cutter.unparsed, cutter.too_long)
        if now == state.told:
            return
        state.told = now
        counts["messages"] += now[0] - messages
        if now[1] != unparsed:
            counts["unparsed_bytes"] += now[1] - unparsed
        if now[2] != too_long:
            counts["too_long"] += now[2] - too_long

"""What a frame rule does to a message: a message in, frames out. No state, no I/O.

``ACTIONS`` lists them all, with the attributes that each takes beyond those of the match. Those that need to
remember something, or time, are carried out by the toxic itself (toxics/frame.py).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from chaos.proxy.frame_view import HOWS, Change, FrameView
from chaos.proxy.frames import Message, Opcode, frame

MAX_SIZE: Final = 1 << 24  # bytes of an oversized message
MIN_CLOSE, MAX_CLOSE = 1000, 4999
UNSENDABLE: Final = frozenset({1004, 1005, 1006, 1015})  # RFC 6455 § 7.4: never on the wire
_BAD_BYTE: Final = 0xFF  # in no UTF-8


class Rule(Protocol):
    """The attributes that actions read; see toxics/frame.py."""

    size: int
    code: int
    to: str
    payload: str
    body: str

    @property
    def parsed(self) -> tuple[Change, ...]: ...


@dataclass(frozen=True, slots=True)
class Turn:
    """One message and what an action may use.

    ``draw``: the n-th random number in [0, 1) that belongs to this message.
    """

    message: Message
    rule: Rule
    view: FrameView | None
    draw: Callable[[int], float]

    def readable(self) -> FrameView | None:
        """The view, when it can read this message: what an extension has packed, it cannot."""
        return None if self.message.rsv1 else self.view


Action = Callable[[Turn], bytes | None]  # what leaves instead of the message's own frames; None: cannot


def drop(turn: Turn) -> bytes:
    return b""


def duplicate(turn: Turn) -> bytes:
    return turn.message.own * 2


def corrupt(turn: Turn) -> bytes | None:
    """Change one bit of the body, or of the payload without a view; a letter becomes another letter.

    So text stays text, and the envelope around it stays readable.
    """
    payload, view = bytearray(turn.message.payload), turn.readable()
    span = view.body(bytes(payload)) if view else (0, len(payload))
    if span is None:
        return None
    start, end = span
    places = [at for at in range(start, end) if _is_word(payload[at]) and _is_word(payload[at] ^ 1)]
    if not places:
        return None
    payload[places[int(turn.draw(1) * len(places))]] ^= 1
    return turn.message.remade(bytes(payload))


def _is_word(byte: int) -> bool:
    return chr(byte).isalnum() and byte < 0x80


def rewrite(turn: Turn) -> bytes | None:
    view = turn.readable()
    changed = view.changed(turn.message.payload, turn.rule.parsed) if view else None
    return None if changed is None else turn.message.remade(changed)


def fragment(turn: Turn) -> bytes | None:
    """The same message in frames of ``size`` bytes."""
    message, size = turn.message, turn.rule.size
    payload = message.payload
    if len(payload) <= size:
        return None
    cuts = range(0, len(payload), size)
    return b"".join(
        frame(
            message.opcode if cut == 0 else Opcode.CONTINUATION,
            payload[cut : cut + size],
            mask=message.mask,
            final=cut + size >= len(payload),
            rsv1=message.rsv1 and cut == 0,
        )
        for cut in cuts
    )


def oversize(turn: Turn) -> bytes | None:
    """The same message, filled up with spaces: the same JSON, only longer."""
    payload = turn.message.payload
    filled = payload.ljust(turn.rule.size)
    return turn.message.remade(filled) if len(filled) > len(payload) else None


def bad_mask(turn: Turn) -> bytes:
    """A client's frame that is not masked, or a server's that is (RFC 6455 § 5.1)."""
    message = turn.message
    mask = None if message.mask is not None else b"\x01\x02\x03\x04"
    return frame(message.opcode, message.payload, mask=mask, rsv1=message.rsv1)


def bad_utf8(turn: Turn) -> bytes | None:
    """A byte that is in no UTF-8, in the middle of a text."""
    payload = bytearray(turn.message.payload)
    if turn.message.opcode != Opcode.TEXT or not payload:
        return None
    payload[len(payload) // 2] = _BAD_BYTE
    return turn.message.remade(bytes(payload))


def close_frame(code: int, mask: bytes | None) -> bytes:
    return frame(Opcode.CLOSE, code.to_bytes(2, "big"), mask=mask)


def injected(turn: Turn, old: bytes | None) -> bytes | None:
    """What ``inject`` puts behind a message: a given payload, a copy with another body, or an old message."""
    rule, message, view = turn.rule, turn.message, turn.readable()
    if rule.payload:
        return message.remade(rule.payload.encode())
    if rule.body:
        made = view.with_body(message.payload, rule.body.encode()) if view else None
        return None if made is None else message.remade(made)
    return old


PURE: Final[Mapping[str, Action]] = {
    "drop": drop,
    "duplicate": duplicate,
    "corrupt": corrupt,
    "rewrite": rewrite,
    "fragment": fragment,
    "oversize": oversize,
    "bad_mask": bad_mask,
    "bad_utf8": bad_utf8,
}
# Attributes that an action must have, and those that it may have.
ACTIONS: Final[Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "drop": ((), ()),
    "duplicate": ((), ()),
    "swap": ((), ()),
    "delay": (("delay",), ()),
    "corrupt": ((), ()),
    "rewrite": (("changes",), ()),
    "move": ((), ("to",)),
    "inject": ((), ("payload", "body")),
    "close": (("code",), ()),
    "fragment": (("size",), ()),
    "oversize": (("size",), ()),
    "bad_mask": ((), ()),
    "bad_utf8": ((), ()),
}


def parse_changes(text: str) -> tuple[Change, ...]:
    """The changes of a rewrite, from JSON: ``[["position.1", "add", 1], ["gap", "remove"]]``.

    Raises:
        ValueError: with the rule that is broken.
    """
    rule = 'must be a list like [["position.1", "add", 1], ["resumed", "set", true], ["gap", "remove"]]'
    try:
        items = json.loads(text)
        changes = tuple(Change(*item) for item in items)
    except (ValueError, TypeError, RecursionError):
        raise ValueError(rule) from None
    for change in changes:
        if not (isinstance(change.field, str) and change.field and change.how in HOWS):
            raise ValueError(rule)
        if change.how == "add" and (isinstance(change.value, bool) or not isinstance(change.value, int)):
            raise ValueError(f"{rule}; add takes a whole number")
    if not changes:
        raise ValueError(rule)
    return changes


def broken_code(code: int) -> str | None:
    """The rule that a close code breaks, if any."""
    if MIN_CLOSE <= code <= MAX_CLOSE and code not in UNSENDABLE:
        return None
    return f"must be a close code that may be sent, {MIN_CLOSE} to {MAX_CLOSE} (RFC 6455 § 7.4)"


__all__ = [
    "ACTIONS", "MAX_SIZE", "PURE", "Action", "Rule", "Turn", "broken_code", "close_frame", "injected",
    "parse_changes",
]  # fmt: skip

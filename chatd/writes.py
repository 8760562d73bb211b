"""What becomes a message of the log: publish, react, edit and delete. PROTOCOL.md § Publishing.

A reaction, an edit or a deletion is a message of its own, about an earlier one. So it is ordered,
resumed and de-duplicated like any other, and the one that it is about is never rewritten.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from typing import Final

import msgspec

from .checks import check_name, check_serial
from .protocol.errors import BadRequest, ChatdError, Forbidden, IdReused, Unknown
from .protocol.messages import Edit, Publish, React, Write, encode
from .store.base import Append, Conflict, Refused

EMOJI_BYTES: Final = 64
_NOT_IN_EMOJI: Final = frozenset({"Cc", "Cs", "Zl", "Zp", "Zs"})  # joiners (Cf) are part of many emoji


class Reaction(msgspec.Struct, frozen=True):
    """``data`` of a message of kind ``react``."""

    emoji: str
    op: str


def nobody(channel: str) -> bool:
    """Nobody moderates: a message is changed by its author or not at all."""
    return False


def to_append(request: Write, user: str, moderates: Callable[[str], bool] = nobody) -> Append:
    """The message that a request asks to place. Raises ``BadRequest``.

    Args:
        moderates: may the user edit and delete what others wrote on a channel?
    """
    channel = check_name("channel", request.channel)
    message = check_name("message", request.message)
    if isinstance(request, Publish):
        return Append(channel, user, message, bytes(request.data))
    if request.to < 1:
        raise BadRequest(f"to is {request.to}: must be the serial of a message, 1 or more")
    check_serial("to", request.to)
    if isinstance(request, React):
        data = encode(Reaction(_emoji(request.emoji), request.op))
        return Append(channel, user, message, data, "react", request.to)
    own = not moderates(channel)
    if isinstance(request, Edit):
        return Append(channel, user, message, bytes(request.data), "edit", request.to, own)
    return Append(channel, user, message, b"null", "delete", request.to, own)


def refusal(request: Write, outcome: Conflict | Refused) -> ChatdError:
    """Why the store did not place it."""
    if isinstance(outcome, Conflict):
        return IdReused(f"message {request.message!r} was published before with other content")
    to = getattr(request, "to", 0)
    if outcome.why == "author":
        return Forbidden(f"to is {to}: that message is of another user; only its author may change it")
    return Unknown(f"to is {to}: no message of kind text with this serial is retained in {request.channel!r}")


def _emoji(text: str) -> str:
    if not 1 <= len(text.encode()) <= EMOJI_BYTES:
        raise BadRequest(f"emoji has {len(text.encode())} bytes: must have from 1 to {EMOJI_BYTES}")
    if any(unicodedata.category(character) in _NOT_IN_EMOJI for character in text):
        raise BadRequest(f"emoji is {text!r}: must have no spaces and no control characters")
    return text

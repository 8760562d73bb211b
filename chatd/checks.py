"""What a client may write in the fields that it chooses. Each raises ``BadRequest``, saying the rule."""

from __future__ import annotations

from typing import Final

from msgspec import Raw

from .protocol.errors import BadRequest, TooLarge
from .protocol.messages import MAX_SERIAL, From, HistoryRequest, Last

NAME_BYTES: Final = 128  # of a channel, a client, a message id: in UTF-8
EPOCH_CHARACTERS: Final = 16
HISTORY_LIMIT: Final = 1000
PRESENCE_BYTES: Final = 1024  # of what a member says of himself


def check_from(asked: From) -> None:
    if isinstance(asked, Last):
        check_serial("from.last", asked.last)
    elif isinstance(asked, tuple):
        epoch, serial = asked
        if len(epoch) > EPOCH_CHARACTERS:
            raise BadRequest(f"epoch has {len(epoch)} characters: must have {EPOCH_CHARACTERS} or fewer")
        check_serial("serial", serial)


def check_serial(field: str, value: int) -> None:
    if not 0 <= value <= MAX_SERIAL:
        raise BadRequest(f"{field} is {value}: must be from 0 to 2^53 - 1")


def check_presence(data: Raw) -> None:
    if len(bytes(data)) > PRESENCE_BYTES:
        raise TooLarge(f"data has {len(bytes(data))} bytes: must have {PRESENCE_BYTES} or fewer")


def check_name(field: str, value: str) -> str:
    """Check a name that a client chose. Control characters would garble logs and terminals."""
    size = len(value) if value.isascii() else len(value.encode())
    if not 1 <= size <= NAME_BYTES:
        raise BadRequest(f"{field} has {size} bytes: must have from 1 to {NAME_BYTES}")
    if not value.isprintable():
        raise BadRequest(f"{field} is {value!r}: must have printable characters only")
    return value


def check_history(request: HistoryRequest) -> None:
    """Check a request for a page of history."""
    check_name("channel", request.channel)
    if not 1 <= request.limit <= HISTORY_LIMIT:
        raise BadRequest(f"limit is {request.limit}: must be from 1 to {HISTORY_LIMIT}")
    if request.before is not None and request.after is not None:
        raise BadRequest("before and after are both given: give one")
    if request.before is not None:
        check_serial("before", request.before)
    if request.after is not None:
        check_from(request.after)

"""How messages stand in the log and travel on the bus: bytes that the scripts in ``lua/`` read, too.

    record    lengths of user, message and kind (2, 2 and 1 bytes), to (8), then user, message, kind, data
    request   digest of the content (16), own (1), record: what ``append.lua`` gets
    stored    time in ms (8), bytes of data in the channel up to and including this one (8), record
    event     epoch (12), then for each message: serial (8), time (8), length of the record (4), record

All numbers are big-endian.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import Final

from ..base import Append, Entry, Lineage, content, identity
from ..bus import Placing

EPOCH_BYTES: Final = 12
_lengths: Final = Struct(">HHBQ")
_stored: Final = Struct(">QQ")
_event: Final = Struct(">QQI")


def pack_request(append: Append) -> bytes:
    return (
        content(append.kind, append.to, append.data)
        + (b"\1" if append.own else b"\0")
        + pack_record(append.user, append.message, append.kind, append.to, append.data)
    )


def pack_record(user: str, message: str, kind: str, to: int, data: bytes) -> bytes:
    head, middle, tail = user.encode(), message.encode(), kind.encode()
    return b"".join((_lengths.pack(len(head), len(middle), len(tail), to), head, middle, tail, data))


def unpack_record(serial: int, time: int, raw: bytes, begin: int, end: int) -> Entry:
    """The message whose record is ``raw[begin:end]``."""
    users, messages, kinds, to = _lengths.unpack_from(raw, begin)
    user = begin + _lengths.size
    message = user + users
    kind = message + messages
    data = kind + kinds
    return Entry(
        serial,
        time,
        raw[user:message].decode(),
        raw[message:kind].decode(),
        raw[data:end],
        raw[kind:data].decode(),
        to,
    )


def unpack_stored(serial: int, raw: bytes) -> Entry:
    time, _ = _stored.unpack_from(raw)
    return unpack_record(serial, time, raw, _stored.size, len(raw))


def unpack_event(channel: str, raw: bytes, begin: int) -> Iterator[Placing]:
    """The messages of the event ``raw[begin:]``."""
    at = begin + EPOCH_BYTES
    epoch = raw[begin:at].decode()
    while at < len(raw):
        serial, time, length = _event.unpack_from(raw, at)
        at += _event.size
        yield Placing(channel, epoch, unpack_record(serial, time, raw, at, at + length))
        at += length


def read_chain(chain: bytes) -> Lineage:
    """
    >>> read_chain(b"0123456789ab:1 ba9876543210:101")
    (('0123456789ab', 1), ('ba9876543210', 101))
    """
    pairs = (link.partition(":") for link in chain.decode().split())
    return tuple((epoch, int(first)) for epoch, _, first in pairs)


def remembered_as(append: Append) -> bytes:
    """The key under which a message id is remembered."""
    return b"chatd:id:" + identity(append.channel, append.user, append.message)

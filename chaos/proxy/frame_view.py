"""What frame faults ask of a server's protocol, so that the proxy need not know it.

A view is an object that somebody names as ``module:attribute`` on the proxy's command line; a load
driver brings the one of its server. Without a view frames are told apart by opcode, direction and count.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple, Protocol, runtime_checkable


class Seen(NamedTuple):
    """What a message is."""

    type: str  # one of ``FrameView.types``, or whatever else the message calls itself
    channel: str = ""  # "": it belongs to none


class Change(NamedTuple):
    """A change of one field.

    ``how``: "set" it to ``value``; "add" ``value`` to the number in it; "remove" it.
    """

    field: str  # names joined by dots, and indices of lists: "position.1"
    how: str
    value: object = None


HOWS = ("set", "add", "remove")


@runtime_checkable
class FrameView(Protocol):
    """A codec without state. Its methods never raise on what a payload holds: None says that they cannot.

    Payloads are those of text or binary messages, whole and unmasked; they are bytes off the wire
    and may be anything.
    """

    @property
    def types(self) -> Sequence[str]:
        """Every type of message that there is, in both directions: others are refused in a rule."""

    @property
    def liveness(self) -> Sequence[str]:
        """Those that only show that a peer lives: the server's own ping and pong."""

    def read(self, payload: bytes) -> Seen | None:
        """What a message is. Called for every message that a rule which needs it may match: be quick."""

    def body(self, payload: bytes) -> tuple[int, int] | None:
        """Where the part is that the server carries but does not read: the sender's text; [from, to)."""

    def changed(self, payload: bytes, changes: Sequence[Change]) -> bytes | None:
        """The message with other fields; None when a field is not there, or not a number to add to."""

    def moved(self, payload: bytes, channel: str) -> bytes | None:
        """The message, but of another channel."""

    def with_body(self, payload: bytes, body: bytes) -> bytes | None:
        """The message with another body; ``body`` is as it stands on the wire."""


class BadView(Exception):
    """There is no view of that name. The text says which, and what a name must be."""


def load_view(name: str) -> FrameView:
    """The view that is called ``module:attribute``.

    Raises:
        BadView: it cannot be imported, or is no view.
    """
    module, colon, attribute = name.partition(":")
    rule = "must be MODULE:ATTRIBUTE, a FrameView that can be imported"
    if not (module and colon and attribute.isidentifier()):
        raise BadView(f"frame view is {name!r}: {rule}")
    try:
        view = getattr(import_module(module), attribute)
    except Exception as error:  # a module may raise what it likes
        raise BadView(f"frame view is {name!r}: {rule}; {type(error).__name__}: {error}") from error
    if not isinstance(view, FrameView):
        raise BadView(f"frame view is {name!r}: {rule}; it lacks a member of FrameView")
    return view

"""What a client asks again after a disconnect: history, who is present, to be present. Sans-I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

import msgspec

from .client_actions import Done, Failed, read_history
from .client_company import Table
from .protocol import messages
from .protocol.errors import ChatdError, Internal

T = TypeVar("T")
Question = messages.HistoryRequest | messages.PresenceRequest


@dataclass(slots=True)
class Reads(Generic[T]):
    """Open questions by a key of their own, each with the ticket of whoever asks; outlives connections.

    ``entered``: the channels in which this client is present, and what the others see of it.
    The server forgets that with the connection.
    """

    entered: dict[str, msgspec.Raw] = field(default_factory=dict)
    _open: dict[str, tuple[T, Question]] = field(default_factory=dict)
    _last: int = 0

    def add(self, ticket: T, question: Question) -> str:
        """Take a question on, its ``id`` to be set whenever it is sent."""
        self._last += 1
        self._open[str(self._last)] = ticket, question
        return str(self._last)

    def keys(self) -> list[str]:
        return list(self._open)

    def payload(self, key: str, request: int) -> bytes:
        """The frame that asks."""
        return messages.encode(msgspec.structs.replace(self._open[key][1], id=request))

    def answered(
        self, key: str, frame: messages.HistoryPage | messages.Presence
    ) -> list[Done[T] | Failed[T]]:
        """The answer is there; an answer to nothing (a silent ``enter``) is none."""
        if key not in self._open:
            return []
        ticket, question = self._open.pop(key)
        try:
            match question, frame:
                case messages.HistoryRequest(), messages.HistoryPage():
                    return [Done(ticket, read_history(frame))]
                case messages.PresenceRequest(op=op), messages.Presence():
                    if op != "get":
                        self.entered[question.channel] = question.data
                    return [Done(ticket, Table().hear(frame))]
            raise msgspec.DecodeError(f"type is {type(frame).__name__}")
        except msgspec.DecodeError as bad:
            return [Failed(ticket, Internal(f"the server sent an answer that is none: {bad}"))]

    def refused(self, key: str, error: ChatdError) -> list[Failed[T]]:
        return [Failed(self._open.pop(key)[0], error)] if key in self._open else []

    def leave(self, channel: str) -> list[Done[T]]:
        """Be present no longer; an ``enter`` that has no answer yet is over, too."""
        self.entered.pop(channel, None)
        over = [
            key
            for key, (_, question) in self._open.items()
            if isinstance(question, messages.PresenceRequest)
            and (question.channel, question.op) == (channel, "enter")
        ]
        return [Done(self._open.pop(key)[0]) for key in over]

    def presence(self, op: Literal["enter", "leave"], channel: str, request: int) -> bytes:
        """The frame that says so once more, or for the last time."""
        data = self.entered.get(channel, messages.NULL)
        return messages.encode(messages.PresenceRequest(id=request, channel=channel, op=op, data=data))

    def drain(self) -> list[T]:
        """Give all up: the tickets."""
        tickets = [ticket for ticket, _ in self._open.values()]
        self._open.clear()
        return tickets

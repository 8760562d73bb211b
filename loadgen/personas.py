"""Kinds of clients: [[workload.persona]]. What each does, how much, and how it behaves when things go wrong.

Clients are shared out among the personas by weight, drawn from the seed. Without personas all clients are
``EVERYBODY``: they talk alike, stay connected, and do nothing but publish.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from .demand import Arrivals
from .drivers.base import Capability
from .reconnects import Reconnect
from .section import Duration, Name, Purpose, Rate, Seconds, Section, Share, drawn
from .topology import Membership, Side

if TYPE_CHECKING:
    from .workload import Workload

Picker = Literal["even", "by-size", "largest", "direct", "rooms"]
Outbox = Literal["queue", "resend", "drop"]
Recover = Literal["resume", "history", "fresh"]
Way = Literal["websocket", "sse", "poll", "fallback"]
Kind = Literal["", "lurker", "chatty", "bot", "broadcaster", "flapper", "slow", "zombie", "repeater"]

KINDS: Final[Mapping[str, Mapping[str, Any]]] = {
    "lurker": {"talk": 0.0},
    "chatty": {"talk": 4.0, "arrivals": "burst", "burst": 5, "burst_gap_s": 1.0},
    "bot": {"arrivals": "constant"},
    "broadcaster": {"picker": "largest"},
    "flapper": {"drop_every_s": 90.0},
    "slow": {"talk": 0.0, "read_per_s": 20.0, "deaf_after_s": 30.0, "deaf_s": 20.0},
    "zombie": {"talk": 0.0, "deaf_after_s": 10.0, "deaf_s": 60.0},
    "repeater": {"repeat": 0.5},
}
"""Values that ``kind`` gives to the keys that a persona does not write itself."""


class Rates(Section):
    """What one client does besides publishing, per second on average: [workload.persona.rates]."""

    typing_per_s: Rate = 0.0
    reaction_per_s: Rate = 0.0
    """Placed in the log, and judged as any message is."""
    receipt_per_s: Rate = 0.0
    presence_per_s: Rate = 0.0
    """Enters and leaves a channel in turn."""
    history_per_s: Rate = 0.0
    """Reads the newest ``history_limit`` messages of a channel."""
    churn_per_s: Rate = 0.0
    """Unsubscribes from a channel, and after ``churn_away_s`` subscribes again from where it was."""


class Persona(Section):
    """One kind of client."""

    name: Name
    kind: Kind = ""
    """Gives the keys that are not written the values of a known kind."""
    weight: float = Field(gt=0, le=1_000_000, allow_inf_nan=False)
    """Its part of the clients, relative to the other weights; each persona has a client at least."""
    talk: float = Field(default=1.0, ge=0, le=1_000_000, allow_inf_nan=False)
    """How much one client publishes, relative to the other personas' clients; 0: never."""
    arrivals: Arrivals | None = None
    """Of its publishes; not written: the phase's."""
    burst: int | None = Field(default=None, ge=1, le=10_000)
    burst_gap_s: Seconds | None = None
    picker: Picker = "even"
    """On which of its channels it acts: any, by size, the largest, those of two, the others."""
    side: Side = "all"
    """Of which rooms it is a member: all; those of odd numbers; those of even ones."""
    arrive_at_s: Seconds | None = None
    """Its clients arrive from then on, over arrive_over_s; not written: as all do, over connect_over_s."""
    arrive_over_s: Seconds = 1.0
    session_s: Duration | None = None
    """Mean length of a session, after which it goes offline on purpose; not written: to the end."""
    away_s: Duration = 5.0
    """Mean time between two sessions."""
    drop_every_s: Duration | None = None
    """Loses its connection without a word, each time after half to one and a half times this."""
    read_per_s: float | None = Field(default=None, gt=0, le=1_000_000, allow_inf_nan=False)
    """Frames that it reads; what is more waits in the socket."""
    deaf_after_s: Duration | None = None
    """Stops reading and answering, the socket stays open: after half to one and a half times this."""
    deaf_s: Duration = 60.0
    """For so long; then it reads on, or comes back if the server has closed."""
    repeat: Share = 0.0
    """Share of its acked publishes that it sends once more, with the same id."""
    repeat_after_s: Seconds = 0.5
    transport: Way = "websocket"
    """By what it comes: a WebSocket; server-sent events and posts; long polling and posts; or the first of
    the three, in this order and at each dial anew, that gets through."""
    reconnect: Reconnect | None = None
    """Not written: the workload's."""
    recover: Recover = "resume"
    """What it asks for when it is back: to go on where it was; all that is kept; only what is new."""
    outbox: Outbox = "queue"
    """Publishes while it is down: all wait; only those sent without an answer do; all are given up."""
    watch_presence: bool = False
    """Subscribes with presence."""
    history_limit: int = Field(default=50, ge=1, le=1_000)
    churn_away_s: Seconds = 0.5
    rates: Rates = Rates()

    @model_validator(mode="before")
    @classmethod
    def _of_a_kind(cls, given: Any) -> Any:
        kind = given.get("kind") if isinstance(given, Mapping) else None
        return {**KINDS[kind], **given} if isinstance(kind, str) and kind in KINDS else given


EVERYBODY: Final = Persona(name="everybody", weight=1.0)


def personas_of(workload: Workload) -> tuple[Persona, ...]:
    """The personas of a workload; ``EVERYBODY`` where none is written."""
    return workload.persona or (EVERYBODY,)


@lru_cache(maxsize=8)
def assigned(workload: Workload, seed: int) -> npt.NDArray[np.int64]:
    """Which persona each client has, as an index; by ordinal - 1."""
    counts = shares([persona.weight for persona in personas_of(workload)], workload.clients)
    dealt = np.repeat(np.arange(len(counts)), counts)
    if len(counts) > 1:
        drawn(seed, Purpose.PERSONAS).shuffle(dealt)
    return dealt


def shares(weights: Sequence[float], clients: int) -> list[int]:
    """How many clients each weight gets: largest remainders, and one at least while there are enough.

    >>> shares([0.9, 0.08, 0.02], 100), shares([0.9, 0.08, 0.02], 5)
    ([90, 8, 2], [3, 1, 1])
    """
    exact = np.array(weights, np.float64) / sum(weights) * clients
    counts = np.floor(exact).astype(np.int64)
    for index in np.argsort(counts - exact, kind="stable")[: clients - int(counts.sum())].tolist():
        counts[index] += 1
    for index in np.flatnonzero(counts == 0).tolist():
        if counts.max() > 1:
            counts[int(counts.argmax())] -= 1
            counts[index] = 1
    return [int(count) for count in counts]


def members(workload: Workload, seed: int, persona: int) -> npt.NDArray[np.int64]:
    """Ordinals of a persona's clients, rising."""
    return np.flatnonzero(assigned(workload, seed) == persona) + 1


def recovery(persona: Persona, offered: frozenset[Capability]) -> Literal["resume", "first", "new"]:
    """Where a client that comes back begins: where it was, else with all that is kept, else with what is new.

    What the persona asks for comes first, of what the server offers.
    """
    if persona.recover == "resume" and Capability.RESUME in offered:
        return "resume"
    return "first" if persona.recover != "fresh" and Capability.HISTORY in offered else "new"


def pick_weights(picker: Picker, membership: Membership) -> npt.NDArray[np.float64]:
    """How likely each entry of ``membership.channel`` is to be picked, relative to its client's others."""
    channel, sizes = membership.channel, membership.sizes
    is_direct = channel > membership.channels - membership.direct
    match picker:
        case "by-size":
            return sizes[channel].astype(np.float64)
        case "direct":
            return is_direct.astype(np.float64)
        case "rooms":
            return (~is_direct).astype(np.float64)
        case "largest":
            return _largest(membership)
        case _:
            return np.ones(len(channel))


def _largest(membership: Membership) -> npt.NDArray[np.float64]:
    """1 for each client's channel with the most members, the one of lowest id among equals."""
    client, size = membership.client, membership.sizes[membership.channel]
    order = np.lexsort((membership.channel, -size, client))
    chosen = np.zeros(len(order))
    first = np.ones(len(order), np.bool_)
    first[1:] = client[order][1:] != client[order][:-1]
    chosen[order[first]] = 1.0
    return chosen

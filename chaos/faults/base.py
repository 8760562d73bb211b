"""What a fault kind is: its own keys, where it acts, what it asks for, as data.

A kind is one frozen pydantic model in one file. It reads nothing, opens nothing and
sends nothing: ``script()`` returns *actions*, plain values that the nemesis carries out.
So a kind is tested by comparing values, and the nemesis never asks which kind it holds::

    Latency(latency_ms=200).script("slow", ("a",))
        apply   AddToxic(proxy="a", toxic=Toxic("slow_downstream", "latency", ...))
        revert  RemoveToxic(proxy="a", name="slow_downstream")

The two halves of a script are matched by equality across faults: while two faults that
overlap both end with ``SetEnabled("a", True)``, the first to end leaves it to the last.
Between the two halves a script may have steps, at their times or when a process has ended.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from chaos.proxy.frame_view import FrameView

ENABLED = "enabled"  # ability of an engine: switch a proxy off and on

AIMED = "ordinals"  # ability: aim toxics at clients by their ordinals, and at open connections only
REROUTED = "rerouted"  # ability: let a proxy lead elsewhere than before
SILENT = "silent"  # ability: end a connection with neither FIN nor RST

Milliseconds = Annotated[int, Field(ge=0, le=86_400_000)]  # at most a day: Toxiproxy counts in int64 ns

Seconds = Annotated[float, Field(gt=0, le=86_400)]


def toxic_ability(toxic_type: str) -> str:
    """Name of an engine's ability to add toxics of this type."""
    return f"toxic:{toxic_type}"


@dataclass(frozen=True, slots=True)
class Toxic:
    """One toxic, as Toxiproxy's API says it."""

    name: str  # unique on its proxy
    type: str
    stream: str = "downstream"  # or "upstream"
    toxicity: float = 1.0  # share of connections, 0–1
    attributes: Mapping[str, Any] = field(default_factory=dict)  # 0 where absent
    ordinals: tuple[int, ...] | None = None  # of the clients that it hits; None: all connections
    live: bool = False  # only connections that are open when it is added


@dataclass(frozen=True, slots=True)
class AddToxic:
    proxy: str
    toxic: Toxic


@dataclass(frozen=True, slots=True)
class RemoveToxic:
    proxy: str
    name: str
    counted: bool = False  # the effect that is recorded holds what the toxic has counted


@dataclass(frozen=True, slots=True)
class SetEnabled:
    """Off: the proxy stops listening and ends its connections. On: it listens again, on the same port."""

    proxy: str
    enabled: bool


@dataclass(frozen=True, slots=True)
class Signal:
    process: str
    signum: int


@dataclass(frozen=True, slots=True)
class Start:
    """Make the process run anew; one that still runs is ended by SIGKILL first."""

    process: str


@dataclass(frozen=True, slots=True)
class LimitFiles:
    """The largest size, in bytes, to which the process may write a file; None: as before."""

    process: str
    most_bytes: int | None


@dataclass(frozen=True, slots=True)
class Hook:
    """Ask for a test hook of the process (``ProcessSpec.hooks``)."""

    process: str
    name: str
    ms: int


@dataclass(frozen=True, slots=True)
class Promote:
    """Make the replica in this process the broker that all nodes reach."""

    process: str


OnProcess = Signal | Start | LimitFiles | Hook | Promote
Action = AddToxic | RemoveToxic | SetEnabled | OnProcess


@dataclass(frozen=True, slots=True)
class Step:
    """What a fault does later, while it is in force.

    Finding its process gone already is no error of a step. An action that is also due at the
    fault's end is then done with, and not done again at the end.
    """

    after_s: float  # of the fault's begin, at the latest
    do: tuple[Action, ...]
    undo: tuple[Action, ...] = ()  # from now on due at the fault's end
    when_gone: str | None = None  # a process: do it as soon as that has ended
    every_s: float | None = None  # and again and again; a time that was missed is skipped
    lasts_s: float = 0.0  # not begun when less than this is left of the lease


@dataclass(frozen=True, slots=True)
class Script:
    """What a fault does when it begins, and what undoes it when its lease ends.

    With steps, a fault is over before its lease when all are done and nothing is left to undo.
    """

    apply: tuple[Action, ...]
    revert: tuple[Action, ...]
    ends_with: str | None = None  # a process: its exit ends the fault before the lease does
    steps: tuple[Step, ...] = ()


class Where(StrEnum):
    """What a kind can be aimed at."""

    PROXY = "proxy"  # target: wires, by chaos.wires
    PROCESS = "process"  # target: the name of a target process, or a pattern of names: "chatd-*"
    WORKER = "load worker"  # target: the name of a process that sends load, "worker-1"


class Shows(StrEnum):
    """What a client sees while a fault lasts. conformance/faults.py measures it."""

    DELAY = "answers come late"
    RATE = "bytes come slowly"
    LATE_CLOSE = "the end of the connection comes late"
    SILENCE = "the connection stays, and nothing arrives"
    CLOSE = "the connection ends"
    RESET = "the connection ends with RST"
    SLICES = "bytes come in small pieces"
    REFUSED = "connections end, new ones are refused"
    DEATH = "the process is gone, then back as another"
    FREEZE = "the process answers nothing, then goes on"
    RESTART = "the process ends by itself, then is back as another"
    LEAVE = "the process ends by itself, stays away, then is back as another"
    PROMOTION = "the process is asked, which was not asked before"
    ARRIVAL = "the process is there, which it was not before"
    CRASHES = "the process is gone and back as another, again and again"
    BLOCK = "the process answers nothing for moments"
    NO_WRITES = "the process cannot write to its files, then can again"
    DEAD_LOAD = "nothing: a part of the load is gone"
    FROZEN_LOAD = "nothing: a part of the load stands still, then is late"
    HELD = "a message and all behind it come late"
    FAREWELL = "the connection ends with a close code"
    NO_PING = "pings and pongs do not arrive"
    FRAGMENTS = "a message comes in several frames"
    HUGE = "a message is longer than it was sent"
    ILLEGAL = "a frame breaks the WebSocket protocol"
    MISSING = "a message does not arrive"
    TWICE = "a message arrives twice"
    SWAPPED = "two messages change places"
    CHANGED = "a message is not what was sent"
    FOREIGN = "a message arrives that nobody sent"
    CUT = "open connections end, new ones stay"
    HALF_OPEN = "the connection is dead, and one side is not told"
    HALF_CLOSE = "the connection ends in one direction"
    TURNED_AWAY = "open connections stay, new ones end at once"
    FORBIDDEN = "open connections stay, new WebSockets are answered with 403"
    BUFFERED = "answers that are streams do not arrive, others do"
    FIRST_FAIL = "the first new connections end at once, the next stays"
    LATE_CONNECT = "new connections come late"
    NO_CONNECT = "open connections stay, new ones are not answered"
    FLAPS = "connections end and new ones are refused, again and again"
    STORM = "connections end, and new ones wait for the end of it"
    SEVERED = "nothing arrives, and new connections are not answered"
    BURSTS = "some bytes come late, and those behind them"
    STALL = "nothing arrives, and the sender is not read"
    DAMAGED = "bytes are not what was sent"


class Fault(BaseModel, ABC):
    """Base of every kind: strict about types and unknown keys, so that all mistakes are found at once."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    where: ClassVar[Where]
    shows: ClassVar[Shows]
    several: ClassVar[bool] = True  # a pattern may aim it at more than one process
    hooks: ClassVar[bool] = False  # it needs the target's test hooks

    def misfit(self, duration_s: float) -> str | None:
        """What is wrong with a lease of this length, as a rule: "must be at least 2, every_s"; or None."""
        return None

    @classmethod
    def example(cls) -> dict[str, Any]:
        """Keys whose effect is plain to see within a second: the first of each field's ``examples``."""
        return {name: field.examples[0] for name, field in cls.model_fields.items() if field.examples}

    @classmethod
    @abstractmethod
    def needs(cls) -> frozenset[str]:
        """Abilities that an engine must have for this kind."""

    def requires(self) -> frozenset[str]:
        """Abilities that an engine must have for this fault: at least ``needs``."""
        return self.needs()

    def choose(self, candidates: Sequence[int], *, seed: int, fault_id: str) -> tuple[int, ...]:
        """Which of the clients that dial the target it hits, by their ordinals."""
        return tuple(candidates)

    def aim_problem(self, candidates: Sequence[int]) -> str:
        """Why it cannot be aimed as it asks, in a run with these clients at its target; "" when it can."""
        return ""

    def link_problem(self) -> str:
        """Why it cannot act on the wire between a node and its broker; "" when it can."""
        return ""

    def planned(self, fault_id: str, targets: tuple[str, ...], ordinals: tuple[int, ...] | None) -> Script:
        """Actions for this fault, aimed at the clients that the plan has fixed; None: not at clients."""
        return self.script(fault_id, targets)

    def breaks_promise(self) -> str:
        """Why an honest server would be accused: such a fault runs only where the checker is tested."""
        return ""

    def view_problem(self, view: FrameView | None) -> str:
        """Why this fault cannot be done with this reading of the server's messages; "" when it can.

        Args:
            view: None when the server's messages cannot be read.
        """
        return ""

    @abstractmethod
    def script(self, fault_id: str, targets: tuple[str, ...]) -> Script:
        """Actions for this fault.

        Args:
            fault_id: unique in the run; whatever the fault adds to an engine carries it in its name.
            targets: proxies or processes, at least one; more than one process only if ``several``.
        """


class ToxicFault(Fault):
    """A kind that is one toxic on each target, in one direction or both."""

    where = Where.PROXY
    toxic: ClassVar[str]  # Toxiproxy's name of the type

    direction: Literal["downstream", "upstream", "both"] = Field(
        "downstream", description="downstream (server to client), upstream, or both"
    )
    toxicity: float = Field(
        1.0, gt=0, le=1, description="share of connections that are hit, more than 0, at most 1"
    )

    @classmethod
    def needs(cls) -> frozenset[str]:
        return frozenset({toxic_ability(cls.toxic)})

    @abstractmethod
    def attributes(self) -> dict[str, Any]:
        """The toxic's attributes, in Toxiproxy's names and units."""

    def script(self, fault_id: str, targets: tuple[str, ...]) -> Script:
        streams = ("upstream", "downstream") if self.direction == "both" else (self.direction,)
        toxics = [
            Toxic(f"{fault_id}_{stream}", self.toxic, stream, self.toxicity, self.attributes())
            for stream in streams
        ]
        return Script(
            apply=tuple(AddToxic(proxy, toxic) for proxy in targets for toxic in toxics),
            revert=tuple(RemoveToxic(proxy, toxic.name) for proxy in targets for toxic in toxics),
        )


class ProcessFault(Fault):
    """A kind that sends signals; it needs nothing of an engine."""

    where = Where.PROCESS

    @classmethod
    def needs(cls) -> frozenset[str]:
        return frozenset()


class WorkerFault(ProcessFault):
    """A kind that hits the load itself, to see that the run says so. Not drawn by swarm plans."""

    where = Where.WORKER

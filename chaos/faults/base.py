"""What a fault kind is: its own keys, where it acts, what it asks for, as data.

A kind is one frozen pydantic model in one file. It reads nothing, opens nothing and
sends nothing: ``script()`` returns *actions*, plain values that the nemesis carries out.
So a kind is tested by comparing values, and the nemesis never asks which kind it holds::

    Latency(latency_ms=200).script("slow", ("a",))
        apply   AddToxic(proxy="a", toxic=Toxic("slow_downstream", "latency", ...))
        revert  RemoveToxic(proxy="a", name="slow_downstream")

The two halves of a script are matched by equality across faults: while two faults that
overlap both end with ``SetEnabled("a", True)``, the first to end leaves it to the last.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

ENABLED = "enabled"  # ability of an engine: switch a proxy off and on

Milliseconds = Annotated[int, Field(ge=0, le=86_400_000)]  # at most a day: Toxiproxy counts in int64 ns


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


@dataclass(frozen=True, slots=True)
class AddToxic:
    proxy: str
    toxic: Toxic


@dataclass(frozen=True, slots=True)
class RemoveToxic:
    proxy: str
    name: str


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


Action = AddToxic | RemoveToxic | SetEnabled | Signal | Start


@dataclass(frozen=True, slots=True)
class Script:
    """What a fault does when it begins, and what undoes it when its lease ends."""

    apply: tuple[Action, ...]
    revert: tuple[Action, ...]
    ends_with: str | None = None  # a process: its exit ends the fault before the lease does


class Where(StrEnum):
    """What a kind can be aimed at."""

    PROXY = "proxy"  # target: one proxy's name, or "all"
    PROCESS = "process"  # target: the name of a target process


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


class Fault(BaseModel, ABC):
    """Base of every kind: strict about types and unknown keys, so that all mistakes are found at once."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    where: ClassVar[Where]
    shows: ClassVar[Shows]

    @classmethod
    def example(cls) -> dict[str, Any]:
        """Keys whose effect is plain to see within a second: the first of each field's ``examples``."""
        return {name: field.examples[0] for name, field in cls.model_fields.items() if field.examples}

    @classmethod
    @abstractmethod
    def needs(cls) -> frozenset[str]:
        """Abilities that an engine must have for this kind."""

    @abstractmethod
    def script(self, fault_id: str, targets: tuple[str, ...]) -> Script:
        """Actions for this fault.

        Args:
            fault_id: unique in the run; whatever the fault adds to an engine carries it in its name.
            targets: proxies or processes, at least one.
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
    def attributes(self) -> dict[str, int]:
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

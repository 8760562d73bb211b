"""[autoscale]: how many nodes run, by what they have to do. Pure; ``Autoscaler`` carries it out.

Once a second the sum over all nodes is set against what one node is to have. Up: as many as are needed, at
once. Down: one, and only when those that stay would have at most ``down_below`` of their target, so that load
just at the edge does not go up and down. After each change nothing more is done for ``cool_down_s``.
"""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from pydantic import BaseModel, ConfigDict, Field, model_validator

EVERY_NS: Final = 1_000_000_000
FAULT_ID: Final = "autoscale"  # in faults.jsonl, of what it does


class Autoscale(BaseModel):
    """``[autoscale]``: between ``min`` nodes and ``server.nodes``; exactly one of the two targets."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    min: int = Field(default=1, ge=1)
    connections: int | None = Field(default=None, ge=1)  # of a node
    deliveries_per_s: float | None = Field(default=None, gt=0)  # of a node
    down_below: float = Field(default=0.8, gt=0, lt=1)  # of the target
    cool_down_s: float = Field(default=5.0, ge=0)

    @model_validator(mode="after")
    def _one_target(self) -> Autoscale:
        if (self.connections is None) == (self.deliveries_per_s is None):
            raise ValueError("write exactly one of connections and deliveries_per_s, what a node is to have")
        return self

    @property
    def target(self) -> float:
        """What one node is to have."""
        return float(self.connections or self.deliveries_per_s or 0.0)

    @property
    def metric(self) -> str:
        """Of chatd's own figures: a gauge of connections, or a count of deliveries."""
        return "chatd_connections" if self.connections is not None else "chatd_deliveries_total"

    @property
    def measure(self) -> str:
        return "connections" if self.connections is not None else "deliveries/s"


@dataclass(frozen=True, slots=True)
class Decision:
    """``change``: nodes to add, or below 0 to take away."""

    change: int
    reason: str


class Controller:
    """Decides. ``most``: nodes that there can be."""

    def __init__(self, section: Autoscale, most: int) -> None:
        self._section, self._most = section, most
        self._rest_until_s = float("-inf")

    def decide(self, total: float, running: int, now_s: float) -> Decision | None:
        """What to do now; None: nothing.

        Args:
            total: of all nodes, what ``Autoscale.measure`` says.
            running: nodes, without those that are on their way out.
        """
        if now_s < self._rest_until_s:
            return None
        found = self._judge(total, running)
        if found is not None:
            self._rest_until_s = now_s + self._section.cool_down_s
        return found

    def _judge(self, total: float, running: int) -> Decision | None:
        section = self._section
        least = min(section.min, self._most)
        needed = min(self._most, max(least, math.ceil(total / section.target)))
        told = f"{total:,.0f} {section.measure} on {running}, {section.target:,.0f} a node"
        if needed > running:
            return Decision(needed - running, f"{told}: {needed} are needed")
        fewer = running - 1
        if fewer >= least and total <= fewer * section.target * section.down_below:
            return Decision(-1, f"{told}: {fewer} would have {total / fewer:,.0f} each")
        return None


class Processes(Protocol):
    """What it asks of a supervisor (chaos.process.Supervisor)."""

    def running(self, name: str) -> bool: ...
    def restart(self, name: str, *, fault_id: str = "") -> object: ...
    def signal(self, name: str, signum: int, *, fault_id: str = "") -> int: ...


class Autoscaler:
    """Follows the load of a run and starts and drains its nodes; a stepper, as the nemesis is.

    Args:
        nodes: processes, in the order in which they are added; the last is the first to go.
        load: what each process has at a moment, of ``Autoscale.measure``.
        record: called with each action, its process and the reason.
    """

    def __init__(
        self,
        section: Autoscale,
        nodes: Sequence[str],
        *,
        load: Callable[[int], Mapping[str, float]],
        processes: Processes,
        record: Callable[[str, str, str], None],
    ) -> None:
        self._nodes, self._load, self._processes, self._record = tuple(nodes), load, processes, record
        self._controller = Controller(section, len(self._nodes))
        self._leaving: set[str] = set()
        self._next_ns = 0

    def step(self, now_ns: int) -> None:
        """Do what is due by now."""
        if now_ns < self._next_ns:
            return
        self._next_ns = now_ns + EVERY_NS
        there = [name for name in self._nodes if self._processes.running(name)]
        self._leaving &= set(there)
        staying = [name for name in there if name not in self._leaving]
        found = self._controller.decide(sum(self._load(now_ns).values()), len(staying), now_ns / 1e9)
        if found is None:
            return
        if found.change < 0:
            self._leaving.add(staying[-1])
            self._processes.signal(staying[-1], signal.SIGTERM, fault_id=FAULT_ID)
            self._record("drain", staying[-1], found.reason)
            return
        for name in [name for name in self._nodes if name not in there][: found.change]:
            self._processes.restart(name, fault_id=FAULT_ID)
            self._record("start", name, found.reason)


def beginners(section: Autoscale | None, nodes: Sequence[str]) -> frozenset[str]:
    """Nodes that are not there at the beginning."""
    return frozenset() if section is None else frozenset(nodes[section.min :])

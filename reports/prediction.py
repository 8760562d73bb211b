"""The run held to its prediction: was the load that was offered the load that the scenario says?

The schedule is drawn before the run, so what falls due is known exactly, faults or not. What of it is
written, how often clients dial and what they receive depends on the server and on the faults too. A figure
that they cannot explain voids the run: a load that was not what it says proves nothing about the server.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from reports import wording

QUIET_SHARE: Final = 0.02  # how far a figure may be off where nothing was broken
BROKEN_SHARE: Final = 0.10  # where faults were at work, or clients drop and go deaf by plan
LOOSE_SHARE: Final = 0.30  # where faults keep clients out, or who comes back does not ask for what it missed
SETTLE_S: Final = 1.0  # a client that has arrived may miss what is published while it subscribes


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered:
    """What a run did, as far as it was predicted."""

    delivered: int  # RECV records of load clients
    acked: int  # messages
    gaps: int  # declared holes
    sentinels: int  # channels with one, each delivered to all of its members
    dials: int  # attempts of load clients to connect
    dialled: int  # clients that made any
    refused: int = 0  # of the dials, those that failed
    faulty: bool = False  # some fault was applied
    accused: bool = False  # the checks found the history invalid: what is missing has a culprit


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """One figure beside its prediction. None: there is no bound on that side."""

    name: str
    predicted: int
    measured: int
    low: int | None
    high: int | None

    @property
    def holds(self) -> bool:
        return not (
            (self.low is not None and self.measured < self.low)
            or (self.high is not None and self.measured > self.high)
        )

    @property
    def required(self) -> str:
        """The bounds in words."""
        if self.low is not None and self.low == self.high:
            return wording.count(self.low)
        if self.low is not None and self.high is not None:
            return f"{wording.count(self.low)} to {wording.count(self.high)}"
        if self.low is not None:
            return f"≥ {wording.count(self.low)}"
        return f"≤ {wording.count(self.high)}" if self.high is not None else "not judged"

    @property
    def sentence(self) -> str:
        """Why the run is void, if it does not hold."""
        return (
            f"the prediction was missed: {self.name} {wording.count(self.measured)}, predicted "
            f"{wording.count(self.predicted)}, allowed {self.required}"
        )


def held(run: Mapping[str, Any], workers: Sequence[Mapping[str, Any]], offered: Offered) -> list[Held]:
    """Every figure that can be held to the prediction of a run; [] where there is none, or no basis.

    A run that was steered by hand, broken off, or lost a worker was not meant to reach it.
    """
    load = run.get("load") or {}
    predicted = load.get("predicted") or {}
    planned = run.get("workers") or []
    whole = len(workers) == len(planned) and all("unsent" in worker for worker in workers)
    if run.get("interactive") or run.get("status") != "complete" or not whole or not planned:
        return []
    if not {"publishes", "connections", "deliveries"} <= predicted.keys():
        return []
    return [
        *_publishes(int(predicted["publishes"]), workers),
        *_connections(load, predicted, offered),
        *_deliveries(predicted, offered),
    ]


def _publishes(predicted: int, workers: Sequence[Mapping[str, Any]]) -> list[Held]:
    """Faults change nothing here: what falls due is fixed, and each of it has one end."""

    def total(*names: str) -> int:
        return sum(int(worker.get(name, 0)) for worker in workers for name in names)

    due, ended = total("scheduled"), total("sent", "dropped", "skipped", "unsent")
    return [
        Held(name="publishes that fell due", predicted=predicted, measured=due, low=predicted,
             high=predicted),
        Held(name="publishes sent, dropped by their persona, or waiting", predicted=due, measured=ended,
             low=due, high=due),
    ]  # fmt: skip


def _connections(load: Mapping[str, Any], predicted: Mapping[str, Any], offered: Offered) -> list[Held]:
    """Each client dials; drops by plan that meet a client which is down anyway cost no dial."""
    clients = int(load.get("clients", 0))
    dials = int(predicted["connections"])
    share = BROKEN_SHARE if offered.faulty or predicted.get("drops") else QUIET_SHARE
    low = max(clients, round(dials * (1 - share)))
    return [
        Held(
            name="clients that dialled",
            predicted=clients,
            measured=offered.dialled,
            low=clients,
            high=clients,
        ),
        Held(name="dials", predicted=dials, measured=offered.dials, low=low, high=None),
    ]


def _deliveries(predicted: Mapping[str, Any], offered: Offered) -> list[Held]:
    """As many as predicted, of what was acked; more than the prediction says is no fault of the load."""
    publishes, deliveries = int(predicted["publishes"]), int(predicted["deliveries"])
    kept_out = offered.refused > 0 and not offered.faulty  # by the server: what they miss is not owed
    if not publishes or not offered.acked or offered.gaps or offered.accused or kept_out:
        return []
    moved = offered.faulty or predicted.get("drops") or predicted.get("deaf")
    share = BROKEN_SHARE if moved else QUIET_SHARE
    if offered.refused or not predicted.get("resumes", True):
        share = LOOSE_SHARE
    acked = min(1.0, offered.acked / publishes)
    missed = SETTLE_S * float(predicted.get("deliveries_per_s_peak", 0.0))
    low = max(0, round(deliveries * acked * (1 - share) - missed))
    return [Held(name="deliveries", predicted=deliveries, measured=offered.delivered, low=low, high=None)]

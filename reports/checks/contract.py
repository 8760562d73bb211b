"""The contract of a run, as far as checks use it: read from run.json, never assumed to promise more.

What run.json does not say is not promised: retention that is not written down is not judged. Only
``capabilities`` is the other way round: a run that does not have them is of a server that promises all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeGuard

from reports.periods import NS

DEFAULT_DEDUPE_S: Final = 300.0
DEFAULT_SETTLE_S: Final = 10.0
DEFAULT_ACK_S: Final = 5.0
NO_DEDUPE_NS: Final = -1  # no second attempt is soon enough
DEFAULT_CLOCK_NS: Final = 1_000  # two processors of one host reading CLOCK_MONOTONIC agree within this


@dataclass(frozen=True, slots=True)
class Retention:
    """A message stays readable while it is within all three."""

    n: int
    ns: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """What the server promised."""

    profile: str = "effectively-once"
    capabilities: frozenset[str] | None = None  # of the driver; None: all
    echo: bool = True
    dedupe_ns: int = int(DEFAULT_DEDUPE_S * NS)
    settle_ns: int = int(DEFAULT_SETTLE_S * NS)  # T: after healing, until everything goes on
    ack_ns: int = int(DEFAULT_ACK_S * NS)  # a publish on a live connection is answered by then
    detect_ns: int | None = None  # ping + pong: a peer that is gone is noticed by then
    clock_ns: int = DEFAULT_CLOCK_NS  # how far the clocks of different clients may be apart
    nodes: int = 1  # that clients were connected to
    kept: Retention | None = None
    namespaces: Mapping[str, Retention | None] = field(
        default_factory=dict
    )  # by prefix of the channel's name

    @classmethod
    def of(cls, run: Mapping[str, Any]) -> Contract:
        contract = run.get("contract") or {}
        deadlines, clock = contract.get("deadlines") or {}, run.get("clock") or {}
        ping, pong = contract.get("ping_s"), contract.get("pong_s")
        uncertainty = clock.get("uncertainty_ns")
        return cls(
            profile=str(contract.get("profile", "effectively-once")),
            capabilities=(offered := _capabilities(contract)),
            echo=contract.get("echo") is not False,
            dedupe_ns=_nanoseconds(contract.get("dedupe_s"), DEFAULT_DEDUPE_S)
            if offered is None or "dedupe" in offered
            else NO_DEDUPE_NS,
            settle_ns=_nanoseconds(deadlines.get("settle_s"), DEFAULT_SETTLE_S),
            ack_ns=_nanoseconds(deadlines.get("ack_s"), DEFAULT_ACK_S),
            detect_ns=int((ping + pong) * NS) if _number(ping) and _number(pong) and ping > 0 else None,
            clock_ns=int(uncertainty) if _number(uncertainty) else DEFAULT_CLOCK_NS,
            nodes=len(run.get("nodes") or (None,)),
            kept=_retention(contract),
            namespaces=_namespaces(contract),
        )

    def offers(self, capability: str) -> bool:
        """Whether the server promises something, by its name among the driver's capabilities."""
        return self.capabilities is None or capability in self.capabilities

    def retention(self, channel: str) -> Retention | None:
        """Of a channel, by its name; None: nothing that could be judged is promised."""
        prefix, colon, _ = channel.partition(":")
        return self.namespaces[prefix] if colon and prefix in self.namespaces else self.kept


def _capabilities(contract: Mapping[str, Any]) -> frozenset[str] | None:
    said = contract.get("capabilities")
    return frozenset(map(str, said)) if isinstance(said, list | tuple) else None


def _number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _nanoseconds(value: Any, default_s: float) -> int:
    return int((value if _number(value) else default_s) * NS)


def _retention(said: Mapping[str, Any]) -> Retention | None:
    values = [said.get(key) for key in ("retain_n", "retain_s", "retain_bytes")]
    if not all(_number(value) for value in values):
        return None
    n, seconds, size = (float(value) for value in values)  # type: ignore[arg-type]
    return Retention(int(n), int(seconds * NS), int(size))


def _namespaces(contract: Mapping[str, Any]) -> dict[str, Retention | None]:
    named = contract.get("namespaces")
    if not isinstance(named, Mapping):
        return {}
    return {
        str(name): _retention(said) if isinstance(said, Mapping) else None for name, said in named.items()
    }

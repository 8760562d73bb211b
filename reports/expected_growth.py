"""Memory that grows because the server keeps what it promises to keep: which growth is no leak yet.

A server that knows a message again when it is sent again keeps its id for ``dedupe_s``; one whose log is in
memory keeps the log, within its retention. Both grow from the first message on until their bound is reached,
and no further. Read from the contract of the run, so nothing is said of a server that tells none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from reports import wording
from reports.periods import NS, phases, start_ns

_MEMORY: Final = "memory"  # durability of a log that is gone with its process
# A slope is the median of all pairs of samples (Theil-Sen). With a share f of samples in which memory grows,
# (1 - f)² of the pairs are flat: more than half of them while f is below 0.29.
_ENOUGH: Final = 4  # times as long as it grows: how long must be measured


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedGrowth:
    """What the server keeps, of a run that was too short to get past it.

    ``dedupe_s``: how long ids of messages, of ``measured_s`` in which the slope was taken; ``enough_s``: how
    long that must be. ``retain_n``, ``retain_s``: of a log in memory. None where it is no reason.
    """

    measured_s: float
    dedupe_s: float | None = None
    enough_s: float | None = None
    retain_n: int | None = None
    retain_s: float | None = None


def expected_growth(run: Mapping[str, Any]) -> ExpectedGrowth | None:
    """Why memory may grow all through the phases of a run that are no warm-up; None: nothing says so.

    Args:
        run: run.json.
    """
    contract = run.get("contract")
    measured = [phase for phase in phases(run) if not phase.warmup]
    if not isinstance(contract, Mapping) or not measured:
        return None
    begin_s = (measured[0].start_ns - start_ns(run)) / NS
    measured_s = (measured[-1].end_ns - measured[0].start_ns) / NS

    def lasts(key: str) -> float | None:
        """The bound of that name in the contract, where it is reached too late."""
        bound_s = _number(contract.get(key))
        return bound_s if bound_s is not None and (bound_s - begin_s) * _ENOUGH > measured_s else None

    said = contract.get("capabilities")
    dedupe_s = lasts("dedupe_s") if not isinstance(said, list) or "dedupe" in said else None
    retain_s = lasts("retain_s") if contract.get("durability") == _MEMORY else None
    retain_n = _number(contract.get("retain_n"))
    if dedupe_s is None and retain_s is None:
        return None
    return ExpectedGrowth(
        measured_s=round(measured_s, 3),
        dedupe_s=dedupe_s,
        enough_s=None if dedupe_s is None else math.ceil((dedupe_s - begin_s) * _ENOUGH / 60) * 60.0,
        retain_n=None if retain_n is None or retain_s is None else int(retain_n),
        retain_s=retain_s,
    )


def as_json(found: ExpectedGrowth | None) -> dict[str, Any] | None:
    return None if found is None else asdict(found)


def sentence(found: Mapping[str, Any]) -> str:
    """``as_json`` for people: what bounds the growth, and what would tell a leak from it."""
    dedupe_s, enough_s = found["dedupe_s"], found["enough_s"]
    kept = [] if dedupe_s is None else [f"the id of each message for {_whole_s(dedupe_s)} (dedupe_s)"]
    if found["retain_s"] is not None:
        most = "" if found["retain_n"] is None else f", at most {wording.count(found['retain_n'])} (retain_n)"
        kept_s = _whole_s(found["retain_s"])
        kept.append(f"its log in memory, the messages of each channel for {kept_s} (retain_s){most}")
    told = (
        f"Memory may grow and not leak: by its contract the server keeps {' and '.join(kept)}; "
        f"the slope was taken over {_whole_s(found['measured_s'])}."
    )
    if found["retain_s"] is not None or enough_s is None:
        return f"{told} Until such a bound is reached, growth is no sign of a leak."
    return f"{told} A longer run of {_whole_s(enough_s)} or more would tell: --soak-s {enough_s:.0f}."


def _whole_s(seconds: float) -> str:
    return f"{seconds:,.0f}{wording.NBSP}s"


def _number(value: object) -> float | None:
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if good and isinstance(value, int | float) else None

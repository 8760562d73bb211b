"""``--scale N``: the same workload with N times the clients and N times the demand.

Rooms are multiplied too, so that each has as many members as before and deliveries grow by N, not by N².
Rates that are said of one client stay; a sized group with ``members`` gets more channels, one with ``share``
more members.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

_PHASE_RATES: Final = ("publish_per_s", "to_per_s")


def scaled(table: Mapping[str, Any], factor: float) -> dict[str, Any]:
    """A [workload] table, not validated yet, times ``factor``; what is no number is left for its reader."""
    at_least = table.get("channels_per_client", 2)
    least = at_least if isinstance(at_least, int) else 1
    sides = {p.get("side", "all") for p in _tables(table.get("persona"))} - {"all"}
    changes: dict[str, Any] = {
        **_changed(table, ("clients",), _count(factor)),
        # Half of the rooms are of each side, and each client needs its rooms.
        **_changed(table, ("channels",), _count(factor, least=least * 2 if sides else least)),
    }
    for key, change in (("phase", _phase), ("absence", _absence)):
        if isinstance(table.get(key), list | tuple):
            changes[key] = [change(row, factor) if isinstance(row, Mapping) else row for row in table[key]]
    if isinstance(topology := table.get("topology"), Mapping):
        changes["topology"] = _topology(topology, factor)
    return {**table, **changes}


def busier(table: Mapping[str, Any], factor: float) -> dict[str, Any]:
    """A [workload] table with its publish rates times ``factor`` and as many clients as before."""
    phases = table.get("phase")
    if not isinstance(phases, list | tuple):
        return dict(table)
    return {**table, "phase": [_phase(row, factor) if isinstance(row, Mapping) else row for row in phases]}


def _phase(phase: Mapping[str, Any], factor: float) -> dict[str, Any]:
    changes = _changed(phase, _PHASE_RATES, _rate(factor))
    if isinstance(sine := phase.get("sine"), Mapping):
        changes["sine"] = {**sine, **_changed(sine, ("amplitude_per_s",), _rate(factor))}
    if isinstance(steps := phase.get("steps"), list | tuple):
        changes["steps"] = [
            {**step, **_changed(step, ("per_s",), _rate(factor))} if isinstance(step, Mapping) else step
            for step in steps
        ]
    return {**phase, **changes}


def _absence(absence: Mapping[str, Any], factor: float) -> dict[str, Any]:
    return {**absence, **_changed(absence, ("clients",), _count(factor))}


def _topology(topology: Mapping[str, Any], factor: float) -> dict[str, Any]:
    groups = topology.get("sized")
    if not isinstance(groups, list | tuple):
        return dict(topology)
    return {
        **topology,
        "sized": [
            {**group, **_changed(group, ("channels",), _count(factor))}
            if isinstance(group, Mapping) and "members" in group
            else group
            for group in groups
        ],
    }


def _changed(table: Mapping[str, Any], keys: tuple[str, ...], change: Callable[[Any], Any]) -> dict[str, Any]:
    return {key: change(table[key]) for key in keys if _is_number(table.get(key))}


def _count(factor: float, *, least: int = 1) -> Callable[[float], float]:
    """Counts stay whole, and none falls to 0 that was not; nor below ``least`` what was not below it."""

    def change(value: float) -> float:
        return max(min(value, least, key=float), round(value * factor)) if value > 0 else value

    return change


def _rate(factor: float) -> Callable[[float], float]:
    return lambda value: value * factor


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _tables(value: object) -> list[Mapping[str, Any]]:
    return [row for row in value if isinstance(row, Mapping)] if isinstance(value, list | tuple) else []

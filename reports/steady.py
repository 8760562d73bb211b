"""Steady state: what the probes of a run found before the load, during it, and after healing.

Read from probes.jsonl (scenarios/steady.py writes it). The rule: the last answer of each probe after healing
must be ok. If one is not, the system did not come back to its steady state, and the run fails as by a
threshold gate. What fails during faults is told and judged by nobody: clients' records judge that.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from reports.evaluate import GateResult, GateVerdict
from reports.history import HistoryError

FILE: Final = "probes.jsonl"
WHEN: Final = ("before", "during", "after")
Probes = Sequence[Mapping[str, Any]]


def read_probes(run_dir: Path) -> list[dict[str, Any]]:
    """Lines of probes.jsonl, in order; [] where there is none. A torn last line is left out.

    Raises:
        HistoryError: another line is no probe.
    """
    path = run_dir / FILE
    if not path.is_file() or path.is_symlink():
        return []
    lines = path.read_bytes().split(b"\n")
    found: list[dict[str, Any]] = []
    for number, line in enumerate(lines[:-1], 1):
        try:
            probe = json.loads(line)
            if probe["when"] not in WHEN or not isinstance(probe["ok"], bool):
                raise ValueError("when is not known, or ok is neither true nor false")
            found.append({"probe": str(probe["probe"]), "why": str(probe.get("why") or "")} | probe)
        except (ValueError, KeyError, TypeError) as error:
            raise HistoryError(f"{FILE}: line {number} is no probe: {error}") from None
    return found


def counted(probes: Probes) -> dict[str, dict[str, dict[str, int]]]:
    """By time and probe, how many there were and how many of them were ok."""
    counts: dict[str, dict[str, dict[str, int]]] = {when: {} for when in WHEN}
    for probe in probes:
        count = counts[probe["when"]].setdefault(probe["probe"], {"ok": 0, "asked": 0})
        count["asked"] += 1
        count["ok"] += probe["ok"]
    return counts


def lost(probes: Probes) -> list[str]:
    """For each probe whose last answer after healing was not ok, why."""
    last = {probe["probe"]: probe for probe in probes if probe["when"] == "after"}
    return [f"{name}: {probe['why']}" for name, probe in last.items() if not probe["ok"]]


def steady_gate(probes: Probes) -> list[GateResult]:
    """The rule as the result of a gate; [] while it holds, since nobody asked for it."""
    why = lost(probes)
    if not why:
        return []
    return [
        GateResult(
            id="steady-state",
            kind="threshold",
            metric="failed probes after healing",
            condition="count == 0",
            phase="all",
            where={},
            verdict=GateVerdict.FAIL,
            threshold=0.0,
            actual=float(len(why)),
            margin=-float(len(why)),
            unit="",
            why="; ".join(why),
        )
    ]

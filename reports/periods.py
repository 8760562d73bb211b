"""Stretches of a run's time: its phases, and the windows in which a fault was in force.

Read from ``run.json`` and ``faults.jsonl`` alone. Times are int64 nanoseconds of
CLOCK_MONOTONIC; what people read counts in seconds from ``t0_ns``, the start of the schedule.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from reports.history import HistoryError

LINK: Final = "link-"  # with which targets begin that are ways to the broker (chaos.wires)
NS: Final = 1_000_000_000
PROCESS_LINES: Final = frozenset({"exit", "start", "action"})  # kinds of lines that tell of a process
PROCESS_KINDS: Final = frozenset(
    {
        "kill",
        "restart",
        "pause",
        "term",
        "rolling",
        "node_start",
        "promote",
        "crash_loop",
        "loop_block",
        "disk_full",
    }
    | {"client_kill", "client_pause"}
)


@dataclass(frozen=True, slots=True)
class Phase:
    """A named stretch of the schedule; messages scheduled in a warm-up are no part of latency."""

    name: str
    start_ns: int
    end_ns: int
    warmup: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultWindow:
    """One fault of the plan and when it was in force; ``None``: that step was never recorded."""

    id: str
    kind: str
    target: str
    planned_ns: int | None
    applied_ns: int | None
    reverted_ns: int | None
    ordinals: frozenset[int] | None = None  # clients, where the engine chose them one by one
    errors: tuple[str, ...] = ()

    def until(self, end_ns: int) -> int:
        """End of the window: the revert, or the end of the run where there was none."""
        return end_ns if self.reverted_ns is None else self.reverted_ns

    @property
    def on_process(self) -> bool:
        return self.kind in PROCESS_KINDS

    @property
    def on_link(self) -> bool:
        """It hits the way of one node or several to the broker."""
        return self.target.startswith(LINK)

    @property
    def behind_nodes(self) -> bool:
        """It hits the broker or a way to it (chaos.wires): no client's connection goes through there."""
        return self.on_link or self.target.startswith("broker-")

    def parity(self) -> int | None:
        """Remainder, mod 2, of the ordinals behind the targeted proxy; None where all are affected."""
        return {"a": 0, "b": 1}.get(self.target) if not self.on_process else None


def phases(run: Mapping[str, Any]) -> list[Phase]:
    """Phases of ``run.json``; a run that ended before its first phase has none.

    Raises:
        HistoryError: a phase without name, start_ns or end_ns.
    """
    known: list[Phase] = []
    for index, phase in enumerate(run.get("phases") or []):
        try:
            times = int(phase["start_ns"]), int(phase["end_ns"])
            known.append(Phase(str(phase["name"]), *times, bool(phase.get("warmup", False))))
        except (AttributeError, KeyError, TypeError, ValueError):
            raise HistoryError(
                f"run.json: phases[{index}] is {phase!r}: a phase has a name, start_ns and end_ns"
            ) from None
    return known


def start_ns(run: Mapping[str, Any]) -> int:
    """Zero of the report's time axis: start of the schedule, or of the run when no schedule began.

    Raises:
        HistoryError: it is no integer.
    """
    known = phases(run)
    begun = known[0].start_ns if known else (run.get("clock") or {}).get("monotonic_ns", 0)
    zero = begun if run.get("t0_ns") is None else run["t0_ns"]
    if not isinstance(zero, int):
        raise HistoryError(f"run.json: t0_ns is {zero!r}: must be an integer, nanoseconds")
    return zero


def seconds(t_ns: int | None, zero_ns: int) -> float | None:
    """Seconds since ``zero_ns``, to the microsecond."""
    return None if t_ns is None else round((t_ns - zero_ns) / NS, 6)


def fault_windows(faults: Iterable[Mapping[str, Any]]) -> list[FaultWindow]:
    """One window a fault id, in the order of planning: first start to last revert.

    Args:
        faults: lines of ``faults.jsonl``; lines about processes are skipped.
    Raises:
        HistoryError: a time or an ordinal in a line is no number.
    """
    lines: dict[str, list[Mapping[str, Any]]] = {}
    for line in faults:
        if line.get("id") and line.get("kind") not in PROCESS_LINES:
            lines.setdefault(str(line["id"]), []).append(line)
    try:
        return [_window(fault, own) for fault, own in lines.items()]
    except (TypeError, ValueError) as error:
        raise HistoryError(f"faults.jsonl: times and ordinals must be integers: {error}") from None


def _window(fault: str, lines: Sequence[Mapping[str, Any]]) -> FaultWindow:
    times: dict[str, list[int]] = {}
    for line in lines:
        if line.get("t") is not None:
            times.setdefault(str(line.get("phase")), []).append(int(line["t"]))
    planned = [int(line["planned_t"]) for line in lines if line.get("planned_t") is not None]
    ordinals = {int(o) for line in lines for o in line.get("ordinals") or ()}
    reverted = times.get("revert") or times.get("stop")
    return FaultWindow(
        id=fault,
        kind=str(lines[0].get("kind")),
        target=str(lines[0].get("target") or "all"),
        planned_ns=planned[0] if planned else None,
        applied_ns=min(times["start"]) if "start" in times else None,
        reverted_ns=max(reverted) if reverted else None,
        ordinals=frozenset(ordinals) or None,
        errors=tuple(str(line["error"]) for line in lines if line.get("error")),
    )

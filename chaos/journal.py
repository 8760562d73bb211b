"""faults.jsonl: what was done to a run, and when, one JSON object a line.

Lines of a fault (``phase`` is planned, start, engine_effect, stop or revert)::

    {"id","kind","phase","t","planned_t","skew_ns","target","clients","ordinals","pids","effect","error"}

``planned`` lines come first, with ``t`` null. ``start`` and ``stop`` are stamped before
the first action, ``engine_effect`` and ``revert`` after the last one was confirmed; what
was confirmed is in ``effect``. ``skew_ns`` is ``t - planned_t``. ``ordinals`` are the
clients that can be hit, null for a process, which all clients share.

Lines of a process (``id`` is that of the fault behind it, or "")::

    {"id","kind":"start","phase":"engine_effect","t","process","role","pid"}
    {"id","kind":"exit","phase":"engine_effect","t","process","role","pid","code","signal","planned","ready","error"}

Lines of what a controller did (``id`` is that of the start or exit which follows)::

    {"id":"autoscale","kind":"action","phase":"engine_effect","t","process","action","reason"}

Each line is flushed to the kernel as it is written, so that it outlives the writer.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from chaos.plan import PlannedFault
    from chaos.process import Exit, Started

Phase = Literal["planned", "start", "engine_effect", "stop", "revert"]


class Journal:
    """Appends to one faults.jsonl.

    Raises:
        OSError: on any method, when the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("ab")

    def planned(self, faults: Iterable[PlannedFault], t0_ns: int) -> None:
        for fault in faults:
            self.fault(fault, "planned", t=None, planned_t=t0_ns + fault.at_ns)

    def fault(
        self,
        fault: PlannedFault,
        phase: Phase,
        *,
        t: int | None,
        planned_t: int,
        effect: Sequence[Mapping[str, Any]] = (),
        pids: Sequence[int] = (),
        error: str | None = None,
    ) -> None:
        """One step of a fault. Times are absolute nanoseconds of CLOCK_MONOTONIC."""
        self._write(
            {
                "id": fault.id,
                "kind": fault.kind,
                "phase": phase,
                "t": t,
                "planned_t": planned_t,
                "skew_ns": None if t is None else t - planned_t,
                "target": fault.target,
                "clients": None if fault.ordinals is None else len(fault.ordinals),
                "ordinals": fault.ordinals,
                "pids": list(pids),
                "effect": list(effect),
                "error": error,
            }
        )

    def started(self, start: Started) -> None:
        self._write(
            {
                "id": start.fault_id,
                "kind": "start",
                "phase": "engine_effect",
                "t": start.t,
                "process": start.process,
                "role": start.role,
                "pid": start.pid,
            }
        )

    def exited(self, exit_: Exit) -> None:
        self._write(
            {
                "id": exit_.fault_id,
                "kind": "exit",
                "phase": "engine_effect",
                "t": exit_.t,
                "process": exit_.process,
                "role": exit_.role,
                "pid": exit_.pid,
                "code": exit_.code,
                "signal": exit_.signal,
                "planned": exit_.planned,
                "ready": exit_.ready,
                "error": exit_.error,
            }
        )

    def acted(self, action: str, process: str, reason: str) -> None:
        """The autoscaler did something, now."""
        line = {"id": "autoscale", "kind": "action", "phase": "engine_effect", "t": time.monotonic_ns()}
        self._write(line | {"process": process, "action": action, "reason": reason})

    def close(self) -> None:
        self._file.close()

    def _write(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")
        self._file.flush()

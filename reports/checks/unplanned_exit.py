"""V6 unplanned-exit: a process under test ended, and no fault had planned it.

From faults.jsonl, where the supervisor writes every exit of every process. An unplanned exit of
one of our own processes (role `harness`) voids the run and is not counted here. Nor is that of one that was
never ready: it has promised nobody anything, and it may be its command that is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reports.by_phase import NO_TIME

from .facts import Facts
from .result import CAP, Finding, Found


def unplanned_exit(facts: Facts) -> Found:
    """Counts exits."""
    exits = [
        line
        for line in facts.exits
        if line.get("role") == "target" and line.get("planned") is not True and line.get("ready") is not False
    ]
    told = sorted(exits, key=lambda line: (_time(facts, line), str(line.get("process"))))[:CAP]
    ended = [line["t"] if type(line.get("t")) is int else NO_TIME for line in exits]
    return Found(len(exits), tuple(_tell(facts, line) for line in told), spread=facts.spread(ended, ended))


def _time(facts: Facts, line: Mapping[str, Any]) -> int:
    t = line.get("t")
    return t if type(t) is int else facts.last_t


def _tell(facts: Facts, line: Mapping[str, Any]) -> Finding:
    t = _time(facts, line)
    how = f"by {line['signal']}" if line.get("signal") else f"with code {line.get('code')}"
    return Finding(
        cls="V6",
        sentence=f"{line.get('process')} (pid {line.get('pid')}) ended {how} at {facts.at(t)}; "
        f"no fault had planned it{facts.under(t, t)}",
        first_t=t,
        last_t=t,
        faults=facts.active(t, t),
    )

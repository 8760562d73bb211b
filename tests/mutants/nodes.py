"""NODE_RUNS: two nodes on one broker, and a fault planted in the second of them alone.

Half of the clients are on an honest node: what it places and delivers must not hide what the other one
does. The runs are those of one server, but for what needs a shared log.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from chatd.mutants import MUTANTS
from tests.mutants.runs import CUT, LOAD, RUNS, Run

SHARED: Final = {"nodes": 2, "store": "valkey"}
ONE: Final = {**SHARED, "mutant_node": "chatd-2"}
# Between the second node and the broker; its clients stay connected to it.
CUT_OFF: Final = {
    "id": "cut-off", "kind": "partition", "target": "link-2", "at_s": 1.6, "duration_s": 1.2, "mode": "drop",
}  # fmt: skip
BEHIND: Final = {
    "id": "behind", "kind": "partition", "target": "link-replica", "at_s": 2.2, "duration_s": 3.0,
    "mode": "hold",
}  # fmt: skip
BROKER_DIES: Final = {"id": "dies", "kind": "kill", "target": "broker-1", "at_s": 3.2, "duration_s": 5.0}
PROMOTED: Final = {
    "id": "promoted", "kind": "promote", "target": "broker-2", "at_s": 3.6, "duration_s": 1.0,
}  # fmt: skip
FAILOVER: Final = (BEHIND, BROKER_DIES, PROMOTED)
LONG: Final = {"phase": [{**LOAD, "duration_s": 9.0}]}


def _planted(run: Run) -> Run:
    return replace(run, server={**run.server, **ONE})


def _control(*faults: dict[str, Any], **keys: Any) -> Run:
    return Run(**{"server": SHARED, "faults": faults, "exit": 0} | keys)


_OF_NODES: Final[Mapping[str, Run]] = {
    "skip-repair": Run(mutant="skip-repair", faults=(CUT_OFF,)),
    "no-reset": Run(mutant="no-reset", server={"replicas": 1}, faults=FAILOVER, workload=LONG),
    "double-fanout": Run(mutant="double-fanout:0.05"),
    # Resumes are seen all the same: those of the honest node.
    "no-resume": replace(RUNS["no-resume"], exit=0),
}
_SHARED: Final = [name for name, mutant in MUTANTS.items() if "valkey" in mutant.stores]

NODE_RUNS: Final[Mapping[str, Run]] = {
    **{f"node-{name}": _planted({**RUNS, **_OF_NODES}[name]) for name in _SHARED},
    # What two honest nodes may do is valid.
    "node-honest-cut": _control(CUT, expect={"resumes": True}),
    "node-honest-cut-off": _control(CUT_OFF),
    "node-honest-killed": _control(
        {"id": "kill", "kind": "kill", "target": "chatd-2", "at_s": 2.5, "duration_s": 0.4},
        expect={"resumes": True},
    ),
    "node-honest-failover": _control(*FAILOVER, server={**SHARED, "replicas": 1}, workload=LONG),
}

# One of the way to a subscriber, one of the log: tests/e2e/test_mutants.py.
NODES_IN_CI: Final = ("node-skip-repair", "node-no-dedupe")

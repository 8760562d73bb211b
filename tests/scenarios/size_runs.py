"""As ``gate_runs``, for what nodes of a given size carry, and when one of them is lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from tests.reports.synthetic import Cut, Slow, fault_lines
from tests.scenarios.gate_runs import Run
from tests.scenarios.node_runs import INTEGRITY, of_node, process, three

CLIENTS: Final = 120
GONE: Final = of_node(3, CLIENTS)


def standby(**more: Any) -> Run:
    """The third node dies at 5 s; its clients go on at the others at once."""
    faults = [
        *fault_lines("one-node", "kill", 5, 15, target="chatd-3"),
        process("exit", 5, "chatd-3", "one-node"),
        process("start", 15, "chatd-3", "one-node"),
    ]
    fields = {"cuts": [Cut(5.1, 5.2, clients=GONE)], "rate": 75.0, **more}
    phases = [("warm-up", 1.0), ("peak", 4.0), ("fail-over", 5.0), ("one-gone", 5.0), ("back", 6.0)]
    return Run(three(phases, faults=faults, clients=CLIENTS, **fields))


ON_THE_FIRST: Final = of_node(1, CLIENTS)


def sizes(**more: Any) -> Run:
    """The first node dies at 7 s for two seconds; its clients go on at the others."""
    faults = [
        *fault_lines("one-dies", "kill", 7, 9, target="chatd-1"),
        process("exit", 7, "chatd-1", "one-dies"),
        process("start", 9, "chatd-1", "one-dies"),
    ]
    fields = {"cuts": [Cut(7.1, 7.2, clients=ON_THE_FIRST)], "rate": 60.0, **more}
    phases = [("warm-up", 1.0), ("steady", 5.0), ("restart", 10.0)]
    return Run(three(phases, faults=faults, clients=CLIENTS, **fields))


BASES: Final[dict[str, Callable[..., Run]]] = {"standby_capacity": standby, "vertical_vs_horizontal": sizes}
SPOILED: Final[dict[tuple[str, str], Callable[[], Run]]] = {
    **{
        (name, gate): lambda make=make, spoil=spoil: make().with_spoil(1, spoil)
        for name, make in BASES.items()
        for gate, spoil in INTEGRITY.items()
    },
    ("standby_capacity", "soon-at-the-peak"): lambda: standby(slows=[Slow(2, 3, 600)]),
    ("standby_capacity", "soon-with-one-gone"): lambda: standby(slows=[Slow(11, 12, 600)]),
    ("standby_capacity", "all-of-it-delivered"): lambda: standby(rate=40.0),
    ("standby_capacity", "back-elsewhere"): lambda: standby(late={(4, 0): 5.0}),
    ("vertical_vs_horizontal", "soon-while-quiet"): lambda: sizes(slows=[Slow(2, 3, 600)]),
    ("vertical_vs_horizontal", "all-of-it-delivered"): lambda: sizes(rate=30.0),
    ("vertical_vs_horizontal", "back-soon"): lambda: sizes(late={(6, 0): 7.0}),
}

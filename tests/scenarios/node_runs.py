"""As ``gate_runs``, for scenarios with several nodes and their broker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from reports.history import Kind
from tests.reports.synthetic import MS, T0, Cut, Records, S, Slow, Synthetic, fault_lines
from tests.scenarios.gate_runs import (
    Run,
    Spoil,
    acked_late,
    both,
    in_order,
    leave_out,
    phased,
    repeat,
    swap,
    written_to_the_dead,
)
from tests.scenarios.load_runs import dials

CONTRACT: Final = {
    "profile": "effectively-once",
    "echo": True,
    "retain_n": 100_000,
    "retain_s": 86_400,
    "retain_bytes": 64 << 20,
    "dedupe_s": 300,
    "deadlines": {"settle_s": 30, "drain_cap_s": 30, "ack_s": 5},
}
THREE: Final = 3
PROCESSES: Final = (*(f"chatd-{node}" for node in range(1, THREE + 1)), "broker-1", "broker-2")


def of_node(node: int, clients: int) -> frozenset[int]:
    """Clients whose node it is."""
    return frozenset(client for client in range(1, clients + 1) if client // 2 % THREE + 1 == node)


def process(kind: str, at_s: float, name: str, fault: str = "") -> dict[str, Any]:
    """A start, or an exit by SIGKILL."""
    line = {"id": fault, "kind": kind, "phase": "engine_effect", "t": T0 + round(at_s * S)}
    line |= {"process": name, "role": "target", "pid": 4711}
    return (
        line
        if kind == "start"
        else line | {"code": None, "signal": "SIGKILL", "planned": True, "error": None}
    )


def starts() -> list[dict[str, Any]]:
    return [process("start", -1, name) for name in PROCESSES]


def three(
    names: Sequence[tuple[str, float]], *, faults: list[dict[str, Any]], clients: int = 120, **more: Any
) -> Synthetic:
    fields = {"clients": clients, "channels": 12, "rate": 40.0, "spread": 0.1, "nodes": THREE, **more}
    run = {"contract": CONTRACT | more.pop("contract", {})} if "contract" in more else None
    fields.pop("contract", None)
    return phased(list(names), run=run, faults=[*starts(), *faults], **fields)


# ── what is spoiled in records ────────────────────────────────────────────────────────────


def forks(channels: int = 12) -> Spoil:
    """At the end so many channels go on under another epoch, with all that they have."""

    def spoil(rows: Records) -> Records:
        told = [rows[rows["channel"] == channel] for channel in range(1, channels + 1)]
        extra = np.zeros(channels, rows.dtype)
        extra["kind"], extra["client"], extra["t"] = Kind.EPOCH, 0, rows["t"].max() + MS
        extra["channel"], extra["publisher"], extra["epoch"] = range(1, channels + 1), 1, 2
        extra["serial"] = [int(own["serial"][own["kind"] == Kind.RECV].max()) for own in told]
        for at, own in enumerate(told):
            extra["client"][at] = own["client"][own["kind"] == Kind.SUB][0]
        return in_order(np.concatenate([rows, extra]))

    return spoil


def nacks(times: int, *, at_s: float = 6.0) -> Spoil:
    """So many publishes were refused with 503 once, and sent again."""

    def spoil(rows: Records) -> Records:
        late = (rows["kind"] == Kind.ACK) & (rows["t"] > T0 + round(at_s * S))
        refused = rows[np.flatnonzero(late)[:times]]
        first = refused.copy()
        sends = rows["kind"] == Kind.SEND
        for at, row in enumerate(refused):
            own = sends & (rows["publisher"] == row["publisher"]) & (rows["pub_seq"] == row["pub_seq"])
            first["t"][at] = rows["t"][np.flatnonzero(own)[0]] + 1
        first["kind"], first["t2"], first["serial"], first["epoch"], first["flags"] = Kind.NACK, 503, 0, 0, 0
        again = refused.copy()
        again["kind"], again["epoch"], again["serial"], again["flags"] = Kind.SEND, 0, 200, 1 << 4
        again["t"] = first["t"] + 1
        return in_order(np.concatenate([rows, first, again]))

    return spoil


# ── runs ──────────────────────────────────────────────────────────────────────────────────


def killed(*, clients: int = 120, **more: Any) -> Synthetic:
    """The second node dies at 5 s, and its clients are on their way at once."""
    faults = [
        *fault_lines("kill-one", "kill", 5, 9, target="chatd-2"),
        process("exit", 5, "chatd-2", "kill-one"),
        process("start", 9, "chatd-2", "kill-one"),
    ]
    fields = {"cuts": [Cut(5.1, 5.2, clients=of_node(2, clients))], **more}
    return three(
        [("warm-up", 1), ("baseline", 3), ("chaos", 6), ("recovery", 12)],
        faults=faults,
        clients=clients,
        **fields,
    )


def stopped(*, clients: int = 120, end: float = 5.0, **more: Any) -> Synthetic:
    """The second node stands still from 3 s on; its clients give up by ``end``."""
    faults = fault_lines("stand-still", "pause", 3, 10, target="chatd-2")
    fields = {
        "cuts": [Cut(3.1, end, clients=of_node(2, clients))],
        "contract": {"ping_s": 1, "pong_s": 1},
        **more,
    }
    return three(
        [("warm-up", 1), ("baseline", 2), ("chaos", 8), ("recovery", 8)],
        faults=faults,
        clients=clients,
        **fields,
    )


def broker_killed(**more: Any) -> Synthetic:
    faults = [
        *fault_lines("kill-broker", "kill", 5, 7, target="broker-1"),
        process("exit", 5, "broker-1", "kill-broker"),
        process("start", 7, "broker-1", "kill-broker"),
    ]
    fields = {"clients": 36, **more}
    return three([("warm-up", 1), ("baseline", 3), ("chaos", 6), ("recovery", 10)], faults=faults, **fields)


def cut_off(**more: Any) -> Synthetic:
    faults = fault_lines("cut-off", "partition", 5, 8, target="link-2")
    fields = {"clients": 36, **more}
    return three([("warm-up", 1), ("baseline", 3), ("chaos", 6), ("recovery", 16)], faults=faults, **fields)


def replaced(**more: Any) -> Synthetic:
    faults = [
        *fault_lines("replica-falls-behind", "partition", 4, 8, target="link-replica"),
        *fault_lines("kill-broker", "kill", 6, 9, target="broker-1"),
        *fault_lines("failover", "promote", 6.5, 8, target="broker-2"),
        process("exit", 6, "broker-1", "kill-broker"),
        process("start", 9, "broker-1", "kill-broker"),
    ]
    fields = {"clients": 36, **more}
    return three([("warm-up", 1), ("baseline", 2.9), ("chaos", 6), ("recovery", 3)], faults=faults, **fields)


def deployed(*, turns: str = "deploy", clients: int = 120, **more: Any) -> Synthetic:
    """Each node in turn is told to go; its clients are away for a moment."""
    cuts = [Cut(at, at + 0.1, clients=of_node(node, clients)) for node, at in ((1, 4.1), (2, 7.1), (3, 10.1))]
    faults = fault_lines(turns, "rolling", 4, 13, target="chatd-*")
    for node, at in ((1, 4.5), (2, 7.5), (3, 10.5)):
        faults += [
            process("exit", at, f"chatd-{node}", turns),
            process("start", at + 0.5, f"chatd-{node}", "deploy"),
        ]
    fields = {"cuts": cuts, **more}
    return three(
        [("warm-up", 1), ("baseline", 3), (turns, 10), ("recovery", 6)],
        faults=faults,
        clients=clients,
        **fields,
    )


def _made(make: Callable[..., Synthetic], *spoils: Spoil, **more: Any) -> Callable[[], Run]:
    return lambda: Run(make(**more), {1: both(*spoils)} if spoils else {})


def forks_before(rows: Records) -> Records:
    """As ``forks``, but one channel forks below all that was acked on it."""
    changed = forks()(rows)
    at = np.flatnonzero(changed["kind"] == Kind.EPOCH)[0]
    changed["serial"][at] = 1
    return changed


def moved(node: int, to: int, *, after_s: float = 0.0) -> Spoil:
    """Whoever comes to one node after so long comes to another instead."""

    def spoil(rows: Records) -> Records:
        changed = rows.copy()
        late = (rows["kind"] == Kind.CONN) & (rows["t"] > T0 + round(after_s * S))
        changed["publisher"][late & (rows["publisher"] == node)] = to
        return changed

    return spoil


def crowded_at_first(rows: Records) -> Records:
    """Whose node is the third is on the first at the beginning."""
    changed, early = moved(3, 1)(rows), rows["t"] < T0 + 4 * S
    changed[~early] = rows[~early]
    return changed


def apart(**more: Any) -> Synthetic:
    fields = {"clients": 60, "nodes": 2, **more}
    faults = fault_lines("ocean", "latency", 5, 12, target="link-2")
    return three([("warm-up", 1), ("baseline", 4), ("apart", 8)], faults=faults, **fields)


def restarted(**more: Any) -> Synthetic:
    return deployed(turns="restarts", **more)


def grown(**more: Any) -> Synthetic:
    faults = fault_lines("join", "node_start", 4, 5, target="chatd-3")
    more = {"cuts": [Cut(6.1, 6.2, clients=frozenset({2}))], **more}  # one who is sent on
    return three([("warm-up", 1), ("baseline", 3), ("growing", 8), ("recovery", 4)], faults=faults, **more)


REGULARS: Final = frozenset(range(1, 7))


def crowd(*, there_s: float = 4.0, **more: Any) -> Synthetic:
    """The second and third node are there by a time; until then there is one."""
    faults = [process("start", there_s, f"chatd-{node}", "autoscale") for node in (2, 3)]
    others = [client for client in range(1, 37) if client not in REGULARS]
    fields = {"clients": 36, "personas": {"regulars": sorted(REGULARS), "crowd": others}, **more}
    made = three([("warm-up", 1), ("baseline", 2), ("rush", 4), ("crowded", 6)], faults=faults, **fields)
    made.faults = [line for line in made.faults if line not in (starts()[1], starts()[2])]
    return made


def turned_away(rows: Records) -> Records:
    """One dial is answered with 503."""
    extra = rows[np.flatnonzero(rows["kind"] == Kind.CONN)[:1]].copy()
    extra["serial"], extra["publisher"], extra["t"] = 503, 0, extra["t"] - MS
    return in_order(np.concatenate([rows, extra]))


def day(*, gone_s: float | None = 4.0, **more: Any) -> Synthetic:
    """The third node is there in the morning only."""
    faults = [] if gone_s is None else [process("exit", gone_s, "chatd-3", "autoscale")]
    return three([("warm-up", 1), ("day", 10)], faults=faults, **{"clients": 36, **more})


# Of those who give the second node up, one does so late.
DEAD: Final = [
    Cut(3.1, 5.0, clients=of_node(2, 120) - {2}),
    Cut(3.1, 7.65, clients=frozenset({2})),
]
# A scenario's run, and what else is in it when it holds.
MADE: Final[dict[str, tuple[Callable[..., Synthetic], tuple[Spoil, ...]]]] = {
    "node_kill": (killed, ()),
    "cluster_pause": (stopped, ()),
    "broker_restart": (broker_killed, (forks(),)),
    "broker_partition": (cut_off, (nacks(4),)),
    "broker_failover": (replaced, (forks(),)),
    "drain_deploy": (deployed, ()),
    "regions": (apart, ()),
    "balancing_rolling_restart": (restarted, ()),
    "scale_out_shed": (grown, ()),
    "follow_the_sun": (day, ()),
    "flash_crowd": (crowd, ()),
}
INTEGRITY: Final[dict[str, Spoil]] = {
    "nothing-lost": leave_out, "nothing-twice": repeat, "nothing-out-of-order": swap,
}  # fmt: skip
BASES: Final[dict[str, Callable[[], Run]]] = {name: _made(make, *also) for name, (make, also) in MADE.items()}
SPOILED: Final[dict[tuple[str, str], Callable[[], Run]]] = {
    **{
        (name, gate): _made(make, *also, spoil)
        for name, (make, also) in MADE.items()
        for gate, spoil in INTEGRITY.items()
    },
    **{
        (name, "soon-while-quiet"): _made(make, *also, slows=[Slow(1, 3.5, 1500)])
        for name, (make, also) in MADE.items()
        if name not in ("follow_the_sun", "flash_crowd")
    },
    ("node_kill", "back-soon"): _made(killed, late={(8, 0): 5.5}),
    ("node_kill", "latency-as-before"): _made(killed, slows=[Slow(9, 14.2, 1500)]),
    ("node_kill", "nothing-waits"): _made(killed, acked_late(8.5, 14.5)),
    ("node_kill", "resumes-happened"): _made(killed, clients=54),
    ("cluster_pause", "nobody-talks-to-the-dead"): _made(stopped, written_to_the_dead(2), cuts=DEAD),
    ("cluster_pause", "back-elsewhere"): _made(stopped, late={(8, 0): 4.5}),
    ("cluster_pause", "resumes-happened"): _made(stopped, clients=54),
    ("broker_restart", "said-so"): _made(broker_killed, forks(11)),
    ("broker_restart", "nothing-forked-away"): _made(broker_killed, forks_before),
    ("broker_restart", "late-not-lost"): _made(broker_killed, forks(), slows=[Slow(5, 5.4, 8500)]),
    ("broker_partition", "refused-meanwhile"): _made(cut_off),
    ("broker_partition", "late-not-lost"): _made(cut_off, nacks(4), slows=[Slow(5, 5.4, 14_500)]),
    ("broker_failover", "fork-declared"): _made(replaced, forks(11)),
    ("broker_failover", "gone-and-no-more"): _made(replaced, forks_before, rate=400.0),
    ("drain_deploy", "hardly-away"): _made(deployed, late={(4, 2): 4.0, (5, 2): 4.0, (10, 2): 4.0}),
    ("drain_deploy", "paced"): _made(deployed, dials(range(1, 121), 1, at_s=6.0)),
    ("drain_deploy", "nobody-is-stuck"): _made(deployed, slows=[Slow(5, 6, 2500)]),
    ("drain_deploy", "resumes-happened"): _made(deployed, clients=96),
    ("regions", "near"): _made(apart, slows=[Slow(5, 13, 200)]),
    ("regions", "far"): _made(apart, slows=[Slow(5, 13, 700, clients=frozenset({1, 2, 3}))]),
    ("balancing_rolling_restart", "even-at-first"): _made(restarted, crowded_at_first),
    ("balancing_rolling_restart", "none-with-twice-its-share"): _made(
        restarted, moved(2, 1, after_s=4), moved(3, 1, after_s=4)
    ),
    ("balancing_rolling_restart", "back-soon"): _made(restarted, late={(c, 2): 5.5 for c in (4, 5, 10)}),
    ("scale_out_shed", "even-at-last"): _made(grown, moved(3, 1)),
    ("scale_out_shed", "gently"): _made(grown, dials(range(1, 21), 1, at_s=6.0)),
    ("scale_out_shed", "nobody-feels-it"): _made(grown, slows=[Slow(6, 7, 1500)]),
    ("flash_crowd", "nobody-is-turned-away"): _made(crowd, turned_away),
    ("flash_crowd", "nodes-enough-in-time"): _made(crowd, there_s=8.5),
    ("flash_crowd", "regulars-notice-nothing"): _made(crowd, slows=[Slow(4, 5, 1500, clients=REGULARS)]),
    ("follow_the_sun", "fewer-node-minutes"): _made(day, gone_s=None),
    ("follow_the_sun", "nobody-feels-it"): _made(day, slows=[Slow(5, 6, 2500)]),
}

"""Small runs in which everything that a bundled scenario asks for holds, and ways to spoil one thing in each.

``BASES`` has a run for each scenario; ``SPOILED`` has, for each gate, the same run with what makes that gate
fail and no other. Runs are of ``tests.reports.synthetic``: the scenario's phases and faults, shortened.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import polars as pl

from reports.history import Flag, History, Kind
from tests.reports.synthetic import MS, T0, Cut, Records, S, Slow, Synthetic, fault_lines, in_memory

Spoil = Callable[[Records], Records]


@dataclass(frozen=True)
class Run:
    """A synthetic run, and what is changed in its records before they are judged, by worker.

    ``counters``: what the load worker counted besides. ``samples``: metrics of the run, by name.
    """

    made: Synthetic
    spoil: Mapping[int, Spoil] = field(default_factory=dict)
    counters: Mapping[str, int] = field(default_factory=dict)
    samples: Mapping[str, pl.DataFrame] = field(default_factory=dict)

    def with_spoil(self, worker: int, spoil: Spoil) -> Run:
        """The same, with one more change to a worker's records."""
        own = self.spoil.get(worker)
        return Run(self.made, {**self.spoil, worker: both(own, spoil) if own else spoil})

    def history(self) -> History:
        records = self.made.records()
        spoiled = {
            worker: self.spoil.get(worker, lambda rows: rows)(rows) for worker, rows in records.items()
        }
        self.made.records = lambda: spoiled  # type: ignore[method-assign]
        return in_memory(self.made)


# ── what is spoiled in records ────────────────────────────────────────────────────────────


def live(rows: Records) -> Records:
    """Positions of live deliveries of load, past the beginning."""
    ours = (rows["kind"] == Kind.RECV) & (rows["flags"] & int(Flag.REPLAYED) == 0) & (rows["publisher"] != 0)
    return np.flatnonzero(ours & (rows["t"] > T0 + 2 * S))


def forget_in_the_log(rows: Records) -> Records:
    """One message that everybody got is in neither of the final reads."""
    reads = rows[(rows["kind"] == Kind.READ) & (rows["channel"] == 1)]
    serial = reads["serial"][len(reads) // 4]
    return rows[~((rows["kind"] == Kind.READ) & (rows["channel"] == 1) & (rows["serial"] == serial))]


def leave_out(rows: Records) -> Records:
    """One live delivery never came."""
    return np.delete(rows, live(rows)[0])


def leave_out_of_a_replay(rows: Records) -> Records:
    """One delivery of a resumed subscription's replay never came."""
    resumed = rows[(rows["kind"] == Kind.SUB) & (rows["flags"] & int(Flag.RESUMED) != 0)]
    replays = (rows["kind"] == Kind.RECV) & (rows["flags"] & int(Flag.REPLAYED) != 0)
    for sub in resumed:
        mine = replays & (rows["client"] == sub["client"]) & (rows["channel"] == sub["channel"])
        if mine.any():
            return np.delete(rows, np.flatnonzero(mine & (rows["t"] > sub["t"]))[0])
    raise AssertionError("nothing was replayed to anybody who resumed")


def repeat(rows: Records) -> Records:
    """One live delivery came twice."""
    at = live(rows)[0]
    return np.insert(rows, at + 1, rows[at])


def swap(rows: Records) -> Records:
    """Two deliveries of one subscription changed places."""
    at = live(rows)
    first = rows[at[0]]
    after = (rows["client"][at] == first["client"]) & (rows["channel"][at] == first["channel"])
    one, other = at[after][:2]
    changed = rows.copy()
    changed[one], changed[other] = rows[other], rows[one]
    return changed


def shorten_a_gap(rows: Records) -> Records:
    """The notice of one gap is a message short."""
    changed = rows.copy()
    changed["serial"][np.flatnonzero(rows["kind"] == Kind.GAP)[0]] -= 1
    return changed


def retried(rows: Records) -> Records:
    """One publish was sent again after its ack was lost, and known again."""
    at = np.flatnonzero(rows["kind"] == Kind.ACK)[5]
    again = rows[[at, at]]
    again["kind"][0], again["flags"][0], again["epoch"][0], again["serial"][0] = Kind.SEND, Flag.RETRY, 0, 200
    again["flags"][1] = Flag.DUPLICATE
    again["t"] += np.array([MS, 2 * MS])
    return in_order(np.concatenate([rows, again]))


def retried_times(times: int) -> Spoil:
    """So many publishes were sent again and known again."""

    def spoil(rows: Records) -> Records:
        at = np.flatnonzero(rows["kind"] == Kind.ACK)[5 : 5 + times]
        sends, acks = rows[at].copy(), rows[at].copy()
        sends["kind"], sends["flags"], sends["epoch"], sends["serial"] = Kind.SEND, Flag.RETRY, 0, 200
        acks["flags"] = Flag.DUPLICATE
        sends["t"] += MS
        acks["t"] += 2 * MS
        return in_order(np.concatenate([rows, sends, acks]))

    return spoil


def acked_late(from_s: float, until_s: float) -> Spoil:
    """Every ack that came in a stretch of time came at its end."""

    def spoil(rows: Records) -> Records:
        t = rows["t"] - T0
        held = (rows["kind"] == Kind.ACK) & (t >= round(from_s * S)) & (t < round(until_s * S))
        changed = rows.copy()
        changed["t"][held] = T0 + round(until_s * S)
        return in_order(changed)

    return spoil


def post_twice(rows: Records) -> Records:
    """One message stands at two places of the log; what stood at the second was never sent."""
    placed = np.isin(rows["kind"], (Kind.READ, Kind.RECV)) & (rows["channel"] == 1)
    by_serial = {int(row["serial"]): row for row in rows[placed]}
    first = by_serial[4]
    again = min(n for n, row in by_serial.items() if n > 4 and row["publisher"] == first["publisher"])
    gone = int(by_serial[again]["pub_seq"])
    changed = rows.copy()
    changed["pub_seq"][placed & (rows["serial"] == again)] = first["pub_seq"]
    sent = np.isin(rows["kind"], (Kind.SEND, Kind.ACK)) & (rows["publisher"] == first["publisher"])
    return changed[~(sent & (rows["pub_seq"] == gone))]


def written_to_the_dead(client: int) -> Spoil:
    """One client writes what nothing answers, on a connection that it keeps for too long."""

    def spoil(rows: Records) -> Records:
        closes = np.flatnonzero((rows["kind"] == Kind.CLOSE) & (rows["client"] == client))
        changed = rows.copy()
        changed["t"][closes[0]] += round(4.5 * S)
        extra = rows[np.flatnonzero((rows["kind"] == Kind.SEND) & (rows["client"] == client))[:1]].copy()
        extra["t"], extra["flags"] = T0 + round(3.2 * S), Flag.RETRY
        return in_order(np.concatenate([changed, extra]))

    return spoil


def in_order(rows: Records) -> Records:
    return rows[np.argsort(rows["t"], kind="stable")]


def both(*spoils: Spoil) -> Spoil:
    def spoil(rows: Records) -> Records:
        for each in spoils:
            rows = each(rows)
        return rows

    return spoil


# ── runs ──────────────────────────────────────────────────────────────────────────────────


def phased(phases: list[tuple[str, float]], run: dict[str, Any] | None = None, **more: Any) -> Synthetic:
    """A run with these phases, the first of which is the warm-up unless it is ``offline``."""
    begin, rows = T0, []
    for name, long in phases:
        end = begin + round(long * S)
        rows.append({"name": name, "start_ns": begin, "end_ns": end, "warmup": name == "warm-up"})
        begin = end
    (_, warmup_s), *rest = phases
    steady_s = sum(long for _, long in rest)
    return Synthetic(warmup_s=warmup_s, steady_s=steady_s, run={"phases": rows, **(run or {})}, **more)


def smoke(**more: Any) -> Synthetic:
    return phased([("warm-up", 1), ("steady", 5)], **{"clients": 8, "channels": 2, "rate": 40.0, **more})


def storm(*, recovery_s: float = 3, **more: Any) -> Synthetic:
    """Each half is cut off once."""
    fields = {
        "clients": 40,
        "channels": 10,
        "rate": 40.0,
        "spread": 0.1,
        "cuts": [Cut(5, 6, 0), Cut(8, 9, 1)],
        "faults": [
            *fault_lines("cut-half", "down", 5, 6, target="a"),
            *fault_lines("cut-other-half", "down", 8, 9, target="b"),
        ],
        **more,
    }
    return phased([("warm-up", 1), ("baseline", 3), ("chaos", 7), ("recovery", recovery_s)], **fields)


def swarm(**more: Any) -> Synthetic:
    fields = {"clients": 20, "channels": 4, "rate": 40.0, "spread": 0.1, **more}
    fields.setdefault("cuts", [Cut(6, 7, 0)])
    fields.setdefault("faults", fault_lines("0-down", "down", 6, 7, target="a"))
    return phased([("warm-up", 1), ("chaos", 7)], **fields)


def acks_lost(*, retries: int = 50, **more: Any) -> Run:
    """Half of the clients lose what the server sends, and their connections with it."""
    made = phased(
        [("warm-up", 1), ("baseline", 4), ("acks lost", 4), ("recovery", 2)],
        **{
            "clients": 40,
            "channels": 8,
            "rate": 60.0,
            "spread": 0.1,
            "cuts": [Cut(6, 8, 0)],
            "faults": fault_lines("acks-lost-a", "timeout", 6, 8, target="a"),
            **more,
        },
    )
    return Run(made, {1: retried_times(retries)})


def standstill(*, clients: int = 50, end: float = 8, until: float = 8, **more: Any) -> Synthetic:
    """The server stands still from 3 s, and everybody gives up; each had two channels."""
    contract = {
        "profile": "effectively-once",
        "echo": True,
        "retain_n": 100_000,
        "retain_s": 86_400,
        "retain_bytes": 64 << 20,
        "dedupe_s": 300,
        "ping_s": 1,
        "pong_s": 1,
        "deadlines": {"settle_s": 30, "drain_cap_s": 30, "ack_s": 5},
    }
    fields = {
        "clients": clients,
        "channels": 10,
        "rate": 40.0,
        "spread": 0.1,
        "cuts": [Cut(3, end)],
        "faults": fault_lines("stand-still", "pause", 3, until, target="chatd-1"),
        **more,
    }
    phases = [("warm-up", 1.0), ("baseline", 2.0), ("chaos", 6.0), ("recovery", 8.0)]
    return phased(phases, run={"contract": contract}, **fields)


NEAR: Final = [c for c in range(1, 57) if c % 8 < 4]  # clients on channels 1 to 8; the others are on 9 to 16
AWAY: Final = frozenset(NEAR[:16])  # of them, those who leave


def catchup(
    *, away: frozenset[int] = AWAY, end: float = 16.0, replay_s: float = 0.5, **more: Any
) -> Synthetic:
    """Sixteen clients leave for fourteen seconds; their channels are half of all."""
    cuts = [Cut(2, end, clients=away, on_purpose=True, replay_s=replay_s), *more.pop("cuts", [])]
    fields = {"clients": 56, "channels": 16, "rate": 330.0, "spread": 0.1, "cuts": cuts, **more}
    return phased([("warm-up", 1), ("offline", 15), ("return", 6)], **fields)


SHORT: Final = Cut(11, 11.5, clients=frozenset({7, 8}), on_purpose=True)
LONG: Final = Cut(3, 9, clients=frozenset({1, 2, 3}), on_purpose=True)


def gaps(*, promised: int = 30, **more: Any) -> Synthetic:
    """Three clients are away for longer than what is retained, two are not."""
    contract = {
        "profile": "effectively-once",
        "echo": True,
        "retain_n": promised,
        "retain_s": 86_400,
        "retain_bytes": 64 << 20,
        "dedupe_s": 300,
        "deadlines": {"settle_s": 30, "drain_cap_s": 30, "ack_s": 5},
    }
    fields = {"clients": 12, "channels": 4, "rate": 60.0, "keeps": 30, "cuts": [LONG, SHORT], **more}
    return phased([("warm-up", 1), ("steady", 14)], run={"contract": contract}, **fields)


DARK: Final = frozenset(range(1, 13))  # clients who are not told that their connection is dead
CUT_OFF: Final = frozenset(range(21, 33))  # and clients whose server is not told


def dark(
    *, late: int = 0, cut_off: frozenset[int] = CUT_OFF, server_ms: int = 4_900, **more: Any
) -> Synthetic:
    """Two faults of eight seconds; so many of the clients in the dark notice only at the end of theirs."""
    faults = [
        fault_lines("clients-in-the-dark", "half_open", 5, 13, ordinals=sorted(DARK)),
        fault_lines("server-in-the-dark", "half_open", 14, 22, ordinals=sorted(cut_off)),
    ]
    for (_, start, _, revert), side, slowest_ms in zip(
        faults, ("client", "server"), (4_900, server_ms), strict=True
    ):
        start["effect"] = [{"toxic": {"attributes": {"side": side}}}]
        counts = {"left": 12, "gave_up": 12, "gave_up_max_ms": slowest_ms}
        revert["effect"] = [{"removed": True, "counts": counts}]
    fields = {
        "clients": 40,
        "channels": 10,
        "rate": 40.0,
        "spread": 0.1,
        "cuts": [Cut(5, 10, clients=DARK), Cut(14, 14.5, clients=cut_off)],
        "late": {(client, 0): 3.1 for client in range(1, late + 1)},
        "faults": [line for lines in faults for line in lines],
        **more,
    }
    made = phased([("warm-up", 1), ("baseline", 3), ("dark", 20)], **fields)
    contract = {**made.manifest()["contract"], "ping_s": 3.0, "pong_s": 2.0}
    made.run["contract"] = contract
    return made


def notice(*late: int) -> Spoil:
    """Clients in the dark end their connection after 4.9 s, those who are late after 7.9 s."""

    def spoil(rows: Records) -> Records:
        changed = rows.copy()
        first = T0 + 5 * S
        mine = (rows["kind"] == Kind.CLOSE) & (rows["t"] >= first) & (rows["t"] < first + S)
        changed["t"][mine] += 4_900 * MS
        changed["t"][mine & np.isin(rows["client"], late)] += 3_000 * MS
        return in_order(changed)

    return spoil


def write_in_the_dark(client: int) -> Spoil:
    """A client's first publish after the dark was written on the dead connection already."""

    def spoil(rows: Records) -> Records:
        mine = (rows["kind"] == Kind.SEND) & (rows["client"] == client) & (rows["t"] > T0 + 13 * S)
        at = np.flatnonzero(mine)[0]
        first = rows[[at]]
        first["t"], first["t2"] = T0 + 5_600 * MS, T0 + 5_599 * MS
        changed = rows.copy()
        changed["flags"][at] |= int(Flag.RETRY)
        return in_order(np.concatenate([changed, first]))

    return spoil


def _only(client: int) -> frozenset[int]:
    return frozenset({client})


OTHERS: Final = frozenset(NEAR) - AWAY  # they share channels with those who leave
BACK_S: Final = (15.9, 17.6)  # everybody who left comes back in this time
DUPLICATED: Final = {1: retried}


def _spoiled(made: Callable[..., Synthetic], worker: int, spoil: Spoil) -> Callable[[], Run]:
    return lambda: Run(made(), {worker: spoil})


BASES: Final[dict[str, Callable[[], Run]]] = {
    "smoke": lambda: Run(smoke()),
    "reconnect_storm": lambda: Run(storm(), DUPLICATED),
    "history_catchup": lambda: Run(catchup()),
    "retention_gap": lambda: Run(gaps()),
    "half_open": lambda: Run(dark(), {1: notice()}),
    "capacity": lambda: Run(smoke()),
    "swarm": lambda: Run(swarm()),
    "cluster_swarm": lambda: Run(swarm()),
    "fallback_swarm": lambda: Run(swarm()),
    "publisher_retry": acks_lost,
    "node_pause": lambda: Run(standstill()),
}
SPOILED: Final[dict[tuple[str, str], Callable[[], Run]]] = {
    ("smoke", "nothing-lost"): _spoiled(smoke, 1, leave_out),
    ("smoke", "nothing-twice"): _spoiled(smoke, 1, repeat),
    ("smoke", "nothing-out-of-order"): _spoiled(smoke, 1, swap),
    ("smoke", "soon"): lambda: Run(smoke(slows=[Slow(3, 4, 100)])),
    ("reconnect_storm", "nothing-lost"): lambda: Run(storm(), DUPLICATED | {0: forget_in_the_log}),
    ("reconnect_storm", "nothing-twice"): lambda: Run(storm(), {1: both(retried, repeat)}),
    ("reconnect_storm", "nothing-out-of-order"): lambda: Run(storm(), {1: both(retried, swap)}),
    ("reconnect_storm", "soon-while-quiet"): lambda: Run(storm(slows=[Slow(1, 4, 900)]), DUPLICATED),
    ("reconnect_storm", "all-back"): lambda: Run(storm(late={(2, 0): 10.5}, recovery_s=8), DUPLICATED),
    ("reconnect_storm", "retries-were-known"): lambda: Run(storm()),
    ("reconnect_storm", "resumes-happened"): lambda: Run(storm(clients=20), DUPLICATED),
    ("history_catchup", "nothing-lost"): _spoiled(catchup, 1, leave_out),
    ("history_catchup", "nothing-twice"): _spoiled(catchup, 1, repeat),
    ("history_catchup", "nothing-out-of-order"): _spoiled(catchup, 1, swap),
    ("history_catchup", "resumes-happened"): lambda: Run(catchup(away=frozenset(sorted(AWAY)[:14]))),
    ("history_catchup", "thousands-replayed"): lambda: Run(catchup(end=4.0, replay_s=0.1)),
    ("history_catchup", "caught-up-soon"): lambda: Run(
        catchup(away=AWAY - _only(1), cuts=[Cut(2, 16, clients=_only(1), on_purpose=True, replay_s=1.05)])
    ),
    ("history_catchup", "catch-up-rate"): lambda: Run(
        catchup(away=AWAY - _only(1), cuts=[Cut(12, 16, clients=_only(1), on_purpose=True, replay_s=0.9)])
    ),
    ("history_catchup", "others-not-slower"): lambda: Run(catchup(slows=[Slow(*BACK_S, 4, clients=OTHERS)])),
    ("history_catchup", "others-not-later"): lambda: Run(
        catchup(slows=[Slow(*BACK_S, 60), Slow(*BACK_S, 10, clients=OTHERS)])
    ),
    ("history_catchup", "soon-while-they-return"): lambda: Run(catchup(slows=[Slow(18, 20, 700)])),
    ("retention_gap", "nothing-lost-from-the-log"): _spoiled(gaps, 0, forget_in_the_log),
    ("retention_gap", "nothing-twice"): _spoiled(gaps, 1, repeat),
    ("retention_gap", "nothing-out-of-order"): _spoiled(gaps, 1, swap),
    ("retention_gap", "no-silent-hole"): _spoiled(gaps, 1, leave_out),
    ("retention_gap", "no-false-resume"): _spoiled(gaps, 1, leave_out_of_a_replay),
    ("retention_gap", "no-wrong-notice"): _spoiled(gaps, 1, shorten_a_gap),
    ("retention_gap", "kept-as-promised"): lambda: Run(gaps(promised=60)),
    ("retention_gap", "gaps-were-declared"): lambda: Run(gaps(cuts=[SHORT])),
    ("retention_gap", "others-resumed"): lambda: Run(gaps(cuts=[LONG])),
    ("half_open", "nothing-lost"): lambda: Run(dark(), {1: both(notice(), leave_out)}),
    ("half_open", "nothing-twice"): lambda: Run(dark(), {1: both(notice(), repeat)}),
    ("half_open", "nothing-out-of-order"): lambda: Run(dark(), {1: both(notice(), swap)}),
    ("half_open", "no-dead-connection-kept"): lambda: Run(
        dark(late=1), {1: both(notice(1), write_in_the_dark(1))}
    ),
    ("half_open", "clients-notice"): lambda: Run(dark(late=3), {1: notice(1, 2, 3)}),
    ("half_open", "server-notices"): lambda: Run(dark(server_ms=7_000), {1: notice()}),
    ("half_open", "soon-while-quiet"): lambda: Run(dark(slows=[Slow(1, 4, 1200)]), {1: notice()}),
    ("half_open", "resumes-happened"): lambda: Run(dark(cut_off=frozenset(range(21, 24))), {1: notice()}),
    ("capacity", "nothing-lost"): _spoiled(smoke, 1, leave_out),
    ("capacity", "nothing-twice"): _spoiled(smoke, 1, repeat),
    ("capacity", "nothing-out-of-order"): _spoiled(smoke, 1, swap),
    ("capacity", "soon"): lambda: Run(smoke(slows=[Slow(3, 4, 150)])),
    ("swarm", "nothing-lost"): _spoiled(swarm, 1, leave_out),
    ("swarm", "nothing-twice"): _spoiled(swarm, 1, repeat),
    ("swarm", "nothing-out-of-order"): _spoiled(swarm, 1, swap),
    ("swarm", "soon-while-quiet"): lambda: Run(swarm(slows=[Slow(1, 4.4, 1500)])),
    ("cluster_swarm", "nothing-lost"): _spoiled(swarm, 1, leave_out),
    ("cluster_swarm", "nothing-twice"): _spoiled(swarm, 1, repeat),
    ("cluster_swarm", "nothing-out-of-order"): _spoiled(swarm, 1, swap),
    ("cluster_swarm", "soon-while-quiet"): lambda: Run(swarm(slows=[Slow(1, 4.4, 1500)])),
    ("fallback_swarm", "nothing-lost"): _spoiled(swarm, 1, leave_out),
    ("fallback_swarm", "nothing-twice"): _spoiled(swarm, 1, repeat),
    ("fallback_swarm", "nothing-out-of-order"): _spoiled(swarm, 1, swap),
    ("fallback_swarm", "soon-while-quiet"): lambda: Run(swarm(slows=[Slow(1, 4.4, 1500)])),
    ("publisher_retry", "nothing-posted-twice"): lambda: (
        acks_lost().with_spoil(0, post_twice).with_spoil(1, post_twice)
    ),
    ("publisher_retry", "nothing-lost"): lambda: acks_lost().with_spoil(1, leave_out),
    ("publisher_retry", "nothing-delivered-twice"): lambda: acks_lost().with_spoil(1, repeat),
    ("publisher_retry", "nothing-out-of-order"): lambda: acks_lost().with_spoil(1, swap),
    ("publisher_retry", "retries-were-known"): lambda: acks_lost(retries=49),
    ("publisher_retry", "soon-while-quiet"): lambda: acks_lost(slows=[Slow(1, 5, 900)]),
    ("node_pause", "nothing-lost"): _spoiled(standstill, 1, leave_out),
    ("node_pause", "nothing-twice"): _spoiled(standstill, 1, repeat),
    ("node_pause", "nothing-out-of-order"): _spoiled(standstill, 1, swap),
    ("node_pause", "nobody-talks-to-the-dead"): _spoiled(standstill, 1, written_to_the_dead(1)),
    ("node_pause", "all-back"): lambda: Run(standstill(late={(2, 0): 6.5})),
    ("node_pause", "resumes-happened"): lambda: Run(standstill(clients=49)),
    ("node_pause", "soon-while-quiet"): lambda: Run(standstill(slows=[Slow(1, 3, 900)])),
    ("retention_gap", "soon"): lambda: Run(gaps(slows=[Slow(12, 13, 1200)])),
}

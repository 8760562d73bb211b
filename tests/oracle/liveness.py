"""V1 to V6: what must go on. Judged only in runs that reached MARK(drain), V6 excepted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from reports.history import CONN_OK, Flag, Kind, Mark
from tests.oracle.case import NS, Case, Record
from tests.oracle.outcomes import Messages
from tests.oracle.owed import deadline_ns, stalled

Accused = set[tuple[Any, ...]]
SWALLOWING = frozenset({"timeout", "pause"})  # faults that keep a connection, and answer nothing on it
NEVER = 1 << 63


def stalled_subscriber(m: Messages) -> Accused:
    """V1: (client, SUB) of a subscription without its channel's sentinel at the deadline."""
    if m.case.marked_ns(Mark.DRAIN) is None or deadline_ns(m.case) is None:
        return set()
    return {(x.segment.client, x.window.opened_by.row) for x in stalled(m.case, m)}


def never_reconnected(case: Case) -> Accused:
    """V2: a client that lost its connection, or never got one, and had none when waiting was over.

    One that lost it after the drain began must have been away for settle_s.
    """
    drain_ns, over_ns = case.marked_ns(Mark.DRAIN), case.waited_until_ns
    if drain_ns is None or over_ns is None:
        return set()
    accused: Accused = set()
    for client in case.clients:
        away_since: int | None = None
        for r in case.of_client(client):
            if r.t > over_ns or client == 0 or case.is_torn(client):
                continue
            if r.kind == Kind.CONN and r.serial == CONN_OK:
                away_since = None
            elif r.kind == Kind.CLOSE:
                away_since = None if r.has(Flag.ON_PURPOSE) else r.t
            elif r.kind == Kind.CONN and away_since is None:
                away_since = r.t
        if away_since is not None and (away_since <= drain_ns or over_ns - away_since >= case.settle_ns):
            accused.add((client,))
    return accused


# ── V3, V4 ────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Fault:
    """When a fault was in force, and on which clients: ordinals, or by proxy, all even or all odd ones."""

    kind: str
    begin_ns: int
    end_ns: int
    target: str
    ordinals: frozenset[int]

    def hits(self, client: int) -> bool:
        if self.ordinals:
            return client in self.ordinals
        return self.target not in ("a", "b") or client % 2 == ("a", "b").index(self.target)


def faults(case: Case) -> Iterator[Fault]:
    lines: dict[str, list[dict[str, Any]]] = {}
    for line in case.faults:
        if line.get("id") and line.get("kind") not in ("start", "exit"):
            lines.setdefault(line["id"], []).append(line)
    for own in lines.values():
        at = {
            phase: [line["t"] for line in own if line.get("phase") == phase and line.get("t") is not None]
            for phase in ("start", "stop", "revert")
        }
        if at["start"]:
            ended = at["revert"] or at["stop"]
            ordinals = frozenset(o for line in own for o in line.get("ordinals") or ())
            yield Fault(
                str(own[0].get("kind")),
                min(at["start"]),
                max(ended) if ended else case.end_ns,
                str(own[0].get("target") or "all"),
                ordinals,
            )


def connections(records: list[Record]) -> Iterator[tuple[list[Record], int]]:
    """The records of each of a client's connections, and when it ended."""
    current: list[Record] = []
    for r in records:
        if r.kind == Kind.CLOSE:
            yield current, r.t
            current = []
        else:
            current.append(r)
    yield current, NEVER


def longest_quiet_ns(case: Case, begin_ns: int, end_ns: int) -> int:
    """The longest stretch between two times in which no fault was in force."""
    longest, since = 0, begin_ns
    for fault in sorted(faults(case), key=lambda f: (f.begin_ns, f.end_ns)):
        longest = max(longest, min(fault.begin_ns, end_ns) - since)
        since = max(since, fault.end_ns)
    return max(longest, end_ns - since)


def unacked(m: Messages) -> Accused:
    """V3: a message with an attempt that nothing answered on a connection that lived on.

    It was open at MARK(drain), and for ack_s on end without a fault after the attempt. Of several attempts
    on one connection those that were answered are taken to be the first ones.
    """
    case, accused = m.case, set()
    drain_ns, over_ns = case.marked_ns(Mark.DRAIN), case.waited_until_ns
    if drain_ns is None or over_ns is None:
        return set()
    for message in m.sent:
        client = message[0]
        if client == 0 or case.is_torn(client):
            continue
        for records, end_ns in connections(case.of_client(client)):
            mine = [r for r in records if r.message == message and r.channel == m.channel]
            attempts = [r for r in mine if r.kind == Kind.SEND]
            answers = [r for r in mine if r.kind in (Kind.ACK, Kind.NACK) and not r.has(Flag.NOT_OPEN)]
            if len(attempts) <= len(answers):
                continue
            sent_ns, until_ns = attempts[len(answers)].t, min(end_ns, over_ns)
            alive = until_ns > drain_ns and until_ns - sent_ns >= case.ack_ns
            if alive and longest_quiet_ns(case, sent_ns, until_ns) >= case.ack_ns:
                accused.add((client, message, end_ns))
    return accused


def undetected_half_open(case: Case) -> Accused:
    """V4: a connection kept for more than ping + pong after a fault began to swallow what it carries.

    A publish written under the fault that nothing answered from then on proves it dead.
    """
    ping_s, pong_s = case.contract.get("ping_s"), case.contract.get("pong_s")
    if case.marked_ns(Mark.DRAIN) is None or ping_s is None or pong_s is None:
        return set()
    limit_ns = int((ping_s + pong_s) * NS) + NS  # and a second for the close to travel
    accused: Accused = set()
    for number, fault in enumerate(faults(case)):
        if fault.target.startswith(("link-", "broker-")):  # no client's connection leads there
            continue
        if fault.kind not in SWALLOWING or fault.end_ns - fault.begin_ns <= limit_ns:
            continue
        for client in case.clients:
            if client == 0 or case.is_torn(client) or not fault.hits(client):
                continue
            for records, close_ns in connections(case.of_client(client)):
                under = [r for r in records if fault.begin_ns <= r.t <= fault.end_ns]
                dead = [r for i, r in enumerate(under) if _is_dead(r, under[i + 1 :], limit_ns)]
                if dead and min(fault.end_ns, close_ns) > dead[0].t + limit_ns:
                    accused.add((number, client, dead[0].row))
    return accused


def _is_dead(r: Record, after: list[Record], limit_ns: int) -> bool:
    """Whether this is a publish that no answer followed within the limit."""
    kinds = (Kind.ACK, Kind.NACK, Kind.SUB, Kind.LIVE, Kind.UNSUB)
    answers = [a for a in after if a.kind in kinds and (a.kind != Kind.NACK or a.t2 != 0)]
    return r.kind == Kind.SEND and not any(a.t <= r.t + limit_ns for a in answers)


# ── V5, V6 ────────────────────────────────────────────────────────────────────────────────


def no_progress(m: Messages) -> Accused:
    """V5: a channel to which something was sent after healing, and that accepted nothing within settle_s."""
    case = m.case
    drain_ns, heal_ns = case.marked_ns(Mark.DRAIN), case.marked_ns(Mark.HEAL)
    if drain_ns is None:
        return set()
    healed_ns = drain_ns if heal_ns is None else heal_ns
    is_used = any(
        (r.kind == Kind.SUB and r.client != 0) or (r.kind == Kind.SEND and r.client != 0)
        for r in case.of_channel(m.channel)
    )
    tries = [r for r in m.sends if r.t >= healed_ns and not case.is_torn(r.client)]
    if not is_used:
        return set()
    if not tries:
        return {(m.channel,)} if _shut_out(case, healed_ns) else set()
    by_ns = min(r.t for r in tries) + case.settle_ns
    late = {r.message for r in tries}
    accepted = any(r.message in late and r.t <= by_ns for r in (*m.acks, *m.bodies))
    return {(m.channel,)} if by_ns <= case.end_ns and not accepted else set()


def _shut_out(case: Case, healed_ns: int) -> bool:
    """Whether client 0 dialled after healing and did not get through for settle_s."""
    dials = [r for r in case.of_client(0) if r.kind == Kind.CONN and r.t >= healed_ns]
    if not dials or case.is_torn(0):
        return False
    by_ns = min(r.t for r in dials) + case.settle_ns
    return by_ns <= case.end_ns and not any(r.serial == CONN_OK and r.t <= by_ns for r in dials)


def unplanned_exit(case: Case) -> Accused:
    """V6: lines of faults.jsonl that tell of an exit of a target, once ready, that nobody planned."""
    return {
        (number,)
        for number, line in enumerate(case.faults)
        if line.get("kind") == "exit"
        and line.get("role") == "target"
        and not line.get("planned")
        and line.get("ready") is not False
    }

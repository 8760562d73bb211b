"""V1 to V6: what must go on. All but V4 and V6 need MARK(drain)."""

from __future__ import annotations

from typing import Any

from reports.history import CONN_OK, Flag, Kind, Mark
from tests.oracle.case import NS, Case, Record
from tests.oracle.ends import is_stalled
from tests.oracle.outcomes import Messages
from tests.oracle.windows import subscribers

Accused = set[tuple[Any, ...]]
SILENCING = frozenset({"half_open", "blackhole", "timeout"})  # faults that cut a connection and tell nobody


def stalled_subscriber(case: Case) -> Accused:
    """V1: (channel, client)."""
    if case.marked_ns(Mark.DRAIN) is None:
        return set()
    by_channel = {channel: Messages(case, channel) for channel in case.channels}
    return {
        (s.channel, s.client)
        for s in subscribers(case)
        for segment in s.segments
        if not case.is_torn(s.client) and is_stalled(case, by_channel[s.channel], segment)
    }


def never_reconnected(case: Case) -> Accused:
    """V2: (client) that lost its connection before the drain and never had one again."""
    drain_ns = case.marked_ns(Mark.DRAIN)
    if drain_ns is None:
        return set()
    accused: Accused = set()
    for client in case.clients:
        if client == 0 or case.is_torn(client):
            continue
        state: Record | None = None  # the last thing that became of its connection
        for r in case.records:
            if r.client == client and (
                r.kind == Kind.CLOSE or (r.kind == Kind.CONN and r.serial == CONN_OK)
            ):
                state = r
        if state is not None and state.kind == Kind.CLOSE and not state.has(Flag.ON_PURPOSE):
            if state.t < drain_ns:
                accused.add((client,))
    return accused


def unacked(case: Case) -> Accused:
    """V3: (channel, message) sent on a connection that lived on beyond the deadline and the drain; no answer."""
    drain_ns, ack_ns = case.marked_ns(Mark.DRAIN), case.deadline_ns("ack_s")
    if drain_ns is None or ack_ns is None:
        return set()
    accused: Accused = set()
    for send in case.of_kind(Kind.SEND):
        if case.is_torn(send.client):
            continue
        after = [r for r in case.records if r.client == send.client and r.file == send.file and r.row > send.row]
        answered = any(
            r.kind in (Kind.ACK, Kind.NACK) and r.message == send.message and r.channel == send.channel
            for r in after
        )
        closed = [r.t for r in after if r.kind == Kind.CLOSE]
        until = min(closed, default=case.marked_ns(Mark.END) or case.end_ns)
        if not answered and until >= max(send.t + ack_ns, drain_ns):
            accused.add((send.channel, send.message))
    return accused


def undetected_half_open(case: Case) -> Accused:
    """V4: (fault, client) whose connection outlived a silent cut by more than ping and pong."""
    ping_s, pong_s = case.contract.get("ping_s"), case.contract.get("pong_s")
    if ping_s is None or pong_s is None:
        return set()
    patience_ns = int((ping_s + pong_s) * NS)
    accused: Accused = set()
    for fault in case.faults:
        if fault.get("kind") not in SILENCING or fault.get("phase") != "engine_effect":
            continue
        ends = [
            f["t"]
            for f in case.faults
            if f.get("id") == fault["id"] and f.get("phase") in ("stop", "revert") and f.get("t") is not None
        ]
        until = min(ends, default=case.end_ns)
        for client in case.clients:
            if client == 0 or case.is_torn(client) or client not in (fault.get("ordinals") or ()):
                continue
            mine = [r for r in case.records if r.client == client]
            before = [r for r in mine if r.t <= fault["t"] and r.kind in (Kind.CONN, Kind.CLOSE)]
            is_open = bool(before) and before[-1].kind == Kind.CONN and before[-1].serial == CONN_OK
            closes = [r.t for r in mine if r.t > fault["t"] and r.kind == Kind.CLOSE]
            closed = min(closes, default=case.end_ns)
            if is_open and min(closed, until) > fault["t"] + patience_ns:
                accused.add((fault["id"], client))
    return accused


def no_progress(case: Case) -> Accused:
    """V5: (channel) where something was sent after healing and nothing was acked within the deadline."""
    heal_ns, settle_ns = case.marked_ns(Mark.HEAL), case.deadline_ns("settle_s")
    if heal_ns is None or settle_ns is None or case.marked_ns(Mark.DRAIN) is None:
        return set()
    by = heal_ns + settle_ns
    sent = any(heal_ns <= r.t <= by for r in case.of_kind(Kind.SEND))
    acked = any(heal_ns <= r.t <= by for r in case.of_kind(Kind.ACK))
    return {(heal_ns,)} if sent and not acked and case.end_ns > by else set()


def unplanned_exit(case: Case) -> Accused:
    """V6: (line) of faults.jsonl that tells of an exit of a target that nobody planned."""
    return {
        (number,)
        for number, line in enumerate(case.faults)
        if line.get("kind") == "exit" and line.get("role") == "target" and not line.get("planned")
    }

"""Edits of what should have gone on: V1 to V6. Each function edits a draft and says what follows, or None."""

from __future__ import annotations

from collections.abc import Callable

from reports.history import CONN_OK, Kind
from tests.builders import exit_line

from .draft import CHANNEL, CLIENT, KIND, SERIAL, Draft, Ref, T, changed
from .params import ACK_S, DETECT_S, DRAIN_NS, END_NS, HEAL_NS, LOAD_NS, READS_NS, S

_SLACK_NS = S  # that a CLOSE may take beyond ping and pong


def sentinel_withheld(draft: Draft) -> set[str] | None:
    """A subscriber never gets the sentinel, which is the last that there was."""
    found = [
        window.recvs[-1]
        for window in draft.windows
        if window.recvs and window.end is None and draft.message(window.recvs[-1]) == (0, window.channel)
    ]
    if not found:
        return None
    draft.drop(draft.rng.choice(found))
    return {"V1"}


def lost_for_good(draft: Draft) -> set[str] | None:
    """A connection ends after the load, and its client makes no attempt to come back."""
    found = []
    for client, refs in draft.of_client.items():
        before = [ref for ref in refs if draft.row(ref)[T] < DRAIN_NS]
        after = [draft.row(ref)[KIND] for ref in refs if draft.row(ref)[T] >= DRAIN_NS]
        quiet = all(kind not in (Kind.CONN, Kind.SEND, Kind.ACK, Kind.NACK) for kind in after)
        if client and before and quiet and draft.connected_at(client, DRAIN_NS):
            found.append(client)
    if not found:
        return None
    client = draft.rng.choice(found)
    refs = draft.of_client[client]
    last = max(ref for ref in refs if draft.row(ref)[T] < DRAIN_NS)
    draft.drop(*(ref for ref in refs if ref > last))
    draft.add(last, changed(draft.row(refs[0]), kind=Kind.CLOSE, t2=0, serial=1006, publisher=0, pub_seq=0))
    return {"V2"}


def answer_lost(draft: Draft) -> set[str] | None:
    """A publish is not answered, on a connection that lasts."""
    if draft.params.shared.detect:
        return None
    seen = {draft.message(ref) for kind in (Kind.RECV, Kind.READ) for ref in draft.refs[kind]}
    found = [
        acks[0]
        for message, acks in draft.acks.items()
        if message[0]
        and len(acks) == len(draft.sends[message]) == 1
        and message not in draft.nacks
        and message in seen
        and draft.next_close(draft.sends[message][0]) is None
        and draft.row(draft.sends[message][0])[T] + ACK_S * S < READS_NS
    ]
    if not found:
        return None
    draft.drop(draft.rng.choice(found))
    return {"V3"}


def noticed_late(draft: Draft) -> set[str] | None:
    """A dead connection is kept for longer than ping and pong allow."""
    found: list[tuple[Ref, int]] = []
    for line in draft.story.faults:
        if line["kind"] != "timeout" or line["phase"] != "start":
            continue
        (client,) = line["ordinals"]
        until = next(
            other["t"]
            for other in draft.story.faults
            if other.get("id") == line["id"] and other["phase"] == "revert"
        )
        sends = [
            ref
            for ref in draft.of_client[client]
            if draft.row(ref)[KIND] == Kind.SEND and line["t"] <= draft.row(ref)[T] <= until
        ]
        close = draft.next_close(sends[0]) if sends else None
        if close is not None and draft.row(close)[T] < until:
            due = draft.row(sends[0])[T] + int(sum(DETECT_S) * S) + _SLACK_NS
            found.append((close, draft.rng.randint(due + 1, until - 1)))
    if not found:
        return None
    close, t = draft.rng.choice(found)
    for ref in draft.of_client[draft.row(close)[CLIENT]]:
        if ref > close and draft.row(ref)[T] <= t:
            if draft.row(ref)[KIND] == Kind.CONN and draft.row(ref)[SERIAL] == CONN_OK:
                return None
            draft.drop(ref)
    draft.change(close, t=t)
    return {"V4"}


def progress_is_slow(draft: Draft) -> set[str] | None:
    """Progress after healing was due sooner than it came."""
    waits = {}
    for channel in range(1, draft.params.channels + 1):
        sends = [ref for ref in draft.refs[Kind.SEND] if draft.row(ref)[CHANNEL] == channel]
        late = [ref for ref in sends if draft.row(ref)[T] >= HEAL_NS]
        messages = {draft.message(ref) for ref in late}
        shown = [
            draft.row(ref)[T]
            for kind in (Kind.ACK, Kind.RECV, Kind.READ)
            for ref in draft.refs[kind]
            if draft.message(ref) in messages and draft.row(ref)[CHANNEL] == channel
        ]
        waits[channel] = min(shown) - min(draft.row(ref)[T] for ref in late)
    settle_ns = int(waits[draft.rng.choice(sorted(waits))] * draft.rng.uniform(0.2, 0.9))
    if settle_ns < 2000:
        return None
    draft.story.contract["deadlines"]["settle_s"] = settle_ns / S
    return {"V5"}


def died(draft: Draft) -> set[str] | None:
    """A process of the server ends, and no fault had planned it."""
    exits = [line for line in draft.story.faults if line["kind"] == "exit"]
    if exits and draft.rng.random() < 0.5:
        draft.rng.choice(exits)["planned"] = False
    else:
        draft.story.faults.append(exit_line(planned=False, t=draft.rng.randint(LOAD_NS, END_NS)))
    return {"V6"}


LIVENESS: dict[str, tuple[str, Callable[[Draft], set[str] | None]]] = {
    "a sentinel does not come": ("V1", sentinel_withheld),
    "a client is lost for good": ("V2", lost_for_good),
    "an answer does not come": ("V3", answer_lost),
    "a dead connection is noticed late": ("V4", noticed_late),
    "progress is slow": ("V5", progress_is_slow),
    "a process dies": ("V6", died),
}

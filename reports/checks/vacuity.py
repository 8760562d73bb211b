"""When silence proves nothing: reasons for which a history without findings is unknown, not valid.

Effects of faults are judged elsewhere (reports.effects); everything here is read from the records
and from what the scenario promised to exercise (``expect`` in run.json).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from reports.history import CONN_OK

from .facts import CONTROL, Marks
from .part import Part
from .result import Coverage

DEFAULT_UNEXERCISED: Final = 0.0  # share of channels that may be silent
DEFAULT_INFO_SHARE: Final = 0.2  # share of messages whose outcome, or place, may stay unknown


@dataclass(slots=True, kw_only=True)
class Exercise:
    """What of the system was in use. Parts of a history add up."""

    acked: set[int] = field(default_factory=set)  # channels with an acked publish of a load client
    used: set[int] = field(default_factory=set)  # channels that a load client published or subscribed to
    marked: set[int] = field(default_factory=set)  # channels with an acked sentinel
    unanswered: int = 0  # planned subscriptions of connected clients that no SUB answers

    def add(self, other: Exercise) -> None:
        self.acked |= other.acked
        self.used |= other.used
        self.marked |= other.marked
        self.unanswered += other.unanswered


def exercise(part: Part) -> Exercise:
    """A part's share."""
    facts, records = part.facts, part.records
    acked = records.acks.where(records.acks.publisher != CONTROL)
    answered = set(np.unique(records.subs.pair).tolist())
    connected = facts.connects.client[facts.connects.serial == CONN_OK]
    trusted = {int(c) for c in np.unique(connected[~facts.owners.broken(connected)])}
    mine = set(part.channels)
    unanswered = sum(
        ((channel << 32) | client) not in answered
        for client in trusted & facts.names.subscriptions.keys()
        for channel in mine.intersection(facts.names.subscriptions[client])
    )
    return Exercise(
        acked={int(c) for c in np.unique(acked.channel)},
        used=mine,
        marked=set(part.sentinels),
        unanswered=unanswered,
    )


def vacuous(
    coverage: Coverage,
    seen: Exercise,
    *,
    expect: Mapping[str, Any],
    marks: Marks,
    planned: Mapping[int, Iterable[int]],
    channels: Set[int],
    offers: Callable[[str], bool] = lambda _: True,
) -> list[str]:
    """Reasons, one sentence each; [] when the run looked hard enough.

    Args:
        planned: channels of each client.
        channels: all that the run has.
        offers: whether the server promises something; a rule that rests on what it does not is left out.
    """
    reasons = []
    if not coverage.acked and offers("ack"):
        reasons.append("no publish was acked: nothing was promised, so nothing was tested")
    if not coverage.delivered:
        reasons.append("nothing was delivered")
    if offers("ack"):
        reasons += _unmarked(seen)
    silent = len(channels - seen.acked - _silenced(marks, planned))
    cap = _share(expect, "unexercised", DEFAULT_UNEXERCISED)
    if offers("ack") and silent and silent > cap * len(channels):
        reasons.append(f"{silent} of {len(channels)} channels were silent: at most {cap:.0%} may be")
    if seen.unanswered:
        reasons.append(f"{seen.unanswered} planned subscriptions of connected clients were never answered")
    if expect.get("resumes") and offers("resume") and not coverage.resumed:
        reasons.append("the scenario promises resumes and none was seen")
    cap = _share(expect, "info_share", DEFAULT_INFO_SHARE)
    if offers("ack") and coverage.messages and (share := coverage.unresolved / coverage.messages) > cap:
        reasons.append(f"{share:.0%} of the messages have no known outcome: at most {cap:.0%} may")
    cap = _share(expect, "unwitnessed_share", cap)
    if offers("history") and coverage.acked and (share := coverage.unwitnessed / coverage.acked) > cap:
        reasons.append(f"{share:.0%} of the acked messages were never witnessed: at most {cap:.0%} may")
    return reasons


def _unmarked(seen: Exercise) -> list[str]:
    if unmarked := len(seen.used - seen.marked):
        return [f"no sentinel was acked in {unmarked} channels: what is owed at the end is not known"]
    return [] if seen.marked else ["no sentinel was acked: what is owed at the end is not known"]


def _silenced(marks: Marks, planned: Mapping[int, Iterable[int]]) -> set[int]:
    """Channels meant to be silent: marked so for client 0, or for every client planned on them."""
    silenced = {channel for client, channel in marks.silent if client == CONTROL}
    members: dict[int, set[int]] = {}
    for client, channels in planned.items():
        for channel in channels:
            members.setdefault(channel, set()).add(client)
    for channel, clients in members.items():
        if all((client, channel) in marks.silent for client in clients):
            silenced.add(channel)
    return silenced


def _share(expect: Mapping[str, Any], key: str, default: float) -> float:
    value = expect.get(key, default)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else default

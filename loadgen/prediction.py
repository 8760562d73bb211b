"""What a workload amounts to before anything is sent: counts from its exact schedule, and their cost.

Counts are those of a run in which nothing goes wrong. Memory is what was measured of this project's own
processes (DECISIONS.md), rounded up.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from reports.history import HEADER_BYTES, RECORD

from .absences import ABSENCE, Absences, absences, deafness, drops, sessions
from .actions import Action
from .counted import Counted
from .personas import assigned, personas_of
from .schedule import SECOND_NS, SETTLE_NS, Block, blocks
from .workload import Workload, membership

CLIENT_BYTES: Final = 13_000  # of a load worker, for one connected client
LANE_BYTES: Final = 2_000  # and for each of its channels
WORKER_BYTES: Final = 70_000_000  # of a load worker without clients
SERVER_CLIENT_BYTES: Final = 13_000  # of chatd, for one connection with its subscriptions
SERVER_BYTES: Final = 47_000_000  # of chatd without connections

Ints = npt.NDArray[np.int64]


class Prediction(NamedTuple):
    """What a workload amounts to."""

    connections: int  # first ones, and one for every return from an absence or a drop
    publishes: int  # reactions included
    deliveries: int  # own echoes and replays included
    publishes_per_s_peak: float  # in the busiest second
    deliveries_per_s_peak: float
    records: int
    log_bytes: int
    absences: int = 0  # times that a client goes offline on purpose
    left_out: int = 0  # publishes that fall into them, and so are not made
    replayed: int = 0  # of the deliveries, those that a client gets when it comes back
    trimmed: int = 0  # deliveries that it does not get because they are retained no longer
    drops: int = 0  # times that a client loses its connection by its own persona
    deaf: int = 0  # times that a client stops reading
    reactions: int = 0  # of the publishes
    typing: int = 0
    receipts: int = 0
    presences: int = 0
    histories: int = 0
    churns: int = 0  # unsubscribed and subscribed again
    channels: int = 0
    quiet_channels: int = 0  # of them, those on which nobody publishes
    largest_channel: int = 0  # members of it
    subscriptions: int = 0
    worker_bytes: int = 0  # of memory that clients take in the load workers together
    server_bytes: int = 0  # of memory that connections take in the server, if it is chatd
    files: int = 0  # sockets at each end, at most
    resumes: bool = (
        True  # clients that come back ask for what they missed, and publish what fell due meanwhile
    )


def predict_from_schedule(workload: Workload, seed: int, *, retain_n: int | None = None) -> Prediction:
    """Walk the schedule and add up; ``workload.predict`` is its public name.

    A publish is delivered to those subscribers of its channel whose sessions have arrived by then: at once,
    or, to one that is away, when it comes back, if its channel still has it among the newest ``retain_n``.
    One that comes back "fresh" does not get it.
    """
    audience = _Audience(workload, seed)
    seconds = math.ceil(workload.duration_s)
    delivered = np.zeros(seconds + 1, np.int64)
    sent = np.zeros(seconds + 1, np.int64)
    acts: dict[Action, int] = dict.fromkeys(Action, 0)
    left_out = 0
    for second, block in enumerate(blocks(workload, seed)):
        delivered[second] += audience.live(block)
        sent[second], left_out = len(block.publishes), left_out + block.left_out
        _count(acts, block)
    replays = audience.replays(retain_n)
    np.add.at(delivered, np.minimum(replays.second, seconds), replays.got)
    replayed, total = int(replays.got.sum()), int(delivered.sum())
    dropped, hushed = len(drops(workload, seed)), len(deafness(workload, seed))
    returns = len(absences(workload, seed))
    connections = workload.clients + returns + dropped
    whole = audience.membership
    per_client = np.diff(whole.first)
    # Of a connection: CONN, a SUB and a LIVE for each channel, CLOSE. Of a publish: SEND and ACK.
    again = audience.away["client"].astype(np.int64)
    records = 2 * connections + 2 * (len(whole.channel) + int(per_client[again].sum()))
    records += 2 * int(sent.sum()) + total + replays.gaps + 3 * acts[Action.CHURN]
    return Prediction(
        connections=connections,
        publishes=int(sent.sum()),
        deliveries=total,
        publishes_per_s_peak=float(sent.max()),
        deliveries_per_s_peak=float(delivered.max()),
        records=records,
        log_bytes=HEADER_BYTES + records * RECORD.itemsize,
        absences=returns,
        left_out=left_out,
        replayed=replayed,
        trimmed=replays.trimmed,
        drops=dropped,
        deaf=hushed,
        reactions=acts[Action.REACTION],
        typing=acts[Action.TYPING],
        receipts=acts[Action.RECEIPT],
        presences=acts[Action.PRESENCE],
        histories=acts[Action.HISTORY],
        churns=acts[Action.CHURN],
        channels=whole.channels,
        quiet_channels=int((audience.published == 0).sum()) - 1,
        largest_channel=int(whole.sizes.max()),
        subscriptions=len(whole.channel),
        worker_bytes=workload.clients * CLIENT_BYTES + len(whole.channel) * LANE_BYTES,
        server_bytes=workload.clients * SERVER_CLIENT_BYTES,
        files=workload.clients + _posting(workload, seed),
        resumes=all(p.recover == "resume" and p.outbox == "queue" for p in personas_of(workload)),
    )


def _posting(workload: Workload, seed: int) -> int:
    """Clients with a second socket: over HTTP, what is said does not go by the one on which is listened."""
    personas = personas_of(workload)
    posts = [persona.transport != "websocket" and persona.talk > 0 for persona in personas]
    return int(np.array(posts)[assigned(workload, seed)].sum())


class Replays(NamedTuple):
    """What clients get when they come back: arrays by (return, channel)."""

    second: Ints
    got: Ints
    trimmed: int
    gaps: int  # holes that the server has to declare


class _Audience:
    """Who is there to hear what, and what those who are not will get later."""

    def __init__(self, workload: Workload, seed: int) -> None:
        self._workload = workload
        self.membership = whole = membership(workload, seed)
        self.away = _returns(workload, seed)
        ways = [personas_of(workload)[index].recover for index in assigned(workload, seed).tolist()]
        self._fresh = np.array([False, *(way == "fresh" for way in ways)])
        self._whole = np.array([False, *(way == "history" for way in ways)])
        arrived = np.concatenate([[0], sessions(workload, seed)["due_ns"]])
        self._last_ns = int(max(workload.duration_s * SECOND_NS, arrived.max())) + SETTLE_NS
        self._arrivals = self._counted(whole.channel.astype(np.int64), arrived[whole.client])
        self._rows, self._channel = _subscriptions(self.away, whole.first, whole.channel.astype(np.int64))
        begins, ends = self.away["begin_ns"][self._rows], self.away["end_ns"][self._rows]
        self._begins = self._counted(self._channel, begins) if len(begins) else None
        self._ends = self._counted(self._channel, ends) if len(ends) else None
        self._said: list[tuple[Ints, Ints]] = []
        self.published = np.zeros(whole.channels + 1, np.int64)

    def live(self, block: Block) -> int:
        """Take in a second of the schedule; returns how many deliveries of it are made at once."""
        channel = block.publishes["channel"].astype(np.int64)
        due_ns = block.publishes["due_ns"]
        self.published += np.bincount(channel, minlength=len(self.published))
        reached = int(self._arrivals.by(channel, due_ns).sum())
        if self._begins is None or self._ends is None:
            return reached
        self._said.append((channel, due_ns))
        return reached - int((self._begins.by(channel, due_ns) - self._ends.by(channel, due_ns)).sum())

    def replays(self, retain_n: int | None) -> Replays:
        """What is delivered on the returns from absences."""
        if not self._said:  # nobody is ever away
            return Replays(np.empty(0, np.int64), np.empty(0, np.int64), 0, 0)
        said = self._counted(*(np.concatenate([part[i] for part in self._said]) for i in (0, 1)))
        begin_ns, end_ns = self.away["begin_ns"][self._rows], self.away["end_ns"][self._rows]
        missed = said.by(self._channel, end_ns - 1) - said.by(self._channel, np.maximum(begin_ns, 1) - 1)
        kept = missed if retain_n is None else np.minimum(missed, retain_n)
        client = self.away["client"][self._rows]
        asks = ~self._fresh[client] & ~self._whole[client]
        everything = said.by(self._channel, end_ns)
        everything = everything if retain_n is None else np.minimum(everything, retain_n)
        got = np.where(self._fresh[client], 0, np.where(self._whole[client], everything, kept))
        return Replays(
            second=end_ns // SECOND_NS,
            got=got,
            trimmed=int(np.maximum(missed - got, 0).sum()),
            gaps=int((asks & (missed > kept)).sum()),
        )

    def _counted(self, ids: Ints, times_ns: Ints) -> Counted:
        return Counted(ids, times_ns, last_ns=self._last_ns, ids_below=self.membership.channels + 1)


def _returns(workload: Workload, seed: int) -> Absences:
    """Absences, and as such without length the drops, after which a client is back at once."""
    away, dropped = absences(workload, seed), drops(workload, seed)
    table = np.empty(len(dropped), ABSENCE)
    table["begin_ns"] = table["end_ns"] = dropped["due_ns"]
    table["client"] = dropped["client"]
    return np.concatenate([away, table])


def _subscriptions(away: Absences, first: Ints, channel: Ints) -> tuple[Ints, Ints]:
    """Each absence once for each channel of its client: (row of the absence, channel)."""
    client = away["client"].astype(np.int64)
    many = first[client + 1] - first[client]
    rows = np.repeat(np.arange(len(away)), many)
    nth = np.arange(len(rows)) - np.repeat(np.cumsum(many) - many, many)
    return rows, channel[first[client][rows] + nth]


def _count(acts: dict[Action, int], block: Block) -> None:
    for done in (block.publishes["action"], block.acts["action"]):
        for action, count in enumerate(np.bincount(done, minlength=len(Action)).tolist()):
            acts[Action(action)] += count


def quiet_channels(workload: Workload, seed: int) -> list[int]:
    """Ids of the channels on which nobody publishes, by the schedule."""
    published = np.zeros(membership(workload, seed).channels + 1, np.int64)
    for block in blocks(workload, seed):
        published += np.bincount(block.publishes["channel"], minlength=len(published))
    return [int(channel) for channel in np.flatnonzero(published[1:] == 0) + 1]

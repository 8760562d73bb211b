"""Damage for the histories of benchmarks.histories: so many anomalies of a class, and no others.

What is done to one delivery is done to a subscriber that was never cut; what is done to a message keeps
four serials away from the next planted one, so that no anomaly hides or makes another.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from reports.history import RECORD, Flag, GapReason, Kind

if TYPE_CHECKING:
    from .histories import World

MS: Final = 1_000_000
EPOCH: Final = 1
FAR: Final = 1 << 62
APART: Final = 4  # serials between planted messages
MARGIN: Final = 6  # serials at a channel's ends that nothing is done to
UNSENT: Final = 0xF000_0000  # pub_seq of messages that nobody sent
REFUSED: Final = 0x0100_0000  # pub_seq of publishes whose outcome is unknown
OF_MESSAGES: Final = (
    *("L1", "L2", "L3", "L4", "L5", "L6", "L7", "L8", "L9", "L10", "L11"),
    *("D1", "D5", "D6", "D7", "D10", "V3"),
)
CALM: Final = ("D7", "L10", "L11")  # of them: away from the largest channel, and from those who come back
OF_DELIVERIES: Final = ("D1", "D5", "D6", "L1", "L5", "L6", "L7")
OF_RETURNS: Final = ("D2", "D3", "D4", "D9")  # of subscriptions of clients that come back

Ints = npt.NDArray[np.int64]
Records = npt.NDArray[Any]


@dataclass(kw_only=True)
class Damage:
    """What is wrong, by class: keys of messages, deliveries, subscriptions; each sorted."""

    messages: dict[str, Ints]  # (channel, serial)
    delivered: dict[str, Ints] = field(default_factory=dict)  # (channel, serial, client)
    identity: dict[str, tuple[Ints, Ints]] = field(
        default_factory=dict
    )  # of `delivered`: what arrives instead
    moved_t: Ints = field(default_factory=lambda: np.empty(0, np.int64))  # of D6: when it arrives instead
    notices: dict[str, Ints] = field(default_factory=dict)  # (channel, client)
    stalled: Ints = field(default_factory=lambda: np.empty(0, np.int64))  # (channel, client)
    expected: dict[str, int] = field(default_factory=dict)

    def publishes(self, sends: Records, acks: Records) -> tuple[Records, Records]:
        key = of_message(acks)
        for cls, code, flags in (("L4", 500, 0), ("L8", 403, int(Flag.DEFINITE))):
            hit = _hits(key, self.messages[cls])
            acks["kind"][hit], acks["t2"][hit], acks["flags"][hit] = int(Kind.NACK), code, flags
            acks["serial"][hit], acks["epoch"][hit] = 0, 0
        acks["serial"][_hits(key, self.messages["L9"])] += 1
        more = acks[_hits(key, self.messages["D10"])]
        more["t"] += MS
        second = _hits(key, self.messages["L2"] + (1 << 16))  # the place that got the message again
        silent = _hits(key, self.messages["V3"])
        return sends[~second], np.concatenate([acks[~second & ~silent], more])

    def reads(self, reads: Records) -> Records:
        key = of_message(reads)
        return reads[~(_hits(key, self.messages["L3"]) | _hits(key, self.messages["L4"]))]

    def gaps(self, gaps: Records) -> Records:
        key = of_pair(gaps)
        gaps["pub_seq"][_hits(key, self.notices["D3"])] += 1
        gaps["t2"][_hits(key, self.notices["D4"])] = int(GapReason.TRIMMED)
        return gaps

    def sentinels(self, made: Records) -> Records:
        return made[~_hits(of_pair(made), self.stalled)]

    def deliveries(self, made: Records) -> Records:
        key = of_delivery(made)
        again = made[_hits(key, self.delivered["D5"])]
        again["t"] += 100
        made["flags"][_hits(key, self.delivered["L7"])] |= int(Flag.BAD_DIGEST)
        for cls, (publisher, pub_seq) in self.identity.items():
            hit = np.flatnonzero(_hits(key, self.delivered[cls]))
            at = np.searchsorted(self.delivered[cls], key[hit])
            made["publisher"][hit], made["pub_seq"][hit] = publisher[at], pub_seq[at]
        late = np.flatnonzero(_hits(key, self.delivered["D6"]))
        made["t"][late] = self.moved_t[np.searchsorted(self.delivered["D6"], key[late])]
        dropped = _hits(key, self.delivered["D1"]) | _hits(key, self.delivered["D2"])
        return np.concatenate([made[~dropped], again])


def of_message(some: Any) -> Ints:
    return (some["channel"].astype(np.int64) << 36) + (some["serial"].astype(np.int64) << 16)


def of_delivery(some: Any) -> Ints:
    return of_message(some) + some["client"]


def of_pair(some: Any) -> Ints:
    return (some["channel"].astype(np.int64) << 16) + some["client"]


def _hits(key: Ints, wanted: Ints) -> npt.NDArray[np.bool_]:
    if not len(wanted):
        return np.zeros(len(key), np.bool_)
    at = np.minimum(np.searchsorted(wanted, key), len(wanted) - 1)
    return np.asarray(wanted[at] == key)


def damaged(w: World, each: int) -> World:
    """The same run with ``each`` anomalies of every class that can be planted.

    Not planted: L2x, L12, D8, V4, V5, V6, which need other contracts, epochs or faults than these runs have.
    """
    victim = _victims(w)
    chosen = _messages(w, each, victim)
    w = _reordered(w, chosen)
    keys = {cls: np.sort((w.channel[at] << 36) + (w.serial[at] << 16)) for cls, at in chosen.items()}
    damage = Damage(messages=keys)
    for cls in OF_DELIVERIES:
        at = np.sort(chosen[cls])
        damage.delivered[cls] = (w.channel[at] << 36) + (w.serial[at] << 16) + victim[w.channel[at]]
    late = np.sort(chosen["D6"])
    damage.moved_t = w.commit_t[late + 1] + w.lag[victim[w.channel[late]]] + 1
    damage.identity = _identities(w, chosen)
    w = replace(w, damage=damage)
    w = _returns(w, damage, each, victim)
    channels = np.flatnonzero(victim)[-each:]
    damage.stalled = np.sort((channels << 16) + victim[channels])
    w.extra = [*w.extra, *_added(w, chosen)]
    damage.expected = {cls: each for cls in (*OF_MESSAGES, *OF_RETURNS, "V1", "V2")} | {"L11": 2 * each}
    return w


def _victims(w: World) -> Ints:
    """Of each channel a subscriber that is never cut; 0: there is none."""
    channel, client = w.pairs()
    steady = np.flatnonzero(w.cut_t[client] == FAR)
    found, first = np.unique(channel[steady], return_index=True)
    victim = np.zeros(w.shape.channels + 1, np.int64)
    victim[found] = client[steady][first]
    return victim


def _messages(w: World, each: int, victim: Ints) -> dict[str, Ints]:
    """For each class its messages, by position; channel 1, which may be the largest, has a share of all."""
    count = np.diff(w.start)[w.channel]
    fit = (
        (w.serial % APART == 2) & (w.serial > MARGIN) & (w.serial <= count - MARGIN) & (victim[w.channel] > 0)
    )
    following = np.minimum(np.arange(len(w.serial)) + 1, len(w.serial) - 1)
    fit &= ~w.twice & ~w.twice[following]
    fit &= (w.commit_t[following] - w.commit_t > 5 * MS) & (w.publisher[following] != w.publisher)
    some = np.random.default_rng(w.shape.seed).permutation(np.flatnonzero(fit))
    some = some[np.argsort(w.channel[some] != 1, kind="stable")]
    calm = some[(w.channel[some] != 1) & _calm(w, some)]
    picky = {cls: calm[number :: len(CALM)][:each] for number, cls in enumerate(CALM)}
    rest = some[~np.isin(some, np.concatenate(list(picky.values())))]
    others = [cls for cls in OF_MESSAGES if cls not in CALM]
    chosen = picky | {cls: rest[number :: len(others)][:each] for number, cls in enumerate(others)}
    if min(len(at) for at in chosen.values()) < each:
        raise ValueError(f"each: {each} of {len(OF_MESSAGES)} classes do not fit into {len(some)} messages")
    return chosen


def _calm(w: World, some: Ints) -> npt.NDArray[np.bool_]:
    """Messages around which nobody comes back: what is told of the head then has nothing to contradict."""
    channel, client = w.pairs()
    back = client[w.back_t[client] != FAR], channel[w.back_t[client] != FAR]
    returns = np.sort((back[1] << 44) + w.back_t[back[0]])
    lo, hi = w.commit_t[some] - 20 * MS, w.commit_t[some + 1] + 20 * MS
    key = w.channel[some] << 44
    return np.asarray(np.searchsorted(returns, key + lo) == np.searchsorted(returns, key + hi))


def _reordered(w: World, chosen: dict[str, Ints]) -> World:
    """L10, L11: a message and the next change places. L2: the next place holds the same message again."""
    from .histories import numbered

    publisher, pub_seq, sent_t, commit_t = (
        column.copy() for column in (w.publisher, w.pub_seq, w.sent_t, w.commit_t)
    )
    publisher[chosen["L10"] + 1] = publisher[chosen["L10"]]
    pub_seq = numbered(publisher, sent_t)
    for at in (chosen["L10"], chosen["L11"]):
        for column in (publisher, pub_seq, sent_t):
            column[at], column[at + 1] = column[at + 1], column[at].copy()
        commit_t[at] = commit_t[at + 1] - 5
    again = chosen["L2"] + 1
    publisher[again], pub_seq[again] = publisher[again - 1], pub_seq[again - 1]
    return replace(w, publisher=publisher, pub_seq=pub_seq, sent_t=sent_t, commit_t=commit_t)


def _identities(w: World, chosen: dict[str, Ints]) -> dict[str, tuple[Ints, Ints]]:
    never, refused, other = (np.sort(chosen[cls]) for cls in ("L5", "L1", "L6"))
    elsewhere = np.where(w.channel[other] == w.channel[-1], 0, len(w.channel) - 1)
    return {
        "L5": (w.publisher[never], UNSENT + np.arange(len(never))),
        "L1": (w.publisher[refused], REFUSED + np.arange(len(refused))),
        "L6": (w.publisher[elsewhere], w.pub_seq[elsewhere]),
    }


def _returns(w: World, damage: Damage, each: int, victim: Ints) -> World:
    """D2, D3, D4, D9 on subscriptions of clients that come back, and V2: clients that do not."""
    from .histories import come_back, records

    cut = np.flatnonzero((w.back_t != FAR) & w.resumes)
    gone = cut[-each:]
    w = replace(w, back_t=w.back_t.copy())
    w.back_t[gone] = FAR
    channel, client = w.pairs()
    here = w.back_t[client] != FAR
    channel, client = channel[here], client[here]
    asked, head, resumed = come_back(w, channel, client)
    replayed = np.flatnonzero(resumed & (head > asked))[:each]
    damage.delivered["D2"] = np.sort(
        (channel[replayed] << 36) + ((asked[replayed] + 1) << 16) + client[replayed]
    )
    told = np.flatnonzero(~resumed & (asked > 0) & (head % APART < 2))  # a message with nothing planted
    if min(len(replayed), len(told) // 3) < each:
        raise ValueError(f"each: {each} do not fit into {len(replayed)} replays and {len(told)} gaps")
    for number, cls in enumerate(("D3", "D4", "D9")):
        at = told[number::3][:each]
        damage.notices[cls] = np.sort((channel[at] << 16) + client[at])
    at = told[2::3][:each]
    message = w.start[channel[at]] + asked[at] - 1
    old = records(
        Kind.RECV,
        each,
        t=w.back_t[client[at]] - 6 * MS + 200,
        t2=w.sent_t[message] - MS // 2,
        client=client[at],
        channel=channel[at],
        publisher=w.publisher[message],
        pub_seq=w.pub_seq[message],
        serial=w.serial[message],
        epoch=EPOCH,
        flags=int(Flag.REPLAYED),
    )
    return replace(w, extra=[*w.extra, old])


def _added(w: World, chosen: dict[str, Ints]) -> Iterator[Records]:
    """Records more: retries of what is placed twice, publishes of no known outcome, what nobody asked for."""
    from .histories import records

    again = chosen["L2"]
    of = {"channel": w.channel[again], "publisher": w.publisher[again], "client": w.publisher[again]}
    of |= {"pub_seq": w.pub_seq[again], "t2": w.sent_t[again] - MS // 2}
    t = w.commit_t[again + 1] - MS
    yield records(Kind.SEND, len(t), t=t, serial=200, flags=int(Flag.RETRY), **of)
    told = {"serial": w.serial[again], "epoch": EPOCH, "flags": int(Flag.DUPLICATE)}
    yield records(Kind.ACK, len(t), t=t + 2 * MS, **told, **of)
    refused = np.sort(chosen["L1"])
    of = {"channel": w.channel[refused], "publisher": w.publisher[refused], "client": w.publisher[refused]}
    of |= {"pub_seq": REFUSED + np.arange(len(refused))}
    t = w.commit_t[refused] - MS
    yield records(Kind.SEND, len(t), t=t, t2=t, serial=200, **of)
    yield records(Kind.NACK, len(t), t=t + 2 * MS, t2=500, **of)
    unasked = chosen["D7"]
    t, stranger = w.commit_t[unasked] + 6 * MS, _strangers(w, w.channel[unasked])
    of = {"channel": w.channel[unasked], "publisher": w.publisher[unasked], "pub_seq": w.pub_seq[unasked]}
    of |= {"serial": w.serial[unasked], "epoch": EPOCH, "t2": w.sent_t[unasked] - MS // 2}
    yield np.asarray(records(Kind.RECV, len(t), t=t, client=stranger, **of), RECORD)


def _strangers(w: World, channels: Ints) -> Ints:
    """For each channel a client that has no subscription to it, as far as there is one."""
    channel, client = w.pairs()
    taken = np.sort((channel << 16) + client)
    stranger = np.zeros(len(channels), np.int64)
    for number, one in enumerate(channels.tolist()):
        for other in range(1, w.shape.clients + 1, 10):
            if not _hits(np.array([(one << 16) + other]), taken)[0]:
                stranger[number] = other
                break
    return stranger

"""Who says what when: pure, seeded, and the same for any number of workers.

Publishes are an open workload. Each persona's share of a phase's rate is a process of its own (``demand``),
drawn second by second from ``SeedSequence(seed, spawn_key=(PUBLISHES, second, …))``; what clients do besides
is drawn likewise. Every worker draws the whole list and keeps its stripe, so the list does not depend on how
many there are, and no worker needs to hear of another. Each publish belongs to a client drawn evenly from
those of its persona, and goes to one of its channels; it is left out when that client has not been there for
``SETTLE_NS``, so each client is a process of its own from then on. An absence (``absences``) is no time to
publish either, from its begin to ``SETTLE_NS`` after its end; nor is a time of deafness.

Times are offsets from the start of the run, in nanoseconds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from .absences import SESSION as SESSION
from .absences import Sessions as Sessions
from .absences import absences, deafness, sessions
from .actions import EPHEMERAL, Action, rate_of
from .counted import Counted
from .demand import Arrivals, Stretch, due, stretches
from .personas import Persona, members, personas_of, pick_weights
from .section import SECOND_NS as SECOND_NS
from .section import Purpose, drawn
from .topology import Membership
from .workload import Workload, membership, speakers

SETTLE_NS: Final = SECOND_NS  # a client dials and subscribes before it says anything

PUBLISH: Final = np.dtype(
    [("due_ns", "<i8"), ("client", "<u4"), ("channel", "<u4"), ("pub_seq", "<u4"), ("action", "u1")]
)
ACT: Final = np.dtype([("due_ns", "<i8"), ("client", "<u4"), ("channel", "<u4"), ("action", "u1")])

Publishes = npt.NDArray[np.void]
Acts = npt.NDArray[np.void]
Ints = npt.NDArray[np.int64]


class Block(NamedTuple):
    """A second of the schedule: what places messages in the log, and what does not."""

    publishes: Publishes  # PUBLISH, by time; ``action`` is PUBLISH or REACTION
    acts: Acts  # ACT, by time
    left_out: int  # publishes that fell into an absence


class Drawn(NamedTuple):
    """Some events of a block: equally long columns. ``client`` is an ordinal."""

    due_ns: Ints
    client: Ints
    channel: Ints
    action: Ints


def publishes(workload: Workload, seed: int) -> Iterator[Publishes]:
    """The publishes of all clients, one ``PUBLISH`` array for each second, in order of time.

    ``pub_seq`` counts all publishes of a client from 1, whatever their channel, reactions included. Memory
    does not grow with the length of the run.
    """
    for block in blocks(workload, seed):
        yield block.publishes


def blocks(workload: Workload, seed: int) -> Iterator[Block]:
    """The schedule, second by second."""
    voices = [_Voice(workload, seed, index) for index in range(len(personas_of(workload)))]
    counts = np.zeros(workload.clients + 1, dtype=np.int64)
    ready = _Ready(workload, seed)
    carried = _NOTHING
    for second in range(math.ceil(workload.duration_s)):
        spans = list(stretches(workload.phase, second))
        said = _joined([carried, *(voice.publishes(spans, second) for voice in voices)])
        later = said.due_ns >= (second + 1) * SECOND_NS
        said, carried = _where(said, ~later), _where(said, later)
        said = _joined([said, *(voice.acts(spans, second, (Action.REACTION,)) for voice in voices)])
        kept, left_out = ready.sift(_by_time(said))
        block = np.empty(len(kept.due_ns), PUBLISH)
        for name, column in zip(Drawn._fields, kept, strict=True):
            block[name] = column
        block["pub_seq"] = _number(kept.client, counts)
        done, _ = ready.sift(_by_time(_joined([v.acts(spans, second, EPHEMERAL) for v in voices])))
        acts = np.empty(len(done.due_ns), ACT)
        for name, column in zip(Drawn._fields, done, strict=True):
            acts[name] = column
        yield Block(block, acts, left_out)


class _Voice:
    """What the clients of one persona say and do."""

    def __init__(self, workload: Workload, seed: int, index: int) -> None:
        self._workload, self._seed, self._index = workload, seed, index
        self._persona = personas_of(workload)[index]
        self._key = () if not workload.persona else (1 + index,)
        whole = membership(workload, seed)
        self._picks = _Picks(whole, self._persona)
        self._members = members(workload, seed, index)
        if (able := self._picks.able(self._members)) is not None:
            self._members = self._members[able]
        self._sizes = {
            persona.name: len(members(workload, seed, number)) * persona.talk
            for number, persona in enumerate(personas_of(workload))
        }

    def publishes(self, spans: Sequence[Stretch], second: int) -> Drawn:
        """Messages of the bursts and single publishes that begin in a second."""
        if not len(self._members) or not any(map(self._share, spans)):
            return _NOTHING
        rng = drawn(self._seed, Purpose.PUBLISHES, second, *self._key)
        begun = [self._begun(span, rng) for span in spans]
        due_ns, number, burst, gap_ns = (
            np.concatenate(columns) for columns in zip((_EMPTY,) * 4, *begun, strict=True)
        )
        client, channel = self._who(rng, len(due_ns))
        if (even := number >= 0).any():  # in turn, so that each client's are even too
            client = np.where(even, self._members[number % len(self._members)], client)
            channel = np.where(even, self._picks.pick(client, rng), channel)
        if (burst > 1).any():
            nth = np.concatenate([np.arange(many) for many in burst.tolist()])
            due_ns = np.repeat(due_ns, burst) + nth * np.repeat(gap_ns, burst)
            client, channel = np.repeat(client, burst), np.repeat(channel, burst)
        inside = due_ns < self._workload.duration_s * SECOND_NS
        action = np.zeros(len(due_ns), np.int64)
        return _where(Drawn(due_ns, client, channel, action), inside)

    def acts(self, spans: Sequence[Stretch], second: int, actions: Sequence[Action]) -> Drawn:
        """What of some actions falls into a second; each is a Poisson process."""
        found = []
        for action in actions:
            per_s = rate_of(self._persona.rates, action) * len(self._members)
            if not per_s:
                continue
            rng = drawn(self._seed, Purpose.ACTIONS, second, self._index, action)
            for span in spans:
                width_s = span.high_s - span.low_s
                count = rng.poisson(per_s * span.phase.actions * width_s)
                due_ns = (span.low_s + rng.random(count) * width_s) * SECOND_NS
                client, channel = self._who(rng, count)
                found.append(Drawn(due_ns.astype(np.int64), client, channel, np.full(count, int(action))))
        return _joined(found)

    def _begun(self, span: Stretch, rng: np.random.Generator) -> tuple[Ints, Ints, Ints, Ints]:
        """Publishes and bursts that begin in a stretch: due, number, how many messages, ns between them."""
        share = self._share(span)
        kind, burst, gap_s = self._manner(span)
        if kind != "burst":
            burst, gap_s = 1, 0.0
        due_ns, number = due(span, share / burst, kind, rng) if share else (_EMPTY, _EMPTY)
        many = len(due_ns)
        return due_ns, number, np.full(many, burst), np.full(many, round(gap_s * SECOND_NS))

    def _manner(self, span: Stretch) -> tuple[Arrivals, int, float]:
        """How its publishes arrive: the persona's own way, or the phase's."""
        own, phase = self._persona, span.phase
        return (
            own.arrivals or phase.arrivals,
            phase.burst if own.burst is None else own.burst,
            phase.burst_gap_s if own.burst_gap_s is None else own.burst_gap_s,
        )

    def _share(self, span: Stretch) -> float:
        """Which part of a phase's rate is this persona's."""
        names = [persona.name for persona in speakers(self._workload, span.phase)]
        if self._persona.name not in names:
            return 0.0
        total = sum(self._sizes[name] for name in names)
        return self._sizes[self._persona.name] / total if total else 0.0

    def _who(self, rng: np.random.Generator, count: int) -> tuple[Ints, Ints]:
        """Clients of the persona, drawn evenly, and one of each one's channels."""
        client = self._members[rng.integers(0, len(self._members), count)]
        return client, self._picks.pick(client, rng)


class _Picks:
    """Draws one of a client's channels."""

    def __init__(self, whole: Membership, persona: Persona) -> None:
        self._first, self._channel = whole.first, whole.channel.astype(np.int64)
        degrees = np.diff(whole.first)[1:]
        each = int(degrees[0]) if len(degrees) else 0
        # All channels alike, and as many for each client: one draw of a small number.
        self._each = each if persona.picker == "even" and each and (degrees == each).all() else 0
        weights = np.empty(0) if self._each else pick_weights(persona.picker, whole)
        self._passed = np.concatenate([[0.0], np.cumsum(weights)])

    def able(self, clients: Ints) -> npt.NDArray[np.bool_] | None:
        """Which of some clients have a channel to act on; None: all."""
        if self._each:
            return None
        return np.asarray(self._passed[self._first[clients + 1]] > self._passed[self._first[clients]])

    def pick(self, clients: Ints, rng: np.random.Generator) -> Ints:
        """A channel for each of some clients that are able."""
        if self._each:
            nth = rng.integers(0, self._each, len(clients))
            return np.asarray(self._channel[self._first[clients] + nth])
        low, high = self._passed[self._first[clients]], self._passed[self._first[clients + 1]]
        at = np.searchsorted(self._passed, low + rng.random(len(clients)) * (high - low), side="right") - 1
        return np.asarray(self._channel[np.clip(at, self._first[clients], self._first[clients + 1] - 1)])


class _Ready:
    """Who may publish when: those that are there, have been for a while, and hear."""

    def __init__(self, workload: Workload, seed: int) -> None:
        self._arrived_ns = np.concatenate([[0], sessions(workload, seed)["due_ns"]])
        quiet = [absences(workload, seed), deafness(workload, seed)]
        self._spans = [
            (
                Counted(table["client"], table["begin_ns"], last_ns=last_ns, ids_below=workload.clients + 1),
                Counted(
                    table["client"],
                    table["end_ns"] + SETTLE_NS,
                    last_ns=last_ns,
                    ids_below=workload.clients + 1,
                ),
            )
            for table in quiet
            if len(table)
            for last_ns in [round(workload.duration_s * SECOND_NS) + SETTLE_NS]
        ]

    def sift(self, said: Drawn) -> tuple[Drawn, int]:
        """What of it is done, and how much is not because its client was away or deaf."""
        there = said.due_ns >= self._arrived_ns[said.client] + SETTLE_NS
        quiet = np.zeros(len(said.due_ns), np.bool_)
        for begins, ends in self._spans:
            quiet |= begins.by(said.client, said.due_ns) > ends.by(said.client, said.due_ns)
        return _where(said, there & ~quiet), int((there & quiet).sum())


def stripe(parts: Iterator[Publishes], k: int, workers: int) -> Iterator[Publishes]:
    """The part of each block that worker ``k`` of ``workers`` owns: clients ≡ k (mod workers)."""
    for part in parts:
        yield part[part["client"] % workers == k % workers]


def striped(whole: Iterator[Block], k: int, workers: int) -> Iterator[Block]:
    """``stripe`` of whole blocks; ``left_out`` is 0."""
    for block in whole:
        said, done = (part[part["client"] % workers == k % workers] for part in (block.publishes, block.acts))
        yield Block(said, done, 0)


def count_publishes(workload: Workload, seed: int, k: int, workers: int) -> int:
    """How many publishes the stripe of worker ``k`` has in all."""
    return sum(len(block) for block in stripe(publishes(workload, seed), k, workers))


def owned(workload: Workload, k: int, workers: int) -> range:
    """Ordinals that worker ``k`` (from 1) of ``workers`` owns, in order."""
    return range(k % workers or workers, workload.clients + 1, workers)


def _number(clients: Ints, counts: Ints) -> Ints:
    """Give each publish of a block its publisher's next number; moves ``counts`` on."""
    order = np.argsort(clients, kind="stable")
    in_order = clients[order]
    first = np.searchsorted(in_order, in_order, side="left")
    numbers = np.empty(len(clients), np.int64)
    numbers[order] = counts[in_order] + np.arange(len(clients)) - first + 1
    np.add.at(counts, clients, 1)
    return numbers


_EMPTY: Final = np.empty(0, np.int64)
_NOTHING: Final = Drawn(_EMPTY, _EMPTY, _EMPTY, _EMPTY)


def _joined(parts: Sequence[Drawn]) -> Drawn:
    if not parts:
        return _NOTHING
    return Drawn(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _where(said: Drawn, which: npt.NDArray[np.bool_] | Ints) -> Drawn:
    return Drawn(*(column[which] for column in said))


def _by_time(said: Drawn) -> Drawn:
    return _where(said, np.argsort(said.due_ns, kind="stable"))

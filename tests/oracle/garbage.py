"""Random damage to a story's records, with no idea of what it should show.

    damaged, said = damage(story, random.Random(5))

Each edit is one of: a record is lost, comes twice, stands elsewhere, changes places with a later one, or
has one field changed, mostly to what the same field of another record says; a request and its answer stay
some request of their client's. Or the contract promises something else, a log is torn, a line about a
process is another one. Times stay in order in every log, and records stay in the log of their client's
worker, as no recorder could do otherwise.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable

from reports.history import RECORD, Kind
from tests.builders import MS, Story

Row = tuple[int, ...]
FIELDS = {str(name): at for at, name in enumerate(RECORD.names or ())}
CHANGEABLE = ("t2", "client", "channel", "publisher", "pub_seq", "serial", "epoch", "flags")
IDENTITY = ("client", "channel", "publisher", "pub_seq")  # of a request and its answer
ABOUT_REQUESTS = (Kind.SEND, Kind.ACK, Kind.NACK)
BITS = 8
PROMISES: dict[str, list[float]] = {
    "retain_n": [0, 1, 3, 10, 1000],
    "retain_s": [0.1, 1, 86_400],
    "retain_bytes": [100, 3000, 1 << 26],
    "dedupe_s": [0, 0.1, 300],
}


def damage(story: Story, rng: random.Random) -> tuple[Story, list[str]]:
    """A copy with one to three random edits, and what they are. The story is left as it is."""
    damaged = copy.copy(story)
    damaged.logs = {worker: list(log) for worker, log in story.logs.items()}
    damaged.faults, damaged.torn = list(story.faults), set(story.torn)
    damaged.contract = dict(story.contract)
    said = [rng.choice(EDITS)(damaged, rng) for _ in range(rng.randint(1, 3))]
    return damaged, said


def _some(story: Story, rng: random.Random, *, spare: int = 0) -> tuple[list[Row], int, str]:
    """A log, a position in it and its name. Kinds count alike, however many records they have."""
    by_kind: dict[int, list[tuple[int, int]]] = {}
    for worker, log in story.logs.items():
        for at, row in enumerate(log[: len(log) - spare]):
            by_kind.setdefault(row[FIELDS["kind"]], []).append((worker, at))
    worker, at = rng.choice(by_kind[rng.choice(sorted(by_kind))])
    row = story.logs[worker][at]
    return story.logs[worker], at, f"{Kind(row[FIELDS['kind']]).name} at ({worker}, {at})"


def _with(row: Row, name: str, value: int) -> Row:
    at = FIELDS[name]
    return (*row[:at], value, *row[at + 1 :])


def _drop(story: Story, rng: random.Random) -> str:
    log, at, name = _some(story, rng)
    del log[at]
    return f"{name} is lost"


def _repeat(story: Story, rng: random.Random) -> str:
    log, at, name = _some(story, rng)
    to = min(len(log) - 1, at + rng.choice([0, 0, 1, 3, 10]))
    log.insert(to + 1, _with(log[at], "t", log[to][FIELDS["t"]]))
    return f"{name} comes again behind {to}"


def _move(story: Story, rng: random.Random) -> str:
    """To anywhere in the log: from another subscription to this one, from before a fault to after it."""
    log, at, name = _some(story, rng)
    row = log[at]
    if rng.random() < 0.5:
        del log[at]
    to = rng.randrange(len(log)) if log else 0
    log.insert(to, _with(row, "t", log[to][FIELDS["t"]] if log else row[FIELDS["t"]]))
    return f"{name} stands at {to}"


def _swap(story: Story, rng: random.Random) -> str:
    log, at, name = _some(story, rng, spare=1)
    to = min(len(log) - 1, at + rng.choice([1, 1, 1, 2, 5]))
    t, later_t = log[at][FIELDS["t"]], log[to][FIELDS["t"]]
    log[at], log[to] = _with(log[to], "t", t), _with(log[at], "t", later_t)
    return f"{name} changes places with {to}"


def _change(story: Story, rng: random.Random) -> str:
    log, at, name = _some(story, rng)
    row, field = log[at], rng.choice(CHANGEABLE)
    if row[FIELDS["kind"]] in ABOUT_REQUESTS and field in IDENTITY:
        return _other_request(log, at, name, rng)
    was = row[FIELDS[field]]
    alike = [r for other in story.logs.values() for r in other if r[FIELDS["kind"]] == row[FIELDS["kind"]]]
    value = rng.choice(alike)[FIELDS[field]]
    if field == "flags":
        value = was ^ (1 << rng.randrange(BITS))
    elif field == "client":
        mine = {r[FIELDS["client"]] for r in log}
        value = rng.choice(sorted(mine))
    elif field == "t2":
        value = rng.choice([0, max(0, was - 500 * MS), was + 500 * MS, value])
    elif field in ("serial", "pub_seq") and rng.random() < 0.6:
        value = max(0, was + rng.choice([-2, -1, 1, 2]))
    log[at] = _with(row, field, value)
    return f"{name}: {field} {was} becomes {value}"


def _other_request(log: list[Row], at: int, name: str, rng: random.Random) -> str:
    """Which request it is, the recorder knows by itself: it can be another one of that client, as a whole."""
    client = log[at][FIELDS["client"]]
    sends = [r for r in log if r[FIELDS["kind"]] == Kind.SEND and r[FIELDS["client"]] == client]
    other = rng.choice(sends or [log[at]])
    for field in IDENTITY:
        log[at] = _with(log[at], field, other[FIELDS[field]])
    return f"{name} is about {other[FIELDS['publisher']]}:{other[FIELDS['pub_seq']]}"


def _change_fault(story: Story, rng: random.Random) -> str:
    if not story.faults:
        return "no fault to change"
    at = rng.randrange(len(story.faults))
    line = story.faults[at]
    if rng.random() < 0.5:
        del story.faults[at]
        return f"line {at} of faults.jsonl is lost"
    story.faults[at] = line | {"planned": not line.get("planned", True)}
    return f"line {at} of faults.jsonl: planned becomes {story.faults[at]['planned']}"


def _change_contract(story: Story, rng: random.Random) -> str:
    if rng.random() < 0.3:
        story.echo = not story.echo
        return f"echo becomes {story.echo}"
    name, values = rng.choice(sorted(PROMISES.items()))
    story.contract[name] = rng.choice(values)
    return f"{name} becomes {story.contract[name]}"


def _tear(story: Story, rng: random.Random) -> str:
    worker = rng.choice(sorted(story.logs))
    story.torn.add(worker)
    if worker and rng.random() < 0.5:
        del story.logs[worker][rng.randrange(len(story.logs[worker])) :]
    return f"the log of worker {worker} is torn after {len(story.logs[worker])} records"


EDITS: tuple[Callable[[Story, random.Random], str], ...] = (
    *(_drop, _repeat, _swap),
    *(_change,) * 4,
    *(_drop, _repeat, _swap) * 2,
    *(_change,) * 4,
    *(_move,) * 3,
    *(_change_contract,) * 3,
    _change_fault,
    _tear,
)

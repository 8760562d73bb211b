"""Seeded histories of a correct server and its clients, in virtual time.

    simulated = simulate(7)
    run_checks(simulated.history()).verdict  # valid, or unknown where a worker was killed
    simulated.expected  # classes that are counted all the same, none of them gated: {"L2x": 1}, mostly {}

A history is a pure function of its seed (and of this code).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from reports.history import History, Kind
from tests.builders import MS, T0, Story, fault_lines, start_line

from .client import Client
from .control import Control
from .expect import repeated_places, rows_of
from .hub import Asked, Hub
from .params import END_NS, HEAL_NS, LOAD_NS, READS_NS, SECOND_READ_NS, WORKERS, Params, S, Shared, draw
from .world import World


@dataclass
class Simulated:
    """One simulated history."""

    seed: int
    params: Params
    story: Story
    expected: dict[str, int]  # classes that are counted in it, none of them gated
    features: Counter[str] = field(repr=False)  # what happened, and how often
    hub: Hub = field(repr=False)  # the server as it ended: the truth

    def history(self) -> History:
        """As the checks read it."""
        return self.story.history()

    @property
    def shared(self) -> Shared:
        """Histories of which this is equal can be packed into one run."""
        return self.params.shared


def simulate(seed: int) -> Simulated:
    """The history of a seed."""
    params = draw(seed)
    world = World(seed, params)
    hub = Hub(world)
    control = Control(world, hub)
    clients = [Client(world, hub, ordinal) for ordinal in range(1, params.clients + 1)]
    world.faults.append(start_line())
    for channel in silent_channels(params):
        control.silent(channel)
        world.saw("silent channel")
    _join(world, hub, clients)
    _load(world, hub, clients)
    _faults(world, hub, clients)
    world.run(END_NS)
    assert control.reads == 2 * params.channels, f"seed {seed}: the final reads are not complete"
    return _told(seed, world, hub, clients)


def silent_channels(params: Params) -> range:
    return range(params.channels - params.silent + 1, params.channels + 1)


def _join(world: World, hub: Hub, clients: list[Client]) -> None:
    rng = world.rng
    for client in clients:
        world.at(T0 + rng.randint(MS, 600 * MS), client.dial)
        for channel in hub.streams:
            if client is clients[0] or rng.random() < 0.85:
                client.lanes[channel].wanted = True
                client.lanes[channel].first = rng.choice(["new", "new", "first", 2])


def _load(world: World, hub: Hub, clients: list[Client]) -> None:
    """Publishes, and one to each channel at the end that nothing can go wrong with for ever."""
    rng, params, busy = world.rng, world.params, clients[0].busy
    for _ in range(params.messages):
        client = rng.choice(clients)
        begin = world.some_time()
        for n in range(rng.choice([1, 1, 1, 3])):
            world.at(begin + n * MS, _publish, client, rng.choice(busy))
    for channel in busy:
        world.at(LOAD_NS - channel * MS, _publish, clients[0], channel, True)
    for _ in range(params.retries):
        world.at(world.some_time(), rng.choice(clients).send_again)
    for _ in range(params.churn):
        client, channel, t = rng.choice(clients), rng.choice(list(hub.streams)), world.some_time()
        world.at(t, client.forget, channel)
        world.at(t + rng.randint(0, 900 * MS), _return_to, world, hub, client, channel)
    t = T0
    while t < END_NS:
        t += rng.randint(100 * MS, 1500 * MS)
        world.at(t, hub.housekeeping)
    for begin in (READS_NS, SECOND_READ_NS):
        for _ in range(4):
            world.at(begin + int(rng.random() * 2 * params.latency_ns), hub.housekeeping)


def _publish(client: Client, channel: int, must: bool = False) -> None:
    if not client.gone:
        client.publish(channel, must=must)


def _return_to(world: World, hub: Hub, client: Client, channel: int) -> None:
    """Subscribe to a channel, again or for the first time, in any way that there is."""
    lane, stream, rng = client.lanes[channel], hub.streams[channel], world.rng
    ways: list[Asked] = ["new", "first", rng.randint(1, 4)]
    if lane.epoch:
        ways += [(lane.epoch, lane.serial), (lane.epoch, lane.serial)]
        if lane.serial:
            ways.append((lane.epoch, rng.randint(0, lane.serial - 1)))
    else:
        ways += [(stream.epoch, rng.randint(0, stream.head)), (stream.epoch, stream.head + rng.randint(1, 3))]
    client.want(channel, rng.choice(ways))


def _faults(world: World, hub: Hub, clients: list[Client]) -> None:
    rng, params = world.rng, world.params
    for _ in range(params.cuts):
        world.at(world.some_time(), rng.choice(clients).cut)
    for _ in range(params.leaves):
        away_ns = None if rng.random() < 0.4 else rng.randint(50 * MS, 1500 * MS)
        client = rng.choice(clients[1:])
        world.at(world.some_time(), client.leave, away_ns)
    for _ in range(params.stalls):
        t, client = world.some_time(), rng.choice(clients)
        world.at(t, _stall, world, hub, client, rng.randint(100 * MS, 2000 * MS))
    for process in range(params.restarts):
        world.at(world.some_time(), hub.crash, process)
    for process in range(params.failovers):
        world.at(world.some_time(), hub.fail_over, 10 + process)
    for hole in range(params.holes):
        world.at(world.some_time(), _swallow, world, rng.choice(clients), hole)


def _stall(world: World, hub: Hub, client: Client, wait_ns: int) -> None:
    if (link := client.link) is not None:
        link.stalled = True
        world.saw("slow consumer")
        world.later(wait_ns, hub.unstall, link)


def _swallow(world: World, client: Client, hole: int) -> None:
    """A fault that swallows the data of one client, for longer than its end may go unnoticed."""
    if client.ready and not client.blocked:
        until = world.now + 2200 * MS
        lines = fault_lines(f"hole-{hole}", "timeout", world.now, until)
        world.faults += [line | {"ordinals": [client.ordinal]} for line in lines]
        client.swallow()
        world.at(until, client.unblock)


def _told(seed: int, world: World, hub: Hub, clients: list[Client]) -> Simulated:
    """The story of what was recorded."""
    params, kept = world.params, world.params.retention
    contract = params.shared.contract()
    if params.promised:
        contract |= {"retain_n": kept.n, "retain_s": kept.s, "retain_bytes": kept.bytes}
    story = Story(
        clients=params.clients,
        channels=params.channels,
        workers=WORKERS,
        echo=params.shared.echo,
        contract=contract,
        faults=world.faults,
        now=world.now,
    )
    story.logs = world.logs  # type: ignore[assignment]
    story.subscriptions = {
        client.ordinal: tuple(channel for channel, lane in client.lanes.items() if lane.epoch)
        for client in clients
    }
    if params.shared.torn:
        _tear(world, story)
    expected = repeated_places(rows_of(story))
    _look_back(world, story, expected)
    return Simulated(seed, params, story, expected, world.seen, hub)


def _look_back(world: World, story: Story, expected: dict[str, int]) -> None:
    """Features that only the whole of the records shows."""
    told = {(row[4], row[5]) for log in story.logs.values() for row in log if row[8] in (Kind.ACK, Kind.NACK)}
    lives = [row for row in story.logs[0] if row[8] == Kind.LIVE]
    for first in lives:
        for second in lives:
            if first[3] == second[3] and first[0] < second[0]:
                world.seen["placed between the reads"] += second[6] > first[6]
                world.seen["trimmed between the reads"] += second[5] > first[5]
    firsts: dict[tuple[int, int], int] = {}
    for log in story.logs.values():
        for row in log:
            if row[8] == Kind.SEND:
                late = row[0] - firsts.setdefault((row[4], row[5]), row[0])
                world.seen["sent again after dedupe_s"] += late > world.params.shared.dedupe_s * S
            elif row[8] == Kind.READ:
                world.seen["placed, and nobody was told"] += (row[4], row[5]) not in told
    world.seen["repeated place"] += sum(expected.values())
    world.seen["no echo"] += not world.params.shared.echo
    for feature in [feature for feature, count in world.seen.items() if not count]:
        del world.seen[feature]


def _tear(world: World, story: Story) -> None:
    """One load worker is killed: what it wrote stays, and no count says that it is all."""
    worker, at = world.rng.randint(1, WORKERS), world.some_time(T0, HEAL_NS)
    story.logs[worker] = [row for row in story.logs[worker] if row[0] < at]
    story.torn.add(worker)
    world.saw("worker killed")
    seen = {(row[2], row[3]) for rows in story.logs.values() for row in rows if row[8] == Kind.SUB}
    story.subscriptions = {
        client: tuple(channel for channel in channels if (client, channel) in seen)
        for client, channels in story.subscriptions.items()
    }

"""Hypothesis strategies for histories: what a correct server and its clients can do, and single faults.

``clean_scenes`` gives scenes of joins, publishes, lost acks, retries, cuts, resumes, cuts in the middle
of a replay, trimming, restarts with and without memory. ``finish`` has not been called on them.
``PLANTS`` has, per anomaly class, a function that does one thing wrong and says how to end the run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from reports.history import Flag, GapReason
from tests.builders import Message, exit_line, start_line
from tests.scenes import Scene

Draw = Callable[[st.SearchStrategy[Any]], Any]


@dataclass
class Stage:
    """A scene in the making, with what its actions have to remember."""

    scene: Scene
    draw: Draw
    pending: list[tuple[Message, int]] = field(default_factory=list)  # sent, never answered, not committed
    strangers: set[Message] = field(default_factory=set)  # in a log that they were not sent to

    def client(self) -> int:
        return int(self.draw(st.integers(1, self.scene.clients)))

    def channel(self) -> int:
        return int(self.draw(st.integers(1, self.scene.channels)))

    def is_open(self, client: int) -> bool:
        return any(c == client for c, _ in self.scene.open)

    def subscribed(self, client: int, channel: int) -> None:
        """See to it that a client is connected and subscribed to a channel."""
        scene = self.scene
        if not self.is_open(client):
            scene.back(client)
        if (client, channel) not in scene.open:
            scene.subscribe(client, channel)


def _publish(stage: Stage) -> None:
    stage.scene.publish(stage.client(), stage.channel())


def _publish_unanswered(stage: Stage) -> None:
    """Committed, but the ack is lost."""
    stage.scene.publish(stage.client(), stage.channel(), acked=False)


def _publish_into_the_void(stage: Stage) -> None:
    """Never arrives, unless a later retry does."""
    client, channel = stage.client(), stage.channel()
    stage.pending.append((stage.scene.publish(client, channel, commit=False), channel))


def _commit_late(stage: Stage) -> None:
    if stage.pending:
        message, channel = stage.pending.pop(0)
        stage.scene.send(*message, channel, retry=True)
        stage.scene.commit(message, channel, acked=stage.draw(st.booleans()))


def _refuse(stage: Stage) -> None:
    """Every attempt fails definitely."""
    client, channel = stage.client(), stage.channel()
    message = stage.scene.publish(client, channel, commit=False)
    stage.scene.nack(*message, channel)


def _retry(stage: Stage) -> None:
    channel = stage.channel()
    sent = [m for m in stage.scene.log[channel] if m is not None and m not in stage.strangers]
    if sent:
        stage.scene.retry(stage.draw(st.sampled_from(sent)), channel)


def _cut(stage: Stage) -> None:
    client = stage.client()
    if stage.is_open(client):
        stage.scene.cut(client)


def _back(stage: Stage) -> None:
    client = stage.client()
    if not stage.is_open(client):
        stage.scene.back(client)


def _cut_in_replay(stage: Stage) -> None:
    """Comes back, gets a part of the replay, and is cut again."""
    scene, client = stage.scene, stage.client()
    if stage.is_open(client):
        return
    scene.conn(client)
    channel = scene.subscriptions[client][0]
    if scene.stands[client, channel][0] == scene.life[channel]:
        scene.resume(client, channel, live=False, upto=stage.draw(st.integers(0, scene.top(channel))))
    scene.cut(client)


def _trim(stage: Stage) -> None:
    scene, channel = stage.scene, stage.channel()
    most = scene.top(channel) + 1 - scene.contract["retain_n"]
    scene.trim(channel, stage.draw(st.integers(scene.floor[channel], max(scene.floor[channel], most))))


def _churn(stage: Stage) -> None:
    """Unsubscribes, and subscribes again from now."""
    client, channel = stage.client(), stage.channel()
    if (client, channel) in stage.scene.open:
        stage.scene.leave(client, channel)
        stage.scene.subscribe(client, channel)


def _restart(stage: Stage) -> None:
    """The server restarts and remembers: everybody is cut and comes back."""
    stage.scene.faults.append(exit_line(planned=True, t=stage.scene.now))
    _cut_all(stage)


def _cut_all(stage: Stage) -> None:
    for client in range(1, stage.scene.clients + 1):
        if stage.is_open(client):
            stage.scene.cut(client, 1006)


def _lose_memory(stage: Stage) -> None:
    """The server restarts without its streams."""
    _restart(stage)
    stage.pending.clear()
    for channel in range(1, stage.scene.channels + 1):
        stage.scene.new_life(channel)


ACTIONS: dict[str, Callable[[Stage], None]] = {
    "publish": _publish,
    "publish, ack lost": _publish_unanswered,
    "publish, lost": _publish_into_the_void,
    "commit late": _commit_late,
    "refuse": _refuse,
    "retry": _retry,
    "cut": _cut,
    "back": _back,
    "cut in replay": _cut_in_replay,
    "trim": _trim,
    "churn": _churn,
    "restart": _restart,
    "lose memory": _lose_memory,
}
_OFTEN = ["publish"] * 6 + ["cut", "back"] * 2


@st.composite
def stages(draw: Draw, *, plant: Callable[[Stage], None] | None = None, retain_n: int | None = None) -> Stage:
    """A scene of random actions, with ``plant`` done once somewhere among them; ready to be finished."""
    scene = Scene(
        clients=draw(st.integers(2, 4)),
        channels=draw(st.integers(1, 2)),
        workers=draw(st.integers(1, 2)),
        contract={
            "retain_n": draw(st.integers(0, 5)) if retain_n is None else retain_n,
            "retain_s": 86_400,
            "retain_bytes": 1 << 26,
        },
    )
    scene.faults.append(start_line())
    stage = Stage(scene, draw)
    for client in range(1, scene.clients + 1):
        scene.join(client, *range(1, scene.channels + 1))
    steps = draw(st.lists(st.sampled_from([*_OFTEN, *ACTIONS]), max_size=25))
    at = draw(st.integers(0, len(steps)))
    for step in steps[:at]:
        ACTIONS[step](stage)
    if plant is not None:
        plant(stage)
    for step in steps[at:]:
        ACTIONS[step](stage)
    for client in range(1, scene.clients + 1):
        if not stage.is_open(client):
            scene.back(client)
    for channel in range(1, scene.channels + 1):
        scene.publish(1, channel)
    return stage


def clean_scenes() -> st.SearchStrategy[Scene]:
    """Finished scenes without a fault."""
    return stages().map(finished)


def finished(stage: Stage) -> Scene:
    stage.scene.finish()
    return stage.scene


# ── one thing wrong ───────────────────────────────────────────────────────────────────────


def _victim(stage: Stage) -> tuple[int, int]:
    client, channel = stage.client(), stage.channel()
    stage.subscribed(client, channel)
    return client, channel


def _beside(stage: Stage, victim: int, channel: int) -> None:
    """Another subscriber, so that what the victim misses is seen even if the log is lost later."""
    stage.subscribed(victim % stage.scene.clients + 1, channel)


def _gap(stage: Stage) -> None:
    client, channel = _victim(stage)
    _beside(stage, client, channel)
    stage.scene.publish(stage.client(), channel, skip=[client])
    stage.scene.publish(stage.client(), channel)


def _false_resume(stage: Stage) -> None:
    client, channel = _victim(stage)
    _beside(stage, client, channel)
    scene = stage.scene
    scene.cut(client)
    scene.publish(stage.client(), channel)
    lost = scene.top(channel)
    if stage.draw(st.booleans()):
        scene.publish(stage.client(), channel)
    scene.conn(client)
    for subscribed in scene.subscriptions[client]:
        scene.resume(client, subscribed, skip=[lost] if subscribed == channel else [])


def _comes_back_elsewhere(
    stage: Stage, gap: Callable[[int, int], tuple[int, int] | None], why: GapReason
) -> None:
    """A client is cut, misses a message or two, and is sent to the head.

    ``gap``: from where it stood and the head to the gap that is declared; None: none is.
    """
    client, channel = _victim(stage)
    scene = stage.scene
    scene.cut(client)
    for _ in range(stage.draw(st.integers(1, 2))):
        scene.publish(stage.client(), channel)
    scene.conn(client)
    for subscribed in scene.subscriptions[client]:
        if subscribed != channel:
            scene.resume(client, subscribed)
            continue
        (epoch, stood), top = scene.stands[client, channel], scene.top(channel)
        scene.sub(client, channel, top, epoch=epoch, asked=(epoch, stood))
        if (said := gap(stood, top)) is not None:
            scene.gap(client, *said, channel, epoch=epoch, from_epoch=epoch, why=why)
        scene.live(client, channel, top, epoch=epoch, floor=scene.floor[channel])
        scene.stands[client, channel] = epoch, top
        scene.open.add((client, channel))


def _gap_off_by_one(stage: Stage) -> None:
    low, high = stage.draw(st.sampled_from([(0, 1), (0, -1), (1, 0), (-1, 0)]))
    _comes_back_elsewhere(stage, lambda stood, top: (stood + 1 + low, top + high), GapReason.LAG)


def _gap_left_out(stage: Stage) -> None:
    _comes_back_elsewhere(stage, lambda stood, top: None, GapReason.LAG)


def evicted_early(stage: Stage) -> None:
    """D4, where retention holds more than was ever published."""
    _comes_back_elsewhere(stage, lambda stood, top: (stood + 1, top), GapReason.TRIMMED)


def _repeat(stage: Stage) -> None:
    client, channel = _victim(stage)
    stage.scene.publish(stage.client(), channel)
    if stage.draw(st.booleans()):
        stage.scene.cut(client)
        stage.scene.back(client)
    stage.scene.give(client, channel, stage.scene.top(channel))


def _reorder(stage: Stage) -> None:
    client, channel = _victim(stage)
    stage.scene.publish(stage.client(), channel, skip=[client])
    stage.scene.publish(stage.client(), channel)
    stage.scene.give(client, channel, stage.scene.top(channel) - 1)


def _commit_twice(stage: Stage) -> None:
    _, channel = _victim(stage)
    message = stage.scene.publish(stage.client(), channel, acked=stage.draw(st.booleans()))
    if stage.draw(st.booleans()):
        stage.scene.send(*message, channel, retry=True)
    stage.scene.log[channel].append(message)
    stage.scene.deliver(channel, stage.scene.top(channel))


def _foreign(stage: Stage) -> None:
    client, channel = _victim(stage)
    stage.scene.publish(stage.client(), channel, skip=[client])
    _arrives(stage, client, channel, (5, 7), Flag.FOREIGN)


def _damage(stage: Stage) -> None:
    client, channel = _victim(stage)
    message = stage.scene.publish(stage.client(), channel, skip=[client])
    _arrives(stage, client, channel, message, Flag.BAD_DIGEST)


def _arrives(stage: Stage, client: int, channel: int, of: Message, flags: int) -> None:
    """The newest entry arrives as something else."""
    scene = stage.scene
    epoch, top = scene.life[channel], scene.top(channel)
    scene.recv(client, top, of, channel, epoch=epoch, flags=flags)
    scene.stands[client, channel] = epoch, top


def _misroute(stage: Stage) -> None:
    """A message that was sent to a channel that nobody has stands in another one."""
    _, channel = _victim(stage)
    client = stage.client()
    message = stage.scene.next_message(client)
    stage.scene.send(*message, stage.scene.channels + 1)
    _slip_in(stage, channel, message)


def _slip_in(stage: Stage, channel: int, message: Message) -> None:
    """A message that was not sent to a channel stands in its log."""
    stage.strangers.add(message)
    stage.scene.log[channel].append(message)
    stage.scene.deliver(channel, stage.scene.top(channel))


def _never_sent(stage: Stage) -> None:
    _, channel = _victim(stage)
    _slip_in(stage, channel, stage.scene.next_message(stage.client()))


def _replaced(stage: Stage) -> None:
    """A subscriber sees another message than the others at one serial."""
    client, channel = _victim(stage)
    _beside(stage, client, channel)
    other = stage.scene.publish(stage.client(), channel, commit=False)
    stage.scene.publish(stage.client(), channel, skip=[client])
    _arrives(stage, client, channel, other, 0)


def _serial_skipped(stage: Stage) -> None:
    _, channel = _victim(stage)
    stage.scene.publish(stage.client(), channel)
    stage.scene.log[channel].append(None)
    stage.scene.publish(stage.client(), channel)


def _refused_yet_there(stage: Stage) -> None:
    _, channel = _victim(stage)
    message = stage.scene.publish(stage.client(), channel, commit=False)
    stage.scene.nack(*message, channel)
    _slip_in(stage, channel, message)


def _acked_elsewhere(stage: Stage) -> None:
    """The retry of a message is acked where another one stands."""
    _, channel = _victim(stage)
    scene = stage.scene
    scene.publish(stage.client(), channel)
    message = scene.publish(stage.client(), channel)
    scene.send(*message, channel, retry=True)
    scene.ack(*message, scene.top(channel) - 1, channel, epoch=scene.life[channel], flags=Flag.DUPLICATE)


def _out_of_order(stage: Stage) -> None:
    """Two messages of one publisher change places."""
    _, channel = _victim(stage)
    client = stage.client()
    first, second = (stage.scene.publish(client, channel, commit=False) for _ in range(2))
    stage.strangers.add(first)  # a retry would make it the later one
    acked = stage.draw(st.booleans())
    stage.scene.commit(second, channel, acked=acked)
    stage.scene.commit(first, channel, acked=acked)


def _late_serial(stage: Stage) -> None:
    """A message is placed before one that was acked when it was first sent."""
    scene, client = stage.scene, stage.client()
    _, channel = _victim(stage)
    first, second = scene.next_message(client), scene.next_message(client % scene.clients + 1)
    scene.send(*first, channel)
    scene.ack(*first, scene.top(channel) + 2, channel, epoch=scene.life[channel])
    scene.send(*second, channel)
    scene.commit(second, channel)
    scene.log[channel].append(first)
    scene.deliver(channel, scene.top(channel))


def _new_life_without_an_exit(stage: Stage) -> None:
    client, channel = _victim(stage)
    stage.scene.publish(stage.client(), channel)
    _cut_all(stage)
    stage.pending = [(message, where) for message, where in stage.pending if where != channel]
    stage.scene.new_life(channel)
    stage.subscribed(client, channel)
    stage.scene.wait(2)  # a later exit is not heard of late


def _after_unsubscribe(stage: Stage) -> None:
    client, channel = _victim(stage)
    scene = stage.scene
    scene.leave(client, channel)
    message = scene.publish(stage.client(), channel)
    scene.recv(client, scene.top(channel), message, channel, epoch=scene.life[channel])
    scene.subscribe(client, channel)


def _before_the_start(stage: Stage) -> None:
    client, channel = _victim(stage)
    stage.scene.publish(stage.client(), channel)
    stage.scene.leave(client, channel)
    stage.scene.subscribe(client, channel)
    stage.scene.give(client, channel, stage.scene.top(channel))


def _acked_twice(stage: Stage) -> None:
    _, channel = _victim(stage)
    scene = stage.scene
    message = scene.publish(stage.client(), channel)
    flags = stage.draw(st.sampled_from([0, Flag.NOT_OPEN, Flag.DUPLICATE]))
    scene.ack(*message, scene.top(channel), channel, epoch=scene.life[channel], flags=flags)


def _die(stage: Stage) -> None:
    stage.scene.faults.append(exit_line(planned=False, t=stage.scene.now))


PLANTS: dict[str, tuple[str, Callable[[Stage], None]]] = {
    "a message is replaced by another": ("L1", _replaced),
    "a serial is skipped": ("L4", _serial_skipped),
    "a refused message is there": ("L8", _refused_yet_there),
    "an ack names another's place": ("L9", _acked_elsewhere),
    "a publisher's messages change places": ("L10", _out_of_order),
    "a serial is given late": ("L11", _late_serial),
    "a new life without an exit": ("L12", _new_life_without_an_exit),
    "a message after unsubscribe": ("D7", _after_unsubscribe),
    "the head comes before the start": ("D9", _before_the_start),
    "an ack comes twice": ("D10", _acked_twice),
    "a message is skipped": ("D1", _gap),
    "a replay leaves one out": ("D2", _false_resume),
    "a gap is off by one": ("D3", _gap_off_by_one),
    "a gap is left out": ("D3", _gap_left_out),
    "a message comes again": ("D5", _repeat),
    "two messages change places": ("D6", _reorder),
    "a message is committed twice": ("L2", _commit_twice),
    "another run's message": ("L5", _foreign),
    "a message that nobody sent": ("L5", _never_sent),
    "a message from another channel": ("L6", _misroute),
    "a damaged message": ("L7", _damage),
    "an unplanned exit": ("V6", _die),
}

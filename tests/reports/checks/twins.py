"""Golden twins: per class one minimal bad history, and its nearest legal one, a record apart.

``bad`` shows the class ``count`` times and nothing outside ``also``; ``legal`` is valid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from reports.history import Flag, Mark
from tests.builders import Story, exit_line, fault_lines, start_line
from tests.scenes import Scene


@dataclass(frozen=True)
class Twin:
    """``make(bad)`` gives the bad history or its legal twin."""

    make: Callable[[bool], Story]
    count: int = 1
    also: frozenset[str] = frozenset()  # classes that the bad one cannot but show as well

    def bad(self) -> Story:
        return self.make(True)

    def legal(self) -> Story:
        return self.make(False)


def two_clients(channels: int = 1, **contract: float) -> Scene:
    """Client 1 publishes, client 2 listens."""
    scene = Scene(clients=2, channels=channels, contract=dict(contract))
    scene.conn(1)
    scene.join(2, *range(1, channels + 1))
    return scene


def _entry(scene: Scene, shown: tuple[int, int]) -> None:
    """An unacked publish to channel 1, in whose place client 2 sees ``shown``; trimmed before any read."""
    scene.publish(1, acked=False, skip=[2])
    scene.recv(2, scene.top(), shown)
    scene.trim(1, scene.top() + 1)


def duplicate_commit(bad: bool) -> Story:
    scene = two_clients()
    first = scene.publish(1)
    scene.retry(first)
    _entry(scene, first if bad else (1, 2))
    scene.finish()
    return scene


def late_duplicate_commit(bad: bool) -> Story:
    scene = two_clients(dedupe_s=10)
    first = scene.publish(1)
    scene.wait(20)
    scene.retry(first)
    _entry(scene, first if bad else (1, 2))
    scene.finish()
    return scene


def lost_acked(bad: bool) -> Story:
    """Acked at a serial that nobody ever sees; the log is trimmed past it before the final reads."""
    scene = two_clients()
    scene.publish(1)
    scene.publish(1, skip=[2])
    if not bad:
        scene.give(2, 1, 2)
    scene.publish(1)
    scene.trim(1, 4)
    scene.finish()
    return scene


def divergent_serial(bad: bool) -> Story:
    """Two subscribers see an unacked message at one serial, or two messages; trimmed before any read."""
    scene = two_clients()
    scene.join(3)
    scene.publish(1)
    shown, other = scene.publish(1, acked=False, skip=[3]), scene.publish(1, commit=False)
    scene.recv(3, 2, other if bad else shown)
    scene.trim(1, 3)
    scene.finish()
    return scene


def log_hole(bad: bool) -> Story:
    """An unacked message that its one subscriber sees, or does not; trimmed before any read."""
    scene = two_clients()
    scene.publish(1)
    scene.publish(1, acked=False, skip=[2])
    if not bad:
        scene.give(2, 1, 2)
    scene.publish(1)
    scene.trim(1, 4)
    scene.finish()
    return scene


def failed_visible(bad: bool) -> Story:
    """What client 2 sees is a refused message, or one without an answer."""
    scene = two_clients()
    refused = scene.publish(1, commit=False)
    scene.nack(*refused)
    scene.publish(1, acked=False, skip=[2])
    scene.recv(2, 1, refused if bad else (1, 2))
    scene.trim(1, 2)
    scene.publish(1)
    scene.finish()
    return scene


def ack_contradiction(bad: bool) -> Story:
    """Acked where it stands, or where the sentinel will."""
    scene = two_clients()
    message = scene.publish(1, acked=False)
    scene.ack(*message, 2 if bad else 1)
    scene.finish()
    return scene


def publisher_reorder(bad: bool) -> Story:
    """The first of two messages is placed behind the second; the legal one was sent again after it."""
    scene = two_clients()
    first, second = scene.publish(1, commit=False), scene.publish(1, commit=False)
    if not bad:
        scene.send(*first, retry=True)
    scene.commit(second, acked=False)
    scene.commit(first, acked=False)
    scene.publish(1)
    scene.finish()
    return scene


def realtime_inversion(bad: bool) -> Story:
    """A message stands before one that was acked earlier; the legal one was first sent before that."""
    scene = two_clients()
    scene.conn(3)
    first, second = scene.next_message(1), scene.next_message(3)
    if not bad:
        scene.send(*second)
    scene.send(*first)
    scene.ack(*first, 2)
    scene.send(*second, retry=not bad)
    scene.commit(second)
    scene.log[1].append(first)
    scene.deliver(1, 2)
    scene.finish()
    return scene


def epoch_fault(bad: bool) -> Story:
    """A stream begins a new life, with an exit of its server or without."""
    scene = two_clients()
    scene.faults.append(start_line())
    scene.publish(1)
    scene.cut(2)
    if not bad:
        scene.faults.append(exit_line(planned=True, t=scene.now))
    scene.new_life()
    scene.back(2)
    scene.publish(1)
    scene.finish()
    return scene


def phantom(bad: bool) -> Story:
    scene = two_clients()
    message = scene.publish(1, skip=[2])
    if bad:
        scene.recv(2, 1, (2, 40), flags=Flag.FOREIGN)
    else:
        scene.recv(2, 1, message)
    scene.finish()
    return scene


def misrouted(bad: bool) -> Story:
    scene = two_clients(channels=2)
    elsewhere = scene.publish(1, 2)
    _entry(scene, elsewhere if bad else (1, 2))
    scene.publish(1)
    scene.finish()
    return scene


def corrupt(bad: bool) -> Story:
    scene = two_clients()
    message = scene.publish(1, skip=[2])
    scene.recv(2, 1, message, flags=Flag.BAD_DIGEST if bad else 0)
    scene.finish()
    return scene


def delivery_gap(bad: bool) -> Story:
    scene = two_clients()
    scene.publish(1)
    scene.publish(1, skip=[2] if bad else [])
    scene.publish(1)
    scene.finish()
    return scene


def false_resume(bad: bool) -> Story:
    scene = two_clients()
    scene.publish(1)
    scene.cut(2)
    scene.publish(1)
    scene.publish(1)
    scene.back(2, skip=[2] if bad else [])
    scene.finish()
    return scene


def missed_and_trimmed(**contract: float) -> Scene:
    """Client 2 was away for two messages and comes back when they are trimmed; what it is told is open."""
    scene = two_clients(**contract)
    scene.publish(1)
    scene.cut(2)
    scene.publish(1)
    scene.publish(1)
    scene.conn(2)
    return scene


def bad_gap_notice(bad: bool) -> Story:
    scene = missed_and_trimmed()
    scene.trim(1, 4)
    scene.sub(2, 1, 3, asked=(1, 1))
    scene.gap(2, 2, 2 if bad else 3)
    scene.live(2, 1, 3)
    scene.open.add((2, 1))
    scene.stands[2, 1] = 1, 3
    scene.finish()
    return scene


def retention_breach(bad: bool) -> Story:
    """Two are retained. The legal one has a publish without an answer: it may stand after the trimmed one."""
    scene = missed_and_trimmed(retain_n=2, retain_s=1000, retain_bytes=1_000_000)
    if not bad:
        scene.publish(1, commit=False)
    scene.trim(1, 3)
    scene.resume(2)
    scene.finish()
    return scene


def duplicate_delivery(bad: bool) -> Story:
    scene = two_clients()
    scene.publish(1)
    scene.cut(2)
    scene.publish(1)
    scene.back(2)
    if bad:
        scene.give(2, 1, 2)
    scene.finish()
    return scene


def delivery_reorder(bad: bool) -> Story:
    scene = two_clients()
    scene.publish(1, skip=[2])
    if not bad:
        scene.give(2, 1, 1)
    scene.publish(1)
    if bad:
        scene.give(2, 1, 1)
    scene.finish()
    return scene


def unsolicited(bad: bool) -> Story:
    scene = two_clients()
    scene.publish(1)
    scene.leave(2)
    message = scene.publish(1)
    if bad:
        scene.recv(2, 2, message)
    scene.finish()
    return scene


def echo(bad: bool) -> Story:
    scene = Scene(clients=2, echo=False)
    scene.join(1), scene.join(2)
    scene.publish(1)
    if bad:
        scene.give(1, 1, 1)
    scene.finish()
    return scene


def start_edge(bad: bool) -> Story:
    """A fresh subscription starts after the head, or sends it."""
    scene = two_clients()
    scene.publish(1)
    scene.leave(2)
    scene.subscribe(2)
    if bad:
        scene.give(2, 1, 1)
    scene.publish(1)
    scene.finish()
    return scene


def ack_protocol(bad: bool) -> Story:
    scene = two_clients()
    message = scene.publish(1)
    if bad:
        scene.ack(*message, 1)
    scene.finish()
    return scene


def stalled_subscriber(bad: bool) -> Story:
    scene = two_clients()
    scene.publish(1)
    scene.drain(behind=[2] if bad else [])
    scene.final_reads()
    scene.mark(Mark.END)
    return scene


def never_reconnected(bad: bool) -> Story:
    scene = two_clients()
    scene.publish(1)
    scene.cut(2, on_purpose=not bad)
    scene.publish(1)
    scene.finish()
    return scene


def unacked(bad: bool) -> Story:
    scene = two_clients()
    scene.publish(1)
    message = scene.publish(1, commit=False)
    if not bad:
        scene.nack(*message)
    scene.wait(6)
    scene.finish()
    return scene


def half_open(bad: bool) -> Story:
    """Data of client 1 is swallowed for ten seconds; its connection ends after five, or after two."""
    scene = two_clients(ping_s=2, pong_s=1)
    scene.publish(1)
    scene.faults = fault_lines("hole-1", "timeout", scene.now, scene.now + 10**10)
    message = scene.publish(1, commit=False)
    scene.wait(5 if bad else 2)
    scene.close(1)
    scene.wait(10)
    scene.conn(1)
    scene.send(*message, retry=True)
    scene.commit(message)
    scene.finish()
    return scene


def no_progress(bad: bool) -> Story:
    """The sentinel is accepted within settle_s, or later."""
    scene = two_clients()
    scene.publish(1)
    scene.mark(Mark.HEAL)
    scene.mark(Mark.DRAIN)
    sentinel = scene.publish(0, commit=False)
    scene.mark(Mark.SENTINEL, channel=1, of=sentinel)
    scene.wait(11 if bad else 9)
    scene.commit(sentinel)
    scene.final_reads()
    scene.mark(Mark.END)
    return scene


def unplanned_exit(bad: bool) -> Story:
    scene = two_clients()
    scene.publish(1)
    scene.faults.append(exit_line(planned=not bad, t=scene.now))
    scene.finish()
    return scene


TWINS = {
    "L1": Twin(divergent_serial),
    "L2": Twin(duplicate_commit),
    "L2x": Twin(late_duplicate_commit),
    "L3": Twin(lost_acked, also=frozenset({"D1"})),
    "L4": Twin(log_hole),
    "L5": Twin(phantom),
    "L6": Twin(misrouted),
    "L7": Twin(corrupt),
    "L8": Twin(failed_visible),
    "L9": Twin(ack_contradiction),
    "L10": Twin(publisher_reorder),
    "L11": Twin(realtime_inversion),
    "L12": Twin(epoch_fault),
    "D1": Twin(delivery_gap),
    "D2": Twin(false_resume),
    "D3": Twin(bad_gap_notice),
    "D4": Twin(retention_breach),
    "D5": Twin(duplicate_delivery),
    "D6": Twin(delivery_reorder),
    "D7": Twin(unsolicited),
    "D8": Twin(echo),
    "D9": Twin(start_edge),
    "D10": Twin(ack_protocol),
    "V1": Twin(stalled_subscriber),
    "V2": Twin(never_reconnected),
    "V3": Twin(unacked),
    "V4": Twin(half_open),
    "V5": Twin(no_progress),
    "V6": Twin(unplanned_exit),
}

"""Golden twins: per class one minimal bad history, and its nearest legal one, a record apart.

``bad`` shows the class ``count`` times and nothing outside ``also``; ``legal`` is valid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from reports.history import Flag, Mark
from tests.builders import Story, exit_line
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
    scene.next_message(1)
    scene.send(1, 2)
    if bad:
        scene.ack(1, 2, 2)
    scene.log[1].append(None)
    scene.publish(1)
    scene.trim(1, 4)
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


def unplanned_exit(bad: bool) -> Story:
    scene = two_clients()
    scene.publish(1)
    scene.faults.append(exit_line(planned=not bad, t=scene.now))
    scene.finish()
    return scene


TWINS = {
    "L2": Twin(duplicate_commit),
    "L2x": Twin(late_duplicate_commit),
    "L3": Twin(lost_acked, also=frozenset({"D1"})),
    "L5": Twin(phantom),
    "L6": Twin(misrouted),
    "L7": Twin(corrupt),
    "D1": Twin(delivery_gap),
    "D2": Twin(false_resume),
    "D3": Twin(bad_gap_notice),
    "D4": Twin(retention_breach),
    "D5": Twin(duplicate_delivery),
    "D6": Twin(delivery_reorder),
    "V1": Twin(stalled_subscriber),
    "V2": Twin(never_reconnected),
    "V6": Twin(unplanned_exit),
}

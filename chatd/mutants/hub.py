"""Mutants of live delivery and of replays: stand-ins for ``Hub``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from msgspec import structs

from ..effects import Subscription
from ..flush import PIECE_BYTES, Flusher, Outlet
from ..hub import Channel, Hub, Push
from ..stream import Stream
from .chosen import Trigger


class OneByOne(Hub):
    """Delivers to one subscriber after the other, so that one can be treated unlike the rest."""

    def __init__(self, flusher: Flusher, *, trigger: Trigger) -> None:
        super().__init__(flusher)
        self._fires = trigger.fires

    def deliver(self, channel: Channel, pushes: Sequence[Push]) -> None:
        users = {**dict.fromkeys(channel.live), **channel.quiet}
        for outlet, user in users.items():
            for item in self.told(channel, outlet, user, pushes):
                outlet.send(item.frame)
                self.metrics.deliveries += 1

    def told(
        self, channel: Channel, outlet: Outlet, user: str | None, pushes: Sequence[Push]
    ) -> Iterable[Push]:
        """What one subscriber gets of some messages. ``user``: whose own messages it does not want."""
        return [item for item in pushes if item.user != user]


class Skipping(OneByOne):
    """Leaves live deliveries out. The subscriber's connection stays open and nothing repairs it."""

    def told(
        self, channel: Channel, outlet: Outlet, user: str | None, pushes: Sequence[Push]
    ) -> Iterable[Push]:
        return [item for item in super().told(channel, outlet, user, pushes) if not self._fires()]


class Swapping(OneByOne):
    """Holds a message back for one subscriber until the next one of the channel has gone out."""

    def __init__(self, flusher: Flusher, *, trigger: Trigger) -> None:
        super().__init__(flusher, trigger=trigger)
        self._held: dict[tuple[str, Outlet], Push] = {}

    def told(
        self, channel: Channel, outlet: Outlet, user: str | None, pushes: Sequence[Push]
    ) -> Iterable[Push]:
        place = (channel.name, outlet)
        for item in super().told(channel, outlet, user, pushes):
            late = self._held.pop(place, None)
            if late is None and self._fires():
                self._held[place] = item
                continue
            yield item
            if late is not None:
                yield late

    def leave(self, name: str, outlet: Outlet) -> None:
        self._held.pop((name, outlet), None)
        super().leave(name, outlet)


class Damaging(OneByOne):
    """Changes one byte of a message's data on its way to one subscriber. The frame stays a frame."""

    def told(
        self, channel: Channel, outlet: Outlet, user: str | None, pushes: Sequence[Push]
    ) -> Iterable[Push]:
        for item in super().told(channel, outlet, user, pushes):
            at = _letter(item.frame)
            if at and self._fires():
                frame = bytearray(item.frame)
                frame[at] ^= 1
                yield structs.replace(item, frame=bytes(frame))
            else:
                yield item


def _letter(frame: bytes) -> int:
    """Where in a message's data a letter or digit is that can be another one; 0: nowhere."""
    begin = frame.find(b'"data":') + len(b'"data":') + 1
    for at in range(begin, len(frame) - 1):
        if frame[at : at + 1].isalnum():
            return at
    return 0


class Leaking(OneByOne):
    """Sends a publisher its own message, which it asked not to get."""

    def told(
        self, channel: Channel, outlet: Outlet, user: str | None, pushes: Sequence[Push]
    ) -> Iterable[Push]:
        return [item for item in pushes if item.user != user or self._fires()]


class Dropping(OneByOne):
    """Takes a subscriber off the live list, as if it were too slow, and leaves its socket open."""

    def told(
        self, channel: Channel, outlet: Outlet, user: str | None, pushes: Sequence[Push]
    ) -> Iterable[Push]:
        if not self._fires():
            return super().told(channel, outlet, user, pushes)
        channel.live.pop(outlet, None)
        channel.quiet.pop(outlet, None)
        return ()


class Doubled(OneByOne):
    """Half of the subscribers see another message at a serial: the hub's part of ``race-serial``.

    ``twins``: by (channel, serial), the message that the other half sees; taken out when it was told.
    """

    def __init__(self, flusher: Flusher, *, trigger: Trigger) -> None:
        super().__init__(flusher, trigger=trigger)
        self.twins: dict[tuple[str, int], Push] = {}
        self._odd = False

    def deliver(self, channel: Channel, pushes: Sequence[Push]) -> None:
        self._odd = False
        super().deliver(channel, pushes)
        for item in pushes:
            self.twins.pop((channel.name, item.serial), None)

    def told(
        self, channel: Channel, outlet: Outlet, user: str | None, pushes: Sequence[Push]
    ) -> Iterable[Push]:
        self._odd = not self._odd
        if self._odd:
            pushes = [self.twins.get((channel.name, item.serial), item) for item in pushes]
        return super().told(channel, outlet, user, pushes)


class Lingering(OneByOne):
    """Delivers the next message of a channel to who has unsubscribed from it."""

    def __init__(self, flusher: Flusher, *, trigger: Trigger) -> None:
        super().__init__(flusher, trigger=trigger)
        self._left: dict[str, set[Outlet]] = {}

    def leave(self, name: str, outlet: Outlet) -> None:
        super().leave(name, outlet)
        self._left.setdefault(name, set()).add(outlet)

    def enlist(self, subscription: Subscription, outlet: Outlet) -> Channel:
        self._left.get(subscription.channel, set()).discard(outlet)
        return super().enlist(subscription, outlet)

    def deliver(self, channel: Channel, pushes: Sequence[Push]) -> None:
        super().deliver(channel, pushes)
        for outlet in self._left.pop(channel.name, ()):
            if not outlet.closed and self._fires():  # else its connection has ended, not its subscription
                outlet.send(pushes[0].frame)


class Overtaking(Hub):
    """Sends the newest message of a replay ahead of the others, as a live one that did not wait."""

    def __init__(self, flusher: Flusher, *, trigger: Trigger) -> None:
        super().__init__(flusher)
        self._fires = trigger.fires

    def _replay(self, subscription: Subscription, outlet: Outlet, pushes: Iterable[Push]) -> bool:
        pushes = list(pushes)
        fits = len(pushes) > 1 and sum(len(item.frame) for item in pushes) < PIECE_BYTES and outlet.free
        if not (fits and subscription.echo and isinstance(subscription.asked, tuple) and self._fires()):
            return super()._replay(subscription, outlet, pushes)
        subscription.cursor = pushes[-1].serial
        self.metrics.deliveries += len(pushes)
        self.metrics.replayed += len(pushes)
        return outlet.send_replayed(b"".join(item.frame for item in (pushes[-1], *pushes[:-1])))


class Repeating(Hub):
    """Sends the last message of a replay again, as the first live one."""

    def __init__(self, flusher: Flusher, *, trigger: Trigger) -> None:
        super().__init__(flusher)
        self._fires = trigger.fires

    def advance(self, channel: Channel, subscription: Subscription, outlet: Outlet) -> bool:
        if not super().advance(channel, subscription, outlet):
            return False
        asked, tail = subscription.asked, channel.tail
        assert tail is not None
        replayed = isinstance(asked, tuple) and asked[0] == channel.epoch and asked[1] < tail.top
        if replayed and tail.floor <= tail.top and self._fires():
            (last,) = tail.after(tail.top - 1, 1, 1)
            outlet.send(last.frame)
        return True


class HoledChannel(Channel):
    """A channel whose log has holes: what is not there is kept as nothing."""

    @staticmethod
    def _keep(tail: Stream[Push], item: Push) -> None:
        while tail.top + 1 < item.serial:
            tail.append(Push(tail.top + 1, "", b""), 0, 0)
        Channel._keep(tail, item)


class Holed(Hub):
    """Bears with holes: the hub's part of mutants that make them in the log."""

    channel_type = HoledChannel

    def __init__(self, flusher: Flusher, *, trigger: Trigger) -> None:
        super().__init__(flusher)


class Untold(Hub):
    """Tells nobody that the stream goes on in another epoch, from where it fell back to."""

    def __init__(self, flusher: Flusher, *, trigger: Trigger) -> None:
        super().__init__(flusher)
        self._fires = trigger.fires

    def tell_reset(self, channel: Channel, frame: bytes) -> None:
        if not self._fires():
            super().tell_reset(channel, frame)


HUBS: Final[Mapping[str, type[OneByOne | Overtaking | Repeating | Holed | Untold]]] = {
    "skip-subscriber": Skipping,
    "swap-frames": Swapping,
    "flip-byte": Damaging,
    "echo-leak": Leaking,
    "drop-subscriber": Dropping,
    "race-serial": Doubled,
    "after-unsubscribe": Lingering,
    "overtake-replay": Overtaking,
    "replay-and-live": Repeating,
    "skip-serial": Holed,
    "forget-acked": Holed,
    "no-reset": Untold,
}

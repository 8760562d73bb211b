"""Who is told of presence, typing and receipts, and when: a node with sockets that are lists."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from chatd import ephemeral as module
from chatd import presence
from chatd.effects import Subscription
from chatd.ephemeral import AGAIN_S, Ephemeral
from chatd.flush import Flusher, Outlet
from chatd.hub import Hub
from chatd.metrics import Metrics
from chatd.protocol.errors import Unknown
from chatd.protocol.messages import NULL, Presence, PresenceRequest, ReceiptNotice, TypingNotice, decode_reply
from chatd.store.base import Entry, Page
from chatd.typists import TTL_S
from tests.chatd.test_hub import split
from tests.chatd.test_presence import Watcher


class Node:
    """A hub with one channel of nine messages, and a clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[tuple[float, int, Callable[[], None]]] = []
        self.ticket = itertools.count()
        self.metrics = Metrics()
        flusher = Flusher(self.schedule, lambda: self.now, lambda outlet: None, self.metrics)
        self.hub = Hub(flusher)
        self.ephemeral = Ephemeral(self.hub, self.schedule, lambda: self.now)

    def schedule(self, delay_s: float, call: Callable[[], None]) -> None:
        heapq.heappush(self.timers, (self.now + delay_s, next(self.ticket), call))

    def move(self, seconds: float = 0.0) -> None:
        until = self.now + seconds
        while self.timers and self.timers[0][0] <= until:
            when, _, call = heapq.heappop(self.timers)
            self.now = max(self.now, when)
            call()
        self.now = until

    def settle(self) -> None:
        """Let everything happen that still has to."""
        for _ in range(1000):
            if not self.timers:
                return
            self.move(max(0.0, self.timers[0][0] - self.now))
        raise AssertionError("timers without end")


class Peer:
    """One connection of a user."""

    def __init__(self, node: Node, user: str) -> None:
        self.node, self.user = node, user
        self.frames: list[dict[str, Any]] = []
        self.outlet = Outlet(node.hub.flusher, self.take)
        self.subscription: Subscription | None = None

    def take(self, data: bytes) -> None:
        self.frames += split(data)

    def join(self, *, presence: bool = False) -> Peer:
        self.subscription = Subscription(
            "room", "new", echo=True, user=self.user, request_id=1, presence=presence
        )
        channel = self.node.hub.enlist(self.subscription, self.outlet)
        if not channel.open:
            entries = [Entry(n, 0, "ann", f"m{n}", b"1") for n in range(1, 10)]
            channel.begin(Page("E1", 9, 1, entries))
        self.subscription.cursor = 9
        assert self.node.hub.advance(channel, self.subscription, self.outlet)
        self.node.move()
        return self

    def leave(self) -> None:
        self.subscription = None
        self.node.hub.leave("room", self.outlet)
        self.node.ephemeral.left("room", self.user, self.outlet)

    def presence(self, op: Any, data: bytes = b"null") -> Presence:
        request = PresenceRequest(id=5, channel="room", op=op, data=Raw(data))
        answer = self.node.ephemeral.share(request, self.user, self.outlet)
        assert isinstance(answer, Presence)
        assert answer.id == 5
        return answer

    def type(self, on: bool = True) -> None:
        notice = TypingNotice(channel="room", on=on)
        assert self.node.ephemeral.share(notice, self.user, self.outlet) is None

    def report(self, serial: int, kind: Any = "read") -> object:
        notice = ReceiptNotice(channel="room", serial=serial, kind=kind)
        return self.node.ephemeral.share(notice, self.user, self.outlet)

    def got(self, kind: str) -> list[dict[str, Any]]:
        """The frames of this type since the last look; the others are forgotten."""
        frames, self.frames = self.frames, []
        return [frame for frame in frames if frame["type"] == kind]


def test_only_who_asked_is_told_who_is_present() -> None:
    node = Node()
    watcher, listener, member = Peer(node, "w").join(presence=True), Peer(node, "l").join(), Peer(node, "m")
    (sync,) = watcher.got("presence")
    assert (sync["version"], sync["members"]) == (0, [])
    assert member.presence("enter", b'"hi"').count == 1
    node.move(1.0)
    (push,) = watcher.got("presence")
    assert push["changes"] == [{"op": "enter", "user": "m", "data": "hi"}]
    node.ephemeral.depart("room", "m", member.outlet)
    node.move(1.0)
    (push,) = watcher.got("presence")
    assert (push["version"], push["changes"]) == (2, [{"op": "leave", "user": "m"}])
    assert listener.got("presence") == []
    assert member.got("presence") == []


def test_get_tells_who_is_present_to_anybody_and_leaves_nothing_behind() -> None:
    node = Node()
    answer = Peer(node, "x").presence("get")
    assert (answer.version, answer.count, answer.members) == (0, 0, [])
    assert len(node.ephemeral) == 0


def test_nothing_of_a_channel_comes_after_it_was_left() -> None:
    node = Node()
    watcher, other = Peer(node, "w").join(presence=True), Peer(node, "o").join()
    other.presence("enter")
    other.type()
    other.report(3)
    watcher.leave()
    watcher.frames.clear()
    node.move(10.0)
    assert watcher.frames == []


def test_typing_reaches_all_but_its_sender_and_ends_with_the_subscription() -> None:
    node = Node()
    ann, bob = Peer(node, "ann").join(), Peer(node, "bob").join()
    ann.type()
    node.move(1.5)
    (push,) = bob.got("typing")
    assert push == {"type": "typing", "channel": "room", "user": "ann", "on": True, "ttl_ms": TTL_S * 1000}
    ann.leave()
    node.move()
    assert [frame["on"] for frame in bob.got("typing")] == [False]
    assert ann.got("typing") == []


def test_typing_expires_on_the_server() -> None:
    node = Node()
    ann, bob = Peer(node, "ann").join(), Peer(node, "bob").join()
    ann.type()
    node.move(TTL_S - 0.1)
    assert [frame["on"] for frame in bob.got("typing")] == [True]
    node.move(0.2)
    assert [frame["on"] for frame in bob.got("typing")] == [False]
    node.settle()
    assert len(node.ephemeral) == 0


def test_receipts_are_pushed_together_and_given_to_who_comes_later() -> None:
    node = Node()
    ann, bob = Peer(node, "ann").join(), Peer(node, "bob").join()
    for serial in (1, 2, 3):
        assert ann.report(serial) is None
        node.move(0.05)
    node.move(1.0)
    assert [frame["marks"] for frame in bob.got("receipt")] == [
        [{"user": "ann", "read": 1}],
        [{"user": "ann", "read": 3}],
    ]
    late = Peer(node, "cyd").join()
    assert [frame["marks"] for frame in late.got("receipt")] == [[{"user": "ann", "read": 3}]]
    assert ann.report(2) is None
    node.move(1.0)
    assert bob.got("receipt") == []


def test_a_receipt_of_a_message_that_is_not_there_is_refused() -> None:
    node = Node()
    ann = Peer(node, "ann").join()
    assert isinstance(ann.report(10), Unknown)
    assert ann.report(9) is None


def test_a_connection_that_is_behind_gets_whole_states_when_it_is_free() -> None:
    node = Node()
    slow, other = Peer(node, "s").join(presence=True), Peer(node, "o").join()
    slow.frames.clear()
    slow.outlet.block(node.now)
    other.presence("enter")
    other.report(4)
    other.type()
    node.move(5.0)
    assert slow.frames == []
    assert node.metrics.dropped >= 3
    slow.outlet.unblock()
    node.move(AGAIN_S)
    frames = slow.frames
    assert [frame["members"] for frame in frames if frame["type"] == "presence"] == [[{"user": "o"}]]
    assert [frame["marks"] for frame in frames if frame["type"] == "receipt"] == [[{"user": "o", "read": 4}]]
    assert not [frame for frame in frames if frame["type"] == "typing" and frame["on"]]


def test_in_a_crowd_nobody_is_told_who_types_and_receipts_wait() -> None:
    node = Node()
    with patch.object(module, "CROWD", 2):
        peers = [Peer(node, name).join() for name in ("ann", "bob", "cyd")]
        peers[0].type()
        peers[0].report(5)
        late = Peer(node, "dan").join()
        node.move(5.0)
        assert not late.got("receipt")
        assert not peers[1].got("receipt")
        late.leave()
        peers[2].leave()
        node.move(2.0)
        (push,) = peers[1].got("receipt")
        assert push["marks"] == [{"user": "ann", "read": 5}]
        node.settle()


def test_the_marks_of_the_channel_without_news_for_longest_are_forgotten() -> None:
    node = Node()
    with patch.object(module, "MARKED", 1):
        ann = Peer(node, "ann").join()
        ann.report(5)
        node.move(1.0)
        node.ephemeral._remember("other")  # as a report there would
        node.ephemeral._room("other").marks.report("x", "read", 1, node.now)
        assert not Peer(node, "bob").join().got("receipt")


# Any sequence -----------------------------------------------------------------------------------------

OPS = ["join", "watch", "leave", "enter", "away", "type", "stop", "read", "block", "unblock", "cut"]
steps = st.lists(
    st.tuples(st.sampled_from(OPS), st.integers(0, 5), st.integers(1, 9), st.floats(0, 1.5)), max_size=50
)


class Model:
    """What should be true, beside a node to which the same happens."""

    def __init__(self) -> None:
        self.node = Node()
        self.peers = [Peer(self.node, f"u{n // 2}") for n in range(6)]  # each user has two connections
        self.present: dict[str, dict[int, object]] = {}
        self.marks: dict[str, int] = {}

    def act(self, op: str, who: int, serial: int) -> None:
        peer = self.peers[who]
        here = peer.subscription is not None
        mine = self.present.setdefault(peer.user, {})
        if op in ("join", "watch") and not here:
            peer.join(presence=op == "watch")
        elif op == "leave" and here:
            peer.outlet.unblock()  # what was queued before the end may come late
            peer.leave()
            self.node.move()
            peer.frames.clear()
        elif op == "enter":
            peer.presence("enter", b"%d" % serial)
            mine.pop(who, None)
            mine[who] = serial
        elif op == "away" and who in mine:
            peer.presence("leave")
            del mine[who]
        elif op in ("type", "stop") and here:
            peer.type(op == "type")
        elif op == "read" and here:
            peer.report(serial)
            self.marks[peer.user] = max(self.marks.get(peer.user, 0), serial)
        elif op == "block" and here:
            peer.outlet.block(self.node.now)
        elif op == "unblock":
            peer.outlet.unblock()
        elif op == "cut":
            self.cut(who)

    def cut(self, who: int) -> None:
        peer = self.peers[who]
        if peer.subscription is not None:
            peer.leave()
        if self.present.get(peer.user, {}).pop(who, None) is not None:
            self.node.ephemeral.depart("room", peer.user, peer.outlet)
        peer.outlet.close()
        self.peers[who] = Peer(self.node, peer.user)

    def check(self) -> None:
        members = {user: list(keys.values())[-1] for user, keys in self.present.items() if keys}
        for peer in self.peers:
            if peer.subscription is None:
                assert not peer.frames, "nothing for who does not listen"
                continue
            watcher, typing, read = Watcher(), dict[str, bool](), dict[str, int]()
            for frame in peer.frames:
                match frame["type"]:
                    case "presence":
                        assert peer.subscription.presence, "only for who asked"
                        watcher.hear(decode(frame))
                    case "typing":
                        typing[frame["user"]] = frame["on"]
                    case "receipt":
                        for mark in frame["marks"]:
                            read[mark["user"]] = max(read.get(mark["user"], 0), mark["read"])
            if peer.subscription.presence:
                assert not watcher.missed
                assert watcher.table == members
            assert read == self.marks


def decode(frame: dict[str, Any]) -> Presence:
    from json import dumps

    push = decode_reply(dumps(frame).encode())
    assert isinstance(push, Presence)
    return push


@settings(deadline=None, max_examples=200)
@given(steps)
def test_whatever_happens_all_who_listen_agree_with_the_truth_in_the_end(script) -> None:
    model = Model()
    for op, who, serial, pause in script:
        model.act(op, who, serial)
        model.node.move(pause)
    for peer in model.peers:
        peer.outlet.unblock()
    model.node.settle()
    model.check()
    for who in range(6):
        model.cut(who)
    model.node.settle()
    assert len(model.node.ephemeral) == bool(model.marks), "only marks stay"


@pytest.mark.parametrize("data", [b"null", b'{"a": 1.0}'])
def test_what_a_member_says_is_passed_on_byte_for_byte(data: bytes) -> None:
    node = Node()
    Peer(node, "a").presence("enter", data)
    (member,) = Peer(node, "b").presence("get").members or []
    assert bytes(member.data) == data
    assert (member.data == NULL) == (data == b"null")
    assert presence.CROWD > 1

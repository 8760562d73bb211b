"""The roster of one channel, and that all who follow it agree."""

from __future__ import annotations

import json
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from chatd import presence as module
from chatd.presence import COUNT_S, CROWD, GATHER_S, Roster
from chatd.protocol.messages import NULL, Presence, decode_reply, encode


class Watcher:
    """A client, as PROTOCOL.md § Presence describes it."""

    def __init__(self) -> None:
        self.version = -1
        self.table: dict[str, object] | None = None
        self.count = 0
        self.missed = False  # something was left out: only `members` or a count helps

    def hear(self, push: Presence) -> None:
        frame = decode_reply(encode(push))
        assert isinstance(frame, Presence)
        self.count = frame.count
        if frame.changes is None:
            self.version, self.missed = frame.version, False
            members = frame.members
            self.table = None if members is None else {m.user: json.loads(bytes(m.data)) for m in members}
        elif frame.version == self.version + 1 and not self.missed:
            assert self.table is not None, "changes need a table"
            self.version = frame.version
            for change in frame.changes:
                if change.op == "leave":
                    self.table.pop(change.user, None)
                else:
                    self.table[change.user] = json.loads(bytes(change.data))
        else:
            self.missed = True


def test_changes_are_gathered_and_pushed_as_one() -> None:
    roster = Roster[int]("room")
    roster.enter("ann", 1, NULL, 0.0)
    roster.enter("bob", 2, Raw(b"7"), 0.05)
    assert roster.due == GATHER_S
    assert roster.take(0.05) is None
    push = roster.take(GATHER_S)
    assert push is not None
    assert (push.version, push.count, push.members) == (1, 2, None)
    assert [(c.op, c.user, bytes(c.data)) for c in push.changes or []] == [
        ("enter", "ann", b"null"), ("enter", "bob", b"7")
    ]  # fmt: skip
    assert roster.due is None


def test_who_comes_back_at_once_is_not_seen_to_leave() -> None:
    roster = Roster[int]("room")
    roster.enter("ann", 1, NULL, 0.0)
    roster.take(1.0)
    roster.leave("ann", 1, 2.0)
    roster.enter("ann", 2, NULL, 2.05)
    assert roster.take(3.0) is None
    assert roster.version == 1, "a push that was not made counts nothing"


def test_a_user_goes_with_his_last_connection_and_the_data_that_is_left_shows() -> None:
    roster = Roster[int]("room")
    roster.enter("ann", 1, Raw(b"1"), 0.0)
    roster.enter("ann", 2, Raw(b"2"), 0.0)
    roster.take(1.0)
    roster.leave("ann", 2, 2.0)
    push = roster.take(3.0)
    assert push is not None
    assert [(c.op, bytes(c.data)) for c in push.changes or []] == [("update", b"1")]
    roster.leave("ann", 1, 4.0)
    push = roster.take(5.0)
    assert push is not None
    assert [c.op for c in push.changes or []] == ["leave"]
    assert roster.empty


def test_leaving_without_being_there_is_nothing() -> None:
    roster = Roster[int]("room")
    roster.leave("ann", 1, 0.0)
    assert roster.due is None


def test_above_the_crowd_only_the_number_is_told_once_a_second() -> None:
    roster = Roster[int]("room")
    for n in range(CROWD + 1):
        roster.enter(f"u{n}", n, NULL, 0.0)
    push = roster.take(GATHER_S)
    assert push is not None
    assert (push.count, push.members, push.changes) == (CROWD + 1, None, None)
    assert roster.sync().members is None
    for n in range(50):
        roster.enter(f"more{n}", 1000 + n, NULL, 0.2 + n / 100)
    assert roster.due == GATHER_S + COUNT_S
    push = roster.take(GATHER_S + COUNT_S)
    assert push is not None
    assert push.count == CROWD + 51
    for n in range(60):
        roster.leave(f"u{n}", n, 2.0)
    push = roster.take(roster.due or 0.0)
    assert push is not None
    assert len(push.members or []) == push.count == CROWD - 9, "few again: the list comes whole"


def test_the_sync_of_a_request_carries_its_id() -> None:
    roster = Roster[int]("room")
    assert roster.sync(7) == Presence(channel="room", version=0, count=0, id=7, members=[])
    assert roster.sync().id is None


steps = st.lists(
    st.tuples(
        st.sampled_from(["enter", "enter", "enter", "leave", "leave", "take", "join"]),
        st.sampled_from(["ann", "bob", "cyd", "dan", "eve"]),
        st.integers(0, 3),  # connection
        st.sampled_from([b"null", b"1", b'"x"']),
        st.floats(0, 2),
    ),
    max_size=40,
)


@settings(deadline=None)
@given(steps)
def test_whoever_joins_whenever_all_watchers_agree_in_the_end(script) -> None:
    with patch.object(module, "CROWD", 3):
        follow(script, crowd=3)


def follow(script: list[tuple[str, str, int, bytes, float]], crowd: int) -> None:
    roster, now, watchers = Roster[object]("room"), 0.0, []
    truth: dict[str, dict[object, object]] = {}

    def act(op: str, user: str, key: object, data: bytes) -> None:
        if op == "enter":
            roster.enter(user, key, Raw(data), now)
            truth.setdefault(user, {}).pop(key, None)
            truth[user][key] = json.loads(data)
        else:
            roster.leave(user, key, now)
            truth.get(user, {}).pop(key, None)

    def take() -> None:
        push = roster.take(now)
        for watcher in watchers if push is not None else ():
            watcher.hear(push)

    for op, user, key, data, pause in script:
        now += pause
        if op == "take":
            take()
        elif op == "join":
            watchers.append(Watcher())
            watchers[-1].hear(roster.sync())
        else:
            act(op, user, key, data)
    while roster.due is not None:
        now = max(now, roster.due)
        take()
    members = {user: list(keys.values())[-1] for user, keys in truth.items() if keys}
    assert len(roster) == len(members)
    for watcher in watchers:
        assert not watcher.missed
        assert watcher.count == len(members)
        assert watcher.table == (members if len(members) <= crowd else None)

"""Who is typing: expiry, throttle, and that the last state always comes through."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from chatd.typists import THROTTLE_S, TTL_S, TYPISTS, Typists


def turns(typists: Typists[int], now: float) -> list[tuple[str, bool]]:
    return [(turn.user, turn.on) for turn in typists.take(now)]


def test_the_first_key_is_told_at_once_and_its_sender_named() -> None:
    typists = Typists[int]()
    typists.type("ann", 1, 5.0)
    assert typists.due == 5.0
    (turn,) = typists.take(5.0)
    assert (turn.user, turn.on, turn.senders) == ("ann", True, frozenset({1}))


def test_a_typist_expires_by_himself_and_is_forgotten() -> None:
    typists = Typists[int]()
    typists.type("ann", 1, 0.0)
    typists.take(0.0)
    assert typists.due == TTL_S
    (turn,) = typists.take(TTL_S)
    assert (turn.on, turn.senders) == (False, frozenset({1}))
    assert turns(typists, TTL_S + THROTTLE_S) == []
    assert typists.due is None


def test_who_goes_on_typing_is_told_again_but_not_more_than_once_a_throttle() -> None:
    typists = Typists[int]()
    told = 0
    for tenth in range(100):
        typists.type("ann", 1, tenth / 10)
        told += len(turns(typists, tenth / 10))
    assert told == 10 / THROTTLE_S


def test_a_flicker_is_told_once_and_its_last_state_when_the_throttle_is_over() -> None:
    typists = Typists[int]()
    typists.type("ann", 1, 0.0)
    assert turns(typists, 0.0) == [("ann", True)]
    for n in range(1, 6):
        typists.stop("ann", 1)
        assert turns(typists, n / 10) == []
        if n < 5:
            typists.type("ann", 1, n / 10)
    assert typists.due == THROTTLE_S
    assert turns(typists, THROTTLE_S) == [("ann", False)]


def test_a_user_types_while_one_of_his_connections_does() -> None:
    typists = Typists[int]()
    typists.type("ann", 1, 0.0)
    typists.type("ann", 2, 0.0)
    typists.take(0.0)
    typists.stop("ann", 1)
    assert turns(typists, 2.0) == []
    typists.stop("ann", 2)
    assert turns(typists, 3.0) == [("ann", False)]


def test_of_very_many_only_some_are_shown() -> None:
    typists = Typists[int]()
    for n in range(TYPISTS + 5):
        typists.type(f"u{n}", n, 0.0)
    assert len(turns(typists, 0.0)) == TYPISTS


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["type", "stop"]),
            st.sampled_from(["ann", "bob"]),
            st.integers(0, 1),
            st.floats(0, 3),
        ),
        max_size=30,
    )
)
def test_what_is_shown_ends_as_the_truth_and_nothing_is_told_too_often(script) -> None:
    typists, now = Typists[int](), 0.0
    shown: dict[str, bool] = {}
    told: dict[str, float] = {}

    def take() -> None:
        for user, on in turns(typists, now):
            assert on or shown.get(user), "a stop is told only of who was shown"
            assert now - told.get(user, -THROTTLE_S) >= THROTTLE_S - 1e-9
            shown[user], told[user] = on, now

    for op, user, key, pause in script:
        until = now + pause
        while (due := typists.due) is not None and due <= until:
            now = max(now, due)
            take()
        now = until
        if op == "type":
            typists.type(user, key, now)
        else:
            typists.stop(user, key)
        take()
    for _ in range(20):
        if (due := typists.due) is None:
            break
        now = max(now, due)
        take()
    assert typists.due is None, "an idle channel costs nothing"
    assert not any(shown.values()), "nobody types for ever"

"""Which publishes must come first: against a list of what failed, in the order in which it was sent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatd.order import BLOCKS, Order
from chatd.protocol.errors import OutOfOrder

CHANNELS, MESSAGES = st.sampled_from(["a", "b"]), st.sampled_from(["m1", "m2", "m3", "m4"])
STEPS = st.tuples(st.sampled_from(["failed", "settled", "abandon"]), CHANNELS, MESSAGES, st.integers(0, 9))


@given(st.lists(STEPS, max_size=40))
def test_the_oldest_that_failed_is_the_only_one_that_may_go(steps) -> None:
    order, model = Order(), dict[tuple[str, str], int]()
    for what, channel, message, request_id in steps:
        if what == "failed":
            order.failed(channel, message, request_id)
            model.setdefault((channel, message), request_id)
        elif what == "settled":
            order.settled(channel, message)
            model.pop((channel, message), None)
        else:
            order.abandon(message)
            model = {key: value for key, value in model.items() if key[1] != message}
        assert order.count == len(model)
        for place in "ab":
            waiting = sorted((value, key[1]) for key, value in model.items() if key[0] == place)
            for candidate in ("m1", "m2", "m3", "m4"):
                if waiting and candidate != waiting[0][1]:
                    with pytest.raises(OutOfOrder, match=waiting[0][1]):
                        order.check(place, candidate, 10)
                else:
                    order.check(place, candidate, 10)


def test_what_was_sent_before_is_not_blocked() -> None:
    order = Order()
    order.failed("room", "m3", 3)
    order.check("room", "m2", 2)
    with pytest.raises(OutOfOrder):
        order.check("room", "m4", 4)


def test_what_can_wait_is_bounded() -> None:
    order = Order()
    for number in range(BLOCKS):
        order.failed(f"c{number}", "m", number)
    assert not order.overfull
    order.failed("one more", "m", BLOCKS)
    assert order.overfull

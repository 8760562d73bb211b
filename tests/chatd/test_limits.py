"""Token buckets, against a bucket that is filled step by step."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatd.limits import NO_QUOTA, SWEEP, ChannelRates, Quota, Rate
from chatd.protocol.errors import RateLimited


def quota(per_s: float = 0, burst: int = 1, *, channel_per_s: float = 0, channel_burst: int = 1) -> Quota:
    return Quota(Rate(per_s, burst), ChannelRates(Rate(channel_per_s, channel_burst)))


@given(st.integers(1, 50), st.integers(1, 20), st.lists(st.integers(0, 1000), max_size=80))
def test_a_bucket_holds_what_is_filled_in_and_no_more(per_s: int, burst: int, waits_ms: list[int]) -> None:
    rate, full_at, now_ms, tokens = Rate(per_s, burst), 0.0, 0, 1000 * burst  # thousandths of a token
    for wait_ms in waits_ms:
        now_ms += wait_ms
        tokens = min(1000 * burst, tokens + wait_ms * per_s)
        wait_s, full_at = rate.take(full_at, 100 + now_ms / 1000)
        if tokens >= 1000:
            assert wait_s == 0
            tokens -= 1000
        else:
            assert wait_s == pytest.approx((1000 - tokens) / 1000 / per_s, abs=2e-6)


def test_after_the_wait_that_was_told_there_is_one() -> None:
    limited, now = quota(3, 2), 10.0
    for _ in range(2):
        limited.take("a", now)
    for _ in range(100):
        with pytest.raises(RateLimited) as refused:
            limited.take("a", now)
        assert refused.value.temporary
        assert refused.value.after_ms is not None
        now += refused.value.after_ms / 1000
        limited.take("a", now)


def test_a_channel_has_one_bucket_for_all() -> None:
    shared = ChannelRates(Rate(1, 2))
    ann, bob = Quota(Rate(0, 1), shared), Quota(Rate(0, 1), shared)
    ann.take("room", 1.0)
    bob.take("room", 1.0)
    with pytest.raises(RateLimited, match="channel 'room' may take 1 publishes a second, 2 at once"):
        ann.take("room", 1.0)
    ann.take("other", 1.0)


def test_channels_at_rest_are_forgotten() -> None:
    shared = ChannelRates(Rate(10, 1))
    for number in range(5 * SWEEP):
        shared.take(f"c{number}", float(number))
    assert len(shared) <= SWEEP + 1


def test_no_limit_is_no_limit_and_keeps_nothing() -> None:
    for number in range(1000):
        NO_QUOTA.take(f"c{number}", 0.0)
    assert len(NO_QUOTA._channels) == 0

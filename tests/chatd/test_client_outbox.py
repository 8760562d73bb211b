"""Publishes: each is answered once, and their order survives what fails."""

from __future__ import annotations

import random

import msgspec
import pytest

from chatd.client_actions import (
    Done,
    Failed,
    Hangup,
)
from chatd.client_core import ANSWER_S, ClientCore
from chatd.protocol import messages as m
from chatd.protocol.errors import (
    ChatdError,
    IdReused,
    Internal,
    TooLarge,
)
from tests.chatd.driven_client import HOME, ROOM, Driven, ack, error, published


def test_publishes_go_out_without_waiting_for_each_other() -> None:
    client = Driven()
    client.connect()
    for n in (1, 2, 3):
        client.publish(n)
    one, two, _ = client.take()
    assert client.feed(ack(two, 2), ack(one, 1)) == [Done("pub 2", ack(two, 2)), Done("pub 1", ack(one, 1))]
    client.close()
    client.connect()
    (again,) = client.take()
    assert isinstance(again, m.Publish)
    assert (again.message, bytes(again.data)) == ("m3", b"3")
    assert client.feed(ack(again, 3, duplicate=True)) == [Done("pub 3", ack(again, 3, duplicate=True))]


def test_second_ack_of_a_message_is_ignored() -> None:
    client = Driven()
    client.connect()
    client.publish(1)
    (one,) = client.take()
    client.feed(ack(one, 1))
    assert client.feed(ack(one, 1)) == []
    assert client.core.wasted == 1


def test_message_ids_are_fresh_and_unlike_those_of_another_client() -> None:
    ids = set()
    for seed in (1, 2):
        core: ClientCore[str] = ClientCore(HOME, random.Random(seed))
        core.tick(0.0)
        for n in range(3):
            core.publish(ROOM, msgspec.Raw(b"0"), str(n), 0.0)
        ids |= {message for message, _ in core._publishes._outbox.pending()}
    assert len(ids) == 6


def test_id_that_is_still_open_is_refused_to_the_caller() -> None:
    client = Driven()
    client.publish(1)
    with pytest.raises(ValueError, match="message is 'm1'"):
        client.publish(1)


@pytest.mark.parametrize("code", [429, 503, 504])
def test_after_a_temporary_error_the_oldest_goes_alone_and_then_the_rest(code: int) -> None:
    client = Driven()
    client.connect()
    for n in (1, 2, 3):
        client.publish(n)
    client.publish(4, "room:2")
    one, two, three, other = client.take()
    assert client.feed(error(one, code, after_ms=500)) == []
    client.publish(5)
    client.publish(6, "room:2")
    assert published(client) == ["m6"], "the other channel goes on"
    client.feed(error(two, 412))
    client.tick(0.5)
    assert published(client) == [], "an answer is still under way"
    client.feed(error(three, 412))
    (probe,) = client.take()
    assert isinstance(probe, m.Publish)
    assert probe.message == "m1"
    client.publish(7)
    assert published(client) == []
    client.feed(ack(probe, 1), ack(other, 1))
    assert published(client) == ["m2", "m3", "m5", "m7"]


def test_ack_of_an_earlier_publish_does_not_cut_the_wait_short() -> None:
    client = Driven()
    client.connect()
    for n in (1, 2, 3):
        client.publish(n)
    one, two, three = client.take()
    client.feed(error(two, 503, after_ms=500), error(three, 412), ack(one, 1))
    assert published(client) == []
    client.tick(0.5)
    assert published(client) == ["m2"]


def test_new_connection_waits_for_no_block_of_the_old_one() -> None:
    client = Driven()
    client.connect()
    client.publish(1)
    client.publish(2)
    one, two = client.take()
    client.feed(error(one, 503, after_ms=60_000), error(two, 412))
    client.close()
    client.connect()
    assert published(client) == ["m1", "m2"]


def test_repeated_temporary_errors_back_off_and_keep_order() -> None:
    client = Driven()
    client.connect()
    client.publish(1)
    client.publish(2)
    one, two = client.take()
    client.feed(error(one, 503), error(two, 503))
    for attempt in range(5):
        wake_s = client.core.wake_s
        assert wake_s is not None
        assert wake_s <= client.now_s + 0.5 * 2**attempt
        client.tick(wake_s)
        (probe,) = client.take()
        assert isinstance(probe, m.Publish)
        assert probe.message == "m1"
        client.feed(error(probe, 503))


def test_412_without_a_failure_of_ours_is_answered_by_the_oldest() -> None:
    client = Driven()
    client.connect()
    client.publish(1)
    client.publish(2)
    one, two = client.take()
    client.feed(ack(one, 1), error(two, 412))
    assert published(client) == ["m2"]


def test_412_to_the_oldest_sent_alone_needs_a_new_connection() -> None:
    client = Driven()
    client.connect()
    client.publish(1)
    (one,) = client.take()
    client.feed(error(one, 412))
    (probe,) = client.take()
    (hangup,) = client.feed(error(probe, 412))
    assert isinstance(hangup, Hangup)
    client.close()
    client.connect()
    assert published(client) == ["m1"]


@pytest.mark.parametrize(
    ("code", "cls", "definite"),
    [
        pytest.param(409, IdReused, True, id="id reused"),
        pytest.param(500, Internal, False, id="a bug of the server: perhaps"),
        pytest.param(499, Internal, False, id="a code of a later version: perhaps"),
    ],
)
def test_final_error_fails_the_publish_and_sets_no_block(
    code: int, cls: type[ChatdError], definite: bool
) -> None:
    client = Driven()
    client.connect()
    client.publish(1)
    client.publish(2)
    one, two = client.take()
    (failed,) = client.feed(error(one, code))
    assert isinstance(failed, Failed)
    assert type(failed.error) is cls
    assert failed.error.definite is definite
    client.publish(3)
    assert published(client) == ["m3"]
    assert client.feed(ack(two, 1))


def test_frame_above_the_limit_is_never_sent() -> None:
    client = Driven()
    client.publish(1, data=b'"' + b"x" * 1000 + b'"')
    client.publish(2)
    client.connect()
    failed = [action for action in client.actions if isinstance(action, Failed)]
    assert [type(action.error) for action in failed] == [TooLarge]
    assert published(client) == ["m2"]
    client.now_s = ANSWER_S
    client.feed(ack(m.Publish(id=3, channel=ROOM, message="m2", data=msgspec.Raw(b"2")), 1))
    assert client.tick(ANSWER_S) == [], "and nobody waits for its answer"


def test_too_large_oldest_of_a_blocked_channel_does_not_hold_up_the_rest() -> None:
    client = Driven()
    client.connect()
    client.publish(1)
    (one,) = client.take()
    client.feed(error(one, 503, after_ms=100))
    client.publish(2)
    assert client.core.server is not None
    client.core.server = msgspec.structs.replace(
        client.core.server, limits=m.Limits(frame_bytes=10, channels=1)
    )
    client.tick(0.1)
    assert [type(a.error) for a in client.actions if isinstance(a, Failed)] == [TooLarge, TooLarge]

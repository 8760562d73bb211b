"""The body of a message: identity, digest, and what a damaged one is taken for."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.body import decode_body, doubted, encode_body, identify, padding_of
from reports.history import Flag

NONCE = 0x1122334455667788
BODY = encode_body(
    nonce=NONCE, channel=3, publisher=41, pub_seq=7, scheduled_ns=123_456_789_000, body_bytes=20
)


@given(
    nonce=st.integers(0, 2**64 - 1),
    channel=st.integers(0, 2**32 - 1),
    publisher=st.integers(0, 2**32 - 1),
    pub_seq=st.integers(0, 2**32 - 1),
    scheduled_ns=st.integers(-(2**63), 2**63 - 1),
    body_bytes=st.integers(0, 300),
)
def test_what_is_encoded_is_decoded(
    nonce: int, channel: int, publisher: int, pub_seq: int, scheduled_ns: int, body_bytes: int
) -> None:
    text = encode_body(
        nonce=nonce,
        channel=channel,
        publisher=publisher,
        pub_seq=pub_seq,
        scheduled_ns=scheduled_ns,
        body_bytes=body_bytes,
    )
    assert decode_body(text) == (nonce, channel, publisher, pub_seq, scheduled_ns, True)
    assert len(text) == 66 + body_bytes
    assert isinstance(msgspec.json.decode(text), str)


def test_a_raw_json_value_is_read_without_a_copy_of_the_caller() -> None:
    frame = msgspec.json.decode(b'{"data":' + BODY + b"}", type=dict[str, msgspec.Raw])
    assert identify(frame["data"], NONCE) == (41, 7, 123_456_789_000, 0)


@given(position=st.integers(1, len(BODY) - 2), flip=st.integers(1, 255))
def test_any_changed_byte_is_seen_and_never_taken_for_another_message(position: int, flip: int) -> None:
    damaged = bytearray(BODY)
    damaged[position] ^= flip
    assert identify(bytes(damaged), NONCE)[3] == Flag.BAD_DIGEST


@given(
    edits=st.lists(
        st.tuples(st.integers(0, len(BODY)), st.integers(0, 3), st.binary(max_size=3)), max_size=3
    ),
    nonce=st.sampled_from([NONCE, NONCE + 1]),
    upper=st.booleans(),
)
def test_the_short_way_says_what_the_long_way_says(
    edits: list[tuple[int, int, bytes]], nonce: int, upper: bool
) -> None:
    raw = BODY.upper() if upper else BODY
    for position, cut, put in edits:
        raw = raw[:position] + put + raw[position + cut :]
    assert identify(raw, nonce) == identify(raw, nonce, *padding_of(20)) == doubted(raw, nonce)


@pytest.mark.parametrize("expected", [0, 19, 20, 21])
def test_a_padding_that_is_not_the_expected_one_is_digested(expected: int) -> None:
    damaged = BODY[:70] + b"," + BODY[71:]
    assert identify(BODY, NONCE, *padding_of(expected)) == (41, 7, 123_456_789_000, 0)
    assert identify(damaged, NONCE, *padding_of(expected))[3] == Flag.BAD_DIGEST


@given(st.binary(max_size=200))
def test_so_it_is_of_any_bytes(raw: bytes) -> None:
    assert identify(raw, NONCE, *padding_of(20)) == doubted(raw, NONCE)


def test_a_message_of_another_run_is_foreign() -> None:
    assert identify(BODY, NONCE + 1) == (41, 7, 123_456_789_000, Flag.FOREIGN)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b'"hello"', id="somebody else's text"),
        pytest.param(b"null", id="no text"),
        pytest.param(b'{"text":"' + b"a" * 80 + b'"}', id="an object"),
        pytest.param(b'"' + b"the quick brown fox jumps over the lazy dog " * 3 + b'"', id="a long text"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_a_body_without_our_identity_is_foreign_and_names_nobody(raw: bytes) -> None:
    assert identify(raw, NONCE) == (0, 0, 0, Flag.FOREIGN)


def test_an_upper_case_digit_is_damage_although_it_decodes() -> None:
    shouted = BODY[:1] + BODY[1:65].upper() + BODY[65:]
    assert shouted != BODY
    body = decode_body(shouted)
    assert body is not None
    assert not body.digest_ok


def test_digits_without_a_letter_are_in_order() -> None:
    for pub_seq in range(2000):
        text = encode_body(nonce=0, channel=0, publisher=0, pub_seq=pub_seq, scheduled_ns=0, body_bytes=0)
        body = decode_body(text)
        assert body is not None
        assert body.digest_ok

"""Answers over HTTP/1.1 and server-sent events, however their bytes are cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.http1 import DONE, MAX_HEAD_BYTES, Answers, BadAnswer, Event, Events, Head, Part

SIZED = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A:  b \r\n\r\nhello"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5;x=y\r\nhello\r\n1\r\n!\r\n0\r\nTrailer: 1\r\n\r\n"
)
EMPTY = b"HTTP/1.1 204 No Content\r\n\r\n"


def told(parts: list[Part]) -> list[object]:
    """Statuses, bodies as one, and ends."""
    seen: list[object] = []
    for part in parts:
        if isinstance(part, bytes) and seen and isinstance(seen[-1], bytes):
            seen[-1] += part
        else:
            seen.append(part.status if isinstance(part, Head) else part)
    return seen


def feed(data: bytes, cuts: list[int]) -> list[Part]:
    answers, parts, at = Answers(), [], 0
    for cut in [*sorted(cuts), len(data)]:
        parts += list(answers.feed(data[at:cut]))
        at = cut
    return parts


@given(cuts=st.lists(st.integers(0, len(SIZED + CHUNKED + EMPTY + SIZED)), max_size=12))
def test_answers_are_the_same_however_they_are_cut(cuts: list[int]) -> None:
    parts = feed(SIZED + CHUNKED + EMPTY + SIZED, cuts)
    assert told(parts) == [200, b"hello", DONE, 200, b"hello!", DONE, 204, DONE, 200, b"hello", DONE]


def test_fields_are_read_without_white_space_and_by_any_case() -> None:
    (head, *_) = Answers().feed(SIZED)
    assert isinstance(head, Head)
    assert head.fields == {"content-length": "5", "x-a": "b"}
    assert head.keeps


def test_a_body_without_a_length_lasts_to_the_end_of_the_connection() -> None:
    answers = Answers()
    parts = list(answers.feed(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall "))
    parts += list(answers.feed(b"of it"))
    assert told(parts) == [200, b"all of it"]
    assert isinstance(parts[0], Head)
    assert not parts[0].keeps
    assert answers.ended() is DONE
    assert Answers().ended() is None


def test_an_interim_answer_is_passed_over() -> None:
    assert told(list(Answers().feed(b"HTTP/1.1 100 Continue\r\n\r\n" + SIZED))) == [200, b"hello", DONE]


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-x\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
        b"x" * (MAX_HEAD_BYTES + 5),
    ],
)
def test_what_is_no_answer_is_told(data: bytes) -> None:
    with pytest.raises(BadAnswer):
        list(Answers().feed(data))


@given(st.binary(max_size=300))
def test_whatever_comes_ends_in_parts_or_in_a_bad_answer(data: bytes) -> None:
    try:
        list(Answers().feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + data))
    except BadAnswer:
        return


STREAM = b'retry: 500\n\nid: {"a":["E",1]}\nevent: live\ndata: {"x":1}\n\n:\n\ndata: one\ndata: two\n\n'


@given(cuts=st.lists(st.integers(0, len(STREAM)), max_size=8))
def test_events_are_the_same_however_they_are_cut(cuts: list[int]) -> None:
    events, seen, at = Events(), [], 0
    for cut in [*sorted(cuts), len(STREAM)]:
        seen += list(events.feed(STREAM[at:cut]))
        at = cut
    assert seen == [Event(b"live", b'{"x":1}'), Event(b"message", b"one\ntwo")]

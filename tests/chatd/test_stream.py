"""The stream against a model so simple that it is right by inspection; and where subscribers begin."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatd.protocol.messages import GapInfo, Last, Position
from chatd.store.base import Head, Retention
from chatd.stream import Start, Stream, locate

HEAD = Head("E1", 57, 40)
EMPTY = Head("E1", 0, 1)
ALL_TRIMMED = Head("E1", 57, 58)


def gap(why: str, asked: tuple[str, int], to: tuple[str, int]) -> GapInfo:
    return GapInfo(why=why, from_=asked, to=to)


@pytest.mark.parametrize(
    ("asked", "head", "start"),
    [
        pytest.param("new", HEAD, Start(57, False), id="new: after the top"),
        pytest.param("new", EMPTY, Start(0, False), id="new on an empty channel"),
        pytest.param("first", HEAD, Start(39, False), id="first: all that is retained"),
        pytest.param("first", ALL_TRIMMED, Start(57, False), id="first when all is trimmed"),
        pytest.param(Last(5), HEAD, Start(52, False), id="last n"),
        pytest.param(Last(500), HEAD, Start(39, False), id="last n, more than retained"),
        pytest.param(Last(0), HEAD, Start(57, False), id="last 0 is new"),
        pytest.param(("E1", 57), HEAD, Start(57, True), id="at the top: nothing missed"),
        pytest.param(("E1", 41), HEAD, Start(41, True), id="inside"),
        pytest.param(("E1", 39), HEAD, Start(39, True), id="just before the floor: nothing is missing"),
        pytest.param(("E1", 57), ALL_TRIMMED, Start(57, True), id="at the top though all is trimmed"),
        pytest.param(("E1", 0), EMPTY, Start(0, True), id="zero on an empty channel"),
        pytest.param(
            ("E1", 38), HEAD,
            Start(39, False, gap("trimmed", ("E1", 38), ("E1", 39))), id="one trimmed",
        ),
        pytest.param(
            ("E1", 58), HEAD,
            Start(57, False, gap("ahead", ("E1", 58), ("E1", 57))), id="ahead of the top",
        ),
        pytest.param(
            ("E0", 45), HEAD,
            Start(39, False, gap("epoch", ("E0", 45), ("E1", 39))), id="another life: from the floor",
        ),
        pytest.param(
            ("E0", 9), EMPTY,
            Start(0, False, gap("epoch", ("E0", 9), ("E1", 0))), id="another life, nothing yet",
        ),
    ],
)  # fmt: skip
def test_a_subscriber_begins_where_it_asked_or_is_told_exactly_what_is_missing(asked, head, start) -> None:
    assert locate(asked, head) == start


heads = st.tuples(st.integers(0, 30), st.integers(0, 31)).map(
    lambda pair: Head("E1", pair[0], min(pair[1], pair[0]) + 1)
)


@given(heads, st.integers(0, 40))
def test_what_is_delivered_and_what_is_declared_missing_leave_no_serial_out(head, asked) -> None:
    start = locate(("E1", asked), head)
    delivered = set(range(start.serial + 1, head.top + 1))
    missing = set(range(asked + 1, start.gap.to[1] + 1)) if start.gap else set()
    assert delivered | missing == set(range(asked + 1, head.top + 1))
    assert not delivered & missing
    assert start.resumed == (start.gap is None)
    assert start.serial >= head.floor - 1, "delivery never begins below the floor"


class Model:
    """Every item that was ever appended, and which of them are forgotten."""

    def __init__(self, retention: Retention) -> None:
        self.retention = retention
        self.items: list[tuple[int, int, int]] = []  # serial, size, time
        self.floor = 1

    def append(self, size: int, time: int) -> int:
        self.items.append((len(self.items) + 1, size, time))
        return len(self.items)

    def held(self) -> list[tuple[int, int, int]]:
        return [item for item in self.items if item[0] >= self.floor]

    def trim(self, now: int) -> bool:
        before = self.floor
        while (held := self.held()) and (
            len(held) > self.retention.n
            or sum(size for _, size, _ in held) > self.retention.bytes
            or held[0][2] < now - self.retention.s * 1000
        ):
            self.floor += 1
        return self.floor != before

    def after(self, serial: int, limit: int, max_bytes: int) -> list[int]:
        taken: list[int] = []
        total = 0
        for number, size, _ in self.held():
            if number <= serial or len(taken) == limit:
                continue
            taken.append(number)
            total += size
            if total >= max_bytes:
                break
        return taken


steps = st.one_of(
    st.tuples(st.just("append"), st.integers(0, 50), st.integers(0, 2000)),
    st.tuples(st.just("trim"), st.integers(0, 5000), st.just(0)),
    st.tuples(st.just("after"), st.integers(0, 200), st.tuples(st.integers(0, 9), st.integers(1, 200))),
)


@given(
    st.builds(Retention, n=st.integers(1, 8), s=st.sampled_from([1, 5, math.inf]), bytes=st.integers(1, 200)),
    st.lists(steps, max_size=200),
)
def test_a_stream_is_its_model(retention, script) -> None:
    stream, model, now = Stream[int](retention), Model(retention), 0
    for what, a, b in script:
        if what == "append":
            now += b
            assert stream.append(stream.top + 1, a, now) == model.append(a, now)
        elif what == "trim":
            now += a
            assert stream.trim(now) == model.trim(now)
        else:
            assert stream.after(a, *b) == model.after(a, *b)
        assert (stream.top, stream.floor) == (len(model.items), model.floor)
        assert stream.bytes == sum(size for _, size, _ in model.held())


def test_a_long_stream_does_not_keep_what_it_forgot() -> None:
    stream = Stream[int](Retention(n=10, s=math.inf, bytes=1 << 40))
    for n in range(10_000):
        stream.append(n, 1, 0)
        stream.trim(0)
    assert len(stream._items) < 200
    assert stream.after(0, 3, 1 << 40) == [9990, 9991, 9992]


FORKED = Head("E3", 120, 40, (("E1", 1), ("E2", 101), ("E3", 91)))


@pytest.mark.parametrize(
    ("asked", "start"),
    [
        pytest.param(("E1", 90), Start(90, True), id="at the fork: the same place in both epochs"),
        pytest.param(("E1", 60), Start(60, True), id="before the fork"),
        pytest.param(("E2", 90), Start(90, True), id="of the epoch between"),
        pytest.param(("E1", 91), ("fork", ("E3", 90)), id="given up by a later fork than its own"),
        pytest.param(("E2", 105), ("fork", ("E3", 90)), id="after the fork"),
        pytest.param(("E0", 5), ("epoch", ("E3", 39)), id="an epoch that is none of this stream's"),
        pytest.param(("E1", 20), ("trimmed", ("E3", 39)), id="before the fork, and no longer retained"),
        pytest.param(("E3", 121), ("ahead", ("E3", 120)), id="of this epoch, and after its head"),
    ],
)
def test_a_position_of_an_earlier_epoch_holds_up_to_the_fork(
    asked: Position, start: Start | tuple[str, Position]
) -> None:
    found = locate(asked, FORKED)
    if isinstance(start, Start):
        assert found == start
    else:
        assert found.gap is not None
        assert (found.gap.why, found.gap.from_, found.gap.to) == (start[0], asked, start[1])
        assert (found.serial, found.resumed) == (start[1][1], False)

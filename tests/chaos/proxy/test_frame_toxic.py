"""The toxic that acts on messages, as a value: matching, counting, draws, actions, and what it gives back."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chaos.proxy.body import ApiError, new_toxic
from chaos.proxy.chain import ActiveToxic, Chain
from chaos.proxy.frame_view import load_view
from chaos.proxy.frames import frame
from chaos.proxy.toxics.base import End
from tests.conformance.frame_probes import CLOSE, HEADS, PING, PONG, TEXT, VIEW, parsed, written

DOWN = "downstream"
HEAD = HEADS[DOWN]
CHATD = load_view(VIEW)


def toxic(action: str = "drop", **attributes: Any) -> ActiveToxic:
    return new_toxic({"type": "frame", "name": "f", "attributes": {"action": action, **attributes}})


def message(serial: int, channel: str = "r", kind: str = "message") -> bytes:
    return b'{"type":"%s","channel":"%s","serial":%d,"data":"text%d"}' % (
        kind.encode(), channel.encode(), serial, serial,
    )  # fmt: skip


class Line:
    """One direction of one connection with one toxic on it, from its upgrade."""

    def __init__(
        self,
        active: ActiveToxic,
        *,
        direction: str = DOWN,
        view: Any = CHATD,
        whose: tuple[object, ...] = (1,),
        seed: int = 3,
    ) -> None:
        self.active, self.direction = active, direction
        self.events: list[dict[str, Any]] = []
        self.chain = Chain(
            seed, 1, direction, view=view, whose=lambda: whose, emit=lambda **event: self.events.append(event)
        )
        assert self.chain.change([active], 0.0) == []
        assert self.raw(HEADS[direction]) == HEADS[direction]

    def raw(self, data: bytes, now: float = 0.0) -> bytes:
        self.chain.feed(data, now)
        return b"".join(item for item in self.chain.run(now) if isinstance(item, bytes))

    def send(self, *payloads: bytes, opcode: int = TEXT, now: float = 0.0) -> list[bytes]:
        got = self.raw(b"".join(written(payload, self.direction, opcode) for payload in payloads), now)
        return [each.payload for each in parsed(got)]

    def rest(self) -> list[Any]:
        return self.chain.change([], 9.0)


MESSAGES = [message(n) for n in range(1, 13)]


@pytest.mark.parametrize(
    ("rule", "gone"),
    [
        pytest.param({}, range(12), id="all"),
        pytest.param({"after": 3}, range(3, 12), id="after three"),
        pytest.param({"every": 5}, (0, 5, 10), id="each fifth"),
        pytest.param({"after": 1, "every": 5}, (1, 6, 11), id="each fifth after one"),
        pytest.param({"times": 2}, (0, 1), id="twice"),
        pytest.param({"after": 2, "every": 3, "times": 2}, (2, 5), id="all three"),
        pytest.param({"type": "ack"}, (), id="another type"),
        pytest.param({"type": "message", "channel": "r"}, range(12), id="type and channel"),
        pytest.param({"channel": "other"}, (), id="another channel"),
        pytest.param({"opcode": "binary"}, (), id="another opcode"),
        pytest.param({"opcode": "text"}, range(12), id="the opcode"),
        pytest.param({"opcode": "any"}, range(12), id="any opcode"),
    ],
)
def test_a_rule_takes_these_messages(rule, gone):
    line = Line(toxic(**rule))
    left = [payload for nth, payload in enumerate(MESSAGES) if nth not in gone]
    assert [payload for each in MESSAGES for payload in line.send(each)] == left
    assert line.active.counts["acted"] == len(gone)
    assert line.active.counts["messages"] == 12
    assert [event["index"] - 1 for event in line.events] == list(gone)


def test_a_control_frame_is_matched_by_its_own_opcode_only():
    line = Line(toxic(opcode="ping"))
    assert line.send(b"p", opcode=PING) == []
    assert line.send(b"p", opcode=PONG) == [b"p"]
    assert line.send(MESSAGES[0]) == [MESSAGES[0]]


def test_signs_of_life_are_pings_pongs_and_what_the_server_calls_so():
    line = Line(toxic(opcode="liveness"))
    assert line.send(b"", opcode=PING) == line.send(b"", opcode=PONG) == line.send(b"{}") == []
    assert line.send(MESSAGES[0]) == [MESSAGES[0]]
    blind = Line(toxic(opcode="liveness"), view=None)
    assert blind.send(b"", opcode=PING) == []
    assert blind.send(b"{}") == [b"{}"]


def test_a_message_that_cannot_be_read_matches_no_type_and_is_counted():
    line = Line(toxic(type="message"))
    assert line.send(b"no json") == [b"no json"]
    packed = frame(TEXT, MESSAGES[0], rsv1=True)
    assert line.raw(packed) == packed
    assert line.active.counts["unread"] == 1


def test_draws_depend_on_seed_fault_client_and_place_not_on_chunks_or_the_order_of_connections():
    def taken(*, one_chunk: bool, whose: tuple[object, ...] = ("client", 7, 1), seed: int = 3) -> list[bytes]:
        line = Line(toxic(probability=0.5), whose=whose, seed=seed)
        if one_chunk:
            return line.send(*MESSAGES * 4)
        return [payload for each in MESSAGES * 4 for payload in line.send(each)]

    assert taken(one_chunk=True) == taken(one_chunk=False)
    assert 10 < len(taken(one_chunk=True)) < 38
    assert taken(one_chunk=True) != taken(one_chunk=True, whose=("client", 7, 2))
    assert taken(one_chunk=True) != taken(one_chunk=True, whose=("client", 8, 1))
    assert taken(one_chunk=True) != taken(one_chunk=True, seed=4)


@pytest.mark.parametrize("direction", HEADS)
@pytest.mark.parametrize(
    ("action", "attributes", "got"),
    [
        pytest.param("drop", {"every": 2}, [1, 3], id="drop"),
        pytest.param("duplicate", {"every": 2}, [0, 0, 1, 2, 2, 3], id="duplicate"),
        pytest.param("swap", {"every": 9}, [1, 0, 2, 3], id="swap"),
        pytest.param("inject", {"after": 2}, [0, 1, 2, 0, 3, 0], id="inject an old one"),
        pytest.param("fragment", {"size": 500}, [0, 1, 2, 3], id="fragment nothing"),
    ],
)
def test_what_leaves_is_these_messages_with_masks_of_their_side(direction, action, attributes, got):
    line = Line(toxic(action, **attributes), direction=direction)
    stream = b"".join(line.raw(written(payload, direction)) for payload in MESSAGES[:4])
    frames = parsed(stream)
    assert [each.payload for each in frames] == [MESSAGES[n] for n in got]
    assert {each.masked for each in frames} == {direction == "upstream"}


def test_corruption_changes_one_bit_of_the_body_and_nothing_else():
    line = Line(toxic("corrupt"), direction="upstream")
    for payload in MESSAGES:
        sent = written(payload, "upstream")
        got = line.raw(sent)
        assert len(got) == len(sent)
        assert got[:6] == sent[:6]  # header and mask
        different = [(a, b) for a, b in zip(got, sent, strict=True) if a != b]
        assert len(different) == 1
        assert bin(different[0][0] ^ different[0][1]).count("1") == 1
        (changed,) = parsed(got)
        start, end = CHATD.body(payload)
        assert changed.payload[:start] + changed.payload[end:] == payload[:start] + payload[end:]


def test_a_message_moves_to_another_channel_that_was_seen_or_to_the_one_that_is_named():
    line = Line(toxic("move", channel="r"))
    assert line.send(message(1)) == [message(1)]  # no other is known yet
    assert line.send(message(5, "s")) == [message(5, "s")]
    assert line.send(message(2)) == [message(2, "s")]
    assert line.active.counts == Counter(acted=1, unfit=1, messages=3)
    assert Line(toxic("move", to="x")).send(message(1)) == [message(1, "x")]


def test_a_rewrite_changes_all_of_its_fields_or_none():
    changes = '[["serial","add",10],["channel","remove"]]'
    line = Line(toxic("rewrite", changes=changes))
    assert line.send(message(1)) == [b'{"type":"message","serial":11,"data":"text1"}']
    assert line.send(b'{"type":"x","serial":1}') == [b'{"type":"x","serial":1}']
    assert line.active.counts["unfit"] == 1


def test_an_injected_message_is_the_given_one_or_a_copy_with_another_body():
    assert Line(toxic("inject", payload="hello", times=1)).send(*MESSAGES[:2]) == [
        MESSAGES[0], b"hello", MESSAGES[1],
    ]  # fmt: skip
    assert Line(toxic("inject", body='"mine"', times=1)).send(MESSAGES[0]) == [
        MESSAGES[0], MESSAGES[0].replace(b'"text1"', b'"mine"'),
    ]  # fmt: skip


def test_after_a_close_frame_nothing_follows_and_removal_ends_the_connection():
    line = Line(toxic("close", code=1012, after=1))
    got = parsed(line.raw(b"".join(written(each, DOWN) for each in MESSAGES[:4])))
    assert [each.opcode for each in got] == [TEXT, TEXT, CLOSE]
    assert got[-1].payload == (1012).to_bytes(2, "big")
    assert line.send(MESSAGES[0]) == []
    assert line.rest() == [End.CLOSE]


def test_a_delayed_message_holds_what_is_behind_it_and_not_what_is_before():
    line = Line(toxic("delay", delay=200, after=1, times=1))
    assert line.send(*MESSAGES[:3]) == [MESSAGES[0]]
    assert line.chain.due() == pytest.approx(0.2)
    assert line.send(MESSAGES[3], now=0.1) == []
    rest = b"".join(item for item in line.chain.run(0.2) if isinstance(item, bytes))
    assert [each.payload for each in parsed(rest)] == MESSAGES[1:4]


def test_a_swap_that_waits_in_vain_ends_with_the_fault_or_the_stream():
    line = Line(toxic("swap"))
    assert line.send(message(1), message(9, "s")) == [message(9, "s")]  # of another channel
    assert line.rest() == [written(message(1), DOWN)]
    line = Line(toxic("swap"))
    assert line.send(message(1)) == []
    line.chain.feed(End.EOF, 1.0)
    assert list(line.chain.run(1.0)) == [written(message(1), DOWN), End.EOF]


def test_a_ping_between_fragments_is_matched_and_the_message_stays_whole():
    begin, ping, end = (
        frame(TEXT, b"ab", final=False), frame(PING, b"p"), frame(0, b"cd"),
    )  # fmt: skip
    assert Line(toxic(opcode="pong")).raw(begin + ping + end) == begin + ping + end
    assert Line(toxic(opcode="ping")).raw(begin + ping + end) == begin + end
    assert Line(toxic("duplicate")).raw(begin + ping + end) == ping + begin + end + begin + end


def test_changed_attributes_count_from_the_next_message_and_reorder_nothing():
    line = Line(toxic("delay", delay=10_000, times=1))
    assert line.raw(written(MESSAGES[0], DOWN) + written(MESSAGES[1], DOWN)[:5]) == b""
    line.active.toxic.delay = 5_000
    line.chain.update(line.active)
    assert line.raw(written(MESSAGES[1], DOWN)[5:]) == b""
    assert b"".join(line.rest()) == written(MESSAGES[0], DOWN) + written(MESSAGES[1], DOWN)


REFUSED = [
    ({}, "action is '': must be one of drop, duplicate"),
    ({"action": "explode"}, "action is 'explode': must be one of"),
    ({"action": "drop", "opcode": "audio"}, "opcode is 'audio': must be one of data, text"),
    ({"action": "drop", "every": 0}, "every is 0: must be 1 or more"),
    ({"action": "drop", "probability": 1.5}, "probability is 1.5: must be from 0 to 1"),
    ({"action": "drop", "type": 5}, "type is 5: must be a string"),
    ({"action": "drop", "after": 1.5}, "after is 1.5: must be a whole number, 0 or more"),
    ({"action": "drop", "probability": "x"}, 'probability is "x": must be a number, 0 or more'),
    ({"action": "drop", "code": 1000}, "code is 1000: action drop does not take it"),
    ({"action": "delay"}, "delay is 0: action delay needs it"),
    ({"action": "close", "code": 999}, "code is 999: must be a close code that may be sent"),
    ({"action": "close", "code": 1006}, "code is 1006: must be a close code that may be sent"),
    ({"action": "oversize", "size": 1 << 25}, "size is 33554432: must be at most 16777216"),
    ({"action": "rewrite", "changes": "[]"}, "changes is '[]': must be a list like"),
    ({"action": "rewrite", "changes": '[["a","add",true]]'}, "add takes a whole number"),
    ({"action": "rewrite", "changes": '[["a","pop"]]'}, "must be a list like"),
    ({"action": "inject", "payload": "x", "body": "y"}, "inject takes a payload or a body, not both"),
]


@pytest.mark.parametrize(("attributes", "rule"), [pytest.param(*row, id=str(row[0])) for row in REFUSED])
def test_bad_attributes_are_refused_with_the_rule(attributes, rule):
    with pytest.raises(ApiError) as refused:
        new_toxic({"type": "frame", "attributes": attributes})
    assert refused.value.status == 400
    assert f"attributes.{rule}" in refused.value.error or rule in refused.value.error


HARMLESS = [
    {"action": "drop", "type": "never"},
    {"action": "drop", "opcode": "close"},
    {"action": "delay", "delay": 70, "every": 3},
    {"action": "fragment", "size": 10**6},
    {"action": "rewrite", "changes": '[["nowhere.0","add",1]]'},
    {"action": "move", "channel": "r", "to": "r"},
]
steps = st.lists(
    st.one_of(
        st.tuples(st.just("feed"), st.integers(1, 400)),
        st.tuples(st.just("wait"), st.floats(0, 0.2)),
        st.tuples(st.just("add"), st.sampled_from(HARMLESS)),
        st.tuples(st.just("remove"), st.integers(0, 9)),
        st.tuples(st.just("change"), st.integers(0, 9)),
        st.tuples(st.just("mix"), st.just({"type": "latency", "attributes": {"latency": 30, "jitter": 20}})),
        st.tuples(st.just("mix"), st.just({"type": "slicer", "attributes": {"average_size": 9}})),
    ),
    max_size=60,
)


COUNTING = {
    side: b"".join(written(message(n, "rst"[n % 3]), side, TEXT) for n in range(400)) for side in HEADS
}


@settings(deadline=None)  # a busy machine
@given(steps, st.sampled_from(sorted(HEADS)), st.booleans())
def test_frame_stages_that_come_and_go_lose_repeat_and_reorder_no_byte(steps, direction, upgraded):
    """A counting stream of frames, cut anywhere, through harmless rules, beside toxics that hold and cut."""
    stream = HEADS[direction] * upgraded + COUNTING[direction]
    row = Chain(3, 1, direction, view=CHATD)
    wanted: list[ActiveToxic] = []
    now, at, got = 0.0, 0, bytearray()

    def take(items: Any) -> None:
        got.extend(b"".join(item for item in items if isinstance(item, bytes)))

    for number, (step, value) in enumerate(steps):
        if step == "feed":
            chunk = stream[at : at + value]
            at += len(chunk)
            if row.stages and chunk:
                row.feed(chunk, now)
            else:
                got += chunk
        elif step == "wait":
            now += value
        elif step in ("add", "mix"):
            body = value if step == "mix" else {"type": "frame", "attributes": value}
            wanted.append(new_toxic({"name": f"t{number}", **body}))
            take(row.change(wanted, now))
        elif step == "remove" and wanted:
            del wanted[value % len(wanted)]
            take(row.change(wanted, now))
        elif step == "change" and wanted:
            row.update(wanted[value % len(wanted)])
        take(row.run(now))
    if row.stages:
        row.feed(End.EOF, now)
        take(row.run(now))
        take(row.change((), now))
    assert bytes(got) == stream[:at]

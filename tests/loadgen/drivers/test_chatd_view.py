"""How chatd's frames are read and changed by the proxy: the suite, and what is chatd's own."""

from __future__ import annotations

import pytest

from chaos.proxy.frame_view import Change
from chatd.protocol import messages
from loadgen.drivers.chatd import ChatdDriver
from loadgen.drivers.chatd_view import FRAME_VIEW, PING_TYPE
from tests.conformance.drivers import FrameViewConformance
from tests.loadgen.drivers.test_chatd_driver import ChatdPeer

ACK = b'{"type":"ack","id":7,"position":["E",5],"duplicate":false}'


class TestChatdView(FrameViewConformance):
    driver = ChatdDriver
    peer = ChatdPeer()


def test_types_are_those_of_the_protocol() -> None:
    structs = [each for each in vars(messages).values() if hasattr(each, "__struct_config__")]
    tags = {each.__struct_config__.tag for each in structs if not each.__name__.startswith("_")} - {None}
    assert set(FRAME_VIEW.types) == {*tags, PING_TYPE}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param(Change("position.1", "add", 3), ACK.replace(b"5", b"8"), id="add inside of a list"),
        pytest.param(Change("duplicate", "set", True), ACK.replace(b"false", b"true"), id="set"),
        pytest.param(
            Change("position.0", "set", "F"), ACK.replace(b'"E"', b'"F"'), id="set inside of a list"
        ),
        pytest.param(Change("id", "remove"), ACK.replace(b'"id":7,', b""), id="remove"),
        pytest.param(Change("position.0", "remove"), ACK.replace(b'"E",', b""), id="remove from a list"),
        pytest.param(Change("fresh", "set", 1), ACK[:-1] + b',"fresh":1}', id="set what was not there"),
        pytest.param(Change("gap", "remove"), None, id="remove what is not there"),
        pytest.param(Change("position.2", "set", 1), None, id="beyond the list"),
        pytest.param(Change("position.x", "set", 1), None, id="a name in a list"),
        pytest.param(Change("type", "add", 1), None, id="add to a text"),
        pytest.param(Change("duplicate", "add", 1), None, id="add to true or false"),
        pytest.param(Change("id.0", "set", 1), None, id="inside of a number"),
    ],
)
def test_a_field_changes_as_asked_or_the_frame_is_left(change: Change, expected: bytes | None) -> None:
    assert FRAME_VIEW.changed(ACK, [change]) == expected


def test_a_body_that_looks_like_a_frame_is_found_where_it_stands() -> None:
    body = b'{"data":1}'
    frame = b'{"type":"publish","id":1,"channel":"r","message":"m","data":' + body + b"}"
    span = FRAME_VIEW.body(frame)
    assert span is not None
    assert frame[slice(*span)] == body


def test_the_ping_has_a_type_of_its_own() -> None:
    seen = FRAME_VIEW.read(b"{}")
    assert seen is not None
    assert seen.type in FRAME_VIEW.liveness

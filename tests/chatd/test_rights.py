"""Rights: patterns add up, and every request that names a channel needs one."""

from __future__ import annotations

from typing import get_args

import msgspec
import pytest

from chatd.namespaces import ACTIONS
from chatd.protocol import messages
from chatd.protocol.errors import BadRequest, Forbidden
from chatd.rights import EVERYDAY, REMEMBERED, WORDS, Right, Rights, parse_rights

GIVES_UP = {messages.Unsubscribe}  # needs no right


def test_every_request_that_names_a_channel_needs_a_right() -> None:
    named = {
        request
        for request in get_args(messages.Request)
        if any(field.name == "channel" for field in msgspec.structs.fields(request))
    }
    assert named - GIVES_UP == set(ACTIONS)
    assert {WORDS[action] for action in ACTIONS.values()} == set(EVERYDAY)


@pytest.mark.parametrize(
    ("claim", "channel", "right"),
    [
        pytest.param(None, "room:1", EVERYDAY, id="no claim"),
        pytest.param({}, "room:1", Right(0), id="an empty claim"),
        pytest.param({"room:1": ["publish"]}, "room:1", Right.PUBLISH, id="a name"),
        pytest.param({"room:1": ["publish"]}, "room:10", Right(0), id="a name is not a beginning"),
        pytest.param({"room:*": ["history"]}, "room:10", Right.HISTORY, id="a beginning"),
        pytest.param({"room:*": ["history"]}, "room", Right(0), id="less than the beginning"),
        pytest.param(
            {"*": ["subscribe"], "room:*": ["history"], "room:1": ["publish"]},
            "room:1",
            Right.SUBSCRIBE | Right.HISTORY | Right.PUBLISH,
            id="all that match add up",
        ),
        pytest.param({"*": ["all"]}, "x", EVERYDAY | Right.MODERATE, id="all"),
    ],
)
def test_rights_are_those_of_the_patterns_that_match(claim, channel, right) -> None:
    rights = parse_rights(claim)
    for _ in range(2):  # the second answer is a remembered one
        assert [one for one in Right if rights.may(one, channel)] == list(right)


def test_a_right_that_is_not_there_is_forbidden_and_named() -> None:
    with pytest.raises(Forbidden, match="channel is 'news': the token does not give the right to publish"):
        Rights({"*": Right.SUBSCRIBE}).check(Right.PUBLISH, "news")


@pytest.mark.parametrize(
    "claim",
    [
        pytest.param([], id="a list"),
        pytest.param({"a*b": ["publish"]}, id="a star inside"),
        pytest.param({"": ["publish"]}, id="an empty pattern"),
        pytest.param({"x" * 129: ["publish"]}, id="a long pattern"),
        pytest.param({"a": "publish"}, id="a word and no list"),
        pytest.param({"a": ["PUBLISH"]}, id="an unknown word"),
        pytest.param({str(number): [] for number in range(257)}, id="too many"),
    ],
)
def test_a_claim_that_breaks_the_rules_is_refused(claim) -> None:
    with pytest.raises(ValueError, match=r"right|pattern"):
        parse_rights(claim)


def test_what_is_no_name_is_not_repeated_and_not_remembered() -> None:
    rights = Rights({"*": Right.SUBSCRIBE})
    with pytest.raises(BadRequest, match="channel has 5000 bytes"):
        rights.check(Right.PUBLISH, "x" * 5000)
    assert not rights._known


def test_what_is_remembered_of_channels_is_bounded() -> None:
    rights = Rights({"*": Right.PUBLISH})
    for number in range(3 * REMEMBERED):
        assert rights.may(Right.PUBLISH, f"c{number}")
    assert len(rights._known) <= REMEMBERED

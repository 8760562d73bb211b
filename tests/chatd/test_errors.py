"""The error tree: complete, and true to what each code means."""

from __future__ import annotations

import re

import pytest

from chatd.client_actions import read_error
from chatd.protocol import errors
from chatd.protocol.errors import ERRORS, ChatdError, CloseCode, Internal, may_return
from chatd.protocol.messages import Error


def leaves(cls: type[ChatdError]) -> set[type[ChatdError]]:
    return {leaf for sub in cls.__subclasses__() for leaf in {sub, *leaves(sub)}}


def test_table_holds_every_error_of_the_module_under_its_code() -> None:
    here = {cls for cls in leaves(ChatdError) if cls.__module__ == errors.__name__}
    assert set(ERRORS.values()) == here
    assert all(code == cls.code for code, cls in ERRORS.items())
    assert list(ERRORS) == sorted(ERRORS)


def test_tree_in_the_docstring_is_the_tree() -> None:
    assert errors.__doc__
    documented = dict(re.findall(r"^      (\w+) +(\d+)", errors.__doc__, re.M))
    assert documented == {cls.__name__: str(code) for code, cls in ERRORS.items()}


@pytest.mark.parametrize("code", ERRORS)
def test_an_error_that_is_temporary_or_not_definite_is_one_that_the_protocol_lists(code: int) -> None:
    cls = ERRORS[code]
    assert cls.temporary == (code in (429, 503, 504))
    assert cls.definite == (code not in (500, 504))


def test_error_carries_its_reason_and_when_to_try_again() -> None:
    error = errors.RateLimited("slow down", after_ms=250)
    assert str(error) == error.reason == "slow down"
    assert error.after_ms == 250


def frame(code: int) -> Error:
    return Error(id=1, code=code, reason="why", temporary=False, definite=True, after_ms=7)


@pytest.mark.parametrize("code", ERRORS)
def test_client_reads_each_code_as_its_class(code: int) -> None:
    error = read_error(frame(code))
    assert type(error) is ERRORS[code]
    assert (error.reason, error.after_ms) == ("why", 7)


def test_code_of_a_later_version_is_read_as_one_that_proves_nothing() -> None:
    error = read_error(frame(418))
    assert isinstance(error, Internal)
    assert not error.definite
    assert "418" in str(error)


CODES = {name: value for name, value in vars(CloseCode).items() if name.isupper()}


def test_close_codes_are_unique_and_for_private_use() -> None:
    assert len(set(CODES.values())) == len(CODES)
    assert all(4000 <= code <= 4999 for code in CODES.values())  # RFC 6455 § 7.4.2


@pytest.mark.parametrize(
    ("code", "returns"),
    [(1000, True), (1001, True), (1006, True), (4000, True), (4101, True), (4499, True), (4500, False),
     (4599, False), (4600, True)],
)  # fmt: skip
def test_only_the_45xx_keep_a_client_away(code: int, returns: bool) -> None:
    assert may_return(code) is returns

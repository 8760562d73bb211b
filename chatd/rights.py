"""What a token allows, channel by channel: claims → rights. No I/O.

The claim ``rights`` maps patterns of channel names to rights::

    {"rights": {"room:*": ["subscribe", "publish", "history", "presence"], "news": ["subscribe"]}}

A pattern is a channel's name, or the beginning of one and a ``*``. All that match count
together. A token without the claim may do everything but moderate, on every channel.
PROTOCOL.md § Rights.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from typing import Final

from .checks import NAME_BYTES, check_name
from .protocol.errors import Forbidden

RULES: Final = 256  # patterns in one token
REMEMBERED: Final = 1024  # channels whose rights one connection remembers


class Right(enum.IntFlag):
    SUBSCRIBE = 1
    PUBLISH = 2
    HISTORY = 4
    PRESENCE = 8
    MODERATE = 16  # edit and delete what others wrote


EVERYDAY: Final = Right.SUBSCRIBE | Right.PUBLISH | Right.HISTORY | Right.PRESENCE
WORDS: Final[Mapping[str, Right]] = {
    **{right.name.lower(): right for right in Right if right.name},
    "all": EVERYDAY | Right.MODERATE,
}


# Plain numbers: a flag's operators cost a microsecond, and these are asked for every frame.
BITS: Final[Mapping[str, int]] = {word: int(right) for word, right in WORDS.items()}
MODERATE: Final = int(Right.MODERATE)


class Rights:
    """Rights per channel pattern. Where a right is asked for, an int of ``BITS`` does, and is faster.

    >>> rights = Rights({"room:*": Right.SUBSCRIBE, "room:1": Right.PUBLISH})
    >>> rights.may(Right.PUBLISH, "room:1"), rights.may(Right.PUBLISH, "room:2")
    (True, False)
    """

    __slots__ = ("_exact", "_known", "_prefixes")

    def __init__(self, rules: Mapping[str, Right]) -> None:
        self._exact = {pattern: int(right) for pattern, right in rules.items() if not pattern.endswith("*")}
        self._prefixes = [
            (pattern[:-1], int(right)) for pattern, right in rules.items() if pattern.endswith("*")
        ]
        self._known: dict[str, int] = {}

    def may(self, right: int, channel: str) -> bool:
        known = self._known.get(channel)
        if known is None:
            known = self._exact.get(channel, 0)
            for prefix, granted in self._prefixes:
                if channel.startswith(prefix):
                    known |= granted
            if len(channel) <= NAME_BYTES:  # no longer one is any channel's name
                if len(self._known) >= REMEMBERED:
                    self._known.clear()
                self._known[channel] = known
        return known & right == right

    def check(self, right: int, channel: str) -> None:
        """Raises ``Forbidden``, and ``BadRequest`` for what is no name of a channel."""
        if not self.may(right, channel):
            check_name("channel", channel)  # before it is repeated in an answer
            words = _words(Right(right))
            raise Forbidden(f"channel is {channel!r}: the token does not give the right to {words}")


def _words(right: Right) -> str:
    return " and ".join(str(one.name).lower() for one in Right if one in right)


def parse_rights(claim: object) -> Rights:
    """Read the claim. Raises ``ValueError`` with the rule that it breaks."""
    if claim is None:
        return Rights({"*": EVERYDAY})
    if not isinstance(claim, dict) or len(claim) > RULES:
        raise ValueError(f"rights must be an object of at most {RULES} channel patterns")
    return Rights({check_pattern(pattern): _right(words) for pattern, words in claim.items()})


def check_pattern(pattern: str) -> str:
    """Raises ``ValueError`` when this is no pattern of channel names."""
    if "*" in pattern[:-1] or not 1 <= len(pattern.encode()) <= NAME_BYTES:
        raise ValueError("a channel pattern must be a name, or the beginning of one and a *")
    return pattern


def _right(words: object) -> Right:
    if not isinstance(words, list):
        raise ValueError("rights on a pattern must be a list of words")
    return combine(words)


def combine(words: Iterable[object]) -> Right:
    """The rights that some words name. Raises ``ValueError``."""
    right = Right(0)
    for word in words:
        if not isinstance(word, str) or word not in WORDS:
            raise ValueError(f"right must be one of {', '.join(WORDS)}")
        right |= WORDS[word]
    return right

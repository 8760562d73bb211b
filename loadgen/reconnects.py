"""When a client dials again after its connection broke: [workload.reconnect], and of one persona.

A *policy* is a frozen section; ``waits`` makes the state that one client keeps. Pure: time and random
numbers are arguments.
"""

from __future__ import annotations

import random
from typing import Annotated, Any, Final, Literal, Protocol

from pydantic import Discriminator, Field, Tag, model_validator

from chatd.protocol.cursor import Backoff as FullJitterWaits

from .section import Section

Hint = tuple[float, float]  # base and cap of the backoff that a server asks for, in seconds

NO_WAIT_S: Final = 0.1  # after a failed dial, of a client that does not wait: as fast as such clients are
STABLE_S: Final = 5.0  # a connection that lasted so long starts the count of attempts again
DEFAULT_HINT_S: Final[Hint] = (0.5, 30.0)  # before a server has given its own

_Positive = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]


class Waits(Protocol):
    """One client's waits."""

    def hinted(self, hint_s: Hint) -> None:
        """The server said with which backoff it wants its clients back."""
        ...

    def connected(self, now_s: float) -> None:
        """A connection was accepted."""
        ...

    def next_delay_s(self, now_s: float, rng: random.Random) -> float:
        """How long to wait before the next dial."""
        ...


class _Jittered(Section):
    base_s: _Positive
    cap_s: _Positive

    @model_validator(mode="after")
    def _ordered(self) -> _Jittered:
        if self.cap_s < self.base_s:
            raise ValueError(f"cap_s is {self.cap_s}: must be at least base_s, {self.base_s}")
        return self


class Backoff(_Jittered):
    """Full jitter: a wait drawn from [0, min(cap, base × 2^attempt)).

    Source: Brooker, "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015), as is "decorrelated".
    """

    policy: Literal["full-jitter"] = "full-jitter"


class Decorrelated(_Jittered):
    """A wait drawn from [base, 3 × the wait before), at most cap."""

    policy: Literal["decorrelated"]


class Fixed(Section):
    """The same wait each time, whatever the server says, times a draw from [1 - spread, 1 + spread]."""

    policy: Literal["fixed"]
    wait_s: _Positive
    spread: float = Field(default=0.0, ge=0, le=1, allow_inf_nan=False)


def _kind(value: Any) -> str:
    """By which of the models a reconnect is read."""
    if isinstance(value, str):
        return "word"
    policy = value.get("policy", "full-jitter") if isinstance(value, dict) else getattr(value, "policy", "")
    return policy if policy in ("fixed", "decorrelated") else "full-jitter"


Word = Literal["server-hint", "none", "never"]
Reconnect = Annotated[
    Annotated[Word, Tag("word")]
    | Annotated[Backoff, Tag("full-jitter")]
    | Annotated[Decorrelated, Tag("decorrelated")]
    | Annotated[Fixed, Tag("fixed")],
    Discriminator(_kind),
]
"""``server-hint``: full jitter as the server asks. ``none``: no backoff, back at once and NO_WAIT_S after
each failed dial. ``never``: does not come back."""


def comes_back(policy: Reconnect) -> bool:
    return policy != "never"


def heeds(policy: Reconnect) -> bool:
    """Whether a client waits as long as a Retry-After or a goodbye asks. Clients without backoff do not."""
    return not (policy == "none" or isinstance(policy, Fixed))


def waits(policy: Reconnect) -> Waits:
    """The state of one client with this policy."""
    if isinstance(policy, Backoff):
        return _FullJitter(policy.base_s, policy.cap_s, follows=False)
    if isinstance(policy, Decorrelated):
        return _Decorrelated(policy.base_s, policy.cap_s)
    if isinstance(policy, Fixed):
        return _Fixed(policy)
    return _NoWait() if policy == "none" else _FullJitter(*DEFAULT_HINT_S, follows=True)


class _FullJitter(FullJitterWaits):
    __slots__ = ("_follows",)

    def __init__(self, base_s: float, cap_s: float, *, follows: bool) -> None:
        super().__init__(base_s, cap_s)
        self._follows = follows

    def hinted(self, hint_s: Hint) -> None:
        if self._follows:
            self.base_s, self.cap_s = hint_s


class _Decorrelated:
    __slots__ = ("_base_s", "_cap_s", "_connected_s", "_last_s")

    def __init__(self, base_s: float, cap_s: float) -> None:
        self._base_s, self._cap_s, self._last_s = base_s, cap_s, base_s
        self._connected_s: float | None = None

    def hinted(self, hint_s: Hint) -> None:
        """Its own base and cap hold."""

    def connected(self, now_s: float) -> None:
        self._connected_s = now_s

    def next_delay_s(self, now_s: float, rng: random.Random) -> float:
        if self._connected_s is not None and now_s - self._connected_s >= STABLE_S:
            self._last_s = self._base_s
        self._connected_s = None
        self._last_s = min(self._cap_s, rng.uniform(self._base_s, max(self._base_s, self._last_s * 3)))
        return self._last_s


class _Fixed:
    __slots__ = ("_policy",)

    def __init__(self, policy: Fixed) -> None:
        self._policy = policy

    def hinted(self, hint_s: Hint) -> None:
        """It waits as long as it likes."""

    def connected(self, now_s: float) -> None:
        """Nothing to start again."""

    def next_delay_s(self, now_s: float, rng: random.Random) -> float:
        return self._policy.wait_s * (1 + self._policy.spread * rng.uniform(-1, 1))


class _NoWait:
    __slots__ = ("_fresh",)

    def __init__(self) -> None:
        self._fresh = False  # a connection was there: its loss is answered at once

    def hinted(self, hint_s: Hint) -> None:
        """It does not listen."""

    def connected(self, now_s: float) -> None:
        self._fresh = True

    def next_delay_s(self, now_s: float, rng: random.Random) -> float:
        fresh, self._fresh = self._fresh, False
        return 0.0 if fresh else NO_WAIT_S

"""[workload]: how many clients, on which channels, publishing how much and when.

``Workload`` is a scenario's section. ``LoadSpec`` is what a run hands to the load
processes: a workload, a target and a seed. Both report every fault at once.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple
from urllib.parse import urlsplit

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from .drivers import DRIVERS

ASSIGNMENT: Final = 0  # spawn keys of SeedSequence: one stream of random numbers for each purpose
SESSIONS: Final = 1
PUBLISHES: Final = 2
ABSENCES: Final = 3
PAUSES: Final = 4

_Seconds = Annotated[float, Field(ge=0, le=7 * 86_400, allow_inf_nan=False)]


class SpecError(Exception):
    """A load specification is unusable. ``faults``: one line each, as "field: value: rule"."""

    def __init__(self, source: str, faults: Sequence[str]) -> None:
        super().__init__("\n".join(f"{source}: {fault}" for fault in faults))
        self.source, self.faults = source, tuple(faults)


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Phase(_Section):
    """A stretch of time with one publish rate; phases follow each other from the start of the run."""

    name: str = Field(min_length=1)
    duration_s: float = Field(gt=0, le=7 * 86_400, allow_inf_nan=False)
    publish_per_s: float = Field(default=0.0, ge=0, le=1_000_000, allow_inf_nan=False)
    """Mean over all clients together, once all of them are there."""
    warmup: bool = False  # left out of latency


class Backoff(_Section):
    """Full-jitter backoff of reconnects: a wait drawn from [0, min(cap, base × 2^attempt))."""

    base_s: float = Field(gt=0, allow_inf_nan=False)
    cap_s: float = Field(gt=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _ordered(self) -> Backoff:
        if self.cap_s < self.base_s:
            raise ValueError(f"cap_s is {self.cap_s}: must be at least base_s, {self.base_s}")
        return self


class Absence(_Section):
    """Some clients go offline on purpose for a while, and come back and resume: [[workload.absence]].

    Who they are is drawn from the seed; exactly one of ``share`` and ``clients`` says how many. What they
    would have published meanwhile is left out of the schedule.
    """

    at_s: _Seconds
    duration_s: float = Field(gt=0, le=7 * 86_400, allow_inf_nan=False)
    share: float | None = Field(default=None, gt=0, le=1, allow_inf_nan=False)
    """Of all clients; at least one client goes."""
    clients: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _how_many(self) -> Absence:
        if (self.share is None) == (self.clients is None):
            raise ValueError("write exactly one of share and clients")
        return self

    @property
    def end_s(self) -> float:
        return self.at_s + self.duration_s

    def count(self, clients: int) -> int:
        """How many of a workload's clients are away."""
        return self.clients if self.clients is not None else max(1, round((self.share or 0.0) * clients))


def _absence_faults(absence: Absence, fields: Mapping[str, Any]) -> Iterator[str]:
    """What of an absence does not fit the workload; fields of it that are faulty themselves are missing."""
    if phases := fields.get("phase"):
        load_s = sum(phase.duration_s for phase in phases)
        if absence.end_s > load_s:
            yield f"at_s + duration_s is {absence.end_s:g}: must be at most {load_s:g}, the end of the load"
    if absence.at_s < (there_s := fields.get("connect_over_s", 0.0)):
        yield f"at_s is {absence.at_s:g}: must be at least {there_s:g}, connect_over_s"
    if absence.clients is not None and absence.clients > (most := fields.get("clients", absence.clients)):
        yield f"clients is {absence.clients}: must be at most {most}, all that there are"


class Workload(_Section):
    """The [workload] section of a scenario."""

    clients: int = Field(ge=1, le=1_000_000)
    channels: int = Field(ge=1, le=1_000_000)
    channels_per_client: int = Field(default=2, ge=1)
    body_bytes: int = Field(default=100, ge=0, le=1_000_000)
    """Padding; a body is 66 bytes longer."""
    connect_over_s: _Seconds = 1.0
    """Sessions arrive over this time, as a Poisson process does."""
    reconnect: Literal["server-hint", "never"] | Backoff = "server-hint"
    """``never``: a connection that is lost stays lost, so that V2 can be seen."""
    ack_timeout_s: float = Field(default=5.0, gt=0, allow_inf_nan=False)
    """A publish without an answer for this long is sent again with the same message id."""
    phase: tuple[Phase, ...]
    absence: tuple[Absence, ...] = ()
    pause: tuple[Absence, ...] = ()
    """As ``absence``, but the connection stays: they unsubscribe from their channels, subscribe to them again
    from where they were, and publish meanwhile as ever."""

    @field_validator("phase")
    @classmethod
    def _some(cls, phases: tuple[Phase, ...]) -> tuple[Phase, ...]:
        if not phases:
            raise ValueError("a workload has at least one [[workload.phase]]")
        return phases

    @field_validator("absence", "pause")
    @classmethod
    def _in_time(cls, absences: tuple[Absence, ...], info: ValidationInfo) -> tuple[Absence, ...]:
        faults = [
            f"number {number}: {fault}"
            for number, absence in enumerate(absences, start=1)
            for fault in _absence_faults(absence, info.data)
        ]
        if faults:
            raise ValueError("; ".join(faults))
        return absences

    @model_validator(mode="after")
    def _consistent(self) -> Workload:
        if self.channels_per_client > self.channels:
            raise ValueError(
                f"channels_per_client is {self.channels_per_client}: must be at most {self.channels}"
            )
        names = [phase.name for phase in self.phase]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"phase names are used twice: {', '.join(repeated)}: give each its own")
        return self

    @property
    def duration_s(self) -> float:
        return sum(phase.duration_s for phase in self.phase)


class LoadSpec(_Section):
    """config/load.json: everything that the load processes of a run are told."""

    run_dir: Path
    nonce: int = Field(ge=0, lt=2**63)
    seed: int = Field(ge=0, lt=2**63)
    driver: str = "chatd"
    allow_targets: tuple[str, ...] = ()
    """Hosts besides loopback that may be loaded."""
    targets: tuple[str, ...] = Field(min_length=1)
    """Client c dials targets[c % len(targets)] and the driver's path."""
    workload: Workload

    @field_validator("driver")
    @classmethod
    def _known(cls, driver: str) -> str:
        if driver not in DRIVERS:
            raise ValueError(f"must be one of {', '.join(sorted(DRIVERS))}")
        return driver

    @field_validator("targets")
    @classmethod
    def _allowed(cls, targets: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        allowed = info.data.get("allow_targets", ())
        if faults := [fault for target in targets if (fault := target_fault(target, allowed))]:
            raise ValueError("; ".join(faults))
        return targets


def target_fault(url: str, allowed: Sequence[str]) -> str | None:
    """Why a URL may not be loaded, or None when it may.

    Loading a server is an attack on it unless its owner agreed, so a host that is not loopback must
    have been named by the user. Workers ask this of every URL, whoever it came from.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        return f"{url!r}: {error}"
    if parts.scheme not in ("ws", "wss") or not host:
        return f"{url!r} must be ws://HOST:PORT or wss://HOST:PORT"
    if is_loopback(host) or host in allowed:
        return None
    return (
        f"target is {url!r}: only loopback may be loaded unless the host is allowed (--allow-target {host})"
    )


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's own; names other than localhost are not looked up."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def read_spec(path: Path) -> LoadSpec:
    """Read a load.json.

    Raises:
        SpecError: not readable, not JSON, or with faults; all of them are in it.
    """
    try:
        return parse_spec(path.read_bytes(), source=str(path))
    except OSError as error:
        raise SpecError(str(path), [error.strerror or str(error)]) from None


def parse_spec(text: bytes | str, *, source: str = "plan") -> LoadSpec:
    """Read the JSON text of a load.json. Raises ``SpecError`` with all faults."""
    try:
        return LoadSpec.model_validate_json(text)
    except ValidationError as error:
        raise SpecError(source, [_sentence(fault) for fault in error.errors()]) from None


def _sentence(fault: object) -> str:
    assert isinstance(fault, dict)
    field = ".".join(str(part) for part in fault["loc"]) or "the file"
    shown = repr(fault["input"])
    if len(shown) > 60:
        shown = shown[:57] + "..."
    rule = str(fault["msg"]).removeprefix("Value error, ")
    return f"{field}: {rule}" if fault["type"] == "missing" else f"{field} is {shown}: {rule}"


def channel_name(channel: int) -> str:
    """Name of a channel on the wire; ids are 1..channels."""
    return f"room:{channel}"


def client_name(ordinal: int) -> str:
    """Name of a client on the wire and the first part of its message ids; 0 is ``chatproof run`` itself."""
    return f"c{ordinal}"


def message_id(ordinal: int, pub_seq: int) -> str:
    """The publisher's own id of a message, the same in every retry."""
    return f"c{ordinal}:{pub_seq}"


def parse_message_id(message: str) -> tuple[int, int]:
    """(publisher, pub_seq) of a message id; (0, 0) when it is not one of ours."""
    client, _, count = message.partition(":")
    if not client.startswith("c"):
        return 0, 0
    try:
        publisher, pub_seq = int(client[1:]), int(count)
    except ValueError:
        return 0, 0
    return (publisher, pub_seq) if 0 <= publisher < 2**32 and 0 <= pub_seq < 2**32 else (0, 0)


@lru_cache(maxsize=4)
def client_channels(workload: Workload, seed: int) -> list[tuple[int, ...]]:
    """Channel ids that each client subscribes to; index = ordinal, and client 0 has none.

    Channels are dealt like cards, from one shuffled deck after another, so their numbers of
    subscribers differ by at most one. No client has a channel twice.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(ASSIGNMENT,)))
    deck: list[int] = []
    dealt: list[tuple[int, ...]] = [()]
    for _ in range(workload.clients):
        hand = deck[: workload.channels_per_client]
        deck = deck[workload.channels_per_client :]
        missing = workload.channels_per_client - len(hand)
        if missing:
            fresh = [int(channel) + 1 for channel in rng.permutation(workload.channels)]
            taken = [channel for channel in fresh if channel not in hand][:missing]
            hand = hand + taken
            deck = [channel for channel in fresh if channel not in taken]
        dealt.append(tuple(sorted(hand)))
    return dealt


class Prediction(NamedTuple):
    """What a workload amounts to, before anything is sent."""

    connections: int  # first ones, and one for every return from an absence
    publishes: int
    deliveries: int  # own echoes and replays included
    publishes_per_s_peak: float  # in the busiest second
    deliveries_per_s_peak: float
    records: int
    log_bytes: int
    absences: int = 0  # times that a client goes offline on purpose
    left_out: int = 0  # publishes that fall into them, and so are not made
    replayed: int = 0  # of the deliveries, those that a client gets when it comes back
    trimmed: int = 0  # deliveries that it does not get because they are retained no longer


def predict(workload: Workload, seed: int, *, retain_n: int | None = None) -> Prediction:
    """What a run of this workload amounts to when nothing goes wrong, from its exact schedule.

    Args:
        retain_n: messages that the server keeps of a channel; None: all.
    """
    from .schedule import predict_from_schedule  # the schedule is built from a Workload, so it imports us

    return predict_from_schedule(workload, seed, retain_n=retain_n)

"""[workload]: how many clients, on which channels, publishing how much and when.

``Workload`` is a scenario's section. ``LoadSpec`` is what a run hands to the load
processes: a workload, a target and a seed. Both report every fault at once.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from .actions import needs
from .balance import Policy
from .demand import Phase as Phase
from .demand import peak_per_s
from .drivers import HTTP_DRIVERS, driver_named
from .personas import Persona, assigned, personas_of
from .reconnects import Backoff as Backoff
from .reconnects import Reconnect
from .section import Duration, Seconds, Section
from .topology import Membership, Topology, build
from .trust import Auth, Tls

if TYPE_CHECKING:
    from .prediction import Prediction


class SpecError(Exception):
    """A load specification is unusable. ``faults``: one line each, as "field: value: rule"."""

    def __init__(self, source: str, faults: Sequence[str]) -> None:
        super().__init__("\n".join(f"{source}: {fault}" for fault in faults))
        self.source, self.faults = source, tuple(faults)


class Absence(Section):
    """Some clients go offline on purpose for a while, and come back and resume: [[workload.absence]].

    Who they are is drawn from the seed; exactly one of ``share`` and ``clients`` says how many. What they
    would have published meanwhile is left out of the schedule.
    """

    at_s: Seconds
    duration_s: Duration
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


class Workload(Section):
    """The [workload] section of a scenario."""

    clients: int = Field(ge=1, le=1_000_000)
    channels: int = Field(ge=0, le=1_000_000)
    """Rooms; ``topology`` may add others."""
    channels_per_client: int = Field(default=2, ge=0)
    """Rooms of each client."""
    driver: str = "chatd"
    """Which kind of server is loaded."""
    body_bytes: int = Field(default=100, ge=0, le=1_000_000)
    """Padding; a body is 66 bytes longer."""
    connect_over_s: Seconds = 1.0
    """Sessions arrive over this time, as a Poisson process does."""
    reconnect: Reconnect = "server-hint"
    balance: Policy = "fixed"
    """Which of several nodes a client dials, at first and after each drop; ``fixed``: always the same."""
    ack_timeout_s: float = Field(default=5.0, gt=0, allow_inf_nan=False)
    """A publish without an answer for this long is sent again with the same message id."""
    phase: tuple[Phase, ...]
    absence: tuple[Absence, ...] = ()
    pause: tuple[Absence, ...] = ()
    """As ``absence``, but the connection stays: they unsubscribe from their channels, subscribe to them again
    from where they were, and publish meanwhile as ever."""
    persona: tuple[Persona, ...] = ()
    topology: Topology = Topology()
    auth: Auth | None = None
    """Where the tokens of clients come from; None: nobody has to log in."""

    @field_validator("driver")
    @classmethod
    def _known(cls, driver: str) -> str:
        driver_named(driver)
        return driver

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
        faults = [*_channel_faults(self), *self.topology.faults(self.clients), *_persona_faults(self)]
        names = [phase.name for phase in self.phase]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            faults.append(f"phase names are used twice: {', '.join(repeated)}: give each its own")
        sockets = [persona for persona in self.persona if persona.transport == "websocket"]
        faults += needs(sockets, driver_named(self.driver).capabilities, self.driver)
        faults += _http_faults(self)
        if faults:
            raise ValueError("; ".join(faults))
        return self

    @property
    def channel_count(self) -> int:
        """All channels: rooms, those of sized groups, those of two."""
        sized = sum(group.channels for group in self.topology.sized)
        return self.channels + sized + self.topology.direct_count(self.clients)

    @property
    def duration_s(self) -> float:
        return sum(phase.duration_s for phase in self.phase)

    @property
    def over_http(self) -> bool:
        """Whether some clients come over HTTP, or may."""
        return any(persona.transport != "websocket" for persona in self.persona)


def _http_faults(workload: Workload) -> Iterator[str]:
    """What clients that come over HTTP, or may, cannot do."""
    personas = [persona for persona in workload.persona if persona.transport != "websocket"]
    if not personas:
        return
    driver = HTTP_DRIVERS.get(workload.driver)
    if driver is None:
        yield (
            f"persona {personas[0].name!r}: transport is {personas[0].transport!r}: driver "
            f"{workload.driver!r} knows WebSockets alone: write 'websocket'"
        )
        return
    yield from needs(personas, driver.capabilities, driver.name)
    for persona in personas:
        if persona.read_per_s is not None and persona.transport != "sse":
            yield (
                f"persona {persona.name!r}: read_per_s goes with transport 'websocket' or 'sse', and "
                f"{persona.transport!r} may poll: nothing waits for who asks when it has read; leave one out"
            )
    if workload.pause:
        yield "pause: clients over HTTP leave a channel only by leaving: write an absence, or no such persona"
    if workload.channels_per_client > driver.most_channels:
        yield (
            f"channels_per_client is {workload.channels_per_client}: must be at most {driver.most_channels} "
            "where clients come over HTTP"
        )


def _channel_faults(workload: Workload) -> Iterator[str]:
    if workload.channels_per_client > workload.channels:
        yield f"channels_per_client is {workload.channels_per_client}: must be at most {workload.channels}"
    if not workload.channel_count:
        yield "channels is 0: must be at least 1 where topology adds none"
    for persona in workload.persona:
        odd = (workload.channels + 1) // 2
        most = {"all": workload.channels, "odd": odd, "even": workload.channels - odd}[persona.side]
        if persona.side != "all" and workload.channels_per_client > most:
            yield (
                f"channels_per_client is {workload.channels_per_client}: must be at most {most}, "
                f"the {persona.side} rooms that persona {persona.name!r} may have"
            )


def _persona_faults(workload: Workload) -> Iterator[str]:
    names = [persona.name for persona in workload.persona]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        yield f"persona names are used twice: {', '.join(repeated)}: give each its own"
    if len(names) > workload.clients:
        yield f"clients is {workload.clients}: must be at least {len(names)}, one for each persona"
    for persona in workload.persona:
        there_s = (persona.arrive_at_s or 0.0) + persona.arrive_over_s
        if persona.arrive_at_s is not None and there_s > workload.duration_s:
            yield (
                f"persona {persona.name!r}: arrive_at_s + arrive_over_s is {there_s:g}: must be at most "
                f"{workload.duration_s:g}, the end of the load"
            )
    for phase in workload.phase:
        if unknown := sorted(set(phase.speakers) - set(names)):
            yield f"phase {phase.name!r}: speakers names {', '.join(unknown)}: there is no such persona"
        elif peak_per_s(phase) and not any(p.talk for p in speakers(workload, phase)):
            yield f"phase {phase.name!r}: nobody publishes in it: give a persona that speaks a talk > 0"


def speakers(workload: Workload, phase: Phase) -> tuple[Persona, ...]:
    """The personas that may publish in a phase."""
    return tuple(p for p in personas_of(workload) if not phase.speakers or p.name in phase.speakers)


class LoadNode(Section):
    """One of several nodes, as the load knows it. ``pages``: HOST:PORT where it answers GET /nodes."""

    name: str
    pages: str = ""


class LoadSpec(Section):
    """config/load.json: everything that the load processes of a run are told."""

    run_dir: Path
    nonce: int = Field(ge=0, lt=2**63)
    seed: int = Field(ge=0, lt=2**63)
    allow_targets: tuple[str, ...] = ()
    """Hosts besides loopback that may be loaded."""
    targets: tuple[str, ...] = Field(min_length=1)
    """Client c dials targets[c % len(targets)] and the driver's path, where nothing else is asked for. Of
    several nodes each has as many in a row, and a client keeps to the same of them."""
    nodes: tuple[LoadNode, ...] = ()
    """In the order of their targets; none: there is one, or none that could be told from others."""
    http_targets: tuple[str, ...] = ()
    """Of those that come over HTTP, in the order of the targets."""
    tls: Tls = Tls()
    channel_suffix: str = Field(default="", pattern=r"^[a-z0-9-]{0,20}$")
    """Of every channel's name: makes them this run's own on a server that had others before."""
    host: str = ""
    """What clients say in the header Host, where a proxy stands before the target; empty: what they dial."""
    http_host: str = ""
    """The same of those that come over HTTP."""
    http_server_name: str = ""
    """Whom the certificate must be for there; empty: as tls says."""
    workload: Workload

    @field_validator("targets", "http_targets")
    @classmethod
    def _allowed(cls, targets: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        allowed = info.data.get("allow_targets", ())
        schemes = HTTP_SCHEMES if info.field_name == "http_targets" else SOCKET_SCHEMES
        if faults := [fault for target in targets if (fault := target_fault(target, allowed, schemes))]:
            raise ValueError("; ".join(faults))
        return targets

    @model_validator(mode="after")
    def _reachable(self) -> LoadSpec:
        if self.workload.over_http and len(self.http_targets) != len(self.targets):
            raise ValueError(
                f"http_targets has {len(self.http_targets)}: must have {len(self.targets)}, one for each of "
                "targets, since some personas come over HTTP"
            )
        return self


SOCKET_SCHEMES: Final = ("ws", "wss")
HTTP_SCHEMES: Final = ("http", "https")


def target_fault(url: str, allowed: Sequence[str], schemes: Sequence[str] = SOCKET_SCHEMES) -> str | None:
    """Why a URL may not be loaded, or None when it may.

    Loading a server is an attack on it unless its owner agreed, so a host that is not loopback must
    have been named by the user. Workers ask this of every URL, whoever it came from.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        return f"{url!r}: {error}"
    if parts.scheme not in schemes or not host:
        return f"{url!r} must be {' or '.join(f'{scheme}://HOST:PORT' for scheme in schemes)}"
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
    """Name of a room on the wire; of any channel: ``channel_names``."""
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
def membership(workload: Workload, seed: int) -> Membership:
    """Who is on which channel."""
    personas = personas_of(workload)
    sides = [personas[index].side for index in assigned(workload, seed).tolist()]
    return build(
        clients=workload.clients,
        rooms=workload.channels,
        rooms_per_client=workload.channels_per_client,
        topology=workload.topology,
        sides=sides,
        seed=seed,
    )


@lru_cache(maxsize=4)
def client_channels(workload: Workload, seed: int) -> list[tuple[int, ...]]:
    """Channel ids that each client subscribes to; index = ordinal, and client 0 has none."""
    whole = membership(workload, seed)
    return [whole.of(client) for client in range(workload.clients + 1)]


def channel_names(workload: Workload, seed: int, suffix: str = "") -> tuple[str, ...]:
    """Names of the channels, by id; ids count from 1, and the 0th name is empty.

    Args:
        suffix: of each name on the wire, where a server remembers the channels of earlier runs.
    """
    names = membership(workload, seed).names
    return (names[0], *(name + suffix for name in names[1:])) if suffix else names


def predict(workload: Workload, seed: int, *, retain_n: int | None = None) -> Prediction:
    """What a run of this workload amounts to when nothing goes wrong, from its exact schedule.

    Args:
        retain_n: messages that the server keeps of a channel; None: all.
    """
    from .prediction import predict_from_schedule  # it walks the schedule, which is built from a Workload

    return predict_from_schedule(workload, seed, retain_n=retain_n)
